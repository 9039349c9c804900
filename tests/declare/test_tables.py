"""[schedules.ID] of functions.toml, and ids of schedules."""

import pytest

from runtime.base.settings import load_settings
from runtime.declare.loader import PACKAGE, Loader
from runtime.declare.timing.schedules import schedule_id
from tests.declare.conftest import HEADER

SWEEP = "@fn()\ndef sweep(tick: Tick, days: int = 1): ..."


@pytest.fixture
def loader_of(tmp_path):
    """`loader_of({"orders.py": source}, text of functions.toml)`."""

    def loader_of(files, text=""):
        (tmp_path / PACKAGE).mkdir(exist_ok=True)
        (tmp_path / "functions.toml").write_text(text)
        for name, source in files.items():
            (tmp_path / PACKAGE / name).write_text(HEADER + source)
        given = load_settings(tmp_path, environ={}).settings
        return Loader(tmp_path, given.functions, given.schedules, given.schedule.timezone)

    return loader_of


@pytest.fixture
def loaded(loader_of):
    return lambda files, text="": loader_of(files, text).load()


def fault_of(registry) -> str:
    (failure,) = registry.failures
    return str(failure)


# --- tables ------------------------------------------------------------------------------------------------------


def test_a_table_starts_a_function_that_declares_no_schedule(loaded):
    text = """
[schedules.nightly]
function = "orders.sweep"
cron = "@daily"
tz = "Europe/Paris"
payload = { days = 3 }
missed = "all"
overlap = 2
jitter = "30s"
window = "2h"
timeout = "1m"
[schedules."a.b"]
function = "orders.sweep"
interval = "15m"
[schedules.'once']
function = "orders.sweep"
at = 2030-01-01T02:00:00+02:00
"""
    registry = loaded({"orders.py": SWEEP}, text)
    assert registry.failures == ()
    nightly, often, once = registry.get("orders.sweep").triggers
    assert (str(nightly), nightly.id, nightly.line) == ('cron "0 0 * * *" Europe/Paris', "nightly", 2)
    assert (nightly.payload, nightly.missed, nightly.overlap) == ({"days": 3}, "all", 2)
    assert (nightly.jitter_seconds, nightly.window_seconds, nightly.timeout_seconds) == (30, 7200, 60)
    assert (str(often), often.id, often.line) == ("every 900 s", "a.b", 12)
    assert (often.missed, often.overlap, often.jitter_seconds, often.window_seconds) == (None, None, None, None)
    assert (str(once), once.id) == ("at 2030-01-01T00:00:00+00:00", "once")


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ('cron = "61 * * * *"', "@cron('61 * * * *'): bad minute '61' (from 0 to 59); five fields"),
        ('cron = "0 0 31 2 *"', "@cron('0 0 31 2 *'): no month 2 has a day 31; five fields"),
        ('cron = "0 6 * * * 30"', "@cron('0 6 * * * 30'): bad day-of-week; the second stands first, write \"30 0 6"),
        ('cron = "@foo"', "@cron('@foo'): no such alias; there are @hourly"),
        ('cron = "@daily"\ntz = "Mars"', "unknown time zone 'Mars'; write an IANA name"),
        ("interval = 0", "@interval(every=0): 0 is not a duration above zero; write"),
        ("interval = -1", "@interval(every=-1): -1 is not a duration above zero; write"),
        ("interval = nan", "@interval(every=nan): nan is not a duration above zero; write"),
        ("interval = 1e12", "@interval(every=1000000000000.0): 1000000000000.0 is longer than 100 years"),
        ("interval = 0.5", "@interval(0.5): from 1 second to 366 days"),
        ('at = "tomorrow"', "@at('tomorrow'): a date with an offset"),
        ("at = 2030-01-01T00:00:00", "@at(datetime.datetime(2030, 1, 1, 0, 0)): a date with an offset"),
        ("at = 2030-01-01", "@at(datetime.date(2030, 1, 1)): a date with an offset"),
        ("", "it says not when; write one of cron, interval and at"),
        ('cron = "@daily"\ninterval = 5', "it says cron and interval; write one of cron, interval and at"),
        ('interval = "5m"\ntz = "UTC"', "tz is for cron, and this has interval; leave tz out"),
        (
            'cron = "@daily"\npayload = { day = 3 }',
            "@cron: payload has 'day', which the function does not take",
        ),
        ('cron = "@daily"\npayload = { days = "x" }', "@cron: payload does not fit the function: Expected `int`"),
    ],
)
def test_a_table_that_cannot_be_is_left_out_alone(loaded, table, fault):
    text = f'# first\n[schedules.nightly]\nfunction = "orders.sweep"\n{table}\n[schedules.well]\n'
    registry = loaded({"orders.py": SWEEP}, text + 'function = "orders.sweep"\ninterval = 60')
    assert fault_of(registry).startswith(f"functions.toml:2: [schedules.nightly]: {fault}")
    assert [trigger.id for trigger in registry.get("orders.sweep").triggers] == ["well"]


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (
            "@fn()\ndef sweep(days: int): ...",
            "@interval cannot supply parameter days; give it a default",
        ),
        ("@fn()\ndef sweep():\n    yield 1", "@interval: a generator streams to an HTTP caller"),
    ],
)
def test_a_table_needs_a_function_that_it_can_start(loaded, source, fault):
    registry = loaded({"orders.py": source}, '[schedules.a]\nfunction = "orders.sweep"\ninterval = 60')
    assert fault_of(registry).startswith(f"functions.toml:1: [schedules.a]: {fault}")
    assert registry.get("orders.sweep").triggers == ()


