"""HTTP/1.1 on Hypercorn and h11, stricter than either, so that nobody in between reads a request otherwise than we do.

Made by connection for each of its kind.

Faults of Hypercorn 0.18 mended here: it parses on while an answer is under way only by blocking its reader, so that it
does not see a client leave; it sends 100 Continue before anybody wants the body; it obeys `Upgrade: h2c`, also one that
a proxy passed on; it makes methods upper case; its own errors have no body; its Date stands beside one of the author's.

Laxness of h11 0.16 mended here: bare line feeds, folded lines, control characters, several lengths, a length beside
chunks, chunks in HTTP/1.0, blanks in a chunk's size, any Host.
"""

import asyncio
from functools import partial
from http import HTTPStatus
from typing import Any

import h11
from h11._receivebuffer import ReceiveBuffer
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, EndBody, Request, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.typing import ConnectionState
from typing_extensions import override

from runtime.base.errors import phrase
from runtime.triggers.http.wire.requests import (
    BODY_ROOM,
    Ends,
    Host,
    Limits,
    Refused,
    judge_expected,
    judge_host,
    judge_target,
    refusal,
    whom_to_ask,
    with_ours,
)
from runtime.triggers.http.wire.streams import Caller, Cut, Hearer, Messages, Stream, tell

_IN_HEAD = bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100)) + b"\t\r\n"
_LONGEST_CHUNK_LINE = 256
_LONGEST_CHUNK_SIZE = 16
_REASONS = {status.value: phrase(status).encode() for status in HTTPStatus}
_NOT_A_REQUEST = "what was sent is not HTTP/1.1"


