"""What is counted by the minute, in a real store."""

import secrets
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as Cut
from redis.exceptions import NoScriptError

from runtime.base.errors import StoreDown
from runtime.ledger.metrics.flushing import Flush
from runtime.ledger.minutes import WHATS, Row, add, read, read_hours, record, spans


@pytest.fixture
def now(desk):
    return int(desk.ledger.now() // 60)


def test_what_several_processes_have_counted_is_summed(desk, now):
    for _ in range(2):
        desk.ask_sync(record(desk.ledger, [(now, "a.b", "http", "succeeded", 2), (now, "a.b", "http", "ms", 70)]))
    desk.ask_sync(record(desk.ledger, [(now - 1, "c", "", "blocked", 1)]))
    found = desk.ask_sync(read(desk.ledger, now - 5, now))
    assert found == [
        Row(now - 1, "c", "", "blocked", 1),
        Row(now, "a.b", "http", "ms", 140),
        Row(now, "a.b", "http", "succeeded", 4),
    ]


def test_the_minutes_and_functions_that_are_asked_for_are_told_and_no_others(desk, now):
    rows = [(now - ago, name, "queue", "failed", 1) for ago in (0, 59, 61, 130) for name in ("a", "b")]
    desk.ask_sync(record(desk.ledger, rows))
    assert [row.minute for row in desk.ask_sync(read(desk.ledger, now - 61, now - 59, ["a"]))] == [now - 61, now - 59]
    assert {row.function for row in desk.ask_sync(read(desk.ledger, now - 130, now))} == {"a", "b"}
    assert desk.ask_sync(read(desk.ledger, now - 130, now, [])) == []


def test_a_day_is_kept_and_what_is_older_is_not_taken(desk, now):
    desk.ask_sync(record(desk.ledger, [(now - 2000, "a", "http", "failed", 1), (now + 90, "a", "http", "failed", 1)]))
    assert desk.ask_sync(read(desk.ledger, now - 2100, now + 100)) == []
    desk.ask_sync(record(desk.ledger, [(now - 24 * 60, "a", "http", "failed", 1)]))
    assert len(desk.ask_sync(read(desk.ledger, now - 24 * 60, now))) == 1


def test_a_day_is_asked_for_by_the_hour(now):
    found = list(spans(now - 1439, now))
    assert 24 <= len(found) <= 25
    assert (found[0][0], found[-1][1]) == (now - 1439, now)
    assert all(last + 1 == first for (_, last), (first, _) in pairwise(found))
    assert all(first // 60 == last // 60 for first, last in found)


def test_what_was_added_though_its_answer_was_lost_is_not_added_again(desk, now, client):
    flush = Flush(desk.store, desk.ledger)
    key = (now, "a", "http", "failed")
    flush._waiting[key] = 2
    with pytest.raises(StoreDown):
        flush._bring(Deaf(client))
    flush._waiting[key] += 1
    flush._bring(client)
    assert desk.ask_sync(read(desk.ledger, now, now)) == [Row(*key, 3)]
    assert not flush._waiting


class Deaf:
    """A client that the store's answers do not reach."""

    def __init__(self, client):
        self._client = client

    def evalsha(self, *call):
        raise NoScriptError

    def eval(self, *call):
        self._client.eval(*call)
        raise Cut


def test_whole_hours_are_summed_beside_their_minutes(desk, now):
    hour = now // 60
    first = hour * 60 - 120
    desk.ask_sync(record(desk.ledger, [(first + at, "a", "http", "succeeded", 300) for at in (0, 1, 59)]))
    desk.ask_sync(record(desk.ledger, [(first + 60, "a", "queue", "ms", 2**40), (first + 60, "b", "", "missed", 1)]))
    found = list(desk.ask_sync(read_hours(desk.ledger, hour - 2, hour - 1)))
    sums = {(one.minute, one.function, one.trigger): [0] * len(WHATS) for one in found}
    for one in found:
        add(one.numbers, sums[one[:3]])
    told = {key: {WHATS[at]: number for at, number in enumerate(one) if number} for key, one in sums.items()}
    assert told == {
        (first, "a", "http"): {"succeeded": 900},
        (first + 60, "a", "queue"): {"ms": 2**40},
        (first + 60, "b", ""): {"missed": 1},
    }


@given(st.lists(st.tuples(st.sampled_from(WHATS), st.integers(1, 2**50)), min_size=1, max_size=30))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_numbers_are_added_whatever_they_are(desk, now, counted):
    function = secrets.token_hex(8)
    for what, number in counted:
        desk.ask_sync(record(desk.ledger, [(now, function, "http", what, number)]))
    expected = Counter()
    for what, number in counted:
        expected[what] += number
    assert {row.what: row.number for row in desk.ask_sync(read(desk.ledger, now, now, [function]))} == expected


def test_a_minute_takes_little_room(desk, now, client):
    rows = [(now, "a", "http", what, 20) for what in ("succeeded", "failed", "ms", "b1", "b2", "b3")]
    desk.ask_sync(record(desk.ledger, rows))
    key = f"{desk.ledger.prefix}counted:{now // 60}:a"
    assert sum(len(field) + len(value) for field, value in client.hgetall(key).items()) <= 20
