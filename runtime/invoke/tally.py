"""Count a call: how it ended, after how long. The outermost of what stands around a handler.

Called by the invoker for each call that is no run; a run's ending is counted where it is written. Part of every call,
so it does as little as can be where all went well.
"""

from asyncio import CancelledError
from bisect import bisect_left
from collections.abc import Awaitable
from functools import partial
from time import perf_counter

from runtime.invoke.execute import Stream
from runtime.invoke.invocation import Invocation, Outcome
from runtime.invoke.limits.guard import verdict_of
from runtime.observe import counts
from runtime.observe.board import BEGAN, BOUNDS, BUCKETS, SUM
from runtime.observe.counts import Cell, Verdict

_VERDICTS: dict[str | None, Verdict] = {
    "timeout": "timeout",
    "crashed": "crashed",
    "limit": "refused",
    "open": "refused",
}
_ANSWERS = ("http", "api")
"""Triggers whose caller is answered: what it did wrong is no failure of the function's."""


async def counted(cell: Cell, work: Awaitable[Outcome], invocation: Invocation) -> Outcome:
    """What the call comes to. One that streams is counted when it has streamed."""
    numbers = cell.numbers  # written here, where each method call counts
    numbers[BEGAN] += 1.0
    began = perf_counter()
    try:
        outcome = await work
    except BaseException as error:
        cell.done(perf_counter() - began, "cancelled" if isinstance(error, CancelledError) else "failed")
        raise
    note_end(cell, perf_counter() - began, outcome, invocation)
    return outcome


def note_end(cell: Cell, seconds: float, outcome: Outcome, invocation: Invocation) -> None:
    """Count how a call ended that began so long ago."""
    if outcome.state == "succeeded" and outcome.fell_back is None:
        if isinstance(outcome.value, Stream):
            outcome.value.on_end(partial(_end_stream, cell, perf_counter() - seconds, outcome.value))
        else:
            note_success(cell, seconds)
        return
    name = invocation.function.name
    if outcome.fell_back is not None:
        counts.count("fallback", name)
    elif outcome.reason in ("limit", "open"):
        counts.count(outcome.reason, name)
    cell.done(seconds, _verdict(outcome, invocation.trigger))


def note_success(cell: Cell, seconds: float) -> None:
    """Count a call that returned after so long."""
    numbers = cell.numbers
    numbers[SUM] += seconds
    numbers[bisect_left(BOUNDS, seconds) + BUCKETS] += 1.0


def _verdict(outcome: Outcome, trigger: str) -> Verdict:
    if outcome.state == "succeeded":
        return "succeeded"
    found = _VERDICTS.get(outcome.reason)
    if found is None:
        return "succeeded" if trigger in _ANSWERS and verdict_of(outcome) == "none" else "failed"
    return found


def _end_stream(cell: Cell, began: float, stream: Stream) -> None:
    verdict: Verdict = "succeeded" if stream.complete else "cancelled"
    if stream.error is not None:
        verdict = "timeout" if isinstance(stream.error, TimeoutError) else "failed"
    cell.done(perf_counter() - began, verdict)
