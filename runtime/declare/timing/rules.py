"""Check cron rules, time zones, intervals and queue names when they are written.

Called by the decorators and for what [functions."name"] overrides. Pure but for the zone database.
"""

from datetime import UTC, datetime
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
_LONGEST_INTERVAL_SECONDS = 366 * 86400.0


def check_rule(rule: str) -> str:
    """A cron rule in plain fields. DeclarationError for one that is wrong, in a wrong order or never fires."""
    fields = _ALIASES.get(rule, str(rule))
    if fields.startswith("@"):
        raise DeclarationError(f"@cron({rule!r}): no such alias; there are {', '.join(_ALIASES)}")
    try:
        next(CronSim(fields, datetime.now(UTC)))
    except CronSimError as error:
        raise DeclarationError(
            f"@cron({rule!r}): {error}; five fields: minute hour day month weekday, or six with the second first"
        ) from None
    except StopIteration:
        raise DeclarationError(f"@cron({rule!r}): no date ever fits this rule") from None
    return fields


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


def check_queue(name: Any) -> str:
    """The name of a queue. DeclarationError for one that has spaces, or is none."""
    if not (isinstance(name, str) and name.isprintable() and name and " " not in name):
        raise DeclarationError(f'@queue({name!r}): a name without spaces, @queue("orders") for instance')
    return name
