"""HTTP/2 on Hypercorn and h2, with what a client may cost bounded.

Made by connection, for TLS that agreed on h2 and for clients that begin with its preface.

Faults of Hypercorn 0.18 mended here: a stream whose application fails midway is never ended; an answer that comes
before its request is complete leaves the stream open; bytes of a body are acknowledged before anybody has read them,
and one application that reads slowly holds up all streams of its connection; a stream that is reset while it sends
ends the sending of all; data for a stream that is over ends the connection, and so does a path that is not ASCII;
PRIORITY frames fill a tree that fails at its thousandth stream; floods and rapid resets (CVE-2023-44487) cost the
client nothing; WebSockets over CONNECT are promised.
"""

import asyncio
import sys
from contextlib import suppress
from functools import partial
from typing import Any

import h2.events as h2
from h2.errors import ErrorCodes
from h2.exceptions import H2Error, ProtocolError
from h2.settings import SettingCodes, Settings
from h2.stream import StreamState
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, EndBody, Request, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import H2Protocol, StreamBuffer
from hypercorn.typing import ConnectionState
from hypercorn.utils import filter_pseudo_headers
from typing_extensions import override

from runtime.triggers.http.wire.requests import (
    OF_THE_CONNECTION,
    Ends,
    Host,
    judge_pseudo,
    whom_to_ask,
    with_ours,
)
from runtime.triggers.http.wire.streams import Caller, Hearer, Messages, Stream, tell

_CONNECTION_WINDOW = 1_048_576
"""Bytes of bodies that may wait on one connection; on one stream it is HTTP/2's own 65,535."""


class _Budget:
    """How often something may happen: `burst` times at once, then `rate` times a second."""

    def __init__(self, burst: int, rate: float) -> None:
        self._left: float = burst
        self._burst = burst
        self._rate = rate
        self._at = asyncio.get_running_loop().time()

    def spend(self) -> bool:
        """Take one; False if none is left."""
        now = asyncio.get_running_loop().time()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - 1
        self._at = now
        return self._left >= 0


