"""The store goes away under a worker: stopped, frozen, cut, reset. It takes up again by itself, and nothing is lost."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from runtime.base.errors import StoreDown
from tests.live_servers import until
from tests.live_workers import LEASE_SECONDS, Runs, Starts, Worker, journal, wait_for_lines, workers
from tests.stores import Proxy, TcpStore

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

FUNCTIONS = """
    import asyncio, os
    from pathlib import Path
    from runtime import Context, queue

    JOURNAL = os.open(Path(__file__).parents[1] / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    @queue("default")
    async def nap(ctx: Context, seconds: float = 0.0):
        os.write(JOURNAL, f"{ctx.run_id} {ctx.attempt}\\n".encode())
        await asyncio.sleep(seconds)
        return "slept"
"""
OUTAGE_SECONDS = LEASE_SECONDS + 3.0


@pytest.fixture
def root(write_project: Callable[..., Path]) -> Path:
    return write_project(**{"functions/jobs.py": FUNCTIONS})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TcpStore]:
    with TcpStore(tmp_path) as server:
        yield server


@pytest.fixture
def proxy(server: TcpStore) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def start(root: Path, proxy: Proxy, runs: Runs) -> Iterator[Starts]:
    with workers(root, proxy.url) as start:
        yield start


def ten_at_work(start: Starts, runs: Runs, root: Path, seconds: float) -> tuple[Worker, list[str]]:
    worker = start()
    ids = runs.submit("jobs.nap", count=10, seconds=seconds)
    wait_for_lines(root, 10)
    return worker, ids


def goes_on(worker: Worker, runs: Runs) -> None:
    """It runs what is submitted, and reports no fault but the store's."""
    assert worker.process.poll() is None, worker.output
    found = runs.reach(runs.submit("jobs.nap", count=20))
    assert {view.state for view in found} == {"succeeded"}
    assert not (found := [line for line in worker.output.splitlines() if "Traceback" in line]), found[0]
    assert worker.stop() == 0, worker.output


def answers(runs: Runs) -> bool:
    with suppress(redis.RedisError):
        return bool(runs.client.ping())
    return False


def test_handlers_go_on_and_their_outcomes_are_written_when_the_store_is_back(start, runs, root, proxy):
    worker, ids = ten_at_work(start, runs, root, 1)
    proxy.cut()
    time.sleep(OUTAGE_SECONDS)
    proxy.restore()
    found = runs.reach(ids)
    assert {(view.state, view.crashes) for view in found} == {("succeeded", 0)}
    assert Counter(run for run, _ in journal(root)) == Counter(ids)
    goes_on(worker, runs)


def test_a_stopped_store_is_waited_for(start, runs, root, server):
    worker, ids = ten_at_work(start, runs, root, 2)
    server.stop()
    time.sleep(OUTAGE_SECONDS)
    server.start()
    until(lambda: answers(runs))
    assert {view.state for view in runs.reach(ids)} == {"succeeded"}
    goes_on(worker, runs)


def test_a_frozen_store_is_waited_for(start, runs, root, server):
    worker, ids = ten_at_work(start, runs, root, 2)
    server.freeze()
    time.sleep(10)
    server.thaw()
    found = runs.reach(ids)
    assert {(view.state, view.crashes) for view in found} == {("succeeded", 0)}
    goes_on(worker, runs)


def test_a_black_hole_is_waited_for(start, runs, root, proxy):
    worker, ids = ten_at_work(start, runs, root, 2)
    proxy.freeze()
    time.sleep(OUTAGE_SECONDS)
    proxy.restore()
    assert {view.state for view in runs.reach(ids)} == {"succeeded"}
    goes_on(worker, runs)


def test_resets_lose_nothing(start, runs, root, proxy):
    worker = start()
    ids = []
    for _ in range(10):
        ids += runs.submit("jobs.nap", count=50, seconds=0.02)
        time.sleep(0.5)
        proxy.reset_all()
    assert {view.state for view in runs.reach(ids, seconds=60)} == {"succeeded"}
    goes_on(worker, runs)


def test_a_full_store_takes_no_lease_from_runs_at_work(start, runs, root, server):
    worker = start()
    ids = runs.submit("jobs.nap", count=10, seconds=LEASE_SECONDS + 2)
    wait_for_lines(root, 10)
    runs.client.config_set("maxmemory", 1)
    with pytest.raises(StoreDown):
        runs.submit("jobs.nap")
    assert {(view.state, view.crashes) for view in runs.reach(ids)} == {("succeeded", 0)}
    runs.client.config_set("maxmemory", 0)
    goes_on(worker, runs)


def test_it_ends_in_order_though_the_store_is_away(start, runs, proxy):
    worker = start()
    proxy.cut()
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 15
