"""A run alone in a process of its own, a cell: the job that a worker gives, and what the cell does with it.

Used by the crew on the worker's side; what a cell does is loaded by the command that a zygote is. No Celery here: a
zygote shall be there soon. Both sides are of one version, so what passes between is theirs alone.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
from typing_extensions import override

from runtime.base.errors import FnrunError, StartError, StoreDown
from runtime.declare.registry import Registry
from runtime.invoke.invoker import Invoker
from runtime.invoke.isolation.cells import Cells
from runtime.invoke.resources import Resources
from runtime.ledger.once import Found, take_by_run
from runtime.ledger.records import Claimed, Ending
from runtime.ledger.run import desk_at_work
from runtime.tasks.home import close_here
from runtime.triggers.queue.execution import Execution
from runtime.triggers.queue.leases import Lease

Tell = Callable[[bytes], None]

_encode = msgspec.msgpack.Encoder().encode
_run_of = msgspec.msgpack.Decoder(Claimed).decode
_ending_of = msgspec.msgpack.Decoder(Ending).decode


class Unfinished(FnrunError):  # noqa: N818 - a state
    """A cell has a run that it cannot execute: its functions are others than the worker's."""


async def run_in_cell(cells: Cells, lease: Lease) -> Ending:
    """Have a run executed in a cell. CellDied; NoCell if there was none."""
    return _ending_of(await cells.run(_encode(lease.run), lease.report))


class _ToldLease(Lease):
    """A lease in a cell: its progress is told to the worker, which holds it."""

    __slots__ = ("tell",)

    tell: Tell

    @override
    def report(self, progress: bytes) -> None:
        super().report(progress)
        self.tell(progress)


Performs = AbstractAsyncContextManager[Callable[[bytes, Tell], Coroutine[Any, Any, bytes]]]


def perform_runs(registry: Registry, result_max: int) -> Callable[[], Performs]:
    """What a cell does with a job: it executes the run that it is, with resources of its own. StartError.

    Unfinished if the function is not there.
    """
    lifespan = registry.lifespan
    if lifespan is None:
        raise StartError("functions/_lifespan.py does not load, and nothing is run without its resources")

    async def perform(job: bytes, tell: Tell) -> bytes:
        async with Resources(lifespan) as resources:
            invoker = Invoker(threads=2, expected=tuple(lifespan.exception_handlers), resources=resources.opened)
            return await _execute(job, tell, registry, invoker, result_max)

    @asynccontextmanager
    async def opens() -> AsyncIterator[Callable[[bytes, Tell], Coroutine[Any, Any, bytes]]]:
        yield perform

    return opens


async def _execute(job: bytes, tell: Tell, registry: Registry, invoker: Invoker, result_max: int) -> bytes:
    lease = _ToldLease(_run_of(job))
    lease.tell = tell
    ended: asyncio.Future[Ending | None] = asyncio.get_running_loop().create_future()
    execution = Execution(
        invoker, lambda _, ending: ended.set_result(ending), worker="", result_max=result_max, keys=_take_key
    )
    execution.adopt(registry.functions.values())
    execution.start(lease)
    ending = await ended
    plan = execution.plans.get(lease.run.function)
    # What it began in the background ends with the cell, which has the run's time, and is killed soon after that.
    await close_here(0.0 if plan is None else lease.began + plan.timeout_of(lease.run) - time.time())
    if ending is None:
        raise Unfinished(f"no function {lease.run.function!r} is loaded in the process that was to run it")
    return _encode(ending)


async def _take_key(key: str, run: Claimed) -> Found:
    """Ask for a key over a connection of the cell's own, which only functions with idempotent= need."""
    try:
        desk = await desk_at_work()
    except StartError as error:  # the store is away, and is asked again
        raise StoreDown(str(error)) from None
    return await desk.ask(take_by_run(desk.ledger, key, run))
