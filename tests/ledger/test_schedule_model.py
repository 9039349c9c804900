"""The book of schedules and a simple model of it, driven side by side by hypothesis: after each step both say the same.

`make test ARGS="--slow -k schedule_model"` drives them for longer.
"""

from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
)

from runtime.ledger.ledger import Ledger
from runtime.ledger.records import Claimed, Ending, Failure
from runtime.ledger.schedules.book import Book
from runtime.ledger.schedules.definitions import tick_id
from runtime.ledger.schedules.records import Definition, Firing, Override, note_of
from tests.ledger.roster import EVERY, OTHER, schedule
from tests.ledger.schedule_model import Deployed, ScheduleModel
from tests.ledger.sides import Sides

NAMES = ["s", "t", "u:1"]
SCHEDULERS = ["a", "b", "c"]

numbers = count(1)
picks = st.integers(0, 1000)
names = st.sampled_from(NAMES)
schedulers = st.sampled_from(SCHEDULERS)
timings = st.sampled_from([EVERY, EVERY, OTHER])
overlaps = st.sampled_from(["skip", "queue", "queue", "allow", 2])
definitions = st.builds(schedule, names, timing=timings, overlap=overlaps)
sets = st.lists(definitions, max_size=3, unique_by=lambda one: one.id)
deployments = st.sampled_from([0, 0, 0, 3, 5])
ends = st.lists(
    st.tuples(picks, st.sampled_from(["succeeded", "succeeded", "failed", "cancelled", "retrying"])),
    min_size=1,
    max_size=3,
)
wish = st.fixed_dictionaries(
    {
        "name": names,
        "back": st.lists(st.integers(-12, 2), max_size=4, unique=True).map(sorted),
        "jitter": st.sampled_from([0, 0, 0, 700, 5000]),
        "missed": st.sampled_from([0, 0, 0, 3]),
        "after": st.sampled_from([0, 0, 0, 2]),
        "fault": st.sampled_from(["", "", "", "", "", "early", "stale", "other"]),
    }
)


