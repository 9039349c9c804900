"""Run a handler: on the event loop, in a thread, or as a stream; and end the wait for it when its time is over.

Called by the invoker. A handler always runs in a task, or a thread, and a context of its own. Whatever it raises,
SystemExit included, comes back as a value: nothing an author's code does reaches the server.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, Self

from runtime.base.logs import get_logger
from runtime.invoke.slot import Slot
from runtime.invoke.threads.pool import Finished, Threads

log = get_logger(__name__)

GRACE_SECONDS = 1.0
"""How long a cancelled handler may take to clean up before its caller is answered without it."""

_abandoned: set[asyncio.Future[Any]] = set()
"""Handlers that swallowed their cancellation; asyncio itself keeps only weak references to tasks."""


Left = asyncio.Future[Any] | Future[Any]
"""A handler that goes on though its caller has been answered."""

_left: ContextVar[list[Left] | None] = ContextVar("fnrun_left", default=None)


@contextmanager
def noting_what_is_left() -> Iterator[list[Left]]:
    """Within: the handlers that are left running, whatever becomes of their callers. One list, if nested."""
    if (noted := _left.get()) is not None:
        yield noted
        return
    noted = []
    token = _left.set(noted)
    try:
        yield noted
    finally:
        _left.reset(token)


def _leave(handler: Left) -> None:
    if (noted := _left.get()) is not None:
        noted.append(handler)


async def run_async(name: str, call: Callable[[], Any], timeout_seconds: float | None) -> Finished:
    """Await `call()` in a task of its own. When the time is over it is cancelled, and left if it ignores that."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(_catch_async(call))
    try:
        await _wait_for(task, timeout_seconds, loop)
    except asyncio.CancelledError:
        await _stop(name, task)
        raise
    if not task.done():
        await _stop(name, task)
        return Finished(timed_out=True)
    if task.cancelled():
        return Finished(error=asyncio.CancelledError("raised by the handler itself"))
    return task.result()


async def run_in_thread(threads: Threads, call: Callable[[], Any], timeout_seconds: float | None) -> Finished:
    """Run `call()` in a thread. When the time is over the thread is left to end by itself."""
    job = threads.start(call, copy_context())
    try:
        loop = asyncio.get_running_loop()
        await _wait_for(asyncio.wrap_future(job, loop=loop), timeout_seconds, loop)
    finally:
        if not job.cancel() and not job.done():  # if it still waits for a thread, it shall not begin
            threads.leave(job)
            _leave(job)
    return job.result() if job.done() and not job.cancelled() else Finished(timed_out=True)


async def _wait_for(
    future: asyncio.Future[Any], timeout_seconds: float | None, loop: asyncio.AbstractEventLoop
) -> None:
    """Return when it is done, or the time is over; as asyncio.wait, at a third of its cost."""
    waiter = loop.create_future()
    wake = partial(_wake, waiter)
    future.add_done_callback(wake)
    timer = None if timeout_seconds is None else loop.call_later(timeout_seconds, wake, None)
    try:
        await waiter
    finally:
        future.remove_done_callback(wake)
        if timer is not None:
            timer.cancel()


def _wake(waiter: asyncio.Future[None], _: object) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def _catch_async(call: Callable[[], Any]) -> Finished:
    try:
        return Finished(value=await call())
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - asyncio lets SystemExit out of the loop, which ends the server
        return Finished(error=error)


async def _stop(name: str, task: asyncio.Task[Any]) -> None:
    """Cancel a handler's task and give it a moment; leave it, named in the log, if it goes on."""
    task.cancel()
    await asyncio.wait((task,), timeout=GRACE_SECONDS)
    if not task.done():
        abandon(name, task)


def abandon(name: str, task: asyncio.Task[Any]) -> None:
    """Leave a handler that ignores its cancellation."""
    _abandoned.add(task)
    task.add_done_callback(_abandoned.discard)
    _leave(task)
    log.error("handler ignores its cancellation and was left running", function=name, grace_seconds=GRACE_SECONDS)


