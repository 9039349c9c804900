"""What schedules should do, in dicts and lists: one tick, one record. Times are ms.

Driven side by side with the book by test_schedule_model. Knows nothing of keys and scripts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from runtime.declare.timing.calendar import Timing
from runtime.ledger.records import FINISHED
from runtime.ledger.schedules.definitions import tick_id
from runtime.ledger.schedules.records import Definition, Entry, Fired, Firing, Override, Skip

LIFE = 10_000
HELD = 100


@dataclass
class Known:
    """What is known of a schedule. rule: the one `last` is of; None while it is defined nowhere."""

    rule: Timing | None = None
    last: int = 0
    runs: int = 0
    missed: int = 0
    overlapped: int = 0
    since: int = 0
    last_run: str = ""
    success: int = 0
    paused: bool = False
    skips: list[Skip] = field(default_factory=list)


@dataclass
class Ticked:
    """A tick's run. state: held, too. missed: what it tells its handler."""

    schedule: str
    planned: int
    lane: str
    due: int
    state: str = "queued"
    most: int = 0
    missed: int = 0
    cancelling: bool = False

    @property
    def is_open(self) -> bool:
        return self.state not in FINISHED


@dataclass
class Scheduler:
    digest: str
    number: int
    until: int


@dataclass
class Deployed:
    definitions: dict[str, Definition]
    number: int = 0
    place: int = 0


