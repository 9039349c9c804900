"""What a crew is given: resources, options.

Filled in by working; used by the crew.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from runtime.ledger.lines.keeper import Bounds


class Opens(Protocol):
    """Resources, and what runs in the background beside handlers."""

    async def open(self) -> object:
        """Open them all. StartError."""
        ...

    async def finish(self, idle: Callable[[float], Awaitable[object]], within_seconds: float) -> None:
        """Wait until handlers are idle, and what they began is over."""
        ...

    async def close(self) -> None:
        """Close them. Raises nothing."""
        ...


class Keeps(Protocol):
    """Does something again and again, in a thread of its own."""

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self, within_seconds: float) -> None:
        """End, and wait for that so long."""
        ...


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """worker: its name. queues: "*" for all that functions declare. result_max: bytes. info: JSON, for the ledger.

    cell_command: what starts a zygote, see invoke.isolation. celery_prefix: what the keys of Celery's own clients begin
    with; None: their messages are not taken. payload_max, max_length: of those, as of what is submitted.
    lines: what is kept of a run's log.
    """

    worker: str
    queues: Sequence[str] = ("*",)
    concurrency: int = 100
    beat_seconds: float = 2.0
    result_max: int = 1_000_000
    info: bytes = b"{}"
    cell_command: tuple[str, ...] = ()
    celery_prefix: str | None = None
    payload_max: int = 0
    max_length: int = 0
    lines: Bounds = Bounds()
