"""One plain request of HTTP/1.1 and its answer, in the lane: without h11, an ASGI scope or a queue of messages.

Made by lane when the head is there. Keeps the framing: an answer that is not whole closes its connection.
"""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.types import Message, Scope

from runtime.base.errors import Problem, phrase
from runtime.declare.request import ClientGone
from runtime.triggers.http.answers import Headers
from runtime.triggers.http.wire.heads import Lines
from runtime.triggers.http.wire.link import DISCARD_SECONDS, Patience, Way, stalled
from runtime.triggers.http.wire.requests import BODY_ROOM, Host, date_line, refusal

_STATUS_LINES = {one.value: b"HTTP/1.1 %d %s\r\n" % (one.value, phrase(one).encode()) for one in HTTPStatus}
_JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-run-id: %b\r\n%b%b"
_CUT_SHORT = "what was sent is not HTTP/1.1: the client ended in the middle of its body"
_GIVEN_UP = "the request was given up"
_LEAVE_SECONDS = 0.05
"""A client that says its end may still read: what is answered as soon as this is sent."""
_LEAST_STATUS, _MOST_STATUS = 200, 999
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_OURS = frozenset({b"transfer-encoding", b"keep-alive", b"upgrade"})
"""Of the connection: what an answer says of it is left out."""