def test_a_table_of_an_unknown_function_says_what_comes_near(loaded):
    registry = loaded({"orders.py": SWEEP}, 'schedules."a.b" = { function = "orders.sweap", interval = 60 }')
    assert fault_of(registry) == (
        'functions.toml: [schedules."a.b"]: no function "orders.sweap" is loaded; did you mean "orders.sweep"?'
    )


def test_a_table_of_a_function_whose_file_fails_or_that_is_disabled_is_no_fault_of_its_own(loaded):
    text = """
[schedules]
a = { function = "broken.f", interval = 60 }
b = { function = "orders.sweep", interval = 60 }
[functions."orders.sweep"]
enabled = false
"""
    registry = loaded({"broken.py": "1 / 0", "orders.py": SWEEP}, text)
    assert [failure.file for failure in registry.failures] == ["functions/broken.py"]


def test_a_table_with_the_id_of_a_schedule_in_code_names_both_places(loaded):
    source = "@interval('1h', name='hourly')\n" + SWEEP
    table = '[schedules."orders.sweep:hourly"]\nfunction = "orders.sweep"\ninterval = 60'
    registry = loaded({"orders.py": source}, table)
    assert fault_of(registry) == (
        'functions.toml:1: [schedules."orders.sweep:hourly"]: a schedule at functions/orders.py:6 has this id; '
        "choose another"
    )
    assert len(registry.get("orders.sweep").triggers) == 1


def test_a_table_stays_with_its_function_through_reloads(loader_of, tmp_path):
    text = '[schedules.a]\nfunction = "orders.sweep"\ninterval = 60\n[schedules.b]\nfunction = "orders.sweep"'
    loader = loader_of({"orders.py": SWEEP, "other.py": "@http.get\ndef f(): ..."}, text)
    before = loader.load()
    (tmp_path / PACKAGE / "other.py").write_text(HEADER + "@http.post\ndef f(): ...")
    after = loader.reload([tmp_path / PACKAGE / "other.py"])
    assert after.get("orders.sweep") is before.get("orders.sweep")
    assert after.failures == before.failures != ()
    (tmp_path / PACKAGE / "orders.py").write_text(HEADER + SWEEP.replace("days", "weeks"))
    again = loader.reload([tmp_path / PACKAGE / "orders.py"])
    assert again.get("orders.sweep") is not before.get("orders.sweep")
    assert [trigger.id for trigger in again.get("orders.sweep").triggers] == ["a"]


def test_settings_of_the_function_do_not_reach_its_tables(loaded):
    text = '[functions."orders.sweep"]\nschedule = "5m"\ntimeout = 9\n[schedules.a]\nfunction = "orders.sweep"\n'
    registry = loaded({"orders.py": "@cron('@daily')\n" + SWEEP}, text + 'cron = "@weekly"\ntimeout = 3')
    assert registry.failures == ()
    assert [(str(one), one.timeout_seconds) for one in registry.get("orders.sweep").triggers] == [
        ("every 300 s", None),
        ('cron "0 0 * * 0"', 3),
    ]


# --- ids ---------------------------------------------------------------------------------------------------------


def test_an_id_is_of_the_name_or_of_the_rule_and_its_zone(loaded):
    source = """
@cron("@daily")
@cron("0 0 * * *", tz="Europe/Paris")
@interval("15m")
@at("2030-01-01T00:00Z")
@cron("@daily", name="nightly")
def sweep(tick: Tick): ...
"""
    function = loaded({"orders.py": source}).get("orders.sweep")
    ids = [schedule_id(function.name, trigger, "UTC") for trigger in function.triggers]
    assert [one.partition(":")[2].partition("-")[0] for one in ids] == ["cron", "cron", "interval", "at", "nightly"]
    assert len(set(ids)) == 5
    assert all(one.startswith("orders.sweep:") for one in ids)
    assert schedule_id(function.name, function.triggers[0], "Europe/Paris") == ids[1]
    assert [schedule_id(function.name, one, "Europe/Paris") for one in function.triggers[1:]] == ids[1:]


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ('cron("@daily")', 'cron("0 0 * * *", tz="UTC")', "cron-"),
        ('interval("1h")', "interval(3600)", "interval-"),
        ('interval("1h", name="x")', 'cron("@daily", name="x")', "x"),
    ],
)
def test_two_schedules_with_one_id_name_both_places(loaded, first, second, name):
    registry = loaded({"orders.py": f"@{first}\n@{second}\ndef sweep(): ..."})
    assert fault_of(registry).startswith(f'functions/orders.py:7: two schedules have the id "orders.sweep:{name}')
    assert fault_of(registry).endswith('", here and on line 6; give one another name=')
    assert registry.functions == {}


def test_the_zone_of_the_settings_makes_two_schedules_one(loaded):
    source = '@cron("@daily")\n@cron("@daily", tz="Europe/Paris")\ndef sweep(): ...'
    assert loaded({"orders.py": source}).failures == ()
    registry = loaded({"orders.py": source}, '[schedule]\ntimezone = "Europe/Paris"')
    assert "two schedules have the id" in fault_of(registry)


@pytest.mark.parametrize("name", ["", "a b", "é", "x" * 101])
def test_a_name_that_makes_no_id_is_refused(loaded, name):
    registry = loaded({"orders.py": f"@cron('@daily', name={name!r})\ndef sweep(): ..."})
    assert fault_of(registry) == (
        f"functions/orders.py:6: @cron(name={name!r}): 1 to 100 letters, digits and any of _ . : -"
    )


@pytest.mark.parametrize("value", ["float('nan')", "{1, 2, object()}", "{'a': object()}"])
def test_a_payload_that_has_no_json_is_refused(loaded, value):
    registry = loaded({"orders.py": f"@cron('@daily', payload={{'x': {value}}})\ndef sweep(x): ..."})
    assert fault_of(registry).startswith("functions/orders.py:6: @cron: payload is kept as JSON, and this cannot be: ")
