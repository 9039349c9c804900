"""The ASGI shell around the core.

Built by roles. Turns a scope into a Request and an Answer into messages; decides nothing itself.
"""

import asyncio
import time
from collections.abc import Awaitable, Coroutine
from contextvars import Context as Variables
from typing import Any, cast

from starlette.types import Message, Receive, Scope, Send

from runtime.base.errors import Problem
from runtime.base.ids import new_run_id, trace_of
from runtime.base.logs import get_logger
from runtime.declare.request import Request
from runtime.triggers.http.answers import Answer, Parts, problem_answer
from runtime.triggers.http.core import Call, HttpCore
from runtime.triggers.http.shedding.overload import Overload, flowing
from runtime.triggers.http.short import GIVEN_UP, ShortCall
from runtime.triggers.http.wire.exchange import Exchange
from runtime.triggers.http.wire.link import AsgiLink, Link, keep_incomplete, send_last
from runtime.triggers.http.wire.requests import Limits

log = get_logger(__name__)

_SERVER_ERROR = 500
_LIMITS = Limits()


class Shell:
    """The ASGI application."""

    def __init__(
        self, core: HttpCore, *, log_all: bool, limits: Limits = _LIMITS, overload: Overload | None = None
    ) -> None:
        self.limits = limits
        self._overload = overload
        self._core = core
        self._log_all = log_all
        self._tasks: set[asyncio.Task[Any]] = set()
        self._calls: set[ShortCall] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self, timeout_seconds: float) -> bool:
        """Wait until nothing is in flight. False if something still is when the time is over."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_seconds)
        except TimeoutError:
            return False
        return True

    @property
    def in_flight(self) -> int:
        """How many requests wait for an answer, or for its end."""
        return len(self._tasks) + len(self._calls)

    def give_up(self) -> None:
        """End what is in flight: 503 to those whose answer has not begun."""
        for task in self._tasks:
            task.cancel(GIVEN_UP)
        for call in list(self._calls):
            call.cancel("given up")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. A WebSocket is refused."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        client = scope.get("client")
        link = AsgiLink(scope, receive, send, self.limits)
        request = Request(
            scope["method"],
            scope["raw_path"].decode("latin-1"),
            query_string=scope["query_string"],
            headers=scope["headers"],
            wire=link,
            client=client[0] if client else None,
            scheme=scope["scheme"],
        )
        await self.serve(request, link)

    async def serve(self, request: Request, link: Link) -> None:
        """Answer one request, in a task of its own."""
        task = asyncio.current_task()
        if self._core.draining or task is None:  # answered with 503; the drain does not wait for those
            await self._handle(request, link)
            return
        self._tasks.add(task)
        self._idle.clear()
        try:
            await self._handle(request, link)
        except asyncio.CancelledError as error:
            if error.args != (GIVEN_UP,):
                raise
            task.uncancel()
        finally:
            self._tasks.discard(task)
            self._rest()

    def _rest(self) -> None:
        if not self._tasks and not self._calls:
            self._idle.set()

    def begin(self, request: Request, exchange: Exchange, variables: Variables) -> bool:
        """Start to answer one the short way, then `close` it; False, and nothing is done, if it is to `serve`."""
        short = self._core.short_of(request) if exchange.lines.bare else None
        if short is None:
            return False
        call = variables.run(short.begin, request, exchange, self, variables)
        if call is None:
            return False
        if not self._calls:
            self._idle.clear()
        self._calls.add(call)
        return True

    def drop(self, call: ShortCall, status: int) -> None:
        """See short.Shell."""
        try:
            if self._log_all and status:
                # Without the call's own variables, or each of its fields would be there twice.
                Variables().run(self._log, call.request, status, call.run_id, call.start.name, call.seconds)
        finally:
            self._calls.discard(call)
            if not self._calls:
                self._rest()
            call.exchange.close()

    def go_on(self, call: ShortCall, answering: Coroutine[Any, Any, Answer], variables: Variables) -> None:
        """See short.Shell."""
        call.task = asyncio.get_running_loop().create_task(self._go_on(call, answering), context=variables)

    async def _go_on(self, call: ShortCall, answering: Coroutine[Any, Any, Answer]) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._tasks.add(task)
        self._calls.discard(call)
        request, link, run_id = call.request, call.exchange, call.run_id
        whole = Call(request, run_id, call.trace, link, call.start.name)
        try:
            answered = self._core.answered(whole, answering)
            await self._answer(request, link, run_id, answered, time.perf_counter() - call.seconds)
        except Exception as error:
            log.error("request failed inside the server", exc_info=error)  # noqa: TRY400 - the traceback is in it
        finally:
            self._tasks.discard(task)
            self.drop(call, 0)

    async def _handle(self, request: Request, link: Link) -> None:
        run_id = new_run_id()
        await self._answer(request, link, run_id, self._core.handle(request, run_id, link), time.perf_counter())

    async def _answer(
        self, request: Request, link: Link, run_id: str, answering: Awaitable[Answer], started: float
    ) -> None:
        try:
            answer = await answering
        except ConnectionError:
            return  # the client left while its body was read: nobody to answer
        except asyncio.CancelledError as error:
            if error.args != (GIVEN_UP,):
                raise
            answer = problem_answer(run_id, Problem(503, detail="the server is shutting down"))
            answer.run_id = run_id
            answer.headers += [(b"retry-after", b"2"), (b"connection", b"close"), (b"x-run-id", run_id.encode())]
            link.done = True  # there is no time to read on
        if isinstance(answer.body, bytes):
            await link.send_whole(answer.status, answer.headers, answer.body)
        elif isinstance(answer.body, Parts):
            with flowing(self._overload):
                await _send_stream(answer, answer.body, link)
        else:
            from runtime.triggers.http.responses import send_response  # noqa: PLC0415 - most never need Starlette

            await send_response(answer, answer.body, link)
        if self._log_all or answer.status >= _SERVER_ERROR:
            self._log(request, answer.status, answer.run_id, answer.function, time.perf_counter() - started)

    def _log(self, request: Request, status: int, run_id: str, function: str, seconds: float) -> None:
        log.info(
            "request",
            method=request.method,
            path=request.path,
            status=int(status),  # an HTTPStatus would be shown as what it is
            ms=round(seconds * 1000, 1),
            run_id=run_id,
            trace_id=trace_of(run_id, request.header(b"traceparent")).trace_id,
            **({"function": function, "trigger": _trigger_of(request.path), "attempt": 1} if function else {}),
        )


def _trigger_of(path: str) -> str:
    """By what a function was called: at its route, or through the runtime's own path."""
    return "api" if path.startswith("/_/") else "http"


def _start(status: int, headers: list[tuple[bytes, bytes]]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _send_stream(answer: Answer, parts: Parts, link: Link) -> None:
    """Send parts as they come. Without the last message the server cuts the connection: so does a failed stream."""
    import anyio  # noqa: PLC0415 - only streams need it

    complete = gone = False
    task = cast("asyncio.Task[None]", asyncio.current_task())

    def leave() -> None:
        nonlocal gone
        gone = True
        task.cancel()

    end_watch = link.watch(leave)
    try:
        await link.send(_start(answer.status, answer.headers))
        try:
            async for part in parts:
                await link.send({"type": "http.response.body", "body": part, "more_body": True})
            complete = True
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            log.error(  # noqa: TRY400 - the traceback is in it
                "stream failed and was cut", run_id=answer.run_id, reason=reason, exc_info=error
            )
            keep_incomplete(link.scope)
    except asyncio.CancelledError:
        if not gone or task.uncancel():
            raise
    finally:
        end_watch()
        with anyio.CancelScope(shield=True):
            await parts.aclose()
    if complete:
        await send_last(link, b"")
    else:
        await link.discard()
