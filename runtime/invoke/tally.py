"""Count a call: how it ended, after how long. The outermost of what stands around a handler.

Called by the invoker for each call that is no run; a run's ending is counted where it is written. Part of every call,
so it does as little as can be where all went well.
"""

from asyncio import CancelledError
from collections.abc import Awaitable
from functools import partial
from time import perf_counter

from runtime.invoke.execute import Stream
from runtime.invoke.invocation import Invocation, Outcome
from runtime.invoke.limits.guard import verdict_of
from runtime.observe import counts
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
    cell.began()
    began = perf_counter()
    try:
        outcome = await work
    except BaseException as error:
        cell.done(perf_counter() - began, "cancelled" if isinstance(error, CancelledError) else "failed")
        raise
    if outcome.state == "succeeded" and outcome.fell_back is None:
        if isinstance(outcome.value, Stream):
            outcome.value.on_end(partial(_end_stream, cell, began, outcome.value))
        else:
            cell.done(perf_counter() - began, "succeeded")
        return outcome
    name = invocation.function.name
    if outcome.fell_back is not None:
        counts.count("fallback", name)
    elif outcome.reason in ("limit", "open"):
        counts.count(outcome.reason, name)
    cell.done(perf_counter() - began, _verdict(outcome, invocation.trigger))
    return outcome


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
