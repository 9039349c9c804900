"""What bounds the calls of a function, as data: read from `@fn(...)` once, at load.

Used by guards, which keep it in one process, and by the ledger, which keeps it for all. Pure.
"""

from typing import Literal

import msgspec

from runtime.declare.registry import Function

Verdict = Literal["good", "bad", "none"]
"""What a call says of the function's health: "none" for one that was cancelled, or refused what it was given."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How often, and how many at once.

    concurrency: calls at once, 0 for no bound. every_ms: between two starts on average, 0 for no bound; burst: how
    many may start at once all the same. keyed: each key has these bounds for itself, and waiting runs of different keys
    take turns. failures: in a row, that open the breaker, 0 for none; reset_ms: until an open one lets a call try.
    """

    concurrency: int = 0
    every_ms: float = 0.0
    burst: int = 1
    keyed: bool = False
    failures: int = 0
    reset_ms: int = 0


def limits_of(function: Function) -> Limits | None:
    """What bounds a function's calls; None for nothing."""
    policy = function.policy
    rate, breaker = policy.rate, policy.breaker
    if policy.concurrency is None and policy.key is None and rate is None and breaker is None:
        return None
    return Limits(
        concurrency=policy.concurrency or 0,
        every_ms=rate.seconds * 1000 / rate.count if rate else 0.0,
        burst=rate.burst if rate else 1,
        keyed=policy.key is not None,
        failures=breaker.failures if breaker else 0,
        reset_ms=round(breaker.reset_seconds * 1000) if breaker else 0,
    )


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A call that wants to begin. holder: who holds the place it gets; no two calls, or attempts, have the same.

    key: as text; "" for a function without key=.
    """

    function: str
    limits: Limits
    holder: str
    key: str = ""


_UNITS_MS = (("s", 1000.0), ("m", 60_000.0), ("h", 3_600_000.0), ("d", 86_400_000.0))
_WHOLE = 1e-6


def limit_said(limits: Limits, verdict: str) -> str:
    """Which limit a call that was told "wait" or "late" has met, as an author may write it."""
    if verdict == "wait" or not limits.every_ms:
        said = f"concurrency={limits.concurrency}"
    else:
        count, unit = next(
            ((ms / limits.every_ms, unit) for unit, ms in _UNITS_MS if _is_whole(ms / limits.every_ms)),
            (86_400_000 / limits.every_ms, "d"),
        )
        burst = "" if round(count) == limits.burst else f" burst {limits.burst}"
        said = f'rate="{round(count) if _is_whole(count) else count}/{unit}{burst}"'
    return f"{said} of its key" if limits.keyed else said


def _is_whole(count: float) -> bool:
    return round(count) >= 1 and abs(count - round(count)) < _WHOLE * count
