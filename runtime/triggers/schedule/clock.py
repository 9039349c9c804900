"""The store's clock as a scheduler knows it: measured each second, counted on by the process's monotonic clock.

Made by the scheduler. The machine's time of day is never trusted: it may be off by a day, or jump.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo

from typing_extensions import override

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - made aware where it is used
_MS = timedelta(milliseconds=1)
_NO_TIME = timedelta(0)
_DRIFT_MS = 0.5
"""What the monotonic clock may gain on the store's from one measurement to the next."""


class Clock:
    """What the store's clock says now. monotonic: seconds since whenever."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._ahead_ms: float | None = None
        """Of the monotonic clock."""

    @property
    def is_set(self) -> bool:
        """Whether it was ever measured."""
        return self._ahead_ms is not None

    def begin(self) -> float:
        """To be called before the store is asked, and its answer to be given to `measure`."""
        return self._monotonic()

    def measure(self, began: float, now_ms: int) -> None:
        """The store's clock said so (whole ms, cut off) at some moment between `began` and now.

        That leaves a span for how far it is ahead; what we have is moved into it, and no further. So a slow answer, or
        a process that was stopped meanwhile, disturbs nothing, and a jump of the store's clock is followed at once. It
        begins with the least, and tends to it: rather late by what an answer takes than early, when the store would
        have ticks wait.
        """
        least = now_ms - self._monotonic() * 1000
        most = now_ms + 1 - began * 1000
        self._ahead_ms = least if self._ahead_ms is None else min(max(self._ahead_ms - _DRIFT_MS, least), most)

    def now_ms(self) -> float:
        """Ms since the epoch by the store's clock; of the machine's own until it was measured."""
        if self._ahead_ms is None:
            return time.time() * 1000
        return self._monotonic() * 1000 + self._ahead_ms


class StoreZone(tzinfo):
    """UTC by the store's clock, for APScheduler, which asks the machine for the time in its own time zone.

    `datetime.now(zone)` has Python turn the machine's UTC into local time by `fromutc`: so the difference of the two
    clocks is put in where others put in their zone's offset.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    @override
    def fromutc(self, when: datetime) -> datetime:
        return when + timedelta(milliseconds=self._clock.now_ms() - time.time() * 1000)

    @override
    def utcoffset(self, when: datetime | None) -> timedelta:
        return _NO_TIME

    @override
    def dst(self, when: datetime | None) -> timedelta:
        return _NO_TIME

    @override
    def tzname(self, when: datetime | None) -> str:
        return "store"

    def at(self, ms: int) -> datetime:
        """That instant, as a time in this zone."""
        return _EPOCH.replace(tzinfo=self) + timedelta(milliseconds=ms)

    def ms_of(self, when: datetime) -> float:
        """An instant in this zone, in ms since the epoch."""
        return (when.replace(tzinfo=None) - _EPOCH) / _MS
