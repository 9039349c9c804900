"""What of a schedule's declaration goes to the store."""

from datetime import UTC, datetime

import msgspec

from runtime.base.durations import Seconds
from runtime.base.schedules import Jitter, Overlap, ScheduleSettings, TimeZone
from runtime.base.sections import Settings
from runtime.declare.policies import Policy
from runtime.declare.registry import Function, Registry
from runtime.declare.timing.calendar import Timing, ms_of
from runtime.declare.triggers import At, Cron, Http, Interval, Schedule
from runtime.ledger.schedules.definitions import definitions_of, digest_of, tick_id
from runtime.ledger.schedules.records import Definition

DAILY = Cron(line=4, rule="0 0 * * *", name="daily")


def registry_of(*triggers: Schedule | Http, **options) -> Registry:
    function = Function(
        name="orders.sweep", call=print, file="functions/orders.py", line=3, triggers=triggers, **options
    )
    return Registry(functions={function.name: function})


def test_what_a_schedule_does_not_say_is_of_its_function_or_the_settings():
    given = Settings(
        schedule=ScheduleSettings(
            timezone=TimeZone("Europe/Paris"), missed="all", overlap=Overlap("3"), jitter=Jitter(5), window=Seconds(60)
        )
    )
    policy = Policy(max_age_seconds=90, timeout_seconds=5)
    (found,) = definitions_of(registry_of(DAILY, queue="slow", policy=policy), given)
    assert found == Definition(
        id="orders.sweep:daily",
        function="orders.sweep",
        timing=Timing(cron="0 0 * * *", tz="Europe/Paris"),
        queue="slow",
        payload=found.payload,
        missed="all",
        overlap=3,
        jitter_ms=5_000,
        window_ms=60_000,
        max_age_ms=90_000,
        place="functions/orders.py:4",
    )
    assert bytes(found.payload) == b"{}"


def test_what_a_schedule_says_holds():
    said = msgspec.structs.replace(
        DAILY, tz="UTC", payload={"n": 1}, missed="skip", overlap="allow", jitter_seconds=0.0, window_seconds=9.0,
        timeout_seconds=2.5, name=None, id="nightly",
    )  # fmt: skip
    given = Settings(schedule=ScheduleSettings(timezone=TimeZone("Europe/Paris"), jitter=Jitter(5)))
    (found,) = definitions_of(registry_of(said), given)
    assert (found.id, found.source, found.place) == ("nightly", "functions.toml", "functions.toml:4")
    assert (found.timing.tz, bytes(found.payload), found.missed, found.overlap) == ("UTC", b'{"n":1}', "skip", "allow")
    assert (found.jitter_ms, found.window_ms, found.timeout_ms) == (0, 9_000, 2_500)


def test_all_kinds_of_schedules_are_listed_by_id_and_nothing_else():
    when = datetime(2030, 1, 1, tzinfo=UTC)
    found = definitions_of(
        registry_of(
            Http(line=1, methods=("GET",)), DAILY, At(line=6, when=when, name="b"),
            Interval(line=5, every_seconds=1.5, name="a"), Interval(line=0, every_seconds=60, id="c"),
        ), Settings(),
    )  # fmt: skip
    assert [(one.id, one.timing) for one in found] == [
        ("c", Timing(every_ms=60_000)),
        ("orders.sweep:a", Timing(every_ms=1_500)),
        ("orders.sweep:b", Timing(at_ms=ms_of(when))),
        ("orders.sweep:daily", Timing(cron="0 0 * * *")),
    ]
    assert found[0].place == "functions.toml"


def test_a_definition_survives_the_store():
    (found,) = definitions_of(registry_of(msgspec.structs.replace(DAILY, overlap=3, payload={"n": [1]})), Settings())
    text = msgspec.json.encode(found)
    again = msgspec.json.decode(text, type=Definition)
    assert msgspec.json.encode(again) == text
    assert (again.overlap, bytes(again.payload), again.timing) == (3, b'{"n":[1]}', found.timing)


def test_a_digest_tells_what_matters_from_where_it_stands():
    daily, other = (
        definitions_of(registry_of(one), Settings())[0] for one in (DAILY, Interval(line=1, every_seconds=9))
    )
    digest = digest_of([daily, other])
    moved = msgspec.structs.replace(daily, place="functions/orders.py:99")
    assert digest == digest_of([other, moved])
    assert len(digest) == 64
    for change in ({"queue": "x"}, {"payload": msgspec.Raw(b'{"n":1}')}, {"timeout_ms": 1}, {"timing": other.timing}):
        assert digest_of([msgspec.structs.replace(daily, **change), other]) != digest
    assert digest_of([daily]) != digest != digest_of([])


def test_a_tick_has_one_id_however_long_its_schedule_s():
    assert tick_id("orders.sweep:daily", 1_893_456_000_000) == "tick-a7bc468b2419-1893456000000"
    assert tick_id("a", 1) != tick_id("b", 1) != tick_id("b", 2)
    assert len(tick_id("x" * 300, 1)) == len(tick_id("y", 1)) == len("tick-") + 12 + 2
