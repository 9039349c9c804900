"""Calls of several processes that share limits: each gate here is what one process has."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest

from runtime.base.errors import BreakerOpen, LimitReached, StoreDown
from runtime.invoke.limits.rules import Ask, Limits
from runtime.ledger.desk import Desk
from runtime.ledger.ledger import Ledger
from runtime.ledger.limits.calls import Exit, leave
from runtime.ledger.limits.gate import StoreGate

ONE = Limits(concurrency=1)


@pytest.fixture
async def gates(desk: Desk) -> AsyncIterator[tuple[StoreGate, StoreGate]]:
    found = StoreGate(desk), StoreGate(desk)
    yield found
    for gate in found:
        await asyncio.to_thread(gate.close)


def ask(holder: str, key: str = "", limits: Limits = ONE, function: str = "f") -> Ask:
    return Ask(function=function, limits=limits, holder=holder, key=key)


async def soon(condition: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def outcome(entering: Awaitable[object]) -> object:
    try:
        return await entering
    except (LimitReached, BreakerOpen) as error:
        return error


async def test_never_more_are_inside_than_may_be_and_all_get_in(gates):
    limits, inside, most, done = Limits(concurrency=3, keyed=True), dict.fromkeys("ab", 0), 0, []

    async def call(n: int) -> None:
        nonlocal most
        one = ask(str(n), "ab"[n % 2], limits)
        gate = gates[n // 2 % 2]
        await gate.enter(one, 30)
        inside[one.key] += 1
        most = max(most, inside[one.key])
        await asyncio.sleep(0.002)
        inside[one.key] -= 1
        done.append(n)
        gate.leave(one, "good")

    await asyncio.gather(*(call(n) for n in range(120)))
    assert (most, len(done)) == (3, 120)


async def test_one_process_lets_its_calls_in_in_their_order(gates):
    gate, order = gates[0], []

    async def call(n: int) -> None:
        await gate.enter(ask(str(n)), 30)
        order.append(n)
        gate.leave(ask(str(n)), "good")

    await asyncio.gather(*(call(n) for n in range(20)))
    assert order == list(range(20))


@pytest.mark.parametrize("limits", [Limits(failures=3, reset_ms=5000), Limits(every_ms=1, burst=1000)])
async def test_calls_that_no_places_bound_are_asked_for_together(gates, desk, monkeypatch, limits):
    asked, ask_store = [], desk.ask
    monkeypatch.setattr(desk, "ask", lambda call: asked.append(call) or ask_store(call))
    await asyncio.gather(*(gates[0].enter(ask(str(n), limits=limits), 30) for n in range(150)))
    assert len(asked) == 1


async def test_a_call_that_waits_too_long_is_refused_and_its_turn_is_the_next_one_s(gates):
    await gates[0].enter(ask("a"), 1)
    refused = await outcome(gates[1].enter(ask("b"), 0.05))
    assert isinstance(refused, LimitReached)
    assert refused.limit == "concurrency=1"
    waiting = asyncio.create_task(gates[1].enter(ask("c"), 10))
    await soon(lambda: any(waiter.waited for waiter in _waiters(gates[1])))
    gates[0].leave(ask("a"), "good")
    assert (await asyncio.wait_for(waiting, 5)).waited


async def test_a_rate_is_one_over_all_processes(gates):
    limits = Limits(every_ms=60_000, burst=3)
    found = [await outcome(gates[n % 2].enter(ask(str(n), limits=limits), 5)) for n in range(4)]
    assert [isinstance(one, LimitReached) for one in found] == [False, False, False, True]
    assert 50 < found[3].retry_seconds <= 60
    soon_enough = Limits(every_ms=50, burst=1)
    entries = [await gates[n % 2].enter(ask(str(n), limits=soon_enough, function="g"), 5) for n in range(3)]
    assert [entry.waited for entry in entries] == [False, True, True]


async def test_a_breaker_is_one_over_all_processes(trial, gates):
    limits = Limits(failures=2, reset_ms=5000)

    async def call(gate: StoreGate, holder: str) -> object:
        return await outcome(gate.enter(ask(holder, limits=limits), 1))

    for n in range(2):
        await call(gates[n], str(n))
        gates[n].leave(ask(str(n), limits=limits), "bad")
        await soon(lambda n=n: gates[n]._places._writing is None)
    refused = await call(gates[0], "x")
    assert isinstance(refused, BreakerOpen)
    assert refused.retry_seconds == 5
    trial.now += 5
    assert (await call(gates[1], "try")).trial
    assert isinstance(await call(gates[0], "y"), BreakerOpen)
    gates[1].leave(ask("try", limits=limits), "good")
    await soon(lambda: gates[1]._places._writing is None)
    assert not (await call(gates[0], "z")).trial


@pytest.mark.parametrize("when", ["asked", "waiting"])
async def test_a_caller_that_goes_leaves_nothing(gates, when):
    if when == "waiting":
        await gates[1].enter(ask("first"), 1)
    tasks = [asyncio.create_task(gates[0].enter(ask(str(n)), 30)) for n in range(3)]
    await soon(lambda: any(w.waited if when == "waiting" else w.asked for w in _waiters(gates[0])))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    if when == "waiting":
        gates[1].leave(ask("first"), "good")
    assert not (await asyncio.wait_for(gates[1].enter(ask("next"), 10), 5)).trial
    assert not gates[0]._lines
    assert not gates[0]._places.inside


def _waiters(gate: StoreGate) -> list:
    return [waiter for line in gate._lines.values() for waiter in line.values()]


async def test_what_goes_on_keeps_its_place_and_so_does_a_run_s_that_was_taken_over(gates):
    goes_on = asyncio.get_running_loop().create_future()
    await gates[0].enter(ask("a"), 1)
    gates[0].leave(ask("a"), "bad", [goes_on])
    gates[0].take_over(ask("run:7", function="g"), [goes_on])
    await asyncio.to_thread(gates[0].renew)
    assert isinstance(await outcome(gates[1].enter(ask("b"), 0.05)), LimitReached)
    assert isinstance(await outcome(gates[1].enter(ask("b", function="g"), 0.05)), LimitReached)
    goes_on.set_result(None)
    await asyncio.wait_for(gates[1].enter(ask("c"), 10), 5)
    await asyncio.wait_for(gates[1].enter(ask("c", function="g"), 10), 5)


async def test_a_process_that_ends_leaves_its_places(desk, gates):
    gate = StoreGate(desk)
    await gate.enter(ask("a"), 1)
    await asyncio.to_thread(gate.close)
    assert not (await gates[0].enter(ask("b"), 0)).waited


async def test_a_place_that_was_lost_is_taken_again(desk, gates):
    await gates[0].enter(ask("a"), 1)
    await desk.ask(leave(desk.ledger, [Exit(ask("a"), "none")]))
    await asyncio.to_thread(gates[0].renew)
    assert isinstance(await outcome(gates[1].enter(ask("b"), 0)), LimitReached)


async def test_what_leaves_while_its_place_is_renewed_does_not_come_back(desk, gates, monkeypatch):
    gate = gates[0]
    await gate.enter(ask("a"), 1)
    keeps = desk.ask_sync

    def leaves_first(call):
        gate._places.inside.pop("a")
        return keeps(call)

    with monkeypatch.context() as patch:
        patch.setattr(desk, "ask_sync", leaves_first)
        gate.renew()
    gate._places._write_from_thread()
    assert not (await gates[1].enter(ask("b"), 0)).waited


class Outage:
    """A way to the ledger that may be cut."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self.is_away = desk, False
        self.ledger: Ledger = desk.ledger

    def _check(self) -> None:
        if self.is_away:
            raise StoreDown("a test's")

    async def ask(self, call):
        self._check()
        return await self._desk.ask(call)

    def ask_sync(self, call):
        self._check()
        return self._desk.ask_sync(call)


