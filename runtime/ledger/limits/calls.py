"""Calls of the scripts that bound functions over all processes of a store: for calls that are no runs.

Runs are let in by claim, and leave with finish. Built here, run by the gate. See scripts/limits.lua.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from runtime.invoke.limits.rules import Ask, Verdict
from runtime.ledger.calls import Call
from runtime.ledger.ledger import Ledger


class Entered(msgspec.Struct, frozen=True):
    """What became of an Ask.

    in: it may begin after `seconds`, 0 for now; its place is held meanwhile. wait: no place is free; ask again, within
    1 s, or lose the turn. late: it could begin after `seconds` only, which is longer than it waits. open: the breaker
    is, for so many `seconds`.
    """

    verdict: Literal["in", "wait", "late", "open"]
    seconds: float = 0.0


class Exit(msgspec.Struct, frozen=True):
    """The end of a call. stays: its place is not free yet."""

    ask: Ask
    verdict: Verdict
    stays: bool = False


def enter(ledger: Ledger, asks: Sequence[tuple[Ask, float]]) -> Call[list[Entered]]:
    """Ask for calls, each with how many seconds it waits at most; in the order in which they came."""
    raise NotImplementedError


def give_up(ledger: Ledger, asks: Sequence[Ask]) -> Call[None]:
    """Calls that were told to wait wait no more."""
    raise NotImplementedError


def leave(ledger: Ledger, exits: Sequence[Exit]) -> Call[None]:
    """Calls have ended: their places are free, and the breakers know. One that is not known any more is no matter."""
    raise NotImplementedError


def keep(ledger: Ledger, asks: Sequence[Ask]) -> Call[None]:
    """Hold the places of calls for another lease; one that was lost is taken again, though it be one too many."""
    raise NotImplementedError
