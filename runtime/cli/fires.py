"""When a schedule fires next, as lines for people. Called by the commands that list schedules."""

from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from runtime.declare.timing.calendar import Timing, instant_of, next_fires

_WHY = {
    "": "",
    "gap": "  the clocks skip the time it names",
    "fold": "  the clocks show this time twice; it fires the first time",
}


def fire_line(at: datetime, local: datetime | None, shift: str) -> str:
    """One fire. at: in UTC. local: in the rule's zone, None where that is UTC."""
    shown = f"{local:%a %Y-%m-%d %H:%M:%S%z}" if local else f"{at:%a}"
    return f"{at:%Y-%m-%dT%H:%M:%SZ}  {shown}{_WHY[shift]}"


def fire_lines(timing: Timing, after: datetime, count: int) -> Iterator[str]:
    """The next fires, in UTC and in the rule's zone, and where daylight saving time shifts one."""
    zone = ZoneInfo(timing.tz) if timing.cron and timing.tz != "UTC" else None
    found = next_fires(timing, after, count)
    for due in found:
        at = instant_of(due.at_ms)
        yield fire_line(at, at.astimezone(zone) if zone else None, due.shift)
    if not found:
        yield "never again"
