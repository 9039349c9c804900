"""What is ready goes on in slices: in its order, and with a look at the sockets between them."""

import asyncio
import random
import socket
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from runtime.projects import loop_factory
from runtime.triggers.http.shedding.slices import ASKED, Slices

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=["ours", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    factory = loop_factory() if request.param == "ours" else None

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main)

    return run


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - turns of the loop are what is tested
            await asyncio.sleep(0)


def hold(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_the_order_is_kept_however_often_slices_begin_and_end(run: Run):
    drawn, seen = random.Random(7), []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        slices = Slices(loop, lambda: None)
        for number in range(3_000):
            loop.call_soon(seen.append, number)
            match drawn.randrange(8):
                case 0:
                    slices.begin()
                case 1:
                    slices.end()
                case 2:
                    loop.call_soon(hold, 0.0001)
                case 3:
                    await asyncio.sleep(0)
        await until(lambda: len(seen) == 3_000)
        slices.end()
        assert not slices.on

    run(main())
    assert seen == list(range(3_000))


def test_sockets_are_read_while_much_is_ready(run: Run):
    async def main() -> float:
        loop = asyncio.get_running_loop()
        ours, other = socket.socketpair()
        read: list[float] = []
        loop.add_reader(ours, lambda: (ours.recv(10), read.append(time.perf_counter())))
        slices = Slices(loop, lambda: None)
        slices.begin()
        for _ in range(200):
            loop.call_soon(hold, 0.002)
        other.send(b"hello")
        began = time.perf_counter()
        await until(lambda: len(slices._ready) <= 1)
        whole = time.perf_counter() - began
        loop.remove_reader(ours)
        ours.close()
        other.close()
        return (read[0] - began) / whole

    assert run(main()) < 0.3  # a slice of 5 ms of 400


def test_what_was_cancelled_does_not_run_and_what_raises_is_told_of(run: Run):
    async def main() -> None:
        loop, told, ran = asyncio.get_running_loop(), [], []
        loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))
        slices = Slices(loop, lambda: None)
        slices.begin()
        variable: ContextVar[str] = ContextVar("variable")
        variable.set("seen")
        loop.call_soon(ran.append, 1).cancel()
        loop.call_soon(lambda: 1 / 0)
        loop.call_soon(lambda: ran.append(variable.get()))
        await asyncio.gather(*(asyncio.sleep(0.001, number) for number in range(3)))
        assert (told, ran) == (["division by zero"], ["seen"])

    run(main())


def test_how_long_the_next_one_waits_is_told_and_each_slice_is(run: Run):
    async def main() -> None:
        loop, delays = asyncio.get_running_loop(), []
        slices = Slices(loop, lambda: delays.append(slices.delay(time.perf_counter())))
        slices.begin()
        for _ in range(10):
            loop.call_soon(hold, 0.006)  # one a slice
        await until(lambda: len(delays) >= 10)
        assert delays[8] > delays[0] > 0.005
        assert slices.worked_seconds > 0.05
        await asyncio.sleep(0.001)
        slices.end()
        assert slices.delay(time.perf_counter()) == 0.0

    run(main())


def test_what_requests_still_cost_is_told_before_any_has_waited_for_it(run: Run):
    async def main() -> None:
        loop, told = asyncio.get_running_loop(), []
        slices = Slices(loop, lambda: told.append((slices.delay(time.perf_counter()), slices.worked_seconds)))
        slices.begin()
        request = copy_context()
        request.run(ASKED.set, True)
        for _ in range(50):
            loop.call_soon(hold, 0.006, context=request)
            loop.call_soon(int)  # of others
        await until(lambda: bool(told))
        delay, worked = told[0]
        assert 0.2 < delay <= 50 * worked, "49 are left, and each will take what the first took"
        await until(lambda: not slices.delay(time.perf_counter()))

    run(main())


def test_a_loop_that_ends_in_the_middle_leaves_nothing_undone(run: Run):
    ended = []

    async def worker() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def main() -> None:
        Slices(asyncio.get_running_loop(), lambda: None).begin()
        asyncio.current_task().workers = [asyncio.create_task(worker()) for _ in range(5)]  # type: ignore[union-attr]
        await asyncio.sleep(0)

    run(main())
    assert len(ended) == 5


def test_what_the_loop_does_not_take_leaves_it_as_it_was(run: Run):
    async def main() -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        Slices(loop, lambda: None).begin()
        with pytest.raises(RuntimeError, match="thread"):
            await asyncio.to_thread(loop.call_soon, int)
        async with asyncio.timeout(15):
            await asyncio.sleep(0)
        return loop

    loop = run(main())
    for _ in range(2):
        with pytest.raises(RuntimeError, match="closed"):
            loop.call_soon(int)
