"""If and when a failed attempt is made again."""

import pytest

from runtime.base.errors import Problem
from runtime.declare.policies import GiveUp, Retry, RetryAfter
from runtime.invoke.retry import longest_wait, next_delay

FOREVER = 1e9


def delay(policy: Retry, attempt: int, error: BaseException, left_seconds: float = FOREVER) -> float | None:
    return next_delay(policy, attempt, error, left_seconds, lambda: 0.5)


def test_the_wait_doubles_up_to_its_cap():
    policy = Retry(10, wait="1s..5s")
    assert [longest_wait(policy, attempt) for attempt in (1, 2, 3, 4, 100_000)] == [1, 2, 4, 5, 5]


def test_the_wait_is_drawn_unless_jitter_is_off():
    assert delay(Retry(wait="4s"), 1, OSError()) == 2
    assert delay(Retry(wait="4s", jitter=False), 1, OSError()) == 4


def test_attempts_are_counted_with_the_first():
    assert delay(Retry(3), 2, OSError()) is not None
    assert delay(Retry(3), 3, OSError()) is None
    assert delay(Retry(1), 1, OSError()) is None


@pytest.mark.parametrize(
    ("policy", "error", "again"),
    [
        (Retry(on=(OSError,)), OSError(), True),
        (Retry(on=(OSError,)), TimeoutError(), True),  # an OSError, as Python sees it
        (Retry(on=(OSError,)), ValueError(), False),
        (Retry(giveup=(ValueError,)), ValueError(), False),
        (Retry(on=(OSError,), giveup=(ConnectionError,)), ConnectionResetError(), False),
        (Retry(), GiveUp("no"), False),
        (Retry(on=(GiveUp,)), GiveUp("no"), False),
        (Retry(), Problem(404), False),
        (Retry(), Problem(503), True),
        (Retry(on=(Problem,)), Problem(404), True),
        (Retry(), SystemExit(1), True),
    ],
)
def test_what_is_tried_again(policy, error, again):
    assert (delay(policy, 1, error) is not None) is again


def test_retry_after_says_itself_when():
    policy = Retry(2, on=(OSError,))
    assert delay(policy, 1, RetryAfter("30s")) == 30
    assert delay(policy, 2, RetryAfter("30s")) is None


def test_what_would_begin_too_late_is_not_made():
    policy = Retry(wait="10s", jitter=False)
    assert delay(policy, 1, OSError(), left_seconds=10) == 10
    assert delay(policy, 1, OSError(), left_seconds=9.9) is None
