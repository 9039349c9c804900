"""A scheduler, step by step: what tests of the faces need of one."""

from runtime.ledger.desk import Desk
from runtime.ledger.schedules.book import Book
from runtime.ledger.schedules.definitions import definitions_of, digest_of, tick_id
from runtime.ledger.schedules.records import Entry, Firing


class Scheduler:
    """It registers what the desk's functions declare, and fires what it is told to."""

    def __init__(self, desk: Desk, name: str = "tester") -> None:
        assert desk.registry is not None
        self.desk, self.name, self.book = desk, name, Book(desk.ledger)
        definitions = definitions_of(desk.registry().whole(), desk.settings)
        self.digest = digest_of(definitions)
        if self.register().missing:
            desk.ask_sync(self.book.upload(self.digest, definitions, complete=True))
            assert self.register().firing

    def register(self):
        return self.desk.ask_sync(self.book.register(self.name, self.digest, 0))

    def entry(self, schedule: str) -> Entry:
        entry = self.desk.ask_sync(self.book.show([schedule]))[0]
        assert entry is not None
        return entry

    def fire(self, schedule: str, *planned_ms: int, missed: int = 0) -> list[str]:
        """Have these ticks run, the last of them the latest there is; the ids of their runs."""
        self.register()  # the clock may have moved on
        entry = self.entry(schedule)
        firing = Firing(
            definition=entry.effective,
            last_ms=entry.last_ms,
            until_ms=max(planned_ms),
            planned=planned_ms,
            jitters_ms=(0,) * len(planned_ms),
            missed_before=(missed, *(0,) * (len(planned_ms) - 1)),
        )
        fired = self.desk.ask_sync(self.book.fire(self.name, self.digest, [firing]))
        assert fired is not None
        assert fired[0].verdict == "fired"
        return [tick_id(schedule, one) for one in planned_ms]
