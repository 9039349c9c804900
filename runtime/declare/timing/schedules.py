"""A schedule's id and timing, from its trigger.

Called by the loader's checks, the ledger's definitions and lists of what comes. Pure.
"""

from hashlib import sha256

from runtime.base.errors import DeclarationError
from runtime.declare.timing.calendar import Timing, ms_of
from runtime.declare.triggers import At, Cron, Interval, Schedule


def timing_of(trigger: Schedule, zone: str) -> Timing:
    """When a trigger fires. zone: where it does not say."""
    match trigger:
        case Cron():
            return Timing(cron=trigger.rule, tz=str(trigger.tz or zone))  # a plain str, which has JSON
        case Interval():
            return Timing(every_ms=round(trigger.every_seconds * 1000))
        case At():
            return Timing(at_ms=ms_of(trigger.when))
        case _:
            raise DeclarationError(f"@{trigger.kind}: there is no such schedule; there are cron, interval, at")


def schedule_id(function: str, trigger: Schedule, zone: str) -> str:
    """The lasting id of a function's schedule: of its table, its name, or what tells its rule from others."""
    if trigger.id:
        return trigger.id
    if trigger.name:
        return f"{function}:{trigger.name}"
    timing = timing_of(trigger, zone)
    tz = timing.tz if timing.cron else ""
    digest = sha256(" ".join((timing.kind, str(timing), tz)).encode()).hexdigest()
    return f"{function}:{timing.kind}-{digest[:8]}"
