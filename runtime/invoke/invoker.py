"""The one path: an Invocation in, an Outcome out, whatever the trigger.

Called by the HTTP core and the CLI; later by the queue's worker. The only place that catches what a handler raises.
Never raises itself, but for the cancellation of its caller.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property, partial
from inspect import isawaitable
from types import AsyncGeneratorType, GeneratorType, MappingProxyType
from typing import TYPE_CHECKING, Any

from runtime.base.errors import (
    BackgroundClosed,
    BackgroundFull,
    CellDied,
    InputError,
    NoCell,
    Problem,
    QueueFull,
    StoreDown,
)
from runtime.base.logs import end_prints, get_logger
from runtime.base.logs.prints import begun
from runtime.base.secrets.vault import KEY_VARIABLES
from runtime.declare.context import Context, Tick, current
from runtime.declare.policies import RetryAfter
from runtime.declare.registry import Function
from runtime.declare.request import ClientGone
from runtime.declare.resources import NONE_OPENED, Opened
from runtime.invoke.direct import Deadlines, Direct, Start, is_generator
from runtime.invoke.execute import Stream, in_threads, run_async, run_in_thread
from runtime.invoke.invocation import Invocation, Outcome, Reason
from runtime.invoke.limits.gate import Gate
from runtime.invoke.limits.guard import Guard, is_guarded
from runtime.invoke.limits.local import LocalGate
from runtime.invoke.tally import counted, note_end
from runtime.invoke.threads.pool import Finished, Threads
from runtime.observe import traces
from runtime.observe.counts import Cells, nowhere

if TYPE_CHECKING:  # a protocol, beside much that a process without isolated functions does not need
    from runtime.invoke.isolation.calls import Isolates

log = get_logger(__name__)

_FIRST_EVENT_SECONDS = 0.5
"""How long the answer of a stream of events waits for the first one: a browser waits for the answer to begin."""

_REFUSED = (StoreDown, QueueFull, BackgroundFull, BackgroundClosed, RetryAfter)

_Run = Callable[[Callable[[], Any], float | None], Awaitable[Finished]]


class Invoker:
    """Runs functions. threads: how many sync handlers may run at once. expected: errors that are no news in the log.

    resources: to be open by the first call of a function that takes one. isolated: runs those with isolation="process";
    None where this is such a process. gate: lets calls of functions with limits begin, which wait for that so long;
    None for one of this process alone.
    """

    def __init__(
        self,
        *,
        threads: int,
        expected: tuple[type[Exception], ...] = (),
        resources: Opened = NONE_OPENED,
        isolated: "Isolates | None" = None,
        gate: Gate | None = None,
        limit_wait_seconds: float = 10.0,
    ) -> None:
        self._isolated = isolated
        self.threads = Threads(threads)
        self._fallback_threads = Threads(threads)  # their own, for the others may all be stuck
        self.gate = gate or LocalGate()
        self._limit_wait_seconds = limit_wait_seconds
        self.resources = resources
        self._expected = (Problem, InputError, *expected)
        self._prepared: dict[Function, _Prepared] = {}
        self._deadlines: dict[float, Deadlines] = {}

    def adopt(self, functions: Iterable[Function]) -> None:
        """Prepare these functions, and forget those that are not among them."""
        self._prepared = {function: self._prepare(function) for function in functions}
        self._deadlines.clear()  # calls at work keep theirs
        if self._isolated is not None:
            self._isolated.adopt(self._prepared)

    def _prepare(self, function: Function) -> "_Prepared":
        found = self._prepared.get(function)
        if found is None:
            found = _Prepared(function, self.threads, self.resources)
            supply = partial(self._supply, found)
            found.guard = Guard.of(function, self.gate, self._limit_wait_seconds, self._fallback_threads, supply)
        return found

    @property
    def guards(self) -> Mapping[str, Guard]:
        """Of the functions that have limits, or a fallback, by their names."""
        return {one.name: found.guard for one, found in self._prepared.items() if found.guard is not None}

    def invoke(self, invocation: Invocation) -> Coroutine[Any, Any, Outcome]:
        """Run the function and say how it ended. A generator's Outcome comes with its first item."""
        prepared = self._prepare(invocation.function)  # anew for one that was replaced while its request came in
        if prepared.guard is None:
            work = self._run(prepared, invocation)
        else:
            work = prepared.guard.call(invocation, partial(self._run, prepared))
        return counted(prepared.cells[invocation.trigger], work, invocation) if invocation.counted else work

    def start_of(
        self, function: Function, trigger: str, timeout_seconds: float | None, *, counted: bool = True
    ) -> Start | None:
        """How plain calls of a function by a trigger begin; None where all are to be `invoke`. Called on the loop.

        counted: as of an Invocation.
        """
        prepared = self._prepared.get(function)
        if prepared is None or not may_be_direct(function) or prepared.guard is not None:
            return None
        loop = asyncio.get_running_loop()
        deadlines = None
        if timeout_seconds is not None and (deadlines := self._deadlines.get(timeout_seconds)) is None:
            deadlines = self._deadlines[timeout_seconds] = Deadlines(timeout_seconds, loop)
        return Start(
            function=function,
            name=function.name,
            trigger=trigger,
            call=prepared.call,
            env=prepared.env,
            secrets=prepared.secrets,
            resources=self.resources,
            timeout_seconds=timeout_seconds,
            inject=prepared.inject if any(p.injected for p in function.parameters) else None,
            cell=prepared.cells[trigger] if counted else nowhere(),
            threads=self.threads if function.kind == "sync" else None,
            deadlines=deadlines,
            loop=loop,
        )

    async def finish(self, call: Direct, finished: Finished, seconds: float) -> Outcome:
        """The Outcome of a call that was begun, and has ended so after so long; it is counted."""
        if is_generator(finished.value):
            try:
                finished = await _stream_of(call.start.name, self.threads, finished, call.start.timeout_seconds)
            except asyncio.CancelledError:
                call.context.cancelled = True
                raise
            finally:
                end_prints(call.run_id)
        outcome = self.judge(call, finished, seconds)
        call.context.cancelled |= outcome.reason == "timeout"
        return outcome

    def judge(self, call: Direct, finished: Finished, seconds: float) -> Outcome:
        """As finish, where nothing is to be waited for."""
        outcome = self._outcome(finished, call.start.timeout_seconds)
        note_end(call.start.cell, seconds, outcome, call.invocation)
        return outcome

    async def fall_back(self, invocation: Invocation, outcome: Outcome) -> Outcome:
        """What `fallback=` of its function makes of a call that failed for good; the outcome itself where it cannot."""
        guard = self._prepare(invocation.function).guard
        return outcome if guard is None else await guard.fall_back(invocation, outcome)

    def _supply(self, prepared: "_Prepared", invocation: Invocation) -> tuple[Context, dict[str, Any]]:
        """The context of a call, and the arguments that its handler is given."""
        context = self._context_of(prepared, invocation)
        return context, prepared.arguments_of(invocation, context)

    def _context_of(self, prepared: "_Prepared", invocation: Invocation) -> Context:
        return Context(
            run_id=invocation.run_id,
            function=invocation.function.name,
            trigger=invocation.trigger,
            attempt=invocation.attempt,
            env=prepared.env,
            secrets=prepared.secrets,
            trace=invocation.trace,
            started_at=time.time(),
            timeout_seconds=None if prepared.streams else invocation.timeout_seconds,
            report=invocation.report,
            resources=self.resources,
        )

    async def _run(self, prepared: "_Prepared", invocation: Invocation) -> Outcome:
        context = self._context_of(prepared, invocation)
        token = current.set(context)
        try:
            if self._isolated is not None and invocation.function.policy.isolation:
                finished = await self._isolated.run(invocation)
            else:
                arguments = prepared.arguments_of(invocation, context)
                finished = await prepared.run(partial(prepared.call, **arguments), invocation.timeout_seconds)
            outcome = self._outcome(finished, invocation.timeout_seconds)
        except asyncio.CancelledError:
            context.cancelled = True
            raise
        finally:
            if begun:
                end_prints(invocation.run_id)
            current.reset(token)
        if outcome.reason == "timeout":
            context.cancelled = True
        return outcome

    def _outcome(self, finished: Finished, timeout_seconds: float | None) -> Outcome:
        if finished.timed_out:
            if not finished.is_logged:
                log.warning("handler took longer than its timeout", timeout_seconds=timeout_seconds)
            return Outcome(state="failed", reason="timeout")
        if finished.error is None:
            return Outcome(state="succeeded", value=finished.value)
        if not finished.is_logged:
            self._log(finished.error)
        traces.note_error(finished.error)
        died = isinstance(finished.error, CellDied) and not isinstance(finished.error, NoCell)
        reason: Reason = "crashed" if died else "error"
        return Outcome(state="failed", reason=reason, error=finished.error)

    def _log(self, error: BaseException) -> None:
        if isinstance(error, ClientGone):
            log.info("client left before its body was complete")
        elif isinstance(error, CellDied):
            begun = not isinstance(error, NoCell)
            log.error("handler's process has died" if begun else "there is no process for the handler", how=error.how)
        elif isinstance(error, _REFUSED):  # where the handler met it is no news
            log.warning("handler failed", reason=str(error))
        elif not isinstance(error, self._expected):
            log.error("handler failed", exc_info=error)


