"""A background task, as who spawned it holds it: its state, its result, its end.

Made by the manager, which alone changes it, on its event loop. Read from any thread.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from typing_extensions import override

from runtime.base.durations import Duration, parse_duration
from runtime.base.errors import BackgroundError
from runtime.base.secrets.masking import mask
from runtime.declare.context import current
from runtime.tasks.records import State, TaskOutcome, TaskView

R_co = TypeVar("R_co", covariant=True)


class Task(Generic[R_co]):
    """A function at work in the background. id: unique among those of this process that are open."""

    __slots__ = (
        "_began",
        "_done",
        "_ended",
        "_spawned",
        "context",
        "function",
        "id",
        "is_waited_for",
        "outcome",
        "run_id",
        "stop",
    )

    def __init__(self, id: str, function: str, context: Context, stop: Callable[["Task[Any]"], bool]) -> None:  # noqa: A002 - it is what users call it
        self.id = id
        self.function = function
        self.context = context
        self.stop = stop
        spawner = context.get(current)
        self.run_id = "" if spawner is None else spawner.run_id
        self.is_waited_for = True
        self.outcome: TaskOutcome[Any] | None = None
        self._spawned = time.time()
        self._began: float | None = None
        self._ended: float | None = None
        self._done: Future[None] = Future()
        self._done.set_running_or_notify_cancel()  # so that no one who waits for it can cancel it

    @override
    def __repr__(self) -> str:
        return f"Task({self.id!r}, {self.state})"

    @property
    def state(self) -> State:
        """ "queued", "running"; "succeeded", "failed", "timeout" or "cancelled" in the end."""
        if self.outcome is None:
            return "queued" if self._began is None else "running"
        return "cancelled" if self.outcome.state == "not begun" else self.outcome.state

    @property
    def done(self) -> bool:
        """Whether it is over."""
        return self.outcome is not None

    def status(self) -> TaskView:
        """What is known of it now."""
        error = "" if self.outcome is None or self.outcome.error is None else _said(self.outcome.error)
        return TaskView(
            id=self.id,
            function=self.function,
            state=self.state,
            run_id=self.run_id,
            spawned=datetime.fromtimestamp(self._spawned, UTC),
            began=None if self._began is None else datetime.fromtimestamp(self._began, UTC),
            ended=None if self._ended is None else datetime.fromtimestamp(self._ended, UTC),
            error=error,
        )

    async def result(self, timeout: Duration | None = None) -> R_co:  # noqa: ASYNC109 - what users of Run know
        """What the function returned, once it has; raises what it raised, TaskTimeout, TaskCancelled.

        timeout: how long to wait: TimeoutError if it is not over by then; it goes on.
        """
        if self.outcome is None:
            seconds = None if timeout is None else parse_duration(timeout)
            await asyncio.wait((asyncio.wrap_future(self._done),), timeout=seconds)
        return self._result(timeout)

    def result_sync(self, timeout: Duration | None = None) -> R_co:
        """As `result`, for sync code in a thread; it blocks. BackgroundError where that would stop an event loop."""
        if self.outcome is None:
            if _in_loop():
                raise BackgroundError("result_sync would stop the event loop it is called on; await task.result()")
            with suppress(TimeoutError):
                self._done.result(None if timeout is None else parse_duration(timeout))
        return self._result(timeout)

    def cancel(self) -> bool:
        """Have it end: False if it is over already. A thread cannot be ended: it is left, and nobody waits for it."""
        return self.stop(self)

    def begin(self) -> None:
        """Note that it is at work."""
        self._began = time.time()

    def end(self, outcome: TaskOutcome[Any]) -> None:
        """Note how it ended; wakes those who wait."""
        self._ended = time.time()
        self.outcome = outcome
        self._done.set_result(None)

    def _result(self, timeout: Duration | None) -> R_co:
        if self.outcome is None:
            raise TimeoutError(f'background task "{self.id}" is {self.state} after {timeout} and goes on')
        return self.outcome.result()  # type: ignore[no-any-return]  # an outcome here is of any function


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _said(error: BaseException) -> str:
    """Its type and message. An author's exception may raise when it is asked for it."""
    try:
        message = mask(str(error))
    except BaseException as another:  # noqa: BLE001 - as said
        message = f"(its __str__ raised {type(another).__name__})"
    return f"{type(error).__name__}: {message}"[:1000]
