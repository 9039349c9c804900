"""Rules on a real store: what is kept, who may write it, what is sent and how often it is tried."""

import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from runtime.alerts.book import Book, Message
from runtime.alerts.rules import Channels, rules_of
from runtime.alerts.watch import LEASE_SECONDS, Watch, look, next_pause
from runtime.base.durations import SecondsOrNever
from runtime.base.sections import Settings
from runtime.base.tables.alerts import AlertingSettings, AlertTable, Condition
from runtime.ledger.desk import Desk
from runtime.ledger.minutes import record
from tests.alerts.conditions import rule
from tests.desks import desk_on
from tests.ledger.trial import Trial
from tests.live_servers import until

TELLS = Channels(run="ops.page")


class Looker:
    """Who looks at some rules by hand."""

    def __init__(self, desk: Desk, *rules: Any, holder: str = "me", **given: Any) -> None:
        self.desk, self.book = desk, Book(desk.ledger)
        self.rules = {one.name: one for one in rules}
        self.holder = holder
        self._ids = count(1)
        desk.settings = Settings(alerting=AlertingSettings(**given))

    @classmethod
    def of_settings(cls, desk: Desk, settings: Settings) -> "Looker":
        looker = cls(desk, *rules_of(settings).values())
        desk.settings = settings
        return looker

    async def hold(self) -> int:
        return await self.desk.ask(self.book.hold(self.holder, LEASE_SECONDS))

    async def look(self, token: int | None = None) -> bool:
        held = await self.hold() if token is None else token
        return await look(self.desk, self.book, self.rules, held, lambda: f"m{next(self._ids)}")

    async def parcels(self) -> list[tuple[str, str]]:
        """(name, event) of what is due, which then is sent."""
        found = await self.desk.ask(self.book.due(()))
        for one in found:
            await self.desk.ask(self.book.sent(one, "sent", self.desk.ledger.now()))
        return [(one.name, one.event) for one in found]


