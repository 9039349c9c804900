"""Many calls of one function at once: an outcome for each, in order, whatever becomes of it.

Called by runtime.tasks.api. All that it begins has ended, or is named in the log, when it returns: it belongs to its
caller.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import msgspec

from runtime.base.errors import BackgroundError
from runtime.tasks.records import TaskOutcome, cancelled, not_begun, timed_out
from runtime.tasks.work import Begin, Begun, Lane, carry_out


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """concurrency: calls at once. task_seconds: of each, from when it begins. total_seconds: of all.

    jitter_seconds: each waits for up to so long before it begins.
    """

    concurrency: int
    task_seconds: float | None = None
    total_seconds: float | None = None
    jitter_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not (type(self.concurrency) is int and self.concurrency >= 1):
            raise BackgroundError(f"concurrency={self.concurrency!r}: write a whole number of at least 1")


class _Many:
    def __init__(self, name: str, lane: Lane | None, begins: Sequence[Begin], bounds: Bounds) -> None:
        self._name = name
        self._lane = lane
        self._begins = begins
        self._bounds = bounds
        self._next = iter(range(len(begins)))
        self._begun: set[int] = set()
        self._outcomes: dict[int, TaskOutcome[Any]] = {}

    async def outcomes(self) -> list[TaskOutcome[Any]]:
        """Of all, in order."""
        loop, count = asyncio.get_running_loop(), len(self._begins)
        workers = [loop.create_task(self._work()) for _ in range(min(self._bounds.concurrency, count))]
        try:
            if workers:
                await asyncio.wait(workers, timeout=self._bounds.total_seconds)
        finally:
            at_work = [worker for worker in workers if not worker.done()]
            for worker in at_work:
                worker.cancel()
            if at_work:
                await asyncio.wait(at_work)  # not for long: nobody waits for what swallows its cancellation
        for worker in workers:
            if not worker.cancelled() and (error := worker.exception()) is not None:
                raise error
        return [self._outcomes.get(index) or self._unfinished(index) for index in range(count)]

    async def _work(self) -> None:
        for index in self._next:
            if self._bounds.jitter_seconds:
                await asyncio.sleep(random.random() * self._bounds.jitter_seconds)  # noqa: S311 - no secret
            self._outcomes[index] = await self._one(index)

    async def _one(self, index: int) -> TaskOutcome[Any]:
        def begin() -> Begun:
            self._begun.add(index)
            return self._begins[index]()

        try:
            return await carry_out(self._name, self._lane, begin, self._bounds.task_seconds)
        except Exception as error:  # noqa: BLE001 - it cannot be begun: no thread, no process to be had
            return TaskOutcome(state="failed", error=error)

    def _unfinished(self, index: int) -> TaskOutcome[Any]:
        """Of one that was cut off with its worker."""
        total = self._bounds.total_seconds
        if total is None:
            return cancelled(self._name, "with the event loop")
        if index in self._begun:
            return timed_out(self._name, total, "of all")
        return not_begun(self._name, f"the {total:g} s of all were over")


async def gather(name: str, lane: Lane | None, begins: Sequence[Begin], bounds: Bounds) -> list[TaskOutcome[Any]]:
    """An outcome for each of them, in their order. lane: where they also wait for a place, one at a time each."""
    return await _Many(name, lane, begins, bounds).outcomes()
