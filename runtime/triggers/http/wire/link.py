"""The client of one request, as the shell sees it: its body, its leaving, and where its answer goes.

Made by the shell for a request that came as an ASGI scope. One of the lane is an exchange.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from starlette.types import Message, Receive, Scope, Send

from runtime.base.errors import Problem
from runtime.declare.request import ClientGone
from runtime.triggers.http.answers import Headers
from runtime.triggers.http.wire.boxes import Inbox, Outbox
from runtime.triggers.http.wire.requests import GONE, Ends, Limits

DISCARD_SECONDS = 1.0
"""After an early answer: how long to read on, so that the client gets to read it before the connection closes."""

CUT = "fnrun.cut"
"""In the scope of a request that goes through middleware: a list, which is not empty once its answer is cut."""

_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"expect"})
_WATCH_AFTER_SECONDS = 0.05


class Link(Protocol):
    """What the shell and the core need of it. done: whether the whole body has come, or nobody will wait for it."""

    done: bool

    @property
    def scope(self) -> Scope:
        """The request as ASGI has it."""

    async def next(self) -> bytes | None:
        """The next part, None at the end. ClientGone if the client left before, Problem (408) if it stalled."""

    def drop_body(self) -> None:
        """Nobody will read the body: what comes of it may be thrown away."""

    def watch(self, call: Callable[[], object]) -> Callable[[], None]:
        """Have `call` called when the client goes away, until the function that this returns is called."""

    async def gone(self) -> None:
        """Return when the client has gone away, however much of the body is unread."""

    async def receive(self) -> Message:
        """For a Starlette Response, which asks for nothing but the end."""

    async def discard(self) -> None:
        """Read what is left of the body, for a moment, so that the client gets to read an early answer."""

    def send(self, message: Message, /) -> Awaitable[None]:
        """A part of the answer, as ASGI has it."""

    async def send_whole(self, status: int, headers: Headers, content: bytes) -> None:
        """The answer."""


class Way(Protocol):
    """What an exchange needs of its connection."""

    inbox: Inbox
    outbox: Outbox

    @property
    def ends(self) -> Ends:
        """Both ends of it."""

    def release(self, *, keep: bool) -> None:
        """The exchange is over. keep: another may follow."""


class Patience:
    """How long a client is waited for: neither in silence, nor for a body that comes too slowly."""

    __slots__ = ("_came", "_limits", "_waited")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waited, self._came = 0.0, 0

    @property
    def silence_seconds(self) -> float:
        """The longest wait for the next part."""
        return self._limits.body_silence_seconds

    def note(self, waited_seconds: float, size: int) -> None:
        """So many bytes came after such a wait. Problem (408) if that is too slow by now."""
        self._waited += waited_seconds
        self._came += size
        if self._waited > self._limits.body_seconds + self._came / self._limits.body_bytes_a_second:
            raise stalled("the body comes too slowly")


def stalled(detail: str = "the body stopped coming") -> Problem:
    """The answer to a client that is not waited for any longer."""
    return Problem(408, headers={"Connection": "close"}, detail=detail)


class AsgiLink:
    """See Link. The one reader of a request's ASGI messages. done: whether the whole body has been read."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: Limits) -> None:
        self.scope = scope
        self.send = send
        self._receive = receive
        self._patience = Patience(limits)
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
        """See Link."""
        if self.done:
            return None
        self._waits = False
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._patience.silence_seconds):
                message = await self._receive()
        except TimeoutError:
            raise stalled() from None
        part: bytes = message.get("body", b"")
        self._patience.note(time.monotonic() - began, len(part))
        gone = message["type"] == "http.disconnect"
        if gone or not message.get("more_body", False):
            self.done = True
            self._ended.set()
        if gone:
            raise ClientGone("the client closed the connection before its body was complete")
        return None if self.done and not part else part

    def drop_body(self) -> None:
        """See Link."""
        self._unwanted = True

    def watch(self, call: Callable[[], object]) -> Callable[[], None]:
        """See Link."""
        watcher: asyncio.Task[None] | None = None

        async def watch() -> None:
            await self.gone()
            call()

        def begin() -> None:
            nonlocal watcher
            watcher = loop.create_task(watch())

        def end() -> None:
            timer.cancel()
            if watcher is not None:
                watcher.cancel()

        loop = asyncio.get_running_loop()
        timer = loop.call_later(_WATCH_AFTER_SECONDS, begin)  # so that a quick handler costs no second task
        return end

    async def gone(self) -> None:
        """See Link.

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
        """See Link."""
        await self.gone()
        return {"type": "http.disconnect"}

    async def discard(self) -> None:
        """See Link."""
        if self._waits or not self._alone:
            return
        try:
            async with asyncio.timeout(DISCARD_SECONDS):
                while not self.done:
                    await self.next()
        except (TimeoutError, ConnectionError, Problem):
            pass

    async def send_whole(self, status: int, headers: Headers, content: bytes) -> None:
        """See Link."""
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await send_last(self, content)


async def send_last(link: Link, content: bytes) -> None:
    """The end of an answer: when it comes before the end of the request, all but the very last of it first."""
    if not link.done:
        await link.send({"type": "http.response.body", "body": content, "more_body": True})
        await link.discard()
        content = b""
    await link.send({"type": "http.response.body", "body": content, "more_body": False})


def keep_incomplete(scope: Scope) -> None:
    """To be called before an answer that has begun is cut."""
    if CUT in scope:
        scope[CUT].append(True)
