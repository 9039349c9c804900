"""Several schedulers at once, killed, frozen, with clocks that are off, of several deployments: one run a tick."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.declare.timing.calendar import Timing
from runtime.ledger.calls import do
from runtime.ledger.schedules.records import Definition, Override
from runtime.ledger.views import RunView
from tests import ticks as driver
from tests.live_schedulers import Schedulers, Ticks, check, planned_ms, schedulers_on, who_fired, write
from tests.live_servers import until
from tests.live_workers import Runs
from tests.stores import TcpStore
from tests.ticks import SCHEDULE as SECOND

pytestmark = pytest.mark.live

OLD = driver.FUNCTIONS.replace("name=", 'payload={"of": "old"}, name=').replace("tick()", "tick(of: str)")
NEW = OLD.replace("old", "new")


@pytest.fixture
def schedulers(server: TcpStore, runs: Runs) -> Iterator[Schedulers]:
    with schedulers_on(server.url) as found:
        yield found


@pytest.fixture
def ticks(runs: Runs) -> Ticks:
    return Ticks(runs)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path, ticks=driver.FUNCTIONS)


def reach(ticks: Ticks, count: int) -> None:
    """Wait until so many more ticks were run."""
    least = ticks.entry(SECOND).runs + count
    until(lambda: ticks.entry(SECOND).runs >= least, 30)


def check_all(ticks: Ticks) -> list[float]:
    return check(ticks.of("ticks.tick"), ticks.entry(SECOND))


@pytest.mark.timeout(300)
def test_each_tick_is_run_once_while_the_last_to_fire_is_killed(tmp_path):
    driver.run(tmp_path, 12, 3, 3.0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_so_it_is_for_five_minutes(tmp_path):
    assert driver.run(tmp_path, 300, 10, 20.0)["late_p99_ms"] < 1000


def test_one_that_was_frozen_before_a_tick_fires_none_of_those_that_others_fired(schedulers, ticks, root):
    frozen, other = schedulers.start_all(root, 2)
    reach(ticks, 1)
    until(lambda: 0.5 < time.time() % 1 < 0.9)  # just before the next
    frozen.freeze()
    reach(ticks, 3)
    assert who_fired(root)[-1] == other.process.pid
    frozen.thaw()
    reach(ticks, 2)
    schedulers.stop_all()
    check_all(ticks)


def test_one_that_was_frozen_alone_goes_on_with_what_is_due(schedulers, ticks, root):
    (alone,) = schedulers.start_all(root, 1)
    reach(ticks, 1)
    alone.freeze()
    frozen_at = time.time()
    until(lambda: time.time() > frozen_at + 3.5)
    alone.thaw()
    reach(ticks, 4)
    schedulers.stop_all()
    assert max(check_all(ticks)) >= 2400


@pytest.mark.parametrize("when", ["before", "after"])
def test_one_that_dies_at_the_fire_leaves_neither_none_nor_two(schedulers, ticks, root, when):
    schedulers.start_all(root, 1)
    reach(ticks, 1)
    (root / f"die {when}").touch()
    until((root / f"died {when}").exists, 30)
    assert schedulers.started[0].wait() == -9
    schedulers.start_all(root, 1)
    reach(ticks, 2)
    schedulers.stop_all()
    check_all(ticks)


@pytest.mark.parametrize("off", [(3600, -86_400), (-3600, 86_400)])
def test_a_clock_that_is_off_makes_nothing_early_and_no_flood(schedulers, ticks, root, off):
    wrong = [schedulers.start(root, clock=one) for one in off]
    assert all(one.stands() for one in wrong)
    reach(ticks, 3)
    assert schedulers.start(root).stands()
    reach(ticks, 2)
    schedulers.stop_all()
    assert min(check_all(ticks)) >= 0


def test_only_the_newest_deployment_fires_and_a_rollback_works(schedulers, ticks, root, tmp_path):
    old, new = write(tmp_path / "old", ticks=OLD), write(tmp_path / "new", ticks=NEW)
    first = schedulers.start(old)
    assert first.stands()
    reach(ticks, 1)
    second = schedulers.start(new)
    assert second.stands()
    assert not first.stands()
    assert first.stop() == 0
    begun = len(who_fired(old))
    again = schedulers.start(old)  # as a rollout does with those that are not renewed yet
    assert not again.stands()
    reach(ticks, 2)
    assert len(who_fired(old)) == begun
    assert second.stop() == 0
    assert again.stands()
    reach(ticks, 2)
    assert again.stop() == 0
    assert len(who_fired(old)) > begun
    check_all(ticks)


def test_one_with_a_file_that_does_not_load_takes_no_schedules_away(schedulers, ticks, root, tmp_path):
    (whole,) = schedulers.start_all(root, 1)
    reach(ticks, 1)
    lame = schedulers.start(write(tmp_path / "lame", ticks="import nowhere\n"))
    lame.wait_for_line("schedules of a deployment that loads fire, these stand by")
    reach(ticks, 2)
    check_all(ticks)
    assert whole.stop() == 0
    assert lame.stands()  # there is no other


def test_what_the_store_missed_while_it_was_down_is_made_up_for(schedulers, ticks, root, server):
    schedulers.start_all(root, 2)
    reach(ticks, 1)
    server.kill()
    killed_at = time.time()
    until(lambda: time.time() > killed_at + 5)
    server.start()
    reach(ticks, 7)
    schedulers.stop_all()
    assert max(check_all(ticks)) >= 3900
    assert schedulers.started[0].output.count("the store does not answer; ticks wait") == 1
    assert '"the store answers again"' in schedulers.started[0].output


def test_a_change_takes_effect_within_2_s(schedulers, ticks, root, runs):
    schedulers.start_all(root, 1)
    took: list[float] = []

    def reached(what) -> None:
        began = time.monotonic()
        until(what, 30)
        took.append(time.monotonic() - began)

    every = Timing(every_ms=1000)
    ticks.add([Definition(id="mine", function="ticks.tick", timing=every, overlap="allow", source="added")])
    reached(lambda: ticks.entry("mine").runs)
    do(runs.client, ticks.book.pause("mine", paused=True))
    begun = ticks.entry("mine").runs
    do(runs.client, ticks.book.override(SECOND, Override(timing=Timing(every_ms=3_600_000))))
    until(lambda: time.time() * 1000 > ticks.entry(SECOND).last_ms + 2500)
    assert ticks.entry("mine").runs == begun
    do(runs.client, ticks.book.pause("mine", paused=False))
    reached(lambda: ticks.entry("mine").runs > begun)
    do(runs.client, ticks.book.override(SECOND, Override()))
    now = ticks.entry(SECOND).runs
    reached(lambda: ticks.entry(SECOND).runs > now)
    assert min(took) < 3  # and the tick itself a second later at most; a busy machine may delay some


@pytest.mark.timeout(300)
def test_5000_schedules_of_one_instant_are_fired_within_30_s_and_run(schedulers, ticks, root, runs, start_worker):
    start_worker()
    schedulers.start_all(root, 2)
    planned = 0
    for seconds in (8, 30, 100):  # to add them takes a second, or many on a busy machine
        planned = int(time.time()) + seconds
        at = Timing(at_ms=planned * 1000)
        names = [f"many-{seconds}-{number}" for number in range(5000)]
        ticks.add([Definition(id=name, function="ticks.tick", timing=at, source="added") for name in names])
        if time.time() < planned:
            break
    waiting = runs.ledger.runs(["ticks.tick"], states=["queued", "scheduled", "running"], trigger="at", limit=1)

    def done() -> list[RunView]:
        """All, or none: a look at all is dear."""
        found = [] if time.time() < planned or do(runs.client, waiting).runs else ticks.of("ticks.tick")
        ours = [run for run in found if (run.trigger, planned_ms(run)) == ("at", planned * 1000)]
        return ours if len(ours) == 5000 else []

    until(done, seconds + 120)
    assert all(run.accepted - planned < 30 for run in done())  # when all are finished is up to the machine