class Stream:
    """The items of a generator handler, made by one task of its own, at most one ahead of whoever reads them.

    Iterate once, then `aclose`. Raises what the handler raised, or TimeoutError if the next item takes too long.
    """

    def __init__(self, name: str, items: AsyncGenerator[Any], timeout_seconds: float | None) -> None:
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._slot = Slot()
        self._peeked: Any = None
        self._has_peeked = False
        self._waited_seconds = 0.0
        self._task = asyncio.create_task(self._produce(items))
        self._left = _left.get()
        self._on_end: list[Callable[[], object]] = []
        self.complete = False
        self.error: BaseException | None = None

    def on_end(self, call: Callable[[], object]) -> None:
        """Have this called once, when the stream is closed. complete, error: how it went until then."""
        self._on_end.append(call)

    def __aiter__(self) -> Self:
        return self

    async def peek(self, within_seconds: float | None = None) -> Finished | None:
        """Wait for the next item, which stays the next to be read, or for what came in its place.

        within_seconds: return None if there is none yet by then, though its time is not over.
        """
        if not self._has_peeked:
            left = None if self._timeout_seconds is None else self._timeout_seconds - self._waited_seconds
            wait = min((s for s in (left, within_seconds) if s is not None), default=None)
            try:
                self._peeked = await self._slot.get(wait)
            except TimeoutError:
                if wait != left:
                    self._waited_seconds += wait or 0.0
                    return None
                await self.aclose()
                self._peeked = Finished(timed_out=True)
            except asyncio.CancelledError:
                await self.aclose()
                raise
            self._has_peeked, self._waited_seconds = True, 0.0
        return self._peeked if isinstance(self._peeked, Finished) else Finished(value=self._peeked)

    async def __anext__(self) -> Any:
        await self.peek()
        item, self._peeked, self._has_peeked = self._peeked, None, False
        if not isinstance(item, Finished):
            return item
        error = TimeoutError("the next item took longer than its timeout") if item.timed_out else item.error
        self.error, self.complete = error, error is None
        if error is None:
            raise StopAsyncIteration
        if isinstance(error, Exception):
            raise error
        raise RuntimeError(f"the handler raised {error!r}") from error

    async def aclose(self) -> None:
        """End the handler, wherever it is."""
        token = _left.set(self._left)  # whoever closes it is not always who began it
        try:
            if not self._task.done():
                await _stop(self._name, self._task)
        finally:
            _left.reset(token)
            self._slot.close()
            while self._on_end:
                self._on_end.pop(0)()

    async def _produce(self, items: AsyncGenerator[Any]) -> None:
        end = Finished()
        try:
            async for item in items:
                await self._slot.put(item)
        except BaseException as error:  # noqa: BLE001 - as above
            end = Finished(error=error)
        finally:
            finished = await _catch_async(items.aclose)
        if not self._task.cancelling():  # else nobody reads the end, and to wait for that would swallow it
            await self._slot.put(end if end.error is not None else finished)


async def in_threads(generator: Generator[Any], threads: Threads) -> AsyncIterator[Any]:
    """The items of a sync generator, each made in a thread, all in one context. Left early, it is closed in one too."""
    context, end = copy_context(), object()

    def close(_: object) -> None:
        with suppress(RuntimeError):  # the threads are closed: the process ends
            threads.start(generator.close, context)

    step: Future[Finished] | None = None
    try:
        while True:
            step = threads.start(partial(next, generator, end), context)
            finished = await asyncio.wrap_future(step)
            if finished.error is not None:
                raise finished.error
            if finished.value is end:
                return
            yield finished.value
    finally:
        if step is not None:
            if not step.done():
                threads.leave(step)
                _leave(step)
            step.add_done_callback(close)  # at once, or when the step that nobody waits for any more is done


async def settle(within_seconds: float) -> None:
    """Wait for what else is on this loop, so long at most: what was cancelled cleans up."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        await asyncio.wait(tasks, timeout=within_seconds)
