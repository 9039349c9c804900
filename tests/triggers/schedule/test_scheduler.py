"""What schedulers make of ticks, in a time that the test moves; and a scheduler itself, started and stopped."""

import asyncio
import gc
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from runtime.base.errors import StoreDown
from runtime.base.store import Store
from runtime.declare.timing.calendar import Timing
from runtime.ledger.desk import Desk
from runtime.ledger.ledger import Ledger
from runtime.ledger.records import Held
from runtime.ledger.schedules.book import Book
from runtime.ledger.schedules.records import Definition, Entry
from runtime.triggers.schedule import standing
from runtime.triggers.schedule.scheduler import Scheduler
from runtime.triggers.schedule.standing import Standing, parts_of
from tests.desks import Worker, desk_on

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
NOON_MS = 1_900_000_800_000


class Clock:
    def __init__(self) -> None:
        self.ms = NOON_MS

    def __call__(self) -> float:
        return self.ms / 1000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(valkey: Path, clock: Clock) -> Iterator[Desk]:
    """A desk whose store has the time of the test."""
    real = desk_on(valkey, f"test-{secrets.token_hex(4)}")
    assert isinstance(real.store, Store)
    desk = Desk(real.store, Ledger(real.store.namespace, clock=clock))
    yield desk
    desk.close()


def every(ms: int, **said) -> Definition:
    return Definition(id="it", function="a.b", timing=Timing(every_ms=ms), **said)


class Replica(Standing):
    """A scheduler that does what it is told."""

    def __init__(self, desk: Desk, clock: Clock, *definitions: Definition, name: str = "one") -> None:
        super().__init__(desk, lambda _: None, name=name)
        self._time = clock
        self.adopt(definitions)

    async def fire_due(self) -> int:
        """Fire what is due as far as it knows; how many runs that made."""
        found = [one for part in parts_of(self.table.due(self._time.ms)) for one in await self.fire(part)]
        return sum(one.runs for one in found)

    async def step(self) -> int:
        """Look, then fire."""
        await self.look()
        return await self.fire_due()


def entry_of(desk: Desk) -> Entry:
    found = desk.ask_sync(Book(desk.ledger).show(["it"]))[0]
    assert found is not None
    return found


def planned(desk: Desk) -> list[int]:
    page = desk.ask_sync(desk.ledger.runs(["a.b"], limit=1000))
    return sorted(int(run.id.rpartition("-")[2]) for run in page.runs)


async def test_a_replica_that_is_hours_behind_fires_nothing_again(desk, clock):
    one, other = (Replica(desk, clock, every(HOUR, overlap="allow"), name=name) for name in ("one", "other"))
    assert await one.step() == await other.step() == 0
    for _ in range(5):
        clock.ms += HOUR
        assert await other.step() == 1
    assert await one.fire_due() == 0  # the store has not heard of it for hours
    assert not one.fires
    assert await one.step() == 0
    assert entry_of(desk).runs == len(planned(desk)) == 5


async def test_one_in_a_zone_that_is_unknown_here_keeps_no_other_from_firing(desk, clock):
    """It was added where the zone database is newer."""
    strange = Definition(id="x", function="a.b", timing=Timing(cron="* * * * *", tz="Mars/Olympus"), source="added")
    await desk.ask(Book(desk.ledger).add(strange))
    one = Replica(desk, clock, every(SECOND))
    await one.step()
    clock.ms += SECOND
    assert await one.step() == 1
    await desk.ask(Book(desk.ledger).add(msgspec.structs.replace(strange, id="y")))
    clock.ms += SECOND
    await one.look()
    assert (one.fires, one.count) == (True, 1)


async def test_nor_does_one_that_lives_and_knows_only_what_was(desk, clock):
    one, other = (Replica(desk, clock, every(SECOND, overlap="allow"), name=name) for name in ("one", "other"))
    await one.step()
    await other.step()
    for _ in range(5):
        clock.ms += SECOND
        assert await other.step() == 1
    assert await one.fire_due() == 0  # told that it is stale
    assert list(one.table.due(clock.ms)) == []
    clock.ms += SECOND
    assert (await one.fire_due(), await other.fire_due()) == (1, 0)
    assert planned(desk) == list(range(NOON_MS + SECOND, NOON_MS + 7 * SECOND, SECOND))


@pytest.mark.parametrize(
    ("missed", "window_ms", "runs"),
    [("skip", HOUR, []), ("latest", HOUR, [10]), ("all", HOUR, [*range(1, 11)]), ("all", 3 * MINUTE, [8, 9, 10])],
)
async def test_after_ten_minutes_without_a_scheduler_the_policy_says_what_is_run(desk, clock, missed, window_ms, runs):
    definition = every(MINUTE, missed=missed, window_ms=window_ms, overlap="allow")
    await Replica(desk, clock, definition).step()
    clock.ms += 10 * MINUTE + 30 * SECOND
    assert await Replica(desk, clock, definition, name="another").step() == len(runs)
    assert planned(desk) == [NOON_MS + number * MINUTE for number in runs]
    entry = entry_of(desk)
    assert (entry.runs, entry.missed, entry.last_ms) == (len(runs), 10 - len(runs), NOON_MS + 10 * MINUTE)


