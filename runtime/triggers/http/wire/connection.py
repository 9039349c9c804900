"""One connection: bytes in and out, and how long each of its phases may take.

Made by server for each that it accepts. The protocols say what the bytes mean. A connection that is idle holds no task,
no timer and, before its first byte, no protocol.

Faults of Hypercorn's TCPServer that are none here: it holds a connection whose client is gone until the idle time is
over; it starts and cancels a task around each request; it closes over unread bytes, which resets what the client still
reads; nothing bounds the time of a head or of an answer that is not taken.
"""

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

from typing_extensions import override

from runtime.triggers.http.wire.boxes import Inbox, Outbox, ends_of
from runtime.triggers.http.wire.exchange import Exchange
from runtime.triggers.http.wire.lane import Lane
from runtime.triggers.http.wire.requests import Ends, Host

if TYPE_CHECKING:  # loaded when somebody needs them
    from runtime.triggers.http.wire.http1 import Http1
    from runtime.triggers.http.wire.http2 import Http2

_PREFACE = b"PRI"


class Acceptor(Host, Protocol):
    """What a connection needs of its server.

    idle: connections without a request, the longest so first. asking: those with a part of a head, the longest first.
    """

    http2: bool
    lane: Lane
    idle: "dict[Connection, None]"
    asking: "dict[Connection, None]"

    async def protocols(self) -> "tuple[type[Http1], type[Http2]]":
        """What speaks for those whom the lane does not take."""
        ...

    def on_opened(self, connection: "Connection") -> None:
        """It is there, its handshake done."""

    def on_left(self, connection: "Connection") -> None:
        """It has ended."""


