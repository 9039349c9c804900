"""Background tasks in real processes: what becomes of them when a server, a worker, a cell or a script ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.live_servers import until

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

PUBLIC = {"FNRUN_HTTP__AUTH": "public", "FNRUN_HTTP__BIND": "127.0.0.1:0", "FNRUN_SERVE__DRAIN": "8s"}
APP = """
    import asyncio, os, time
    from pathlib import Path
    from runtime import Context, background, fn, http, queue

    ROOT = Path(__file__).parents[1]
    NOTES = os.open(ROOT / "notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(text):
        os.write(NOTES, f"{text}\\n".encode())

    async def until_there(name):
        while not (ROOT / name).exists():
            await asyncio.sleep(0.02)

    async def work(name, file="go"):
        note(f"{name} begins")
        try:
            await until_there(file)
            note(f"{name} ends")
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)
            note(f"{name} cleaned up")
            raise

    def sync_work(name):
        note(f"{name} begins")
        while not (ROOT / "go").exists():
            time.sleep(0.02)
        note(f"{name} ends")

    async def fail():
        raise ValueError("not here")

    @http.post("/begin")
    async def begin(name: str, file: str = "go") -> str:
        return background.spawn(work, name, file, id=name).id

    @http.post("/begin-endless")
    def begin_endless(name: str) -> None:
        background.using(wait=False).spawn(work, name)

    @http.post("/begin-sync")
    def begin_sync(name: str) -> str:
        return background.spawn(sync_work, name).id

    @http.post("/fail")
    async def failing() -> None:
        background.spawn(fail)

    @http.get("/counts")
    def counts() -> dict:
        return {"files": len(os.listdir("/proc/self/fd")), "threads": len(os.listdir("/proc/self/task"))}

    @queue("default")
    async def run(name: str, file: str = "go") -> str:
        background.spawn(work, name, file)
        return "answered"

    @queue("default")
    @fn(isolation="process", timeout="20s")
    async def alone(name: str) -> str:
        background.spawn(work, name)
        return "answered"
    """


@pytest.fixture
def root(write_project) -> Path:
    return write_project(**{"functions/app.py": APP})


def notes(root: Path) -> list[str]:
    file = root / "notes"
    return sorted(file.read_text().splitlines()) if file.exists() else []


def post(server, path: str, **body: str) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, timeout=10)


def test_a_server_that_is_told_to_stop_lets_them_finish(root, start):
    server = start(root, "serve", environ=PUBLIC)
    assert post(server, "/begin", name="a").json() == "a"
    assert post(server, "/begin-sync", name="b").status_code == 200
    until(lambda: notes(root) == ["a begins", "b begins"])
    server.process.send_signal(signal.SIGTERM)
    server.wait_for_line('"stopping"')
    (root / "go").touch()
    assert server.wait() == 0
    assert notes(root) == ["a begins", "a ends", "b begins", "b ends"]


def test_those_that_do_not_finish_in_time_clean_up_and_are_named(root, start):
    server = start(root, "serve", environ=PUBLIC | {"FNRUN_SERVE__DRAIN": "300ms"})
    post(server, "/begin", name="slow")
    until(lambda: notes(root) == ["slow begins"])
    assert server.stop() == 0
    assert notes(root) == ["slow begins", "slow cleaned up"]
    assert '"tasks": ["slow (functions.app.work)"]' in server.output


def test_a_thread_that_does_not_end_holds_up_no_server(root, start):
    server = start(root, "serve", environ=PUBLIC | {"FNRUN_SERVE__DRAIN": "300ms"})
    post(server, "/begin-sync", name="stuck")
    until(lambda: notes(root) == ["stuck begins"])
    assert server.stop() == 0
    assert '"background": "functions.app.sync_work"' in server.output


def test_one_without_an_end_holds_up_no_server(root, start):
    server = start(root, "serve", environ=PUBLIC | {"FNRUN_SERVE__DRAIN": "30s"})
    post(server, "/begin-endless", name="poll")
    until(lambda: notes(root) == ["poll begins"])
    assert server.stop() == 0  # which would take too long
    assert notes(root) == ["poll begins", "poll cleaned up"]


def test_too_many_are_429_and_failures_are_logged_with_their_call(root, start):
    limits = {"FNRUN_BACKGROUND__QUEUE": "1", "FNRUN_BACKGROUND__CONCURRENCY": "1"}
    server = start(root, "serve", environ=PUBLIC | limits)
    answers = [post(server, "/begin", name=name) for name in "abc"]
    assert [one.status_code for one in answers] == [200, 200, 429]
    assert answers[2].headers["retry-after"]
    assert answers[2].json()["detail"] == "as many background tasks wait here as may; try again later"
    (root / "go").touch()
    until(lambda: "b ends" in notes(root))
    failed = post(server, "/fail")
    line = server.wait_for_line(".*a background task failed.*")[0]
    assert (failed.headers["x-run-id"] in line, "not here" in line) == (True, True)


def test_nothing_of_those_that_ended_stays_open(root, start):
    server = start(root, "serve", environ=PUBLIC | {"FNRUN_BACKGROUND__THREADS": "2"})
    (root / "go").touch()
    for number in range(4):
        post(server, "/begin-sync", name=f"s{number}")
    until(lambda: len(notes(root)) == 8)
    before = httpx.get(f"{server.url}/counts").json()
    for number in range(30):
        assert post(server, "/begin", name=f"t{number}").status_code == 200
        assert post(server, "/begin-sync", name=f"u{number}").status_code == 200
    until(lambda: len(notes(root)) == 128)
    after = httpx.get(f"{server.url}/counts").json()
    assert all(after[what] <= before[what] + 3 for what in before)  # what the server itself has opened since


def test_a_killed_server_takes_them_along(root, start):
    server = start(root, "serve", environ=PUBLIC)
    post(server, "/begin", name="a")
    until(lambda: notes(root) == ["a begins"])
    killed = server.serving
    os.kill(killed, signal.SIGKILL)
    until(lambda: any(" serve-child " in one for pid, one in server.family().items() if pid != killed), 30)
    assert notes(root) == ["a begins"]


def test_a_worker_lets_them_finish_after_their_runs(root, runs, start_worker):
    worker = start_worker(FNRUN_SERVE__DRAIN="10s")
    assert runs.run("app.run", name="a").state == "succeeded"
    until(lambda: notes(root) == ["a begins"])
    worker.process.send_signal(signal.SIGTERM)
    (root / "go").touch()
    assert worker.process.wait(20) == 0
    assert notes(root) == ["a begins", "a ends"]


def test_a_worker_whose_time_is_over_cancels_them(root, runs, start_worker):
    worker = start_worker(FNRUN_SERVE__DRAIN="300ms")
    assert runs.run("app.run", name="a").state == "succeeded"
    until(lambda: notes(root) == ["a begins"])
    assert worker.stop() == 0
    assert notes(root) == ["a begins", "a cleaned up"]
    assert "background tasks are cancelled" in worker.output


def test_a_run_in_a_process_of_its_own_ends_with_what_it_began(root, runs, start_worker):
    start_worker()
    ids = runs.submit("app.alone", name="a")
    until(lambda: notes(root) == ["a begins"])
    (root / "go").touch()
    [view] = runs.reach(ids)
    assert (view.state, bytes(view.result)) == ("succeeded", b'"answered"')
    assert notes(root) == ["a begins", "a ends"]


def test_a_command_ends_when_they_have(root):
    (root / "go").touch()
    command = [
        sys.executable,
        "-P",
        "-m",
        "runtime",
        "--dir",
        str(root),
        "invoke",
        "app.run",
        "--data",
        '{"name": "a"}',
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == '"answered"'
    assert notes(root) == ["a begins", "a ends"]


SCRIPT = """
import asyncio, time
from runtime import background

def slow(x):
    time.sleep(0.2)
    print("slow ends", flush=True)
    return x

async def double(x):
    return x * 2

async def hold():
    time.sleep(0.2)

if __name__ == "__main__":
    print(background.spawn(double, 4).result_sync("10s"), flush=True)
    print([one.value for one in background.spawn(background.gather, double, [1, 2]).result_sync("10s")], flush=True)
    background.spawn(hold)
    background.spawn(slow, 1)  # begins when nothing but the end of the script is left to do
    print("main ends", flush=True)
"""


def test_a_script_without_a_loop_waits_for_them_at_its_end(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path)
    assert done.stdout.splitlines() == ["8", "[2, 4]", "main ends", "slow ends"]
    assert done.stderr == ""
