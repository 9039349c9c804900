"""HTTP/3 on aioquic, with Hypercorn's requests and answers.

Made by server where the setting asks for it; nothing else loads aioquic. Its own asyncio server has the connections:
Hypercorn's serves all of them from one task, which a fault or a slow reader of one of them ends or holds up for all.
"""

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer
from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import NetworkAddress
from aioquic.quic.events import ConnectionTerminated, ProtocolNegotiated, QuicEvent, StopSendingReceived, StreamReset
from hypercorn.protocol.events import Body, EndBody, Request, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.typing import ConnectionState
from hypercorn.utils import filter_pseudo_headers
from typing_extensions import override

from runtime.base.errors import StartError
from runtime.triggers.http.wire.requests import (
    BODY_ROOM,
    OF_THE_CONNECTION,
    Host,
    Limits,
    Refused,
    judge_pseudo,
    whom_to_ask,
    with_ours,
)
from runtime.triggers.http.wire.streams import Caller, Messages, Stream

_UNREAD_BYTES = 16_777_216
"""Of bodies on one connection: aioquic lets more come before anybody has read; past it the stream is stopped."""


class Http3(QuicConnectionProtocol):
    """One connection with its streams."""

    def __init__(self, host: Host, server: tuple[str, int], *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._host = host
        self._server = server
        self._http: H3Connection | None = None
        self._streams: dict[int, Stream] = {}
        self._callers: dict[int, Caller] = {}
        self._ended: set[int] = set()  # streams whose answer is complete
        self._at_work: set[asyncio.Task[None]] = set()
        self._events: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._moved = asyncio.Event()
        self._worker = host.tasks.spawn(self._work)

    @override
    def datagram_received(self, data: bytes | str, addr: NetworkAddress) -> None:
        super().datagram_received(data, addr)
        self._moved.set()

    @override
    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated):
            self._http = H3Connection(self._quic)
        elif isinstance(event, StreamReset | StopSendingReceived):
            self._events.put_nowait(partial(self._leave, event.stream_id))
        elif isinstance(event, ConnectionTerminated):
            self._events.put_nowait(self._leave_all)
        for one in self._http.handle_event(event) if self._http is not None else ():
            if isinstance(one, HeadersReceived):
                self._events.put_nowait(partial(self._begin, one))
            elif isinstance(one, DataReceived):
                self._events.put_nowait(partial(self._go_on, one))

    async def _work(self) -> None:
        """What came, in order. Nothing in it waits for an application."""
        while not self._closed.is_set() or not self._events.empty():
            await (await self._events.get())()

    async def _begin(self, event: HeadersReceived) -> None:
        stream_id = event.stream_id
        if stream_id in self._streams:  # trailers, which nobody asks for
            await self._end_body(event)
            return
        limits = self._host.limits
        if self._host.context.terminated.is_set() or len(self._at_work) >= 2 * limits.streams:
            self._reset(stream_id, ErrorCode.H3_REQUEST_REJECTED)
            return
        method = next((value for name, value in event.headers if name == b":method"), b"").decode("latin-1")
        headers = filter_pseudo_headers(event.headers)

        def judge() -> bytes:
            _judge_size(event, limits)
            return judge_pseudo(event.headers, method, headers, ended=event.stream_ended)

        app, target = whom_to_ask(self._host.app, judge, close=False)
        if app is self._host.app:
            app = self._host.overload.guard(app, method, target, headers)
        expects = any(name == b"expect" for name, _ in headers)
        messages = Messages(sys.maxsize, partial(self._let_come, stream_id) if expects else None)
        caller = self._callers[stream_id] = Caller(self._host.tasks, messages)
        client = self._quic._network_paths[0].addr[:2]
        stream = self._streams[stream_id] = Stream(
            app, self._host.config, self._host.context, caller, True, client, self._server, self._say, stream_id  # type: ignore[arg-type]
        )  # fmt: skip
        await stream.handle(
            Request(
                stream_id=stream_id, headers=headers, http_version="3", method=method, raw_path=target,
                state=ConnectionState({}),
            )
        )  # fmt: skip
        if caller.task is not None:
            self._at_work.add(caller.task)
            caller.task.add_done_callback(self._at_work.discard)
        await self._end_body(event)

    async def _go_on(self, event: DataReceived) -> None:
        if (stream := self._streams.get(event.stream_id)) is None:
            return
        if event.data:
            await stream.handle(Body(stream_id=event.stream_id, data=event.data))
        if sum(caller.messages.size for caller in self._callers.values()) > _UNREAD_BYTES:
            self._quic.stop_stream(event.stream_id, ErrorCode.H3_EXCESSIVE_LOAD)
            self.transmit()
            await self._leave(event.stream_id)
        else:
            await self._end_body(event)

    async def _end_body(self, event: HeadersReceived | DataReceived) -> None:
        if event.stream_ended and (stream := self._streams.get(event.stream_id)) is not None:
            self._callers[event.stream_id].complete = True
            await stream.handle(EndBody(stream_id=event.stream_id))

    async def _let_come(self, stream_id: int) -> None:
        """100, now that the application reads."""
        if self._http is not None and stream_id in self._streams:
            self._http.send_headers(stream_id, [(b":status", b"100")])
            self.transmit()

    async def _say(self, event: StreamEvent) -> None:
        """What a stream has to say to its client. Waits while the client does not take it."""
        stream_id = event.stream_id
        if self._http is None or stream_id not in self._streams:
            return
        if isinstance(event, Response):
            pairs = with_ours(event.headers, self._host.alt_svc)
            headers = [pair for pair in pairs if pair[0].lower() not in OF_THE_CONNECTION]
            self._http.send_headers(stream_id, [(b":status", b"%d" % event.status_code), *headers])
        elif isinstance(event, Body):
            self._http.send_data(stream_id, event.data, end_stream=False)
        elif isinstance(event, EndBody):
            self._http.send_data(stream_id, b"", end_stream=True)
            self._ended.add(stream_id)
        elif isinstance(event, StreamClosed):
            await self._close(stream_id)
        self.transmit()
        await self._taken(stream_id)

    async def _taken(self, stream_id: int) -> None:
        limits = self._host.limits
        try:
            while (left := self._unsent(stream_id)) > BODY_ROOM:
                async with asyncio.timeout(limits.write_seconds):
                    while self._unsent(stream_id) > max(left - limits.write_bytes, BODY_ROOM):
                        self._moved.clear()
                        await self._moved.wait()
        except TimeoutError:
            self._reset(stream_id, ErrorCode.H3_REQUEST_CANCELLED)
            await self._leave(stream_id)

    def _unsent(self, stream_id: int) -> int:
        """Bytes of an answer that its client has not acknowledged."""
        stream = self._quic._streams.get(stream_id) if stream_id in self._streams else None
        return 0 if stream is None else len(stream.sender._buffer)

    async def _close(self, stream_id: int) -> None:
        """The application has ended: with its answer, or before it; with its request, or before it."""
        answered = stream_id in self._ended
        complete = self._callers[stream_id].complete
        await self._leave(stream_id)
        if not answered:
            self._reset(stream_id, ErrorCode.H3_INTERNAL_ERROR)
        if not complete:
            self._quic.stop_stream(stream_id, ErrorCode.H3_NO_ERROR)

    def _reset(self, stream_id: int, code: ErrorCode) -> None:
        self._quic.reset_stream(stream_id, code)
        self.transmit()

    async def _leave(self, stream_id: int) -> None:
        """The client has gone from a stream, or the stream is over."""
        self._ended.discard(stream_id)
        self._callers.pop(stream_id, None)
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            await stream.handle(StreamClosed(stream_id=stream_id))
        self._moved.set()

    async def _leave_all(self) -> None:
        for stream_id in list(self._streams):
            await self._leave(stream_id)


