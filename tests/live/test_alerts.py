"""Alerts of real processes: failing calls, dead workers and dead watchers, told to a receiver that verifies."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.alert_receivers import Receiver, a_receiver
from tests.live_servers import Server, until
from tests.live_workers import FAST, Runs
from tests.stores import TcpStore

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

PATIENCE = 60.0

APP = """
    from pathlib import Path
    from runtime import http, queue

    ROOT = Path(__file__).parents[1]

    @http.get("/flaky", auth="public")
    async def flaky(bad: bool = False) -> str:
        if bad:
            raise OSError("no route to host")
        return "good"

    @queue("pages")
    async def page(alert: dict) -> None:
        with (ROOT / "pages").open("a") as pages:
            print(alert["type"], file=pages)
    """


def settings(receiver: Receiver, rules: str) -> str:
    return f"""
        [alerting]
        webhook = "{receiver.url}"
        secrets = ["{receiver.secret}"]
        allow_private = true
        {rules}
        """


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with a_receiver() as receiver:
        yield receiver


def test_calls_that_fail_are_told_and_that_they_do_so_no_more(write_project, start, receiver):
    """The receiver is away at first; a function is run with each message, too."""
    rules = """
        [alerts.errors]
        when = "failure_rate > 50%"
        function = "app.*"
        least = 5
        clear_for = 0
        run = "app.page"
        """
    root = write_project(**{"functions/app.py": APP, "functions.toml": settings(receiver, rules)})
    receiver.answers = [503]
    server = start(root, "serve", "--bind", "127.0.0.1:0", roles=None)
    with httpx.Client(base_url=server.url, timeout=20) as client:
        for _ in range(10):
            assert client.get("/flaky?bad=1").status_code == 500
        until(lambda: receiver.types == ["alert.fired"], PATIENCE)
        for _ in range(40):
            assert client.get("/flaky").status_code == 200
        until(lambda: receiver.types == ["alert.fired", "alert.resolved"], PATIENCE)
    (first, fired), (second, resolved) = receiver.messages
    assert receiver.refused == [first], "it was tried again under the same id"
    assert first != second
    assert fired["data"]["firings"][0]["function"] == "app.flaky"
    assert fired["data"]["firings"][0]["value"] == 1.0
    assert fired["data"]["firings"][0]["id"] == resolved["data"]["firings"][0]["id"]
    assert receiver.forged == []
    pages = root / "pages"
    until(lambda: pages.exists() and pages.read_text() == "alert.fired\nalert.resolved\n", PATIENCE)
    assert server.stop() == 0
    assert "/hook" not in server.output, "the address is in no line"


WRONG = """
    import asyncio, time
    from pathlib import Path
    from runtime import fn, http, interval, queue

    BEGUN = Path(__file__).parents[1] / "begun"

    @http.get("/late")
    @fn(timeout="50ms")
    async def late() -> None:
        await asyncio.sleep(60)

    @http.get("/block")
    async def block() -> None:
        time.sleep(2)

    @http.post("/dead")
    @fn(retries=1)
    async def dead() -> None:
        raise OSError("never")

    @http.post("/wait")
    @queue("nobody-takes")
    async def wait() -> None: ...

    @http.post("/hold")
    async def hold() -> None:
        if not BEGUN.exists():
            BEGUN.touch()
            await asyncio.sleep(60)

    @interval("1s")
    async def tick() -> None: ...
    """
WHEN = {
    "late": ("timeouts > 0", "wrong.late"),
    "blocked": ("loop_blocked > 0", "wrong.block"),
    "dead": ("dead_letters > 0", "wrong.dead"),
    "backlog": ("backlog_age > 1s", "nobody-takes"),
    "lost": ("lost_workers > 0", None),
    "crashed": ("failure_rate > 0%", "wrong.hold"),
    "missed": ("missed_ticks > 0", "wrong.tick"),
}


def test_whatever_can_be_wrong_is_told_when_it_happens(write_project, start, receiver):
    """Each by the thing itself: a worker that is killed, a scheduler that is frozen, a queue that nobody takes from."""
    rules = "".join(
        f'[alerts.{name}]\nwhen = "{when}"\nleast = 1\nclear_for = 0\n'
        + (f'function = "{about}"\n' if about and about.startswith("wrong.") else "")
        for name, (when, about) in WHEN.items()
    )
    toml = settings(receiver, "") + '[queue]\nqueues = ["default"]\n[serve]\nblocked_warn = "300ms"\n' + rules
    root = write_project(**{"functions/wrong.py": WRONG, "functions.toml": toml})
    environ = {"FNRUN_HTTP__AUTH": "public", **FAST}
    server = start(root, "serve", "--bind", "127.0.0.1:0", environ=environ, roles=None)
    url = server.url
    until(lambda: '"taking runs"' in server.output and '"schedules fire"' in server.output, PATIENCE)

    def child(role: str) -> int:
        (found,) = [pid for pid, command in server.family().items() if f"{role}-child" in command]
        return found

    frozen, since = child("scheduler"), time.monotonic()
    os.kill(frozen, signal.SIGSTOP)
    later = {"prefer": "respond-async"}
    assert [httpx.post(f"{url}/{name}", headers=later).status_code for name in ("hold", "dead", "wait")] == [202] * 3
    assert httpx.get(f"{url}/late", timeout=20).status_code == 504
    assert httpx.get(f"{url}/block", timeout=20).status_code == 204
    until((root / "begun").exists, PATIENCE)
    os.kill(child("worker"), signal.SIGKILL)

    def told(event: str) -> dict[str, str | None]:
        return {
            body["data"]["alert"]: firing.get("function") or firing.get("queue")
            for _, body in receiver.messages
            if body["type"] == event
            for firing in body["data"]["firings"]
        }

    def tells(event: str, what: dict[str, str | None]) -> None:
        with suppress(AssertionError):
            until(lambda: told(event) == what, PATIENCE)
        assert told(event) == what

    expected = {name: about for name, (_, about) in WHEN.items()}
    tells("alert.fired", {name: expected[name] for name in expected if name != "missed"})
    until(lambda: time.monotonic() - since > 13, PATIENCE)  # what is up to 10 s late is in time
    os.kill(frozen, signal.SIGCONT)
    tells("alert.fired", expected)
    assert told("alert.resolved") == {}
    worker = start(root, "serve", "--queues", "nobody-takes", environ=FAST, roles="worker")
    tells("alert.resolved", {"backlog": "nobody-takes"})
    assert receiver.forged == []
    assert worker.stop() == 0
    assert server.stop() == 0


@pytest.fixture
def start_watcher(root: Path, server: TcpStore, start) -> Callable[[], Server]:
    """A process that runs nothing, and so is never to blame."""
    environ = {"FNRUN_STORE__URL": server.url, "FNRUN_LOG__FORMAT": "json", **FAST}
    return lambda: start(root, "serve", environ=environ, roles="scheduler")


@pytest.fixture
def root(write_project, receiver) -> Path:
    rules = """
        [alerts.nobody]
        when = "workers < 1"
        for = 0
        clear_for = 0
        """
    return write_project(**{"functions/app.py": APP, "functions.toml": settings(receiver, rules)})


def holder(runs: Runs) -> str:
    """The process that looks, by its id; "" for none."""
    found = runs.client.hmget(f"{runs.ledger.prefix}alerts", "holder", "until")
    return found[0].decode().split(":")[1] if found[0] and float(found[1]) > time.time() * 1000 else ""


def test_who_looks_may_be_killed_and_nothing_is_told_twice_or_forgotten(runs, start_watcher, start_worker, receiver):
    watchers = [start_watcher()]
    until(lambda: holder(runs), PATIENCE)
    until(lambda: receiver.types == ["alert.fired"], PATIENCE)
    watchers.append(start_watcher())
    watchers[1].wait_for_line('"event": "scheduling"')
    first = holder(runs)
    assert first == str(watchers[0].process.pid)
    watchers[0].process.kill()
    killed = time.monotonic()
    until(lambda: holder(runs) not in ("", first), PATIENCE)
    assert time.monotonic() - killed < 10 + 5, "10 s are promised; a busy machine may take a little longer"
    worker = start_worker()
    until(lambda: receiver.types == ["alert.fired", "alert.resolved"], PATIENCE)
    worker.process.kill()
    worker.process.wait(10)
    until(lambda: receiver.types == ["alert.fired", "alert.resolved", "alert.fired"], PATIENCE)
    assert receiver.forged == []
    assert watchers[1].stop() == 0
    assert holder(runs) == "", "who ends in good order lets go"
