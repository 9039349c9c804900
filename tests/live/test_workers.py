"""`fnrun serve` with several HTTP processes, which are really killed."""

import os
import signal
import threading
import time
from collections import Counter
from contextlib import suppress

import httpx
import pytest

from tests.live_servers import until

pytestmark = pytest.mark.live

APP = {
    "functions/app.py": """
        import asyncio, os
        from runtime import http

        @http.get("/pid")
        async def pid() -> int:
            return os.getpid()

        @http.get("/slow")
        async def slow(seconds: float = 1) -> str:
            print("at work", flush=True)
            await asyncio.sleep(seconds)
            return "done"
        """,
    "functions/broken.py": "def broken(:\n",
}
WORKERS = {"FNRUN_HTTP__AUTH": "public", "FNRUN_HTTP__BIND": "127.0.0.1:0", "FNRUN_HTTP__WORKERS": "2"}


@pytest.fixture
def root(write_project):
    return write_project(**APP)


@pytest.fixture
def server(root, start):
    return start(root, "serve", environ=WORKERS)


def pids(server, seconds: float = 0.3) -> set[int]:
    """Who answers on new connections."""
    found, end = set(), time.monotonic() + seconds
    while time.monotonic() < end:
        found.add(httpx.get(f"{server.url}/pid").json())
    return found


def both(server) -> set[int]:
    """The two that answer, once both do."""
    return until(lambda: len(found := pids(server)) == 2 and found)


def test_they_share_the_address_and_speak_with_one_voice(server):
    both(server)
    assert server.stop() == 0
    assert server.output.count("SyntaxError") == 2  # the message, and the traceback's last line
    assert [server.output.count(word) for word in ('"listening"', '"stopping"', '"stopped"')] == [1, 1, 1]


def test_one_that_is_killed_is_replaced_and_the_other_serves_on(server):
    for _ in range(3):
        before = both(server)
        killed = before.pop()
        os.kill(killed, signal.SIGKILL)
        until(lambda: (now := pids(server, 0.1)) and killed not in now and now - before)  # noqa: B023 - called at once


def test_new_connections_are_answered_while_workers_die(server):
    both(server)
    answers: Counter[str] = Counter()
    done = threading.Event()

    def call() -> None:
        while not done.is_set():
            try:
                answers[str(httpx.get(f"{server.url}/_/ready", timeout=10).status_code)] += 1
            except httpx.HTTPError as error:
                answers[type(error).__name__] += 1

    caller = threading.Thread(target=call)
    caller.start()
    for _ in range(3):
        os.kill(killed := httpx.get(f"{server.url}/pid").json(), signal.SIGKILL)
        until(lambda: len(now := pids(server, 0.1)) == 2 and killed not in now)
    done.set()
    caller.join()
    # What the killed process held is lost with it: at most the one request that was there.
    assert answers.pop("200") > 20
    assert set(answers) <= {"ReadError", "RemoteProtocolError"}
    assert answers.total() <= 3


def test_sigterm_makes_all_unready_at_once_and_finishes_what_is_at_work(server):
    both(server)
    results: list[httpx.Response] = []
    clients = [httpx.Client(base_url=server.url, timeout=10) for _ in range(8)]
    calls = [threading.Thread(target=lambda c=c: results.append(c.get("/slow?seconds=3"))) for c in clients]
    for call in calls:
        call.start()
    until(lambda: server.output.count("at work") == 8)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)  # what is promised
    assert {httpx.get(f"{server.url}/_/ready").status_code for _ in range(10)} == {503}
    for call in calls:
        call.join()
    assert [answer.text for answer in results] == ['"done"'] * 8
    assert server.wait() == 0
    for client in clients:
        client.close()


def test_children_end_with_a_parent_that_is_killed(server):
    children = both(server)
    server.process.kill()

    def gone() -> bool:
        for pid in children:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                continue
            return False
        return True

    until(gone)


def test_a_second_signal_ends_them_at_once(server):
    both(server)

    def call() -> None:
        with suppress(httpx.HTTPError):
            httpx.get(f"{server.url}/slow?seconds=20", timeout=30)

    threading.Thread(target=call, daemon=True).start()
    server.wait_for_line("at work")
    server.process.send_signal(signal.SIGTERM)
    server.wait_for_line("stopping")
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 10


def test_a_lifespan_that_does_not_load_stops_the_start(root, start):
    (root / "functions" / "_lifespan.py").write_text("middleware = 3\n")
    server = start(root, "serve", environ=WORKERS)
    assert server.wait() == 1
    assert "nothing is served without its middleware" in server.output
    assert "an HTTP process ended before it could serve (exit code 1)" in server.output


def test_a_stuck_child_ends_with_a_parent_that_is_killed(write_project, start):
    source = "import time\nfrom runtime import http\n@http.get('/stuck')\nasync def stuck():\n"
    source += "    print('at work', flush=True)\n    time.sleep(60)\n"
    root = write_project(**APP, **{"functions/stuck.py": source})
    server = start(root, "serve", environ=WORKERS | {"FNRUN_SERVE__DRAIN": "500ms"})
    children = both(server)

    def call() -> None:
        with suppress(httpx.HTTPError):
            httpx.get(f"{server.url}/stuck", timeout=30)

    threading.Thread(target=call, daemon=True).start()
    server.wait_for_line("at work")
    server.process.kill()

    def alive(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    until(lambda: not any(alive(pid) for pid in children), 15)


def test_while_none_can_be_started_callers_are_told_so(root, server):
    children = both(server)
    (root / "functions.toml").write_text("[http]\nbnd = 1\n")
    for child in children:
        os.kill(child, signal.SIGKILL)
    answer = until(lambda: (found := httpx.get(f"{server.url}/pid", timeout=20)).status_code == 503 and found, 30)
    assert answer.json()["detail"] == "no process can be started; see the log"
    assert answer.json()["run_id"] == answer.headers["x-run-id"]
    (root / "functions.toml").unlink()
    until(lambda: httpx.get(f"{server.url}/pid", timeout=20).status_code == 200, 30)
