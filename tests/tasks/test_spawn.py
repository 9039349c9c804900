"""background.spawn: what is begun is known, bounded, ended, and never fails in silence."""

import asyncio
import contextvars
import threading
import time
from functools import partial

import pytest

from runtime import BackgroundClosed, BackgroundError, BackgroundFull, background
from runtime.base.errors import DuplicateTask, TaskCancelled, TaskTimeout, UnknownTask
from runtime.tasks.home import close_manager
from tests.tasks.conftest import reach

pytestmark = pytest.mark.usefixtures("manager")


async def double(x: int) -> int:
    await asyncio.sleep(0)
    return x * 2


def triple(x: int) -> tuple[int, str]:
    return x * 3, threading.current_thread().name


async def fail(message: str) -> None:
    raise ValueError(message)


async def test_async_functions_run_on_the_loop_and_sync_ones_in_threads():
    assert await background.spawn(double, 2).result() == 4
    value, thread = await background.spawn(triple, x=2).result()
    assert (value, thread != threading.current_thread().name) == (6, True)


async def test_a_task_is_known_by_its_id_from_its_start_to_after_its_end(gate):
    task = background.spawn(gate.pause, id="mine")
    assert background.status("mine").state == "queued"
    await reach(lambda: background.status("mine").state == "running")
    assert [view.id for view in background.list("running")] == ["mine"]
    gate.open()
    assert await background.result("mine", timeout="5s") == "through"
    view = background.status("mine")
    assert (view.state, view.function.endswith("Gate.pause"), task.done) == ("succeeded", True, True)
    assert view.spawned <= view.began <= view.ended
    assert background.list("running") == []


async def test_ids_are_unique_among_open_tasks(gate):
    first = background.spawn(gate.pause, id="one")
    with pytest.raises(DuplicateTask, match='a background task "one" is queued; choose another id'):
        background.spawn(double, 1, id="one")
    gate.open()
    await first.result()
    assert await background.spawn(double, 1, id="one").result() == 2  # it may be used again
    assert await first.result() == "through"
    assert background.spawn(double, 1).id != background.spawn(double, 1).id


async def test_an_unknown_id_is_an_error_that_says_what_is_kept(gate):
    background.spawn(gate.pause, id="report-7")
    with pytest.raises(UnknownTask, match=r'no background task "report-8".*10m.*did you mean "report-7"'):
        background.status("report-8")


async def test_a_failure_is_raised_to_who_waits_and_logged_in_any_case(log):
    task = background.spawn(fail, "no such luck", id="bad")
    with pytest.raises(ValueError, match="no such luck"):
        await task.result()
    assert background.status("bad").error == "ValueError: no such luck"
    [line] = log.entries
    assert (line["event"], line["task"], line["log_level"]) == ("a background task failed", "bad", "error")
    assert line["background"] == "tests.tasks.test_spawn.fail"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
async def test_nothing_a_task_raises_ends_the_loop_or_who_waits(kind, log):
    async def leave():
        raise kind("bye")

    with pytest.raises((RuntimeError, TaskCancelled)):
        await background.spawn(leave).result()

    def leave_thread():
        raise kind("bye")

    with pytest.raises((RuntimeError, TaskCancelled)):
        await background.spawn(leave_thread).result()


async def test_a_task_past_its_timeout_is_cancelled_and_cleans_up(log):
    cleaned = []

    async def slow():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(True)

    task = background.spawn(slow, timeout="50ms")
    with pytest.raises(TaskTimeout, match=r"was not done when the 0.05 s of its own were over"):
        await task.result()
    assert (task.state, cleaned) == ("timeout", [True])
    assert [line["event"] for line in log.entries] == ["a background task took too long"]


async def test_to_wait_in_vain_ends_nothing(gate):
    task = background.spawn(gate.pause)
    with pytest.raises(TimeoutError, match="is running after 50ms and goes on"):
        await task.result("50ms")
    waiting = asyncio.ensure_future(task.result())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((waiting,))
    gate.open()
    assert await task.result() == "through"