def failing(desk: Desk, trial: Trial, times: int = 1, function: str = "f") -> None:
    desk.ask_sync(record(desk.ledger, [(int(trial.now // 60), function, "http", "failed", times)]))


def told(name: str = "r", **said: Any) -> Any:
    return rule("failures > 0", name=name, channels=TELLS, **said)


@pytest.fixture
def looker(desk: Desk) -> Callable[..., Looker]:
    return lambda *rules, **said: Looker(desk, *rules, **said)


async def test_what_fires_is_sent_once_and_its_end_too(desk, trial, looker):
    me = looker(told())
    assert await me.look()
    assert await me.parcels() == []
    failing(desk, trial)
    assert await me.look()
    assert await me.look()
    assert await me.parcels() == [("run:r:m2", "fired")]
    trial.now += 600
    assert await me.look()
    assert await me.parcels() == [("run:r:m3", "resolved")]
    assert await me.parcels() == []


async def test_one_holds_at_a_time_and_another_takes_over_when_its_lease_is_over(trial, looker):
    one, other = looker(told()), looker(told(), holder="other")
    first = await one.hold()
    assert first
    assert await other.hold() == 0
    trial.now += 2
    assert await one.hold() == first, "it goes on with the token it has"
    trial.now += LEASE_SECONDS + 0.001
    second = await other.hold()
    assert second > first
    assert await one.hold() == 0


async def test_who_ends_in_good_order_is_followed_at_once(desk, looker):
    one, other = looker(told()), looker(told(), holder="other")
    await one.hold()
    await desk.ask(one.book.hold("me", 0.0))
    assert await other.hold()


async def test_who_was_frozen_changes_nothing(desk, trial, looker):
    one, other = looker(told()), looker(told(), holder="other")
    stale = await one.hold()
    trial.now += LEASE_SECONDS + 1
    await other.hold()
    failing(desk, trial)
    assert not await one.look(stale)
    assert await one.parcels() == []
    assert await other.look()
    assert len(await other.parcels()) == 1


async def test_who_takes_over_neither_repeats_nor_forgets(desk, trial, looker):
    one, other = looker(told(for_seconds=10)), looker(told(for_seconds=10), holder="other")
    failing(desk, trial)
    await one.look()
    trial.now += LEASE_SECONDS + 5
    await other.look()
    assert [event for _, event in await other.parcels()] == ["fired"]
    trial.now += LEASE_SECONDS + 5
    await one.look()
    assert await one.parcels() == []


async def test_there_is_no_storm(desk, trial, looker):
    """A hundred functions that fail are one message; twenty rules send as many as fit into an hour."""
    rules = [told(f"r{n}", pattern=f"f{n}") for n in range(20)]
    me = looker(told("all"), *rules, most_per_hour=5)
    for number in range(100):
        failing(desk, trial, function=f"f{number}")
    await me.look()
    assert len(await me.parcels()) == 5
    for _ in range(10):
        trial.now += 10
        await me.look()
    assert await me.parcels() == []
    trial.now += 3600
    for number in range(100):
        failing(desk, trial, function=f"f{number}")
    await me.look()
    assert len(await me.parcels()) == 5


async def test_the_last_message_of_an_hour_says_so(desk, trial, looker):
    me = looker(told("a"), told("b"), most_per_hour=2)
    failing(desk, trial)
    await me.look()
    first, last = await desk.ask(me.book.due(()))
    assert [b"last_within_the_hour" in one.body for one in (first, last)] == [False, True]


async def test_what_cannot_be_told_holds_back_its_own_lane_alone(desk, trial, looker):
    me = looker()
    for number, channels in enumerate([("webhook", "run"), ("webhook",)]):
        message = Message(id=f"m{number}", rule="r", event="fired", body=b"{}", channels=channels)
        await desk.ask(me.book.post(message))
    first = await desk.ask(me.book.due(()))
    assert [one.name for one in first] == ["webhook:r:m0", "run:r:m0"]
    await desk.ask(me.book.sent(first[0], "again", trial.now, "it answered 503", 5.0))
    await desk.ask(me.book.sent(first[1], "sent", trial.now))
    assert await desk.ask(me.book.due(())) == []
    trial.now += 5
    again = await desk.ask(me.book.due(()))
    assert [(one.name, one.tries, one.error) for one in again] == [("webhook:r:m0", 1, "it answered 503")]
    await desk.ask(me.book.sent(again[0], "given up", trial.now, "it answered 503"))
    assert [one.name for one in await desk.ask(me.book.due(()))] == ["webhook:r:m1"]
    shown = await desk.ask(me.book.show())
    assert [(one.channel, one.outcome, one.tries) for one in shown.recent] == [
        ("webhook", "given up", 2),
        ("run", "sent", 1),
    ]


async def test_lost_workers_are_those_that_went_without_a_word(desk, trial, looker):
    me = looker(rule("lost_workers > 0"))
    for name in ("good", "bad"):
        trial.works(name)
    await me.look()
    await desk.ask(desk.ledger.leave("good"))
    trial.now += 11
    facts = (await desk.ask(me.book.look(()))).facts
    assert (facts.workers, [name for name, _ in facts.lost]) == (0, ["bad"])
    trial.works("bad")
    facts = (await desk.ask(me.book.look(()))).facts
    assert (facts.workers, facts.lost) == (1, ()), "it was frozen, and goes on"


async def test_dead_letters_count_within_the_window(desk, trial, looker):
    me = looker(rule("dead_letters > 0", channels=TELLS))
    trial.works()
    trial.accept("f")
    trial.finish(trial.claim_one(), "failed", reason="error")
    await me.look()
    assert [event for _, event in await me.parcels()] == ["fired"]
    trial.now += 301
    await me.look()
    assert [event for _, event in await me.parcels()] == ["resolved"]


def test_pauses_grow_and_a_receiver_may_ask_for_more():
    assert [next_pause(tries, 0) for tries in (0, 1, 2, 50)] == [5, 10, 20, 600]
    assert [next_pause(0, asked) for asked in (60, 1e9)] == [60, 3600]


def said(log: Any, event: str) -> list[Any]:
    return [one for one in log.entries if one["event"] == event]


@pytest.fixture
def start_watch(tmp_path: Path) -> Iterator[Callable[[Desk], Watch]]:
    started: list[Watch] = []

    def start(desk: Desk) -> Watch:
        table = AlertTable(when=Condition.parse("workers < 1"), for_seconds=SecondsOrNever(0))
        desk.settings = Settings(alerts={"r": table})
        started.append(Watch(desk, tmp_path))
        started[-1].start()
        return started[-1]

    yield start
    for watch in started:
        watch.stop()


@pytest.fixture
def by_real_time(valkey: Path) -> Iterator[Desk]:
    desk = desk_on(valkey, f"test-{secrets.token_hex(4)}")
    yield desk
    desk.close()


def test_a_watch_holds_looks_says_so_and_lets_go_at_its_end(by_real_time, start_watch, log):
    book, watch = Book(by_real_time.ledger), start_watch(by_real_time)
    until(lambda: said(log, "r fires (workers < 1): 0"), 15)
    shown = by_real_time.ask_sync(book.show())
    assert shown.holder == watch.holder
    assert shown.states["r"].subjects[""].phase == "firing"
    watch.stop()
    assert by_real_time.ask_sync(book.show()).holder == ""


def test_an_outage_of_the_store_is_said_once(gone, start_watch, log):
    start_watch(gone)
    until(lambda: said(log, "the store does not answer; alerts wait"), 15)
    watch = start_watch(gone)
    until(lambda: len(said(log, "the store does not answer; alerts wait")) == 2, 15)
    began = time.monotonic()
    watch.stop()
    assert time.monotonic() - began < 10


def test_where_there_is_no_rule_nothing_is_begun_and_nothing_loaded():
    code = "import sys; from runtime.alerts.opening import open_watch; print('httpx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
