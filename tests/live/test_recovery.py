"""`fnrun serve` with its own store, of which processes are killed at work: everything goes on, in the time promised."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.base.sections import StoreSettings
from runtime.base.store import Store
from tests.chaos import FUNCTIONS, TEST_PROFILE, Journal, workers_of
from tests.ledger.audit import misplaced
from tests.ledger.keys import stray_keys
from tests.live_servers import Server, until
from tests.live_workers import Runs
from tests.stores import keeper_id, server_id

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

EVERYTHING_SECONDS = 30.0  # 10 s are promised, on a machine that is not busy with four other tests


class Site:
    """A project that is served, what its handlers have written, and its store. root: its folder."""

    def __init__(self, root: Path, start: Callable[..., Server]) -> None:
        self.root = root
        self.journal = Journal(root / "journal")
        self._start = start
        self.serve()
        self.store = Store.open(root, StoreSettings())
        self.runs = Runs(self.store)

    def serve(self) -> None:
        environ = {"JOURNAL": str(self.journal.path), "FNRUN_HTTP__BIND": "127.0.0.1:0"}
        self.server = self._start(self.root, "serve", environ=environ, roles=None)
        until(lambda: "taking runs" in self.server.output, 30)

    def the_worker(self) -> int:
        (worker,) = workers_of(self.server)
        return worker

    def begun(self, count: int, seconds: float = 15.0) -> None:
        """Until so many runs have begun, as often as they have."""
        until(lambda: self.journal.counts().total() >= count, seconds)


@pytest.fixture
def site(write_project: Callable[..., Path], start: Callable[..., Server]) -> Iterator[Callable[[str], Site]]:
    """Have a project served with these settings. At the end every key and every run is in its place."""
    sites: list[Site] = []

    def serve(settings: str) -> Site:
        root = write_project(**{"functions/chaos.py": FUNCTIONS, "functions.toml": settings})
        sites.append(Site(root, start))
        return sites[-1]

    yield serve
    for one in sites:
        assert stray_keys(one.runs.client, one.store.namespace, lasting=("celery:",)) == []
        assert misplaced(one.runs.client, one.store.namespace) == []
        assert one.server.stop() == 0
        one.runs.client.close()
        one.store.close()
        until(lambda: not one.server.family())  # noqa: B023 - called at once


@pytest.mark.parametrize(("settings", "within_seconds"), [("", 20.0), (TEST_PROFILE, 15.0)], ids=["default", "test"])
def test_what_a_killed_worker_was_at_begins_again_in_time(site, settings, within_seconds):
    here = site(settings)
    ids = here.runs.submit("chaos.work", queue="chaos", count=10, seconds=2)
    here.begun(10)
    os.kill(here.the_worker(), signal.SIGKILL)
    killed = time.monotonic()
    here.begun(20, 40)
    assert time.monotonic() - killed < within_seconds
    found = here.runs.reach(ids)
    assert {(view.state, view.failures, view.crashes) for view in found} == {("succeeded", 0, 1)}
    assert here.journal.counts() == Counter(dict.fromkeys(ids, 2))


def test_after_everything_was_killed_everything_goes_on(site):
    here = site(TEST_PROFILE + "concurrency = 20\n")
    at_work = here.runs.submit("chaos.work", queue="chaos", count=20, seconds=30)
    here.begun(20)
    waiting = here.runs.submit("chaos.work", queue="chaos", count=200)
    everybody = [*here.server.family(), keeper_id(here.root), server_id(here.root)]
    assert len(set(everybody)) == 6  # parent, HTTP, scheduler, worker, keeper, store
    for pid in set(everybody):
        os.kill(pid, signal.SIGKILL)
    here.server.wait()
    began = time.monotonic()
    here.serve()
    here.begun(20 + 200 + 20, 60)  # what was at work, too: alone
    assert time.monotonic() - began < EVERYTHING_SECONDS
    counts = here.journal.counts()
    assert {counts[one] for one in waiting} == {1}
    assert {counts[one] for one in at_work} == {2}
    assert {view.state for view in here.runs.reach(waiting)} == {"succeeded"}
    for run_id in at_work:
        here.runs.cancel(run_id)
    assert {view.state for view in here.runs.reach(at_work)} == {"cancelled"}


def test_what_comes_while_a_worker_is_frozen_is_run_after_its_death(site):
    here = site(TEST_PROFILE)
    worker = here.the_worker()
    bell = here.runs.ledger.bell("chaos")
    here.runs.run("chaos.work", queue="chaos")
    until(lambda: int(here.runs.client.info("clients")["blocked_clients"]) > 0)  # it waits for the doorbell
    os.kill(worker, signal.SIGSTOP)
    (run_id,) = here.runs.submit("chaos.work", queue="chaos")
    until(lambda: not here.runs.client.exists(bell))  # the ring went to it
    assert here.runs.show([run_id])[0].state == "queued"
    os.kill(worker, signal.SIGKILL)
    (view,) = here.runs.reach([run_id])
    assert (view.state, view.crashes, here.journal.counts()[run_id]) == ("succeeded", 0, 1)
