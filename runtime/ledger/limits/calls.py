"""Calls of the scripts that bound functions over all processes of a store: for calls that are no runs.

Runs are let in by claim, and leave with finish. Built here, run by the gate. See scripts/limits/lanes.lua.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from runtime.invoke.limits.rules import Ask, Verdict
from runtime.ledger.calls import Argument, Call
from runtime.ledger.ledger import Ledger
from runtime.ledger.records import Held


class Entered(msgspec.Struct, frozen=True):
    """What became of an Ask.

    in: it may begin after `seconds`, 0 for now; its place is held meanwhile. wait: no place is free; ask again, within
    1 s, or lose the turn. late: it could begin after `seconds` only, which is longer than it waits. open: the breaker
    is, for so many `seconds`. trial: it is in, and by it the breaker is tried.
    """

    verdict: Literal["in", "wait", "late", "open"]
    seconds: float = 0.0
    trial: bool = False


class Exit(msgspec.Struct, frozen=True):
    """The end of a call. stays: its place is not free yet."""

    ask: Ask
    verdict: Verdict
    stays: bool = False


def enter(ledger: Ledger, asks: Sequence[tuple[Ask, float]]) -> Call[list[Entered]]:
    """Ask for calls, each with how many seconds it waits at most; in the order in which they came."""
    arguments: list[Argument] = [_lease_ms(ledger)]
    for ask, within_seconds in asks:
        limits = ask.limits
        arguments += (
            *_place_of(ask), round(within_seconds * 1000), limits.concurrency, limits.every_ms, limits.burst,
            limits.failures, limits.reset_ms,
        )  # fmt: skip
    return ledger.call("limits/enter", arguments, _read_entered)


def give_up(ledger: Ledger, asks: Sequence[Ask]) -> Call[None]:
    """Calls that were told to wait wait no more."""
    return ledger.call("limits/give_up", [part for ask in asks for part in _place_of(ask)], _read_nothing)


def leave(ledger: Ledger, exits: Sequence[Exit]) -> Call[None]:
    """Calls have ended: their places are free, and the breakers know. One that is not known any more is no matter.

    The place of one that stays is to be kept; it leaves once more, with no verdict.
    """
    arguments: list[Argument] = []
    for one in exits:
        limits = one.ask.limits
        arguments += (*_place_of(one.ask), one.verdict, limits.failures, limits.reset_ms, int(one.stays))
    return ledger.call("limits/leave", arguments, _read_nothing)


def keep(ledger: Ledger, asks: Sequence[Ask]) -> Call[None]:
    """Hold the places of calls for another lease; one that was lost is taken again, though it be one too many."""
    arguments: list[Argument] = [_lease_ms(ledger)]
    for ask in asks:
        arguments += (*_place_of(ask), ask.limits.concurrency, ask.limits.failures)
    return ledger.call("limits/keep", arguments, _read_nothing)


def assign(ledger: Ledger, runs: Sequence[tuple[Held, str]]) -> Call[int]:
    """Hand runs back that were claimed without a key, each with its own, to wait for their turns. How many.

    No attempt is spent, and their places in line are kept.
    """
    return ledger.call(
        "limits/assign", [part for run, key in runs for part in (run.id, run.token, run.queue, key)], int
    )


def _place_of(ask: Ask) -> tuple[str, str, str]:
    """Function, what its limits hold for, who holds a place of it."""
    return ask.function, ask.key if ask.limits.keyed else "", ask.holder


def _lease_ms(ledger: Ledger) -> int:
    return round(ledger.lease_seconds * 1000)


def _read_entered(found: Sequence[bytes]) -> list[Entered]:
    words = [one.decode() for one in found]
    return [
        Entered(words[at], float(words[at + 1]) / 1000, words[at + 2] == "1")  # type: ignore[arg-type]  # it has no others
        for at in range(0, len(words), 3)
    ]


def _read_nothing(_: Any) -> None:
    return None
