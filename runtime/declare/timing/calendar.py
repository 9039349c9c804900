"""The instants that a schedule's rule means, through daylight saving time.

Used by whoever asks for ticks: the scheduler, the harness, lists of what comes. Pure but for the zone database. Instants
are milliseconds since the epoch, UTC.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Literal, Protocol

import msgspec
from typing_extensions import override

Shift = Literal["", "gap", "fold"]


class Timing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a schedule fires: exactly one of cron (a checked rule in plain fields, in the zone tz), every_ms, at_ms."""

    cron: str = ""
    tz: str = "UTC"
    every_ms: int = 0
    at_ms: int = 0

    @property
    def kind(self) -> Literal["cron", "interval", "at"]:
        """As the decorators are called."""
        return "cron" if self.cron else "interval" if self.every_ms else "at"

    @override
    def __str__(self) -> str:
        raise NotImplementedError


class Due(msgspec.Struct, frozen=True):
    """One instant at which a rule fires. shift: it is not where the rule says, for that is in a gap, or there twice."""

    at_ms: int
    shift: Shift = ""


class Calendar(Protocol):
    """The instants of one timing."""

    def after(self, ms: int) -> Due | None:
        """The first one later than that; None if there is none (in the next 50 years)."""
        ...

    def latest(self, after_ms: int, until_ms: int, most: int) -> Sequence[int]:
        """The last `most` of those later than after_ms and not later than until_ms, oldest first. Cost: by `most`."""
        ...


@lru_cache(maxsize=20_000)
def calendar_of(timing: Timing) -> Calendar:
    """The calendar of a timing."""
    raise NotImplementedError


def next_fires(timing: Timing, after: datetime, count: int) -> list[Due]:
    """The next fires of a timing, for people."""
    raise NotImplementedError
