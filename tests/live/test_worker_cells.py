"""Runs that have a process to themselves: those that ask for it, and those that a process died with."""

import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from runtime.cli import main
from tests.live_servers import until
from tests.live_workers import journal, wait_for_lines

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

FUNCTIONS = """
    import asyncio, ctypes, os, signal, time
    from pathlib import Path
    from runtime import Context, fn, queue, submit

    JOURNAL = os.open(Path(__file__).parents[1] / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(ctx):
        os.write(JOURNAL, f"{ctx.run_id} {ctx.attempt}\\n".encode())

    @queue("default")
    async def nap(ctx: Context, seconds: float = 0.0):
        note(ctx)
        await asyncio.sleep(seconds)
        return os.getpid()

    @queue("default")
    @fn(isolation="process", timeout="1s", retries=1)
    def apart(ctx: Context, how: str):
        note(ctx)
        ctx.progress(how)
        match how:
            case "pid": return os.getpid()
            case "exit": os._exit(3)
            case "fail": raise ValueError("no")
            case "spin":
                while True:
                    pass

    @queue("default")
    async def die(ctx: Context, how: str):
        note(ctx)
        await asyncio.sleep(0.2)  # the others have begun by then
        os._exit(3) if how == "exit" else ctypes.string_at(0)

    @queue("default")
    @fn(isolation="process")
    async def sends(ctx: Context):
        return (await submit(nap)).id

    @queue("default")
    async def murder(ctx: Context):
        note(ctx)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def root(write_project: Callable[..., Path]) -> Path:
    return write_project(**{"functions/jobs.py": FUNCTIONS})


def descendants(process: int) -> set[int]:
    """Its children, theirs, and so on."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(") ")[2].split()[1])
    found = {process}
    while more := {one for one, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {process}


def test_an_isolated_run_has_a_process_to_itself(start_worker, runs):
    worker = start_worker()
    view = runs.run("jobs.apart", how="pid")
    assert (view.state, bytes(view.progress)) == ("succeeded", b'"pid"')
    assert int(bytes(view.result)) != worker.process.pid
    assert int(bytes(runs.run("jobs.nap").result)) == worker.process.pid
    failed = runs.run("jobs.apart", how="fail")
    assert (failed.reason, failed.failure.type, failed.failure.message) == ("error", "ValueError", "no")


def test_one_that_is_alone_submits_with_its_workers_functions(start_worker, runs):
    start_worker()
    view = runs.run("jobs.sends")
    assert view.state == "succeeded", view.failure
    (child,) = runs.reach([msgspec.json.decode(view.result)])
    assert (child.state, child.parent) == ("succeeded", view.id)


def test_one_that_spins_is_killed(start_worker, runs):
    start_worker()
    neighbours = runs.submit("jobs.nap", count=10, seconds=0.5)
    began = time.monotonic()
    view = runs.run("jobs.apart", how="spin")
    assert (view.state, view.reason) == ("failed", "timeout")
    assert time.monotonic() - began < 8
    assert {one.state for one in runs.reach(neighbours)} == {"succeeded"}


def test_one_that_ends_its_process_ends_nobody_else(start_worker, runs, root, server):
    worker = start_worker()
    neighbours = runs.submit("jobs.nap", count=10, seconds=1)
    (view,) = runs.reach(runs.submit("jobs.apart", how="exit"), seconds=60)
    assert (view.state, view.reason, view.failures, view.crashes) == ("failed", "crashed", 0, 3)
    assert {one.state for one in runs.reach(neighbours)} == {"succeeded"}
    assert worker.process.poll() is None
    assert worker.stop() == 0
    environ = {"FNRUN_STORE__URL": server.url}
    told = CliRunner(env=environ).invoke(main, ["--dir", str(root), "stats", "jobs.apart", "--json"])
    (counted,) = json.loads(told.stdout)["functions"]
    assert (counted["calls"], counted["crashed"], counted["retried"], counted["failure_rate"]) == (3, 3, 2, 1.0)


def test_what_kills_its_worker_runs_alone_from_then_on(start_worker, runs, root):
    first = start_worker()
    (run_id,) = runs.submit("jobs.murder")
    assert first.process.wait(10) == -9
    second = start_worker()
    wait_for_lines(root, 2, seconds=20)
    healthy = runs.run("jobs.nap")
    assert healthy.state == "succeeded"
    (view,) = runs.reach([run_id], seconds=60)
    assert (view.state, view.reason) == ("failed", "crashed")
    assert second.process.poll() is None
    assert len([one for one, _ in journal(root) if one == run_id]) == 4


def test_what_ends_its_process_becomes_a_dead_letter_and_its_neighbours_finish(start_worker, runs, root):
    first = start_worker()
    neighbours = runs.submit("jobs.nap", count=5, seconds=1)
    bad = runs.submit("jobs.die", how="segfault") + runs.submit("jobs.die", how="exit")
    wait_for_lines(root, 7)
    assert first.process.wait(10) != 0
    second = start_worker()
    found = runs.reach(neighbours)
    assert {(view.state, view.failures, view.crashes) for view in found} == {("succeeded", 0, 1)}
    found = runs.reach(bad)
    assert {(view.state, view.reason, view.failures, view.crashes) for view in found} == {("failed", "crashed", 0, 4)}
    counts = Counter(run for run, _ in journal(root))
    assert [counts[run_id] for run_id in bad] == [4, 4]
    assert [one.state for one in found[0].attempts] == ["crashed"] * 4
    assert second.stop() == 0


def test_a_worker_that_works_keeps_no_descriptors_and_no_processes(start_worker, runs):
    worker = start_worker(FNRUN_ISOLATION__IDLE="200ms")

    def load(count: int) -> None:
        ids = runs.submit("jobs.nap", count=count * 20) + runs.submit("jobs.apart", count=count, how="pid")
        assert {view.state for view in runs.reach(ids)} == {"succeeded"}
        until(lambda: len(descendants(worker.process.pid)) == 1)  # the zygote

    def descriptors() -> int:
        return len(list(Path(f"/proc/{worker.process.pid}/fd").iterdir()))

    load(5)
    before = descriptors()
    load(30)
    until(lambda: descriptors() <= before + 4)  # a few more connections are kept
    children = descendants(worker.process.pid)
    assert worker.stop() == 0
    until(lambda: not any(Path(f"/proc/{one}").exists() for one in children))
    until(lambda: len(runs.client.client_list()) == 1)


def test_cells_end_with_their_worker(start_worker, runs, root):
    worker = start_worker(FNRUN_SERVE__DRAIN="500ms")
    runs.run("jobs.apart", how="pid")
    runs.submit("jobs.apart", how="spin")
    wait_for_lines(root, 2)
    # The zygote and a cell: the one before has answered, but may be ending still.
    children = until(lambda: len(found := descendants(worker.process.pid)) == 2 and found)
    assert worker.stop() == 0
    until(lambda: not any(Path(f"/proc/{one}").exists() for one in children))
