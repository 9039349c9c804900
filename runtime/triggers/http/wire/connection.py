"""One connection: bytes in and out, and how long each of its phases may take.

Made by server for each that it accepts. The protocols say what the bytes mean. A connection that is idle holds no task,
no timer and, before its first byte, no protocol.

Faults of Hypercorn's TCPServer that are none here: it holds a connection whose client is gone until the idle time is
over; it starts and cancels a task around each request; it closes over unread bytes, which resets what the client still
reads; nothing bounds the time of a head or of an answer that is not taken.
"""

import asyncio
import os
import socket
import struct
from typing import Any, Protocol, cast

from hypercorn.events import Closed, Event, RawData, Updated
from typing_extensions import override

from runtime.triggers.http.wire.heads import read_plain
from runtime.triggers.http.wire.http1 import Http1
from runtime.triggers.http.wire.http2 import Http2
from runtime.triggers.http.wire.requests import Cut, Ends, Host, date_now

_INBOX_BYTES = 65_536
_OUTBOX_BYTES = 16_384
_PREFACE = b"PRI"


class Acceptor(Host, Protocol):
    """What a connection needs of its server.

    idle: connections without a request, the longest so first. asking: those with a part of a head, the longest first.
    """

    http2: bool
    idle: "dict[Connection, None]"
    asking: "dict[Connection, None]"

    def on_opened(self, connection: "Connection") -> None:
        """It is there, its handshake done."""

    def on_left(self, connection: "Connection") -> None:
        """It has ended."""