def _judge_size(event: HeadersReceived, limits: Limits) -> None:
    size = sum(len(name) + len(value) + 32 for name, value in event.headers)  # RFC 9114, 4.2.2
    if size > limits.head_bytes or len(event.headers) > limits.header_lines:
        raise Refused(431, "the headers are too long, or too many")


class Http3Server(QuicServer):
    """All connections of one UDP socket. Clients prove their address first, so that nobody makes us keep lies."""

    def __init__(self, host: Host, server: tuple[str, int], configuration: QuicConfiguration) -> None:
        super().__init__(configuration=configuration, create_protocol=partial(Http3, host, server), retry=True)
        self._limit = host.limits.connections

    @override
    def datagram_received(self, data: bytes | str, addr: NetworkAddress) -> None:
        long_header = isinstance(data, bytes) and data[:1] >= b"\x80"
        if long_header and len(self._protocols) > 2 * self._limit:  # each has two names or more
            return
        super().datagram_received(data, addr)


async def open_http3(host: Host, sock: socket.socket, certificate: tuple[Path, Path]) -> Http3Server:
    """Serve HTTP/3 on the UDP port of the same number. StartError if it cannot be had."""
    name = sock.getsockname()
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN, idle_timeout=host.limits.idle_seconds)
    configuration.load_cert_chain(*certificate)
    udp = socket.socket(sock.family, socket.SOCK_DGRAM)
    udp.setblocking(False)
    try:
        udp.bind(name)
    except OSError as error:
        udp.close()
        raise StartError(f"http.http3: cannot listen on UDP port {name[1]}: {error.strerror}") from None
    _, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Http3Server(host, name[:2], configuration), sock=udp
    )
    host.alt_svc = b'h3=":%d"; ma=3600' % name[1]
    return server
