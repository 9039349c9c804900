"""Handlers that hold their event loop, or the whole interpreter: named in the log, and their process replaced."""

import json
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from runtime.base.pulse import STUCK
from tests.live_servers import Server, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

FUNCTIONS = """
    import asyncio, os, re, time
    from runtime import Context, background, fn, http, interval, queue

    def hold(how):
        match how:
            case "spin":
                while True:
                    pass
            case "sleep":
                time.sleep(60)
            case "regex":
                re.match("(a+)+$", "a" * 60 + "b")
            case "shortly":
                time.sleep(1.2)

    @http.get("/pid")
    async def pid() -> int:
        return os.getpid()

    @http.get("/hold")
    async def held(how: str) -> None:
        hold(how)

    @http.get("/by-another")
    async def by_another() -> None:
        async def later():
            hold("sleep")
        asyncio.create_task(later())
        await asyncio.sleep(60)

    async def holds_on(turns: int = 0):
        for _ in range(turns):
            await asyncio.sleep(0)
        hold("sleep")

    @http.get("/in-the-background")
    async def in_the_background() -> None:
        background.spawn(holds_on)
        await asyncio.sleep(60)

    @queue("default")
    async def leaves_it_behind():
        background.spawn(holds_on, turns=50)  # by then it has ended

    @http.get("/hangs", timeout="200ms")
    def hangs() -> None:
        time.sleep(60)

    @queue("default")
    @fn(timeout="1s", retries=1)
    async def bad(ctx: Context, how: str = "spin", turns: int = 0):
        for _ in range(turns):
            await asyncio.sleep(0)
        hold(how)

    @queue("default")
    async def quick():
        pass

    @queue("default")
    async def good(seconds: float = 0.0):
        await asyncio.sleep(seconds)
        return os.getpid()

    @interval("1h")
    @fn(timeout="1s", retries=1)
    async def on_time():
        hold("spin")
"""
SLOW_TO_OPEN = """
import time
from runtime import resource

@resource
async def db():
    time.sleep(2.5)
    yield
"""
SOON = {
    "FNRUN_HTTP__AUTH": "public",
    "FNRUN_HTTP__BIND": "127.0.0.1:0",
    "FNRUN_SERVE__BLOCKED_WARN": "500ms",
    "FNRUN_SERVE__BLOCKED_LIMIT": "1500ms",
    "FNRUN_LOG__FORMAT": "json",
}
HELD, ENDS, GOES_ON = "the event loop is held: ", "the event loop is held for too long; ", "the event loop goes on"
SILENT = "a process gives no sign of life"


@pytest.fixture
def root(write_project: Callable[..., Path]) -> Path:
    return write_project(**{"functions/app.py": FUNCTIONS})


def said(output: str, event: str) -> list[dict]:
    """The lines of the log that begin so."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"].startswith(event)]


def processes(server: Server, kind: str) -> set[int]:
    return {pid for pid, command in server.family().items() if kind in command}


def call(url: str) -> str:
    """What becomes of a call: its answer's status, or why there is none."""
    try:
        return str(httpx.get(url, timeout=30).status_code)
    except httpx.HTTPError as error:
        return type(error).__name__


@pytest.mark.parametrize(("how", "workers"), [("spin", "2"), ("sleep", "1"), ("regex", "1")])
def test_an_http_process_whose_loop_is_held_is_replaced(root, start, how, workers):
    server = start(root, "serve", environ={**SOON, "FNRUN_HTTP__WORKERS": workers})
    url = server.url
    before = processes(server, "serve-child")
    assert len(before) == int(workers)
    assert call(f"{url}/hold?how={how}") in ("RemoteProtocolError", "ReadError")
    assert httpx.get(f"{url}/pid", timeout=20).json()
    after = until(lambda: len(now := processes(server, "serve-child")) == int(workers) and now != before and now)
    assert len(after & before) == int(workers) - 1
    if how == "regex":
        (told,) = said(server.output, SILENT)
        assert "app.py" in told["stacks"]
        assert " in hold" in told["stacks"]
        assert " in _watch" not in told["stacks"]
    else:
        (told,) = said(server.output, HELD)
        assert (told["function"], told["level"]) == ("app.held", "error")
        assert len(told["run_id"]) == 32
        assert told["stack"].splitlines()[-2].endswith(" in hold")
        assert "execute.py" not in told["stack"]
        assert len(said(server.output, ENDS)) == 1
    (replaced,) = until(lambda: said(server.output, "an HTTP process ended and is replaced"))
    assert (replaced["how"], replaced["pause_seconds"]) == (
        "stuck, signal SIGKILL" if how == "regex" else f"stuck, exit code {STUCK}", 0.0,
    )  # fmt: skip
    assert server.stop() == 0
    assert not server.family()


