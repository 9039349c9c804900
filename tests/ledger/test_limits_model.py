"""Limits and a simple model of them, driven side by side by hypothesis.

Whatever is claimed may begin, and is the first of the key whose turn it is; and what is not claimed may not begin.
`make test ARGS="--slow -k limits_model"` drives them for long.
"""

import contextlib
from itertools import count
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from runtime.invoke.limits.rules import Ask, Limits
from runtime.ledger.ledger import Ledger
from runtime.ledger.limits.calls import Exit, assign, enter, give_up, keep, leave
from runtime.ledger.records import Claimed, Ending, Failure, Held, Submission
from tests.ledger.limits_model import LimitsModel, Waiting
from tests.ledger.sides import Sides

QUEUES = ["default", "default:f"]
KEYS = ["a", "a", "b", "c:1", '"d"']
FUNCTIONS = ["f", "f", "f:g", "plain"]
WORKERS = {"w1": ["f", "f:g", "plain"], "w2": ["f"], "w3": ["f:g", "plain"]}
LEASE = 10_000
BAND = 10**15

numbers = count(1)
picks = st.integers(0, 1000)
verdicts = st.sampled_from(["good", "good", "bad", "bad", "none"])
bounds = st.builds(
    Limits,
    concurrency=st.sampled_from([0, 1, 1, 2, 3]),
    every_ms=st.sampled_from([0.0, 0.0, 0.0, 1000 / 3, 5_000.0]),
    burst=st.sampled_from([1, 2]),
    keyed=st.booleans(),
    failures=st.sampled_from([0, 0, 1, 2]),
    reset_ms=st.just(3_000),
).filter(lambda limits: limits != Limits(burst=limits.burst, reset_ms=3_000))
wish = st.tuples(
    st.sampled_from(FUNCTIONS), st.sampled_from(QUEUES), st.sampled_from([5, 5, 9]), st.sampled_from([*KEYS, None])
)


