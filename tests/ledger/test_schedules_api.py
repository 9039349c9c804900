"""schedules and schedules_sync: what authors can ask and change at run time, before a scheduler runs and after."""

import json
import sys
from datetime import UTC, date, datetime, timedelta
from types import ModuleType
from zoneinfo import ZoneInfo

import pytest

from runtime import Run, ScheduleError, ScheduleView, StoreDown, SyncRun, schedules, schedules_sync
from runtime.base.errors import ScheduleConflict, UnknownFunction, UnknownSchedule
from runtime.base.schedules import ScheduleTable
from runtime.base.sections import FunctionSettings
from runtime.declare.loader import load
from runtime.declare.timing.calendar import Timing
from runtime.ledger.desk import Desk, use
from runtime.ledger.schedules.book import Book
from runtime.ledger.schedules.records import Definition
from runtime.ledger.targets import FolderCatalogue
from tests.declare.conftest import _restored_imports  # noqa: F401 - what is loaded here is put back
from tests.ledger.trial import START
from tests.schedulers import Scheduler

FILES = {
    "functions/orders.py": """
        from runtime import Tick, at, cron, fn, interval, queue

        @cron("0 6 * * mon-fri", tz="Europe/Paris", name="morning", payload={"days": 3})
        @queue("orders")
        @fn(max_age="2h")
        async def sweep(days: int = 1): ...

        @interval("15m", jitter="30s", overlap=2, timeout="1m")
        async def poll(tick: Tick): ...

        @cron("0 * * * *", name="hourly")
        @cron("@daily", name="daily")
        def both(): ...

        @fn()
        def remind(user: int, text: str = "hello"): ...

        @fn()
        async def stream():
            yield 1
    """
}
NOW = datetime.fromtimestamp(START, UTC)  # 2030-03-17 17:46:40, a Sunday


@pytest.fixture
def orders(desk: Desk, write_project) -> ModuleType:
    """The module functions.orders of a project that this process has loaded; no scheduler has run yet."""
    registry = load(write_project(**FILES))
    assert registry.failures == ()
    desk.registry = lambda: registry
    return sys.modules["functions.orders"]


@pytest.fixture(params=["before", "after"])
def either(request, orders, desk) -> ModuleType:
    """The same, before any scheduler has run, and after."""
    if request.param == "after":
        Scheduler(desk)
    return orders