def test_others_are_answered_meanwhile(root, start):
    server = start(root, "serve", environ={**SOON, "FNRUN_HTTP__WORKERS": "2", "FNRUN_SERVE__BLOCKED_LIMIT": "0"})
    url = server.url
    until(lambda: len({httpx.get(f"{url}/pid").json() for _ in range(8)}) == 2, 30)
    held = threading.Thread(target=call, args=[f"{url}/hold?how=shortly"])
    held.start()
    until(lambda: said(server.output, HELD))
    assert httpx.get(f"{url}/pid", timeout=1).status_code == 200
    held.join()
    (told,) = until(lambda: said(server.output, GOES_ON))
    assert (told["function"], told["level"]) == ("app.held", "warning")
    assert 0.5 < told["seconds"] < 5
    assert len(said(server.output, HELD)) == 1
    assert not said(server.output, ENDS)
    assert server.stop() == 0


def test_a_task_that_a_handler_has_begun_is_named_as_the_handlers(root, start):
    server = start(root, "serve", environ=SOON)
    call(f"{server.url}/by-another")
    assert [one["function"] for one in said(server.output, HELD)] == ["app.by_another"]
    assert server.stop() == 0


def test_a_background_task_is_named_beside_the_call_that_began_it(root, start):
    server = start(root, "serve", environ=SOON)
    call(f"{server.url}/in-the-background")
    (told,) = said(server.output, HELD)
    assert (told["function"], told["task"]) == ("app.in_the_background", "functions.app.holds_on")
    assert server.stop() == 0


def test_a_resource_that_holds_the_loop_while_it_opens_is_named_and_not_ended(root, start):
    (root / "functions" / "_lifespan.py").write_text(SLOW_TO_OPEN)
    server = start(root, "serve", environ=SOON)
    assert httpx.get(f"{server.url}/pid", timeout=20).status_code == 200
    (told,) = said(server.output, HELD)
    assert told["task"] == 'resource "db"'
    assert not said(server.output, ENDS)
    assert not said(server.output, "an HTTP process ended and is replaced")
    assert server.stop() == 0


def test_a_process_that_somebody_has_stopped_is_not_replaced(root, start):
    server = start(root, "serve", environ=SOON)
    url = server.url
    pid = httpx.get(f"{url}/pid").json()
    os.kill(pid, signal.SIGSTOP)
    with suppress(httpx.TimeoutException):
        httpx.get(f"{url}/pid", timeout=4)
    os.kill(pid, signal.SIGCONT)
    assert httpx.get(f"{url}/pid", timeout=10).json() == pid
    assert not said(server.output, HELD)
    assert server.stop() == 0


def test_a_process_without_threads_is_relieved_and_no_call_is_lost(root, start):
    server = start(root, "serve", environ={**SOON, "FNRUN_SERVE__THREADS": "4"})
    url = server.url
    first = httpx.get(f"{url}/pid").json()
    assert [call(f"{url}/hangs") for _ in range(2)] == ["504", "504"]
    statuses = []

    def another() -> bool:
        with httpx.Client() as client:
            answer = client.get(f"{url}/pid", timeout=20)
        statuses.append(answer.status_code)
        return answer.json() != first

    until(another, 30)
    until(lambda: len(processes(server, "serve-child")) == 1)
    assert set(statuses) == {200}
    assert len(said(server.output, "an HTTP process is worn out")) == 1
    assert not said(server.output, "an HTTP process ended and is replaced")
    assert server.stop() == 0
    assert not server.family()


# --- runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["spin", "sleep"])
def test_a_worker_whose_loop_is_held_hands_back_what_is_not_to_blame(start_worker, runs, how):
    first = start_worker(**SOON)
    others = runs.submit("app.good", count=5, seconds=4)
    until(lambda: {view.state for view in runs.show(others)} == {"running"})
    (bad,) = runs.submit("app.bad", how=how)
    assert first.process.wait(20) == STUCK
    (told,) = said(first.output, HELD)
    assert (told["function"], told["run_id"]) == ("app.bad", bad)
    assert {(view.state, view.crashes) for view in runs.show(others)} == {("queued", 0)}
    second = start_worker(**SOON)
    assert {(view.state, view.crashes) for view in runs.reach(others)} == {("succeeded", 0)}
    (view,) = runs.reach([bad], seconds=60)
    assert (view.state, view.reason, view.crashes, view.failures) == ("failed", "timeout", 1, 1)
    assert [one.state for one in view.attempts] == ["crashed", "failed"]
    assert "held the event loop" in view.attempts[0].message
    assert second.process.poll() is None
    assert not said(second.output, HELD)
    assert second.stop() == 0