class Http2(H2Protocol):
    """One connection with its streams. idle: no stream is under way."""

    partial = paused = waiting = bare = passed = False  # as Http1's, which has one request at a time
    task = None  # as Http1's; here nobody half closes a connection

    def __init__(self, host: Host, ends: Ends, hearer: Hearer) -> None:
        self._app, self._alt_svc = host.app, host.alt_svc
        super().__init__(  # the task group is ours, as far as it is used
            host.app, host.config, host.context, host.tasks, ConnectionState({}), ends.secured, ends.client,  # type: ignore[arg-type]
            ends.server, partial(tell, hearer),
        )  # fmt: skip
        self._tasks, self._overload = host.tasks, host.overload
        limits = self._limits = host.limits
        self._callers: dict[int, Caller] = {}
        self._at_work: set[asyncio.Task[None]] = set()
        self._resets = _Budget(limits.resets_burst, limits.resets_a_second)
        self._controls = _Budget(limits.control_burst, limits.control_a_second)
        self._leaving = False  # GOAWAY is to be said once no stream is under way: some clients hear no more after it
        self.connection.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: limits.streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: limits.head_bytes,
            },
        )
        self.connection.decoder.max_header_list_size = limits.head_bytes

    @property
    @override
    def idle(self) -> bool:
        return not self.streams

    @property
    def unsent(self) -> bool:
        """Whether parts of answers wait for the client to take them."""
        return any(buffer.buffer for buffer in self.stream_buffers.values())

    @override
    async def initiate(self, headers: Any = None, settings: bytes | None = None) -> None:
        self.connection.initiate_connection()
        self.connection.increment_flow_control_window(_CONNECTION_WINDOW)
        await self._flush()
        self._tasks.spawn(self.send_task)

    def lose(self) -> None:
        """As Http1's: nothing ever waits."""

    async def resume(self) -> None:
        """As Http1's: nothing ever waits."""

    async def refuse(self, _status: int, _detail: str) -> None:
        """As Http1's."""
        await self._give_up(ErrorCodes.PROTOCOL_ERROR)

    async def finish(self) -> None:
        """Close as soon as no stream is under way, and say so."""
        self._leaving = True
        if self.idle:
            await self._give_up(ErrorCodes.NO_ERROR)

    async def take(self, data: bytes) -> None:
        """What came of the client; b"" for its end."""
        await self.handle(RawData(data=data))

    async def leave(self) -> None:
        """The client is gone."""
        await self.handle(Closed())

    @override
    async def handle(self, event: Event) -> None:
        if isinstance(event, RawData):
            if self.closed or not event.data:
                return
            try:
                events = self.connection.receive_data(event.data)
            except H2Error:  # h2 has written the GOAWAY
                await self._flush()
                await self._close()
            else:
                await self._handle_events(events)
        elif isinstance(event, Closed):
            await super().handle(event)
            for buffer in list(self.stream_buffers.values()):  # Hypercorn leaves those waiting who wait for room
                await buffer.close()

    @override
    async def _handle_events(self, events: list[h2.Event]) -> None:
        for event in events:
            if self.closed:
                return
            if isinstance(event, h2.RequestReceived):
                await self._begin(event)
            elif isinstance(event, h2.DataReceived):
                await self._on_data(event)
            elif isinstance(event, h2.StreamEnded):
                await self._on_end(event.stream_id)
            elif isinstance(event, h2.WindowUpdated):
                await self._window_updated(event.stream_id)
            elif isinstance(event, h2.ConnectionTerminated):
                await self._close()
            else:
                await self._on_control(event)
        await self._flush()

    async def _on_end(self, stream_id: int) -> None:
        if (stream := self.streams.get(stream_id)) is not None:
            await stream.handle(EndBody(stream_id=stream_id))

    async def _on_control(self, event: h2.Event) -> None:
        """Frames that cost the client next to nothing: counted."""
        if isinstance(event, h2.StreamReset):
            await self._close_stream(event.stream_id)
            await self._window_updated(event.stream_id)
            await self._tell_idle()
            well = not event.remote_reset or self._resets.spend()
        else:
            if isinstance(event, h2.RemoteSettingsChanged):
                await self._window_updated(None)
            well = isinstance(event, h2.TrailersReceived) or self._controls.spend()
        if not well:
            await self._give_up(ErrorCodes.ENHANCE_YOUR_CALM)

    async def _on_data(self, event: h2.DataReceived) -> None:
        stream = self.streams.get(event.stream_id)
        read = len(event.data) if stream is not None else 0
        if stream is not None and event.data:
            await stream.handle(Body(stream_id=event.stream_id, data=event.data))
        elif not event.data and event.stream_ended is None and not self._controls.spend():
            await self._give_up(ErrorCodes.ENHANCE_YOUR_CALM)
        if event.flow_controlled_length > read:  # padding, and what nobody will read
            await self._acknowledge(event.stream_id, event.flow_controlled_length - read)

    async def _acknowledge(self, stream_id: int, length: int) -> None:
        """Let as much more come as the application has read."""
        if length and not self.closed:
            try:
                self.connection.acknowledge_received_data(length, stream_id)
            except ProtocolError:
                return  # the connection is over
            await self._flush()

    async def _begin(self, event: h2.RequestReceived) -> None:
        stream_id = event.stream_id
        if self.context.terminated.is_set() or len(self._at_work) >= 2 * self._limits.streams:
            # The second: handlers that go on although their streams were reset.
            with suppress(ProtocolError):  # the client has reset it itself
                self.connection.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            if not self._resets.spend():
                await self._give_up(ErrorCodes.ENHANCE_YOUR_CALM)
            return
        method = next(value for name, value in event.headers if name == b":method").decode("latin-1")
        headers = filter_pseudo_headers(event.headers)
        judge = partial(judge_pseudo, event.headers, method, headers, ended=event.stream_ended is not None)
        app, target = whom_to_ask(self._app, judge, close=False)
        if app is self._app:
            app = self._overload.guard(app, method, target, headers)
        expects = any(name == b"expect" for name, _ in headers)
        messages = Messages(
            sys.maxsize,  # the stream's window bounds it
            partial(self._let_come, stream_id) if expects else None,
            partial(self._acknowledge, stream_id),
        )
        caller = self._callers[stream_id] = Caller(self._tasks, messages)
        self.streams[stream_id] = Stream(
            app, self.config, self.context, caller, self.ssl, self.client, self.server, self.stream_send, stream_id  # type: ignore[arg-type]
        )  # fmt: skip
        self.stream_buffers[stream_id] = StreamBuffer(self.context.event_class)
        self.priority.insert_stream(stream_id)
        self.priority.block(stream_id)
        await self.send(Updated(idle=False))
        await self.streams[stream_id].handle(
            Request(
                stream_id=stream_id, headers=headers, http_version="2", method=method, raw_path=target,
                state=self.connection_state,
            )
        )  # fmt: skip
        if caller.task is not None:
            self._at_work.add(caller.task)
            caller.task.add_done_callback(self._at_work.discard)

    async def _let_come(self, stream_id: int) -> None:
        """100, now that the application reads."""
        try:
            self.connection.send_headers(stream_id, [(b":status", b"100")])
        except ProtocolError:
            return  # it is over already
        await self._flush()

    @override
    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, Response):
            await self._answer(event)
        elif isinstance(event, StreamClosed):
            await self._close_stream(event.stream_id)
            await self._tell_idle()
        else:
            await super().stream_send(event)

    async def _answer(self, event: Response) -> None:
        headers = [pair for pair in with_ours(event.headers, self._alt_svc) if pair[0].lower() not in OF_THE_CONNECTION]
        try:
            self.connection.send_headers(event.stream_id, [(b":status", b"%d" % event.status_code), *headers])
        except ProtocolError:
            return  # the stream is over
        await self._flush()
        if (b"connection", b"close") in event.headers:
            self._leaving = True

    @override
    async def _send_data(self, stream_id: int) -> None:
        with suppress(KeyError):  # the stream was closed while what it sent was flushed
            await super()._send_data(stream_id)
        if stream_id not in self.stream_buffers and stream_id not in self.streams:
            await self._end(stream_id)

    @override
    async def _close_stream(self, stream_id: int) -> None:
        await super()._close_stream(stream_id)
        caller = self._callers.pop(stream_id, None)
        if caller is None:
            return
        await self._acknowledge(stream_id, caller.messages.drop())
        buffer = self.stream_buffers.get(stream_id)
        if buffer is not None and not buffer._complete:  # the application ended before its answer
            await buffer.close()
            del self.stream_buffers[stream_id]
            self.priority.remove_stream(stream_id)
            buffer = None
        if buffer is None:
            await self._end(stream_id)

    async def _end(self, stream_id: int) -> None:
        """Reset a stream that is not over yet: its answer was cut, or came before the end of its request."""
        stream = self.connection.streams.get(stream_id)
        if stream is None or not stream.open or self.closed:
            return
        answered = stream.state_machine.state is StreamState.HALF_CLOSED_LOCAL
        try:
            self.connection.reset_stream(stream_id, ErrorCodes.NO_ERROR if answered else ErrorCodes.INTERNAL_ERROR)
        except ProtocolError:
            return  # the connection is over
        await self._flush()

    async def _tell_idle(self) -> None:
        if self.closed:
            return
        if self.idle and (self._leaving or self.context.terminated.is_set()):
            await self._give_up(ErrorCodes.NO_ERROR)
        else:
            await self.send(Updated(idle=self.idle))

    async def _give_up(self, code: ErrorCodes) -> None:
        with suppress(ProtocolError):  # it is closed
            self.connection.close_connection(code)
        await self._flush()
        await self._close()

    async def _close(self) -> None:
        await self.handle(Closed())
        await self.send(Closed())