class Exchange(msgspec.Struct, eq=False):
    """See Link. One with a body is to `expect` it. ended: the client says no more. left, on_gone: it has gone away."""

    _host: Host
    _way: Way
    method: str
    target: bytes
    lines: Lines
    on_gone: Callable[[], object] | None = None
    done: bool = True
    ended: bool = False
    left: bool = False
    _parts: list[bytes] | None = None
    _room: int = BODY_ROOM
    _missing: int = 0
    _dropping: bool = False
    _held: bool = False
    _closes: bool = False
    _refused: bool = False
    _started: bool = False
    _whole: bool = False
    _chunked: bool = False
    _head: bytes | None = None
    _length: int | None = None  # of an answer's body: what is to come
    _waiter: asyncio.Future[None] | None = None
    _gone: asyncio.Event | None = None
    _patience: Patience | None = None

    # --- what the connection says

    def expect(self, body: bytes) -> None:
        """It has a body, of which this has come."""
        self._missing = self.lines.length - len(body)
        self.done = not self._missing
        if body:
            self._parts = [body]
            self._room -= len(body)

    def feed(self, data: bytes) -> bytes:
        """Take more of the body; what is beyond it is given back."""
        missing = self._missing
        if not missing:
            return data
        part, rest = (data, b"") if len(data) <= missing else (data[:missing], data[missing:])
        self._missing = missing - len(part)
        if not self._missing:
            self.done = True
        if not self._dropping:
            if self._parts is None:
                self._parts = [part]
            else:
                self._parts.append(part)
            self._room -= len(part)
            if self._room <= 0 and self._missing and not self._held:
                self._held = True
                self._way.inbox.let_come(more=False)
        self._wake()
        return rest

    def end(self) -> None:
        """The client says no more: who waits for its body is told, and so is it; then it is taken for gone."""
        self.ended = True
        self._wake()
        if self._missing:
            self._refuse(400, _CUT_SHORT)
        asyncio.get_running_loop().call_later(_LEAVE_SECONDS, self.leave)

    def leave(self) -> None:
        """The client has gone away."""
        self.ended = True
        if self.left:
            return
        self.left = True
        self._wake()
        if self._gone is not None:
            self._gone.set()
        if self.on_gone is not None:
            call, self.on_gone = self.on_gone, None
            call()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _refuse(self, status: int, detail: str) -> None:
        """Answer in place of the shell, if it has not begun to."""
        if not self._started:
            self._started = self._refused = True
            headers, content = refusal(status, detail, close=True)
            self._way.outbox.write(self._head_of(status, headers) + content)

    def close(self) -> None:
        """The end of it, however it went."""
        self._host.overload.end()
        self.on_gone = None  # which leads back here
        if not self._started and not self.ended:
            self._refuse(500, _GIVEN_UP)
        if self._held:
            self._let_come()
        self._way.release(keep=self._whole and not (self._closes or self._missing))

    # --- what the shell asks

    @property
    def scope(self) -> Scope:
        """See Link."""
        ends = self._way.ends
        path, _, query = self.target.partition(b"?")
        return {
            "type": "http",
            "http_version": "1.1",
            "asgi": {"spec_version": "2.3", "version": "3.0"},
            "method": self.method,
            "scheme": "https" if ends.secured else "http",
            "path": path.decode(),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(self.lines.headers),
            "client": ends.client,
            "server": ends.server,
            "state": {},
            "extensions": {},
        }

    async def next(self) -> bytes | None:
        """See Link."""
        while not self._parts:
            if not self._missing:
                return None
            if self.ended:
                raise ClientGone("the client closed the connection before its body was complete")
            await self._wait()
        parts, self._parts = self._parts, None
        part = parts[0] if len(parts) == 1 else b"".join(parts)
        self._room = BODY_ROOM
        if self._held:
            self._let_come()
        return part

    async def _wait(self) -> None:
        """Until a part has come, or the client has left."""
        if self._patience is None:
            self._patience = Patience(self._host.limits)
        began = time.monotonic()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._patience.silence_seconds):
                await self._waiter
        except TimeoutError:
            raise stalled() from None
        finally:
            self._waiter = None
        self._patience.note(time.monotonic() - began, sum(map(len, self._parts or ())))

    def _let_come(self) -> None:
        self._held = False
        if not self._way.outbox.lost:
            self._way.inbox.let_come(more=True)

    def drop_body(self) -> None:
        """See Link."""
        self._dropping = True
        self._parts = None
        if self._held:
            self._let_come()

    def watch(self, call: Callable[[], object]) -> Callable[[], None]:
        """See Link."""
        if self.left:
            asyncio.get_running_loop().call_soon(self._call_if_watched)
        self.on_gone = call
        return self._end_watch

    def _end_watch(self) -> None:
        self.on_gone = None

    def _call_if_watched(self) -> None:
        if self.on_gone is not None:
            self.on_gone()

    async def gone(self) -> None:
        """See Link."""
        if not self.left:
            self._gone = asyncio.Event()
            await self._gone.wait()

    async def receive(self) -> Message:
        """See Link."""
        await self.gone()
        return {"type": "http.disconnect"}

    async def discard(self) -> None:
        """See Link."""
        self.drop_body()
        try:
            async with asyncio.timeout(DISCARD_SECONDS):
                while self._missing and not self.ended:
                    await self._wait()
        except (TimeoutError, Problem):
            pass

    def whole(self) -> bytes | None:
        """The body, where all of it is there and nobody has read of it."""
        return None if self._missing else b"" if self._parts is None else b"".join(self._parts)

    # --- the answer

    def write_whole(self, status: int, headers: Headers, content: bytes) -> bool:
        """Answer, and be over; False if something is to be waited for: then `send_whole` it is."""
        outbox = self._way.outbox
        if not self.done or outbox.blocked or self._refused:
            return False
        self._started = self._whole = True
        outbox.write_both(self._head_of(status, headers, len(content)), content)
        return not outbox.blocked

    def write_json(self, run_id: str, lines: bytes, content: bytes) -> bool:
        """As write_whole, of a 200 with JSON. lines: further ones of its head, as they are sent."""
        outbox = self._way.outbox
        if not self.done or outbox.blocked or self._refused:
            return False
        head = _JSON_HEAD % (len(content), run_id.encode(), lines, self._last_lines())
        self._started = self._whole = True
        outbox.write_both(head, content)
        return not outbox.blocked

    async def send_whole(self, status: int, headers: Headers, content: bytes) -> None:
        """See Link."""
        outbox = self._way.outbox
        if self._refused:
            return
        if self._whole:  # it was written, and the client does not read it
            await outbox.drained()
            return
        self._started = True
        outbox.write_both(self._head_of(status, headers, len(content)), content)
        if not self.done:
            await self.discard()
        if outbox.blocked:
            await outbox.drained()
        self._whole = True

    async def send(self, message: Message) -> None:
        """See Link. Raises RuntimeError for an answer that cannot be framed."""
        if self._refused:
            return
        if message["type"] == "http.response.start":
            self._start(message["status"], message["headers"])
        elif message["type"] == "http.response.body" and not self._whole:
            self._send_part(message.get("body", b""), last=not message.get("more_body", False))
        if self._way.outbox.blocked:
            await self._way.outbox.drained()

    def _start(self, status: int, headers: Headers) -> None:
        if self._started or not _LEAST_STATUS <= status <= _MOST_STATUS:
            raise RuntimeError(f"an answer cannot begin with status {status} here")
        self._started = True
        headers = [(name.lower(), value) for name, value in headers]
        lengths = {value for name, value in headers if name == b"content-length"}
        chunked = len(lengths) != 1 or any(name == b"transfer-encoding" for name, _ in headers)
        left_out = _OURS | {b"content-length"} if chunked else _OURS
        headers = [one for one in headers if one[0] not in left_out]
        if chunked and status not in _BODILESS:
            self._chunked = True
            headers.append((b"transfer-encoding", b"chunked"))
        elif status not in _BODILESS:
            self._length = int(lengths.pop())
        self._head = self._head_of(status, headers)

    def _send_part(self, part: bytes, *, last: bool) -> None:
        short = False
        if self._length is not None:
            short = len(part) > self._length or (last and len(part) < self._length)
            part = part if len(part) <= self._length else b""
            self._length -= len(part)
        elif self._chunked:
            part = b"%x\r\n%b\r\n" % (len(part), part) if part else b""
            part += b"0\r\n\r\n" if last else b""
        else:
            part = b""  # there is none after such a head, whatever was given
        head, self._head = self._head, None
        if head is not None:
            self._way.outbox.write_both(head, part)
        elif part:
            self._way.outbox.put(part)
        if short:  # the head is out: nothing but the end of the connection can tell
            raise RuntimeError("an answer's body has not the length that its Content-Length says")
        self._whole = last

    def _head_of(self, status: int, headers: Headers, length: int | None = None) -> bytes:
        """length: of a body that may not say it; without it the client would wait for the connection's end."""
        dated = False
        lines: list[Any] = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        for name, value in headers:
            if name == b"content-length":
                length = None
            elif name == b"date":
                dated = True
            elif name == b"connection":
                self._closes = self._closes or b"close" in value.lower()
                continue
            lines += (name, b": ", value, b"\r\n")
        if length is not None and status not in _BODILESS:
            lines.append(b"content-length: %d\r\n" % length)
        lines.append(self._last_lines(dated=dated))
        return b"".join(lines)

    def _last_lines(self, *, dated: bool = False) -> bytes:
        """What the server says in each head, and its end."""
        host = self._host
        if host.ending or not self.lines.keep:
            self._closes = True
        end = b"connection: close\r\n\r\n" if self._closes else b"\r\n"
        if host.alt_svc:
            end = b"alt-svc: %b\r\n%b" % (host.alt_svc, end)
        return end if dated else date_line() + end