async def test_a_fault_fails_the_calls_that_were_asked_for_and_no_other(desk, log):
    class Faulty(Outage):
        async def ask(self, call):
            if "bad" in call.arguments:
                raise ValueError("a test's")
            return await super().ask(call)

    gate = StoreGate(Faulty(desk))
    with pytest.raises(ValueError, match="a test's"):
        await gate.enter(ask("bad"), 1)
    await gate.enter(ask("good"), 1)
    gate.leave(ask("good"), "good")
    await asyncio.to_thread(gate.close)
    assert [line["event"] for line in log.entries] == ["calls cannot be let in"]


async def test_without_its_store_a_process_bounds_its_own_calls_until_that_is_back(desk, gates, log):
    outage = Outage(desk)
    gate = StoreGate(outage)
    limits = Limits(concurrency=2)
    await gate.enter(ask("before", limits=limits), 1)
    outage.is_away = True
    await gate.enter(ask("a", limits=limits), 1)
    assert isinstance(await outcome(gate.enter(ask("b", limits=limits), 0.05)), LimitReached)
    waiting = asyncio.create_task(gate.enter(ask("c", limits=limits), 10))
    await soon(lambda: gate._local._waiting)
    gate.leave(ask("before", limits=limits), "good")
    await asyncio.wait_for(waiting, 5)
    assert [line["event"] for line in log.entries] == [
        "the store does not answer: limits are kept by this process alone"
    ]
    outage.is_away = False
    await asyncio.to_thread(gate._places._try_to_keep)
    assert log.entries[-1]["event"] == "limits hold over all processes again"
    assert isinstance(await outcome(gates[0].enter(ask("d", limits=limits), 0.05)), LimitReached)  # a and c are inside
    for holder in "ac":
        gate.leave(ask(holder, limits=limits), "good")
    await asyncio.wait_for(gates[0].enter(ask("e", limits=limits), 10), 5)
    await asyncio.wait_for(gates[0].enter(ask("f", limits=limits), 10), 5)
    await asyncio.to_thread(gate.close)
