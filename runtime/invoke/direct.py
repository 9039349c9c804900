"""Run a plain handler in the one task of its request, or in a thread, for a trigger that has nothing else to wait for.

Used by the short ways of HTTP and of queues, which have a Start of the invoker's for each route, or function. Part of
every plain call: what can be known before is looked up once. What invoker and execute promise holds here: a task, or a
thread, and a context of its own, its timeout, its cancellation, and an end in time also where it ignores those.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context as Variables
from contextvars import Token, copy_context
from functools import partial
from time import perf_counter, time
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Literal

import msgspec

from runtime.base.ids import Trace
from runtime.base.logs import end_prints, get_logger
from runtime.base.logs.prints import begun
from runtime.base.secrets.given import Secrets
from runtime.declare.context import Context, current
from runtime.declare.registry import Function
from runtime.declare.resources import Opened
from runtime.invoke.execute import GRACE_SECONDS, abandon
from runtime.invoke.invocation import Invocation
from runtime.invoke.threads.jobs import Job
from runtime.invoke.threads.pool import Finished, Threads
from runtime.observe.board import BEGAN
from runtime.observe.counts import Cell

log = get_logger(__name__)

Why = Literal["timeout", "left", "given up"]
GENERATORS = (AsyncGeneratorType, GeneratorType)


def is_generator(value: object) -> bool:
    """By its type alone: to ask a proxy of the author's for its class may raise."""
    return issubclass(type(value), GENERATORS)


class Deadlines:
    """Calls that have the same time, in the order of their beginning: one timer for all of them."""

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self._seconds = seconds
        self._loop = loop
        self._calls: dict[Direct, None] = {}
        self._is_set = False
        self._variables = Variables()  # its own: it is set from within a call's

    def add(self, call: "Direct") -> None:
        """It has so long, from its beginning, which is now."""
        self._calls[call] = None
        if not self._is_set:
            self._is_set = True
            self._loop.call_later(self._seconds, self._look, context=self._variables)

    def drop(self, call: "Direct") -> None:
        """It has ended."""
        self._calls.pop(call, None)

    def _look(self) -> None:
        for call in list(self._calls):
            left_seconds = self._seconds - call.seconds
            if left_seconds > 0:
                self._loop.call_later(left_seconds, self._look, context=self._variables)
                return
            del self._calls[call]
            call.cancel("timeout")
        self._is_set = False


