"""What `schedules.add(...)` and `schedules.set(...)` take, checked before anything is changed.

Used by acts, for authors, the admin API and the command line alike. Pure but for the zone database.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, TypedDict, get_args
from zoneinfo import ZoneInfo

import msgspec

from runtime.base.durations import Duration, parse_duration
from runtime.base.errors import DeclarationError, ScheduleError, did_you_mean
from runtime.base.schedules import SCHEDULE_ID, Jitter, Missed
from runtime.base.schedules import Overlap as OverlapText
from runtime.declare.timing.calendar import Timing
from runtime.declare.timing.rules import check_instant, check_interval, check_rule, check_zone
from runtime.declare.triggers import Overlap
from runtime.ledger.schedules.records import Definition

_RULES = ("cron", "interval", "at")
_EPOCH_YEAR = 1970


class Changes(TypedDict, total=False):
    """What may be changed of a schedule; what is None, or not said, stays.

    cron, interval, at: one of them at most, as the decorators take it. tz: of cron. payload: arguments by name. The
    others as in the decorators.
    """

    cron: str | None
    interval: Duration | None
    at: str | datetime | None
    tz: str | None
    payload: Mapping[str, Any] | None
    missed: Missed | None
    overlap: Overlap | None
    jitter: Duration | None
    window: Duration | None


class Added(Changes, total=False):
    """What a schedule may be; what is not said is as [schedule] in functions.toml says. timeout: of its runs."""

    timeout: Duration | None


class Asked:
    """The options of one call, read one by one; each fault is a ScheduleError that names the call and the option."""

    def __init__(self, call: str, said: Mapping[str, Any], known: type[Changes] = Changes) -> None:
        self._call = call
        self.said = {name: value for name, value in said.items() if value is not None}
        names = tuple(known.__annotations__)
        for name in self.said:
            if name not in names:
                hint = did_you_mean(name, names) or f"; there are: {', '.join(names)}"
                raise self.wrong(name, f"there is no such option{hint}")

    def wrong(self, option: str, detail: str) -> ScheduleError:
        """What to raise for an option."""
        value = f"={self.said[option]!r}" if option in self.said else ""
        return ScheduleError(f"schedules.{self._call}({option}{value}): {detail}", option=option, detail=detail)

    def timing(self, before: Timing | None, timezone: str) -> Timing | None:
        """When it fires; None if nothing is said of that. before: when it did so far. timezone: where none is said."""
        rules = [name for name in _RULES if name in self.said]
        if len(rules) > 1:
            raise self.wrong(rules[1], f"{' and '.join(rules)} both say when; write one of them")
        if not rules:
            return self._moved(before)
        [kind] = rules
        if kind != "cron" and "tz" in self.said:
            raise self.wrong("tz", f"it is for cron; {_ZONELESS[kind]}")
        if kind == "interval":
            return Timing(every_ms=round(1000 * self._read("interval", check_interval)))
        if kind == "at":
            return Timing(at_ms=round(1000 * self._read("at", check_instant).timestamp()))
        zone = before.tz if before is not None and before.cron else timezone
        return Timing(
            cron=self._read("cron", check_rule), tz=self._read("tz", check_zone) if "tz" in self.said else zone
        )

    def _moved(self, before: Timing | None) -> Timing | None:
        """The rule there is, in another zone."""
        if "tz" not in self.said:
            return None
        zone = self._read("tz", check_zone)
        if before is None or not before.cron:
            raise self.wrong("tz", "it is for cron, and there is no cron rule; say one as well")
        return msgspec.structs.replace(before, tz=zone)

    def plain(self) -> dict[str, Any]:
        """All but when it fires and its payload, under the names of a Definition."""
        return {field: self._read(name, read) for name, (field, read) in _READERS.items() if name in self.said}

    def _read(self, name: str, read: Callable[[Any], Any]) -> Any:
        value = self.said[name]
        try:
            return read(value)
        except (ValueError, TypeError, OverflowError, DeclarationError) as error:
            raise self.wrong(name, str(error).removeprefix(f"@{name}({value!r}): ")) from None


def check_id(call: str, schedule: Any) -> str:
    """An id for a schedule that is added. ScheduleError."""
    if not (isinstance(schedule, str) and SCHEDULE_ID.fullmatch(schedule)) or schedule in (".", ".."):
        detail = "1 to 100 of A-Z a-z 0-9 _ . : -"
        raise ScheduleError(f"schedules.{call}(id={schedule!r}): {detail}", option="id", detail=detail)
    return schedule


def instant_ms(option: str, value: Any, definition: Definition) -> int:
    """A time that a caller names, in ms: what has no offset is the time on the clocks of the schedule's zone.

    ScheduleError. value: ISO 8601, a date alone too; a datetime; a date.
    """
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        when = None
    if isinstance(when, date) and not isinstance(when, datetime):
        when = datetime.combine(when, time())
    if not isinstance(when, datetime):
        detail = 'a date, or a date and time, "2026-11-22" or "2026-11-22T10:00:00+01:00" for instance'
        raise ScheduleError(f"schedules.backfill({option}={value!r}): {detail}", option=option, detail=detail)
    if when.year < _EPOCH_YEAR:
        detail = f"it is before {_EPOCH_YEAR}"
        raise ScheduleError(f"schedules.backfill({option}={value!r}): {detail}", option=option, detail=detail)
    if when.tzinfo is None:
        when = when.replace(tzinfo=ZoneInfo(definition.timing.tz))
    return round(when.timestamp() * 1000)


_ZONELESS = {"interval": "an interval is counted from the epoch, in no zone", "at": "a date has its own offset"}


def _one_of(words: Sequence[str]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if value not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return value

    return read


def _ms(value: Any) -> int:
    return round(parse_duration(value) * 1000)


_READERS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "missed": ("missed", _one_of(get_args(Missed))),
    "overlap": ("overlap", lambda value: OverlapText.parse(value).value),
    "jitter": ("jitter_ms", lambda value: round(1000 * Jitter.parse(value))),
    "window": ("window_ms", _ms),
    "timeout": ("timeout_ms", _ms),
}
