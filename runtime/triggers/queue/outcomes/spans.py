"""A run's span, where traces are on: one for each attempt, around all that its execution does.

Called by execution.
"""

from collections.abc import Coroutine
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec

from runtime.base.ids import Trace, trace_of
from runtime.ledger.records import Claimed, Ending
from runtime.ledger.schedules.records import note_of

if TYPE_CHECKING:  # it has to do with a library that may not be there
    from runtime.observe.otel import Span, Tracing
    from runtime.triggers.queue.leases import Lease

_ID_DIGITS = 32
_FAAS_TRIGGERS = {"http": "http", "api": "http", "cli": "other", "on_failure": "other"}


async def run_in_span(tracing: "Tracing", lease: "Lease", worker: str, work: Coroutine[Any, Any, Ending]) -> Ending:
    """Execute a run within a span of its own; in a cell within that which its worker has begun."""
    run = lease.run
    trace = _trace_of(run)
    if tracing.inside:
        with tracing.continuing(trace):
            return await work
    first = trace_of(_hex_id(run), run.trace or None)
    links = () if first.span_id == trace.span_id else (first,)
    span = tracing.start(run.function, "consumer", _told(run, worker), trace=trace, links=links)
    try:
        with tracing.within(span):
            ending = await work
        _note(span, ending)
    except BaseException as error:
        span.set_attribute("fnrun.state", lease.fate or type(error).__name__)
        raise
    finally:
        span.end()
    return ending


def _trace_of(run: Claimed) -> Trace:
    """The ids of an attempt: a run's first has its run's own, so that whoever submitted it knows them."""
    trace = trace_of(_hex_id(run), run.trace or None)
    if trace.parent_id is None:
        trace = msgspec.structs.replace(trace, flags="01")
    if run.attempt == 1 and not run.crashes:
        return trace
    return msgspec.structs.replace(trace, span_id=sha256(f"{run.id}:{run.token}".encode()).hexdigest()[:16])


def _hex_id(run: Claimed) -> str:
    """Its id; of one that was named by its submitter, digits that are always the same."""
    is_hex = len(run.id) == _ID_DIGITS and not set(run.id) - set("0123456789abcdef")
    return run.id if is_hex else sha256(run.id.encode()).hexdigest()[:_ID_DIGITS]


def _told(run: Claimed, worker: str) -> dict[str, str | int | float]:
    told: dict[str, str | int | float] = {
        "faas.trigger": _FAAS_TRIGGERS.get(run.trigger, "pubsub"),
        "faas.name": run.function,
        "faas.invocation_id": run.id,
        "messaging.system": "fnrun",
        "messaging.destination.name": run.queue,
        "messaging.operation.type": "process",
        "messaging.operation.name": "run",
        "messaging.message.id": run.id,
        "messaging.client.id": worker,
        "fnrun.trigger": run.trigger,
        "fnrun.attempt": run.attempt,
        "fnrun.wait_seconds": round(max(0.0, run.claimed - (run.due or run.accepted)), 3),
    }
    note = note_of(run)
    if note is not None:
        told |= {"faas.trigger": "timer", "fnrun.schedule": note.schedule, "faas.time": _rfc3339(note.planned)}
    return told


def _rfc3339(milliseconds: int) -> str:
    from runtime.declare.timing.calendar import instant_of  # noqa: PLC0415 - only of ticks

    return instant_of(milliseconds).isoformat().replace("+00:00", "Z")


def _note(span: "Span", ending: Ending) -> None:
    from runtime.observe.otel import fail  # noqa: PLC0415 - see above

    span.set_attribute("fnrun.state", ending.state)
    if ending.failure is not None:
        span.set_attribute("error.type", ending.failure.type)
        fail(span, f"{ending.failure.type}: {ending.failure.message}")
    elif ending.state not in ("succeeded", "waiting"):
        fail(span, ending.reason or ending.state)
