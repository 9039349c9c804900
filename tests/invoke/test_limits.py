"""The bounds of one process, against models: how many are inside, how often, in which order, and the breaker."""

import asyncio
from collections import deque
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from runtime.base.errors import BreakerOpen, LimitReached
from runtime.invoke.limits.local import Bounds, LocalGate
from runtime.invoke.limits.rules import Ask, Limits

FOREVER = 1e9


class _Calls(RuleBasedStateMachine):
    """Calls of one function with concurrency and rate, beside a list of when each began."""

    inside_now: Bundle[Ask] = Bundle("inside_now")

    @initialize(concurrency=st.integers(0, 3), every=st.sampled_from([0.0, 250.0, 1000.0]), burst=st.integers(1, 4))
    def begin(self, concurrency, every, burst):
        self.limits = Limits(concurrency=concurrency, every_ms=every, burst=burst, keyed=True)
        self.bounds, self.now, self.count = Bounds(), 1000.0, 0
        self.inside: dict[str, set[str]] = {}
        self.begun: dict[str, list[float]] = {}
        self.lines: dict[str, deque[Ask]] = {}

    def _free(self, key: str) -> bool:
        return not self.limits.concurrency or len(self.inside.get(key, ())) < self.limits.concurrency

    def _earliest(self, key: str) -> float:
        """When the rate allows one more: no burst + n starts in less than n times the pause."""
        every, begun = self.limits.every_ms / 1000, self.begun.get(key, [])
        free_at = 0.0
        for start, asked in begun:
            free_at = max(free_at, asked) + every
            assert start >= asked
        return max(self.now, free_at - every * (self.limits.burst - 1)) if every else self.now

    def _ask(self, ask: Ask, within: float) -> bool:
        line = self.lines.setdefault(ask.key, deque())
        may = self._free(ask.key) and (not line or not self.limits.concurrency or line[0] == ask)
        start = self._earliest(ask.key)
        found = self.bounds.enter(ask, self.now, within)
        if not may:
            assert found.verdict == "wait"
            if ask not in line:
                line.append(ask)
            return False
        if ask in line:
            line.remove(ask)
        if start - self.now > within + 1e-9:
            assert found.verdict == "late"
            return False
        assert found.verdict == "in"
        assert abs(self.now + found.seconds - start) < 1e-6
        self.begun.setdefault(ask.key, []).append((start, self.now))
        self.inside.setdefault(ask.key, set()).add(ask.holder)
        return True

    @rule(target=inside_now, key=st.sampled_from("ab"), within=st.sampled_from([0.0, 0.5, FOREVER]))
    def enter(self, key, within):
        self.count += 1
        ask = Ask(function="f", limits=self.limits, holder=str(self.count), key=key)
        return ask if self._ask(ask, within) else None

    @rule(ask=consumes(inside_now))
    def leave(self, ask):
        if ask is None:
            return
        self.bounds.judge(ask, "good", self.now)
        self.bounds.free(ask)
        self.inside[ask.key].discard(ask.holder)

    @rule(target=inside_now, key=st.sampled_from("ab"))
    def first_in_line_asks_again(self, key):
        line = self.lines.get(key) or deque()
        expected = line[0] if line and self._free(key) else None
        assert self.bounds.next_in_line("f", key, self.limits) == (expected.holder if expected else None)
        return expected if expected and self._ask(expected, FOREVER) else None

    @rule(key=st.sampled_from("ab"), back=st.booleans())
    def one_gives_up(self, key, back):
        line = self.lines.get(key)
        if line:
            ask = line[-1 if back else 0]
            line.remove(ask)
            self.bounds.give_up(ask)

    @rule(seconds=st.sampled_from([0.1, 0.25, 1.0, 10.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @invariant()
    def who_waits_is_known(self):
        if hasattr(self, "bounds"):
            assert sorted(self.bounds.waiting("f")) == sorted(a.holder for line in self.lines.values() for a in line)


TestCalls = _Calls.TestCase
TestCalls.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class _Breaker(RuleBasedStateMachine):
    """One function's breaker beside the plainest one there is."""

    at_work: Bundle[Ask] = Bundle("at_work")

    def __init__(self):
        super().__init__()
        self.limits = Limits(failures=3, reset_ms=5000)
        self.bounds, self.now, self.count = Bounds(), 0.0, 0
        self.state, self.failures, self.opened, self.trial = "closed", 0, 0.0, ""

    @rule(target=at_work)
    def call(self):
        self.count += 1
        ask = Ask(function="f", limits=self.limits, holder=str(self.count))
        found = self.bounds.enter(ask, self.now, 0)
        left = self.opened + 5 - self.now
        if self.state == "closed":
            assert (found.verdict, found.trial) == ("in", False)
            return ask
        if left > 0 or self.trial:
            assert found.verdict == "open"
            assert found.seconds == pytest.approx(left if left > 0 else 1.0)
            return None
        assert (found.verdict, found.trial) == ("in", True)
        self.trial = ask.holder
        return ask

    @rule(ask=consumes(at_work), verdict=st.sampled_from(["good", "bad", "bad", "none"]))
    def end(self, ask, verdict):
        if ask is None:
            return
        opened = self.bounds.judge(ask, verdict, self.now)
        self.bounds.free(ask)
        tries, self.trial = self.trial == ask.holder, "" if self.trial == ask.holder else self.trial
        expected = False
        if verdict == "good" and (tries or self.state == "closed"):
            self.state, self.failures = "closed", 0
        elif verdict == "bad" and (tries or self.state == "closed"):
            self.failures += 1
            expected = tries or self.failures >= 3
            if expected:
                self.state, self.opened = "open", self.now
        assert opened == expected

    @rule(seconds=st.sampled_from([0.5, 4.9, 5.0]))
    def time_passes(self, seconds):
        self.now += seconds


TestBreaker = _Breaker.TestCase
TestBreaker.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def ask(holder: str, key: str = "", **limits) -> Ask:
    return Ask(function="f", limits=Limits(**limits), holder=holder, key=key)


def test_keys_that_are_idle_are_forgotten():
    bounds = Bounds()
    for n in range(1000):
        one = ask("a", str(n), every_ms=1000, burst=1)
        assert bounds.enter(one, n * 10.0, 0).verdict == "in"
        bounds.free(one)
    assert len(bounds) <= 101
    for n in range(1000):
        one = ask("a", str(n), concurrency=1)
        bounds.enter(one, 1e6, 0)
        bounds.free(one)
    assert len(bounds) <= 101


async def soon(condition: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def test_calls_wait_in_the_order_they_came_in():
    gate, order = LocalGate(), []

    async def call(name: str) -> None:
        await gate.enter(ask(name, concurrency=1), 10)
        order.append(name)

    await call("0")
    tasks = [asyncio.create_task(call(str(n))) for n in range(1, 5)]
    await soon(lambda: len(gate._waiting) == 4)
    tasks[1].cancel()
    await asyncio.wait(tasks[1:2])
    for n in ("0", "1", "3"):
        gate.leave(ask(n, concurrency=1), "good")
        await soon(lambda n=n: len(order) > ("0", "1", "3").index(n) + 1)
    await asyncio.gather(tasks[0], *tasks[2:])
    assert order == ["0", "1", "3", "4"]
    gate.leave(ask("4", concurrency=1), "good")
    assert not gate._waiting
    assert not len(gate._bounds)


async def test_one_that_gives_up_when_its_turn_comes_hands_it_on():
    gate = LocalGate()
    await gate.enter(ask("a", concurrency=1), 1)
    second, third = (asyncio.create_task(gate.enter(ask(one, concurrency=1), 10)) for one in "bc")
    await soon(lambda: len(gate._waiting) == 2)
    gate.leave(ask("a", concurrency=1), "good")
    second.cancel()  # told already that it is its turn
    assert (await asyncio.wait_for(third, 5)).waited


async def test_a_call_that_waits_too_long_is_refused_by_name():
    gate = LocalGate()
    await gate.enter(ask("a", concurrency=1), 1)
    with pytest.raises(LimitReached, match="as much as concurrency=1 allows"):
        await gate.enter(ask("b", concurrency=1), 0.01)
    for n in range(2):
        await gate.enter(ask(f"r{n}", "k", every_ms=60_000, burst=2), 1)
    with pytest.raises(LimitReached, match='rate="1/m burst 2"') as caught:
        await gate.enter(ask("r2", "k", every_ms=60_000, burst=2), 1)
    assert 59 < caught.value.retry_seconds <= 60


async def test_a_breaker_that_opens_sends_those_away_who_wait():
    gate = LocalGate()
    said = {"concurrency": 1, "failures": 1, "reset_ms": 60_000}
    await gate.enter(ask("a", **said), 1)
    waiting = asyncio.create_task(gate.enter(ask("b", **said), 60))
    await soon(lambda: gate._waiting)
    gate.leave(ask("a", **said), "bad")
    with pytest.raises(BreakerOpen):
        await asyncio.wait_for(waiting, 5)


async def test_a_place_is_taken_until_what_is_left_has_ended():
    gate = LocalGate()
    goes_on = asyncio.get_running_loop().create_future()
    await gate.enter(ask("a", concurrency=1), 1)
    gate.leave(ask("a", concurrency=1), "bad", [goes_on])
    waiting = asyncio.create_task(gate.enter(ask("b", concurrency=1), 10))
    await soon(lambda: gate._waiting)
    gate.take_over(ask("c", concurrency=1), [])
    goes_on.set_result(None)
    assert (await asyncio.wait_for(waiting, 5)).waited
