"""Schedules as people and programs see them: aware datetimes, plain values, what comes next.

Made of the ledger's entries for authors, the admin API and the command line. Pure but for the zone database.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from runtime.base.schedules import Missed
from runtime.declare.timing.calendar import Timing, instant_of, is_known, next_fires
from runtime.declare.timing.zones import Shift
from runtime.declare.triggers import Overlap
from runtime.ledger.schedules.records import Definition, Entry, Override, Source

_TICK = re.compile(r"tick-[0-9a-f]{12}-(\d{1,15})")


class Fire(msgspec.Struct, frozen=True):
    """One time at which a schedule fires. at: aware, UTC. local: the same in the schedule's zone.

    shift: the clock's change moves it. gap: the time that the rule names is not there that day, so it fires at the end
    of the gap. fold: that time is there twice, and it fires at the first.
    """

    at: datetime
    local: datetime
    shift: Shift = ""


class Change(msgspec.Struct, frozen=True):
    """What was changed at run time: as it is declared, and as it is now."""

    declared: Any
    now: Any


class Skipped(msgspec.Struct, frozen=True):
    """Ticks that were not run, the last of them planned at that time: too late, or others still ran."""

    planned_at: datetime
    count: int
    why: Literal["missed", "overlap"]


class ScheduleView(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it is now. Times are aware, UTC.

    rule: as its kind's decorator takes it, "0 6 * * mon-fri" or "15m". timeout_seconds: None for the function's own.
    overrides: what was changed at run time. registered: a scheduler knows it, or did. last_planned_at: of the latest
    tick that was run; last_run: that run's id. open: runs that are not finished; waiting: those of them that wait for
    others. runs, missed_count, overlapped_count: ticks so far. next: none while it is paused. skips: the latest, newest
    first, only where one schedule is asked for.
    """

    id: str
    function: str
    kind: Literal["cron", "interval", "at"]
    rule: str
    timezone: str
    source: Source
    place: str
    payload: dict[str, Any]
    missed: Missed
    overlap: Overlap
    jitter_seconds: float
    window_seconds: float
    timeout_seconds: float | None
    paused: bool
    overrides: Mapping[str, Change]
    registered: bool
    last_planned_at: datetime | None
    last_run: str | None
    last_success_at: datetime | None
    open: int
    waiting: int
    runs: int
    missed_count: int
    overlapped_count: int
    next: tuple[Fire, ...] = ()
    skips: tuple[Skipped, ...] = ()


class Backfilled(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a backfill. ticks: of that range, first to last. new: runs; known: ticks that had one."""

    id: str
    ticks: int
    new: int
    known: int
    first: datetime | None
    last: datetime | None


class Known(msgspec.Struct, frozen=True):
    """A schedule that is known: to the store, or only (not registered) to this process, whose functions declare it."""

    entry: Entry
    registered: bool = True

    @property
    def id(self) -> str:
        """Its id."""
        return self.entry.definition.id

    def view(self, now_seconds: float, fires: int) -> ScheduleView:
        """It as people see it, with so many of its next fires."""
        entry, now = self.entry, self.entry.effective
        planned = _TICK.fullmatch(entry.last_run)
        return ScheduleView(
            id=now.id,
            function=now.function,
            kind=now.timing.kind,
            rule=str(now.timing),
            timezone=now.timing.tz,
            source=now.source,
            place=now.place,
            payload=msgspec.json.decode(now.payload),
            missed=now.missed,
            overlap=now.overlap,
            jitter_seconds=now.jitter_ms / 1000,
            window_seconds=now.window_ms / 1000,
            timeout_seconds=now.timeout_ms / 1000 or None,
            paused=entry.paused,
            overrides=_overrides(entry.definition, entry.override),
            registered=self.registered,
            last_planned_at=instant_of(int(planned[1])) if planned else None,
            last_run=entry.last_run or None,
            last_success_at=instant_of(entry.success_ms) if entry.success_ms else None,
            open=entry.open,
            waiting=entry.waiting,
            runs=entry.runs,
            missed_count=entry.missed,
            overlapped_count=entry.overlapped,
            next=() if entry.paused else coming(now.timing, max(now_seconds, entry.last_ms / 1000), fires),
            skips=tuple(Skipped(instant_of(one.planned_ms), one.count, one.why) for one in entry.skips),
        )


def coming(timing: Timing, after_seconds: float, count: int) -> tuple[Fire, ...]:
    """The next fires of a timing."""
    if count < 1 or not is_known(timing):
        return ()
    zone = ZoneInfo(timing.tz)
    found = next_fires(timing, datetime.fromtimestamp(after_seconds, UTC), count)
    return tuple(Fire(at := instant_of(due.at_ms), at.astimezone(zone), due.shift) for due in found)


def _overrides(declared: Definition, override: Override) -> dict[str, Change]:
    """What was changed, under the names that a view has for it."""
    found: dict[str, Change] = {}
    if override.payload is not None:
        found["payload"] = Change(msgspec.json.decode(declared.payload), override.payload)
    for name, shown in _SHOWN.items():
        value = getattr(override, name)
        for shown_as, read in shown if value is not None else ():
            before, now = read(getattr(declared, name)), read(value)
            if before != now:
                found[shown_as] = Change(before, now)
    return found


def _same(value: Any) -> Any:
    return value


def _seconds(ms: int) -> float:
    return ms / 1000


def _timezone(timing: Timing) -> str:
    return timing.tz


_Shown = Sequence[tuple[str, Callable[[Any], Any]]]
_SHOWN: Mapping[str, _Shown] = {
    "timing": (("rule", str), ("timezone", _timezone)),
    "missed": (("missed", _same),),
    "overlap": (("overlap", _same),),
    "jitter_ms": (("jitter_seconds", _seconds),),
    "window_ms": (("window_seconds", _seconds),),
}
