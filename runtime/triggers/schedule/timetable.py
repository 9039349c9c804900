"""Which ticks are due, which are missed, when the next one is. Pure: no clock, no I/O.

Used by the scheduler and the harness.
"""

from collections.abc import Iterable, Sequence

from runtime.ledger.schedules.records import Entry, Fired, Firing

ON_TIME_MS = 10_000
"""A tick that is fired so late is only late; one that is later is missed, and `missed` and `window` decide."""
MOST_RUN = 100
"""Ticks of one schedule that a catch-up runs at most."""
MOST_COUNTED = 10_000
"""Missed ticks that are counted at most."""


class Timetable:
    """The schedules, and when each is due next."""

    def adopt(self, entries: Iterable[Entry]) -> None:
        """Keep these: new ones, or in place of those of the same ids."""
        raise NotImplementedError

    def drop(self, ids: Iterable[str]) -> None:
        """Keep these no longer."""
        raise NotImplementedError

    def next_ms(self) -> int | None:
        """When the next tick of all is due; None for never."""
        raise NotImplementedError

    def due(self, now_ms: int) -> Sequence[Firing]:
        """What is due by now, most overdue first. Cheap where nothing is. Asked again it says the same until `note`."""
        raise NotImplementedError

    def note(self, firing: Firing, fired: Fired) -> None:
        """What became of a firing."""
        raise NotImplementedError


def jitter_ms(schedule: str, planned_ms: int, longest_ms: int) -> int:
    """From 0 to longest_ms, by a hash of the tick, so that all replicas draw the same."""
    raise NotImplementedError
