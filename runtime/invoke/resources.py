"""Open what functions/_lifespan.py declares, run its hooks, and close everything again.

Used by every role and command that runs handlers, on the loop that runs them. A resource is entered and left by one
task of its own, so that task groups and cancel scopes in it work, and one that hangs holds up no other; a sync one by
one thread of its own. What fails names itself: at the start it is a StartError, at the end a line in the log.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import copy_context
from functools import partial
from inspect import isawaitable, iscoroutine, iscoroutinefunction
from types import AsyncGeneratorType, GeneratorType, TracebackType
from typing import Any, Self

from runtime.base.errors import StartError
from runtime.base.logs import get_logger
from runtime.declare.lifespan import Lifespan
from runtime.declare.resources import Hook, Opened, Resource
from runtime.invoke.execute import run_async, run_in_thread
from runtime.invoke.threads.pool import Finished, Threads

log = get_logger(__name__)

CLOSE_SECONDS = 10.0
"""How long each resource may take to close, and each shutdown hook to run."""
_GRACE_SECONDS = 1.0
"""How long one that took longer may take to end when it is cancelled."""


class Resources:
    """The resources of one process. opened: them by name, empty until `open`; the same object all the time.

    `async with Resources(lifespan) as resources` opens and closes them.
    """

    def __init__(self, lifespan: Lifespan) -> None:
        self._lifespan = lifespan
        self._values: dict[str, Any] = {}
        self._held: list[_Held] = []
        self._started = False
        self.opened = Opened(self._values)
        self.left = 0
        """How many could not be closed, or hooks not be ended: a thread may be among them, which keeps a process."""

    async def open(self, stop: asyncio.Event | None = None) -> bool:
        """Open the resources, one after the other, and run the start-up hooks; True.

        stop: False if that is set before all is done. StartError that names what failed. Either way, and if the caller
        is cancelled, what was open by then is closed again.
        """
        if stop is None:
            await self._open_all()
            return True
        opening, stopping = asyncio.create_task(self._open_all()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if not opening.done():
                opening.cancel()
                await asyncio.wait((opening,))
        if opening.cancelled():
            return False
        opening.result()
        return True

    async def _open_all(self) -> None:
        try:
            for resource in self._lifespan.resources:
                held = _Held(resource, self._arguments(resource))
                self._held.append(held)
                self._values[resource.name] = await held.value()
            for hook in self._lifespan.startup:
                await self._start(hook)
        except BaseException:
            await self._close_all()
            raise
        self._started = True

    async def close(self) -> None:
        """Run the shutdown hooks, if it came to be open, and close the resources, last one first. Raises nothing."""
        hooks, self._started = self._lifespan.shutdown if self._started else (), False
        for hook in hooks:
            finished = await self._run(hook, CLOSE_SECONDS)
            if finished.timed_out:
                self.left += 1
                log.error("takes too long and was left", what=str(hook), place=hook.place, seconds=CLOSE_SECONDS)
            elif finished.error is not None:
                log.error("failed", what=str(hook), place=hook.place, exc_info=finished.error)
        await self._close_all()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _close_all(self) -> None:
        while self._held:
            self.left += not await self._held.pop().close()
        self._values.clear()

    async def _start(self, hook: Hook) -> None:
        finished = await self._run(hook, None)
        if finished.error is not None:
            raise _failed(hook, "failed", finished.error)

    async def _run(self, hook: Hook, timeout_seconds: float | None) -> Finished:
        call = partial(hook.call, **self._arguments(hook))
        if iscoroutinefunction(hook.call):
            return await run_async(str(hook), call, timeout_seconds)
        threads = Threads(1)
        try:
            finished = await run_in_thread(threads, call, timeout_seconds)
        finally:
            threads.close()
        if isawaitable(finished.value):  # a plain function around an async one
            return await run_async(str(hook), lambda: finished.value, timeout_seconds)
        return finished

    def _arguments(self, hook: Hook) -> dict[str, Any]:
        known = {"secrets": self._lifespan.secrets, **self._values}
        return {parameter: known[name] for parameter, name in hook.needs.items()}


class _Held:
    """One resource, and the task that enters it, waits, and leaves it. Make it inside the loop."""

    def __init__(self, resource: Resource, arguments: Mapping[str, Any]) -> None:
        self._resource = resource
        self._entered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._leaving = asyncio.Event()
        self._named = {"what": str(resource), "place": resource.place}
        self._task = asyncio.create_task(self._hold(arguments), name=str(resource))

    async def value(self) -> Any:
        """What it yields, once it is open. StartError if it does not open."""
        await asyncio.wait((self._entered, self._task), return_when=asyncio.FIRST_COMPLETED)
        if self._entered.done():
            return self._entered.result()
        raise _failed(self._resource, "cannot be opened", self._task.result())

    async def close(self) -> bool:
        """Leave it, and name it in the log if that fails or takes too long; False if it could not be ended."""
        was_open = self._entered.done() and not self._task.done()
        self._leaving.set()
        if not self._entered.done():
            self._task.cancel()
        done, _ = await asyncio.wait((self._task,), timeout=CLOSE_SECONDS)
        if not done:
            log.error("takes too long to close and was left", **self._named, seconds=CLOSE_SECONDS)
            self._task.cancel()
            await asyncio.wait((self._task,), timeout=_GRACE_SECONDS)
            return False
        error = self._task.result()
        if was_open and error is not None:
            log.error("failed to close", **self._named, exc_info=error)
        return True

    async def _hold(self, arguments: Mapping[str, Any]) -> BaseException | None:
        """Open it, and close it when told to; returns what was raised: asyncio lets a SystemExit out of its loop."""
        error: BaseException | None = None
        try:
            made = self._resource.call(**arguments)
            async with _manager_of(await made if iscoroutine(made) else made) as value:
                self._entered.set_result(value)
                await self._leaving.wait()
        except BaseException as caught:  # noqa: BLE001 - as above
            error = caught
        if self._entered.done() and not self._leaving.is_set():
            log.error("ended while it was in use", **self._named, exc_info=error)
        return error


def _failed(hook: Hook, how: str, error: BaseException | None) -> StartError:
    """The error of a start that `hook` prevents; its traceback is in the log."""
    log.error("prevents the start", what=str(hook), place=hook.place, exc_info=error)
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    return StartError(f"{hook} of {hook.place} {how}: {reason}")


def _manager_of(made: Any) -> AbstractAsyncContextManager[Any]:
    """An async context manager of what a resource's function returned."""
    if isinstance(made, AsyncGeneratorType):
        return asynccontextmanager(lambda: made)()
    if isinstance(made, AbstractAsyncContextManager):
        return made
    manager = contextmanager(lambda: made)() if isinstance(made, GeneratorType) else made
    return _in_a_thread(manager.__enter__, manager.__exit__)


@asynccontextmanager
async def _in_a_thread(enter: Callable[[], Any], leave: Callable[..., Any]) -> AsyncIterator[Any]:
    """Enter and leave a sync context manager in one thread and one context: what it opens may be bound to those."""
    threads, context = Threads(1), copy_context()
    entering = asyncio.wrap_future(threads.start(enter, context))
    try:
        try:
            yield _value(await asyncio.shield(entering))
        finally:
            # If it was to stop meanwhile: the thread goes on, and what it opens is to be closed.
            if (await entering).error is None:
                _value(await asyncio.wrap_future(threads.start(partial(leave, None, None, None), context)))
    finally:
        threads.close()


def _value(finished: Finished) -> Any:
    if finished.error is not None:
        raise finished.error
    return finished.value
