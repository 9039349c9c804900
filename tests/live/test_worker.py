"""Workers as they are: real processes under Celery, a real store, signals."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import httpx
import pytest

from runtime.base.store import Store
from runtime.ledger.calls import do
from runtime.ledger.records import Submission
from runtime.processes import Message
from tests.live_servers import until
from tests.live_workers import LEASE_SECONDS, Runs, journal, wait_for_lines, workers
from tests.stores import TcpStore, free_port

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

FUNCTIONS = """
    import asyncio, os, time
    from pathlib import Path
    from runtime import Context, GiveUp, Problem, Reply, Retry, fn, queue

    JOURNAL = os.open(Path(__file__).parents[1] / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    at_once, most = 0, 0

    def note(ctx):
        os.write(JOURNAL, f"{ctx.run_id} {ctx.attempt}\\n".encode())

    @queue("default")
    async def nap(ctx: Context, seconds: float = 0.0):
        note(ctx)
        await asyncio.sleep(seconds)
        return ctx.trigger

    @queue("default")
    def sync_nap(ctx: Context, seconds: float = 0.0):
        note(ctx)
        time.sleep(seconds)
        return "slept"

    @queue("default")
    async def meet(seconds: float = 1.0):
        global at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(seconds)
        at_once -= 1
        return most

    @queue("default")
    async def block(seconds: float):
        time.sleep(seconds)

    @queue("default")
    async def steps(ctx: Context):
        ctx.progress({"done": 1})
        await asyncio.sleep(60)

    class Bad(Exception):
        def __str__(self):
            raise ValueError("no words")

    def endless():
        while True:
            yield "x" * 1000

    @queue("default")
    @fn(retries=1)
    async def fail(how: str):
        match how:
            case "exit": raise SystemExit(3)
            case "interrupt": raise KeyboardInterrupt
            case "memory": raise MemoryError
            case "cancel": raise asyncio.CancelledError
            case "words": raise Bad
            case "nan": return float("nan")
            case "set": return {1, object()}
            case "large": return "x" * 20_000_000
            case "endless": return endless()
            case "circle":
                found = []
                found.append(found)
                return found
            case "items": return (i for i in range(3))
            case "reply": return Reply({"a": 1}, 201)
            case "problem": raise Problem(404, "none there")

    @queue("default")
    @fn(retries=Retry(3, wait="50ms", jitter=False), on_failure="jobs.heard")
    async def flaky(ctx: Context, until: int = 99):
        note(ctx)
        if ctx.attempt < until:
            raise OSError("not yet")
        return ctx.attempt

    @queue("default")
    async def heard(run_id: str, function: str, error: str, arguments: dict):
        return [run_id, function, error, arguments]

    @queue("other", timeout="300ms")
    @fn(retries=1)
    async def slow():
        await asyncio.sleep(60)
"""


@pytest.fixture
def root(write_project: Callable[..., Path]) -> Path:
    return write_project(**{"functions/jobs.py": FUNCTIONS})


def celery(root: Path, server: TcpStore, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "runtime", "--dir", root, "celery", *arguments],
        env={**os.environ, "FNRUN_STORE__URL": server.url},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def inspect(root: Path, server: TcpStore, what: str) -> dict:
    """What the only worker answers."""
    (found,) = json.loads(celery(root, server, "inspect", "--json", "--timeout", "2", what)).values()
    return found


def test_celery_inspect_sees_the_worker_its_functions_and_its_runs(start_worker, runs, root, server):
    worker = start_worker()
    assert worker.ready.kind == "ready"
    assert worker.ready.functions == 9
    assert worker.ready.queues == ["default", "other"]
    runs.submit("jobs.nap", count=3, seconds=30)
    wait_for_lines(root, 3)
    assert "pong" in celery(root, server, "inspect", "ping")
    assert "jobs.nap" in inspect(root, server, "registered")
    active = inspect(root, server, "active")
    assert [one["name"] for one in active] == ["jobs.nap"] * 3
    assert {one["kwargs"] for one in active} == {'{"seconds":30}'}
    stats = inspect(root, server, "stats")
    assert stats["total"] == {"jobs.nap": 3}
    assert stats["pool"]["max-concurrency"] == 100
    assert stats["pid"] == worker.process.pid


def test_flower_lists_the_worker_and_its_runs(start_worker, runs, root, server):
    start_worker()
    port = free_port()
    flower = subprocess.Popen(
        [
            sys.executable, "-m", "runtime", "--dir", root, "celery", "flower",
            "--address=127.0.0.1", f"--port={port}", "--inspect-timeout=1000",
        ],
        env={**os.environ, "FNRUN_STORE__URL": server.url, "FLOWER_UNAUTHENTICATED_API": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def api(path: str) -> dict:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/api/{path}", timeout=10).json()
        except (httpx.TransportError, ValueError):
            return {}

    try:
        until(lambda: api("workers?refresh=1"), 30)
        (worker,) = api("workers").values()
        assert "jobs.nap" in worker["registered"]

        def seen() -> bool:
            runs.run("jobs.nap")
            return any(task["name"] == "jobs.nap" and task["state"] == "SUCCESS" for task in api("tasks").values())

        until(seen, 20)
    finally:
        flower.kill()
        flower.wait(10)


def test_a_hundred_async_handlers_run_at_once(start_worker, runs):
    start_worker()
    began = time.monotonic()
    found = runs.reach(runs.submit("jobs.meet", count=100, seconds=2))
    assert time.monotonic() - began < 10
    assert max(json.loads(bytes(view.result)) for view in found) == 100


def test_sync_handlers_run_at_once_in_threads(start_worker, runs):
    start_worker()
    began = time.monotonic()
    found = runs.reach(runs.submit("jobs.sync_nap", count=60, seconds=1))
    assert time.monotonic() - began < 6
    assert {bytes(view.result) for view in found} == {b'"slept"'}


@pytest.mark.parametrize(
    ("how", "reason", "says"),
    [
        ("exit", "error", "SystemExit"),
        ("interrupt", "error", "KeyboardInterrupt"),
        ("memory", "error", "MemoryError"),
        ("cancel", "error", "CancelledError"),
        ("words", "error", "Bad"),
        ("nan", "bad result", "BadResult"),
        ("set", "bad result", "BadResult"),
        ("large", "bad result", "BadResult"),
        ("endless", "bad result", "BadResult"),
        ("circle", "bad result", "BadResult"),
        ("problem", "error", "Problem"),
    ],
)
def test_a_run_that_fails_fails_alone(shared, how, reason, says):
    neighbour = shared.submit("jobs.nap", seconds=0.2)
    view = shared.run("jobs.fail", how=how)
    assert (view.state, view.reason, view.failure.type) == ("failed", reason, says)
    assert shared.reach(neighbour)[0].state == "succeeded"


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[Runs]:
    """Runs of a worker, on a store of its own, for tests that leave it as it was."""
    root = tmp_path_factory.mktemp("shared")
    (root / "functions").mkdir()
    (root / "functions" / "jobs.py").write_text(dedent(FUNCTIONS))
    with TcpStore(root) as server, workers(root, server.url) as start_worker:
        store = Store.open(root, server.settings)
        start_worker()
        runs = Runs(store)
        yield runs
        runs.account()
        store.close()


def test_items_replies_and_arguments(shared):
    assert bytes(shared.run("jobs.fail", how="items").result) == b"[0,1,2]"
    assert bytes(shared.run("jobs.fail", how="reply").result) == b'{"a":1}'
    view = shared.run("jobs.fail", hwo="x")
    assert (view.state, view.reason, len(view.attempts)) == ("failed", "bad arguments", 1)
    assert "hwo" in view.failure.message


def test_a_failed_attempt_is_made_again_and_then_on_failure_runs(shared):
    assert bytes(shared.run("jobs.flaky", until=3).result) == b"3"
    (lost,) = shared.submit("jobs.flaky", until=99)
    (view,) = shared.reach([lost])
    assert (view.state, [one.state for one in view.attempts]) == ("failed", ["retrying", "retrying", "failed"])
    (heard,) = shared.reach([f"{lost}-failed"])
    assert json.loads(bytes(heard.result)) == [lost, "jobs.flaky", "not yet", {"until": 99}]


def test_a_queue_says_how_long_its_runs_may_take(shared):
    (view,) = shared.reach(shared.submit("jobs.slow", queue="other"))
    assert (view.state, view.reason) == ("failed", "timeout")


def test_a_queue_that_no_function_names_is_served_too(shared):
    (view,) = shared.reach(shared.submit("jobs.nap", queue="unheard-of"))
    assert view.state == "succeeded"


def test_progress_is_shown_and_a_cancelled_run_ends(shared):
    (run_id,) = shared.submit("jobs.steps")
    until(lambda: shared.show([run_id])[0].progress)
    shared.cancel(run_id)
    (view,) = shared.reach([run_id])
    assert (view.state, view.reason) == ("cancelled", "cancelled")


def test_sigterm_under_load_ends_in_order_and_nothing_runs_twice(start_worker, runs, root):
    ids = runs.submit("jobs.nap", count=3000, seconds=0.05)
    first = start_worker()
    wait_for_lines(root, 300)
    assert first.stop() == 0
    assert not [view for view in runs.show(ids) if view.state == "running"]
    second = start_worker()
    runs.reach(ids)
    assert Counter(Counter(run for run, _ in journal(root)).values()) == {1: 3000}
    assert second.stop() == 0


def test_what_does_not_end_in_time_is_handed_back(start_worker, runs, root):
    (run_id,) = runs.submit("jobs.nap", seconds=60)
    worker = start_worker(FNRUN_SERVE__DRAIN="1s")
    wait_for_lines(root, 1)
    assert worker.stop() == 0
    (view,) = runs.show([run_id])
    assert (view.state, view.crashes, view.failures) == ("queued", 0, 0)


def test_sigquit_hands_back_at_once(start_worker, runs, root):
    ids = runs.submit("jobs.nap", count=5, seconds=60)
    worker = start_worker(FNRUN_SERVE__DRAIN="60s")
    wait_for_lines(root, 5)
    began = time.monotonic()
    assert worker.stop(signal.SIGQUIT) == 0
    assert time.monotonic() - began < 5
    assert {view.state for view in runs.show(ids)} == {"queued"}


def test_a_handler_that_blocks_the_loop_does_not_hold_up_the_end(start_worker, runs, root):
    (run_id,) = runs.submit("jobs.block", seconds=60)
    worker = start_worker(FNRUN_SERVE__DRAIN="1s")
    runs.reach([run_id], frozenset({"running"}))
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 15
    (view,) = runs.show([run_id])
    assert (view.state, view.crashes) == ("queued", 0)


def test_a_killed_workers_runs_begin_again(start_worker, runs, root):
    ids = runs.submit("jobs.nap", count=20, seconds=2)
    first, _ = start_worker(), start_worker()
    wait_for_lines(root, 20)
    first.process.kill()
    killed = time.monotonic()
    found = runs.reach(ids)
    assert time.monotonic() - killed < LEASE_SECONDS + 6
    assert {view.state for view in found} == {"succeeded"}
    assert {view.failures for view in found} == {0}


def test_a_worker_that_slept_through_its_lease_is_refused(start_worker, runs, root):
    (run_id,) = runs.submit("jobs.nap", seconds=LEASE_SECONDS)
    first = start_worker()
    wait_for_lines(root, 1)
    first.process.send_signal(signal.SIGSTOP)
    second = start_worker()
    wait_for_lines(root, 2)
    first.process.send_signal(signal.SIGCONT)
    until(lambda: "leases are lost" in first.output or "came too late" in first.output)
    (view,) = runs.reach([run_id])
    assert (view.state, view.crashes) == ("succeeded", 1)
    refused, taken = view.attempts
    assert (refused.state, taken.state) == ("crashed", "succeeded")
    assert refused.token < taken.token
    assert (first.stop(), second.stop()) == (0, 0)


def test_what_takes_or_waits_longer_than_a_lease_runs_once(start_worker, runs, root):
    start_worker(), start_worker()
    (long,) = runs.submit("jobs.nap", seconds=LEASE_SECONDS * 2)
    late = Submission(id="late", function="jobs.nap", delay_seconds=LEASE_SECONDS * 1.5)
    do(runs.client, runs.ledger.accept([late]))
    began = time.time()
    found = runs.reach([long, "late"])
    assert {(view.state, view.crashes) for view in found} == {("succeeded", 0)}
    assert found[1].claimed - began >= LEASE_SECONDS * 1.5 - 0.5
    assert Counter(journal(root)) == {(long, 1): 1, ("late", 1): 1}


def test_a_blocked_event_loop_loses_no_lease(start_worker, runs):
    start_worker()
    view = runs.run("jobs.block", seconds=LEASE_SECONDS * 2)
    assert (view.state, view.crashes) == ("succeeded", 0)


def test_a_saved_file_is_taken_up(start_worker, runs, root):
    worker = start_worker()
    file = root / "functions" / "jobs.py"
    file.write_text(file.read_text().replace("def sync_nap", "def other_nap"))
    worker.tell(Message("changed", files=["functions/jobs.py"]))
    assert [worker.hear().kind, worker.hear().kind] == ["loading", "loaded"]
    assert runs.run("jobs.other_nap").state == "succeeded"
    (unknown,) = runs.submit("jobs.sync_nap")
    assert runs.run("jobs.nap").state == "succeeded"
    assert runs.show([unknown])[0].state == "queued"


RESOURCE = """
    import asyncio
    from pathlib import Path
    from runtime import resource

    SEEN = Path(__file__).parents[1] / "seen"

    @resource
    async def number():
        SEEN.write_text("opening")
        await asyncio.sleep({seconds})
        SEEN.write_text("open")
        try:
            yield 7
        finally:
            SEEN.write_text(SEEN.read_text() + ", closed")
"""
TAKES_NUMBER = """
    from runtime import queue

    @queue("default")
    async def take(number: int):
        return number
"""


def test_resources_are_open_where_handlers_run_and_are_closed_at_the_end(write_project, server, runs):
    root = write_project(
        **{"functions/_lifespan.py": RESOURCE.format(seconds=0), "functions/jobs.py": FUNCTIONS + TAKES_NUMBER}
    )
    with workers(root, server.url) as start_worker:
        worker = start_worker()
        assert bytes(runs.run("jobs.take").result) == b"7"
        assert worker.stop() == 0
    assert (root / "seen").read_text() == "open, closed"


def test_sigterm_while_resources_open_ends_it_in_order(write_project, server, runs):
    root = write_project(**{"functions/_lifespan.py": RESOURCE.format(seconds=60), "functions/jobs.py": FUNCTIONS})
    line, theirs = socket.socketpair()
    with theirs, line:
        process = subprocess.Popen(
            [sys.executable, "-m", "runtime", "--dir", root, "worker-child", "--line", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "FNRUN_STORE__URL": server.url},
        )
        until((root / "seen").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


def test_it_ends_when_its_parent_is_gone(start_worker):
    worker = start_worker()
    worker._messages.close()
    worker.line.close()
    assert worker.process.wait(15) == -signal.SIGKILL  # in order, and at last its whole group at once
    assert "Traceback" not in worker.output
