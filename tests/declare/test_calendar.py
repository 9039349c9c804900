"""When rules fire, beside an oracle that walks each minute; and what the calendar promises besides."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.declare.timing.calendar import Due, Timing, calendar_of, instant_of, ms_of, next_fires
from tests.declare.wall import MINUTE, Clocks, changes_of, offset_at, wall_at

ZONES = (
    "Europe/Paris",
    "America/New_York",
    "Australia/Lord_Howe",  # by half an hour
    "America/Santiago",  # at midnight
    "Africa/Casablanca",  # for Ramadan, the other way round
    "Africa/Cairo",  # at midnight
    "Pacific/Auckland",
    "Asia/Kolkata",  # never
)
HALF_HOURS = [(hour, minute) for hour in range(24) for minute in (0, 30)]
SPAN = timedelta(hours=40)


def fires(rule: str, zone: str, begin: datetime, end: datetime) -> list[tuple[datetime, str]]:
    """All later than begin, up to end."""
    calendar = calendar_of(Timing(cron=rule, tz=zone))
    found = []
    due = calendar.after(ms_of(begin))
    while due is not None and due.at_ms <= ms_of(end):
        found.append((instant_of(due.at_ms), due.shift))
        due = calendar.after(due.at_ms)
    latest = calendar.latest(ms_of(begin), ms_of(end), 10_000)
    assert [instant_of(ms) for ms in latest] == [instant for instant, _ in found]
    assert list(calendar.latest(ms_of(begin), ms_of(end), 2)) == list(latest[-2:])
    return found


def changes(zone: str) -> tuple[datetime, ...]:
    return changes_of(zone, 2025, 2025) or (datetime(2025, 3, 30, 1, tzinfo=UTC), datetime(2025, 10, 26, 1, tzinfo=UTC))


def expected(clocks: Clocks, walls: list[datetime], begin: datetime, end: datetime) -> list[tuple[datetime, str]]:
    found: dict[datetime, str] = {}
    for instant, shift in map(clocks.named, walls):
        if begin < instant <= end:
            found.setdefault(instant, shift)
    return sorted(found.items())


# --- the oracle --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ZONES)
def test_rules_that_name_hours_fire_once_for_each_time_they_name(zone):
    for change in changes(zone):
        begin, end = change - SPAN, change + SPAN
        clocks = Clocks(zone, begin - 2 * SPAN, end + 2 * SPAN)
        first = wall_at(zone, begin).replace(hour=0, minute=0) - timedelta(days=1)
        days = [first + timedelta(days=n) for n in range(7)]
        for hour, minute in HALF_HOURS:
            right = expected(clocks, [day.replace(hour=hour, minute=minute) for day in days], begin, end)
            assert fires(f"{minute} {hour} * * *", zone, begin, end) == right
            assert fires(f"0 {minute} {hour} * * *", zone, begin, end) == right
        walls = [day.replace(hour=hour, minute=minute) for day in days for hour, minute in HALF_HOURS]
        assert fires("*/30 0-23 * * *", zone, begin, end) == expected(clocks, walls, begin, end)
        assert fires("0 0,30 0-23 * * *", zone, begin, end) == expected(clocks, walls, begin, end)


@pytest.mark.parametrize("zone", ZONES)
def test_rules_for_any_hour_fire_whenever_clocks_show_their_time(zone):
    for change in changes(zone):
        begin, end = change - SPAN / 4, change + SPAN / 4
        shown = [one for one in Clocks(zone, begin, end).shown if one[0] > begin]
        for fields, holds in (
            ("*/30 *", lambda wall: wall.minute in (0, 30)),
            ("* *", lambda wall: True),
            ("15 */2", lambda wall: wall.minute == 15 and wall.hour % 2 == 0),
            ("0 */5", lambda wall: wall.minute == 0 and wall.hour % 5 == 0),
            ("7 *", lambda wall: wall.minute == 7),
        ):
            right = [(instant, "") for instant, wall in shown if holds(wall)]
            assert fires(f"{fields} * * *", zone, begin, end) == right
            assert fires(f"0 {fields} * * *", zone, begin, end) == right


# --- all zones ---------------------------------------------------------------------------------------------------

RULE_ZONES = sorted(name for name in available_timezones() if name not in ("localtime", "Factory"))
some = st.sets(st.integers(0, 23), min_size=1, max_size=3)


@st.composite
def near_changes(draw):
    """A zone, and an instant: mostly near one of its changes of 2024 to 2030, if there are any."""
    zone = draw(st.sampled_from(RULE_ZONES))
    found = changes_of(zone, 2024, 2030)
    if found and draw(st.integers(0, 4)):
        begin = draw(st.sampled_from(found)) - timedelta(minutes=draw(st.integers(0, 3000)))
    else:
        begin = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=draw(st.integers(0, 7 * 365 * 1440)))
    return zone, begin


@settings(max_examples=60, deadline=None)
@given(near_changes(), some, st.sets(st.integers(0, 59), min_size=1, max_size=3), st.booleans())
def test_in_any_zone_named_hours_are_once_a_day_and_others_whenever_they_are_shown(place, hours, minutes, named):
    zone, begin = place
    end = begin + timedelta(days=2)
    hour_field = ",".join(map(str, sorted(hours))) if named else "*/3"
    found = fires(f"{','.join(map(str, sorted(minutes)))} {hour_field} * * *", zone, begin, end)
    assert all(one < other for (one, _), (other, _) in pairwise(found))
    for instant, shift in found:
        wall = wall_at(zone, instant)
        if shift == "gap":
            assert offset_at(zone, instant - MINUTE) < offset_at(zone, instant)
        else:
            assert wall.minute in minutes
            assert wall.hour in (hours if named else range(0, 24, 3))
        both = {wall.replace(tzinfo=ZoneInfo(zone), fold=fold).utcoffset() for fold in (0, 1)}
        assert (shift == "fold") == (named and shift != "gap" and len(both) == 2)
    if named:
        clocks = Clocks(zone, begin - timedelta(hours=12), end + timedelta(hours=12))
        first, last = (wall_at(zone, one) for one in (begin - timedelta(hours=6), end + timedelta(hours=6)))
        days = [first.replace(hour=0, minute=0) + timedelta(days=n) for n in range(5)]
        walls = [day.replace(hour=hour, minute=minute) for day in days for hour in hours for minute in minutes]
        right = expected(clocks, [wall for wall in walls if first < wall < last], begin, end)
        assert [instant for instant, _ in found] == [instant for instant, _ in right]
    else:
        shown = [one for one in Clocks(zone, begin, end).shown if one[0] > begin]
        assert len(found) == len([1 for _, wall in shown if wall.minute in minutes and wall.hour % 3 == 0])


# --- the dialect -------------------------------------------------------------------------------------------------


def local(rule: str, begin: str, count: int, zone: str = "UTC") -> list[str]:
    timing = Timing(cron=rule, tz=zone)
    found = next_fires(timing, datetime.fromisoformat(begin).replace(tzinfo=UTC), count)
    return [f"{wall_at(zone, instant_of(due.at_ms)):%a %m-%d %H:%M}" for due in found]


@pytest.mark.parametrize(
    ("rule", "fires"),
    [
        ("0 12 13 * fri", ["Fri 01-02 12:00", "Fri 01-09 12:00", "Tue 01-13 12:00", "Fri 01-16 12:00"]),  # either
        ("0 12 * * fri", ["Fri 01-02 12:00", "Fri 01-09 12:00"]),
        ("0 12 13 * *", ["Tue 01-13 12:00", "Fri 02-13 12:00"]),
        ("0 12 */2 * mon", ["Mon 01-05 12:00", "Mon 01-19 12:00"]),  # a star in one of them: both, as cron does
        ("0 0 * * 0", ["Sun 01-04 00:00", "Sun 01-11 00:00"]),
        ("0 0 * * 7", ["Sun 01-04 00:00", "Sun 01-11 00:00"]),
        ("0 0 * * SUN", ["Sun 01-04 00:00"]),
        ("0 0 1 feb,Mar *", ["Sun 02-01 00:00", "Sun 03-01 00:00"]),
        ("0 9-17/4 * * *", ["Thu 01-01 09:00", "Thu 01-01 13:00", "Thu 01-01 17:00", "Fri 01-02 09:00"]),
        ("0 0 L * *", ["Sat 01-31 00:00", "Sat 02-28 00:00"]),
        ("0 0 29 2 *", ["Tue 02-29 00:00", "Sun 02-29 00:00"]),  # 2028, 2032
        ("30 0 6 * * *", ["Thu 01-01 06:00"]),
    ],
)
def test_rules_are_read_as_cron_reads_them(rule, fires):
    assert local(rule, "2026-01-01T00:00", len(fires)) == fires


def test_a_fire_that_is_shifted_says_why():
    paris = Timing(cron="30 2 * * *", tz="Europe/Paris")
    spring = next_fires(paris, datetime(2026, 3, 28, 12, tzinfo=UTC), 2)
    assert spring == [Due(ms_of(datetime(2026, 3, 29, 1, tzinfo=UTC)), "gap"), Due(spring[1].at_ms)]
    autumn = next_fires(paris, datetime(2026, 10, 24, 12, tzinfo=UTC), 2)
    assert autumn == [Due(ms_of(datetime(2026, 10, 25, 0, 30, tzinfo=UTC)), "fold"), Due(autumn[1].at_ms)]


def test_all_times_in_a_gap_are_one_fire_at_its_end():
    found = fires("* * 2 * * *", "Europe/Paris", *(datetime(2026, 3, 29, hour, tzinfo=UTC) for hour in (0, 3)))
    assert found == [(datetime(2026, 3, 29, 1, tzinfo=UTC), "gap")]


def test_a_day_that_a_zone_left_out_is_a_gap():
    found = fires("0 12 * * *", "Pacific/Apia", datetime(2011, 12, 29, tzinfo=UTC), datetime(2011, 12, 31, tzinfo=UTC))
    assert [f"{instant:%d %H:%M} {shift}" for instant, shift in found] == ["29 22:00 ", "30 10:00 gap", "30 22:00 "]


# --- intervals, dates, and what is asked -------------------------------------------------------------------------


def test_an_interval_is_counted_from_the_epoch():
    calendar = calendar_of(Timing(every_ms=90_000))
    assert [calendar.after(0), calendar.after(89_999), calendar.after(90_000)] == [
        Due(90_000), Due(90_000), Due(180_000),
    ]  # fmt: skip
    assert list(calendar.latest(0, 270_000, 2)) == [180_000, 270_000]
    assert list(calendar.latest(90_000, 269_999, 100)) == [180_000]
    assert list(calendar.latest(90_000, 179_999, 100)) == []
    assert list(calendar.latest(0, 270_000, 0)) == []


def test_a_date_is_once():
    calendar = calendar_of(Timing(at_ms=5_000))
    assert (calendar.after(4_999), calendar.after(5_000)) == (Due(5_000), None)
    assert list(calendar.latest(4_999, 5_000, 9)) == [5_000]
    assert list(calendar.latest(5_000, 9_000, 9)) == list(calendar.latest(0, 4_999, 9)) == []
    assert next_fires(Timing(at_ms=5_000), instant_of(0), 3) == [Due(5_000)]


@pytest.mark.parametrize("rule", ["0 0 */31 * 1#5", "0 * */31 * 1#5"])
def test_a_rule_that_no_date_fits_never_fires(rule):
    calendar = calendar_of(Timing(cron=rule))
    assert calendar.after(0) is None
    assert list(calendar.latest(0, ms_of(datetime(2030, 1, 1, tzinfo=UTC)), 5)) == []


def test_milliseconds_between_two_seconds_belong_to_the_first():
    calendar = calendar_of(Timing(cron="* * * * * *"))
    assert [calendar.after(ms).at_ms for ms in (0, 1, 999, 1000, 500, 0)] == [1000, 1000, 1000, 2000, 1000, 1000]
    assert list(calendar.latest(1, 2_999, 9)) == [1000, 2000]
    assert list(calendar.latest(1_000, 1_999, 9)) == list(calendar.latest(1_000, 1_000, 9)) == []
    assert list(calendar.latest(0, 5_000, 0)) == []


@pytest.mark.parametrize("rule", ["* * * * *", "*/5 0-23 * * *"])
def test_what_was_asked_before_changes_no_answer(rule):
    asked = [(0, 9), (-3600_000, 100), (-7200_000, 2), (-60_000, 5), (-86_400_000, 10_000), (-3600_000, 3)]
    until = ms_of(datetime(2026, 3, 29, 2, 30, tzinfo=UTC))
    for ms, most in asked:
        fresh = calendar_of.__wrapped__(Timing(cron=rule, tz="Europe/Paris"))
        kept = calendar_of(Timing(cron=rule, tz="Europe/Paris"))
        assert kept.latest(until + ms, until, most) == fresh.latest(until + ms, until, most)
        assert kept.after(until + ms) == fresh.after(until + ms)


def test_a_table_of_changes_grows_both_ways():
    at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    for year in (2026, 1985, 2043, 2020, 1971):
        begin = at.replace(year=year)
        found = fires("0 6 * * *", "Europe/Paris", begin, begin + timedelta(days=400))
        assert len(found) == 400
        assert {wall_at("Europe/Paris", instant).hour for instant, _ in found} == {6}


def test_a_timing_is_written_as_its_decorator_takes_it():
    timings = (Timing(cron="0 6 * * *"), Timing(every_ms=900_000), Timing(at_ms=1_893_456_000_000))
    assert [str(one) for one in timings] == ["0 6 * * *", "15m", "2030-01-01T00:00:00+00:00"]
    assert [one.kind for one in timings] == ["cron", "interval", "at"]