def may_be_direct(function: Function) -> bool:
    """Whether there may be a Start of it: to be asked before anything of a call is bound."""
    return function.kind in ("async", "sync") and not function.policy.isolation and not is_guarded(function)


class _Prepared:
    """A function, ready to run: what is known at load is decided here, once."""

    def __init__(self, function: Function, threads: Threads, resources: Opened) -> None:
        self._function = function
        self._resources = resources
        self.call = function.call
        self.guard: Guard | None = None
        self.cells = Cells(function.name)
        self.context_names = tuple(p.name for p in function.parameters if p.injected == "context")
        self.tick_names = tuple(p.name for p in function.parameters if p.injected == "tick")
        self._needed_ticks = tuple(p.name for p in function.parameters if p.injected == "tick" and p.required)
        self.env: Mapping[str, str] = MappingProxyType(
            {name: value for name, value in os.environ.items() if name not in KEY_VARIABLES} | dict(function.env)
        )
        self.secrets = function.secrets
        self.streams = function.kind in ("async stream", "sync stream")
        patience = _FIRST_EVENT_SECONDS if function.yields_events else None
        self.run: _Run = partial(_run_async, function.name, threads)
        if function.kind == "sync":
            self.run = partial(_run_sync, function.name, threads)
        elif function.kind == "async stream":
            self.run = partial(_run_stream, function.name, patience)
        elif function.kind == "sync stream":
            self.run = partial(_run_sync_stream, function.name, patience, threads)

    def arguments_of(self, invocation: Invocation, context: Context) -> dict[str, Any]:
        """All that the handler is given."""
        return self.inject(invocation.arguments, context, invocation.tick)

    def inject(self, arguments: dict[str, Any], context: Context, tick: Tick | None = None) -> dict[str, Any]:
        """These arguments, and those that come from us."""
        arguments = arguments | dict.fromkeys(self.context_names, context)
        if self.tick_names:
            arguments |= self._ticks(tick)
        if self._given:
            arguments |= self._given
        return arguments

    def _ticks(self, tick: Tick | None) -> dict[str, Tick]:
        """Arguments that are ticks. None: this call is none, and a parameter's default stands if it has one."""
        if tick is not None:
            return dict.fromkeys(self.tick_names, tick)
        return dict.fromkeys(self._needed_ticks, Tick(planned_at=datetime.now(UTC)))

    @cached_property
    def _given(self) -> dict[str, Any]:
        """The handler's resources, looked up at the first call: they are not open yet when it is prepared."""
        return {p.name: self._resources[p.resource] for p in self._function.parameters if p.injected == "resource"}


