"""One piece of work: on the event loop, in a thread, wherever; with its place, its time, and its end.

Called by runtime.tasks. Whatever a function raises comes back as a value. One that outlives its end (a thread, or a
coroutine that swallows its cancellation) keeps its place until it is really over, and is named in the log.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from inspect import isasyncgenfunction, isawaitable, iscoroutinefunction, isgeneratorfunction
from typing import Any

from runtime.base.errors import BackgroundError
from runtime.base.logs import get_logger
from runtime.invoke.threads.pool import Finished, Threads
from runtime.tasks.records import TaskOutcome, cancelled, timed_out

log = get_logger(__name__)

GRACE_SECONDS = 2.0
"""How long what is cancelled may take to clean up before nobody waits for it any longer."""


class Lane:
    """So many places; those who wait get one in their order. Used on one event loop.

    open: how many have a place or wait for one. busy: how many have one. left: of these, whom nobody waits for.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.busy = 0
        self.left = 0
        self._places = asyncio.Semaphore(limit)

    async def enter(self) -> None:
        """Wait for a place."""
        await self._places.acquire()
        self.busy += 1

    def leave(self) -> None:
        """Give it back."""
        self.busy -= 1
        self._places.release()


class Begun:
    """Work that has begun. end: set with how it ended. stop: asks it to end, says how many seconds that may take."""

    __slots__ = ("end", "stop")

    def __init__(self, end: asyncio.Future[Finished], stop: Callable[[], float]) -> None:
        self.end = end
        self.stop = stop


Begin = Callable[[], Begun]
"""Begin a piece of work, now, in the context of the caller."""


def on_loop(name: str, call: Callable[[], Awaitable[Any]]) -> Begun:
    """Await `call()` in a task of its own, of that name: who holds the loop is told by it."""
    task = asyncio.get_running_loop().create_task(_catch(call), name=name)

    def stop() -> float:
        task.cancel()
        return GRACE_SECONDS

    return Begun(task, stop)


def in_thread(threads: Threads, call: Callable[[], Any]) -> Begun:
    """Run `call()` in a thread, which cannot be ended: whoever stops it leaves it. What it returns may be awaitable."""
    job = threads.start(call, copy_context())
    task = asyncio.get_running_loop().create_task(_follow(asyncio.wrap_future(job)))

    def stop() -> float:
        if job.done():
            task.cancel()
            return GRACE_SECONDS
        return 0.0

    return Begun(task, stop)


async def _follow(job: asyncio.Future[Finished]) -> Finished:
    finished = await job
    if isawaitable(finished.value):  # a plain function around an async one
        return await _catch(lambda: finished.value)
    return finished


async def _catch(call: Callable[[], Awaitable[Any]]) -> Finished:
    try:
        return Finished(value=await call())
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - asyncio lets SystemExit out of the loop, which ends the process
        return Finished(error=error)


def name_of(function: Callable[..., Any]) -> str:
    """How logs call it."""
    function = getattr(function, "func", function)  # of a partial
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call of it is to be awaited. BackgroundError for a generator, which has no one result."""
    while isinstance(function, partial):
        function = function.func
    called = getattr(function, "__call__", None)  # noqa: B004 - of an object that is called like a function
    if any(isgeneratorfunction(one) or isasyncgenfunction(one) for one in (function, called)):
        raise BackgroundError(f"{name_of(function)} yields: give a function that returns its one result")
    return iscoroutinefunction(function) or iscoroutinefunction(called)


async def carry_out(name: str, lane: Lane | None, begin: Begin, timeout_seconds: float | None) -> TaskOutcome[Any]:
    """Begin it once there is a place, and wait for its end; when its time is over, or the caller is cancelled, stop it.

    Raises nothing but the cancellation of its caller.
    """
    asked = time.monotonic()
    if lane is not None:
        await lane.enter()
    try:
        begun = begin()
    except BaseException:
        if lane is not None:
            lane.leave()
        raise
    if lane is not None:
        begun.end.add_done_callback(lambda _: lane.leave())
    return await finish(name, begun, timeout_seconds, asked=asked, lane=lane)


async def finish(
    name: str, begun: Begun, timeout_seconds: float | None, *, asked: float, lane: Lane | None = None
) -> TaskOutcome[Any]:
    """Wait for the end of what has begun, but no longer than that."""
    began = time.monotonic()
    try:
        await asyncio.wait((begun.end,), timeout=timeout_seconds)
    except asyncio.CancelledError:
        await _stop(name, begun, lane)
        raise
    if not begun.end.done():
        await _stop(name, begun, lane)
        outcome = timed_out(name, timeout_seconds)
    elif begun.end.cancelled():
        outcome = cancelled(name, "by itself")
    elif begun.end.result().timed_out:  # it keeps its time itself
        outcome = TaskOutcome(state="timeout", error=begun.end.result().error)
    elif (error := begun.end.result().error) is not None:
        outcome = TaskOutcome(state="failed", error=error)
    else:
        outcome = TaskOutcome(state="succeeded", value=begun.end.result().value)
    return TaskOutcome(
        state=outcome.state,
        value=outcome.value,
        error=outcome.error,
        waited_seconds=began - asked,
        seconds=time.monotonic() - began,
    )


async def _stop(name: str, begun: Begun, lane: Lane | None) -> None:
    """Ask it to end, give it a moment; leave it, named in the log, if it goes on."""
    grace_seconds = begun.stop()
    try:
        if grace_seconds:
            await asyncio.wait((begun.end,), timeout=grace_seconds)
    finally:
        if not begun.end.done():
            _leave(name, begun, lane)


_left: set[asyncio.Future[Finished]] = set()
"""asyncio itself keeps only weak references to tasks."""


def _leave(name: str, begun: Begun, lane: Lane | None) -> None:
    log.warning("a function goes on though nobody waits for it; its place is free once it has ended", background=name)
    _left.add(begun.end)
    begun.end.add_done_callback(_left.discard)
    if lane is not None:
        lane.left += 1
        begun.end.add_done_callback(lambda _: _come_back(lane))


def _come_back(lane: Lane) -> None:
    lane.left -= 1
