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
    raise NotImplementedError


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A call that wants to begin. holder: who holds the place it gets; no two calls, or attempts, have the same.

    key: as text; "" for a function without key=.
    """

    function: str
    limits: Limits
    holder: str
    key: str = ""