async def _run_async(name: str, threads: Threads, call: Callable[[], Any], timeout_seconds: float | None) -> Finished:
    finished = await run_async(name, call, timeout_seconds)
    return await _stream_of(name, threads, finished, timeout_seconds)


async def _stream_of(name: str, threads: Threads, finished: Finished, timeout_seconds: float | None) -> Finished:
    """What a handler returned, but a generator as the stream it is: a decorator's wrapper returns one so."""
    if issubclass(type(finished.value), AsyncGeneratorType):
        return await _run_stream(name, None, lambda: finished.value, timeout_seconds)
    if issubclass(type(finished.value), GeneratorType):
        return await _run_stream(name, None, lambda: in_threads(finished.value, threads), timeout_seconds)
    return finished


async def _run_sync(name: str, threads: Threads, call: Callable[[], Any], timeout_seconds: float | None) -> Finished:
    finished = await run_in_thread(threads, call, timeout_seconds)
    if isawaitable(finished.value):  # a plain function around an async one
        return await _run_async(name, threads, lambda: finished.value, timeout_seconds)
    return await _stream_of(name, threads, finished, timeout_seconds)


async def _run_stream(
    name: str, within_seconds: float | None, call: Callable[[], Any], timeout_seconds: float | None
) -> Finished:
    """Start a stream. An error in place of its first item is the outcome; within_seconds: do not wait longer for it."""
    stream = Stream(name, call(), timeout_seconds)
    first = await stream.peek(within_seconds)
    return first if first and (first.timed_out or first.error is not None) else Finished(value=stream)


async def _run_sync_stream(
    name: str,
    within_seconds: float | None,
    threads: Threads,
    call: Callable[[], Any],
    timeout_seconds: float | None,
) -> Finished:
    return await _run_stream(name, within_seconds, lambda: in_threads(call(), threads), timeout_seconds)