async def test_cancel_ends_a_task_wherever_it_is(make, gate):
    make(concurrency=1)
    running, queued = background.spawn(gate.pause, id="a"), background.spawn(gate.pause, id="b")
    await reach(lambda: running.state == "running")
    assert queued.state == "queued"
    assert (background.cancel("b"), background.cancel("a")) == (True, True)
    for task in (running, queued):
        with pytest.raises(TaskCancelled):
            await task.result()
        assert task.state == "cancelled"
    assert gate.held == 0
    assert background.cancel("a") is False
    assert await background.spawn(double, 1).result() == 2  # the place is free


async def test_a_thread_past_its_time_keeps_its_place_until_it_ends(make, gate, log):
    make(threads=1)
    task = background.spawn(gate.wait, timeout="50ms")
    with pytest.raises(TaskTimeout):
        await task.result()
    after = background.spawn(triple, 1)
    await asyncio.sleep(0.05)
    assert (after.state, background.statistics().left, background.statistics().threads) == ("queued", 1, 1)
    gate.open()
    assert (await after.result())[0] == 3
    assert background.statistics().left == 0


async def test_a_coroutine_that_swallows_its_cancellation_is_named_and_keeps_its_place(make, log, monkeypatch):
    monkeypatch.setattr("runtime.tasks.work.GRACE_SECONDS", 0.05)
    make(concurrency=1)
    end = asyncio.Event()

    async def stubborn():
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    task = background.spawn(stubborn, timeout="50ms")
    with pytest.raises(TaskTimeout):
        await task.result()
    assert any("goes on though nobody waits" in line["event"] for line in log.entries)
    after = background.spawn(double, 2)
    await asyncio.sleep(0.02)
    assert after.state == "queued"
    end.set()
    assert await after.result() == 4


async def test_a_full_queue_is_an_error_and_begins_nothing(make, gate):
    make(concurrency=1, queue=2)
    tasks = [background.spawn(gate.pause) for _ in range(3)]
    with pytest.raises(
        BackgroundFull, match=r"2 background tasks wait already; try again later, or raise \[background\]"
    ):
        background.spawn(gate.pause)
    assert background.statistics().refused == 1
    assert (await background.spawn(triple, 1).result())[0] == 3  # there is a free thread: it does not wait
    gate.open()
    assert [await task.result() for task in tasks] == ["through"] * 3
    assert await background.spawn(double, 1).result() == 2


