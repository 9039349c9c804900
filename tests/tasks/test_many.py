"""background.gather and its kin: an outcome for each argument, in order, whatever becomes of it."""

import asyncio
import threading
import time

import pytest

from runtime import BackgroundError, background
from runtime.base.errors import TaskCancelled, TaskTimeout
from tests.tasks.conftest import reach

pytestmark = pytest.mark.usefixtures("manager")


async def half(x: int) -> int:
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x // 2


async def test_there_is_an_outcome_for_each_in_order():
    found = await background.gather(half, range(6), concurrency=2)
    assert [(one.state, one.value, str(one.error)) for one in found] == [
        ("succeeded", 0, "None"),
        ("failed", None, "1 is odd"),
        ("succeeded", 1, "None"),
        ("failed", None, "3 is odd"),
        ("succeeded", 2, "None"),
        ("failed", None, "5 is odd"),
    ]
    assert [one.ok for one in found] == [True, False] * 3
    assert found[2].result() == 1
    with pytest.raises(ValueError, match="1 is odd"):
        found[1].result()
    assert await background.gather(half, []) == []


async def test_arguments_are_names_or_a_tuple_or_the_only_one():
    async def join(a, b="-"):
        return f"{a}{b}"

    found = await background.gather(join, [{"a": 1, "b": 2}, (3, 4), (5,), 6, ({"a": 7},)])
    assert [one.value for one in found] == ["12", "34", "5-", "6-", "{'a': 7}-"]
    assert (await background.gather(join, [{"c": 1}]))[0].state == "failed"  # TypeError, as a call of it would raise


async def test_at_most_so_many_are_at_work():
    running, most = 0, 0

    async def work(_: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    assert all(one.ok for one in await background.gather(work, range(30), concurrency=4))
    assert most == 4


async def test_each_has_its_time_from_when_it_begins():
    async def wait(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    found = await background.gather(wait, [60, 0.001, 60], concurrency=1, task_timeout="50ms")
    assert [one.state for one in found] == ["timeout", "succeeded", "timeout"]
    assert isinstance(found[0].error, TaskTimeout)
    assert found[2].waited_seconds < 0.05 <= found[2].seconds


async def test_when_the_time_of_all_is_over_nothing_is_left_and_nothing_is_none():
    cleaned = []

    async def wait(n: int) -> int:
        if n == 0:
            return n
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(n)
        return n

    found = await background.gather(wait, range(4), concurrency=2, total_timeout="60ms")
    assert [one.state for one in found] == ["succeeded", "timeout", "timeout", "not begun"]
    assert sorted(cleaned) == [1, 2]
    assert [str(one.error).split(" ", 1)[1] for one in found[1:]] == [
        "was not done when the 0.06 s of all were over",
        "was not done when the 0.06 s of all were over",
        "has not begun: the 0.06 s of all were over",
    ]


async def test_one_that_cancels_itself_says_so():
    async def leave(_: int) -> None:
        raise asyncio.CancelledError

    [one] = await background.gather(leave, [1])
    assert (one.state, type(one.error)) == ("cancelled", TaskCancelled)


async def test_who_is_cancelled_takes_all_of_them_along(gate):
    gathering = asyncio.ensure_future(background.gather(gate.pause, range(5), concurrency=3))
    await reach(lambda: gate.held == 3)
    gathering.cancel()
    await asyncio.wait((gathering,))
    assert (gathering.cancelled(), gate.held) == (True, 0)


async def test_sync_functions_run_in_threads_which_all_share(make):
    make(threads=2)
    running, most, lock = 0, 0, threading.Lock()

    def work(n: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1
        return n

    some, others = await asyncio.gather(
        background.gather(work, range(6), concurrency=5), background.in_threads(work, range(6))
    )
    assert [one.value for one in some] == [one.value for one in others] == list(range(6))
    assert most == 2


async def test_a_thread_past_its_time_is_an_outcome_and_keeps_its_place(make, gate, log):
    make(threads=1)
    found = await background.in_threads(gate.wait, [1, 2], task_timeout="50ms", total_timeout="300ms")
    assert [one.state for one in found] == ["timeout", "not begun"]
    assert background.statistics().left == 1


async def test_in_thread_returns_raises_and_leaves(gate, log):
    assert await background.in_thread(sum, [1, 2]) == 3
    with pytest.raises(ZeroDivisionError):
        await background.in_thread(divmod, 1, 0)
    with pytest.raises(TaskTimeout):
        await background.using(timeout="30ms").in_thread(gate.wait)
    calling = asyncio.ensure_future(background.in_thread(gate.wait))
    await reach(lambda: gate.held == 2)
    calling.cancel()
    await asyncio.wait((calling,))
    assert (calling.cancelled(), gate.held) == (True, 2)
    with pytest.raises(BackgroundError, match="has no id"):
        await background.using(id="x").in_thread(sum, [1])


async def test_a_spawned_task_may_gather_though_all_places_are_taken(make):
    make(concurrency=1)

    async def outer() -> list[int]:
        return [one.result() for one in await background.gather(half, [2, 4])]

    assert await background.spawn(outer).result("5s") == [1, 2]
    assert await background.spawn(background.gather, half, [2]).result("5s") == await background.gather(half, [2]) or 1


async def test_what_cannot_hold_is_refused():
    with pytest.raises(BackgroundError, match="concurrency=0: write a whole number"):
        await background.gather(half, [1], concurrency=0)
    with pytest.raises(TypeError, match="unknown options: concurency; there are: concurrency"):
        await background.in_threads(half, [1], concurency=2)
    with pytest.raises(BackgroundError, match="jitter=-1"):
        await background.gather(half, [1], jitter=-1)

    async def items(_: int):
        yield 1

    with pytest.raises(BackgroundError, match="yields"):
        await background.gather(items, [1])