class ScheduleSides(Sides):
    @initialize(first=sets.filter(bool))
    def begin(self, first: list[Definition]) -> None:
        self.namespace = f"m{next(numbers)}"
        self.model = ScheduleModel(1_900_000_000_000)
        self.ledger = Ledger(self.namespace, lease_seconds=1e6, clock=lambda: self.model.now / 1000)
        self.book = Book(self.ledger)
        self.digests: dict[str, str] = {}
        self.seen = dict.fromkeys(SCHEDULERS, 0)
        self.claimed: dict[str, Claimed] = {}
        self.start("a", first, 0)

    # --- schedulers ---

    @rule(name=schedulers, definitions=sets, deployment=deployments)
    def start(self, name, definitions, deployment):
        """It comes with code, which others may have, too."""
        digest = msgspec.json.encode(sorted(definitions, key=lambda one: one.id)).hex()
        self.digests[name], self.seen[name] = digest, 0
        found = self.do(self.book.register(name, digest, deployment))
        assert found.missing == (digest not in self.model.sets)
        if found.missing:
            self.model.sets[digest] = Deployed({one.id: one for one in definitions})
            self.do(self.book.upload(digest, definitions[:1], complete=False))
            self.do(self.book.upload(digest, definitions[1:], complete=True))
            found = self.do(self.book.register(name, digest, deployment))
        assert (found.firing, found.number) == self.model.register(name, digest, deployment)

    @rule(name=schedulers, deployment=deployments)
    def start_again(self, name, deployment):
        if name in self.digests:
            found = self.do(self.book.register(name, self.digests[name], deployment))
            assert (found.firing, found.number) == self.model.register(name, self.digests[name], deployment)

    @rule(some=st.sets(schedulers))
    def watch(self, some):
        for name in sorted(some & self.digests.keys()):
            found = self.do(self.book.watch(name, self.digests[name], self.seen[name]))
            known, firing, version, changed = self.model.watch(name, self.digests[name], self.seen[name])
            assert (found.now_ms, found.known, found.firing, found.version) == (self.model.now, known, firing, version)
            assert (None if found.changed is None else set(found.changed)) == changed
            self.seen[name] = version

    @rule(name=schedulers)
    def leave(self, name):
        self.do(self.book.leave(name))
        self.model.leave(name)

    # --- ticks ---

    @rule(name=schedulers, wishes=st.lists(wish, min_size=1, max_size=3), keen=st.booleans())
    def fire(self, name, wishes, keen):
        if keen:  # mostly by one that may
            living = [one for one, it in self.model.schedulers.items() if it.digest == self.model.current]
            name = living[0] if living else name
        digest = self.digests.get(name, "none")
        firings = [self.firing(**one) for one in wishes]
        assert self.do(self.book.fire(name, digest, firings)) == self.model.fire(name, digest, firings)

    @rule(seed=st.integers(0, 10**6))
    def live(self, seed):
        """What mostly happens, for a while."""
        random = Random(seed)
        self.start_again("a", 0)
        for _ in range(random.randint(1, 6)):
            self.advance(random.choice([1000, 1000, 3000, 5000]), watch=True)
            wishes = [
                {
                    "name": name,
                    "back": sorted(random.sample(range(-4, 2), random.choice([1, 1, 2, 4]))),
                    "jitter": random.choice([0, 0, 700, 5000]),
                    "missed": random.choice([0, 0, 3]),
                    "after": random.choice([0, 0, 2]),
                    "fault": random.choice(["", "", "", "", "early"]),
                }
                for name in NAMES
            ]
            if random.random() < 0.3:
                self.backfill(random.choice(NAMES), random.sample(range(-4, 2), 2))
            self.fire("a", wishes, keen=True)
            self.claim(random.choice([1, 3, 100]))
            while self.claimed and random.random() < 0.6:
                self.finish([(random.randint(0, 100), random.choice(["succeeded", "succeeded", "failed", "retrying"]))])
            for run_id, run in sorted(self.model.runs.items()):
                if run.state in {"failed", "cancelled"} and random.random() < 0.4:
                    self.act(sorted(self.model.runs).index(run_id), "redrive")
            self.both_know_the_same()

    def firing(self, *, name: str, back: list[int], jitter: int, missed: int, after: int, fault: str) -> Firing:
        model = self.model
        known = model.defined.get(name)
        definition = model.entry(name).effective if known else schedule(name)
        if fault == "other":
            definition = msgspec.structs.replace(definition, timing=OTHER if definition.timing == EVERY else EVERY)
        last = model.known[name].last if name in model.known else 0
        planned = [ms for one in back if (ms := model.now // 1000 * 1000 + 1000 * one) > last]
        if fault == "early":
            planned.append(model.now + 1001)
        elif planned and planned[-1] > model.now + 1000:
            planned.pop()
        return Firing(
            definition=definition,
            last_ms=last - 1 if fault == "stale" else last,
            until_ms=max([last, model.now, *planned]),
            planned=tuple(planned),
            jitters_ms=(jitter,) * len(planned),
            missed_before=tuple(missed if n == 0 else 0 for n in range(len(planned))),
            missed_after=after,
        )

    @rule(name=names, back=st.lists(st.integers(-12, 1), min_size=1, max_size=5, unique=True))
    def backfill(self, name, back):
        if name in self.model.defined:
            definition = self.model.entry(name).effective
            planned = [self.model.now // 1000 * 1000 + 1000 * one for one in back]
            assert self.do(self.book.backfill(definition, planned)) == self.model.backfill(definition, planned)

    @rule(slots=st.sampled_from([1, 3, 100]))
    def claim(self, slots):
        """The order is that of queues, which their own model tells; here, who may be claimed, and what each carries."""
        self.do(self.ledger.register("w", {"f": None}, {}))
        found = self.do(self.ledger.claim("w", ["default"], slots))
        queued = {run_id for run_id, run in self.model.runs.items() if run.state == "queued"}
        assert len(found) == min(slots, len(queued))
        for one in found:
            run = self.model.runs[one.id]
            assert run.state == "queued"
            note = note_of(one)
            assert note is not None
            assert (note.schedule, note.planned, note.missed) == (run.schedule, run.planned, run.missed)
            run.state = "running"
            self.claimed[one.id] = one

    @precondition(lambda self: self.claimed)
    @rule(ends=ends)
    def finish(self, ends):
        for pick, state in ends[: len(self.claimed)]:
            one = self.claimed.pop(sorted(self.claimed)[pick % len(self.claimed)])
            bad = state in {"failed", "retrying"}
            ending = Ending(
                id=one.id,
                token=one.token,
                state=state,
                reason="error" if bad else None,
                failure=Failure(type="E", message="no") if bad else None,
                result=b"" if bad else b"1",
                retry_seconds=3.0,
            )
            assert self.do(self.ledger.finish([ending])) == [True]
            run = self.model.runs[one.id]
            if run.cancelling or state != "retrying":
                self.model.end(one.id, "cancelled" if run.cancelling else state)
            else:
                run.state, run.due = "scheduled", self.model.now + 3000

    @precondition(lambda self: self.model.runs)
    @rule(pick=picks, what=st.sampled_from(["cancel", "cancel", "redrive", "purge"]))
    def act(self, pick, what):
        run_id = sorted(self.model.runs)[pick % len(self.model.runs)]
        (told,) = self.do(getattr(self.ledger, what)([run_id]))
        if what != "purge":
            assert told == getattr(self.model, what)(run_id)
        elif self.model.runs[run_id].is_open:
            assert told == "open"
        else:
            assert told == "purged"
            del self.model.runs[run_id]

    @rule(ms=st.sampled_from([100, 1000, 1000, 3000, 3000, 9900, 11_000]), watch=st.booleans())
    def advance(self, ms, watch):
        self.model.now += ms
        while self.do(self.ledger.reap()):
            pass
        self.model.reap()
        if watch:
            self.watch(set(SCHEDULERS))

    # --- changes at run time ---

    @rule(one=definitions, replacing=st.booleans())
    def add(self, one, replacing):
        assert self.do(self.book.add(one, replace=replacing)) == self.model.add(one, replacing=replacing)

    @rule(name=names)
    def remove(self, name):
        assert self.do(self.book.remove(name)) == self.model.remove(name)

    @rule(name=names, paused=st.booleans())
    def pause(self, name, paused):
        assert self.do(self.book.pause(name, paused=paused)) == self.model.pause(name, paused=paused)

    @rule(
        name=names,
        timing=st.sampled_from([None, None, EVERY, OTHER]),
        overlap=st.sampled_from([None, None, "allow", 2]),
    )
    def override(self, name, timing, overlap):
        override = Override(timing=timing, overlap=overlap)
        self.do(self.book.override(name, override))
        self.model.override(name, override)

    # --- what always holds ---

    @invariant()
    def both_know_the_same(self):
        found = self.do(self.book.show(NAMES))
        defined = self.model.defined
        assert comparable(found) == comparable(self.model.entry(name) if name in defined else None for name in NAMES)
        assert [one.definition.id for one in self.do(self.book.entries())] == sorted(defined)

    @invariant()
    def both_have_the_same_runs(self):
        ids = sorted(self.model.runs)
        found = {run.id: (run.state, run.cancelling) for run in self.do(self.ledger.show(ids))}
        states = {"held": "scheduled"}
        expected = {
            run_id: (states.get(run.state, run.state), run.cancelling) for run_id, run in self.model.runs.items()
        }
        assert {run_id: (state.replace("retrying", "scheduled"), c) for run_id, (state, c) in found.items()} == expected
        assert all(tick_id(run.schedule, run.planned) == run_id for run_id, run in self.model.runs.items())


def comparable(entries: Any) -> list[Any]:
    """Raw JSON is compared by what it says."""
    return [one and msgspec.to_builtins(msgspec.json.decode(msgspec.json.encode(one))) for one in entries]


@pytest.mark.timeout(600)  # hypothesis needs a while to make a failure short
def test_schedules_do_what_the_model_does(valkey: Path):
    ScheduleSides.drive(valkey, max_examples=40, stateful_step_count=30)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_schedules_do_what_the_model_does_for_a_long_time(valkey: Path):
    ScheduleSides.drive(valkey, max_examples=2000, stateful_step_count=50)
