"""The store's clock, as a scheduler measures it."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from runtime.triggers.schedule.clock import Clock, StoreZone

NOON_MS = 1_900_000_000_000


class Watch:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def monotonic() -> Watch:
    return Watch()


@pytest.fixture
def clock(monotonic: Watch) -> Clock:
    return Clock(monotonic)


def measure(clock: Clock, monotonic: Watch, now_ms: int, took_seconds: float) -> None:
    began = clock.begin()
    monotonic.seconds += took_seconds
    clock.measure(began, now_ms)


def test_before_it_is_measured_it_is_the_machines(clock):
    assert clock.now_ms() == pytest.approx(time.time() * 1000, abs=5000)


def test_it_goes_on_by_the_monotonic_clock(clock, monotonic):
    measure(clock, monotonic, NOON_MS, 0.002)
    assert clock.now_ms() == NOON_MS  # rather late than early
    monotonic.seconds += 10
    assert clock.now_ms() == NOON_MS + 10_000


def test_a_quick_answer_makes_it_better_and_a_slow_one_no_worse(clock, monotonic):
    measure(clock, monotonic, NOON_MS, 0.1)  # up to 100 ms late
    monotonic.seconds += 1
    measure(clock, monotonic, NOON_MS + 1101, 0.002)
    assert clock.now_ms() == NOON_MS + 1102 - 1  # 1 ms of the answer's 2, and 1 ms that was cut off
    before = clock.now_ms()
    measure(clock, monotonic, NOON_MS + 5000, 60)  # the process was stopped for a minute
    assert before + 59_999 < clock.now_ms() <= before + 60_000


def test_a_monotonic_clock_that_gains_makes_nothing_early(clock, monotonic):
    for second in range(1000):
        answered_ms = NOON_MS + 1000 * second + 5  # 5 ms to the store, and 5 ms back
        measure(clock, monotonic, answered_ms, 0.010)
        assert answered_ms - 1 < clock.now_ms() <= answered_ms + 5
        monotonic.seconds += 0.990 + 50e-6
        assert clock.now_ms() < NOON_MS + 1000 * (second + 1) + 0.1


def test_a_jump_of_the_stores_clock_is_followed_at_once(clock, monotonic):
    for jump in (3_600_000, -86_400_000, 0):
        measure(clock, monotonic, NOON_MS + jump, 0.001)
        assert clock.now_ms() == pytest.approx(NOON_MS + jump, abs=2)


@pytest.mark.parametrize("off", [timedelta(0), timedelta(hours=1), timedelta(days=-1)])
def test_now_in_its_zone_is_the_stores_now(off):
    clock = Clock()
    now = datetime.now(UTC) + off
    clock.measure(clock.begin(), int(now.timestamp() * 1000))
    found = datetime.now(StoreZone(clock))
    assert found.utcoffset() == timedelta(0)
    assert abs(found - now) < timedelta(seconds=5)


def test_an_instant_in_its_zone_is_a_ms_and_back():
    zone = StoreZone(Clock())
    assert zone.ms_of(zone.at(NOON_MS)) == NOON_MS
    assert zone.at(NOON_MS) == datetime.fromtimestamp(NOON_MS / 1000, UTC)
    assert zone.at(NOON_MS).astimezone(zone).isoformat() == zone.at(NOON_MS).isoformat()  # APScheduler does that
