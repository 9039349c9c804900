"""A run in the hands of whoever submitted it: its state, its result, its end.

Made by submit, and by authors of an id. Opens nothing before it is asked something.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

import msgspec
from typing_extensions import override

from runtime.base.durations import Duration, parse_duration
from runtime.base.errors import RunFailed, UnknownRun
from runtime.ledger.portal import wait_for
from runtime.ledger.records import State
from runtime.ledger.trees import cancel_tree
from runtime.ledger.views import RunView

if TYPE_CHECKING:  # it loads the store's client
    from runtime.ledger.desk import Desk

R_co = TypeVar("R_co", covariant=True)

Cancelled = Literal["cancelled", "cancelling", "finished"]
Redriven = Literal["queued", "succeeded", "open", "refused"]


class Run(Generic[R_co]):
    """A run by its id. known: it was there before, and nothing new was accepted.

    Every method raises StoreDown, and UnknownRun once the run is no longer kept.
    """

    __slots__ = ("_returns", "id", "known")

    def __init__(self, run_id: str, *, known: bool = False, returns: Any = Any) -> None:
        self.id = run_id
        self.known = known
        self._returns = returns

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    async def state(self) -> State:
        """scheduled, queued, running, retrying; or at last succeeded, failed or cancelled."""
        return (await self._view()).state

    async def progress(self) -> Any:
        """What its handler last said with Context.progress; None if it said nothing. Of a flow, its steps, counted."""
        view = await self._view()
        if view.steps is not None:
            return msgspec.to_builtins(view.steps)
        return None if view.progress is None else msgspec.json.decode(view.progress)

    # ruff: disable[ASYNC109] - the word of Celery and of concurrent.futures
    @overload
    async def result(self, timeout: Duration | None = None, *, propagate: Literal[True] = True) -> R_co: ...
    @overload
    async def result(self, timeout: Duration | None = None, *, propagate: bool) -> R_co | RunFailed: ...
    async def result(self, timeout: Duration | None = None, *, propagate: bool = True) -> Any:
        """What its handler returned, as the function's annotation says; plain JSON where that does not fit.

        timeout: a duration; waits without end if left out. TimeoutError if the run is not over by then. RunFailed if it
        failed or was cancelled; with propagate=False that is returned instead.
        """
        seconds = None if timeout is None else parse_duration(timeout) if timeout != 0 else 0.0
        view = await (await desk_at_work()).finished(self.id, seconds)
        if view is None:
            raise TimeoutError(f"run {self.id} is not over after {seconds:g} s")
        if view.state == "succeeded":
            return _decoded(view.result, self._returns)
        failed = failure_of(view)
        if propagate:
            raise failed
        return failed

    # ruff: enable[ASYNC109]

    async def cancel(self, *, tree: bool = False) -> Cancelled:
        """Have it end: at once if it waits, at its worker's next beat if it runs ("cancelling").

        tree: with all the runs it has submitted, and theirs. What one submits in its last moments may not be reached.
        """
        desk = await desk_at_work()
        if tree:
            word = (await cancel_tree(desk, self.id))[self.id]
        else:
            [word] = await desk.ask(desk.ledger.cancel([self.id]))
        if word == "unknown":
            raise UnknownRun(self.id)
        return word  # type: ignore[return-value]  # the script's words

    async def redrive(self) -> Redriven:
        """Have it run again, with the arguments it had, if it failed or was cancelled: "queued".

        A flow goes on from where it stopped: what succeeded is not run again; a step's redrive is its flow's. One that
        succeeded or is open is left alone, and so is a message that was refused ("bad message").
        """
        desk = await desk_at_work()
        [word] = await desk.ask(desk.ledger.redrive([self.id]))
        if word == "unknown":
            raise UnknownRun(self.id)
        return word  # type: ignore[return-value]  # the script's words

    async def _view(self) -> RunView:
        view = await (await desk_at_work()).show(self.id)
        if view is None:
            raise UnknownRun(self.id)
        return view


class SyncRun(Generic[R_co]):
    """A Run for code without a loop: each method blocks."""

    __slots__ = ("_run",)

    def __init__(self, run: "str | Run[R_co]") -> None:
        self._run: Run[R_co] = Run(run) if isinstance(run, str) else run

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    @property
    def id(self) -> str:
        """See Run."""
        return self._run.id

    @property
    def known(self) -> bool:
        """See Run."""
        return self._run.known

    def state(self) -> State:
        """See Run.state."""
        return wait_for(self._run.state())

    def progress(self) -> Any:
        """See Run.progress."""
        return wait_for(self._run.progress())

    @overload
    def result(self, timeout: Duration | None = None, *, propagate: Literal[True] = True) -> R_co: ...
    @overload
    def result(self, timeout: Duration | None = None, *, propagate: bool) -> R_co | RunFailed: ...
    def result(self, timeout: Duration | None = None, *, propagate: bool = True) -> Any:
        """See Run.result."""
        return wait_for(self._run.result(timeout, propagate=propagate))

    def cancel(self, *, tree: bool = False) -> Cancelled:
        """See Run.cancel."""
        return wait_for(self._run.cancel(tree=tree))

    def redrive(self) -> Redriven:
        """See Run.redrive."""
        return wait_for(self._run.redrive())


def failure_of(view: RunView) -> RunFailed:
    """What to raise for a run that failed or was cancelled."""
    failure = view.failure
    return RunFailed(
        view.id,
        view.function,
        view.reason or view.state,
        type=failure.type if failure else "",
        message=failure.message if failure else "",
    )


def _decoded(result: msgspec.Raw | None, returns: Any) -> Any:
    if result is None:
        return None
    if returns is not Any:
        try:
            return msgspec.json.decode(result, type=returns)
        except (msgspec.ValidationError, TypeError, NameError):
            pass  # a Reply, a class of the author's own: what JSON says of it
    return msgspec.json.decode(result)


async def desk_at_work() -> "Desk":
    """The desk of this process; where there is none yet, it is loaded and opened beside the loop."""
    in_use = getattr(sys.modules.get("runtime.ledger.desk"), "in_use", None)  # None too while it is being loaded
    desk: Desk | None = None if in_use is None else in_use()
    return await asyncio.to_thread(current_desk) if desk is None else desk


def current_desk() -> "Desk":
    """The desk of this process, for code without a loop. The store's client is loaded only now."""
    from runtime.ledger.desk import current  # noqa: PLC0415

    return current() if _make_desk is None else current(_make_desk)


_make_desk: "Callable[[], Desk] | None" = None


def make_desk_with(make: "Callable[[], Desk]") -> None:
    """Say how this process gets a desk as soon as it needs one; else it gets one as a script does."""
    global _make_desk  # noqa: PLW0603 - one a process
    _make_desk = make
