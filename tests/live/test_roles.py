"""HTTP and workers under one parent, which are really killed. The worker mostly is a stand-in: see stand_in.py."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

from runtime.base.settings import load_settings
from runtime.ledger.desk import open_desk
from tests.live_servers import Server, until
from tests.live_workers import Runs

pytestmark = pytest.mark.live

APP = {
    "functions/app.py": """
        import asyncio, os, subprocess
        from runtime import http

        @http.get("/pid")
        async def pid() -> int:
            return os.getpid()

        @http.get("/family")
        async def family() -> int:
            return subprocess.Popen(["sleep", "600"]).pid
        """
}
ENVIRON = {
    "FNRUN_HTTP__AUTH": "public",
    "FNRUN_HTTP__BIND": "127.0.0.1:0",
    "FNRUN_SERVE__DRAIN": "200ms",
    "FNRUN_SERVE__ONLY": "http,worker",
}
ALL_ROLES = {"FNRUN_SERVE__ONLY": "http,scheduler,worker"}


class WithStandIn(Server):
    program = (sys.executable, str(Path(__file__).parent / "stand_in.py"))

    def __init__(self, root, *arguments, environ=None):
        super().__init__(root, *arguments, environ=ENVIRON | (environ or {}), roles=None)

    def workers(self) -> list[int]:
        """Every worker there was, in the order of their beginnings."""
        return [int(pid) for pid in re.findall(r"^worker (\d+) begins", self.output, re.MULTILINE)]

    def says(self, pattern: str) -> None:
        """Wait for a line that matches, though it may have come already: the order of the roles is not known."""
        until(lambda: re.search(pattern, self.output), 40)

    def heard(self, pid: int) -> list[str]:
        return re.findall(rf"^worker {pid} hears (.*)", self.output, re.MULTILINE)


@pytest.fixture
def root(write_project):
    return write_project(**APP)


@pytest.fixture
def run(root):
    servers: list[WithStandIn] = []

    def run(*arguments: str, environ: dict[str, str] | None = None) -> WithStandIn:
        servers.append(WithStandIn(root, *arguments, environ=environ))
        return servers[-1]

    yield run
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        left = server.family
        with suppress(AssertionError):
            until(lambda: not left())  # noqa: B023 - called at once
        for pid in (found := left()):
            os.kill(pid, signal.SIGKILL)
        server.join()
        assert not found


def told(root, text: str) -> None:
    (root / "stand_in.txt").write_text(text)


# --- serve -------------------------------------------------------------------------------------------------------


def test_serve_is_http_and_a_worker(run):
    server = run("serve")
    pattern = r'"url": "([^"]+)", .*"roles": \["http", "worker"\], "functions": 2, .*"event": "listening"'
    url = server.wait_for_line(pattern)[1]
    until(lambda: '"queues": ["*"], "concurrency": 100' in server.output)
    assert httpx.get(f"{url}/pid").json() != server.process.pid
    assert len(server.family()) == 3
    assert server.stop() == 0
    assert not server.family()
    assert [server.output.count(f'"{word}"') for word in ("listening", "taking runs", "stopping", "stopped")] == [1] * 4
    assert "announces" not in server.output  # the HTTP process says what does not load


def test_serve_is_all_roles_unless_told_otherwise(root, start):
    server = start(root, "serve", "--bind", "127.0.0.1:0", roles=None)
    roles = r'"roles": \["http", "scheduler", "worker"\], "functions": 2, .*"event": "listening"'
    until(lambda: re.search(roles, server.output) and '"taking runs"' in server.output, 40)
    until(lambda: '"schedules": 0, "functions": 2' in server.output, 40)
    assert len(server.family()) == 4
    assert server.stop() == 0
    assert not server.family()


def test_whoever_is_killed_is_replaced_and_what_he_started_is_gone(run, root):
    told(root, "family")
    server = run("serve", "--concurrency", "7", "--queues", "orders, mails")
    assert server.url
    server.says(r'"queues": \["orders", "mails"\], "concurrency": 7')
    with server.client() as client:
        for number in range(1, 4):
            until(lambda: "sleep 600 " in server.family().values())
            os.kill(server.workers()[-1], signal.SIGKILL)
            until(lambda: len(server.workers()) == number + 1)  # noqa: B023 - called at once
            assert client.get("/pid").status_code == 200
    server.says('"how": "signal SIGKILL", .*"event": "a worker ended and is replaced"')
    until(lambda: list(server.family().values()).count("sleep 600 ") == 1)
    assert server.output.count('"taking runs"') == 1
    for _ in range(3):
        before = httpx.get(f"{server.url}/pid").json()
        httpx.get(f"{server.url}/family")
        os.kill(before, signal.SIGKILL)
        until(lambda: httpx.get(f"{server.url}/pid", timeout=10).json() != before)  # noqa: B023 - called at once
    assert server.output.count("an HTTP process ended and is replaced") == 3
    until(lambda: len(server.family()) == 4)
    assert server.stop() == 0
    assert not server.family()


@pytest.mark.parametrize("what", ["family", "deaf, stuck, family"])
def test_nobody_outlives_a_parent_that_is_killed(run, root, what):
    told(root, what)
    server = run("serve", environ={"FNRUN_QUEUE__WORKERS": "2", "FNRUN_HTTP__WORKERS": "2"})
    httpx.get(f"{server.url}/family")
    until(lambda: list(server.family().values()).count("sleep 600 ") == 3)
    assert len(server.family()) == 8
    server.process.kill()
    until(lambda: not server.family())


def test_a_late_worker_is_told_to_quit(run, root):
    told(root, "deaf, family")
    server = run("serve")
    server.says("taking runs")
    assert server.stop() == 0
    assert '"a process is late and is told to quit"' in server.output
    assert "was killed" not in server.output
    assert not server.family()


def test_a_worker_that_hears_nothing_is_killed_fifteen_seconds_after_the_drain(run, root):
    told(root, "deaf, stuck, family")
    server = run("serve")
    server.says("taking runs")
    began = time.monotonic()
    assert server.stop() == 0
    assert 15 <= time.monotonic() - began < 30
    assert '"a process did not end in time and was killed"' in server.output
    assert not server.family()


def test_a_second_signal_kills_it_at_once(run, root):
    told(root, "deaf, stuck")
    server = run("serve")
    server.says("taking runs")
    server.process.send_signal(signal.SIGTERM)
    server.says("stopping")
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 10


def test_http_is_served_while_no_worker_can_start(run, root):
    told(root, "dies")
    server = run("serve")
    assert httpx.get(f"{server.url}/pid").status_code == 200
    for pause in ("0.1", "0.2", "0.4", "0.8", "1.6"):
        server.says(f'"how": "exit code 3", "pause_seconds": {pause}, .*"a worker ended and is replaced"')
    assert httpx.get(f"{server.url}/pid").status_code == 200
    told(root, "")
    server.says("taking runs")
    assert server.stop() == 0


def test_one_that_dies_is_noticed_though_a_fork_of_it_holds_the_line(run, root):
    told(root, "heir, dies")
    server = run("serve")
    server.says('"pause_seconds": 0.4')
    assert server.stop() == 0


def test_it_stops_at_once_while_it_waits_to_start_a_worker(run, root):
    told(root, "dies")
    server = run("serve")
    server.says('"pause_seconds": 1.6')
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 10


def test_workers_alone_need_no_address_and_no_key(run, root):
    server = run("serve", "--only", "worker", environ={"FNRUN_QUEUE__WORKERS": "2", "FNRUN_HTTP__BIND": "nowhere"})
    server.says('"processes": 2, .*"event": "taking runs"')
    assert len(server.family()) == 3
    assert server.stop() == 0
    assert len(server.workers()) == 2
    assert server.output.count("and announces") == 1
    assert "listening" not in server.output
    assert "access key" not in server.output
    assert not (root / ".fnrun" / "keys.json").exists()


def test_workers_alone_that_cannot_start_stop_the_start(run, root):
    told(root, "dies")
    server = run("serve", environ={"FNRUN_SERVE__ONLY": "worker"})
    assert server.wait() == 1
    assert "a worker ended before it could serve (exit code 3)" in server.output


def test_http_that_cannot_start_stops_the_start_of_all(run, root):
    (root / "functions" / "_lifespan.py").write_text("middleware = 3\n")
    server = run("serve")
    assert server.wait() == 1
    assert "an HTTP process ended before it could serve (exit code 1)" in server.output
    assert not server.family()


def test_http_alone_has_a_parent(run):
    server = run("serve", "--only", "http")
    assert {httpx.get(f"{server.url}/pid").json(), server.process.pid} == set(server.family())
    assert server.stop() == 0
    assert not server.family()


def test_without_a_store_nothing_starts(run):
    server = run("serve", environ={"FNRUN_STORE__URL": "redis://127.0.0.1:1"})
    assert server.wait() == 1
    assert re.search(r"^Error: the store at redis://127.0.0.1:1\S* cannot be reached", server.output, re.MULTILINE)
    assert '"listening"' not in server.output
    assert not server.family()


# --- a real worker -----------------------------------------------------------------------------------------------


@pytest.fixture
def start_both(root, start):
    """Start `fnrun` as it is, with HTTP and a worker."""
    return lambda *arguments: start(root, *arguments, environ=ENVIRON, roles=None)


def both_are_there(server: Server, times: int = 1) -> None:
    until(lambda: [server.output.count(f'"{word}"') for word in ("listening", "taking runs")] == [times, times], 20)


def worker_of(server: Server) -> int:
    """Its pid, once there is but one."""
    found: list[int] = []

    def is_alone() -> bool:
        found[:] = [pid for pid, command in server.family().items() if "worker-child" in command]
        return len(found) == 1

    until(is_alone)
    return found[0]


def workers_in(root: Path) -> set[int]:
    """The workers that have registered with the project's store."""
    with closing(open_desk(root, load_settings(root).settings, again=True)) as desk:
        return {one.pid for one in desk.ask_sync(desk.ledger.workers())}


