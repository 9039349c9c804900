"""`background`: what authors do beside a call, in its own process.

Used in handlers, in sync ones and threads too, in scripts and in tests. What must outlive the process is submitted
instead.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, ParamSpec, TypedDict, TypeVar, Unpack, overload

from msgspec.structs import replace

from runtime.base.durations import Duration, parse_duration
from runtime.base.errors import BackgroundError
from runtime.tasks.home import manager_at_hand
from runtime.tasks.manager import Job
from runtime.tasks.many import Bounds, gather
from runtime.tasks.processes import Call
from runtime.tasks.records import State, Statistics, TaskOutcome, TaskView
from runtime.tasks.task import Task
from runtime.tasks.work import carry_out, in_thread, name_of

P = ParamSpec("P")
R = TypeVar("R")

Views = list[TaskView]
Outcomes = list[TaskOutcome[R]]

_LONGEST_ID = 200
_CONCURRENCY = 10


class Many(TypedDict, total=False):
    """Of many calls: how many at once; how long each may take, and all; up to how much later each begins."""

    concurrency: int | None
    task_timeout: Duration | None
    total_timeout: Duration | None
    jitter: Duration | None


class Using:
    """Options, said before the function, so that they never collide with its arguments: `background.using(id="x")`."""

    def __init__(
        self,
        id: str = "",  # noqa: A002 - as in submit.using
        timeout: Duration | None = None,
        jitter: Duration | None = None,
        *,
        wait: bool = True,
    ) -> None:
        if not (type(id) is str and len(id) <= _LONGEST_ID):
            raise BackgroundError(f"id={id!r}: an id is text of at most {_LONGEST_ID} characters")
        self._id = id
        self._wait = wait
        self._timeout_seconds = _seconds("timeout", timeout)
        self._jitter_seconds = _seconds("jitter", jitter) or 0.0

    @overload
    def spawn(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]: ...
    @overload
    def spawn(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]: ...
    def spawn(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """See Background.spawn."""
        _check(function, args, kwargs)
        return manager_at_hand().spawn(
            Job(
                function=function,
                call=partial(function, *args, **kwargs),
                id=self._id,
                timeout_seconds=self._timeout_seconds,
                jitter_seconds=self._jitter_seconds,
                waits=self._wait,
            )
        )

    async def in_thread(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """See Background.in_thread."""
        self._refuse_id("in_thread")
        manager = manager_at_hand()
        begin = partial(in_thread, manager.pool, partial(function, *args, **kwargs))
        outcome = await carry_out(name_of(function), manager.threads, begin, self._timeout_seconds)
        return outcome.result()  # type: ignore[no-any-return]  # an outcome here is of any function

    @overload
    async def in_process(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def in_process(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def in_process(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """See Background.in_process."""
        self._refuse_id("in_process")
        manager = manager_at_hand()
        call = Call(function, partial(function, *args, **kwargs))
        begin = partial(manager.cells.begin, call, self._timeout_seconds)
        return (await carry_out(call.name, manager.processes, begin, None)).result()

    def _refuse_id(self, word: str) -> None:
        if self._id:
            raise BackgroundError(f"background.using(id=).{word}(...): it is awaited where it is called, and has no id")


class Background:
    """Tasks of this process: they end with it, at the latest. See docs/background.md."""

    def using(
        self,
        *,
        id: str = "",  # noqa: A002 - as in submit.using
        timeout: Duration | None = None,
        jitter: Duration | None = None,
        wait: bool = True,
    ) -> Using:
        """Options for what follows: `background.using(timeout="5s").spawn(send, mail)`.

        id: of the task; no open one may have it. timeout: from when it begins. jitter: it first waits, up to so long.
        wait: False for one without an end: the process's end does not wait for it, but cancels it.
        """
        return Using(id, timeout, jitter, wait=wait)

    @overload
    def spawn(
        self,
        function: Callable[..., Awaitable[R]],
        /,
        *args: Any,
        id: str,
        timeout: Duration | None = None,
        **kwargs: Any,
    ) -> Task[R]: ...
    @overload
    def spawn(
        self, function: Callable[..., R], /, *args: Any, id: str, timeout: Duration | None = None, **kwargs: Any
    ) -> Task[R]: ...
    @overload
    def spawn(
        self, function: Callable[..., Awaitable[R]], /, *args: Any, timeout: Duration, **kwargs: Any
    ) -> Task[R]: ...
    @overload
    def spawn(self, function: Callable[..., R], /, *args: Any, timeout: Duration, **kwargs: Any) -> Task[R]: ...
    @overload
    def spawn(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]: ...
    @overload
    def spawn(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]: ...
    def spawn(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Call a function in the background: an async one on the event loop, a sync one in a thread. From any thread.

        id=, timeout=: see using, which also goes for functions that have parameters of those names. TypeError if the
        arguments do not fit, BackgroundFull, BackgroundClosed, DuplicateTask: then nothing was begun. What it raises
        is in the log, and raised by the task's `result`.
        """
        options = {name: kwargs.pop(name) for name in ("id", "timeout") if name in kwargs}
        if options and (taken := options.keys() & _parameters(function)):
            one = sorted(taken)[0]
            raise BackgroundError(
                f"{name_of(function)} has a parameter {one!r} of its own: write background.using(...).spawn(...), "
                "where options are apart from arguments"
            )
        return Using(**options).spawn(function, *args, **kwargs)

    def get(self, task_id: str) -> Task[Any]:
        """A task by its id. UnknownTask: one that has ended is known for [background] keep."""
        return manager_at_hand().find(task_id)

    def status(self, task_id: str) -> TaskView:
        """What is known of a task now. UnknownTask."""
        return self.get(task_id).status()

    async def result(self, task_id: str, timeout: Duration | None = None) -> Any:  # noqa: ASYNC109 - as Task.result
        """What a task's function returned, once it has; see Task.result. UnknownTask."""
        return await self.get(task_id).result(timeout)

    def cancel(self, task_id: str) -> bool:
        """Have a task end; False if it is over already. UnknownTask."""
        return self.get(task_id).cancel()

    def statistics(self) -> Statistics:
        """Counts of this process."""
        return manager_at_hand().statistics()

    async def idle(self, timeout: Duration | None = None) -> bool:  # noqa: ASYNC109 - as Task.result
        """Wait until no task is open, for tests, and for the end of a script; False if one is when the time is over."""
        return await manager_at_hand().idle(_seconds("timeout", timeout))

    @overload
    async def gather(
        self,
        function: Callable[..., Awaitable[R]],
        arguments: Iterable[Any],
        **many: Unpack[Many],
    ) -> Outcomes[R]: ...
    @overload
    async def gather(
        self,
        function: Callable[..., R],
        arguments: Iterable[Any],
        **many: Unpack[Many],
    ) -> Outcomes[R]: ...
    async def gather(
        self,
        function: Callable[..., Any],
        arguments: Iterable[Any],
        **many: Unpack[Many],
    ) -> Outcomes[Any]:
        """Call a function with each of the arguments, so many at once; an outcome for each, in their order.

        arguments: for each call a dict of arguments by name, a tuple of them in order, or the only one. task_timeout:
        of each call, from when it begins; total_timeout: of all; jitter: each waits for up to so long before it begins.
        Never raises what a call raises. Sync functions run in threads. When it is cancelled, so are the calls.
        """
        manager = manager_at_hand()
        bounds = _bounds(_CONCURRENCY, many)
        ways = [manager.way_of(function, _call_of(function, given)) for given in arguments]
        # Calls on the loop have no lane: one that is spawned and gathers would wait for its own place.
        lane = ways[0][0] if ways and ways[0][0] is not manager.on_loop else None
        return await gather(name_of(function), lane, [begin for _, begin in ways], bounds)

    async def in_thread(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """What a sync function returns, called in a thread; at most [background] threads at once, others wait.

        A thread cannot be ended: past its timeout (`using(timeout=)`: TaskTimeout), or when the caller is cancelled, it
        is left, and keeps its place until it ends.
        """
        return await Using().in_thread(function, *args, **kwargs)

    async def in_threads(
        self,
        function: Callable[..., R],
        arguments: Iterable[Any],
        **many: Unpack[Many],
    ) -> Outcomes[R]:
        """As gather, each call in a thread; concurrency: as many as there are threads, unless said."""
        manager = manager_at_hand()
        bounds = _bounds(manager.threads.limit, many)
        begins = [partial(in_thread, manager.pool, _call_of(function, given)) for given in arguments]
        return await gather(name_of(function), manager.threads, begins, bounds)

    @overload
    async def in_process(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def in_process(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def in_process(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """What a function returns, called in a process of its own; at most [background] processes at once, others wait.

        Past its timeout (`using(timeout=)`: TaskTimeout), or when the caller is cancelled, the process is killed with
        all it started. ProcessDied if it dies otherwise. The function is one of a module; it, its arguments and its
        result are pickled.
        """
        return await Using().in_process(function, *args, **kwargs)

    @overload
    async def in_processes(
        self,
        function: Callable[..., Awaitable[R]],
        arguments: Iterable[Any],
        **many: Unpack[Many],
    ) -> Outcomes[R]: ...
    @overload
    async def in_processes(
        self,
        function: Callable[..., R],
        arguments: Iterable[Any],
        **many: Unpack[Many],
    ) -> Outcomes[R]: ...
    async def in_processes(
        self,
        function: Callable[..., Any],
        arguments: Iterable[Any],
        **many: Unpack[Many],
    ) -> Outcomes[Any]:
        """As gather, each call in a process; concurrency: as many as there are processes, unless said."""
        manager = manager_at_hand()
        said = _bounds(manager.processes.limit, many)
        bounds, seconds = replace(said, task_seconds=None), said.task_seconds  # whose time is over is killed
        calls = [Call(function, _call_of(function, given)) for given in arguments]
        begins = [partial(manager.cells.begin, call, seconds) for call in calls]
        return await gather(name_of(function), manager.processes, begins, bounds)

    def list(self, state: State | None = None) -> Views:
        """The tasks that are open, and those that have ended and are kept; in the order they were spawned in."""
        return [task.status() for task in manager_at_hand().known(state)]


def _bounds(concurrency: int, many: Many) -> Bounds:
    """concurrency: unless said. TypeError for an option that there is not."""
    if unknown := many.keys() - Many.__annotations__.keys():
        raise TypeError(f"unknown options: {', '.join(sorted(unknown))}; there are: {', '.join(Many.__annotations__)}")
    said = many.get("concurrency")
    return Bounds(
        concurrency=concurrency if said is None else said,
        task_seconds=_seconds("task_timeout", many.get("task_timeout")),
        total_seconds=_seconds("total_timeout", many.get("total_timeout")),
        jitter_seconds=_seconds("jitter", many.get("jitter")) or 0.0,
    )


def _seconds(name: str, given: Duration | None) -> float | None:
    try:
        return None if given is None else parse_duration(given)
    except ValueError as error:
        raise BackgroundError(f"{name}={given!r}: {error}") from None


def _call_of(function: Callable[..., Any], given: Any) -> partial[Any]:
    if isinstance(given, Mapping):
        return partial(function, **given)
    return partial(function, *given) if isinstance(given, tuple) else partial(function, given)


def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(function).parameters)
    except (ValueError, TypeError):  # of some that are written in C nobody knows
        return frozenset()


def _check(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """TypeError if the arguments do not fit: here, where they are given, and not later, where nobody looks."""
    if not callable(function):
        raise BackgroundError(f"{function!r} is no function: write background.spawn(function, arguments...)")
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name_of(function)}: {error}") from None


background = Background()
