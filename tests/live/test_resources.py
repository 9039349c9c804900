"""Resources and hooks of real servers: in which order, in which process, and what becomes of one that fails."""

import os
import signal
import threading
import time

import httpx
import pytest

from tests.live_servers import until

pytestmark = pytest.mark.live

PUBLIC = {"FNRUN_HTTP__AUTH": "public", "FNRUN_HTTP__BIND": "127.0.0.1:0"}
TWO = PUBLIC | {"FNRUN_HTTP__WORKERS": "2"}
LIFESPAN = """
    import asyncio, os, threading, time
    from collections.abc import AsyncIterator
    from runtime import resource, shutdown, startup

    class Pool:
        open = True

    def tell(what):
        os.write(1, f"{what} in {os.getpid()}\\n".encode())  # at once: two processes write to one pipe

    @resource
    async def pool() -> AsyncIterator[Pool]:
        tell("pool opens")
        pool = Pool()
        yield pool
        pool.open = False
        tell("pool closes")

    @resource
    def cache(pool: Pool):
        tell("cache opens")
        yield {"pid": os.getpid()}
        tell("cache closes")

    @startup
    async def warm(pool: Pool):
        tell("warm runs")

    @shutdown
    def flush(cache):
        tell("flush runs")
    """
APP = """
    import asyncio, time
    from functions._lifespan import Pool, tell
    from runtime import http

    @http.get("/slow")
    async def slow(pool: Pool, seconds: float = 0) -> bool:
        tell("at work")
        await asyncio.sleep(seconds)
        tell("handler ends")
        return pool.open

    @http.get("/pid")
    def pid(cache) -> int:
        return cache["pid"]
    """
OPENING = ["pool opens", "cache opens", "warm runs"]
CLOSING = ["flush runs", "cache closes", "pool closes"]


@pytest.fixture
def root(write_project):
    return write_project(**{"functions/_lifespan.py": LIFESPAN, "functions/app.py": APP})


@pytest.fixture
def add(root):
    """Write more into _lifespan.py."""

    def add(source: str) -> None:
        path = root / "functions" / "_lifespan.py"
        path.write_text(f"{path.read_text()}\n{source}")

    return add


def told(server, pid: int) -> list[str]:
    end = f" in {pid}"
    return [line.removesuffix(end) for line in server.lines if line.endswith(end)]


def the_one(server) -> int:
    """The process that opened something."""
    (pid,) = {int(line.rpartition(" in ")[2]) for line in server.lines if " opens in " in line}
    return pid


def test_they_are_open_before_it_listens_and_closed_after_the_last_handler(root, start):
    server = start(root, "serve", environ=PUBLIC)
    pid = httpx.get(f"{server.url}/pid").json()
    assert pid == server.serving
    assert told(server, pid) == OPENING
    listening = next(line for line in server.lines if '"listening"' in line)
    assert server.lines.index(f"warm runs in {pid}") < server.lines.index(listening)
    answers: list[httpx.Response] = []
    call = threading.Thread(target=lambda: answers.append(httpx.get(f"{server.url}/slow?seconds=0.5", timeout=10)))
    call.start()
    server.wait_for_line("at work")
    assert server.stop() == 0
    call.join()
    assert answers[0].json() is True
    assert told(server, pid) == [*OPENING, "at work", "handler ends", *CLOSING]


def test_each_process_has_its_own(root, start):
    server = start(root, "serve", environ=TWO)
    pids: set[int] = set()
    until(lambda: pids.add(httpx.get(f"{server.url}/pid").json()) or len(pids) == 2)
    assert server.stop() == 0
    assert [told(server, pid) for pid in pids] == [[*OPENING, *CLOSING]] * 2


@pytest.mark.parametrize("environ", [PUBLIC, TWO], ids=["one", "two"])
def test_one_that_fails_stops_the_start_and_names_itself(root, start, add, environ):
    add("@resource\nasync def mail(pool: Pool):\n    raise OSError('no route')\n    yield")
    server = start(root, "serve", environ=environ)
    assert server.wait() == 1
    assert 'Error: resource "mail" of functions/_lifespan.py:34 cannot be opened: OSError: no ' in server.output
    for name in ("pool", "cache"):
        assert server.output.count(f"{name} opens") == server.output.count(f"{name} closes") > 0
    assert "flush runs" not in server.output
    assert "listening" not in server.output


def test_a_hook_that_fails_does_so_too_whatever_threads_are_left(root, start, add):
    left = "threading.Thread(target=time.sleep, args=[60]).start()"
    add(f"@startup\ndef check():\n    {left}\n    raise ValueError('odd')")
    server = start(root, "serve", environ=PUBLIC)
    assert server.wait() == 1
    assert 'start-up hook "check" of functions/_lifespan.py:34 failed: ValueError: odd' in server.output
    assert told(server, the_one(server)) == [*OPENING, *CLOSING[1:]]


def test_one_that_hangs_at_the_end_is_named_and_left(root, start, add):
    add("@resource\ndef hung():\n    yield\n    time.sleep(60)\n")
    server = start(root, "serve", environ=PUBLIC)
    assert httpx.get(f"{server.url}/pid").status_code == 200
    began = time.monotonic()
    assert server.stop() == 0
    assert 9 < time.monotonic() - began < 16
    assert "takes too long to close and was left" in server.output
    assert told(server, the_one(server)) == [*OPENING, *CLOSING]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("async def late(pool: Pool):\n    tell('late begins')\n    await asyncio.sleep(60)\n    yield\n", []),
        (  # a thread cannot be stopped: what it opens is closed
            "def late():\n    tell('late begins')\n    time.sleep(2)\n    yield\n    tell('late closes')\n",
            ["late closes"],
        ),
    ],
)
def test_a_signal_while_they_open_closes_what_is_open(root, start, add, source, expected):
    add(f"@resource\n{source}")
    server = start(root, "serve", environ=PUBLIC)
    server.wait_for_line("late begins")
    assert server.stop() == 0
    assert told(server, the_one(server)) == [*OPENING[:2], "late begins", *expected, *CLOSING[1:]]


def test_children_that_still_open_theirs_end_with_a_killed_parent(root, start, add):
    add("@resource\nasync def late():\n    tell('late begins')\n    await asyncio.sleep(60)\n    yield\n")
    server = start(root, "serve", environ=TWO)
    pid = int(server.wait_for_line(r"late begins in (\d+)")[1])
    server.process.send_signal(signal.SIGKILL)

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    until(gone, 5)


def test_in_dev_the_old_process_serves_until_a_new_one_has_opened_its_own(root, start, add):
    lifespan = root / "functions" / "_lifespan.py"
    server = start(root, "dev", "--bind", "127.0.0.1:0")
    first = httpx.get(f"{server.url}/pid").json()
    good = lifespan.read_text()
    add("@resource\nasync def mail(pool: Pool):\n    raise OSError('no route')\n    yield")
    server.wait_for_line("cannot be opened: OSError: no route")
    server.wait_for_line("the old one serves on")
    assert httpx.get(f"{server.url}/slow").json() is True
    assert httpx.get(f"{server.url}/pid").json() == first
    lifespan.write_text(good)
    until(lambda: httpx.get(f"{server.url}/pid", timeout=10).json() != first)
    until(lambda: told(server, first)[-3:] == CLOSING)
    app = root / "functions" / "app.py"
    app.write_text(app.read_text().replace("def pid(cache) -> int:", "def pid(pool: Pool, cache) -> int:"))
    server.wait_for_line('"reloaded"|reloaded')
    assert httpx.get(f"{server.url}/pid").json() != first
    assert server.stop() == 0
