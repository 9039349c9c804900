"""What is around the shell: Starlette's application with CORS and the author's middleware.

Loaded by roles where there is any. Decides nothing about a request; sees to it that an answer that is cut stays cut.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

from runtime.base.errors import Problem, StartError
from runtime.base.ids import new_run_id
from runtime.base.logs import get_logger
from runtime.base.sections import CorsSettings
from runtime.triggers.http.answers import problem_answer
from runtime.triggers.http.wire.link import CUT

log = get_logger(__name__)

_LOCAL_ORIGIN = r"https?://(localhost|[^/]+\.localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?"


def build_app(shell: ASGIApp, middleware: Sequence[Any], cors: CorsSettings, *, open_locally: bool) -> Starlette:
    """The Starlette application around the shell; its router is bypassed: the core routes.

    middleware: the author's, outermost first. open_locally: as Access has it. StartError if one cannot be made.
    """
    stack = [one if isinstance(one, Middleware) else Middleware(one) for one in middleware]
    if cors.origins:
        stack.insert(0, _cors(cors, open_locally=open_locally))
    if middleware:
        stack.insert(0, Middleware(_Guard))
    app = Starlette(middleware=stack, exception_handlers={Exception: _answer_fault})
    app.router.default = shell
    try:
        app.middleware_stack = app.build_middleware_stack()  # else Starlette does it at the first request
    except Exception as error:
        raise StartError(f"functions/_lifespan.py: a middleware cannot be made: {error!r}") from error
    return app


class _Guard:
    """Outermost: what middleware adds to an answer that the shell has cut is dropped, else it would look complete."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cut: list[bool] = []
        scope[CUT] = cut  # a list, so that a copied scope still leads to it

        async def guarded(message: Message) -> None:
            if not cut:
                await send(message)

        await self._app(scope, receive, guarded)


class _Cors(CORSMiddleware):
    """Starlette's, whose answers to preflights carry a run id as all others do; a refusal is a problem."""

    @override
    def preflight_response(self, request_headers: Headers) -> Response:
        found, run_id = super().preflight_response(request_headers), new_run_id()
        if found.status_code >= HTTPStatus.BAD_REQUEST:
            refusal = problem_answer(run_id, Problem(found.status_code, detail=bytes(found.body).decode()))
            found.body = refusal.body if isinstance(refusal.body, bytes) else b""
            found.headers.update({name.decode(): value.decode() for name, value in refusal.headers})
        found.headers["x-run-id"] = run_id
        return found


def _cors(cors: CorsSettings, *, open_locally: bool) -> Middleware:
    anyone = "*" in cors.origins
    return Middleware(
        _Cors,
        allow_origins=() if anyone and open_locally else cors.origins,
        # Where no key is asked for, any page in the developer's browser could read what "*" lets it.
        allow_origin_regex=_LOCAL_ORIGIN if anyone and open_locally else None,
        allow_methods=cors.methods,
        allow_headers=cors.headers,
        allow_credentials=cors.credentials,
        expose_headers=cors.expose,
        max_age=int(cors.max_age),
    )


async def _answer_fault(_request: Any, error: Exception) -> Response:
    """What escaped a middleware: the shell itself raises nothing. Starlette raises it again for the server's log."""
    run_id = new_run_id()
    log.error("a middleware failed", run_id=run_id, error=repr(error))  # what raised it follows, without the id
    answer = problem_answer(run_id, Problem(500, detail=f"a middleware raised {type(error).__name__}; see the log"))
    headers = [*answer.headers, (b"x-run-id", run_id.encode())]
    return Response(answer.body, answer.status, {name.decode(): value.decode() for name, value in headers})
