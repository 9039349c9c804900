"""Running handlers: their own task or thread, their time, their end."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from functools import partial

import anyio
import pytest

from runtime.invoke.execute import Stream, in_threads, noting_what_is_left, run_async, run_in_thread
from runtime.invoke.slot import Slot
from runtime.invoke.threads.pool import Finished, Threads
from tests.live_servers import until

here: contextvars.ContextVar[str] = contextvars.ContextVar("here", default="outside")


@pytest.fixture
def threads() -> Iterator[Threads]:
    found = Threads(2)
    yield found
    found.close()


async def busy(threads: Threads, count: int) -> None:
    with anyio.fail_after(5):
        while threads.busy != count:
            await anyio.lowlevel.checkpoint()


async def test_a_handlers_context_variables_stay_its_own():
    async def handler() -> str:
        here.set("inside")
        return here.get()

    assert (await run_async("f", handler, 1)).value == "inside"
    assert here.get() == "outside"


async def test_a_cancelled_caller_cancels_its_handler():
    ended = asyncio.Event()

    async def handler() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    caller = asyncio.create_task(run_async("f", handler, 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()


async def test_what_is_left_running_is_noted(threads: Threads):
    release, go_on = threading.Event(), asyncio.Event()

    async def stubborn() -> None:
        while not go_on.is_set():
            with suppress(asyncio.CancelledError):
                await go_on.wait()

    with noting_what_is_left() as left:
        assert not (await run_async("f", lambda: asyncio.sleep(0), 5)).timed_out
        assert not (await run_in_thread(threads, lambda: None, 5)).timed_out
        assert left == []
        with noting_what_is_left() as same:
            assert (await run_in_thread(threads, lambda: release.wait(60), 0.01)).timed_out
            assert (await run_async("f", stubborn, 0.01)).timed_out
    assert [one.done() for one in left] == [False, False]
    assert same is left
    release.set()
    go_on.set()
    await asyncio.to_thread(until, lambda: all(one.done() for one in left))


async def test_a_task_group_and_a_timeout_work_in_a_handler():
    async def handler() -> str:
        async with asyncio.timeout(1), asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.sleep(0, "done"))
        with anyio.move_on_after(0.01):
            await anyio.sleep(60)
        return task.result()

    assert (await run_async("f", handler, None)).value == "done"


async def test_a_thread_sees_the_context_and_counts_while_it_works(threads: Threads):
    here.set("caller")
    release = threading.Event()

    def handler() -> str:
        release.wait(5)
        return here.get()

    caller = asyncio.create_task(run_in_thread(threads, handler, 5))
    await busy(threads, 1)
    release.set()
    assert (await caller).value == "caller"
    assert threads.busy == 0


async def test_a_thread_past_its_time_keeps_its_place(threads: Threads):
    release = threading.Event()
    assert (await run_in_thread(threads, partial(release.wait, 5), 0.05)).timed_out
    assert threads.busy == 1
    release.set()
    await busy(threads, 0)


async def test_a_call_that_waits_for_a_thread_past_its_time_never_begins(threads: Threads):
    release, began = threading.Event(), []
    blockers = [asyncio.create_task(run_in_thread(threads, partial(release.wait, 5), 5)) for _ in range(2)]
    await busy(threads, 2)
    assert (await run_in_thread(threads, lambda: began.append(1), 0.05)).timed_out
    release.set()
    await asyncio.gather(*blockers)
    assert (await run_in_thread(threads, lambda: "next", 5)).value == "next"
    assert began == []


async def test_what_is_handed_to_threads_comes_back_on_the_loop(threads: Threads):
    here.set("caller")
    loop, ended, back = asyncio.get_running_loop(), asyncio.Event(), []

    def come_back(finished: Finished) -> None:
        back.append((finished.value, type(finished.error), threading.get_ident()))
        if len(back) == 101:
            ended.set()

    for _ in range(100):
        threads.hand(here.get, contextvars.copy_context(), come_back, loop)
    threads.hand(partial(exec, "raise SystemExit"), contextvars.copy_context(), come_back, loop)
    await asyncio.wait_for(ended.wait(), 15)
    mine = threading.get_ident()
    assert sorted(back, key=repr) == sorted([("caller", type(None), mine)] * 100 + [(None, SystemExit, mine)], key=repr)


async def test_what_was_handed_and_is_cancelled_never_begins_or_is_left(threads: Threads):
    release, began = threading.Event(), []
    loop, context = asyncio.get_running_loop(), contextvars.copy_context
    blockers = [threads.hand(partial(release.wait, 15), context(), began.append, loop) for _ in range(2)]
    await busy(threads, 2)
    waits = threads.hand(lambda: began.append("waits"), context(), began.append, loop)
    assert waits.cancel()
    assert not blockers[0].cancel()
    threads.leave(blockers[0])
    assert list(threads._left) == [blockers[0]]
    release.set()
    await busy(threads, 0)
    assert (await run_in_thread(threads, lambda: "next", 15)).value == "next"
    until(lambda: not threads._left)
    assert [one.value for one in began] == [True]


async def numbers(log: list[str]) -> AsyncIterator[int]:
    try:
        for n in range(100):
            log.append(f"made {n}")
            yield n
    finally:
        log.append("closed")


async def test_a_stream_is_made_no_faster_than_it_is_read():
    log: list[str] = []
    stream = Stream("f", numbers(log), 1)
    assert (await stream.peek()).value == 0
    assert (await stream.peek()).value == 0
    async with aclosing(stream):
        assert [await anext(stream), await anext(stream)] == [0, 1]
    assert log[-1] == "closed"
    assert len(log) <= 6


async def test_a_stream_gives_every_item_and_ends():
    stream = Stream("f", numbers([]), None)
    assert [n async for n in stream] == list(range(100))


async def test_each_wait_for_an_item_has_a_time_of_its_own():
    slot = Slot()

    async def give(item: str) -> None:
        await asyncio.sleep(0.05)
        await slot.put(item)

    for wait in (60, None, 30, 0.02):
        giver = asyncio.create_task(give(f"{wait}"))
        if wait == 0.02:
            with pytest.raises(TimeoutError):
                await slot.get(wait)
        else:
            assert await slot.get(wait) == f"{wait}"
        await giver
    await give_up_waiting(slot)
    assert await slot.get(0.01) == "0.02"
    slot.close()


async def give_up_waiting(slot: Slot) -> None:
    """A put that waits for room, and is cancelled, leaves nothing behind."""
    waits = asyncio.create_task(slot.put("never"))
    await asyncio.sleep(0)
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)


async def test_a_stream_that_cannot_clean_up_has_failed():
    async def items() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise OSError("clean-up")

    stream = Stream("f", items(), 1)
    with pytest.raises(OSError, match="clean-up"):
        _ = [n async for n in stream]


async def test_a_handler_that_cancels_itself_ends_its_stream():
    async def items() -> AsyncIterator[int]:
        yield 1
        raise asyncio.CancelledError

    stream = Stream("f", items(), 1)
    assert await anext(stream) == 1
    with pytest.raises(RuntimeError, match="the handler raised CancelledError"):
        await anext(stream)


async def test_a_cancelled_wait_for_the_first_item_closes_the_stream():
    log: list[str] = []

    async def items() -> AsyncIterator[int]:
        try:
            await asyncio.sleep(60)
            yield 1
        finally:
            log.append("closed")

    stream = Stream("f", items(), None)
    waiter = asyncio.create_task(stream.peek())
    for _ in range(3):
        await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert log == ["closed"]


async def test_a_sync_generator_runs_in_threads_in_one_context(threads: Threads):
    def items() -> Iterator[str]:
        here.set("generator")
        yield threading.current_thread().name
        yield here.get()

    name, context = [item async for item in in_threads(items(), threads)]
    assert name.startswith("handler")
    assert context == "generator"


async def test_a_sync_generator_that_is_left_is_closed(threads: Threads):
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.set()

    stream = Stream("f", in_threads(items(), threads), 1)
    assert await anext(stream) == 1
    await stream.aclose()
    assert closed.wait(5)


async def test_a_sync_generator_at_work_is_left_to_its_thread(threads: Threads):
    release = threading.Event()

    def items() -> Iterator[int]:
        release.wait(5)
        yield 1

    stream = Stream("f", in_threads(items(), threads), 0.05)
    assert (await stream.peek()).timed_out
    assert threads.busy == 1
    release.set()
