"""Run a plain handler in the one task of its request, or in a thread, for a trigger that has nothing else to wait for.

Used by the HTTP trigger's short way, through Invoker.begin. What invoker and execute promise holds here: a task, or a
thread, and a context of its own, its timeout, its cancellation, and an end in time also where it ignores those.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import Context as Variables
from contextvars import Token, copy_context
from functools import partial
from inspect import isawaitable
from time import perf_counter
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Literal

from runtime.base.logs import end_prints, get_logger
from runtime.base.logs.prints import begun
from runtime.declare.context import Context, current
from runtime.invoke.execute import GRACE_SECONDS, Finished, Threads, abandon
from runtime.invoke.invocation import Invocation
from runtime.invoke.jobs import Job
from runtime.observe.counts import Cell

log = get_logger(__name__)

Why = Literal["timeout", "left", "given up"]
GENERATORS = (AsyncGeneratorType, GeneratorType)


class Deadlines:
    """Calls that have the same time, in the order of their beginning: one timer for all of them."""

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self._seconds = seconds
        self._loop = loop
        self._ends: dict[Direct, float] = {}
        self._is_set = False
        self._variables = Variables()  # its own: it is set from within a call's

    def add(self, call: "Direct") -> None:
        """It has so long, from now on."""
        self._ends[call] = self._loop.time() + self._seconds
        if not self._is_set:
            self._is_set = True
            self._loop.call_later(self._seconds, self._look, context=self._variables)

    def drop(self, call: "Direct") -> None:
        """It has ended."""
        self._ends.pop(call, None)

    def _look(self) -> None:
        now = self._loop.time()
        for call, end in list(self._ends.items()):
            if end > now:
                self._loop.call_later(end - now, self._look, context=self._variables)
                return
            del self._ends[call]
            call.cancel("timeout")
        self._is_set = False


class Direct(ABC):
    """One call: begun by `enter`, and one of `start` and `start_in`. In the context of `variables`, which are its own.

    task: the handler's, if it is in one. why: it was cancelled. over: it has ended, for its caller.

    succeeded, failed: to be overridden; one of them is called once, in the context of the call or of its task. They
    raise nothing, and wait for nothing. finished: None where it was cancelled.
    """

    __slots__ = (
        "_arguments", "_began", "_call", "_deadlines", "_job", "_loop", "_started", "_threads", "_token", "_variables",
        "cell", "context", "invocation", "over", "task", "why",
    )  # fmt: skip

    invocation: Invocation
    context: Context
    cell: Cell

    def enter(self, deadlines: Deadlines | None, variables: Variables, loop: asyncio.AbstractEventLoop) -> None:
        """Its time begins."""
        self._job: Job | None = None
        self._deadlines = deadlines
        self._variables = variables
        self._loop = loop
        self._started = self.over = False
        self.why: Why | None = None
        self._token: Token[Context] = current.set(self.context)
        self._began = perf_counter()
        self.cell.began()
        if deadlines is not None:
            deadlines.add(self)

    def start(self, call: Callable[..., Any], arguments: dict[str, Any]) -> None:
        """Run a coroutine function."""
        self._call = call
        self._arguments = arguments
        self.task: asyncio.Task[None] = self._loop.create_task(self._work(), context=self._variables)

    def start_in(self, threads: Threads, call: Callable[..., Any], arguments: dict[str, Any]) -> None:
        """Run a plain function."""
        self._threads = threads
        self._job = threads.hand(partial(call, **arguments), copy_context(), self._come_back, self._loop)

    def _come_back(self, finished: Finished) -> None:
        self._variables.run(self._end_in, finished)

    def _end_in(self, finished: Finished) -> None:
        """A thread has ended."""
        value = finished.value
        if finished.error is not None or isinstance(value, GENERATORS):
            self._end(finished)
        elif isawaitable(value):  # a plain function around an async one
            self._job = None
            self.start(lambda: value, {})
        else:
            self._leave()
            self.succeeded(value)

    def skip(self) -> None:
        """In place of `start`: there is nothing to run."""
        self._job = None
        self._began = perf_counter()
        self.over = True

    def cancel(self, why: Why) -> None:
        """End the handler; it has a moment for that."""
        job = self._job
        if self.over or self.why is not None or (job is not None and job.is_done):
            return
        self.why = why
        self.context.cancelled = True
        if job is not None:
            if not job.cancel():
                self._threads.leave(job)
            self._loop.call_soon(self._end, None, context=self._variables)
        elif self._started:  # else it never begins
            self.task.cancel()
            self._loop.call_later(GRACE_SECONDS, self._give_up, context=Variables())

    def _give_up(self) -> None:
        """What ignores its cancellation is left running."""
        if not self.over:
            abandon(self.invocation.function.name, self.task)
            self._variables.run(self._end, None, leaves=False)

    async def _work(self) -> None:
        self._started = True
        finished: Finished | None = None
        if self.why is None:
            try:
                value = await self._call(**self._arguments)
            except asyncio.CancelledError:
                finished = Finished(error=asyncio.CancelledError("raised by the handler itself"))
            except BaseException as error:  # noqa: BLE001 - asyncio lets SystemExit out of the loop
                finished = Finished(error=error)
            else:
                if not self._is_cancelled() and not isinstance(value, GENERATORS):
                    self._leave()
                    self.succeeded(value)
                    return
                finished = Finished(value=value)
        if not self.over:
            self._end(finished)

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
            self.cell.done(seconds, "cancelled")
        self.failed(finished, seconds)
        self._leave(leaves=leaves)

    def _leave(self, *, leaves: bool = True) -> None:
        self.over = True
        if self._deadlines is not None:
            self._deadlines.drop(self)
        if begun:
            end_prints(self.invocation.run_id)
        if leaves:
            current.reset(self._token)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return perf_counter() - self._began

    @abstractmethod
    def succeeded(self, value: Any) -> None:
        """It returned this, which is no generator. To be counted by whoever overrides this."""

    @abstractmethod
    def failed(self, finished: Finished | None, seconds: float) -> None:
        """It ended otherwise: counted already where it was cancelled, else to be counted."""