@dataclass
class ScheduleModel:
    now: int
    sets: dict[str, Deployed] = field(default_factory=dict)
    schedulers: dict[str, Scheduler] = field(default_factory=dict)
    current: str = ""
    highest: int = 0
    places: int = 0
    added: dict[str, Definition] = field(default_factory=dict)
    overrides: dict[str, Override] = field(default_factory=dict)
    known: dict[str, Known] = field(default_factory=dict)
    runs: dict[str, Ticked] = field(default_factory=dict)
    version: int = 0
    floor: int = 0
    changes: dict[str, int] = field(default_factory=dict)

    # --- what is defined ---

    @property
    def declared(self) -> dict[str, Definition]:
        return self.sets[self.current].definitions if self.current else {}

    @property
    def defined(self) -> dict[str, Definition]:
        return self.added | self.declared

    def rules(self) -> dict[str, Timing]:
        return {
            name: self.overrides.get(name, Override()).timing or definition.timing
            for name, definition in self.defined.items()
        }

    def settle(self) -> None:
        """After whatever may have changed a rule: what has another than before begins now."""
        rules = self.rules()
        for name, rule in rules.items():
            known = self.known.setdefault(name, Known())
            if known.rule != rule:
                known.rule, known.last = rule, max(self.now, known.last)
        for name, known in self.known.items():
            if name not in rules:
                known.rule = None

    def change(self, name: str) -> None:
        self.version += 1
        self.changes[name] = self.version
        self.settle()

    def entries(self) -> list[Entry]:
        return [self.entry(name) for name in sorted(self.defined)]

    def entry(self, name: str) -> Entry:
        known = self.known[name]
        return Entry(
            definition=self.defined[name],
            override=self.overrides.get(name, Override()),
            paused=known.paused,
            last_ms=known.last,
            open=len(self.open_in(name, "live")),
            waiting=len(self.held_in(name, "live")),
            runs=known.runs,
            missed=known.missed,
            overlapped=known.overlapped,
            last_run=known.last_run,
            success_ms=known.success,
            skips=tuple(known.skips),
        )

    # --- who fires ---

    def register(self, name: str, digest: str, deployment: int) -> tuple[bool, int]:
        deployed = self.sets[digest]
        if not deployed.place:
            self.places += 1
            deployed.place = self.places
        number = deployment or deployed.number or self.highest + 1
        deployed.number = max(deployed.number, number)
        self.highest = max(self.highest, number)
        self.schedulers[name] = Scheduler(digest, number, self.now + LIFE)
        self.elect()
        return self.current == digest, number

    def elect(self) -> None:
        self.schedulers = {name: one for name, one in self.schedulers.items() if one.until > self.now}
        living = self.schedulers.values()
        if living:
            best = max(living, key=lambda one: (one.number, self.sets[one.digest].place)).digest
            if best != self.current:
                self.current = best
                self.version += 1
                self.floor, self.changes = self.version, {}
                self.settle()

    def lives(self, name: str, digest: str) -> bool:
        one = self.schedulers.get(name)
        return one is not None and one.until > self.now and one.digest == digest

    def watch(self, name: str, digest: str, seen: int) -> tuple[bool, bool, int, set[str] | None]:
        known = self.lives(name, digest)
        if known:
            self.schedulers[name].until = self.now + LIFE
        self.elect()
        changed = {one for one, version in self.changes.items() if version > seen}
        return known, known and self.current == digest, self.version, changed if seen >= self.floor else None

    def leave(self, name: str) -> None:
        self.schedulers.pop(name, None)
        self.elect()

    # --- firing ---

    def fire(self, name: str, digest: str, firings: Sequence[Firing]) -> list[Fired] | None:
        if self.current != digest or not self.lives(name, digest):
            return None
        return [self.fire_one(firing) for firing in firings]

    def fire_one(self, firing: Firing) -> Fired:
        name = firing.definition.id
        known = self.known.get(name, Known())
        if known.rule is None or known.rule != firing.definition.timing:
            return Fired("gone", known.last)
        if known.last != firing.last_ms:
            return Fired("stale", known.last)
        if firing.until_ms > self.now + 1000:
            return Fired("early", known.last)
        if known.paused:
            return Fired("paused", known.last)
        before, ticks = known.runs, []
        for planned, jitter, missed in zip(firing.planned, firing.jitters_ms, firing.missed_before, strict=True):
            ticks += [("missed", planned)] * missed
            ticks.append((self.decide(firing.definition, planned, jitter, known, missed), planned))
        ticks += [("missed", firing.until_ms)] * firing.missed_after
        known.last = firing.until_ms
        self.tell(known, ticks)
        return Fired("fired", known.last, known.runs - before)

    def decide(self, one: Definition, planned: int, jitter: int, known: Known, missed: int) -> str:
        """Whether a tick is run, or skipped as one of several."""
        known.since += missed
        run_id = tick_id(one.id, planned)
        if run_id not in self.runs:
            open_, held = len(self.open_in(one.id, "live")), len(self.held_in(one.id, "live"))
            most = one.overlap if isinstance(one.overlap, int) else 1
            full = one.overlap != "allow" and open_ >= most
            if full and (one.overlap != "queue" or held >= HELD):
                known.since += 1
                return "overlap"
            due = max(self.now, planned + jitter)
            state = "held" if full else "scheduled" if due > self.now else "queued"
            self.runs[run_id] = Ticked(one.id, planned, "live", due, state, 1, known.since)
        known.runs, known.last_run, known.since = known.runs + 1, run_id, 0
        return "run"

    @staticmethod
    def tell(known: Known, ticks: list[tuple[str, int]]) -> None:
        """Count what was skipped; neighbours are one."""
        told: list[Skip] = []
        last = ""
        for what, planned in ticks:
            if what == "missed":
                known.missed += 1
            elif what == "overlap":
                known.overlapped += 1
            if what == last and what != "run":
                told[-1] = Skip(planned, told[-1].count + 1, told[-1].why)
            elif what != "run":
                told.append(Skip(planned, 1, what))  # type: ignore[arg-type]
            last = what
        known.since += sum(what == "missed" for what, _ in ticks[_runs_end(ticks) :])
        known.skips = [*told[::-1], *known.skips][:20]

    def backfill(self, one: Definition, planned: Sequence[int]) -> tuple[int, int]:
        most = {"allow": 10**9, "skip": 1, "queue": 1}.get(str(one.overlap), one.overlap)
        new = 0
        for ms in planned:
            run_id = tick_id(one.id, ms)
            if run_id not in self.runs:
                new += 1
                at_work = len(self.open_in(one.id, "back")) - len(self.held_in(one.id, "back"))
                state = "held" if at_work >= int(most) else "queued"
                self.runs[run_id] = Ticked(one.id, ms, "back", self.now, state, int(most))
        return new, len(planned) - new

    # --- runs ---

    def open_in(self, name: str, lane: str) -> list[Ticked]:
        return [run for run in self.runs.values() if (run.schedule, run.lane) == (name, lane) and run.is_open]

    def held_in(self, name: str, lane: str) -> list[Ticked]:
        return [run for run in self.open_in(name, lane) if run.state == "held"]

    def end(self, run_id: str, state: str) -> None:
        run = self.runs[run_id]
        run.state, run.cancelling = state, False
        known = self.known.get(run.schedule)
        if state == "succeeded" and known is not None and known.last:  # one that was never defined has done nothing
            known.success = max(known.success, run.planned)
        while held := self.held_in(run.schedule, run.lane):
            first = min(held, key=lambda one: one.planned)
            if len(self.open_in(run.schedule, run.lane)) - len(held) >= first.most:
                return
            first.state = "scheduled" if first.due > self.now else "queued"

    def reap(self) -> None:
        for run in self.runs.values():
            if run.state == "scheduled" and run.due <= self.now:
                run.state = "queued"

    def cancel(self, run_id: str) -> str:
        run = self.runs[run_id]
        if not run.is_open:
            return "finished"
        if run.state == "running":
            run.cancelling = True
            return "cancelling"
        self.end(run_id, "cancelled")
        return "cancelled"

    def redrive(self, run_id: str) -> str:
        run = self.runs[run_id]
        if run.is_open:
            return "open"
        if run.state == "succeeded":
            return "succeeded"
        self.runs[run_id] = replace(run, state="queued")
        return "queued"

    # --- changes at run time ---

    def add(self, one: Definition, *, replacing: bool) -> str:
        if one.id in self.declared:
            return "declared"
        there = one.id in self.added
        if there and not replacing:
            return "known"
        self.added[one.id] = one
        self.change(one.id)
        return "replaced" if there else "added"

    def remove(self, name: str) -> str:
        if name in self.declared:
            return "declared"
        if name not in self.added:
            return "unknown"
        del self.added[name]
        self.overrides.pop(name, None)
        self.known.pop(name, None)
        self.change(name)
        return "removed"

    def pause(self, name: str, *, paused: bool) -> bool:
        known = self.known.get(name, Known())
        if known.paused == paused:
            return False
        self.known[name] = known
        known.paused = paused
        if not paused:
            known.last = max(self.now, known.last)
        self.change(name)
        return True

    def override(self, name: str, override: Override) -> None:
        self.overrides[name] = override
        if override == Override():
            del self.overrides[name]
        self.change(name)


def _runs_end(ticks: list[tuple[str, int]]) -> int:
    """How many there are up to the last that was not missed: what was missed before it is counted by then."""
    return max((at + 1 for at, (what, _) in enumerate(ticks) if what != "missed"), default=0)
