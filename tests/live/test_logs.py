"""What runs log, in a real worker, wherever they run, and what is left of it when processes die."""

import json
from pathlib import Path

import pytest

from runtime.ledger.calls import do
from runtime.ledger.lines.calls import read_lines
from tests.live_servers import until
from tests.live_workers import Runs

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

FUNCTIONS = """
    import asyncio, logging, os, signal, subprocess, sys, threading, time
    from runtime import Context, fn, queue

    def says(ctx):
        print("printed", end=" ")
        print("here")
        logging.getLogger("lib").warning("of %s", "another")
        ctx.log.info("ours", n=1)
        subprocess.run([sys.executable, "-c", "print('of a program')"])
        print("half", end="")

    @queue("default")
    async def on_loop(ctx: Context):
        says(ctx)

    @queue("default")
    def in_thread(ctx: Context):
        says(ctx)

    @queue("default")
    @fn(isolation="process")
    def isolated(ctx: Context):
        says(ctx)

    @queue("default")
    @fn(retries=1)
    async def dies(ctx: Context):
        print("before the end")
        await asyncio.sleep(1.2)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def lines_of(runs: Runs, run_id: str) -> list[str]:
    found = do(runs.client, read_lines(runs.ledger, run_id))
    return [one.line.text for one in found.lines] if found else []


@pytest.fixture
def root(write_project) -> Path:
    return write_project(**{"functions/jobs.py": FUNCTIONS})


def test_what_a_run_says_is_kept_with_it_wherever_it_runs(start_worker, runs: Runs):
    worker = start_worker(FNRUN_LOG__FILE="logs/", FNRUN_LOG__REQUESTS="all")
    ids = {name: runs.submit(f"jobs.{name}")[0] for name in ("on_loop", "in_thread", "isolated")}
    runs.reach(list(ids.values()))
    said = ["printed here", "of another", "ours", "half"]
    assert {name: lines_of(runs, one)[:4] for name, one in ids.items()} == dict.fromkeys(ids, said)
    for name, one in ids.items():
        assert lines_of(runs, one)[4:] == ["run"], name
    assert worker.stop() == 0
    out = [line for line in worker.output.splitlines() if line.startswith("{")]
    records = [json.loads(line) for line in out]
    for name, one in ids.items():
        of_run = [record for record in records if record.get("run_id") == one]
        assert [record["event"] for record in of_run] == [*said, "run"]
        assert {(r["function"], r["trigger"], r["attempt"]) for r in of_run} == {(f"jobs.{name}", "submit", 1)}
        assert all(len(record["trace_id"]) == 32 for record in of_run)
    assert worker.output.count("of a program\n") == 3
    files = list((worker.log.parent / "logs").glob("fnrun*.log"))
    assert sorted("".join(file.read_text() for file in files).splitlines()) == sorted(out)


def test_lines_of_a_killed_worker_are_there_but_for_the_last_moment(start_worker, runs: Runs):
    start_worker()
    [run_id] = runs.submit("jobs.dies")
    until(lambda: "before the end" in lines_of(runs, run_id), 15)
    start_worker()
    until(lambda: lines_of(runs, run_id).count("before the end") >= 2, 30)  # in a cell that is killed, too
