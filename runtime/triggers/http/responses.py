"""Send a Starlette Response that a handler returned, as it is, with our headers.

Loaded by the shell for the first of them: a function that returns plain values needs nothing of Starlette.
"""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Message, Scope

from runtime.base.errors import Problem
from runtime.base.logs import get_logger
from runtime.invoke.execute import run_async
from runtime.triggers.http.answers import Answer, check_headers, problem_answer
from runtime.triggers.http.wire.link import Link, keep_incomplete, send_last

log = get_logger(__name__)

_STATIC = StaticFiles(check_dir=False)


def _has_it(scope: Scope, message: Message) -> bool:
    """Whether the client has the file as it is: Starlette compares for its StaticFiles alone."""
    of_file, of_client = Headers(raw=message["headers"]), Headers(raw=scope["headers"])
    return message["status"] == HTTPStatus.OK and _STATIC.is_not_modified(of_file, of_client)


class _HeadSent(Exception):  # noqa: N818 - ends a Response whose head was all that was asked for
    pass


async def send_response(answer: Answer, response: Response, link: Link) -> None:
    """Send it. What breaks it off is logged, and answered where it has not begun."""
    scope, started = link.scope, False

    async def send_with_headers(message: Message) -> None:
        nonlocal started
        if message["type"] == "http.response.start":
            if isinstance(response, FileResponse) and _has_it(scope, message):
                message = {
                    **message,
                    "status": 304,
                    "headers": NotModifiedResponse(Headers(raw=message["headers"])).raw_headers,
                }
            headers = [*message["headers"], *answer.headers]
            check_headers(headers)
            started = True
            await link.send({**message, "headers": headers})
            if scope["method"] == "HEAD" or message["status"] == HTTPStatus.NOT_MODIFIED:
                await send_last(link, b"")
                raise _HeadSent
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            await send_last(link, message.get("body", b""))
        else:
            await link.send(message)

    finished = await run_async("response", lambda: response(scope, link.receive, send_with_headers), None)
    if finished.error is None or isinstance(finished.error, _HeadSent):
        return
    log.error("response failed while it was sent", run_id=answer.run_id, exc_info=finished.error)
    if not started:
        failed = problem_answer(answer.run_id, Problem(500, detail="the function's response cannot be sent"))
        await link.send({"type": "http.response.start", "status": 500, "headers": [*failed.headers, *answer.headers]})
        await send_last(link, failed.body if isinstance(failed.body, bytes) else b"")
    else:
        keep_incomplete(link.scope)
        await link.discard()
