"""Which ticks are due, which are missed, when the next one is. Pure: no clock, no I/O.

Used by the scheduler and the harness.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from heapq import heappop, heappush

from runtime.declare.timing.calendar import Calendar, calendar_of
from runtime.ledger.schedules.records import Definition, Entry, Fired, Firing

ON_TIME_MS = 10_000
"""A tick that is fired so late is only late; one that is later is missed, and `missed` and `window` decide."""
MOST_RUN = 100
"""Ticks of one schedule that a catch-up runs at most."""
MOST_COUNTED = 10_000
"""Missed ticks that are counted at most."""

_NONE = (0,)
"""Of one tick."""


class _Line:
    """A schedule. last_ms: up to when its ticks are decided. next_ms: the first one after that; None: there is none."""

    __slots__ = ("calendar", "definition", "last_ms", "next_ms")

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.calendar: Calendar = calendar_of(definition.timing)
        self.last_ms = 0
        self.next_ms: int | None = None

    def go_on(self, last_ms: int) -> None:
        """What is up to then is decided."""
        due = self.calendar.after(last_ms)
        self.last_ms, self.next_ms = last_ms, None if due is None else due.at_ms


class Timetable:
    """The schedules, and when each is due next."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        # The ids of the lines by next_ms, and what was there before: an entry counts only while it is the line's own.
        # Thousands that fire together are one place in the heap of times.
        self._by_time: dict[int, deque[str]] = {}
        self._times: list[int] = []
        self._waiting = 0
        self._due: dict[str, _Line] = {}  # taken off, until it is noted what became of them

    def adopt(self, entries: Iterable[Entry]) -> None:
        """Keep these: new ones, or in place of those of the same ids."""
        for entry in entries:
            line = _Line(entry.effective)
            line.last_ms = entry.last_ms
            if not entry.paused:
                line.go_on(entry.last_ms)
            self._lines[line.definition.id] = line
            self._await(line)

    def drop(self, ids: Iterable[str]) -> None:
        """Keep these no longer."""
        for one in ids:
            self._lines.pop(one, None)
            self._due.pop(one, None)

    def _await(self, line: _Line) -> None:
        self._due.pop(line.definition.id, None)
        if self._waiting > 2 * len(self._lines) + 1000:
            self._by_time, self._times, self._waiting = {}, [], 0
            for one in self._lines.values():
                if one is not line and one.definition.id not in self._due:
                    self._put(one)
        self._put(line)

    def _put(self, line: _Line) -> None:
        if line.next_ms is None:
            return
        names = self._by_time.get(line.next_ms)
        if names is None:
            names = self._by_time[line.next_ms] = deque()
            heappush(self._times, line.next_ms)
        names.append(line.definition.id)
        self._waiting += 1

    def _top(self) -> _Line | None:
        """The line whose tick is the next of those that wait."""
        while self._times:
            next_ms = self._times[0]
            names = self._by_time[next_ms]
            while names:
                line = self._lines.get(names[0])
                if line is not None and line.next_ms == next_ms and names[0] not in self._due:
                    return line
                names.popleft()
                self._waiting -= 1
            del self._by_time[next_ms]
            heappop(self._times)
        return None

    def next_ms(self) -> int | None:
        """When the next tick of all is due; None for never."""
        top = self._top()
        times = [line.next_ms for line in (*self._due.values(), top) if line is not None and line.next_ms is not None]
        return min(times, default=None)

    def due(self, now_ms: int) -> Iterator[Firing]:
        """What is due by now, most overdue first; what was told before without a `note` comes before all else.

        Each is made only when it is asked for; of those before, `note` may have been called by then.
        """
        again = [line for line in self._due.values() if (line.next_ms or 0) <= now_ms]
        for line in sorted(again, key=lambda line: line.next_ms or 0):
            yield _firing(line, now_ms)
        while (top := self._top()) is not None and (top.next_ms or 0) <= now_ms:
            self._due[top.definition.id] = top
            self._by_time[top.next_ms or 0].popleft()
            self._waiting -= 1
            yield _firing(top, now_ms)

    def note(self, firing: Firing, fired: Fired) -> None:
        """What became of a firing."""
        line = self._lines.get(firing.definition.id)
        if line is None:
            return
        if fired.verdict == "gone":
            self.drop([firing.definition.id])
        elif fired.verdict == "paused":
            line.last_ms, line.next_ms = fired.last_ms, None
            self._await(line)
        else:
            line.go_on(fired.last_ms)
            self._await(line)


def _firing(line: _Line, now_ms: int) -> Firing:
    definition = line.definition
    first = line.next_ms or 0
    following = line.calendar.after(first)
    if following is None or following.at_ms > now_ms:
        ticks: Sequence[int] = (first,)
        if first >= now_ms - ON_TIME_MS and not definition.jitter_ms:  # as most are
            return Firing(
                definition=definition,
                last_ms=line.last_ms,
                until_ms=first,
                planned=(first,),
                jitters_ms=_NONE,
                missed_before=_NONE,
            )
    else:
        ticks = line.calendar.latest(line.last_ms, now_ms, MOST_COUNTED)
    planned = tuple(ticks[_missed(ticks, definition, now_ms) :])
    missed = len(ticks) - len(planned)
    longest = definition.jitter_ms
    return Firing(
        definition=definition,
        last_ms=line.last_ms,
        until_ms=ticks[-1],
        planned=planned,
        jitters_ms=tuple([jitter_ms(definition.id, one, longest) if longest else 0 for one in planned]),
        missed_before=(missed, *(0,) * (len(planned) - 1)) if planned else (),
        missed_after=0 if planned else missed,
    )


def _missed(ticks: Sequence[int], definition: Definition, now_ms: int) -> int:
    """How many of the ticks, from the oldest on, are missed and not run: those that are run are always the newest."""
    on_time = bisect_left(ticks, now_ms - ON_TIME_MS)
    if definition.missed == "skip" or (definition.missed == "latest" and on_time < len(ticks)):
        return on_time
    within = min(on_time, bisect_left(ticks, now_ms - definition.window_ms))
    most = 1 if definition.missed == "latest" else MOST_RUN
    return max(within, on_time - most)


def jitter_ms(schedule: str, planned_ms: int, longest_ms: int) -> int:
    """From 0 to longest_ms, by a hash of the tick, so that all replicas draw the same."""
    drawn = blake2b(f"{schedule}-{planned_ms}".encode(), digest_size=8).digest()
    return int.from_bytes(drawn, "big") % (longest_ms + 1)
