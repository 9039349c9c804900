"""What clocks show, asked of zoneinfo minute by minute: slow and plain, beside the calendar's tables."""

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)


def wall_at(zone: str, instant: datetime) -> datetime:
    """What a clock in that zone shows, without a zone."""
    return instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)


def offset_at(zone: str, instant: datetime) -> timedelta:
    return wall_at(zone, instant) - instant.replace(tzinfo=None)


@cache
def changes_of(zone: str, first_year: int, last_year: int) -> tuple[datetime, ...]:
    """The first minutes with another offset. In these years no zone changes twice in four days."""
    found = []
    at, end = datetime(first_year, 1, 1, tzinfo=UTC), datetime(last_year + 1, 1, 1, tzinfo=UTC)
    while at < end:
        following = at + timedelta(days=4)
        low, high = at, following
        if offset_at(zone, low) != offset_at(zone, high):
            while high - low > MINUTE:
                middle = low + (high - low) // MINUTE // 2 * MINUTE
                low, high = (middle, high) if offset_at(zone, middle) == offset_at(zone, at) else (low, middle)
            found.append(high)
        at = following
    return tuple(found)


class Clocks:
    """Each minute from one instant to another, and what clocks show then."""

    def __init__(self, zone: str, begin: datetime, end: datetime) -> None:
        minutes = [begin + n * MINUTE for n in range((end - begin) // MINUTE + 1)]
        self.shown = [(instant, wall_at(zone, instant)) for instant in minutes]
        self.passes: dict[datetime, list[datetime]] = {}
        for instant, wall in self.shown:
            self.passes.setdefault(wall, []).append(instant)

    def named(self, wall: datetime) -> tuple[datetime, str]:
        """When a rule that names this wall time fires: at the first pass of a fold, else at the end of a gap."""
        passes = self.passes.get(wall)
        if passes:
            return passes[0], "fold" if len(passes) > 1 else ""
        pairs = zip(self.shown, self.shown[1:], strict=False)
        return next(later for (_, before), (later, after) in pairs if before < wall < after), "gap"
