"""Which ticks are due, missed, and next."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.declare.timing.calendar import Timing, ms_of
from runtime.ledger.schedules.records import Definition, Entry, Fired, Firing, Override
from runtime.triggers.schedule.timetable import MOST_COUNTED, Timetable, jitter_ms

MINUTE = 60_000
NOW = ms_of(datetime(2026, 1, 1, 12, tzinfo=UTC))
MINUTELY, SECONDLY = Timing(cron="* * * * *"), Timing(every_ms=1_000)


def entry(key: str = "a", timing: Timing = MINUTELY, *, last_ms: int = NOW, paused: bool = False, **options) -> Entry:
    definition = Definition(id=key, function="f", timing=timing, **options)
    return Entry(definition=definition, last_ms=last_ms, paused=paused)


def table_of(*entries: Entry) -> Timetable:
    table = Timetable()
    table.adopt(entries)
    return table


def due(found: Entry, now_ms: int) -> Firing:
    (firing,) = table_of(found).due(now_ms)
    return firing


def told(firing: Firing) -> tuple[list[int], list[int], int]:
    """What is to be run and what is missed, in minutes from NOW."""
    planned = [(ms - NOW) // MINUTE for ms in firing.planned]
    return planned, list(firing.missed_before), firing.missed_after


# --- when --------------------------------------------------------------------------------------------------------


def test_nothing_is_due_before_its_time():
    table = table_of(entry())
    assert table.next_ms() == NOW + MINUTE
    assert list(table.due(NOW + MINUTE - 1)) == []


def test_a_tick_is_due_at_its_time_and_said_again_until_it_is_noted():
    table = table_of(entry())
    (firing,) = table.due(NOW + MINUTE)
    assert (firing.last_ms, firing.until_ms) == (NOW, NOW + MINUTE)
    assert told(firing) == ([1], [0], 0)
    assert list(table.due(NOW + MINUTE)) == [firing]
    assert list(table.due(NOW)) == []  # a clock that was set back
    assert table.next_ms() == NOW + MINUTE
    table.note(firing, Fired("fired", NOW + MINUTE, 1))
    assert list(table.due(NOW + MINUTE)) == []
    assert table.next_ms() == NOW + 2 * MINUTE


def test_what_is_most_overdue_is_first():
    hourly, late = Timing(cron="0 * * * *"), NOW + 60 * MINUTE
    table = table_of(
        entry("hourly", hourly), entry("old", last_ms=NOW + 2 * MINUTE), entry("now", last_ms=late - MINUTE)
    )
    assert [firing.definition.id for firing in table.due(late)] == ["old", "hourly", "now"]


def test_a_date_is_due_once():
    table = table_of(entry(timing=Timing(at_ms=NOW + 500)))
    (firing,) = table.due(NOW + 700)
    assert (firing.planned, firing.until_ms) == ((NOW + 500,), NOW + 500)
    table.note(firing, Fired("fired", NOW + 500, 1))
    assert (table.next_ms(), list(table.due(NOW + 10**9))) == (None, [])


def test_what_is_not_there_is_never_due():
    assert (Timetable().next_ms(), list(Timetable().due(NOW))) == (None, [])


# --- what is missed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missed", "late_ms", "right"),
    [
        # 10 minutes after the last one: the tenth is on time, or late by so much.
        ("skip", 0, ([10], [9], 0)),
        ("skip", 10_000, ([10], [9], 0)),
        ("skip", 10_001, ([], [], 10)),
        ("latest", 0, ([10], [9], 0)),
        ("latest", 10_000, ([10], [9], 0)),
        ("latest", 10_001, ([10], [9], 0)),
        ("all", 0, (list(range(1, 11)), [0] * 10, 0)),
        ("all", 10_001, (list(range(1, 11)), [0] * 10, 0)),
    ],
)
def test_ten_minutes_without_a_scheduler(missed, late_ms, right):
    assert told(due(entry(missed=missed), NOW + 10 * MINUTE + late_ms)) == right


@pytest.mark.parametrize(
    ("missed", "window_ms", "right"),
    [
        ("latest", 30_001, ([10], [9], 0)),
        ("latest", 30_000, ([10], [9], 0)),
        ("latest", 29_999, ([], [], 10)),
        ("all", 3 * MINUTE, ([8, 9, 10], [7, 0, 0], 0)),
        ("all", 29_999, ([], [], 10)),
        ("skip", 10 * MINUTE, ([], [], 10)),
    ],
)
def test_what_is_older_than_the_window_is_not_made_up_for(missed, window_ms, right):
    assert told(due(entry(missed=missed, window_ms=window_ms), NOW + 10 * MINUTE + 30_000)) == right


def test_a_window_shorter_than_lateness_keeps_what_is_on_time():
    assert told(due(entry(missed="all", window_ms=1_000), NOW + 2 * MINUTE + 5_000)) == ([2], [1], 0)


def test_all_ticks_that_are_on_time_are_run():
    for missed in ("skip", "latest", "all"):
        firing = due(entry(timing=SECONDLY, missed=missed), NOW + 8_000)
        assert firing.planned == tuple(range(NOW + 1_000, NOW + 9_000, 1_000))
        assert (firing.missed_before, firing.missed_after) == ((0,) * 8, 0)


def test_a_catch_up_runs_a_hundred_and_those_on_time():
    firing = due(entry(timing=SECONDLY, missed="all"), NOW + 600_000)
    assert firing.planned == tuple(range(NOW + 490_000, NOW + 601_000, 1_000))
    assert firing.missed_before == (489, *(0,) * 110)


def test_missed_ticks_are_counted_up_to_ten_thousand():
    for timing in (SECONDLY, Timing(cron="* * * * * *")):
        firing = due(entry(timing=timing), NOW + 30 * 86_400_000)
        assert len(firing.planned) == 11
        assert firing.missed_before[0] + len(firing.planned) == MOST_COUNTED
        assert firing.until_ms == NOW + 30 * 86_400_000


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["skip", "latest", "all"]), st.integers(0, 40 * MINUTE), st.integers(1, 30 * MINUTE),
    st.sampled_from([1_000, 7_000, 20_000, MINUTE, 11 * MINUTE]),
)  # fmt: skip
def test_every_tick_is_run_or_counted(missed, late_ms, window_ms, every_ms):
    found = entry(timing=Timing(every_ms=every_ms), missed=missed, window_ms=window_ms, last_ms=NOW + 1)
    now = NOW + late_ms
    ticks = list(range((NOW + 1) // every_ms * every_ms + every_ms, now + 1, every_ms))
    on_time = [one for one in ticks if now - one <= 10_000]
    within = [one for one in ticks if one not in on_time and now - one <= window_ms]
    extra = {"skip": [], "latest": [] if on_time else within[-1:], "all": within[-100:]}[missed]
    firings = list(table_of(found).due(now))
    assert len(firings) == bool(ticks)
    for firing in firings:
        assert list(firing.planned) == extra + on_time
        assert sum(firing.missed_before) + firing.missed_after + len(firing.planned) == len(ticks)
        assert len(firing.missed_before) == len(firing.jitters_ms) == len(firing.planned)
        assert firing.until_ms == ticks[-1]


# --- what became of a firing, and what changed -------------------------------------------------------------------


def test_a_stale_firing_is_computed_anew():
    table = table_of(entry())
    (firing,) = table.due(NOW + 3 * MINUTE)
    table.note(firing, Fired("stale", NOW + 2 * MINUTE))
    (again,) = table.due(NOW + 3 * MINUTE)
    assert (again.last_ms, again.planned, again.missed_before) == (NOW + 2 * MINUTE, (NOW + 3 * MINUTE,), (0,))


def test_a_stale_firing_goes_back_if_the_store_does():
    table = table_of(entry())
    (firing,) = table.due(NOW + MINUTE)
    table.note(firing, Fired("stale", NOW - MINUTE))
    assert table.next_ms() == NOW


def test_an_early_firing_is_due_still():
    table = table_of(entry())
    (firing,) = table.due(NOW + MINUTE)
    table.note(firing, Fired("early", NOW))
    assert list(table.due(NOW + MINUTE)) == [firing]


def test_one_that_is_paused_waits_until_it_is_read_again():
    table = table_of(entry())
    (firing,) = table.due(NOW + MINUTE)
    table.note(firing, Fired("paused", NOW))
    assert (table.next_ms(), list(table.due(NOW + 9 * MINUTE))) == (None, [])
    table.adopt([entry(last_ms=NOW + 9 * MINUTE)])
    assert table.next_ms() == NOW + 10 * MINUTE
    table.adopt([entry(last_ms=NOW + 9 * MINUTE, paused=True)])
    assert table.next_ms() is None


def test_one_that_is_gone_is_forgotten():
    table = table_of(entry(), entry("b"))
    one, other = table.due(NOW + MINUTE)
    table.note(one, Fired("gone", 0))
    table.drop(["b", "unknown"])
    assert (table.next_ms(), list(table.due(NOW + MINUTE))) == (None, [])
    table.note(other, Fired("fired", NOW + MINUTE, 1))  # it was dropped meanwhile
    assert table.next_ms() is None


def test_what_is_adopted_while_it_is_due_counts():
    table = table_of(entry())
    assert len(list(table.due(NOW + MINUTE))) == 1
    table.adopt([entry(timing=Timing(cron="0 13 * * *"))])
    assert table.next_ms() == NOW + 60 * MINUTE
    assert list(table.due(NOW + MINUTE)) == []


def test_what_was_changed_at_run_time_holds():
    override = Override(timing=Timing(every_ms=5 * MINUTE), missed="all", window_ms=MINUTE)
    found = Entry(definition=entry(missed="skip").definition, override=override, last_ms=NOW)
    firing = due(found, NOW + 11 * MINUTE)
    assert (firing.definition.missed, told(firing)) == ("all", ([10], [1], 0))


def test_a_timetable_of_many_changes_stays_small():
    table = table_of(entry())
    for n in range(3000):
        table.adopt([entry(last_ms=NOW + n * MINUTE)])
    assert len(table._times) <= sum(map(len, table._by_time.values())) < 1100
    assert table.next_ms() == NOW + 3000 * MINUTE


# --- jitter ------------------------------------------------------------------------------------------------------


def test_jitter_is_drawn_from_the_tick():
    drawn = [jitter_ms("a", NOW + n, 1_000) for n in range(2_000)]
    assert drawn == [jitter_ms("a", NOW + n, 1_000) for n in range(2_000)]
    assert drawn != [jitter_ms("b", NOW + n, 1_000) for n in range(2_000)]
    assert 0 <= min(drawn) < 20
    assert 980 < max(drawn) <= 1_000
    assert 450 < sum(drawn) / len(drawn) < 550
    assert jitter_ms("a", NOW, 0) == 0


def test_a_firing_has_the_jitter_of_each_tick():
    firing = due(entry(timing=SECONDLY, jitter_ms=5_000), NOW + 3_000)
    assert firing.jitters_ms == tuple(jitter_ms("a", one, 5_000) for one in firing.planned)
    assert due(entry(timing=SECONDLY), NOW + 2_000).jitters_ms == (0, 0)