class Start(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How calls of a function by one trigger begin: all of it that is known before the first.

    inject: the arguments with what else the handler is given; None where that is nothing. threads: where it runs, None
    for a coroutine function. deadlines: None where its calls may take any time.
    """

    function: Function
    name: str
    trigger: str
    call: Callable[..., Any]
    env: Mapping[str, str]
    secrets: Secrets
    resources: Opened
    timeout_seconds: float | None
    inject: Callable[[dict[str, Any], Context], dict[str, Any]] | None
    cell: Cell
    threads: Threads | None
    deadlines: Deadlines | None
    loop: asyncio.AbstractEventLoop

    def context_of(
        self, run_id: str, trace: Trace, attempt: int = 1, report: Callable[[bytes], None] | None = None
    ) -> Context:
        """That of a call."""
        return Context(
            run_id, self.name, self.trigger, attempt, self.env, trace, time(), self.timeout_seconds, report,
            self.resources, self.secrets,
        )  # fmt: skip

    def begin(self, call: "Direct") -> bool:
        """Run it in a task of its own, or in a thread; False, and nothing has happened, where it has to be `invoke`.

        To be called in its variables. Whoever overrides Direct counts how it ended.
        """
        threads = self.threads
        if self.inject is not None:
            try:
                call.arguments = self.inject(call.arguments, call.context)
            except Exception:  # noqa: BLE001 - said by `invoke`, which meets it again
                return False
        if threads is not None and threads.is_closed:
            return False
        call.token = current.set(call.context)
        call.began = perf_counter()
        self.cell.numbers[BEGAN] += 1.0
        if self.deadlines is not None:
            self.deadlines.add(call)
        if threads is None:
            call.task = self.loop.create_task(call.work(self.call, call.arguments), context=call.variables)
        else:
            job = partial(self.call, **call.arguments)
            call.job = threads.hand(job, copy_context(), call.come_back, self.loop)
        return True


class Direct(msgspec.Struct, eq=False):
    """One call, in the context of `variables`, which are its own. What has a default is for this module.

    run_id, trace: whatever the handler makes of those in its Context. task: the handler's, if it is in one. why: it was
    cancelled. over: it has ended, for its caller.

    succeeded, failed: to be overridden; one of them is called once, in the context of the call or of its task. They
    raise nothing, and wait for nothing. finished: None where it was cancelled.
    """

    start: Start
    run_id: str
    trace: Trace
    context: Context
    variables: Variables
    arguments: dict[str, Any] = {}
    task: asyncio.Task[None] | None = None
    why: Why | None = None
    over: bool = False
    job: Job | None = None
    began: float = 0.0
    token: Token[Context] | None = None
    _started: bool = False

    @property
    def invocation(self) -> Invocation:
        """What `Invoker.invoke` would be given."""
        start = self.start
        return Invocation(
            function=start.function,
            trigger=start.trigger,
            arguments=self.arguments,
            run_id=self.run_id,
            trace=self.trace,
            timeout_seconds=start.timeout_seconds,
        )

    def come_back(self, finished: Finished) -> None:
        """Its thread has ended."""
        self.variables.run(self._end_in, finished)

    def _end_in(self, finished: Finished) -> None:
        value = finished.value
        if finished.error is not None or is_generator(value):
            self._end(finished)
        elif hasattr(type(value), "__await__"):  # a plain function around an async one
            self.job = None
            self.task = self.start.loop.create_task(self.work(lambda: value, {}), context=self.variables)
        else:
            self._succeed(value)

    def skip(self) -> None:
        """There is nothing to run, and it does not begin."""
        self.began = perf_counter()
        self.over = True

    def cancel(self, why: Why) -> None:
        """End the handler; it has a moment for that."""
        job = self.job
        if self.over or self.why is not None or (job is not None and job.is_done):
            return
        self.why = why
        self.context.cancelled = True
        loop = self.start.loop
        if job is not None:
            if not job.cancel() and self.start.threads is not None:
                self.start.threads.leave(job)
            loop.call_soon(self._end, None, context=self.variables)
        elif self.task is not None and self.task.done():  # somebody has cancelled it before its first step
            loop.call_soon(self._end, None, context=self.variables)
        elif self._started and self.task is not None:  # else it never begins
            self.task.cancel()
            loop.call_later(GRACE_SECONDS, self._give_up, context=Variables())

    def _give_up(self) -> None:
        """What ignores its cancellation is left running."""
        if not self.over and self.task is not None:
            self.variables.run(abandon, self.start.name, self.task)
            self.variables.run(self._end, None, leaves=False)

    async def work(self, call: Callable[..., Any], arguments: dict[str, Any]) -> None:
        """What its task does."""
        self._started = True
        finished: Finished | None = None
        if self.why is None:
            try:
                value = await call(**arguments)
            except asyncio.CancelledError:
                finished = Finished(error=asyncio.CancelledError("raised by the handler itself"))
            except BaseException as error:  # noqa: BLE001 - asyncio lets SystemExit out of the loop
                finished = Finished(error=error)
            else:
                if not self._is_cancelled() and not is_generator(value):
                    self._succeed(value)
                    return
                finished = Finished(value=value)
        if not self.over:
            self._end(finished)
        del finished  # the traceback of its error knows this frame

    def _succeed(self, value: Any) -> None:
        self._leave()
        self.succeeded(value)
        if begun:
            end_prints(self.run_id)

    def _is_cancelled(self) -> bool:
        return self.why is not None

    def _end(self, finished: Finished | None, *, leaves: bool = True) -> None:
        """leaves: the handler's code has ended, too; else it keeps its Context."""
        if self.why == "timeout":
            finished = Finished(timed_out=True)
        elif self.why is not None:
            finished = None
        seconds = self.seconds
        if finished is None:
            self.start.cell.done(seconds, "cancelled")
        self.failed(finished, seconds)
        self._leave()
        if begun:
            end_prints(self.run_id)
        if leaves and self.token is not None:
            current.reset(self.token)

    def _leave(self) -> None:
        self.over = True
        if self.start.deadlines is not None:
            self.start.deadlines.drop(self)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return perf_counter() - self.began

    def succeeded(self, value: Any) -> None:
        """It returned this, which is no generator. To be counted by whoever overrides this."""
        raise NotImplementedError  # a Struct enforces no abstract methods

    def failed(self, finished: Finished | None, seconds: float) -> None:
        """It ended otherwise: counted already where it was cancelled, else to be counted."""
        raise NotImplementedError  # a Struct enforces no abstract methods
