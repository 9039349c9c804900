"""Whatever a handler does, in the process of all or in one of its own, it gives one answer and takes nobody along.

Each fault through HTTP, a queue and a tick; real processes.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.testing import Harness
from tests.live_servers import until
from tests.live_workers import Runs, workers

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

FUNCTIONS = """
    import asyncio, ctypes, os, re, signal, subprocess, sys, time
    from pathlib import Path
    from runtime import Context, Problem, Reply, Retry, RetryAfter, Tick, fn, http, interval, queue, submit

    class Mine(Exception):
        def __init__(self, article, count):
            super().__init__(article)
            self.count = count

    class Mute(Exception):
        def __str__(self):
            raise ValueError("no")

    def circle():
        found = []
        found.append(found)
        return found

    def fill():
        found = []
        while True:
            found.append(" " * 10_000)

    def spin():
        end = time.monotonic() + 5  # a thread would go on for ever, and the tests beside it slower
        while time.monotonic() < end:
            pass

    def numbers():
        yield from range(3)

    def fail(error):
        raise error

    def daemon():
        subprocess.Popen(["sleep", "61"], start_new_session=True)
        spin()

    ACTS = {
        "pid": os.getpid,
        "exit": lambda: sys.exit(3),
        "interrupt": lambda: fail(KeyboardInterrupt()),
        "memory": lambda: fail(MemoryError()),
        "cancelled": lambda: fail(asyncio.CancelledError()),
        "mute": lambda: fail(Mute()),
        "mine": lambda: fail(Mine("x1", 3)),
        "problem": lambda: fail(Problem(409, "taken", detail="by another")),
        "nan": lambda: float("nan"),
        "set": lambda: {1},
        "circle": circle,
        "large": lambda: "x" * 20_000_000,
        "generator": numbers,
        "spin": spin,
        "daemon": daemon,
        "leave": lambda: os._exit(3),
        "segfault": lambda: ctypes.string_at(0),
        "fill": fill,
        "regex": lambda: re.match("(a+)+$", "a" * 40 + "b"),
        "text": lambda: "a text",
        "bytes": lambda: b"some bytes",
        "none": lambda: None,
        "reply": lambda: Reply({"a": 1}, 201, {"x-a": "b"}),
        "environment": lambda: [dict(os.environ), Path("/proc/self/environ").read_text()],
    }

    @http.post("/plain/{how}")
    @queue("default")
    @fn(timeout="20s", retries=1)
    def plain(how: str):
        return ACTS[how]()

    @http.post("/apart/{how}")
    @queue("default")
    @fn(timeout="20s", retries=1, isolation="process", memory="64MB")
    def apart(how: str):
        return ACTS[how]()

    @http.post("/plain_brief/{how}")
    @queue("default")
    @fn(timeout="1s", retries=1)
    def plain_brief(how: str):
        return ACTS[how]()

    @http.post("/apart_brief/{how}")
    @queue("default")
    @fn(timeout="1s", retries=1, isolation="process", memory="64MB")
    def apart_brief(how: str):
        return ACTS[how]()

    @http.post("/stubborn/{kind}")
    @queue("default")
    @fn(timeout="500ms", retries=1)
    async def stubborn(kind: str):
        end = time.monotonic() + 3
        while time.monotonic() < end:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                pass

    @http.post("/stubborn_apart")
    @queue("default")
    @fn(timeout="500ms", retries=1, isolation="process")
    async def stubborn_apart():
        await stubborn("apart")

    @http.post("/told")
    @queue("default")
    @fn(isolation="process", retries=Retry(2, wait="100ms", on=(Mine,)))
    async def told(ctx: Context, again: bool = False):
        ctx.progress([ctx.attempt, ctx.trigger, ctx.is_run, ctx.env["SAID"]])
        if again:
            raise Mine("x1", ctx.attempt)
        return {"attempt": ctx.attempt, "trigger": ctx.trigger, "said": os.environ["SAID"]}

    @http.post("/daemon")
    @fn(timeout="1s", isolation="process")
    def leave_daemon():
        return subprocess.Popen(["sleep", "61"], start_new_session=True).pid

    @interval("1h")
    @fn(isolation="process", retries=1)
    def tick(tick: Tick):
        return [tick.planned_at.minute, os.getpid()]

    @interval("1h")
    @fn(isolation="process", retries=1)
    def dies(tick: Tick):
        ctypes.string_at(0)
