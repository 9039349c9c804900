"""How many threads are at work at once, and who goes next."""

import asyncio
import threading
import time
from contextvars import copy_context
from queue import Empty

import pytest

from runtime.invoke.threads.pool import Threads
from runtime.invoke.threads.turnstile import Turnstile
from tests.live_servers import until


def compute(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.fixture
def threads():
    found = Threads(20)
    yield found
    found.close()


async def at_work(threads: Threads, count: int) -> None:
    async with asyncio.timeout(15):
        while threads.busy < count:  # noqa: ASYNC110 - threads set no event
            await asyncio.sleep(0.005)


async def ended(*jobs) -> list:
    return [await asyncio.wait_for(asyncio.wrap_future(job), 60) for job in jobs]


async def test_those_that_wait_are_soon_all_at_work(threads: Threads):
    go = threading.Event()
    jobs = [threads.start(lambda: go.wait(60), copy_context()) for _ in range(20)]
    await at_work(threads, 20)
    go.set()
    await ended(*jobs)
    assert not threads.are_crowded()


async def test_of_those_that_compute_few_are_at_work_and_all_are_done_in_their_order(threads: Threads):
    began: list[int] = []
    busy: list[int] = []

    def work(number: int) -> None:
        began.append(number)
        busy.append(threads.busy)
        compute(0.02)

    for _ in range(3):  # where others have the processor, who computes looks like one who waits
        began.clear()
        busy.clear()
        await ended(*(threads.start(lambda number=number: work(number), copy_context()) for number in range(100)))
        assert max(abs(number - at) for at, number in enumerate(began)) <= 20  # threads that go on at once may swap
        if max(busy) < 20:
            break
    assert max(busy) < 20


async def test_after_them_there_is_a_thread_for_everybody_again(threads: Threads):
    await ended(*(threads.start(lambda: compute(0.02), copy_context()) for _ in range(60)))
    await test_those_that_wait_are_soon_all_at_work(threads)


def test_another_loop_is_as_good():
    threads = Threads(20)
    for _ in range(3):  # each loop is closed while it looks
        asyncio.run(test_those_that_wait_are_soon_all_at_work(threads))
    threads.close()


async def test_what_is_begun_from_a_thread_is_looked_after(threads: Threads):
    """As what closes a generator is."""
    go, later = threading.Event(), []
    jobs = [threads.start(lambda: go.wait(60), copy_context()) for _ in range(3)]
    begin = threading.Thread(
        target=lambda: later.extend(threads.start(lambda: go.wait(60), copy_context()) for _ in range(10))
    )
    begin.start()
    await at_work(threads, 13)
    go.set()
    await ended(*jobs, *later)
    begin.join()


@pytest.mark.parametrize("seconds", [0.02, 0.2])
async def test_a_burst_after_calls_that_came_one_by_one_is_no_crowd(threads: Threads, seconds: float):
    for _ in range(40 if seconds < 0.1 else 8):
        await ended(threads.start(lambda: time.sleep(seconds), copy_context()))
    jobs = []
    for _ in range(20):  # as many as there are threads: none of them waits for long
        assert not threads.are_crowded()
        jobs.append(threads.start(lambda: time.sleep(seconds), copy_context()))
    await ended(*jobs)


async def test_what_never_ends_keeps_others_from_nothing(threads: Threads):
    over = False

    def spin() -> None:
        while not over:
            pass

    stuck = [threads.start(spin, copy_context()) for _ in range(6)]
    try:
        async with asyncio.timeout(30):
            for _ in range(20):
                await asyncio.wrap_future(threads.start(int, copy_context()))
        assert not threads.are_crowded()
    finally:
        over = True
    await ended(*stuck)


async def test_when_all_threads_are_stuck_that_is_a_crowd(threads: Threads):
    go = threading.Event()
    jobs = [threads.start(lambda: go.wait(60), copy_context()) for _ in range(21)]
    await at_work(threads, 20)
    async with asyncio.timeout(15):
        while not threads._queue.long or not threads.are_crowded():  # noqa: ASYNC110 - threads set no event
            await asyncio.sleep(0.02)
    go.set()
    await ended(*jobs)
    assert not threads.are_crowded()


async def test_what_is_begun_from_a_thread_once_ends_no_look_for_ever(threads: Threads):
    await test_what_is_begun_from_a_thread_is_looked_after(threads)
    await test_of_those_that_compute_few_are_at_work_and_all_are_done_in_their_order(threads)


async def test_what_was_cancelled_while_it_waited_with_a_thread_does_not_begin(threads: Threads):
    threads._queue.set_width(1)
    go, ran = threading.Event(), []
    first = threads.start(lambda: go.wait(60), copy_context())
    held = [threads.start(lambda: ran.append(1), copy_context()) for _ in range(3)]
    threads._crowding._loop = None  # nobody widens it
    until(lambda: threads._queue.waiting == 3 and not threads._queue.qsize())
    assert held[0].cancel()
    go.set()
    await ended(first, *held[1:])
    assert ran == [1, 1]


async def test_a_pool_that_closes_lets_everybody_end():
    threads = Threads(4)
    threads._queue.set_width(1)
    go = threading.Event()
    jobs = [threads.start(lambda: go.wait(60), copy_context()) for _ in range(3)]
    until(lambda: threads.busy == 1 and threads._queue.waiting == 2 and not threads._queue.qsize())
    threads.close()
    until(lambda: threads.busy == 3)
    go.set()
    until(lambda: all(job.done() for job in jobs))


def test_a_turnstile_lets_as_many_through_as_its_width_in_their_order():
    turnstile, through, ends = Turnstile(2), [], threading.Semaphore(0)

    def worker() -> None:
        turnstile.enlist()
        while (item := turnstile.get()) is not None:
            through.append(item)
            ends.acquire()

    workers = [threading.Thread(target=worker, daemon=True) for _ in range(6)]
    for thread in workers:
        thread.start()
    for number in range(20):
        turnstile.put(number)
    until(lambda: len(through) == 2 and turnstile.waiting == 18)
    assert turnstile.is_full
    turnstile.set_width(3)
    until(lambda: len(through) == 3)
    turnstile.set_width(1)
    ends.release(2)
    until(lambda: turnstile.working == 1)
    assert len(through) == 3  # two have ended, one is at work: none may follow
    ends.release()
    until(lambda: len(through) == 4)
    turnstile.set_width(6)
    until(lambda: len(through) == 9)
    ends.release(20)
    until(lambda: len(through) == 20)
    assert sorted(through) == list(range(20))
    for _ in workers:
        turnstile.put(None)
    for thread in workers:
        thread.join(15)
    assert not any(thread.is_alive() for thread in workers)
    with pytest.raises(Empty):
        turnstile.get_nowait()