class Connection(asyncio.Protocol):
    """deadline: when the phase it is in has to be over, by the loop's clock; None for no limit."""

    __slots__ = (
        "_blocked", "_closing", "_drained", "_eof", "_fresh", "_host", "_in_head", "_inbox", "_left", "_loop", "_lost",
        "_mark", "_out_size", "_outbox", "_passed", "_protocol", "_resume", "_running", "_size", "_skip", "_transport",
        "_written", "deadline",
    )  # fmt: skip

    def __init__(self, host: Acceptor) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._protocol: Http1 | Http2 | None = None
        self._inbox: list[bytes] = []
        self._outbox: list[bytes] = []
        self._size = self._out_size = self._written = 0
        self._skip = 0  # bytes of a body whose request was refused
        self._eof = self._lost = self._left = self._closing = self._blocked = False
        self._running = self._resume = self._in_head = self._passed = False
        self._fresh = True
        self._drained: asyncio.Event | None = None
        self._mark: tuple[float, int] | None = None
        self.deadline: float | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._host.on_opened(self)
        self._rest()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._eof = True
        self.deadline = None
        self._host.on_left(self)
        if self._drained is not None:
            self._drained.set()
        if self._protocol is not None:
            self._protocol.lose()
        self._go_on()

    @override
    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if (self._skip or self._host.overload.active) and not (data := self._sift(data)):
            return
        self._inbox.append(data)
        self._size += len(data)
        if self._size > _INBOX_BYTES:
            self._transport.pause_reading()
        self._go_on()

    def _sift(self, data: bytes) -> bytes:
        """What is left to be read: a plain request is refused here, if it is to be, before it is parsed."""
        if skipped := min(self._skip, len(data)):
            self._skip, data = self._skip - skipped, data[skipped:]
        if not data or not self._is_bare() or (request := read_plain(data)) is None:
            return data
        overload, (method, target, missing) = self._host.overload, request
        if (cause := overload.judge(method, target)) is None:
            self._passed = True
            overload.await_passed()
            return data
        self._transport.write(answer := overload.answer(cause, date_now()))
        self._written += len(answer)
        self._skip, self._fresh = missing, False
        self._rest()
        return b""

    def _is_bare(self) -> bool:
        """Whether what comes is a request from its first byte on, and can be answered."""
        busy = self not in self._host.idle or self._running or self._inbox or self._blocked or self._eof
        return (
            not busy and (self._protocol is None or self._protocol.bare) and not self._host.context.terminated.is_set()
        )

    @override
    def eof_received(self) -> bool:
        self._eof = True
        if self._closing:
            return False
        self._go_on()
        return self._transport.can_write_eof()  # over TLS there is no half of a connection

    @override
    def pause_writing(self) -> None:
        self._blocked = True
        self._drained = asyncio.Event()

    @override
    def resume_writing(self) -> None:
        self._blocked = False
        if self._drained is not None:
            self._drained.set()

    async def send(self, event: Event) -> None:
        """What a protocol has to say to its connection. Waits while the client does not read."""
        if isinstance(event, RawData):
            if not self._lost and not self._closing:
                self._put(event.data)
                if self._blocked and self._drained is not None:
                    await self._drained.wait()
        elif isinstance(event, Cut):
            self._reset()
        elif isinstance(event, Closed):
            self.close()
        elif isinstance(event, Updated):
            self._turn(idle=event.idle)

    def _put(self, data: bytes) -> None:
        self._outbox.append(data)
        self._out_size += len(data)
        if self._out_size >= _OUTBOX_BYTES:
            self._flush()
        elif len(self._outbox) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Write what was said in this turn of the loop at once: a head and its body are one packet."""
        if self._outbox:
            data = self._outbox[0] if len(self._outbox) == 1 else b"".join(self._outbox)
            self._outbox.clear()
            self._out_size = 0
            self._written += len(data)
            if not self._lost:
                self._transport.write(data)

    def _turn(self, *, idle: bool) -> None:
        """A request begins, or none is under way any more."""
        if self._lost or self._closing:
            return
        if not idle:
            self._fresh = self._in_head = False
            self.deadline = None
            self._unlist()
        elif self._host.context.terminated.is_set():
            self.close()
        else:
            self._rest()
            self._resume = self._protocol is not None and self._protocol.partial
            if self._resume or self._inbox or self._eof:
                self._go_on()

    def _rest(self) -> None:
        self.deadline = self._loop.time() + self._host.limits.idle_seconds
        self._unlist()
        self._host.idle[self] = None

    def _unlist(self) -> None:
        """It is none of those that make room for others."""
        self._host.idle.pop(self, None)
        self._host.asking.pop(self, None)

    def _go_on(self) -> None:
        if not self._running:
            self._running = True
            self._host.tasks.spawn(self._run)

    async def _run(self) -> None:
        """Hand what came to the protocol, until nothing is left or the protocol has to wait."""
        try:
            protocol = self._protocol or await self._choose()
            while protocol is not None and not self._closing and not self._lost:
                if self._resume:
                    self._resume = False
                    await protocol.resume()
                elif self._inbox and not protocol.paused:
                    protocol.passed, self._passed = self._passed, False
                    await protocol.handle(RawData(data=self._take()))
                else:
                    break
        except Exception:
            self._transport.abort()
            raise
        finally:
            self._running = False
        if self._lost or (self._eof and not self._inbox and not (protocol is not None and protocol.waiting)):
            await self._leave()
        elif not self._closing and not self._in_head and (self._inbox if protocol is None else protocol.partial):
            self._in_head = True
            self.deadline = self._loop.time() + self._host.limits.head_seconds
            self._unlist()
            self._host.asking[self] = None

    def _take(self) -> bytes:
        data = self._inbox[0] if len(self._inbox) == 1 else b"".join(self._inbox)
        self._inbox.clear()
        if self._size > _INBOX_BYTES:
            self._transport.resume_reading()
        self._size = 0
        return data

    async def _choose(self) -> Http1 | Http2 | None:
        """The protocol: what TLS agreed on, else what the first bytes begin. None while they do not tell."""
        host, transport = self._host, self._transport
        secured = transport.get_extra_info("ssl_object")
        if secured is None:
            first = b"".join(self._inbox)[: len(_PREFACE)]
            if not first or (host.http2 and first != _PREFACE and _PREFACE.startswith(first) and not self._eof):
                return None
            kind = Http2 if host.http2 and first == _PREFACE else Http1
        else:
            kind = Http2 if secured.selected_alpn_protocol() == "h2" else Http1
        client, server = (_address(transport.get_extra_info(name)) for name in ("peername", "sockname"))
        protocol: Http1 | Http2 = kind(host, Ends(secured is not None, client, server), self.send)
        self._protocol = protocol
        await protocol.initiate()
        return protocol

    async def _leave(self) -> None:
        """The client said its end. That it only half closed cannot be told: GET, HEAD and streams are cancelled."""
        protocol = self._protocol
        if self._left:
            return
        self._left = True
        if protocol is None:
            self.close()
            return
        if not self._lost:
            await protocol.handle(RawData(data=b""))
        await protocol.handle(Closed())
        if protocol.task is None or protocol.task.done():
            self.close()
        else:  # it may have only half closed: what is answered in spite of it is sent
            protocol.task.add_done_callback(lambda _: self.close())

    def check(self, now: float) -> None:
        """Called every so often: end what takes too long."""
        if self.deadline is not None and now >= self.deadline:
            self._expire(now)
        waiting = self._transport.get_write_buffer_size()
        taken = self._written - waiting
        if not waiting and not (self._protocol is not None and self._protocol.unsent):
            self._mark = None
        elif self._mark is None:
            self._mark = (now, taken)
        elif now - self._mark[0] >= self._host.limits.write_seconds:
            if taken - self._mark[1] < self._host.limits.write_bytes:
                self._transport.abort()
            self._mark = (now, taken)

    def _expire(self, now: float) -> None:
        if self._closing:
            self.deadline = now + self._host.limits.linger_seconds
            if not self._transport.get_write_buffer_size():  # else what is not taken has a time of its own
                self._transport.close()
        elif self._in_head and self._protocol is not None:
            self.deadline = None
            self._host.tasks.spawn(
                self._protocol.refuse, 408, "the request did not come to the end of its head in time"
            )
        else:
            self.finish()

    def finish(self) -> None:
        """Close it as soon as no request is under way: now, if none is."""
        terminated = self._host.context.terminated.is_set()
        if self._protocol is None:
            if terminated and self._fresh and not self._closing and self.deadline is not None:
                # It was let in a moment ago, and is about to ask: it gets the 503 that all get now.
                self._fresh = False
                self.deadline = self._loop.time() + self._host.limits.close_seconds / 2
            else:
                self.close()
        else:
            self._host.tasks.spawn(self._protocol.finish)

    def _reset(self) -> None:
        """Make the client's reading fail."""
        real = self._transport.get_extra_info("socket")
        if real is not None and self._transport.get_extra_info("ssl_object") is None:
            with socket.socket(fileno=os.dup(real.fileno())) as same:  # uvloop's own sets no options
                same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()  # over TLS the missing close_notify tells

    def drop(self) -> None:
        """Close a connection without a whole request now, for the sake of another."""
        self._closing = True
        self._unlist()
        self._transport.close()

    def close(self) -> None:
        """Say our end, and listen on until the client says its own: closing over unread bytes resets a connection."""
        if self._closing or self._lost:
            return
        self._flush()
        self._closing = True
        self._unlist()
        if self._eof or not self._transport.can_write_eof():
            self._transport.close()
            self.deadline = None
        else:
            self._transport.write_eof()
            self.deadline = self._loop.time() + self._host.limits.linger_seconds
            if self._size > _INBOX_BYTES:
                self._transport.resume_reading()
        self._inbox.clear()
        self._size = 0


def _address(name: Any) -> tuple[str, int] | None:
    return (name[0], name[1]) if isinstance(name, tuple) else None