"""
SETTINGS = """
    [functions."acts.told"]
    env = {SAID = "hello"}

    [isolation]
    idle = "500ms"
    processes = 3
    env = ["A_NAMED_ONE"]
"""
KEPT_BY_BOTH = {"exit": 500, "interrupt": 500, "memory": 500, "cancelled": 500, "mute": 500, "mine": 500}
KEPT_BY_BOTH |= {"problem": 409, "nan": 500, "set": 200, "circle": 500, "large": 200, "generator": 200}
KEPT_BY_BOTH |= {"text": 200, "bytes": 200, "none": 204, "reply": 201}
LATE = [("plain_brief", "spin"), ("apart_brief", "spin"), ("apart_brief", "regex")]
DIED = {"leave": "exit code 3", "segfault": "signal SIGSEGV"}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    from textwrap import dedent

    root = tmp_path_factory.mktemp("isolation")
    (root / "functions").mkdir()
    (root / "functions" / "acts.py").write_text(dedent(FUNCTIONS))
    (root / "functions.toml").write_text(dedent(SETTINGS))
    return root


@pytest.fixture(scope="module")
def served(root):
    from tests.live_servers import Server

    environ = {"FNRUN_HTTP__BIND": "127.0.0.1:0", "FNRUN_HTTP__AUTH": "public", "FNRUN_LOG__FORMAT": "json"}
    server = Server(root, "serve", environ=environ | {"A_SECRET": "hidden", "A_NAMED_ONE": "seen"})
    assert server.url
    yield server
    assert server.stop() == 0


def stat_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return ["X"]


def descendants(process: int) -> set[int]:
    """Its children, theirs, and so on; not those that have ended."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        stat = stat_of(int(entry.name))
        if stat[0] not in "XZ":
            parents[int(entry.name)] = int(stat[1])
    found = {process}
    while more := {one for one, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {process}


def cells(process: int) -> set[int]:
    """Zygotes and cells among them."""
    found = set()
    for pid in descendants(process):
        with suppress(OSError):
            if b"cell-child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
    return found


def descriptors(process: int) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def test_http_answers_each_fault_alike_and_is_as_it_was(served):
    process = served.process.pid
    with served.client() as client:
        assert client.post("/apart/pid").json() != process
        pid = client.post("/plain/pid").json()
        assert client.post("/stubborn/plain").status_code == 504  # not beside the threads that the faults leave busy
        until(lambda: len(cells(process)) == 1)  # the zygote
        others, before = descendants(process), descriptors(process)
        for how, status in KEPT_BY_BOTH.items():
            plain, apart = client.post(f"/plain/{how}"), client.post(f"/apart/{how}")
            assert (how, plain.status_code, apart.status_code) == (how, status, status)
            if how == "generator":
                assert (plain.text, apart.json()) == ("0\n1\n2\n", [0, 1, 2])
            elif status < 500:
                shown = [(one.headers.get("content-type"), one.headers.get("x-a")) for one in (plain, apart)]
                assert shown[0] == shown[1]
                if status != 409:
                    assert plain.content == apart.content
        for how, said in DIED.items():
            answer = client.post(f"/apart/{how}")
            assert (answer.status_code, said in answer.json()["detail"]) == (500, True)
        assert client.post("/apart/fill").status_code == 500
        assert client.post("/plain_brief/spin").status_code == 504
        for how in ("spin", "regex", "daemon"):
            began = time.monotonic()
            assert (how, client.post(f"/apart_brief/{how}").status_code) == (how, 504)
            assert time.monotonic() - began < 8
        assert client.post("/stubborn_apart").status_code == 504
        assert client.post("/plain/pid").json() == pid
        until(lambda: descendants(process) == others)
        until(lambda: descriptors(process) <= before + 1)


def test_what_a_job_left_ends_with_its_process(served):
    with served.client() as client:
        sleeper = client.post("/daemon").json()
        until(lambda: stat_of(sleeper)[0] in "XZ")


def test_a_process_of_its_own_sees_nobodys_secrets(served):
    with served.client() as client:
        environ, own = client.post("/apart/environment").json()
        assert "A_SECRET" not in environ
        assert environ["A_NAMED_ONE"] == "seen"
        assert not any(name.startswith("FNRUN_") for name in environ)
        assert "A_SECRET" not in own
        assert "FNRUN_" not in own
        assert client.post("/told").json() == {"attempt": 1, "trigger": "http", "said": "hello"}
        assert "SAID" not in client.post("/apart/environment").json()[0]


def test_its_errors_are_the_callers_own(served):
    with served.client() as client:
        plain, apart = client.post("/plain/problem"), client.post("/apart/problem")
        said = [{**one.json(), "run_id": ""} for one in (plain, apart)]
        assert said[0] == said[1]
        assert said[0]["detail"] == "by another"
        client.post("/apart/mine")
    until(lambda: "acts.Mine: x1" in served.output)


def test_runs_end_as_they_should_and_their_worker_is_as_it_was(root, server, runs: Runs):
    both = {"exit": "error", "interrupt": "error", "memory": "error", "cancelled": "error", "mute": "error"}
    both |= {"mine": "error", "nan": "bad result", "circle": "bad result", "large": "bad result"}
    both |= {"set": None, "generator": None, "text": None, "none": None, "reply": None}
    with workers(root, server.url) as start:
        worker = start()
        ids = {how: runs.submit("acts.plain", how=how) + runs.submit("acts.apart", how=how) for how in both}
        late = [runs.submit(f"acts.{name}", how=how)[0] for name, how in LATE]
        alone = {how: runs.submit("acts.apart", how=how) for how in ("leave", "segfault", "fill")}
        again = runs.submit("acts.told", again=True)
        neighbours = runs.submit("acts.plain", count=20, how="pid")
        for how, reason in both.items():
            plain, apart = runs.reach(ids[how], seconds=60)
            assert (how, plain.reason or None, apart.reason or None) == (how, reason, reason)
            assert bytes(plain.result or b"") == bytes(apart.result or b"")
            if reason == "error":
                assert (plain.failure.type, plain.failure.message) == (apart.failure.type, apart.failure.message)
                assert "acts.py" in apart.failure.traceback
        [fill] = runs.reach(alone["fill"])
        assert (fill.reason, fill.failure.type) == ("error", "MemoryError")
        assert {view.reason for view in runs.reach(late, seconds=60)} == {"timeout"}
        [told] = runs.reach(again)
        assert (told.failure.type, told.failure.message, len(told.attempts)) == ("Mine", "x1", 2)
        assert bytes(told.progress) == b'[2,"submit",true,"hello"]'
        for view in runs.reach(alone["leave"] + alone["segfault"], seconds=60):
            assert (view.state, view.reason, view.failures, view.crashes) == ("failed", "crashed", 0, 3)
        assert {bytes(view.result) for view in runs.reach(neighbours)} == {b"%d" % worker.process.pid}
        until(lambda: len(descendants(worker.process.pid)) <= 1)
        runs.run("acts.told")
        assert worker.stop() == 0


async def test_ticks_of_isolated_functions(root, monkeypatch):
    monkeypatch.chdir(root)
    async with Harness(root) as harness:
        await harness.advance("3h")
        ticks = harness.runs("acts.tick")
        assert {(run.state, run.trigger) for run in ticks} == {("succeeded", "interval")}
        assert all(str(os.getpid()) not in bytes(run.result).decode() for run in ticks)
        dead = harness.runs("acts.dies")
        assert {(run.state, run.reason, run.crashes) for run in dead} == {("failed", "crashed", 3)}
        assert (await harness.http.post("/apart/pid")).json() != os.getpid()
        answer = await harness.http.post("/apart/segfault")
        assert (answer.status_code, "SIGSEGV" in answer.text) == (500, True)


def test_the_command_line_runs_it_apart_too(root):
    import subprocess
    import sys

    def invoke(how: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-P", "-m", "runtime", "--dir", str(root), "invoke", "acts.apart"]
        return subprocess.run(
            [*command, "--data", f'{{"how": "{how}"}}'], capture_output=True, text=True, check=False, timeout=60
        )

    assert invoke("text").stdout == '"a text"\n'
    died = invoke("segfault")
    assert died.returncode == 1
    assert "SIGSEGV" in died.stderr
    with suppress(StopIteration):
        assert not next(line for line in died.stderr.splitlines() if "Traceback" in line)