def utc(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


# --- looking -------------------------------------------------------------------------------------------------------


async def test_what_is_declared_is_listed_before_and_after_a_scheduler_ran(orders, desk: Desk):
    before = await schedules.list()
    assert [view.id.partition(":")[2][:8] for view in before] == ["daily", "hourly", "interval", "morning"]
    assert {view.registered for view in before} == {False}
    Scheduler(desk)
    after = await schedules.list()
    assert [view.id for view in after] == [view.id for view in before]
    assert {view.registered for view in after} == {True}


async def test_a_schedule_says_all_that_is_declared(either):
    view = await schedules.get("orders.sweep:morning")
    assert isinstance(view, ScheduleView)
    assert (view.function, view.kind, view.rule, view.timezone) == (
        "orders.sweep", "cron", "0 6 * * mon-fri", "Europe/Paris",
    )  # fmt: skip
    assert (view.source, view.payload, view.missed, view.overlap) == ("code", {"days": 3}, "latest", "skip")
    assert view.place.startswith("functions/orders.py:")
    assert (view.jitter_seconds, view.window_seconds, view.timeout_seconds) == (0.0, 3600.0, None)
    assert (view.paused, view.overrides, view.open, view.waiting, view.runs) == (False, {}, 0, 0, 0)
    assert (view.last_planned_at, view.last_run, view.last_success_at) == (None, None, None)
    first = view.next[0]
    assert (first.at, first.shift, len(view.next)) == (utc("2030-03-18T05:00:00"), "", 5)
    assert first.local == first.at
    assert first.local.tzinfo == ZoneInfo("Europe/Paris")
    other = await schedules.get(either.poll, fires=1)
    assert (other.kind, other.rule, other.jitter_seconds, other.overlap, other.timeout_seconds) == (
        "interval", "15m", 30.0, 2, 60.0,
    )  # fmt: skip


async def test_next_fires_mark_where_the_clocks_change(orders):
    await schedules.add("orders.remind", id="night", cron="30 2 * * *", tz="Europe/Paris", payload={"user": 1})
    view = await schedules.get("night", fires=15)
    [gap] = [fire for fire in view.next if fire.shift]
    assert (gap.shift, gap.local.isoformat()) == ("gap", "2030-03-31T03:00:00+02:00")


async def test_a_function_with_one_schedule_stands_for_it(either):
    assert (await schedules.get("orders.sweep")).id == "orders.sweep:morning"
    assert (await schedules.get(either.sweep)).id == "orders.sweep:morning"
    with pytest.raises(
        ScheduleConflict, match=r"2 schedules; say which, by its id: orders.both:daily, orders.both:hourly"
    ):
        await schedules.get(either.both)
    with pytest.raises(UnknownSchedule, match=r'"orders.sweep:mornin"; did you mean "orders.sweep:morning"'):
        await schedules.get("orders.sweep:mornin")
    with pytest.raises(ScheduleError, match="is no function of fnrun's"):
        await schedules.get(print)


async def test_a_list_may_be_of_one_function(either):
    assert [view.id for view in await schedules.list(either.both)] == ["orders.both:daily", "orders.both:hourly"]
    assert await schedules.list("orders.remind") == []


async def test_what_ticks_came_to_is_shown(orders, desk: Desk, trial):
    scheduler, before = Scheduler(desk), round(START * 1000)
    trial.now += 3600
    first, second = before + 900_000, before + 1_800_000
    poll = (await schedules.get("orders.poll")).id
    [one, two] = scheduler.fire(poll, first, second, missed=4)
    trial.works("w", "orders.poll")
    claimed = {run.id: run for run in trial.claim("w", slots=9)}
    trial.finish(claimed[one], "succeeded")
    view = await schedules.get(poll)
    assert (view.runs, view.open, view.missed_count, view.last_run) == (2, 1, 4, two)
    assert view.last_planned_at == datetime.fromtimestamp(second / 1000, UTC)
    assert view.last_success_at == datetime.fromtimestamp(first / 1000, UTC)
    assert [(skip.count, skip.why) for skip in view.skips] == [(4, "missed")]


# --- adding --------------------------------------------------------------------------------------------------------


async def test_a_schedule_is_added_with_the_functions_own_defaults(either, desk: Desk):
    view = await schedules.add(
        either.remind, id="u:42", interval="1h", payload={"user": 42}, missed="all", overlap="queue", jitter=5,
        window="2h", timeout="90s",
    )  # fmt: skip
    assert (view.id, view.function, view.kind, view.rule, view.source) == (
        "u:42",
        "orders.remind",
        "interval",
        "1h",
        "added",
    )
    assert (view.payload, view.missed, view.overlap) == ({"user": 42}, "all", "queue")
    assert (view.jitter_seconds, view.window_seconds, view.timeout_seconds) == (5, 7200, 90)
    assert view.next[0].at == utc("2030-03-17T18:00:00")
    assert view.registered
    await schedules.add("orders.sweep", id="weekly", cron="0 7 * * 1")
    entry = Scheduler(desk).entry("weekly")
    assert (entry.definition.queue, entry.definition.max_age_ms, entry.last_ms) == ("orders", 7_200_000, START * 1000)
    assert (entry.definition.missed, entry.definition.overlap, entry.definition.timing.tz) == ("latest", "skip", "UTC")
    once = await schedules.add("orders.remind", id="once", at=NOW + timedelta(days=2), payload={"user": 1})
    assert [fire.at for fire in once.next] == [NOW + timedelta(days=2)]


async def test_an_id_is_added_once_unless_it_is_to_be_replaced(either):
    await schedules.add("orders.sweep", id="s", cron="@daily")
    with pytest.raises(ScheduleConflict, match=r'there is a schedule "s" already; say replace=True'):
        await schedules.add("orders.sweep", id="s", cron="@hourly")
    assert (await schedules.add("orders.sweep", id="s", cron="@hourly", replace=True)).rule == "0 * * * *"
    with pytest.raises(ScheduleConflict, match=r'"orders.sweep:morning" is declared in functions/orders.py:'):
        await schedules.add("orders.sweep", id="orders.sweep:morning", cron="@daily", replace=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, r"schedules.add\(cron\): say when it fires"),
        ({"cron": "61 * * * *"}, r"schedules.add\(cron='61 \* \* \* \*'\): "),
        ({"cron": "@daily", "interval": "1h"}, "cron and interval both say when"),
        ({"cron": "@daily", "tz": "Europe/Pari"}, "unknown time zone 'Europe/Pari'"),
        ({"interval": 0}, r"schedules.add\(interval=0\): "),
        ({"interval": "1h", "tz": "UTC"}, "it is for cron; an interval is counted from the epoch"),
        ({"tz": "UTC"}, "it is for cron, and there is no cron rule"),
        ({"at": "2031-01-01"}, "a date with an offset"),
        ({"at": datetime.max.replace(tzinfo=UTC)}, "a year from 1970 to 9998"),
        ({"at": "0001-01-01T00:00:00+12:00"}, "a year from 1970 to 9998"),
        ({"at": "2020-01-01T00:00:00+00:00"}, r"it is past; submit\(orders.sweep, ...\) runs it now"),
        ({"cron": "@daily", "missed": "sometimes"}, "one of skip, latest, all"),
        ({"cron": "@daily", "overlap": 0}, "overlap=0"),
        ({"cron": "@daily", "overlap": True}, "overlap=True"),
        ({"cron": "@daily", "jitter": "often"}, "is not a duration"),
        ({"cron": "@daily", "window": 0}, "is not a duration"),
        ({"cron": "@daily", "payload": {"day": 1}}, r"payload={'day': 1}\): orders.sweep: .*day: unknown argument"),
        ({"cron": "@daily", "payload": {"days": "x"}}, "days: Expected `int`"),
        ({"cron": "@daily", "windw": "1h"}, 'no such option; did you mean "window"'),
    ],
)
async def test_what_cannot_be_is_refused_with_the_option_and_the_fix(orders, options, says):
    with pytest.raises(ScheduleError, match=says):
        await schedules.add("orders.sweep", id="x", **options)
    assert "x" not in {view.id for view in await schedules.list()}


