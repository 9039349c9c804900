"""Check cron rules, time zones, intervals and queue names when they are written.

Called by the decorators and for what [functions."name"] overrides. Pure but for the zone database.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from cronsim import CronSim, CronSimError

from runtime.base.durations import Duration, parse_duration
from runtime.base.errors import DeclarationError
from runtime.base.schedules import TimeZone
from runtime.declare.policies import checked

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = {
    "second": "from 0 to 59",
    "minute": "from 0 to 59",
    "hour": "from 0 to 23",
    "day-of-month": "from 1 to 31, L or LW",
    "month": "from 1 to 12, or jan to dec",
    "day-of-week": "from 0 to 7, both Sunday, or sun to sat",
}
_ORDER = "five fields: minute hour day month weekday, or six with the second first"
_ANY_DAY = datetime(2024, 1, 1, tzinfo=UTC)
_LONGEST_INTERVAL_SECONDS = 366 * 86400.0


def check_rule(rule: Any) -> str:
    """A cron rule in plain fields. DeclarationError for one that is wrong, in a wrong order or never fires."""
    check = _checked if isinstance(rule, str) else _checked.__wrapped__
    return check(rule)


@lru_cache(maxsize=10_000)  # thousands of schedules have few rules
def _checked(rule: Any) -> str:
    given = " ".join(str(rule).split())
    fields = _ALIASES.get(given.lower(), given)
    if fields.startswith("@"):
        fix = f'; write @interval("{fields[7:]}")' if fields.startswith("@every ") else ""
        raise DeclarationError(f"@cron({rule!r}): no such alias; there are {', '.join(_ALIASES)}{fix}")
    fault = _fault_of(fields)
    if fault is not None:
        raise DeclarationError(f"@cron({rule!r}): {_explained(fault, fields.split())}; {_ORDER}")
    # From a fixed day on: whether a rule is one does not depend on when it is loaded.
    if next(CronSim(fields, _ANY_DAY), None) is None:
        raise DeclarationError(f"@cron({rule!r}): no date ever fits this rule")
    return fields


def _fault_of(fields: str) -> str | None:
    try:
        CronSim(fields, _ANY_DAY)
    except CronSimError as error:
        return str(error)
    except ValueError:  # a number of thousands of digits
        return "a number that is too long"
    return None


def _explained(fault: str, fields: list[str]) -> str:
    """What is wrong with a rule, by what cronsim says of it."""
    name = fault.removeprefix("Bad ")
    if name not in _FIELDS or len(fields) not in (5, 6):
        return fault if len(fields) in (5, 6) else f"{len(fields)} field(s)"
    if len(fields) == 6 and _fault_of(" ".join([fields[-1], *fields[:-1]])) is None:  # noqa: PLR2004
        return f'bad {name}; the second stands first, write "{" ".join([fields[-1], *fields[:-1]])}"'
    text = fields[list(_FIELDS).index(name) - 6 + len(fields)]
    if name == "day-of-month" and _fault_of(f"0 0 {text} * *") is None:
        return f"no month {fields[-2]} has a day {text}"
    return f"bad {name} {text!r} ({_FIELDS[name]})"


def check_zone(name: str) -> str:
    """An IANA time zone. DeclarationError if unknown."""
    try:
        return str(TimeZone.parse(name))
    except ValueError as error:
        raise DeclarationError(str(error)) from None


def check_interval(every: Duration) -> float:
    """Seconds between two ticks: from one second to a year. DeclarationError otherwise."""
    every_seconds = checked("interval", "every", parse_duration, every)
    if not 1 <= every_seconds <= _LONGEST_INTERVAL_SECONDS:
        raise DeclarationError(f"@interval({every!r}): from 1 second to 366 days")
    return every_seconds


def check_instant(when: Any) -> datetime:
    """The instant of an ISO 8601 date with an offset, or of an aware datetime, in UTC. DeclarationError otherwise."""
    try:
        found = datetime.fromisoformat(when) if isinstance(when, str) else when
    except ValueError:
        found = None
    if not isinstance(found, datetime) or found.tzinfo is None:
        raise DeclarationError(f'@at({when!r}): a date with an offset, "2030-01-01T02:00:00+00:00" for instance')
    return found.astimezone(UTC)


def check_queue(name: Any) -> str:
    """The name of a queue. DeclarationError for one that has spaces, or is none."""
    if not (isinstance(name, str) and name.isprintable() and name and " " not in name):
        raise DeclarationError(f'@queue({name!r}): a name without spaces, @queue("orders") for instance')
    return name
