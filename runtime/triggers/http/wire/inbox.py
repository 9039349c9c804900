"""What came over one connection and nobody has read yet. The client waits while it is too much.

Made by connection for each of its kind.
"""

import asyncio

_FULL_BYTES = 65_536


class Inbox:
    """True while there is something in it, which is `parts`."""

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
        if self._size > _FULL_BYTES:
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
        if self._size > _FULL_BYTES:
            self._transport.resume_reading()
        self._size = 0

    def let_come(self, *, more: bool) -> None:
        """Read on, unless it is full; or read no more, for what is not put here."""
        if not more:
            self._transport.pause_reading()
        elif self._size <= _FULL_BYTES:
            self._transport.resume_reading()
