"""The ASGI shell around the core.

Built by roles. Turns a scope into a Request and an Answer into messages; decides nothing itself.
"""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import anyio
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Message, Receive, Scope, Send

from runtime.base.errors import Problem
from runtime.base.ids import new_run_id
from runtime.base.logs import get_logger
from runtime.declare.request import ClientGone, Request
from runtime.invoke.execute import run_async
from runtime.triggers.http.answers import Answer, Parts, check_headers, problem_answer
from runtime.triggers.http.core import HttpCore
from runtime.triggers.http.middleware import keep_incomplete
from runtime.triggers.http.wire.overload import Overload, flowing
from runtime.triggers.http.wire.requests import GONE, Limits

log = get_logger(__name__)

_SERVER_ERROR = 500
_GIVEN_UP = "the drain time is over"
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"expect"})
_DISCARD_SECONDS = 1.0
"""After an early answer: how long to read on, so that the client gets to read it before the connection closes."""


_STATIC = StaticFiles(check_dir=False)
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
        return len(self._tasks)

    def give_up(self) -> None:
        """End what is in flight: 503 to those whose answer has not begun."""
        for task in self._tasks:
            task.cancel(_GIVEN_UP)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. A WebSocket is refused."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        task = asyncio.current_task()
        if self._core.draining or task is None:  # answered with 503; the drain does not wait for those
            await self._answer(scope, receive, send)
            return
        self._tasks.add(task)
        self._idle.clear()
        try:
            await self._answer(scope, receive, send)
        except asyncio.CancelledError as error:
            if error.args != (_GIVEN_UP,):
                raise
            task.uncancel()
        finally:
            self._tasks.discard(task)
            if not self._tasks:
                self._idle.set()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        run_id = new_run_id()
        connection = _Connection(scope, receive, self.limits)
        client = scope.get("client")
        request = Request(
            scope["method"],
            scope["raw_path"].decode("latin-1"),
            query_string=scope["query_string"],
            headers=scope["headers"],
            wire=connection,
            client=client[0] if client else None,
            scheme=scope["scheme"],
        )
        try:
            answer = await self._core.handle(request, run_id, connection)
        except ConnectionError:
            return  # the client left while its body was read: nobody to answer
        except asyncio.CancelledError as error:
            if error.args != (_GIVEN_UP,):
                raise
            answer = problem_answer(run_id, Problem(503, detail="the server is shutting down"))
            answer.run_id = run_id
            answer.headers += [(b"retry-after", b"2"), (b"connection", b"close"), (b"x-run-id", run_id.encode())]
            connection.done = True  # there is no time to read on
        if isinstance(answer.body, Parts):
            with flowing(self._overload):
                await _send_stream(answer, answer.body, scope, connection, send)
        elif isinstance(answer.body, Response):
            await _send_response(answer, answer.body, scope, connection, send)
        else:
            await _send_whole(answer, answer.body, connection, send)
        if self._log_all or answer.status >= _SERVER_ERROR:
            log.info(
                "request",
                method=request.method,
                path=request.path,
                status=int(answer.status),  # an HTTPStatus would be shown as what it is
                ms=round((time.perf_counter() - started) * 1000, 1),
                run_id=answer.run_id,
                **({"function": answer.function} if answer.function else {}),
            )


