"""Where the offset of a time zone changes, and what its clocks then do: they skip a gap, or show a fold twice.

Called by calendar. Pure but for the zone database. Whole seconds since the epoch; of wall time, as if it were UTC.
"""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal

import msgspec

Shift = Literal["", "gap", "fold"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400
_MARGIN = 400 * _DAY
"""So far beyond what is asked for a table reaches: most that is asked next is then in it."""


class Spans(msgspec.Struct, frozen=True):
    """The offsets of a zone from begin to end: offsets[i] holds from starts[i] (the first: begin) to the next one's.

    peaks: the latest wall time that clocks have shown by the end of each span; that of the last is end's.
    """

    begin: int
    end: int
    starts: tuple[int, ...]
    offsets: tuple[int, ...]
    peaks: tuple[int, ...]

    def at(self, instant: int) -> tuple[int, int, int]:
        """The offset at that instant, and from when until when (exclusive) the table knows it to hold."""
        index = bisect_right(self.starts, instant) - 1
        until = self.starts[index + 1] if index + 1 < len(self.starts) else self.end
        return self.offsets[index], self.starts[index], until

    def shown(self, instant: int) -> int:
        """The latest wall time that they have shown by that instant. It jumps at a gap, and stands still in a fold."""
        index = bisect_right(self.starts, instant) - 1
        wall = instant + self.offsets[index]
        return max(wall, self.peaks[index - 1]) if index else wall

    def first(self, wall: int) -> tuple[int, Shift]:
        """The first instant at which clocks show that wall time or a later one: `shown` grows, so this does, too."""
        index = min(bisect_right(self.peaks, wall), len(self.starts) - 1)
        instant = wall - self.offsets[index]
        if instant < self.starts[index]:
            return self.starts[index], "gap"
        again = index + 1 < len(self.starts) and self.starts[index + 1] + self.offsets[index + 1] <= wall
        return instant, "fold" if again else ""


class Zone:
    """A time zone. Its table grows with what is asked for, and is replaced as a whole: threads may share it."""

    def __init__(self, name: str) -> None:
        from zoneinfo import ZoneInfo  # noqa: PLC0415 - only the zone of a schedule needs it, when its instants are asked for

        self._info = ZoneInfo(name)
        self._spans: Spans | None = None

    def spans(self, first: int, last: int) -> Spans:
        """A table that holds these instants, and all within two days of them."""
        known = self._spans
        begin, end = first - 2 * _DAY, last + 2 * _DAY
        if known is not None and known.begin <= begin and end <= known.end:
            return known
        if known is None:
            changes = [(begin - _MARGIN, self._offset(begin - _MARGIN)), *self._changes(begin - _MARGIN, end + _MARGIN)]
            begin, end = begin - _MARGIN, end + _MARGIN
        else:
            changes = list(zip(known.starts, known.offsets, strict=True))
            begin, end = min(begin - _MARGIN, known.begin), max(end + _MARGIN, known.end)
            if begin < known.begin:
                changes[:1] = [(begin, self._offset(begin)), *self._changes(begin, known.begin)]
            changes += self._changes(known.end, end)
        self._spans = found = _spans_of(changes, end)
        return found

    def _offset(self, instant: int) -> int:
        offset = (_EPOCH + timedelta(seconds=instant)).astimezone(self._info).utcoffset()
        return 0 if offset is None else round(offset.total_seconds())

    def _changes(self, begin: int, end: int) -> list[tuple[int, int]]:
        """(instant, new offset) of each change later than begin and not later than end. ZoneInfo does not tell them.

        Two changes within a day that cancel each other out would be passed over; no zone has had that since 1970.
        """
        found: list[tuple[int, int]] = []
        offset = self._offset(begin)
        low = begin
        while low < end:
            high = min(low + _DAY, end)
            now = self._offset(high)
            if now != offset:
                found.append((self._bisect(low, high, offset), now))
                offset = now
            low = high
        return found

    def _bisect(self, low: int, high: int, offset: int) -> int:
        """The first instant later than low, up to high, whose offset is another."""
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset(middle) == offset:
                low = middle
            else:
                high = middle
        return high


def _spans_of(changes: list[tuple[int, int]], end: int) -> Spans:
    starts = tuple(start for start, _ in changes)
    offsets = tuple(offset for _, offset in changes)
    peaks: list[int] = []
    for until, offset in zip((*starts[1:], end), offsets, strict=True):
        peaks.append(max(until + offset, peaks[-1] if peaks else until + offset))
    return Spans(starts[0], end, starts, offsets, tuple(peaks))


@lru_cache(maxsize=1000)
def zone_of(name: str) -> Zone:
    """The zone of that IANA name, which has been checked."""
    return Zone(name)
