"""Limits over processes as they are: HTTP servers and workers on one store, signals."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from runtime.base.ids import new_run_id
from runtime.base.store import Store
from runtime.ledger.calls import do
from runtime.ledger.records import Submission
from tests.live_servers import Server, until
from tests.live_workers import FAST, LEASE_SECONDS, Runs, Starts, workers
from tests.stores import TcpStore

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

FUNCTIONS = """
    import asyncio, os, time
    from pathlib import Path
    from runtime import Breaker, fn, http, queue

    JOURNAL = os.open(Path(__file__).parents[1] / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(what):
        os.write(JOURNAL, f"{what}\\n".encode())

    @http.post("/two", timeout="60s")
    @queue("default")
    @fn(concurrency=2)
    async def two(seconds: float = 0.01) -> str:
        note("+")
        await asyncio.sleep(seconds)
        note("-")
        return "done"

    @queue("default")
    @fn(concurrency=1, key="customer")
    async def turns(customer: str) -> None:
        note(customer)

    @http.post("/shaky")
    @queue("default")
    @fn(breaker=Breaker(2, reset="1s"), retries=1)
    def shaky(bad: bool = False) -> str:
        note("bad" if bad else "good")
        if bad:
            raise OSError("no")
        return "fine"
"""

SETTINGS = '[http]\nauth = "public"\nbind = "127.0.0.1:0"\n[queue]\nconcurrency = 4\n'


class Site:
    """HTTP servers and workers of one project. journal: what its handlers have written."""

    def __init__(self, root: Path, store: TcpStore, start: Callable[..., Server], start_worker: Starts) -> None:
        self.root, self._start, self.start_worker = root, start, start_worker
        self._environ = {**FAST, "FNRUN_STORE__URL": store.url, "FNRUN_LOG__FORMAT": "json"}
        self.store = Store.open(root, store.settings)
        self.runs = Runs(self.store)

    def serve(self) -> Server:
        server = self._start(self.root, "serve", environ=self._environ)
        assert server.url  # it listens
        return server

    def journal(self) -> list[str]:
        file = self.root / "journal"
        return file.read_text().split() if file.exists() else []


@pytest.fixture
def site(write_project: Callable[..., Path], start: Callable[..., Server], tmp_path: Path) -> Iterator[Site]:
    root = write_project(**{"functions/jobs.py": FUNCTIONS, "functions.toml": SETTINGS})
    with TcpStore(tmp_path) as store, workers(root, store.url) as start_worker:
        site = Site(root, store, start, start_worker)
        yield site
        site.store.close()


def post(server: Server, path: str, **json: object) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=json, timeout=60)


def most_at_once(journal: list[str]) -> int:
    now = most = 0
    for word in journal:
        now += 1 if word == "+" else -1
        most = max(most, now)
    return most


def test_calls_and_runs_of_all_processes_share_a_limit(site: Site):
    servers = [site.serve(), site.serve()]
    for _ in range(2):
        site.start_worker()
    ids = site.runs.submit("jobs.two", count=30)
    answers: list[int] = []
    callers = [
        threading.Thread(target=lambda n=n: answers.append(post(servers[n % 2], "/two").status_code)) for n in range(10)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert {view.state for view in site.runs.reach(ids)} == {"succeeded"}
    assert answers == [200] * 10
    journal = site.journal()
    assert (most_at_once(journal), len(journal)) == (2, 80)


@pytest.mark.parametrize("holder", ["worker", "server"])
def test_places_of_a_process_that_is_killed_are_free_within_a_lease(site: Site, holder: str):
    server = site.serve()
    if holder == "worker":
        worker = site.start_worker()
        site.runs.submit("jobs.two", count=2, seconds=60)
        killed = worker.process.pid
    else:
        other = site.serve()
        for _ in range(2):
            threading.Thread(target=_call, args=(other,), daemon=True).start()
        killed = _serving(other)
    until(lambda: site.journal() == ["+", "+"])
    os.kill(killed, signal.SIGKILL)
    began = time.monotonic()
    assert post(server, "/two").status_code == 200
    assert time.monotonic() - began < LEASE_SECONDS + 5


def _call(server: Server) -> None:
    with suppress(httpx.HTTPError):
        post(server, "/two", seconds=60)


def _serving(server: Server) -> int:
    """The process that answers: a child of the one that was started, if that has any."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return int(children[0]) if children else server.process.pid


def test_a_key_with_one_run_is_not_behind_one_with_many(site: Site):
    ids = []
    for customer in (*["noisy"] * 300, "quiet"):
        said = b'{"customer":"%s"}' % customer.encode()  # as submit sends it, which knows the key
        run = Submission(id=new_run_id(), function="jobs.turns", payload=said, key=f'"{customer}"')
        ids.append(do(site.runs.client, site.runs.ledger.accept([run]))[0].id)
    site.start_worker()
    site.start_worker()
    site.runs.reach(ids)
    assert site.journal().index("quiet") < 10


def test_a_breaker_is_one_for_calls_and_runs(site: Site):
    server = site.serve()
    site.start_worker()
    for _ in range(2):
        assert post(server, "/shaky", bad=True).status_code == 500
    until(lambda: post(server, "/shaky").headers.get("fnrun-breaker") in ("open", "half-open"))
    ids = site.runs.submit("jobs.shaky", count=5)
    assert {view.state for view in site.runs.reach(ids)} == {"succeeded"}
    assert "bad" not in site.journal()[2:]
    assert httpx.get(f"{server.url}/_/limits").status_code == 401
