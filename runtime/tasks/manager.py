"""The background tasks of one event loop: begin them, know them, end them.

Made by roles for the loop that runs handlers, else by the first call on a loop. `spawn`, `find`, `known`, `statistics`
and a task's `cancel` are for any thread; all else happens on the loop. Never swallows a failure: each is a line in the
log, with the call that spawned it.
"""

import asyncio
import random
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

import msgspec

from runtime.base.errors import BackgroundClosed, BackgroundFull, DuplicateTask, UnknownTask, did_you_mean
from runtime.base.ids import new_run_id
from runtime.base.logs import get_logger
from runtime.base.sections import BackgroundSettings
from runtime.invoke.threads.pool import Threads
from runtime.tasks.processes import Processes
from runtime.tasks.records import State, Statistics, TaskOutcome, cancelled
from runtime.tasks.task import Task
from runtime.tasks.work import GRACE_SECONDS, Begin, Begun, Lane, carry_out, in_thread, is_async, name_of, on_loop

log = get_logger(__name__)

_MOST_NAMED = 10

_at_work: ContextVar[Task[Any]] = ContextVar("fnrun_background_task")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to do in the background, and for how long at most. id: "" for one of ours.

    jitter_seconds: it waits for up to so long before. waits: whether a drain waits for it.
    """

    function: Callable[..., Any]
    call: Callable[[], Any]
    id: str = ""
    timeout_seconds: float | None = None
    jitter_seconds: float = 0.0
    waits: bool = True


class Manager:
    """Of the running loop. closed: it takes no more."""

    def __init__(self, settings: BackgroundSettings) -> None:
        self.loop = asyncio.get_running_loop()
        self.settings = settings
        self.closed = False
        self.on_loop = Lane(settings.concurrency)
        self.threads = Lane(settings.threads)
        self.processes = Lane(settings.processes)
        self.pool = Threads(settings.threads)
        self.cells = Processes(settings.processes)
        self._tasks: dict[str, Task[Any]] = {}
        self._open: dict[Task[Any], asyncio.Task[None] | None] = {}
        """And what carries each out; None until the loop has begun to."""
        self._ended: deque[tuple[float, Task[Any]]] = deque()
        self._forgetting: asyncio.TimerHandle | None = None
        self._counts: Counter[str] = Counter()
        self._in_lane = Counter[Lane]()
        self._lock = threading.Lock()

    # --- from any thread ----------------------------------------------------------------------------------------

    def spawn(self, job: Job) -> Task[Any]:
        """Have it done. BackgroundFull, BackgroundClosed, DuplicateTask; BackgroundError for a generator."""
        lane, begin = self.way_of(job.function, job.call)
        task: Task[Any] = Task(job.id or new_run_id(), name_of(job.function), copy_context(), self._cancel)
        task.is_waited_for = job.waits
        with self._lock:
            self._check(task.id, lane)
            self._tasks[task.id] = task
            self._open[task] = None
            self._in_lane[lane] += 1
            self._counts["spawned"] += 1
        start = partial(self._start, task, lane, begin, job)
        if self._is_here():
            start()
        else:
            try:
                self.loop.call_soon_threadsafe(start)
            except RuntimeError:  # the loop is closed
                with self._lock:
                    self._drop(task, lane)
                raise BackgroundClosed from None
        return task

    def _drop(self, task: Task[Any], lane: Lane) -> None:
        del self._tasks[task.id], self._open[task]
        self._in_lane[lane] -= 1

    def way_of(self, function: Callable[..., Any], call: Callable[[], Any]) -> tuple[Lane, Begin]:
        """Where a function runs, and how it is begun there. BackgroundError for a generator."""
        if is_async(function):
            return self.on_loop, partial(on_loop, name_of(function), call)
        return self.threads, partial(in_thread, self.pool, call)

    def _check(self, task_id: str, lane: Lane) -> None:
        if self.closed:
            raise BackgroundClosed
        known = self._tasks.get(task_id)
        if known is not None and not known.done:
            raise DuplicateTask(task_id, known.state)
        others = sum(max(0, count + one.left - one.limit) for one, count in self._in_lane.items())
        if self._in_lane[lane] + lane.left >= lane.limit and others >= self.settings.queue:
            self._counts["refused"] += 1
            raise BackgroundFull(self.settings.queue)

    def find(self, task_id: str) -> Task[Any]:
        """UnknownTask if there is none."""
        with self._lock:
            found = self._tasks.get(task_id)
            ids = list(self._tasks)
        if found is None:
            settings = self.settings
            why = f"one that has ended is known for {settings.keep}, the last {settings.keep_count} ([background] keep)"
            raise UnknownTask(task_id, why + did_you_mean(task_id, ids))
        return found

    def known(self, state: State | None = None) -> list[Task[Any]]:
        """Those that are open or kept, in the order they were spawned in."""
        with self._lock:
            found = list(self._tasks.values())
        return [task for task in found if state is None or task.state == state]

    def statistics(self) -> Statistics:
        """Plain counts."""
        with self._lock:
            found = list(self._open)
            counts, kept = dict(self._counts), len(self._ended)
        running = sum(1 for task in found if task.state == "running")
        words = ("spawned", "succeeded", "failed", "timeout", "cancelled", "refused")
        return Statistics(
            **{word: counts.get(word, 0) for word in words},
            queued=len(found) - running,
            running=running,
            left=sum(lane.left for lane in (self.on_loop, self.threads, self.processes)),
            kept=kept,
            threads=self.threads.busy,
            processes=self.processes.busy,
        )

    def _cancel(self, task: Task[Any]) -> bool:
        if task.done:
            return False
        if self._is_here():
            self._cancel_here(task)
        else:
            with suppress(RuntimeError):  # the loop is closed, and with it ended what ran there
                self.loop.call_soon_threadsafe(self._cancel_here, task)
        return True

    def _is_here(self) -> bool:
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    # --- on the loop --------------------------------------------------------------------------------------------

    def _start(self, task: Task[Any], lane: Lane, begin: Begin, job: Job) -> None:
        work = self._work(task, lane, begin, job)
        at_work = self.loop.create_task(work, context=task.context)
        self._open[task] = at_work
        at_work.add_done_callback(lambda _: self._note_end(task, lane))

    def _cancel_here(self, task: Task[Any]) -> None:
        if (at_work := self._open.get(task)) is not None:
            at_work.cancel()

    async def _work(self, task: Task[Any], lane: Lane, begin: Begin, job: Job) -> None:
        _at_work.set(task)  # in a context of its own
        if job.jitter_seconds:
            await asyncio.sleep(random.random() * job.jitter_seconds)  # noqa: S311 - no secret

        def begin_now() -> Begun:
            task.begin()
            return begin()

        outcome = await carry_out(task.function, lane, begin_now, job.timeout_seconds)
        if outcome.state == "failed":
            log.error("a background task failed", task=task.id, background=task.function, exc_info=outcome.error)
        elif outcome.state == "timeout":
            log.error(
                "a background task took too long", task=task.id, background=task.function, reason=str(outcome.error)
            )
        self._end(task, outcome)

    def _note_end(self, task: Task[Any], lane: Lane) -> None:
        """However it ended: by a cancellation before its first step, even, or by a fault of ours."""
        if not task.done:
            at_work = self._open[task]
            if at_work is not None and not at_work.cancelled() and (error := at_work.exception()) is not None:
                log.error("a background task failed", task=task.id, background=task.function, exc_info=error)
                self._end(task, TaskOutcome(state="failed", error=error))
            else:
                self._end(task, cancelled(f'background task "{task.id}"'))
        with self._lock:
            del self._open[task]
            self._in_lane[lane] -= 1
        self._forget()

    def _end(self, task: Task[Any], outcome: TaskOutcome[Any]) -> None:
        task.end(outcome)
        with self._lock:
            self._counts[task.state] += 1
            self._ended.append((self.loop.time() + float(self.settings.keep), task))

    def _forget(self) -> None:
        """Let go of those that ended long ago, or before many others; look again when the next one's time is over."""
        now = self.loop.time()
        with self._lock:
            while self._ended and (self._ended[0][0] <= now or len(self._ended) > self.settings.keep_count):
                _, task = self._ended.popleft()
                if self._tasks.get(task.id) is task:  # else another has its id
                    del self._tasks[task.id]
        if self._forgetting is None and self._ended and not self.closed:
            self._forgetting = self.loop.call_at(self._ended[0][0], self._forget_again)

    def _forget_again(self) -> None:
        self._forgetting = None
        self._forget()

    async def idle(self, within_seconds: float | None) -> bool:
        """Wait until no task is open, but for the one that asks, and those nobody waits for; whether that is so."""
        end = None if within_seconds is None else self.loop.time() + within_seconds
        me = _at_work.get(None)
        while others := [at_work for task, at_work in self._open.items() if task is not me and task.is_waited_for]:
            left = None if end is None else end - self.loop.time()
            if left is not None and left <= 0:
                return False
            at_work = [one for one in others if one is not None]
            if at_work:
                await asyncio.wait(at_work, timeout=left)
            else:
                await asyncio.sleep(0)  # spawned by a thread a moment ago
        return True

    async def drain(self, within_seconds: float) -> bool:
        """Take no more, and wait for those that are open; whether they are over."""
        self.closed = True
        return await self.idle(within_seconds)

    async def close(self, within_seconds: float) -> None:
        """Take no more; wait so long for those that are open, then cancel them, and let them clean up for a moment."""
        if self._forgetting is not None:
            self._forgetting.cancel()
        if not await self.drain(within_seconds):
            log.warning("background tasks are cancelled, for the process ends", **self._named())
        for task in list(self._open):
            task.is_waited_for = True
            self._cancel_here(task)
        await self.idle(GRACE_SECONDS + 0.5)  # what goes on after that names itself
        self.pool.close()
        await self.cells.close()

    def _named(self) -> dict[str, Any]:
        with self._lock:
            found = [f"{task.id} ({task.function})" for task in self._open]
        return {"count": len(found), "tasks": found[:_MOST_NAMED]}