def test_many_such_runs_of_a_function_cost_one_process(start_worker, runs):
    first = start_worker(**SOON)
    others = runs.submit("app.good", count=3, seconds=30)
    until(lambda: {view.state for view in runs.show(others)} == {"running"})
    bad = runs.submit("app.bad", count=4)
    assert first.process.wait(20) == STUCK
    views = runs.show(bad)
    taken = [view for view in views if view.crashes]
    assert len(taken) > 1
    assert {view.crashes for view in runs.show(others)} == {0}
    messages = [view.attempts[0].message.split(": ")[1].partition(" held ")[0] for view in taken]
    assert sorted(messages) == ["another run of its function"] * (len(taken) - 1) + ["its handler"]


def test_what_an_ended_run_has_left_behind_is_told_against_nobody(start_worker, runs):
    first = start_worker(**SOON)
    others = runs.submit("app.good", count=3, seconds=30)
    until(lambda: {view.state for view in runs.show(others)} == {"running"})
    (run,) = runs.submit("app.leaves_it_behind")
    assert first.process.wait(20) == STUCK
    (told,) = said(first.output, HELD)
    assert (told["run_id"], told["task"]) == (run, "functions.app.holds_on")
    assert {(view.state, view.crashes) for view in runs.show(others)} == {("queued", 0)}
    assert runs.show([run])[0].state == "succeeded"


def test_outcomes_that_were_not_written_yet_are_written_before_the_end(start_worker, runs):
    others = runs.submit("app.quick", count=20)
    (bad,) = runs.submit("app.bad", how="spin", turns=12)  # by then the others have ended; the store has yet to answer
    worker = start_worker(**SOON)
    assert worker.process.wait(20) == STUCK
    assert {(view.state, view.crashes) for view in runs.show(others)} == {("succeeded", 0)}
    assert runs.show([bad])[0].crashes == 1


def test_a_worker_that_ends_is_let_end(start_worker, runs):
    worker = start_worker(**SOON | {"FNRUN_SERVE__DRAIN": "500ms"})
    (bad,) = runs.submit("app.bad", how="sleep")
    until(lambda: runs.show([bad])[0].state == "running")
    assert worker.stop() == 0
    (view,) = runs.show([bad])
    assert (view.state, view.crashes) == ("queued", 0)


def test_a_silent_worker_is_replaced_and_its_run_is_alone_from_then_on(root, start, server, runs):
    environ = {**SOON, "FNRUN_STORE__URL": server.url, "FNRUN_SERVE__ONLY": "worker", "FNRUN_QUEUE__LEASE": "3s"}
    serve = start(root, "serve", environ={**environ, "FNRUN_QUEUE__BEAT": "500ms"}, roles=None)
    until(lambda: said(serve.output, "taking runs"), 30)
    (first,) = processes(serve, "worker-child")
    (bad,) = runs.submit("app.bad", how="regex")
    until(lambda: said(serve.output, "a worker ended and is replaced"), 30)
    (view,) = runs.reach([bad], seconds=60)
    assert (view.state, view.reason, view.crashes) == ("failed", "timeout", 1)
    assert int(bytes(runs.run("app.good").result)) != first
    assert serve.stop() == 0
    assert not serve.family()


def test_a_tick_that_holds_the_loop_ends_as_a_dead_letter(root, start, server, runs):
    """And in the same place as everything else: HTTP, the scheduler and the next run do not notice."""
    environ = {**SOON, "FNRUN_STORE__URL": server.url, "FNRUN_SERVE__ONLY": "http,scheduler,worker"}
    serve = start(root, "serve", environ=environ, roles=None)
    until(lambda: said(serve.output, "scheduling") and said(serve.output, "taking runs"), 30)
    others = processes(serve, "serve-child") | processes(serve, "scheduler-child")
    fired = start(root, "schedules", "run", "app.on_time", environ={"FNRUN_STORE__URL": server.url})
    assert fired.wait() == 0, fired.output
    (told,) = until(lambda: said(serve.output, HELD), 30)
    assert told["function"] == "app.on_time"
    (view,) = runs.reach([told["run_id"]], seconds=60)
    assert (view.state, view.reason, view.crashes) == ("failed", "timeout", 1)
    assert processes(serve, "serve-child") | processes(serve, "scheduler-child") == others
    assert serve.stop() == 0