@pytest.mark.parametrize("name", ["", "a b", "ü", "x" * 101, "a/b", ".", "..", 7])
async def test_an_id_has_few_characters(orders, name):
    with pytest.raises(ScheduleError, match=r"schedules.add\(id=.*1 to 100 of"):
        await schedules.add("orders.sweep", id=name, cron="@daily")


async def test_a_function_must_be_there_and_take_what_it_is_given(orders):
    with pytest.raises(UnknownFunction, match=r'did you mean "orders.sweep"'):
        await schedules.add("orders.sweeep", id="x", cron="@daily")
    with pytest.raises(ScheduleError, match="streams"):
        await schedules.add("orders.stream", id="x", cron="@daily")
    with pytest.raises(ScheduleError, match="user: required, but missing"):
        await schedules.add(orders.remind, id="x", cron="@daily")


async def test_an_added_one_is_removed_and_a_declared_one_is_not(either):
    await schedules.add("orders.sweep", id="x", cron="@daily")
    await schedules.remove("x")
    with pytest.raises(UnknownSchedule, match=r'no schedule "x"'):
        await schedules.remove("x")
    with pytest.raises(
        ScheduleConflict, match=r"is declared in functions/orders.py:\d+: take it out there, or pause it"
    ):
        await schedules.remove("orders.sweep:morning")


# --- changing ------------------------------------------------------------------------------------------------------


async def test_a_change_is_an_override_until_it_is_reset(either):
    view = await schedules.set("orders.sweep", cron="0 7 * * *", missed="all", payload={"days": 5})
    assert (view.rule, view.timezone, view.missed, view.payload) == ("0 7 * * *", "Europe/Paris", "all", {"days": 5})
    assert {name: (change.declared, change.now) for name, change in view.overrides.items()} == {
        "rule": ("0 6 * * mon-fri", "0 7 * * *"),
        "missed": ("latest", "all"),
        "payload": ({"days": 3}, {"days": 5}),
    }
    view = await schedules.set("orders.sweep", tz="America/New_York", jitter="1m", window="10m", overlap=3)
    assert (view.rule, view.timezone, view.missed) == ("0 7 * * *", "America/New_York", "all")
    assert view.next[0].at == utc("2030-03-18T11:00:00")
    assert set(view.overrides) == {
        "rule",
        "timezone",
        "missed",
        "payload",
        "jitter_seconds",
        "window_seconds",
        "overlap",
    }
    assert view.overrides["jitter_seconds"].now == 60
    assert [one.id for one in await schedules.list() if one.overrides] == ["orders.sweep:morning"]
    view = await schedules.reset(either.sweep)
    assert (view.rule, view.timezone, view.overrides) == ("0 6 * * mon-fri", "Europe/Paris", {})


