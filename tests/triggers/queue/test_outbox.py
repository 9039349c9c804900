"""Outcomes on their way to the store."""

import asyncio

import pytest

from runtime.base.errors import StoreDown
from runtime.ledger.records import Ending
from runtime.triggers.queue import outbox as module
from runtime.triggers.queue.outbox import Outbox


def ending(run_id: str, result: bytes = b"") -> Ending:
    return Ending(id=run_id, token=1, state="succeeded", result=result)


class Ledger:
    """Takes endings, or does not. faults: what to raise first."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.batches: list[list[str]] = []
        self.refused: set[str] = set()
        self.poison = ""

    async def __call__(self, endings) -> list[bool]:
        await asyncio.sleep(0)
        if self.faults:
            raise self.faults.pop(0)
        if self.poison in [one.id for one in endings]:
            raise ValueError(self.poison)
        self.batches.append([one.id for one in endings])
        return [one.id not in self.refused for one in endings]


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.001)


async def test_those_of_one_turn_are_written_together():
    ledger, written = Ledger(), []
    outbox = Outbox(ledger, written.append)
    for run_id in "abc":
        outbox.add(ending(run_id))
    assert len(outbox) == 3
    await asyncio.sleep(0)
    outbox.add(ending("d"))
    assert await outbox.empty(1)
    assert ledger.batches == [["a", "b", "c"], ["d"]]
    assert [one.id for one in written] == ["a", "b", "c", "d"]


async def test_a_batch_is_bounded():
    ledger = Ledger()
    outbox = Outbox(ledger, lambda _: None)
    for number in range(250):
        outbox.add(ending(str(number)))
    for number in range(3):
        outbox.add(ending(f"large {number}", b"x" * 3_000_000))
    assert await outbox.empty(1)
    assert [len(batch) for batch in ledger.batches] == [200, 52, 1]


async def test_while_the_store_is_away_they_wait(log):
    ledger, written = Ledger(StoreDown("gone"), StoreDown("gone")), []
    outbox = Outbox(ledger, written.append)
    outbox.add(ending("a"))
    assert await outbox.empty(1)
    assert [one.id for one in written] == ["a"]
    assert [line["event"] for line in log.entries] == ["outcomes wait for the store", "outcomes are written again"]


async def test_one_that_the_store_refuses_holds_up_no_other():
    ledger, written = Ledger(), []
    ledger.poison = "b"
    outbox = Outbox(ledger, written.append)
    for run_id in "bac":
        outbox.add(ending(run_id))
    assert not await outbox.empty(0.05)
    ledger.poison = ""
    assert await outbox.empty(1)
    assert sorted(one.id for one in written) == ["a", "b", "c"]


async def test_a_late_one_is_told(log):
    ledger = Ledger()
    ledger.refused = {"a"}
    outbox = Outbox(ledger, lambda _: None)
    outbox.add(ending("a"))
    assert await outbox.empty(1)
    assert log.entries[0]["event"] == "an outcome came too late and was refused"


async def test_closed_it_writes_no_more():
    outbox = Outbox(Ledger(*[StoreDown("gone")] * 1000), lambda _: None)
    outbox.add(ending("a"))
    assert not await outbox.empty(0.01)
    outbox.close()
    assert len(outbox) == 1
