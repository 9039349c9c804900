"""Decide if and when a failed attempt of a run is made again.

Called by the queue's worker. Pure: no clock, no chance of its own, no I/O.
"""

from collections.abc import Callable

from runtime.base.errors import Problem
from runtime.declare.policies import GiveUp, Retry, RetryAfter

DEFAULT_RETRY = Retry()
"""What holds for a run whose function says nothing: three attempts."""

DEFAULT_MAX_AGE_SECONDS = 6 * 3600.0
"""How long after it was due a run is tried again, unless its function says otherwise."""

_SERVER_ERROR = 500
_MOST_DOUBLINGS = 64


def longest_wait(policy: Retry, attempt: int) -> float:
    """Longest wait after a failed attempt, in seconds. attempt: 1 for the first.

    wait = min(cap, first * 2**(attempt - 1)); the caller draws from [0, wait] (full jitter).
    Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
    """
    return min(policy.cap_seconds, policy.first_seconds * 2.0 ** min(attempt - 1, _MOST_DOUBLINGS))


def next_delay(
    policy: Retry, attempt: int, error: BaseException, left_seconds: float, draw: Callable[[], float]
) -> float | None:
    """Seconds until the next attempt; None if there is none.

    attempt: the one that failed, 1 for the first. error: what it raised, a TimeoutError for one that took too long.
    left_seconds: an attempt that would begin later is not made. draw: a number from [0, 1).
    A RetryAfter is asked for by the handler: it needs no place in `on`, and is not jittered; it is an attempt all the
    same. A Problem below 500 is the caller's fault, and stays so.
    """
    if attempt >= policy.attempts or not is_worth_another(policy, error):
        return None
    if isinstance(error, RetryAfter):
        wait = error.delay_seconds
    else:
        wait = longest_wait(policy, attempt) * (draw() if policy.jitter else 1.0)
    return wait if wait <= left_seconds else None


def is_worth_another(policy: Retry, error: BaseException) -> bool:
    """Whether an error is of a kind that is tried again."""
    if isinstance(error, RetryAfter):
        return True
    if isinstance(error, (GiveUp, *policy.giveup)):
        return False
    if policy.on:
        return isinstance(error, policy.on)
    return not (isinstance(error, Problem) and error.status < _SERVER_ERROR)
