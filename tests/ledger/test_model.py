"""The ledger and a simple model of it, driven side by side by hypothesis: after each step both say the same.

`make test ARGS="--slow -k model"` drives them for as long as the promise says: 5,000 times 50 steps.
"""

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
)

from runtime.ledger.ledger import Keeping, Ledger
from runtime.ledger.once import take_by_run
from runtime.ledger.records import Claimed, Ending, Failure, Held, Submission
from tests.ledger.model import Model, Run
from tests.ledger.sides import Sides

FUNCTIONS = ["f", "g", "f:g"]
QUEUES = ["default", "default:f"]
ALARMS = "alarms"
WORKERS = {"w1": ["f", "g", "f:g", "alarm"], "w2": ["f"], "w3": ["g", "f:g"]}
ON_FAILURE = {"f": ("alarm", ALARMS), "alarm": ("g", ALARMS)}

numbers = count(1)
picks = st.integers(0, 1000)
workers = st.sampled_from(sorted(WORKERS))
states = st.sampled_from(
    [
        "succeeded",
        "succeeded",
        "failed",
        "failed",
        "cancelled",
        "retrying",
        "retrying",
        "crashed",
        "crashed",
        "lost",
        "waiting",
    ]
)
orders = st.sampled_from([QUEUES, QUEUES[::-1], QUEUES[:1]])
ends = st.lists(st.tuples(picks, states, st.sampled_from([0, 1, 5_000])), min_size=1, max_size=4)
keys = st.sampled_from(["k1", "k1", "k2"])
wish = st.fixed_dictionaries(
    {
        "pick": picks,
        "function": st.sampled_from(FUNCTIONS),
        "queue": st.sampled_from(QUEUES),
        "priority": st.sampled_from([0, 5, 5, 5, 9]),
        "delay": st.sampled_from([None, None, None, 0, 1, 5_000, 60_000, -5]),
        "age": st.sampled_from([None, None, None, 1_000, 20_000]),
        "dedupe": st.sampled_from(["", "", "", "a", "g:a"]),
        "most": st.sampled_from([0, 0, 0, 3]),
        "again": st.sampled_from([False] * 9 + [True]),
    }
)


