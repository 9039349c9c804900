"""How a piece of work ended, and what is known of tasks: the shapes that callers of background see.

Made by runtime.tasks; knows no event loop.
"""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

import msgspec

from runtime.base.errors import TaskCancelled, TaskTimeout

R = TypeVar("R")

Ended = Literal["succeeded", "failed", "timeout", "cancelled", "not begun"]
State = Literal["queued", "running", "succeeded", "failed", "timeout", "cancelled"]


class TaskOutcome(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """How one ended, as a value.

    state: "succeeded", then `value` is what it returned; "failed", then `error` is what it raised; "timeout",
    "cancelled", or "not begun" (the time of all was over before), then `error` says so. `error` is None only if it
    succeeded. waited_seconds: before it began; seconds: how long it took.
    """

    state: Ended
    value: R | None = None
    error: BaseException | None = None
    waited_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.state == "succeeded"

    def result(self) -> R:
        """What it returned; raises `error` if it did not."""
        if self.error is not None:
            raise reraisable(self.error)
        return self.value  # type: ignore[return-value]  # what a function without a result returns is None


def reraisable(error: BaseException) -> BaseException:
    """What to raise to whoever waits: never what would end, or seem to cancel, the one that waits."""
    if isinstance(error, Exception):
        return error
    failure = RuntimeError(f"it raised {error!r}")
    failure.__cause__ = error
    return failure


def timed_out(name: str, seconds: float | None, of: str = "of its own") -> TaskOutcome[Any]:
    """Of one that took too long."""
    return TaskOutcome(state="timeout", error=TaskTimeout(f"{name} was not done when the {seconds:g} s {of} were over"))


def cancelled(name: str, why: str = "") -> TaskOutcome[Any]:
    """Of one that was cancelled."""
    return TaskOutcome(state="cancelled", error=TaskCancelled(f"{name} was cancelled" + (f": {why}" if why else "")))


def not_begun(name: str, why: str) -> TaskOutcome[Any]:
    """Of one whose turn did not come."""
    return TaskOutcome(state="not begun", error=TaskTimeout(f"{name} has not begun: {why}"))


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a background task.

    state: "queued", "running", "succeeded", "failed", "timeout", "cancelled". run_id: of the call that spawned it, ""
    outside of one. error: type and message of what it raised. Times: aware, UTC.
    """

    id: str
    function: str
    state: State
    run_id: str
    spawned: datetime
    began: datetime | None = None
    ended: datetime | None = None
    error: str = ""


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of this process. Since its start: spawned, succeeded, failed, timeout, cancelled, refused, with how many.

    Now: queued, running; left: still at work though their time was over; kept: ended, and not forgotten yet;
    threads, processes: busy ones.
    """

    spawned: int
    succeeded: int
    failed: int
    timeout: int
    cancelled: int
    refused: int
    queued: int
    running: int
    left: int
    kept: int
    threads: int
    processes: int