class LimitsSides(Sides):
    @initialize(first=bounds, second=bounds)
    def begin(self, first: Limits, second: Limits) -> None:
        self.namespace = f"l{next(numbers)}"
        self.model = LimitsModel({"f": first, "f:g": second}, LEASE, 1_900_000_000_000)
        self.ledger = Ledger(self.namespace, clock=lambda: self.model.now / 1000)
        self.claimed: dict[str, Claimed] = {}
        self.leases = self.model.leases
        self.later: dict[str, tuple[int, Waiting]] = {}
        self.crashes: dict[str, int] = {}
        self.asks: list[Ask] = []
        self.left: list[Ask] = []
        self.ages = False

    def limits(self, function: str) -> Limits | None:
        return self.model.limits.get(function)

    def place(self, priority: int, *, first: bool = False) -> tuple[int, int]:
        return (9 - priority, 0 if first else self.model.next())

    def wait(self, run: Waiting, *, first: bool = False) -> None:
        run.place = self.place(run.priority, first=first)
        self.model.wait(run)

    # --- runs ---

    @rule(wishes=st.lists(wish, min_size=1, max_size=8), age=st.sampled_from([None, None, None, 2_000]))
    def accept(self, wishes, age):
        runs = []
        self.ages = self.ages or age is not None
        for function, queue, priority, wanted in wishes:
            limits = self.limits(function)
            key = wanted if limits and limits.keyed else None
            run_id = f"r{next(numbers)}"
            runs.append(
                Submission(
                    id=run_id, function=function, queue=queue, priority=priority, key=key,
                    max_age_seconds=None if age is None else age / 1000,
                )
            )  # fmt: skip
            expires = None if age is None else self.model.now + age
            self.wait(Waiting(run_id, function, queue, priority, key, (0, 0), self.model.now, expires))
        self.do(self.ledger.accept(runs))

    @rule(
        worker=st.sampled_from(sorted(WORKERS)),
        order=st.sampled_from([QUEUES, QUEUES[::-1], QUEUES[:1]]),
        slots=st.sampled_from([1, 1, 2, 3, 50]),
    )
    def claim(self, worker, order, slots):
        self.reap()
        self.do(self.ledger.register(worker, {name: self.limits(name) for name in WORKERS[worker]}, {}))
        self.reap()
        found = self.do(self.ledger.claim(worker, order, slots))
        self.expire(worker, order)
        for one in found:
            self.check(one, order)
        if len(found) < slots:
            stuck = [run for run in self.waiting_for(worker, order) if self.model.may_begin(run, late=False)]
            assert not stuck, f"could begin: {stuck}"
        for one in found:
            self.leases[one.id] = self.model.now + LEASE

    def waiting_for(self, worker: str, order: list[str]) -> list[Waiting]:
        return [run for run in self.model.waiting.values() if run.queue in order and run.function in WORKERS[worker]]

    def expire(self, worker: str, order: list[str]) -> None:
        """A run that has expired ends when its turn comes."""
        for run in self.waiting_for(worker, order):
            if run.expires is not None and run.fresh and run.expires < self.model.now:
                (view,) = self.do(self.ledger.show([run.id]))
                if view.state == "failed":
                    assert view.reason == "expired"
                    del self.model.waiting[run.id]

    def check(self, one: Claimed, order: list[str]) -> None:
        model = self.model
        run = model.waiting[one.id]
        limits = self.limits(run.function)
        assert model.may_begin(run), f"{one.id} began, and may not"
        unkeyed = limits is not None and limits.keyed and run.key is None
        assert one.has_place == (limits is not None and not unkeyed)
        if limits and not unkeyed:
            assert one.key == (run.key or "")
            first = model.first_of(run.lane, run.key)
            assert first.id == one.id or self.may_have_expired(first), f"{first.id} waits longer"
            if limits.keyed and not self.ages:
                assert model.turns(run.lane)[0] == run.key
        model.begin(one.id)
        run.fresh = False
        self.claimed[one.id] = one

    def may_have_expired(self, run: Waiting) -> bool:
        return run.expires is not None and run.expires < self.model.now

    def holder(self, pick: int) -> Claimed:
        ids = sorted(self.claimed)
        return self.claimed[ids[pick % len(ids)]]

    @precondition(lambda self: self.claimed)
    @rule(
        pick=picks,
        state=st.sampled_from(["succeeded", "succeeded", "failed", "retrying", "crashed", "waiting"]),
        verdict=verdicts,
        stays=st.sampled_from([False, False, True]),
    )
    def finish(self, pick, state, verdict, stays):
        one = self.holder(pick)
        bad = state in {"failed", "retrying", "crashed"}
        ending = Ending(
            id=one.id, token=one.token, state=state, retry_seconds=1.0, verdict=verdict, stays=stays,
            reason="error" if bad else None, failure=Failure(type="E", message="m") if bad else None,
        )  # fmt: skip
        assert self.do(self.ledger.finish([ending])) == [True]
        stays_as = f"{one.id}:{one.token}" if stays else ""
        run = self.drop(one)
        if stays and one.id in self.had_place:
            self.left.append(
                Ask(function=run.function, limits=self.model.limits[run.function], holder=stays_as, key=run.key or "")
            )
        run = self.model.end(one.id, verdict, stays_as)
        if state == "crashed":
            self.crashes[one.id] = self.crashes.get(one.id, 0) + 1
        if state in {"retrying", "waiting"} or (state == "crashed" and self.crashes[one.id] < 3):
            self.later[one.id] = (self.model.now + 1_000, run)

    def drop(self, one: Claimed) -> Waiting:
        self.had_place = set(self.model.placed)
        del self.claimed[one.id]
        del self.leases[one.id]
        return self.model.at_work[one.id]

    @precondition(lambda self: self.claimed)
    @rule(pick=picks)
    def release(self, pick):
        one = self.holder(pick)
        assert self.do(self.ledger.release([Held(one.id, one.token, one.queue)])) == 1
        self.drop(one)
        self.wait(self.model.end(one.id, "none"), first=True)

    @precondition(
        lambda self: any(run.key is None and self.limits(run.function) for run in self.model.at_work.values())
    )
    @rule(pick=picks, key=st.sampled_from(KEYS))
    def assign(self, pick, key):
        ids = sorted(one for one, run in self.model.at_work.items() if run.key is None and self.limits(run.function))
        one = self.claimed[ids[pick % len(ids)]]
        assert self.do(assign(self.ledger, [(Held(one.id, one.token, one.queue), key)])) == 1
        self.drop(one)
        run = self.model.end(one.id, "none")
        run.key, run.fresh = key, True
        self.model.wait(run)

    @precondition(lambda self: self.claimed)
    @rule(every=st.integers(1, 2))
    def beat(self, every):
        some = sorted(self.claimed)[::every]
        self.do(self.ledger.beat("w1", [Held(one, self.claimed[one].token, self.claimed[one].queue) for one in some]))
        for one in some:
            self.leases[one] = self.model.now + LEASE

    @precondition(lambda self: self.model.waiting)
    @rule(pick=picks)
    def cancel(self, pick):
        ids = sorted(self.model.waiting)
        run_id = ids[pick % len(ids)]
        assert self.do(self.ledger.cancel([run_id])) == ["cancelled"]
        del self.model.waiting[run_id]

    @rule(ms=st.sampled_from([1, 334, 500, 1_000, 1_000, 3_000, 5_000, 10_000]))
    def advance(self, ms):
        self.model.now += ms

    @rule()
    def reap(self):
        while self.do(self.ledger.reap()):
            pass
        for run_id, (due, run) in sorted(self.later.items(), key=lambda one: (one[1][0], one[0].encode())):
            if due <= self.model.now:
                del self.later[run_id]
                run.due = due
                self.wait(run)
        for run_id, until in sorted(self.leases.items(), key=lambda one: (one[1], one[0].encode())):
            if until <= self.model.now:
                run = self.drop(self.claimed[run_id])
                self.model.end(run_id, "none")
                (view,) = self.do(self.ledger.show([run_id]))
                if view.state == "queued":
                    self.wait(run, first=True)
                else:
                    assert (view.state, view.reason) == ("failed", "crashed")

    # --- calls ---

    @rule(function=st.sampled_from(["f", "f", "f:g"]), key=st.sampled_from(KEYS), within=st.sampled_from([0, 0, 2_000]))
    def enter(self, function, key, within):
        limits = self.model.limits[function]
        self.ask(
            Ask(function=function, limits=limits, holder=f"c{next(numbers)}", key=key if limits.keyed else ""), within
        )

    @precondition(lambda self: self.asks)
    @rule(pick=picks, within=st.sampled_from([0, 2_000]))
    def enter_again(self, pick, within):
        self.ask(self.asks.pop(pick % len(self.asks)), within)

    def ask(self, ask: Ask, within: int) -> None:
        (found,) = self.do(enter(self.ledger, [(ask, within / 1000)]))
        verdict, ms = self.model.enter(ask.function, ask.key, ask.holder, within)
        assert found.verdict == verdict
        if verdict != "open":
            assert found.seconds == pytest.approx(ms / 1000, abs=0.0011)
        self.asks.append(ask)

    def an_ask(self, pick: int) -> Ask:
        asks = self.asks + self.left
        return asks[pick % len(asks)]

    @precondition(lambda self: self.asks or self.left)
    @rule(pick=picks, verdict=verdicts, stays=st.sampled_from([False, False, True]))
    def leave(self, pick, verdict, stays):
        ask = self.an_ask(pick)
        self.do(leave(self.ledger, [Exit(ask, verdict, stays)]))
        self.model.leave(ask.function, ask.key, ask.holder, verdict, stays=stays)
        if not stays:
            for asks in (self.asks, self.left):
                with contextlib.suppress(ValueError):
                    asks.remove(ask)

    @precondition(lambda self: self.asks or self.left)
    @rule(pick=picks)
    def keep(self, pick):
        ask = self.an_ask(pick)
        self.do(keep(self.ledger, [ask]))
        self.model.keep(ask.function, ask.key, ask.holder)

    @precondition(lambda self: self.asks)
    @rule(pick=picks)
    def give_up(self, pick):
        ask = self.asks.pop(pick % len(self.asks))
        self.do(give_up(self.ledger, [ask]))
        self.model.give_up(ask.function, ask.key, ask.holder)


@pytest.mark.timeout(600)
def test_limits_do_what_the_model_does(valkey: Path):
    LimitsSides.drive(valkey, max_examples=60, stateful_step_count=30)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_limits_do_what_the_model_does_for_a_long_time(valkey: Path):
    LimitsSides.drive(valkey, max_examples=5000, stateful_step_count=50)