class LedgerSides(Sides):
    @initialize(count=st.sampled_from([1, 3, 1000]), wishes=st.lists(wish, min_size=2, max_size=8))
    def begin(self, count: int, wishes: list[dict[str, Any]]) -> None:
        self.namespace = f"m{next(numbers)}"
        self.model = Model(10_000, 30_000, 100_000, 300_000, count, 1_900_000_000_000)
        self.ledger = Ledger(
            self.namespace,
            keeping=Keeping(seconds=100.0, failures_seconds=300.0, count=count),
            clock=lambda: self.model.now / 1000,
        )
        self.claimed: list[Claimed] = []
        self.tokens: set[int] = set()
        self.ids: list[str] = ["never"]
        for worker in ("w1", "w2"):
            self.register(worker)
        self.accept(wishes)

    def an_id(self, pick: int) -> str:
        ids = sorted(self.model.runs) or self.ids
        return ids[pick % len(ids)] if pick % 5 else self.ids[pick % len(self.ids)]

    # --- rules ---

    @rule(wishes=st.lists(wish, min_size=1, max_size=5))
    def accept(self, wishes):
        runs, expected = [], []
        for one in wishes:
            run_id = self.ids[one["pick"] % len(self.ids)] if one["again"] else f"{one['pick']:04}-{next(numbers)}"
            self.ids.append(run_id)
            submission, run = self.wanted(run_id, **one)
            runs.append(submission)
            expected.append(self.model.accept(run, submission.dedupe, 30_000, submission.max_length))
        assert [(one.verdict, one.id) for one in self.do(self.ledger.accept(runs))] == expected

    def wanted(self, run_id: str, *, delay: int | None, age: int | None, **wish: Any) -> tuple[Submission, Run]:
        model, due = self.model, self.model.now + (delay or 0)
        function, queue, priority = wish["function"], wish["queue"], wish["priority"]
        submission = Submission(
            id=run_id,
            function=function,
            queue=queue,
            priority=priority,
            payload=run_id.encode(),
            due=None if delay is None else due / 1000,
            max_age_seconds=None if age is None else age / 1000,
            dedupe=wish["dedupe"],
            dedupe_seconds=30.0,
            max_length=wish["most"],
        )
        due = max(model.now, due)
        expires = None if age is None else due + age
        return submission, Run(run_id, function, queue, priority, "queued", due, model.next(), expires)

    @rule(worker=workers, order=orders, slots=st.sampled_from([1, 1, 2, 3, 50, 0]), keen=st.booleans())
    def claim(self, worker, order, slots, keen):
        if keen and not self.model.living(worker):
            self.register(worker)
        found = self.do(self.ledger.claim(worker, order, slots))
        assert (None if found is None else [one.id for one in found]) == self.model.claim(worker, order, slots)
        self.note(found or [])

    @rule(worker=workers, order=orders)
    def claim_all(self, worker, order):
        for queue in sorted(self.model.paused & set(order[1:])):
            self.pause(queue, paused=False)
        self.claim(worker, order, 50, keen=True)

    @rule(worker=workers, wishes=st.lists(wish, max_size=3), ends=ends)
    def work(self, worker, wishes, ends):
        """What mostly happens: runs come, are claimed, and end."""
        if wishes:
            self.accept(wishes)
        self.claim_all(worker, QUEUES)
        if self.claimed:
            self.finish(ends)

    @rule(worker=workers, times=st.integers(1, 4))
    def die(self, worker, times):
        """A worker dies with all it has, again and again."""
        for _ in range(times):
            self.claim_all(worker, QUEUES)
            self.model.now += 10_000
            self.reap()

    @rule(worker=workers)
    def claim_alarms(self, worker):
        """Which of several queues the reaper looks at first is open, so is the order of what it lets them start."""
        found = self.do(self.ledger.claim(worker, [ALARMS], 50))
        expected = self.model.claim(worker, [ALARMS], 50)
        assert (None if found is None else {one.id for one in found}) == (None if expected is None else set(expected))
        self.note(found or [])

    def note(self, claimed: list[Claimed]) -> None:
        for one in claimed:
            run = self.model.runs[one.id]
            assert (one.failures, one.crashes) == (run.failures, run.crashes)
            assert one.token not in self.tokens
            self.tokens.add(one.token)
            run.token = one.token
            assert one.trigger == "on_failure" or one.payload == one.id.encode()
        self.claimed += claimed

    def holder(self, pick: int) -> Claimed:
        """A claim, mostly one that still holds."""
        holding = [one for one in self.claimed if self.model.holds(one.id, one.token)]
        some = holding if holding and pick % 4 else self.claimed
        return some[pick % len(some)]

    @precondition(lambda self: self.claimed)
    @rule(worker=workers, every=st.integers(1, 3))
    def beat(self, worker, every):
        held = self.claimed[::every]
        found = self.do(self.ledger.beat(worker, [Held(one.id, one.token, one.queue, b"1") for one in held]))
        lost, cancelled = self.model.beat(worker, [(one.id, one.token) for one in held])
        assert (list(found.lost), list(found.cancelled)) == (lost, cancelled)

    @precondition(lambda self: self.claimed)
    @rule(ends=ends)
    def finish(self, ends):
        endings, expected = [], []
        for pick, state, pause in ends:
            one, bad = self.holder(pick), state in {"failed", "retrying", "crashed"}
            endings.append(
                Ending(
                    id=one.id,
                    token=one.token,
                    state=state,
                    reason="error" if bad else None,
                    failure=Failure(type="E", message="m") if bad else None,
                    retry_seconds=pause / 1000,
                    progress=b"2" if pick % 2 else b"",
                )
            )
            expected.append(self.model.finish(one.id, one.token, state, pause))
        assert self.do(self.ledger.finish(endings)) == expected

    @precondition(lambda self: self.claimed)
    @rule(some=st.lists(picks, min_size=1, max_size=3), key=keys)
    def take_key_by_run(self, some, key):
        for one in map(self.holder, some):
            found = self.do(take_by_run(self.ledger, key, one))
            assert found.verdict == self.model.take_key_by_run(key, one.id, one.token)

    @rule(pick=picks, key=keys)
    def take_key(self, pick, key):
        call = self.ledger.call("once_take", (key, "", "call", f"c{pick % 3}", 10_000), lambda found: found[0].decode())
        assert self.do(call) == self.model.take_key(key, f"c{pick % 3}", 10_000)

    @rule(pick=picks, key=keys, keep=st.booleans())
    def end_key(self, pick, key, keep):
        kept = (86_400_000, "answer", "1") if keep else (0,)
        found = self.do(self.ledger.call("once_end", (key, f"c{pick % 3}", *kept), bool))
        assert found == self.model.end_key(key, f"c{pick % 3}", keep=keep)

    @precondition(lambda self: self.claimed)
    @rule(some=st.lists(picks, min_size=1, max_size=3))
    def release(self, some):
        held = [self.holder(pick) for pick in some]
        expected = sum(self.model.release(one.id, one.token) for one in held)
        assert self.do(self.ledger.release([Held(one.id, one.token, one.queue) for one in held])) == expected

    @precondition(lambda self: self.claimed)
    @rule(worker=workers, queue=st.sampled_from(QUEUES), every=st.integers(1, 3))
    def disown(self, worker, queue, every):
        held = self.claimed[::every]
        found = self.do(self.ledger.disown(worker, [queue], [Held(one.id, one.token, one.queue) for one in held]))
        assert found == self.model.disown(worker, queue, {(one.id, one.token) for one in held})

    @precondition(lambda self: self.model.runs)
    @rule(what=st.sampled_from(["cancel", "redrive", "redrive", "purge"]), some=st.lists(picks, min_size=1, max_size=3))
    def act(self, what, some):
        for pick in some:  # one call after the other: what ends may forget another
            run_id = self.an_id(pick)
            assert self.do(getattr(self.ledger, what)([run_id])) == [getattr(self.model, what)(run_id)]

    @rule(worker=workers, queue=st.sampled_from(QUEUES), what=st.sampled_from(["register", "leave", "pause", "resume"]))
    def change(self, worker, queue, what):
        if what == "register":
            self.register(worker)
        elif what == "leave":
            self.do(self.ledger.leave(worker))
            self.model.workers.pop(worker, None)
        else:
            self.pause(queue, paused=what == "pause")

    def register(self, worker: str) -> None:
        functions = WORKERS[worker]
        on_failure = {name: target for name, target in ON_FAILURE.items() if name in functions}
        self.do(self.ledger.register(worker, dict.fromkeys(functions), on_failure))
        self.model.register(worker, functions, on_failure)

    def pause(self, queue: str, *, paused: bool) -> None:
        changed = (queue in self.model.paused) != paused
        assert self.do(self.ledger.pause(queue, paused=paused)) == changed
        self.model.paused ^= {queue} if changed else set()
        if paused:
            self.model.queues[queue] = None

    @rule(ms=st.sampled_from([1, 999, 5_000, 5_000, 10_000, 10_000, 29_000, 100_000]), reap=st.booleans())
    def advance(self, ms, reap):
        self.model.now += ms
        if reap:
            self.reap()

    @rule(worker=workers)
    def wait_long(self, worker):
        """Ten minutes; one worker may be there at their end."""
        self.model.now += 600_000
        self.register(worker)
        self.reap()

    @rule()
    def reap(self):
        total = 0
        while moved := self.do(self.ledger.reap()):
            total += moved
        assert total == self.model.reap()

    # --- what always holds ---

    @invariant()
    def both_know_the_same_runs(self):
        page = self.do(self.ledger.runs(limit=1000))
        found = {
            run.id: (run.function, run.queue, run.state, run.reason or "", run.failures, run.crashes, run.redriven)
            for run in page.runs
        }
        expected = {
            run.id: (run.function, run.queue, run.state, run.reason, run.failures, run.crashes, run.redriven)
            for run in self.model.runs.values()
        }
        assert found == expected
        assert {run.id: (run.due, run.cancelling) for run in page.runs} == {
            run.id: (run.due / 1000, run.cancelling) for run in self.model.runs.values()
        }

    @invariant()
    def lists_are_complete_and_in_order(self):
        found, cursor = [], ""
        while not found or cursor:
            page = self.do(self.ledger.runs(("f", "g"), limit=7, cursor=cursor))
            found += [run.id for run in page.runs]
            cursor = page.cursor
            if not page.runs:
                break
        runs = self.model.runs
        assert sorted(found) == sorted(run.id for run in runs.values() if run.function in {"f", "g"})
        times = [runs[run_id].listed_at for run_id in found]
        assert times == sorted(times, reverse=True)

    @invariant()
    def queues_say_what_is_in_them(self):
        found = {
            view.name: (view.ready, view.later, view.running, view.unknown, view.paused)
            for view in self.do(self.ledger.queues())
        }
        expected = {}
        for queue in self.model.queues:
            runs = self.model.open_in(queue)
            parked = sum(run.parked_until is not None for run in runs)
            states = [run.state for run in runs]
            later = states.count("scheduled") + states.count("retrying")
            ready = states.count("queued") - parked
            expected[queue] = (ready, later, states.count("running"), parked, queue in self.model.paused)
        assert found == expected

    @invariant()
    def a_run_has_one_valid_token_at_most(self):
        holding = [one.id for one in self.claimed if self.model.holds(one.id, one.token)]
        assert len(holding) == len(set(holding))


@pytest.mark.timeout(600)  # hypothesis needs a while to make a failure short
def test_the_ledger_does_what_the_model_does(valkey: Path):
    LedgerSides.drive(valkey, max_examples=60, stateful_step_count=30)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_ledger_does_what_the_model_does_for_a_long_time(valkey: Path):
    LedgerSides.drive(valkey, max_examples=5000, stateful_step_count=50)