class _Connection:
    """The one reader of a request's ASGI messages. done: whether the whole body has been read."""

    def __init__(self, scope: Scope, receive: Receive, limits: Limits) -> None:
        self._receive = receive
        self._limits = limits
        self._waited, self._came = 0.0, 0
        self._ended = asyncio.Event()
        self._left: asyncio.Event | None = scope.get("extensions", {}).get(GONE)  # None: not on our server
        self._unwanted = False
        names = {name: value for name, value in scope["headers"] if name in _FRAMING}
        http1 = scope["http_version"].startswith("1")
        framed = not http1 and scope["method"] not in ("GET", "HEAD")
        self._alone = http1  # a stream of several is ended by itself
        self._waits = b"expect" in names and scope["http_version"] != "1.0"  # for 100 Continue, which `next` brings
        self.done = not framed and names.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in names
        if self.done:
            self._ended.set()

    async def next(self) -> bytes | None:
        """The next part, None at the end. ClientGone if the client left before, Problem (408) if it stalls."""
        if self.done:
            return None
        self._waits = False
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._limits.body_silence_seconds):
                message = await self._receive()
        except TimeoutError:
            raise _stalled("the body stopped coming") from None
        self._waited += time.monotonic() - began
        self._came += len(message.get("body", b""))
        if self._waited > self._limits.body_seconds + self._came / self._limits.body_bytes_a_second:
            raise _stalled("the body comes too slowly")
        gone = message["type"] == "http.disconnect"
        if gone or not message.get("more_body", False):
            self.done = True
            self._ended.set()
        if gone:
            raise ClientGone("the client closed the connection before its body was complete")
        part: bytes = message.get("body", b"")
        return None if self.done and not part else part

    def drop_body(self) -> None:
        """Nobody will read the body: who waits for the client to go may throw it away."""
        self._unwanted = True

    async def gone(self) -> None:
        """Return when the client has gone away.

        An unwanted body is read and dropped meanwhile: one that fills its room would hide the end behind it. One that
        waits for 100 Continue is not asked for.
        """
        if self._left is not None and (self._waits or not self._unwanted):
            await self._left.wait()
            return
        if not self._unwanted:
            await self._ended.wait()
        while (message := await self._receive())["type"] != "http.disconnect":
            self.done = self.done or not message.get("more_body", False)

    async def receive(self) -> Message:
        """For a Starlette Response, which asks for nothing but the end."""
        await self.gone()
        return {"type": "http.disconnect"}

    async def discard(self) -> None:
        """Read what is left of the body, for a moment, so that the client gets to read an early answer."""
        if self._waits or not self._alone:
            return
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                while not self.done:
                    await self.next()
        except (TimeoutError, ConnectionError, Problem):
            pass


def _stalled(detail: str) -> Problem:
    return Problem(408, headers={"Connection": "close"}, detail=detail)


def _start(status: int, headers: list[tuple[bytes, bytes]]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _send_last(content: bytes, connection: _Connection, send: Send) -> None:
    """The end of an answer: when it comes before the end of the request, all but the very last of it first."""
    if not connection.done:
        await send({"type": "http.response.body", "body": content, "more_body": True})
        await connection.discard()
        content = b""
    await send({"type": "http.response.body", "body": content, "more_body": False})


async def _send_whole(answer: Answer, content: bytes, connection: _Connection, send: Send) -> None:
    await send(_start(answer.status, answer.headers))
    await _send_last(content, connection, send)


async def _send_stream(answer: Answer, parts: Parts, scope: Scope, connection: _Connection, send: Send) -> None:
    """Send parts as they come. Without the last message the server cuts the connection: so does a failed stream."""
    complete = False
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_when_gone, connection, group.cancel_scope.cancel)
            await send(_start(answer.status, answer.headers))
            try:
                async for part in parts:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                complete = True
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                log.error(  # noqa: TRY400 - the traceback is in it
                    "stream failed and was cut", run_id=answer.run_id, reason=reason, exc_info=error
                )
                keep_incomplete(scope)
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await parts.aclose()
    if complete:
        await _send_last(b"", connection, send)
    else:
        await connection.discard()


async def _cancel_when_gone(connection: _Connection, cancel: Callable[[], None]) -> None:
    await connection.gone()
    cancel()


def _has_it(scope: Scope, message: Message) -> bool:
    """Whether the client has the file as it is: Starlette compares for its StaticFiles alone."""
    of_file, of_client = Headers(raw=message["headers"]), Headers(raw=scope["headers"])
    return message["status"] == HTTPStatus.OK and _STATIC.is_not_modified(of_file, of_client)


class _HeadSent(Exception):  # noqa: N818 - ends a Response whose head was all that was asked for
    pass


async def _send_response(answer: Answer, response: Response, scope: Scope, connection: _Connection, send: Send) -> None:
    """A Starlette Response, as it is, with our headers."""
    started = False

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
            await send({**message, "headers": headers})
            if scope["method"] == "HEAD" or message["status"] == HTTPStatus.NOT_MODIFIED:
                await _send_last(b"", connection, send)
                raise _HeadSent
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            await _send_last(message.get("body", b""), connection, send)
        else:
            await send(message)

    finished = await run_async("response", lambda: response(scope, connection.receive, send_with_headers), None)
    if finished.error is None or isinstance(finished.error, _HeadSent):
        return
    log.error("response failed while it was sent", run_id=answer.run_id, exc_info=finished.error)
    if not started:
        failed = problem_answer(answer.run_id, Problem(500, detail="the function's response cannot be sent"))
        await send(_start(500, [*failed.headers, *answer.headers]))
        await _send_last(failed.body if isinstance(failed.body, bytes) else b"", connection, send)
    else:
        keep_incomplete(scope)
        await connection.discard()