def test_a_real_worker_is_replaced_and_ends_in_order(start_both, root):
    server = start_both("serve", "--queues", "app", "--concurrency", "3")
    both_are_there(server)
    assert '"queues": ["app"], "concurrency": 3' in server.output
    killed = worker_of(server)
    os.kill(killed, signal.SIGKILL)
    until(lambda: worker_of(server) != killed)
    until(lambda: worker_of(server) in workers_in(root))  # while it still loads it would end at once
    assert server.stop() == 0
    assert not server.family()


NEW = """
import os
from runtime import fn

@fn()
def new() -> int:
    return os.getpid()
"""


def test_a_real_worker_takes_changes_up_and_leaves(start_both, root):
    server = start_both("dev")
    both_are_there(server)
    first = worker_of(server)
    (root / "functions" / "new.py").write_text(NEW)
    with closing(open_desk(root, load_settings(root).settings, again=True)) as desk:
        runs = Runs(desk.store)
        assert bytes(runs.run("new").result) == b"%d" % first
        runs.client.close()
    assert worker_of(server) == first
    (root / "functions" / "new.py").write_text("def broken(:\n")
    until(lambda: "SyntaxError" in server.output)  # said by one of them
    assert server.output.count("does not load") == 1
    (root / "functions.toml").write_text("[queue]\nconcurrency = 5\n")
    both_are_there(server, 2)
    assert worker_of(server) != first
    server.process.kill()
    until(lambda: not server.family(), 20)


