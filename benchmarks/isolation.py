"""What it costs to call a function with isolation="process", beside a thread, and beside other ways to a process.

    python -P benchmarks/isolation.py [--count 2000] [--rounds 3]

For each way, one call after the other of a function that returns its argument: p50 and p99 in ms, calls a second; and
the same with four callers at once. "fork a call" is a process for each call, as a run has that ended its worker. The
invoker is the runtime's own, without HTTP. ProcessPoolExecutor and anyio.to_process pickle what goes each way, kill
nothing at a timeout, and keep no function's memory and environment from another's.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import anyio.to_process

from runtime.base.ids import new_run_id, trace_of
from runtime.invoke.invocation import Invocation
from runtime.invoke.invoker import Invoker
from runtime.invoke.isolation.calls import Isolated
from runtime.invoke.isolation.cells import Cells
from runtime.invoke.isolation.places import Keep
from runtime.invoke.isolation.surroundings import cell_command, clean_surroundings, isolated_of
from runtime.projects import load_project, loop_factory

FUNCTIONS = """
from runtime import fn

@fn()
def thread(value: dict[str, int]) -> dict[str, int]:
    return value

@fn(isolation="process")
def process(value: dict[str, int]) -> dict[str, int]:
    return value
"""
VALUE = {"a": 1, "b": 2}

Way = Callable[[], Awaitable[object]]


def same(value: dict[str, int]) -> dict[str, int]:
    return value


async def measure(name: str, way: Way, count: int, rounds: int) -> None:
    await asyncio.gather(*(way() for _ in range(4)))  # warm
    found = []
    for _ in range(rounds):
        times = []
        for _ in range(count):
            began = time.perf_counter()
            await way()
            times.append((time.perf_counter() - began) * 1000)
        found.append(times)
    best = min(found, key=statistics.median)
    p50, p99 = statistics.median(best), statistics.quantiles(best, n=100)[98]
    began = time.perf_counter()

    async def caller() -> None:
        for _ in range(count // 4):
            await way()

    await asyncio.gather(*(caller() for _ in range(4)))
    at_once = count / (time.perf_counter() - began)
    print(f"{name:24} p50 {p50:7.3f} ms   p99 {p99:7.3f} ms   {1000 / p50:7.0f}/s   four at once {at_once:7.0f}/s")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "functions").mkdir()
        (root / "functions" / "echo.py").write_text(FUNCTIONS)
        project = load_project(root)
        functions = project.registry.functions
        warm = isolated_of(root, project.settings.isolation)
        surroundings = clean_surroundings({"PATH": "/usr/bin"})
        forks = Isolated(
            lambda: Cells((*cell_command(root), "--calls"), 8, keep=Keep(jobs=1), surroundings=surroundings)
        )

        def way(invoker: Invoker, name: str) -> Way:
            def call() -> Awaitable[object]:
                run_id = new_run_id()
                return invoker.invoke(
                    Invocation(
                        function=functions[name],
                        trigger="http",
                        arguments={"value": VALUE},
                        run_id=run_id,
                        trace=trace_of(run_id, None),
                        timeout_seconds=30.0,
                    )
                )

            return call

        invoker, forking = Invoker(threads=8, isolated=warm), Invoker(threads=1, isolated=forks)
        for one in (invoker, forking):
            one.adopt(functions.values())
        with ProcessPoolExecutor(8, mp_context=get_context("spawn")) as pool:
            loop = asyncio.get_running_loop()
            await measure("a thread", way(invoker, "echo.thread"), given.count, given.rounds)
            await measure("isolated", way(invoker, "echo.process"), given.count, given.rounds)
            await measure("a fork a call", way(forking, "echo.process"), max(given.count // 10, 40), given.rounds)
            await measure(
                "ProcessPoolExecutor", lambda: loop.run_in_executor(pool, same, VALUE), given.count, given.rounds
            )
            await measure("anyio.to_process", lambda: anyio.to_process.run_sync(same, VALUE), given.count, given.rounds)
        await warm.aclose()
        await forks.aclose()
        invoker.threads.close()
        forking.threads.close()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())
