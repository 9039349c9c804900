"""Schedulers of a trial's ledger, and what they have fired: what the tests of schedules speak."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from runtime.declare.timing.calendar import Timing
from runtime.ledger.calls import do
from runtime.ledger.records import Claimed
from runtime.ledger.schedules.book import Book
from runtime.ledger.schedules.definitions import tick_id
from runtime.ledger.schedules.records import Definition, Entry, Fired, Firing, Override, Registered, Watched
from tests.ledger.trial import Trial

EVERY = Timing(every_ms=1000)
OTHER = Timing(every_ms=2000)


def schedule(name: str = "s", **said: Any) -> Definition:
    return Definition(**{"id": name, "function": "f", "timing": EVERY} | said)


@dataclass
class Roster:
    """Every method runs one script, `begin` up to three. Scheduler "a" has the definitions `begin` was given last."""

    trial: Trial
    digests: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.book = Book(self.trial.ledger)
        self.trial.works()

    @property
    def ms(self) -> int:
        return round(self.trial.now * 1000)

    def do(self, call: Any) -> Any:
        return do(self.trial.client, call)

    def begin(self, *definitions: Definition, name: str = "a", deployment: int = 0) -> Registered:
        """A scheduler starts."""
        digest = self.digests[name] = msgspec.json.encode(definitions).hex()[-200:]
        registered = self.register(name, deployment)
        if registered.missing:
            self.upload(name, definitions)
            registered = self.register(name, deployment)
        assert not registered.missing, digest
        return registered

    def register(self, name: str = "a", deployment: int = 0, **said: Any) -> Registered:
        return self.do(self.book.register(name, self.digests[name], deployment, **said))

    def upload(self, name: str, definitions: Sequence[Definition], *, complete: bool = True) -> None:
        self.do(self.book.upload(self.digests[name], definitions, complete=complete))

    def watch(self, name: str = "a", seen: int = 0) -> Watched:
        return self.do(self.book.watch(name, self.digests[name], seen))

    def leave(self, name: str = "a") -> None:
        self.do(self.book.leave(name))

    def pass_seconds(self, seconds: float, *names: str) -> None:
        """Time goes by, in which these schedulers watch each second."""
        for _ in range(int(seconds)):
            self.trial.now += 1
            for name in names or ("a",):
                self.watch(name)
        self.trial.now += seconds - int(seconds)

    # --- firing ---

    def firing(self, name: str = "s", *planned: int, **said: Any) -> Firing:
        """By what the store knows. planned: ms from now, in the past if negative; 0 unless said otherwise."""
        entry = self.entry(name)
        planned = tuple(self.ms + ms for ms in planned or ((0,) if "planned" not in said else ()))
        known = {
            "definition": entry.effective,
            "last_ms": entry.last_ms,
            "until_ms": max([self.ms, *planned]),
            "planned": planned,
            "jitters_ms": (0,) * len(planned),
            "missed_before": (0,) * len(planned),
        }
        return Firing(**known | said)

    def fire(self, *firings: Firing, by: str = "a") -> list[Fired] | None:
        return self.do(self.book.fire(by, self.digests[by], firings))

    def tick(self, name: str = "s", seconds: float = 1.0) -> str:
        """The next tick, so much later: the id of its run, which there may be none of."""
        self.trial.now += seconds
        if not self.watch().known:
            self.register()
        (fired,) = self.fire(self.firing(name)) or ()
        assert fired == Fired("fired", self.ms, fired.runs)
        return tick_id(name, self.ms)

    # --- looking ---

    def entry(self, name: str = "s") -> Entry:
        (entry,) = self.do(self.book.show([name]))
        assert entry is not None
        return entry

    def find(self, name: str = "s") -> Entry | None:
        return self.do(self.book.show([name]))[0]

    def ids(self, after: str = "", limit: int = 1000) -> list[str]:
        return [entry.definition.id for entry in self.do(self.book.entries(after, limit))]

    def runs(self, name: str = "s") -> list[int]:
        """Ticks that have a run, in seconds from now, the oldest first."""
        head = tick_id(name, 0)[:-1]
        found = (run.id for run in self.trial.page(limit=1000).runs)
        return sorted(int(run_id.removeprefix(head)) - self.ms for run_id in found if run_id.startswith(head))

    def state(self, run_id: str) -> str:
        found = self.trial.find(run_id)
        return found.state if found else "none"

    # --- acting ---

    def finish(self, state: str = "succeeded") -> Claimed:
        """The next run is claimed, and ends."""
        claimed = self.trial.claim_one()
        assert self.trial.finish(claimed, state)
        return claimed

    def add(self, definition: Definition, *, replace: bool = False) -> str:
        return self.do(self.book.add(definition, replace=replace))

    def remove(self, name: str = "s") -> str:
        return self.do(self.book.remove(name))

    def pause(self, name: str = "s", *, paused: bool = True) -> bool:
        return self.do(self.book.pause(name, paused=paused))

    def override(self, name: str = "s", **said: Any) -> None:
        self.do(self.book.override(name, Override(**said)))

    def backfill(self, name: str, *planned: int) -> tuple[int, int]:
        return self.do(self.book.backfill(self.entry(name).effective, planned))