# --- a scheduler -------------------------------------------------------------------------------------------------


def scheduler_of(server: Server) -> int:
    """Its pid, once there is but one."""
    return int(str(until(lambda: len(found := _schedulers(server)) == 1 and found[0], 30)))


def _schedulers(server: Server) -> list[int]:
    return [pid for pid, command in server.family().items() if "scheduler-child" in command]


TICKS = """
from runtime import interval

@interval("1h")
def hourly() -> None:
    pass
"""


def test_a_scheduler_alone_is_one_process_and_needs_no_address_and_no_key(root, start):
    (root / "functions" / "ticks.py").write_text(TICKS)
    server = start(root, "serve", environ={"FNRUN_HTTP__BIND": "nowhere", "FNRUN_SERVE__ONLY": "scheduler"})
    server.wait_for_line('"schedules": 1, "functions": 3, "failures": 0, "event": "scheduling"')
    assert list(server.family()) == [server.process.pid]
    assert server.stop() == 0
    assert server.output.count('"stopped"') == 1
    assert not (root / ".fnrun" / "keys.json").exists()


def test_a_scheduler_that_is_killed_is_replaced_and_one_ends_with_its_parent(run):
    server = run("serve", environ=ALL_ROLES)
    assert server.url
    server.says('"event": "scheduling"')
    killed = scheduler_of(server)
    os.kill(killed, signal.SIGKILL)
    server.says('"how": "signal SIGKILL", .*"event": "a scheduler ended and is replaced"')
    until(lambda: scheduler_of(server) != killed)
    server.process.kill()
    until(lambda: not server.family())