class Connection(asyncio.Protocol):
    """deadline: when the phase it is in has to be over, by the loop's clock; None for no limit."""

    __slots__ = (
        "_closing", "_ends", "_eof", "_exchange", "_fresh", "_host", "_in_head", "_is_http2", "_left",
        "_loop", "_lost", "_protocol", "_resume", "_running", "_skip", "_transport", "deadline", "inbox", "outbox",
        "passed",
    )  # fmt: skip

    def __init__(self, host: Acceptor) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._protocol: Http1 | Http2 | None = None
        self.inbox: Inbox
        self.outbox: Outbox
        self._ends: Ends | None = None
        self._exchange: Exchange | None = None
        self._skip = 0  # bytes of a body whose request was refused
        self._eof = self._lost = self._left = self._closing = self._is_http2 = False
        self._running = self._resume = self._in_head = self.passed = False
        self._fresh = True
        self.deadline: float | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.inbox = Inbox(self._transport)
        self.outbox = Outbox(self._transport, self._loop)
        secured = transport.get_extra_info("ssl_object")
        self._is_http2 = secured is not None and secured.selected_alpn_protocol() == "h2"
        self._host.on_opened(self)
        self._rest()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._eof = True
        self.deadline = None
        self._host.on_left(self)
        self.outbox.lost = True
        self.outbox.unblock()
        if self._exchange is not None:
            self._exchange.leave()
        if self._protocol is not None:
            self._protocol.lose()
        self._go_on()

    @override
    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip, data = self._skip - skipped, data[skipped:]
        if self._exchange is not None:
            if data := self._exchange.feed(data):
                self.inbox.put(data)
        elif data and not (self._is_bare() and self._host.lane.take(self, data)):
            self.inbox.put(data)
            self._go_on()

    def _is_bare(self) -> bool:
        """Whether what comes is a request from its first byte on, and can be answered."""
        host, protocol = self._host, self._protocol
        return (
            self in host.idle
            and not (self._running or self.inbox.parts or self._eof or self.outbox.blocked or host.ending)
            and (not self._is_http2 if protocol is None else protocol.bare)
        )

    def begin(self, exchange: Exchange, rest: bytes) -> None:
        """See Track."""
        self._exchange = exchange
        self._fresh = False
        self.deadline = None
        self._host.idle.pop(self, None)
        if rest:
            self.inbox.put(rest)

    def release(self, *, keep: bool) -> None:
        """See Way."""
        self._exchange = None
        if self._lost or self._closing:
            return
        if not keep or self._host.ending:
            self.close()
            return
        self.deadline = self._loop.time() + self._host.limits.idle_seconds
        self._host.idle[self] = None
        if self.inbox.parts:  # not from here, where a handler's variables may be at hand
            self._loop.call_soon(self._follow, context=self._host.lane.variables)
        elif self._eof:
            self.close()

    def _follow(self) -> None:
        """Take up the request that came behind the last one."""
        if self._lost or self._closing or self._running or not self.inbox:
            return
        data = self.inbox.take()
        if not (self._is_bare() and self._host.lane.take(self, data)):
            self.inbox.put(data)
            self._go_on()

    def skip(self, missing: int, rest: bytes) -> None:
        """See Track."""
        self._skip, self._fresh = missing, False
        self.deadline = self._loop.time() + self._host.limits.idle_seconds
        idle = self._host.idle
        idle.pop(self, None)  # the others have been so for longer
        idle[self] = None
        if rest:
            self.inbox.put(rest)
            self._go_on()

    @property
    def ends(self) -> Ends:
        """See Way."""
        if self._ends is None:
            self._ends = ends_of(self._transport)
        return self._ends

    @override
    def eof_received(self) -> bool:
        self._eof = True
        if self._closing:
            return False
        if self._exchange is not None:
            if not self.inbox:  # else there is another request, whose answer it wants
                self._exchange.end()
        else:
            self._go_on()
        return self._transport.can_write_eof()  # over TLS there is no half of a connection

    @override
    def pause_writing(self) -> None:
        self.outbox.block()

    @override
    def resume_writing(self) -> None:
        self.outbox.unblock()

    async def say(self, data: bytes) -> None:
        """See Hearer."""
        if not self._lost and not self._closing:
            self.outbox.put(data)
            if self.outbox.blocked:
                await self.outbox.drained()

    def reset(self) -> None:
        """See Hearer."""
        self.outbox.reset()

    def turn(self, *, idle: bool) -> None:
        """See Hearer."""
        if self._lost or self._closing:
            return
        if not idle:
            self._fresh = self._in_head = False
            self.deadline = None
            self._unlist()
        elif self._host.ending:
            self.close()
        else:
            self._rest()
            self._resume = self._protocol is not None and self._protocol.partial
            if self._resume or self.inbox or self._eof:
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
                elif self.inbox and not protocol.paused:
                    protocol.passed, self.passed = self.passed, False
                    await protocol.take(self.inbox.take())
                else:
                    break
        except Exception:
            self._transport.abort()
            raise
        finally:
            self._running = False
        if self._lost or (self._eof and not self.inbox and not (protocol is not None and protocol.waiting)):
            await self._leave()
        elif not self._closing and not self._in_head and (self.inbox if protocol is None else protocol.partial):
            self._in_head = True
            self.deadline = self._loop.time() + self._host.limits.head_seconds
            self._unlist()
            self._host.asking[self] = None

    async def _choose(self) -> "Http1 | Http2 | None":
        """The protocol: what TLS agreed on, else what the first bytes begin. None while they do not tell."""
        host, is_http2 = self._host, self._is_http2
        if not self.ends.secured:
            first = self.inbox.peek()[: len(_PREFACE)]
            if not first or (host.http2 and first != _PREFACE and _PREFACE.startswith(first) and not self._eof):
                return None
            is_http2 = host.http2 and first == _PREFACE
        http1, http2 = await host.protocols()
        protocol: Http1 | Http2 = (http2 if is_http2 else http1)(host, self.ends, self)
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
            await protocol.take(b"")
        await protocol.leave()
        if protocol.task is None or protocol.task.done():
            self.close()
        else:  # it may have only half closed: what is answered in spite of it is sent
            protocol.task.add_done_callback(lambda _: self.close())

    def check(self, now: float) -> None:
        """Called every so often: end what takes too long."""
        if self.deadline is not None and now >= self.deadline:
            self._expire(now)
        unsent = self._protocol is not None and bool(self._protocol.unsent)
        if self.outbox.is_stuck(now, self._host.limits, unsent=unsent):
            self._transport.abort()

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
        if self._exchange is not None:
            return
        terminated = self._host.ending
        if self._protocol is None:
            if terminated and self._fresh and not self._closing and self.deadline is not None:
                # It was let in a moment ago, and is about to ask: it gets the 503 that all get now.
                self._fresh = False
                self.deadline = self._loop.time() + self._host.limits.close_seconds / 2
            else:
                self.close()
        else:
            self._host.tasks.spawn(self._protocol.finish)

    def drop(self) -> None:
        """Close a connection without a whole request now, for the sake of another."""
        self._closing = True
        self._unlist()
        self._transport.close()

    def close(self) -> None:
        """Say our end, and listen on until the client says its own: closing over unread bytes resets a connection."""
        if self._closing or self._lost:
            return
        self.outbox.flush()
        self._closing = True
        self._unlist()
        if self._eof or not self._transport.can_write_eof():
            self._transport.close()
            self.deadline = None
        else:
            self._transport.write_eof()
            self.deadline = self._loop.time() + self._host.limits.linger_seconds
        self.inbox.drop()