@pytest.mark.parametrize(
    ("overlap", "runs", "overlapped"), [("skip", 10, 20), ("queue", 30, 0), ("allow", 30, 0), (2, 20, 10)]
)
async def test_runs_of_three_seconds_each_second_are_counted_exactly(desk, clock, overlap, runs, overlapped):
    replica = Replica(desk, clock, every(SECOND, overlap=overlap))
    await replica.step()
    worker = Worker(desk, "a.b")
    at_work: list[tuple[int, object]] = []
    most = 0
    for _ in range(30):
        clock.ms += SECOND
        for began, run in [one for one in at_work if clock.ms - one[0] >= 3 * SECOND]:
            worker.finish(run)
            at_work.remove((began, run))
        await replica.step()
        found = desk.ask_sync(desk.ledger.claim("tester", ("default",), 100))
        if found is None:  # it lives for 30 s
            worker = Worker(desk, "a.b")
            found = desk.ask_sync(desk.ledger.claim("tester", ("default",), 100))
        at_work += [(clock.ms, run) for run in found or ()]
        desk.ask_sync(desk.ledger.beat("tester", [_held(run) for _, run in at_work]))
        most = max(most, len(at_work))
    entry = entry_of(desk)
    assert (entry.runs, entry.overlapped, entry.missed) == (runs, overlapped, 0)
    assert most == {"skip": 1, "queue": 1, "allow": 3}.get(overlap, 2)


def _held(run):
    return Held(run.id, run.token, run.queue)


async def test_more_than_fits_into_a_call_is_several(desk, clock):
    many = [_named(f"n{n}") for n in range(450)]
    replica = Replica(desk, clock, *many)
    await replica.look()
    clock.ms += MINUTE
    assert await replica.step() == 450
    parts = [len(part) for part in parts_of(replica.table.due(clock.ms + MINUTE))]
    assert parts == [200, 200, 50]


def _named(name: str) -> Definition:
    return Definition(id=name, function="a.b", timing=Timing(every_ms=MINUTE), overlap="allow")


async def test_what_is_changed_or_added_or_gone_is_taken_up(desk, clock):
    book = Book(desk.ledger)
    replica = Replica(desk, clock, every(SECOND))
    await replica.step()
    desk.ask_sync(book.pause("it", paused=True))
    desk.ask_sync(book.add(msgspec.structs.replace(_named("added"), source="added")))
    clock.ms += SECOND
    assert await replica.fire_due() == 0  # it had not looked
    assert await replica.step() == 0
    assert replica.table.next_ms() == NOON_MS + MINUTE
    desk.ask_sync(book.remove("added"))
    desk.ask_sync(book.pause("it", paused=False))
    await replica.step()
    assert replica.table.next_ms() == NOON_MS + 2 * SECOND
    replica.adopt([])  # a reload
    await replica.step()
    assert (replica.count, replica.table.next_ms()) == (0, None)


async def test_a_clock_of_the_store_that_was_an_hour_ahead_loses_no_tick_and_doubles_none(desk, clock):
    replicas = [Replica(desk, clock, every(MINUTE, overlap="allow"), name=name) for name in ("one", "other")]
    for replica in replicas:
        await replica.step()
    clock.ms += HOUR
    assert [await replica.step() for replica in replicas] == [1, 0]  # the latest
    clock.ms -= HOUR
    for _ in range(63):
        for replica in replicas:
            await replica.step()
        clock.ms += MINUTE
    assert planned(desk) == [NOON_MS + number * MINUTE for number in range(1, 63)]


async def test_a_store_that_was_emptied_is_told_everything_again(desk, clock):
    replica = Replica(desk, clock, every(SECOND))
    await replica.step()
    for key in (client := desk.store.connect()).scan_iter(f"{desk.store.namespace}:*"):
        client.delete(key)
    client.close()
    await replica.step()
    clock.ms += SECOND
    assert await replica.step() == 1


async def test_after_an_outage_in_a_rollout_old_code_lets_the_new_come_back_first(desk, clock, monkeypatch):
    monkeypatch.setattr(standing, "_YIELD_SECONDS", 3)
    both, late = every(MINUTE, missed="all", overlap="allow"), _named("late")
    old, new = Replica(desk, clock, both), Replica(desk, clock, both, late, name="other")
    for replica in (old, new, old):
        await replica.look()
    clock.ms += 10 * MINUTE
    looking = asyncio.create_task(old.look())
    await asyncio.sleep(0.1)
    assert await new.step() == 11  # of the new one the latest: it was not out of force
    await looking
    assert not old.fires