async def test_what_is_put_back_is_no_override(either):
    await schedules.set("orders.sweep", cron="@daily", missed="all")
    view = await schedules.set("orders.sweep", cron="0 6 * * mon-fri", missed="latest")
    assert view.overrides == {}


async def test_an_added_one_is_changed_alike(either):
    await schedules.add("orders.sweep", id="x", cron="@daily")
    assert (await schedules.set("x", interval="1h")).overrides["rule"].declared == "0 0 * * *"
    assert (await schedules.set("x", at="2031-01-01T00:00:00Z")).kind == "at"


async def test_a_change_says_what_is_wrong_with_it(either):
    for changes, says in (
        ({}, "say what to change"),
        ({"cron": None}, "say what to change"),
        ({"timeout": 3}, "no such option"),
        ({"payload": {"days": "x"}}, "days: Expected `int`"),
        ({"cron": "@foo"}, "no such alias"),
        ({"at": "2020-01-01T00:00:00+00:00"}, r"it is past; schedules.run\(...\) runs it now"),
    ):
        with pytest.raises(ScheduleError, match=says):
            await schedules.set("orders.sweep", **changes)
    with pytest.raises(ScheduleError, match="it is for cron, and there is no cron rule"):
        await schedules.set(either.poll, tz="Europe/Paris")
    assert (await schedules.get("orders.sweep")).overrides == {}


async def test_changes_from_before_the_first_scheduler_hold_once_it_runs(orders, desk: Desk):
    await schedules.set("orders.sweep", cron="@hourly")
    assert await schedules.pause(orders.poll)
    poll = (await schedules.get(orders.poll)).id
    scheduler = Scheduler(desk)
    assert scheduler.entry("orders.sweep:morning").effective.timing.cron == "0 * * * *"
    assert scheduler.entry(poll).paused


async def test_what_is_paused_has_no_next_until_it_is_resumed(either):
    assert await schedules.pause("orders.sweep")
    assert not await schedules.pause("orders.sweep")
    view = await schedules.get("orders.sweep")
    assert (view.paused, view.next) == (True, ())
    assert [one.id for one in await schedules.list() if one.paused] == ["orders.sweep:morning"]
    assert await schedules.resume("orders.sweep")
    assert not await schedules.resume("orders.sweep")
    assert (await schedules.get("orders.sweep")).next


# --- running -------------------------------------------------------------------------------------------------------


async def test_one_runs_now_even_if_it_is_paused(either, trial):
    await schedules.pause("orders.sweep")
    await schedules.set("orders.sweep", payload={"days": 9})
    run = await schedules.run("orders.sweep")
    assert isinstance(run, Run)
    view = trial.show(run.id)
    assert (view.function, view.queue, view.trigger, view.state) == ("orders.sweep", "orders", "manual", "queued")
    assert json.loads(bytes(view.payload)) == {"days": 9}


async def test_a_backfill_runs_each_past_tick_once(either, trial):
    found = await schedules.backfill("orders.sweep", "2030-03-11", "2030-03-16", dry_run=True)
    assert (found.id, found.ticks, found.new, found.known) == ("orders.sweep:morning", 5, 0, 0)
    assert (found.first, found.last) == (utc("2030-03-11T05:00:00"), utc("2030-03-15T05:00:00"))
    assert trial.page().runs == ()
    found = await schedules.backfill("orders.sweep", date(2030, 3, 11), date(2030, 3, 13))
    assert (found.ticks, found.new, found.known) == (2, 2, 0)
    found = await schedules.backfill("orders.sweep", utc("2030-03-11T05:00:00"))
    assert (found.ticks, found.new, found.known) == (5, 3, 2)
    assert {(run.function, run.trigger, run.priority) for run in trial.page().runs} == {("orders.sweep", "backfill", 3)}