def test_without_a_store_a_scheduler_does_not_start(root, start):
    environ = {"FNRUN_SERVE__ONLY": "scheduler", "FNRUN_STORE__URL": "redis://127.0.0.1:1"}
    server = start(root, "serve", environ=environ)
    assert server.wait() == 1
    assert re.search(r"^Error: the store at redis://127.0.0.1:1\S* cannot be reached", server.output, re.MULTILINE)


def test_dev_has_a_scheduler_that_takes_changes_up_and_is_started_again(run, root):
    server = run("dev", environ=ALL_ROLES)
    server.says('"schedules": 0, .*"event": "scheduling"')
    first = scheduler_of(server)
    (root / "functions" / "ticks.py").write_text(TICKS)
    server.says('"schedules": 1, .*"event": "schedules fire"')
    assert scheduler_of(server) == first
    os.kill(first, signal.SIGKILL)
    server.says("the scheduler ended and is started again")
    until(lambda: server.output.count('"event": "scheduling"') == 2, 40)
    (root / "functions.toml").write_text("[serve]\ndrain = 3\n")
    until(lambda: server.output.count('"event": "scheduling"') == 3, 40)
    assert scheduler_of(server) != first
    assert server.stop() == 0
    assert not server.family()


# --- dev ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def dev(run):
    server = run("dev")
    assert server.url
    until(lambda: "taking runs" in server.output)
    return server


def test_all_processes_write_whole_lines_at_once(root):
    """They share one stdout: a line in two writes would have another's within it. Each write is a packet here."""
    written, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with written, theirs:
        command = [*WithStandIn.program, "--dir", str(root), "dev"]
        environ = {**os.environ, **ENVIRON, "PYTHONUNBUFFERED": "1"}
        dev = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environ)
        theirs.close()
        written.settimeout(40)
        packets: list[bytes] = []
        try:
            while not all(any(word in one for one in packets) for word in (b"listening", b"taking runs", b" begins")):
                packets.append(written.recv(1_000_000))
                assert packets[-1], "it ended"
            dev.terminate()
            while packet := written.recv(1_000_000):
                packets.append(packet)
        finally:
            dev.kill()
            dev.wait()
    assert b" leaves\n" in b"".join(packets)
    assert [one for one in packets if not one.endswith(b"\n")] == []


def test_both_hear_of_a_saved_file_and_keep_their_processes(dev, root):
    (worker,) = dev.workers()
    with dev.client() as client:
        pid = client.get("/pid").json()
        (root / "functions" / "new.py").write_text("from runtime import http\n@http.get\ndef new(): return 'new'\n")
        until(lambda: client.get("/new").status_code == 200)
        until(lambda: dev.heard(worker) == ["changed ['functions/new.py']"])
        assert client.get("/pid").json() == pid
    assert dev.workers() == [worker]
    assert dev.stop(signal.SIGINT) == 0
    assert not dev.family()


@pytest.mark.parametrize("file", ["functions.toml", "functions/_lifespan.py"])
def test_settings_and_lifespan_renew_both(dev, root, file):
    (worker,) = dev.workers()
    pid = httpx.get(f"{dev.url}/pid").json()
    (root / file).write_text("[queue]\nconcurrency = 5\n" if file == "functions.toml" else "middleware = []\n")
    until(lambda: httpx.get(f"{dev.url}/pid", timeout=10).json() != pid)
    until(lambda: dev.heard(worker)[-1:] == ["leave []"])
    until(lambda: f"worker {worker} leaves" in dev.output)
    until(lambda: dev.output.count('"taking runs"') == 2)
    assert len(dev.workers()) == 2
    assert ('"concurrency": 5' in dev.output) == (file == "functions.toml")


