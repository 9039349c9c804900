"""A run as the invoker takes it: an Invocation, or, of a plain function, a call in the one task of its run.

Used by execution. The second is the short way, as a plain request has one: begun without waiting for anything, its
ending made as the handler returns. What fails, streams or has to ask somebody goes on as all runs do.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context as Variables
from contextvars import copy_context
from typing import Any, Protocol

import msgspec
from typing_extensions import override

from runtime.base.ids import Trace, new_run_id, trace_of
from runtime.invoke.direct import Direct, Start
from runtime.invoke.invocation import Invocation
from runtime.invoke.invoker import Invoker
from runtime.invoke.threads.pool import Finished
from runtime.ledger.records import Claimed, Ending
from runtime.ledger.schedules.records import tick_of
from runtime.observe import traces
from runtime.triggers.queue.clients.messages import TRIGGER, by_name
from runtime.triggers.queue.leases import Lease
from runtime.triggers.queue.plans import RunPlan

_ID_DIGITS = 32


def payload_of(run: Claimed, plan: RunPlan) -> bytes:
    """The arguments. A function that was named by on_failure= takes what it wants of what it is told. InputError."""
    if run.trigger == TRIGGER:
        return by_name(run.payload, plan.arguments)
    if run.trigger != "on_failure":
        return run.payload
    try:
        told = msgspec.json.decode(run.payload, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return run.payload
    return msgspec.json.encode({name: value for name, value in told.items() if name in plan.names})


def invocation_of(lease: Lease, plan: RunPlan, arguments: dict[str, Any]) -> Invocation:
    """What the invoker is told: claim has seen to a run's limits, and its last failure falls back, no other."""
    run = lease.run
    return Invocation(
        function=plan.function,
        trigger=run.trigger,
        arguments=arguments,
        run_id=run.id,
        trace=_trace_of(run),
        timeout_seconds=plan.timeout_of(run),
        attempt=run.attempt,
        report=lease.report,
        tick=tick_of(run),
        has_place=True,
        falls_back=False,
        counted=False,
    )


def _trace_of(run: Claimed) -> Trace:
    return traces.here(trace_of(run.id if len(run.id) == _ID_DIGITS else new_run_id(), run.trace or None))


class Ends(Protocol):
    """The execution, as a call of the short way sees it."""

    def write(self, lease: Lease, plan: RunPlan, value: Any) -> Ending:
        """The ending of a run whose handler returned this."""
        ...

    def conclude(self, call: "ShortRun", finished: Finished, seconds: float) -> Coroutine[Any, Any, Ending]:
        """That of one whose handler ended otherwise, after so long."""
        ...

    def await_ending(self, lease: Lease, ending: asyncio.Task[Ending], variables: Variables) -> None:
        """It ends when that is known; in these variables."""

    def end(self, lease: Lease, ending: Ending | None) -> None:
        """It has ended so; None: it was stopped."""


class ShortRun(Direct, kw_only=True, eq=False):
    """One run on its way. origin: the variables it was begun in, which are no run's: what follows its end has those."""

    lease: Lease
    plan: RunPlan
    ends: Ends
    origin: Variables

    def stop(self) -> None:
        """End the handler."""
        self.cancel("left")

    @override
    def succeeded(self, value: Any) -> None:
        ending = self.ends.write(self.lease, self.plan, value)
        self.start.loop.call_soon(self.ends.end, self.lease, ending, context=self.origin)

    @override
    def failed(self, finished: Finished | None, seconds: float) -> None:
        loop = self.start.loop
        if finished is None:
            loop.call_soon(self.ends.end, self.lease, None, context=self.origin)
        else:  # with its Context: what is logged of it says whose it is
            task = loop.create_task(self.ends.conclude(self, finished, seconds), context=copy_context())
            self.ends.await_ending(self.lease, task, self.origin)


class Short:
    """The short way into an invoker. What can be known before a run is kept by its function, trigger and timeout."""

    def __init__(self, invoker: Invoker) -> None:
        self._invoker = invoker
        self._starts: dict[tuple[str, str, float], Start | None] = {}

    def forget(self) -> None:
        """There are other functions now."""
        self._starts.clear()

    def begin(self, lease: Lease, plan: RunPlan, ends: Ends) -> Callable[[], object] | None:
        """Begin a run: what ends its handler. None, and nothing has happened, if it has to go the long way.

        InputError, BindingFailed.
        """
        run = lease.run
        key = (run.function, run.trigger, plan.timeout_of(run))
        if key not in self._starts:
            self._starts[key] = self._invoker.start_of(plan.function, *key[1:], counted=False)
        if (start := self._starts[key]) is None:
            return None
        origin, variables = copy_context(), copy_context()
        call = variables.run(_begin, start, lease, plan=plan, ends=ends, origin=origin, variables=variables)
        return None if call is None else call.stop


def _begin(start: Start, lease: Lease, **said: Any) -> ShortRun | None:
    run, plan = lease.run, said["plan"]
    arguments = plan.arguments.bind(payload_of(run, plan))
    trace = _trace_of(run)
    context = start.context_of(run.id, trace, run.attempt, lease.report)
    call = ShortRun(start, run.id, trace, context, arguments=arguments, lease=lease, **said)
    return call if start.begin(call) else None