async def test_the_end_of_a_backfill_is_not_in_it_and_times_are_the_zones_own(either):
    one = await schedules.backfill("orders.sweep", "2030-03-11T06:00", "2030-03-12T06:00", dry_run=True)
    assert (one.ticks, one.first) == (1, utc("2030-03-11T05:00:00"))
    none = await schedules.backfill("orders.sweep", "2030-03-16", "2030-03-17", dry_run=True)
    assert (none.ticks, none.first, none.last) == (0, None, None)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("yesterday",), r"backfill\(from='yesterday'\): a date"),
        (("2030-03-11", "soon"), r"backfill\(to='soon'\): a date"),
        (("2030-03-11", "2030-03-18"), "it is in the future; leave it out"),
        (("2030-03-18",), "it is in the future"),
        (("2030-03-11", "2030-03-11"), "it is not before the end"),
        ((3,), r"backfill\(from=3\): a date"),
        (("0001-01-01",), r"backfill\(from='0001-01-01'\): it is before 1970"),
    ],
)
async def test_a_backfill_says_what_is_wrong_with_its_range(orders, given, says):
    with pytest.raises(ScheduleError, match=says):
        await schedules.backfill("orders.sweep", *given)


async def test_one_in_a_zone_that_is_unknown_here_is_listed_and_can_be_removed(orders, desk: Desk):
    """It was added where the zone database is newer."""
    strange = Definition(
        id="x", function="orders.poll", timing=Timing(cron="0 0 * * *", tz="Mars/Olympus"), source="added"
    )
    await desk.ask(Book(desk.ledger).add(strange))
    assert "x" in {view.id for view in await schedules.list()}
    assert ((await schedules.get("x")).timezone, (await schedules.get("x")).next) == ("Mars/Olympus", ())
    with pytest.raises(ScheduleError, match="x: Mars/Olympus, or its rule, is unknown here"):
        await schedules.backfill("x", "2030-03-11")
    await schedules.remove("x")


async def test_a_backfill_is_bounded(orders):
    with pytest.raises(ScheduleError, match="more than 10000 ticks are between that and the end"):
        await schedules.backfill(orders.poll, "2029-01-01")


async def test_backfills_of_hundreds_are_handed_over_in_pieces(orders):
    found = await schedules.backfill(orders.poll, "2030-03-14", "2030-03-17")
    assert (found.ticks, found.new) == (288, 288)


# --- without a loop, without a registry, without a store ------------------------------------------------------------


def test_code_without_a_loop_has_the_same(either, trial):
    added = schedules_sync.add("orders.sweep", id="x", cron="@daily")
    assert isinstance(added, ScheduleView)
    assert schedules_sync.set("x", missed="all").missed == "all"
    assert schedules_sync.reset("x").missed == "latest"
    assert (schedules_sync.pause("x"), schedules_sync.get("x").paused, schedules_sync.resume("x")) == (True, True, True)
    run = schedules_sync.run("x")
    assert isinstance(run, SyncRun)
    assert run.state() == "queued"
    assert schedules_sync.backfill("x", "2030-03-16").new == 2
    assert len(schedules_sync.list(either.sweep)) == 2
    schedules_sync.remove("x")
    with pytest.raises(UnknownSchedule):
        schedules_sync.get("x")


async def test_what_other_deployments_registered_is_known_without_their_functions(orders, desk: Desk):
    Scheduler(desk)
    desk.registry = None
    assert (await schedules.get("orders.sweep:morning")).registered
    assert len(await schedules.list()) == 4
    run = await schedules.run("orders.sweep:morning")
    assert await run.state() == "queued"


async def test_a_script_reads_all_files_to_know_what_they_declare(desk: Desk, write_project):
    root = write_project(**FILES, **{"functions/broken.py": "import nothing_of_that_name"})
    tables = {"nightly": ScheduleTable(function="orders.remind", cron="0 2 * * *", payload={"user": 1})}
    catalogue = FolderCatalogue(root, {"orders.both": FunctionSettings(enabled=False)}, tables)
    desk.registry = lambda: catalogue
    for name in [name for name in sys.modules if name.partition(".")[0] == "functions"]:
        del sys.modules[name]
    found = await schedules.list()
    assert [view.function for view in found] == ["orders.remind", "orders.poll", "orders.sweep"]
    assert (found[0].id, found[0].source) == ("nightly", "functions.toml")


async def test_a_store_that_is_away_is_said(gone: Desk):
    use(gone)
    try:
        with pytest.raises(StoreDown):
            await schedules.list()
    finally:
        use(None)
