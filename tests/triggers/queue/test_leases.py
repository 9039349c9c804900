"""Leases, and when others' are taken back."""

import pytest

from runtime.base.errors import StoreDown
from runtime.ledger.records import Beat, Claimed, Held
from runtime.triggers.queue.leases import Lease, Leases
from runtime.triggers.queue.upkeep import Beating, Keeper, Reaping
from tests.live_servers import until


def claimed(run_id: str, token: int = 1) -> Claimed:
    return Claimed(id=run_id, function="f", queue="q", token=token, payload=b"{}")


class Told:
    def __init__(self, answer: Beat) -> None:
        self.answer = answer
        self.held: list[Held] = []
        self.stopped: list[tuple[list[str], str]] = []
        self.registered = 0

    def beat(self, held: list[Held]) -> Beat:
        self.held = held
        return self.answer

    def stop(self, leases: list[Lease], fate: str) -> None:
        self.stopped.append(([lease.run.id for lease in leases], fate))

    def register(self) -> None:
        self.registered += 1


def beating(leases: Leases, told: Told) -> Beating:
    return Beating(leases, told.beat, told.stop, told.register, lambda: None, 1000)


def test_progress_is_told_once():
    leases, told = Leases(), Told(Beat())
    leases.take(claimed("a")).report(b"1")
    one = beating(leases, told)
    one.step()
    assert told.held == [Held("a", 1, "q", b"1")]
    one.step()
    assert told.held == [Held("a", 1, "q", b"")]
    assert told.registered == 1
    one.register_again()
    one.step()
    assert told.registered == 2


def test_what_is_lost_is_held_no_longer_and_ends(log):
    leases, told = Leases(), Told(Beat(lost=("a",), cancelled=("b",)))
    for run_id in "abc":
        leases.take(claimed(run_id))
    beating(leases, told).step()
    assert told.stopped == [(["a"], "lost"), (["b"], "cancelled")]
    assert [lease.run.id for lease in leases.all()] == ["b", "c"]


def test_what_has_ended_is_not_lost():
    leases, told = Leases(), Told(Beat(lost=("a",)))
    leases.take(claimed("a")).ended = True
    beating(leases, told).step()
    assert told.stopped == [([], "cancelled")]
    assert len(leases) == 1


def test_a_later_lease_of_the_same_run_stays():
    leases = Leases()
    leases.take(claimed("a", token=1))
    leases.take(claimed("a", token=2))
    leases.drop("a", 1)
    assert len(leases) == 1
    leases.drop("a", 2)
    assert len(leases) == 0


def test_a_keeper_goes_on_after_faults_and_says_an_outage_once(log):
    steps: list[str] = []

    def step() -> float:
        steps.append("step")
        if len(steps) < 4:
            raise StoreDown("gone")
        if len(steps) == 6:
            raise ValueError("a bug")
        return 0.0

    keeper = Keeper("upkeep", 0.01, step, lambda: steps.append("again"))
    keeper.start()
    until(lambda: len(steps) > 10)
    keeper.stop(1)
    assert steps[:5] == ["step", "again", "step", "again", "step"]
    assert [line["event"] for line in log.entries][:2] == [
        "the store does not answer",
        "a step of the worker's upkeep failed",
    ]


@pytest.mark.parametrize(("moved", "wait"), [(0, 0.1), (5, 0.0)])
def test_reaping_goes_on_at_once_while_there_is_something(moved, wait):
    reaping = Reaping(lambda: moved, 0.01)
    until(lambda: reaping.step() == wait)


def test_nothing_is_reaped_before_the_others_had_time_to_beat():
    reaped: list[int] = []
    reaping = Reaping(lambda: reaped.append(1) or 0, 0.05)
    assert 0 < reaping.step() <= 0.05
    assert not reaped
    until(lambda: (reaping.step(), reaped)[1])
    assert reaped == [1]
    reaping.wait_for_others()
    assert reaping.step() > 0.5
    assert reaped == [1]
