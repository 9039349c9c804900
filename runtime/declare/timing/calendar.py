"""The instants that a schedule's rule means, through daylight saving time.

Used by whoever asks for ticks: the scheduler, the harness, lists of what comes. Pure but for the zone database.
Instants are milliseconds since the epoch, UTC.

cronsim reads the rules and walks wall time without a zone, so that none of its own treatment of daylight saving time is
at work; what that wall time means is decided here:

- A rule whose hour field begins with `*` follows real time: it fires whenever clocks show a time it names, so never in
  a gap, and twice in a fold.
- A rule that names its hours fires once for each time it names: at the first instant at which clocks show that time or
  a later one. That is the end of a gap (once, however many times were in it), and the first pass of a fold.
"""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from copy import copy
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Literal, Protocol

import msgspec
from cronsim import CronSim, CronSimError
from typing_extensions import override

from runtime.base.durations import Seconds
from runtime.declare.timing.zones import Shift, zone_of

_WALL_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall time has no zone
_SECOND = timedelta(seconds=1)


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
        """The rule as the decorator of that kind takes it: "0 6 * * mon-fri", "15m", "2030-01-01T02:00:00+00:00"."""
        if self.cron:
            return self.cron
        if self.every_ms:
            return str(Seconds(self.every_ms / 1000))
        return instant_of(self.at_ms).isoformat()


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


class _At:
    """Once."""

    def __init__(self, at_ms: int) -> None:
        self._due = Due(at_ms)

    def after(self, ms: int) -> Due | None:
        return self._due if self._due.at_ms > ms else None

    def latest(self, after_ms: int, until_ms: int, most: int) -> Sequence[int]:
        at_ms = self._due.at_ms
        return (at_ms,) if after_ms < at_ms <= until_ms and most > 0 else ()


class _Interval:
    """Every so many milliseconds, counted from the epoch."""

    def __init__(self, every_ms: int) -> None:
        self._every_ms = every_ms

    def after(self, ms: int) -> Due | None:
        return Due((ms // self._every_ms + 1) * self._every_ms)

    def latest(self, after_ms: int, until_ms: int, most: int) -> Sequence[int]:
        every, last = self._every_ms, until_ms // self._every_ms
        first = max(after_ms // every, last - max(most, 0)) + 1
        return range(first * every, (last + 1) * every, every)


class _Seen(msgspec.Struct, frozen=True):
    """All instants later than after_ms up to until_ms, oldest first."""

    after_ms: int
    until_ms: int
    found: tuple[int, ...]


class _Cron(ABC):
    """What both kinds of cron rules share: many schedules have one rule and ask the same, so the last answers are kept.

    Each is replaced as a whole: threads may share a calendar.
    """

    def __init__(self, rule: str, tz: str) -> None:
        self._rule = CronSim(rule, _WALL_EPOCH)
        self._zone = zone_of(tz)
        self._next = (0, Due(0))  # a due, and from when on it is the next
        self._seen = _Seen(0, 0, ())

    def after(self, ms: int) -> Due | None:
        since_ms, due = self._next
        if since_ms <= ms < due.at_ms:
            return due
        found = self._first(ms // 1000)
        if found is not None:
            self._next = (ms, found)
        return found

    def latest(self, after_ms: int, until_ms: int, most: int) -> Sequence[int]:
        if most <= 0 or until_ms <= after_ms:
            return ()
        seen = self._seen
        if seen.until_ms != until_ms or (seen.after_ms > after_ms and len(seen.found) < most):
            downwards = islice(self._down(after_ms // 1000, until_ms // 1000), most)
            found = tuple(1000 * instant for instant in downwards)[::-1]
            since_ms = found[0] - 1 if len(found) == most else after_ms
            self._seen = seen = _Seen(since_ms, until_ms, found)
        first = bisect_right(seen.found, after_ms)
        return seen.found[max(first, len(seen.found) - most) :]

    def _walls(self, wall: int, direction: Literal[1, -1]) -> Iterator[int]:
        """Wall times that the rule names, from that one on (exclusive), forwards or backwards, for up to 50 years."""
        walk = copy(self._rule)
        walk.dt = _WALL_EPOCH + timedelta(seconds=wall)
        walk.tick_direction = direction
        for found in walk:
            yield (found - _WALL_EPOCH) // _SECOND

    @abstractmethod
    def _first(self, after: int) -> Due | None:
        """The first instant later than that."""

    @abstractmethod
    def _down(self, after: int, until: int) -> Iterator[int]:
        """The instants later than `after` and not later than `until`, in seconds, newest first."""


class _NamedHours(_Cron):
    """A rule that names its hours: each time it names is one instant."""

    @override
    def _first(self, after: int) -> Due | None:
        shown = self._zone.spans(after, after).shown(after)
        wall = next(self._walls(shown, 1), None)
        if wall is None:
            return None
        instant, shift = self._zone.spans(after, wall).first(wall)
        return Due(1000 * instant, shift)

    @override
    def _down(self, after: int, until: int) -> Iterator[int]:
        spans = self._zone.spans(after, until)
        lowest = spans.shown(after)
        walls = self._walls(spans.shown(until) + 1, -1)
        newest = until + 1
        while (wall := next(walls, lowest)) > lowest:
            instant, shift = spans.first(wall)
            if instant < newest:  # the end of a gap may be a time that the rule names, too
                yield instant
            if shift == "gap":  # its other times, and there may be thousands, mean the same instant
                walls = self._walls(spans.shown(instant - 1) + 1, -1)
            newest = instant


class _RealTime(_Cron):
    """A rule for any hour, or each so many: it holds whenever clocks show it."""

    @override
    def _first(self, after: int) -> Due | None:
        low, wall = 0, 0  # between them is no time that the rule names
        while True:
            offset, _, until = self._zone.spans(after, after).at(after + 1)
            if not low <= after + offset < wall:
                low = after + offset
                found = next(self._walls(low, 1), None)
                if found is None:
                    return None
                wall = found
            if wall - offset < until:
                return Due(1000 * (wall - offset))
            after = until - 1

    @override
    def _down(self, after: int, until: int) -> Iterator[int]:
        while until > after:
            offset, since, _ = self._zone.spans(until, until).at(until)
            for wall in self._walls(until + offset + 1, -1):
                if wall - offset <= after or wall - offset < since:
                    break
                yield wall - offset
            until = since - 1


@lru_cache(maxsize=20_000)
def calendar_of(timing: Timing) -> Calendar:
    """The calendar of a timing."""
    if timing.every_ms:
        return _Interval(timing.every_ms)
    if not timing.cron:
        return _At(timing.at_ms)
    follows = timing.cron.split()[-4].startswith("*")  # the hour: the third of six, the second of five
    return (_RealTime if follows else _NamedHours)(timing.cron, timing.tz)


def is_known(timing: Timing) -> bool:
    """Whether this machine can tell when it fires: the one that wrote it may have had a newer zone database, say."""
    try:
        calendar_of(timing)
    except (OSError, ValueError, KeyError, CronSimError):  # ZoneInfoNotFoundError is a KeyError
        return False
    return True


def next_fires(timing: Timing, after: datetime, count: int) -> list[Due]:
    """The next fires of a timing, for people. after: aware."""
    calendar = calendar_of(timing)
    found: list[Due] = []
    due = calendar.after(ms_of(after))
    while due is not None and len(found) < count:
        found.append(due)
        due = calendar.after(due.at_ms)
    return found


def ms_of(instant: datetime) -> int:
    """Milliseconds since the epoch of an aware datetime, rounded down."""
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def instant_of(ms: int) -> datetime:
    """The aware datetime, in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
