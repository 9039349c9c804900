"""The ASGI shell: Starlette on Hypercorn, around the core.

Built by roles. Turns a scope into a Request and an Answer into messages; decides nothing itself.
"""

import asyncio
import time
from collections.abc import Callable

import anyio
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from runtime.base.errors import Problem
from runtime.base.logs import get_logger
from runtime.declare.request import Request
from runtime.invoke.execute import run_async
from runtime.triggers.http.answers import Answer, Headers, Parts, problem_answer
from runtime.triggers.http.core import HttpCore

log = get_logger(__name__)

_DISCARD_SECONDS = 1.0
"""After an early answer: how long to read on, so that the client gets to read it before the connection closes."""


class Shell:
    """The ASGI application. in_flight: requests whose answer is not wholly sent."""

    def __init__(self, core: HttpCore, *, log_all: bool) -> None:
        self._core = core
        self._log_all = log_all
        self.in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self, timeout_seconds: float) -> bool:
        """Wait until nothing is in flight. False if something still is when the time is over."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_seconds)
        except TimeoutError:
            return False
        return True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. A WebSocket is refused."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        self.in_flight += 1
        self._idle.clear()
        try:
            await self._answer(scope, receive, send)
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        body = _BodyReader(scope, receive)
        client = scope.get("client")
        request = Request(
            scope["method"],
            scope["raw_path"].decode("latin-1"),
            query_string=scope["query_string"],
            headers=scope["headers"],
            wire=body,
            client=client[0] if client else None,
            scheme=scope["scheme"],
        )
        try:
            answer = await self._core.handle(request)
        except ConnectionError:
            return  # the client left while its body was read: nobody to answer
        if isinstance(answer.body, Parts):
            await _send_stream(answer, answer.body, body, send)
        elif isinstance(answer.body, Response):
            await _send_response(answer, answer.body, scope, receive, send)
        else:
            await _send_whole(answer, answer.body, body, send)
        if self._log_all:
            log.info(
                "request",
                method=request.method,
                path=request.path,
                status=answer.status,
                ms=round((time.perf_counter() - started) * 1000, 1),
                run_id=answer.run_id,
            )


def build_app(shell: Shell) -> Starlette:
    """The Starlette application around a shell. Its router is bypassed: the core routes."""
    app = Starlette()
    app.router.default = shell
    return app


class _BodyReader:
    """The body's parts out of ASGI messages."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self.done = not any(
            (name == b"content-length" and value != b"0") or name == b"transfer-encoding"
            for name, value in scope["headers"]
        ) and not scope["http_version"].startswith(("2", "3"))

    async def next(self) -> bytes | None:
        """The next part, None at the end. ConnectionResetError if the client is gone."""
        if self.done:
            return None
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.done = True
            raise ConnectionResetError("the client closed the connection before its body was complete")
        self.done = not message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return None if self.done and not part else part

    async def gone(self) -> None:
        """Return when the client has gone away; what is left of its body is passed over."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def discard(self) -> None:
        """Read what is left of the body, for a moment."""
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                while not self.done:
                    await self.next()
        except (TimeoutError, ConnectionError):
            pass


def _start(status: int, headers: Headers) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _send_whole(answer: Answer, content: bytes, body: _BodyReader, send: Send) -> None:
    await send(_start(answer.status, answer.headers))
    if not body.done:
        await send({"type": "http.response.body", "body": content, "more_body": True})
        await body.discard()
        content = b""
    await send({"type": "http.response.body", "body": content, "more_body": False})


async def _send_stream(answer: Answer, parts: Parts, body: _BodyReader, send: Send) -> None:
    """Send parts as they come. Without the last message the server cuts the connection: so does a failed stream."""
    complete = False
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_when_gone, body, group.cancel_scope.cancel)
            await send(_start(answer.status, answer.headers))
            try:
                async for part in parts:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                complete = True
            except Exception as error:  # noqa: BLE001 - whatever the handler raised; its end is logged by the invoker
                log.warning("stream cut", run_id=answer.run_id, reason=f"{type(error).__name__}: {error}")
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await parts.aclose()
    if complete:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _cancel_when_gone(body: _BodyReader, cancel: Callable[[], None]) -> None:
    await body.gone()
    cancel()


async def _send_response(answer: Answer, response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """A Starlette Response, as it is, with our headers."""
    started = False

    async def send_with_headers(message: Message) -> None:
        nonlocal started
        if message["type"] == "http.response.start":
            started = True
            message["headers"] = [*message["headers"], *answer.headers]
        await send(message)

    finished = await run_async("response", lambda: response(scope, receive, send_with_headers), None)
    if finished.error is None:
        return
    log.error("response failed while it was sent", run_id=answer.run_id, exc_info=finished.error)
    if not started:
        failed = problem_answer(answer.run_id, Problem(500, detail="the function's response cannot be sent"))
        await send(_start(500, [*failed.headers, *answer.headers]))
        await send({"type": "http.response.body", "body": failed.body, "more_body": False})