class _Buffer(ReceiveBuffer):
    """What came and is not parsed yet. Refuses what h11 lets pass; the rest is h11's to judge."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits
        self.in_body = False

    @override
    def maybe_extract_lines(self) -> list[bytearray] | None:
        data = self._data
        if data[:2] == b"\r\n":
            self._extract(2)
            if self.in_body:
                return []  # the trailers, of which there are none
        end = data.find(b"\r\n\r\n", max(0, self._multiple_lines_search - 3))
        if end < 0:
            fresh = data[max(0, self._multiple_lines_search - 2) :]  # two are seen again: line ends have two
            self._multiple_lines_search = len(data)
            self._check_size(len(data))
            _check_bytes(bytes(fresh.removeprefix(b"\n").removesuffix(b"\r")))
            return None
        self._check_size(end + 4)
        head = bytes(self._extract(end + 4))
        _check_bytes(head)
        lines = head[:-4].split(b"\r\n")
        if len(lines) > self._limits.header_lines + 1:
            raise h11.LocalProtocolError("there are too many header lines", error_status_hint=431)
        if not self.in_body:
            lower = head.lower()
            if b"\ncontent-length" in lower or b"\ntransfer-encoding" in lower:
                _check_framing(lines)
        return lines  # type: ignore[return-value]  # h11 reads bytes as well

    def _check_size(self, size: int) -> None:
        """Refuse a request line or a head that is too long, whether it is all there or not."""
        if not self.in_body:
            line_end = self._data.find(b"\r\n", 0, self._limits.target_bytes + 2)
            if line_end < 0 and size > self._limits.target_bytes:
                raise h11.LocalProtocolError("the request line is too long", error_status_hint=414)
        if size > self._limits.head_bytes:
            raise h11.LocalProtocolError("the header lines are too long", error_status_hint=431)

    @override
    def maybe_extract_next_line(self) -> bytearray | None:
        """The line before a chunk: at most 16 digits, and an extension nobody reads."""
        line = super().maybe_extract_next_line()
        if len(self._data if line is None else line) > _LONGEST_CHUNK_LINE:
            raise h11.LocalProtocolError("the line before a chunk is too long")
        _check_bytes(bytes(self._data.removesuffix(b"\r") if line is None else line))
        if line is not None:
            size = line[:-2].partition(b";")[0]
            if len(size) > _LONGEST_CHUNK_SIZE or size.endswith((b" ", b"\t")):
                raise h11.LocalProtocolError("the size of a chunk is malformed")
        return line


def _check_bytes(head: bytes) -> None:
    """Refuse control characters, CR or LF alone, and folded lines. RFC 9112, 2.2 and 5.2; RFC 9110, 5.5."""
    if head.translate(None, _IN_HEAD):
        raise h11.LocalProtocolError("there are control characters")
    ends = head.count(b"\r\n")
    if head.count(b"\n") != ends or head.count(b"\r") != ends:
        raise h11.LocalProtocolError("a line does not end in CR LF")
    if b"\n " in head or b"\n\t" in head:
        raise h11.LocalProtocolError("a header line is folded")


def _check_framing(lines: list[bytes]) -> None:
    """Refuse a body whose end another server could see elsewhere. RFC 9112, 6.1 and 6.3."""
    pairs = [(name.lower(), value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines[1:])]
    lengths = [value for name, value in pairs if name == b"content-length"]
    encodings = [value for name, value in pairs if name == b"transfer-encoding"]
    if len(lengths) > 1 or len(encodings) > 1 or (lengths and encodings):
        raise h11.LocalProtocolError("the length of the body is said more than once")
    if lengths and not lengths[0].isdigit():
        raise h11.LocalProtocolError("the Content-Length is malformed")
    if encodings and lines[0].endswith(b"HTTP/1.0"):
        raise h11.LocalProtocolError("HTTP/1.0 has no Transfer-Encoding")


class Http1(H11Protocol):
    """One connection. idle: no request is under way. partial: the beginning of a head is there.

    passed: the request that comes next was judged already, and let in.
    """

    def __init__(self, host: Host, ends: Ends, hearer: Hearer) -> None:
        self._app, self._alt_svc = host.app, host.alt_svc
        super().__init__(  # the task group is ours, as far as it is used
            host.app, host.config, host.context, host.tasks, ConnectionState({}), ends.secured, ends.client,  # type: ignore[arg-type]
            ends.server, partial(tell, hearer),
        )  # fmt: skip
        limits = host.limits
        self._tasks = host.tasks
        self._overload = host.overload
        self._ended = self.passed = False
        self._caller: Caller | None = None
        self.connection: h11.Connection = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes)
        self._buffer = _Buffer(limits)
        self.connection._receive_buffer = self._buffer
        self.unsent = 0  # what is written goes out at once

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return self.stream is None

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What was last started for this connection."""
        return None if self._caller is None else self._caller.task

    @property
    def partial(self) -> bool:
        """Whether there are bytes of a request to come."""
        return self.stream is None and bool(self._buffer)

    @property
    def bare(self) -> bool:
        """Whether what comes next is a request from its first byte on."""
        return self.stream is None and not self._buffer and not self._ended

    @property
    def paused(self) -> bool:
        """Whether the next request, or what follows the last one, has to wait."""
        return self.stream is not None and self.connection.their_state not in (h11.SEND_BODY, h11.IDLE)

    @property
    def waiting(self) -> bool:
        """Whether a request waits behind the one that is under way."""
        return self.paused and bool(self._buffer)

    async def finish(self) -> None:
        """Close as soon as nothing is under way."""
        if self.idle:
            await self.send(Closed())

    async def take(self, data: bytes) -> None:
        """What came of the client; b"" for its end."""
        await self.handle(RawData(data=data))

    async def leave(self) -> None:
        """The client is gone."""
        await self.handle(Closed())

    @override
    async def handle(self, event: Event) -> None:
        if isinstance(event, RawData):
            if not self._ended:
                self.connection.receive_data(event.data)
                await self._handle_events()
        elif isinstance(event, Closed):
            self._ended = True
            await self._close_stream()

    def lose(self) -> None:
        """The client has gone. Said at once: `handle` may still wait for room for a body that nobody reads."""
        if self._caller is not None:
            self._caller.messages.end()

    async def resume(self) -> None:
        """Go on with what came while the last request was under way."""
        await self._handle_events()

    async def refuse(self, status: int, detail: str) -> None:
        """Answer what is no request, if nothing has been answered yet, and close."""
        self._ended = True
        await self._close_stream()
        if self.connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers, body = refusal(status, detail, close=True)
            reason = _REASONS.get(status, b"")
            head = h11.Response(status_code=status, headers=with_ours(headers, self._alt_svc), reason=reason)
            await self._send_h11_event(head)
            if self.connection._request_method != b"HEAD":
                await self._send_h11_event(h11.Data(data=body))
            await self._send_h11_event(h11.EndOfMessage())
        await self.send(Closed())

    @override
    async def _handle_events(self) -> None:
        while not self._ended:
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                detail = str(error).partition(":")[0]  # what follows repeats what was sent
                await self.refuse(error.error_status_hint, f"{_NOT_A_REQUEST}: {detail}")
                return
            if isinstance(event, h11.Request):
                await self._begin(event)
            elif isinstance(event, h11.Data):
                if self.stream is not None:
                    await self.stream.handle(Body(stream_id=STREAM_ID, data=event.data))
            elif isinstance(event, h11.EndOfMessage):
                if self.stream is not None:
                    await self.stream.handle(EndBody(stream_id=STREAM_ID))
            else:  # more is needed, or the next request has to wait
                return

    async def _begin(self, request: h11.Request) -> None:
        self._buffer.in_body = True
        await self.send(Updated(idle=False))
        headers = list(request.headers)
        method = request.method.decode("ascii")
        app, target = whom_to_ask(self._app, partial(_judge, request, method, headers), close=True)
        if app is self._app:
            app = self._overload.guard(app, method, target, headers, passed=self.passed)
            self.passed = False
        waits = self.connection.they_are_waiting_for_100_continue
        messages = Messages(BODY_ROOM, self._let_come if waits else None)
        self._caller = Caller(self._tasks, messages)
        self.stream = Stream(
            app, self.config, self.context, self._caller, self.ssl, self.client, self.server,  # type: ignore[arg-type]
            self.stream_send, STREAM_ID,
        )  # fmt: skip
        version = "1.0" if request.http_version == b"1.0" else "1.1"
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID, headers=headers, http_version=version, method=method, raw_path=target,
                state=self.connection_state,
            )
        )  # fmt: skip

    async def _let_come(self) -> None:
        """100 Continue, now that the application reads."""
        if self.connection.they_are_waiting_for_100_continue:
            await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))

    @override
    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, Response):
            headers = with_ours(event.headers, self._alt_svc)
            if self.context.terminated.is_set():
                headers = [*(one for one in headers if one[0] != b"connection"), (b"connection", b"close")]
            reason = _REASONS.get(event.status_code, b"")
            await self._send_h11_event(h11.Response(headers=headers, status_code=event.status_code, reason=reason))
        elif isinstance(event, Body):
            await self._send_h11_event(h11.Data(data=event.data))
        elif not isinstance(event, StreamClosed):
            await super().stream_send(event)
        else:
            await self._maybe_recycle()

    @override
    async def _send_h11_event(self, event: Any) -> None:
        try:
            data = self.connection.send(event)
        except h11.LocalProtocolError:
            if not self._ended and self.connection.their_state != h11.ERROR:
                raise
        else:
            if data:
                await self.send(RawData(data=data))

    @override
    async def _maybe_recycle(self) -> None:
        await self._close_stream()
        done = self.connection.our_state is h11.DONE and self.connection.their_state is h11.DONE
        if self.context.terminated.is_set() or self._ended or not done:
            self._ended = True
            endless = self.connection.our_state is h11.SEND_BODY and self.connection.their_http_version == b"1.0"
            await self.send(Cut() if endless else Closed())
        else:
            self._buffer.in_body = False
            self.connection.start_next_cycle()
            await self.send(Updated(idle=True))


def _judge(request: h11.Request, method: str, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The path to answer; the host of an absolute target takes the Host's place. Refused for what no function gets."""
    if request.http_version[:2] != b"1.":
        raise Refused(505, "this is HTTP/1.1; HTTP/2 has to be asked for by itself")
    target, host = judge_target(method, request.target)
    said = next((value for name, value in headers if name == b"host"), None)
    if said is not None or request.http_version != b"1.0":  # RFC 9112, 3.2: a Host at fault is one, whatever the target
        judge_host(said)
    if host is not None:
        judge_host(host)
        headers[:] = [(b"host", host), *((name, value) for name, value in headers if name != b"host")]
    if any(name == b"upgrade" and value.lower() == b"websocket" for name, value in headers):
        raise Refused(501, "WebSockets are not served")  # any other Upgrade is passed over: RFC 9110, 7.8
    if request.http_version != b"1.0":
        judge_expected(headers)
    return target