def test_a_worker_that_dies_is_started_again_by_itself(dev):
    for number in (1, 2):
        os.kill(dev.workers()[-1], signal.SIGKILL)
        until(lambda: dev.output.count('"taking runs"') == number + 1)  # noqa: B023 - called at once
    assert dev.output.count("the worker ended and is started again") == 2
    assert httpx.get(f"{dev.url}/pid").status_code == 200


def test_so_is_one_whose_fork_holds_the_line(run, root):
    told(root, "heir")
    server = run("dev")
    server.says("taking runs")
    os.kill(server.workers()[0], signal.SIGKILL)
    until(lambda: server.output.count('"taking runs"') == 2)


def test_and_at_a_save_at_once(dev, root):
    told(root, "dies")
    os.kill(dev.workers()[-1], signal.SIGKILL)
    dev.says('"pause_seconds": 8.0')
    told(root, "")
    (root / "functions" / "new.py").write_text("")
    began = time.monotonic()
    until(lambda: dev.output.count('"taking runs"') == 2)
    assert time.monotonic() - began < 6
    time.sleep(0.5)  # nobody else comes
    assert len(dev.family()) == 3


def test_a_worker_that_is_stuck_gives_way(run, root):
    told(root, "mute, deaf, stuck")
    server = run("dev")
    server.says("taking runs")
    (root / "functions" / "new.py").write_text("")
    server.says('"process": "worker", .*"event": "the change is not taken up: a handler blocks it; starting anew"')
    until(lambda: server.output.count('"taking runs"') == 2)
    until(lambda: len(server.family()) == 3)
    assert "told to quit" not in server.output


def test_while_a_new_worker_does_not_start_the_old_one_works_on(dev, root):
    (worker,) = dev.workers()
    told(root, "dies")
    (root / "functions" / "_lifespan.py").write_text("middleware = []\n")
    dev.says('"process": "worker", "how": "exit code 3", .*the old one serves on')
    assert not any("leave" in heard for heard in dev.heard(worker))
    told(root, "")
    (root / "functions" / "_lifespan.py").write_text("middleware = ()\n")
    until(lambda: dev.heard(worker)[-1:] == ["leave []"])


def test_nobody_outlives_a_dev_that_is_killed(run, root):
    told(root, "family")
    server = run("dev")
    until(lambda: "taking runs" in server.output and '"listening"' in server.output)
    assert len(server.family()) == 4
    server.process.kill()
    until(lambda: not server.family())


@pytest.mark.parametrize(
    ("only", "says"), [("http", "listening"), ("scheduler", "scheduling"), ("worker", "taking runs")]
)
def test_dev_runs_the_roles_that_the_settings_say(run, only, says):
    server = run("dev", environ={"FNRUN_SERVE__ONLY": only})
    server.says(f'"event": "{says}"')
    assert len(server.family()) == 2
    assert server.stop() == 0


@pytest.mark.parametrize(("role", "says"), [("worker", "taking runs"), ("scheduler", "scheduling")])
def test_health_asks_other_roles_where_nothing_listens(root, start, write_project, role, says):
    write_project(**{"functions.toml": f'[serve]\nonly = ["{role}"]\n'})
    health = [sys.executable, "-P", "-m", "runtime", "--dir", str(root), "health"]
    nobody = subprocess.run(health, capture_output=True, text=True, timeout=30, check=False)
    assert (nobody.returncode, f"no {role} on this machine" in nobody.stderr) == (1, True)
    server = start(root, "serve", roles=None)
    server.wait_for_line(f'"event": "{says}"')
    well = subprocess.run(health, capture_output=True, text=True, timeout=30, check=False)
    assert (well.returncode, well.stdout.startswith(f"{role}s: {role}-")) == (0, True), well.stderr
    server.stop()
    gone = subprocess.run(health, capture_output=True, text=True, timeout=30, check=False)
    assert gone.returncode == 1