async def test_at_most_so_many_run_at_once_in_the_order_they_came(make):
    make(concurrency=3)
    running, most, order = 0, 0, []

    async def work(n: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(n)
        await asyncio.sleep(0.001)
        running -= 1

    for n in range(20):
        background.spawn(work, n)
    assert await background.idle("5s")
    assert (most, order) == (3, list(range(20)))


async def test_threads_spawn_wait_and_cancel_too(gate):
    def handler() -> tuple[int, str]:
        task = background.spawn(double, 4, id="of a thread")
        first = task.result_sync(timeout="5s")
        again = background.spawn(gate.pause)
        with pytest.raises(TimeoutError):
            again.result_sync("20ms")
        background.cancel(again.id)
        with pytest.raises(TaskCancelled):
            again.result_sync("5s")
        return first, background.status("of a thread").state

    assert await asyncio.to_thread(handler) == (8, "succeeded")
    with pytest.raises(BackgroundError, match=r"await task\.result"):
        background.spawn(gate.pause).result_sync()


async def test_the_context_of_who_spawns_is_carried(log):
    said = contextvars.ContextVar("said")
    said.set("by the spawner")

    async def look() -> str:
        return said.get()

    assert await background.spawn(look).result() == "by the spawner"
    assert await background.spawn(said.get).result() == "by the spawner"
    assert await background.spawn(partial(look)).result() == "by the spawner"


async def test_what_a_plain_function_returns_is_awaited_where_it_has_to_be():
    def around():
        return double(5)

    assert await background.spawn(around).result() == 10


async def test_arguments_that_do_not_fit_are_refused_where_they_are_given():
    with pytest.raises(TypeError, match=r"test_spawn.double: missing a required argument: 'x'"):
        background.spawn(double)
    with pytest.raises(TypeError, match="too many positional arguments"):
        background.spawn(triple, 1, 2)
    with pytest.raises(BackgroundError, match="is no function"):
        background.spawn(double(1).close())

    def items():
        yield 1

    with pytest.raises(BackgroundError, match="yields: give a function that returns its one result"):
        background.spawn(items)
    with pytest.raises(BackgroundError, match=r"timeout='soon': 'soon' is not a duration"):
        background.spawn(double, 1, timeout="soon")
    with pytest.raises(BackgroundError, match="id=3: an id is text"):
        background.spawn(double, 1, id=3)
    assert background.list() == []


async def test_a_function_with_a_parameter_of_an_options_name_has_its_options_said_before():
    async def call(id: int, timeout: str) -> tuple[int, str]:  # noqa: A002, ASYNC109 - that is what it is about
        return id, timeout

    with pytest.raises(BackgroundError, match=r"has a parameter 'id' of its own: write background.using"):
        background.spawn(call, id=1, timeout="2s")
    task = background.using(id="named", timeout="5s").spawn(call, id=1, timeout="x")
    assert (task.id, await task.result()) == ("named", (1, "x"))


async def test_those_that_ended_are_forgotten_by_number_and_by_time(make):
    make(keep_count=2)
    for n in range(4):
        await background.spawn(double, n, id=f"t{n}").result()
    await reach(lambda: [view.id for view in background.list()] == ["t2", "t3"])
    make(keep=0.05)
    task = background.spawn(double, 1)
    await task.result()
    await reach(lambda: background.list() == [])
    assert await task.result() == 2  # who holds it still has it


async def test_jitter_spreads_the_starts(gate):
    started = time.monotonic()
    tasks = [background.using(jitter="60ms").spawn(double, n) for n in range(20)]
    assert [await task.result() for task in tasks] == [n * 2 for n in range(20)]
    waited = [task.outcome.seconds for task in tasks]
    assert len(waited) == 20
    assert time.monotonic() - started > 0.02


async def test_statistics_count(gate, log):
    assert await background.spawn(double, 1).result() == 2
    bad, held = background.spawn(fail, "x"), background.spawn(gate.wait)
    await reach(lambda: bad.done and held.state == "running")
    found = background.statistics()
    assert (found.spawned, found.succeeded, found.failed, found.running, found.queued) == (3, 1, 1, 1, 0)
    assert (found.kept, found.threads, found.left) == (2, 1, 0)


# --- the end --------------------------------------------------------------------------------------------------


async def test_a_drain_waits_then_cancels_and_lets_cleanup_finish(make, log):
    manager = make()
    cleaned = []

    async def long():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            cleaned.append(True)

    short, endless = background.spawn(asyncio.sleep, 0.05), background.spawn(long, id="endless")
    await asyncio.sleep(0)
    await close_manager(manager, 0.3)
    assert (short.state, endless.state, cleaned) == ("succeeded", "cancelled", [True])
    [line] = log.entries
    assert (line["count"], line["tasks"][0][:8]) == (1, "endless ")


async def test_what_is_spawned_while_it_closes_is_refused(make, gate):
    manager = make()
    task = background.spawn(gate.pause)
    closing = asyncio.ensure_future(close_manager(manager, 5))
    await asyncio.sleep(0)
    with pytest.raises(BackgroundClosed, match="about to end"):
        background.spawn(double, 1)
    gate.open()
    await closing
    assert task.state == "succeeded"


async def test_threads_that_do_not_end_are_left_and_named(make, gate, log):
    manager = make()
    background.spawn(gate.wait)
    await reach(lambda: gate.held == 1)
    await close_manager(manager, 0.05)
    assert [line["event"] for line in log.entries] == [
        "background tasks are cancelled, for the process ends",
        "a function goes on though nobody waits for it; its place is free once it has ended",
    ]
