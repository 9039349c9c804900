"""What came over one connection and nobody has read yet; what goes out, and whether the client takes it.

Made by connection for each of its kind. Know nothing of what the bytes mean.
"""

import asyncio
import os
import socket
import struct
from typing import Any

from runtime.triggers.http.wire.requests import Ends, Limits

_INBOX_BYTES = 65_536
_FULL_BYTES = 16_384
_JOINED_BYTES = 16_384
"""What is longer is not copied in order to be sent together."""


class Inbox:
    """What came, in `parts`. The client waits while it is too much. True while there is something in it."""

    __slots__ = ("_size", "_transport", "parts")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.parts: list[bytes] = []
        self._size = 0
        self._transport = transport

    def __bool__(self) -> bool:
        return bool(self.parts)

    def put(self, data: bytes) -> None:
        """Keep this."""
        self.parts.append(data)
        self._size += len(data)
        if self._size > _INBOX_BYTES:
            self._transport.pause_reading()

    def take(self) -> bytes:
        """All that is there."""
        data = self.peek()
        self.drop()
        return data

    def peek(self) -> bytes:
        """The same, which stays there."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)

    def drop(self) -> None:
        """Forget it."""
        self.parts.clear()
        if self._size > _INBOX_BYTES:
            self._transport.resume_reading()
        self._size = 0

    def let_come(self, *, more: bool) -> None:
        """Read on, unless it is full; or read no more, for what is not put here."""
        if not more:
            self._transport.pause_reading()
        elif self._size <= _INBOX_BYTES:
            self._transport.resume_reading()


class Outbox:
    """What is said, at once or a turn's worth together.

    blocked: the client does not read. lost: there is nobody to send to.
    """

    __slots__ = ("_drained", "_loop", "_mark", "_parts", "_size", "_transport", "_written", "blocked", "lost")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.blocked = self.lost = False
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self._size = self._written = 0
        self._drained: asyncio.Event | None = None
        self._mark: tuple[float, int] | None = None

    def put(self, data: bytes) -> None:
        """Send this with all else of this turn of the loop: a head and its body are one packet."""
        self._parts.append(data)
        self._size += len(data)
        if self._size >= _FULL_BYTES:
            self.flush()
        elif len(self._parts) == 1:
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send now what was put."""
        if self._parts:
            data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts.clear()
            self._size = 0
            self.write(data)

    def write(self, data: bytes) -> None:
        """Send now."""
        if self._parts:
            self.flush()
        self._written += len(data)
        if not self.lost:
            self._transport.write(data)

    def write_both(self, head: bytes, body: bytes) -> None:
        """Send a head and what follows it, in one packet if they fit into one."""
        if self._parts:
            self.flush()
        self._written += len(head) + len(body)
        if self.lost:
            return
        if len(body) <= _JOINED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    def block(self) -> None:
        """The client does not read, from now on."""
        self.blocked = True
        self._drained = asyncio.Event()

    def unblock(self) -> None:
        """It does again, or never will."""
        self.blocked = False
        if self._drained is not None:
            self._drained.set()

    async def drained(self) -> None:
        """Wait while the client does not read."""
        if self.blocked and self._drained is not None:
            await self._drained.wait()

    def is_stuck(self, now: float, limits: Limits, *, unsent: bool) -> bool:
        """Whether the client takes too little of what waits for it. unsent: a protocol has more."""
        waiting = self._transport.get_write_buffer_size()
        taken = self._written - waiting
        if not waiting and not unsent:
            self._mark = None
        elif self._mark is None:
            self._mark = (now, taken)
        elif now - self._mark[0] >= limits.write_seconds:
            if taken - self._mark[1] < limits.write_bytes:
                return True
            self._mark = (now, taken)
        return False

    def reset(self) -> None:
        """End the connection so that the client's reading fails."""
        real = self._transport.get_extra_info("socket")
        if real is not None and self._transport.get_extra_info("ssl_object") is None:
            with socket.socket(fileno=os.dup(real.fileno())) as same:  # uvloop's own sets no options
                same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()  # over TLS the missing close_notify tells


def ends_of(transport: asyncio.Transport) -> Ends:
    """Both ends of a connection."""
    client, server = (_address(transport.get_extra_info(name)) for name in ("peername", "sockname"))
    secured = transport.get_extra_info("ssl_object") is not None
    return Ends(secured, client, server, client[0] if client else None, "https" if secured else "http")


def _address(name: Any) -> tuple[str, int] | None:
    return (name[0], name[1]) if isinstance(name, tuple) else None