@pytest.mark.parametrize("turn", [1, -1])
async def test_old_code_does_not_take_over_in_a_store_that_was_emptied(desk, clock, monkeypatch, turn):
    monkeypatch.setattr(standing, "_YIELD_SECONDS", 0)
    old, new = Replica(desk, clock, every(SECOND)), Replica(desk, clock, every(MINUTE), name="other")
    for replica in (old, new):
        await replica.look()
    for key in (client := desk.store.connect()).scan_iter(f"{desk.store.namespace}:*"):
        client.delete(key)
    client.close()
    for _ in range(2):
        for replica in (old, new)[::turn]:
            await replica.look()
    assert (old.fires, new.fires, old.number, new.number) == (False, True, 1, 2)
    old.adopt([every(HOUR)])  # a reload
    await old.look()
    assert (old.fires, old.number) == (True, 3)


async def test_nor_when_it_was_stopped_until_the_store_had_forgotten_its_schedules(desk, clock, monkeypatch):
    monkeypatch.setattr(standing, "_YIELD_SECONDS", 0)
    old, new = Replica(desk, clock, every(SECOND)), Replica(desk, clock, every(MINUTE), name="other")
    for replica in (old, new):
        await replica.look()
    clock.ms += 48 * HOUR
    client = desk.store.connect()
    client.delete(f"{desk.store.namespace}:set:{old._digest}")
    client.close()
    await new.look()
    await old.look()
    assert (old.fires, old.number) == (False, 1)


# --- a scheduler itself ------------------------------------------------------------------------------------------


@pytest.fixture
def real(valkey: Path) -> Iterator[Desk]:
    desk = desk_on(valkey, f"test-{secrets.token_hex(4)}")
    yield desk
    desk.close()


async def reach(condition) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for is in the store
            await asyncio.sleep(0.02)


async def test_it_fires_takes_definitions_up_and_leaves(real, log):
    stop = asyncio.Event()
    scheduler = Scheduler(real, name="s")
    scheduler.adopt([])
    running = asyncio.create_task(scheduler.run(stop))
    await scheduler.registered.wait()
    scheduler.adopt([every(SECOND, overlap="allow")])
    await reach(lambda: len(planned(real)) >= 2)
    stop.set()
    await running
    assert real.ask_sync(Book(real.ledger).schedulers()) == []
    assert [line["schedules"] for line in log.entries if line["event"] == "schedules fire"] == [0, 1]
    await real.aclose()


async def test_a_fire_ends_with_the_first_call_that_fails_and_no_fault_is_lost(real, monkeypatch):
    asked = []

    async def fail(_, firings):
        asked.append(firings)
        await asyncio.sleep(0.01)
        raise StoreDown("away")

    faults = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["message"]))
    scheduler = Scheduler(real, name="s")
    scheduler.adopt([_named(f"n{n}") for n in range(1000)])
    standing = scheduler._standing
    await standing.look()
    due = standing.table.due
    monkeypatch.setattr(standing.table, "due", lambda _: due(1 << 50))
    monkeypatch.setattr(Standing, "fire", fail)
    with pytest.raises(StoreDown):
        await scheduler._fire()
    gc.collect()
    await asyncio.sleep(0)
    assert (len(asked), faults) == (2, [])
    await real.aclose()


async def test_without_a_store_it_says_so_once_and_can_be_stopped(gone, log, monkeypatch):
    asked: list[object] = []
    ask = gone.ask
    monkeypatch.setattr(gone, "ask", lambda call: asked.append(call) or ask(call))
    stop = asyncio.Event()
    scheduler = Scheduler(gone, name="s")
    scheduler.adopt([every(SECOND)])
    running = asyncio.create_task(scheduler.run(stop))
    await reach(lambda: len(asked) >= 3)
    stop.set()
    await running
    assert [line["event"] for line in log.entries] == ["the store does not answer; ticks wait"]
    assert not scheduler.registered.is_set()


async def test_one_that_cannot_be_fired_keeps_no_other_from_it(real, log, monkeypatch):
    fire = Book.fire

    def stumble(self, scheduler, digest, firings):
        if any(one.definition.id == "bad" for one in firings):
            raise ValueError("no such thing")
        return fire(self, scheduler, digest, firings)

    monkeypatch.setattr(Book, "fire", stumble)
    nowhere = Definition(id="far", function="a.b", timing=Timing(cron="* * * * *", tz="Mars/Olympus"), source="added")
    real.ask_sync(Book(real.ledger).add(nowhere))
    stop = asyncio.Event()
    scheduler = Scheduler(real, name="s")
    scheduler.adopt([every(SECOND, overlap="allow"), msgspec.structs.replace(every(SECOND), id="bad")])
    running = asyncio.create_task(scheduler.run(stop))
    await reach(lambda: len(planned(real)) >= 2)
    stop.set()
    await running
    told = [(line["event"], line["schedule"]) for line in log.entries if "schedule" in line]
    assert told == [("a schedule cannot be fired from here", "far"), ("a schedule cannot be fired", "bad")]  # once
    await real.aclose()
