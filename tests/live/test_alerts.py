"""Alerts of real processes: failing calls, dead workers and dead watchers, told to a receiver that verifies."""

import time
from collections.abc import Callable, Iterator
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
