"""What the store alone knows of the whole system: who is there, and how many runs are kept. Asked at each scrape."""

from collections.abc import Sequence
from typing import Any

import msgspec

from runtime.ledger.calls import Call
from runtime.ledger.ledger import Ledger


class Kept(msgspec.Struct, frozen=True):
    """Of one function: its open runs, those that have succeeded or were cancelled, and its dead letters."""

    function: str
    open: int
    finished: int
    dead: int


class Facts(msgspec.Struct, frozen=True):
    """How many workers and schedulers live, and what is kept of each function's runs."""

    workers: int
    schedulers: int
    functions: tuple[Kept, ...]


def facts(ledger: Ledger) -> Call[Facts]:
    """All of it."""
    return ledger.call("metrics/facts", (), _read)


def _read(found: Sequence[Any]) -> Facts:
    workers, schedulers, *rest = found
    kept = (Kept(rest[at].decode(), *rest[at + 1 : at + 4]) for at in range(0, len(rest), 4))
    return Facts(workers, schedulers, tuple(sorted(kept, key=lambda one: one.function)))
