"""A run alone in a process of its own, a cell: the job that a worker gives, and what the cell does with it.

Used by the crew on the worker's side, by working on the cell's. Both sides are of one version, so what passes between
is theirs alone.
"""

import asyncio
from collections.abc import Callable

import msgspec
from typing_extensions import override

from runtime.base.errors import FnrunError
from runtime.declare.registry import Registry
from runtime.invoke.cells import Cells
from runtime.invoke.invoker import Invoker
from runtime.invoke.zygote import CellDied, NoCell
from runtime.ledger.records import Claimed, Ending
from runtime.triggers.queue.execution import Crashed, Execution, NotBegun
from runtime.triggers.queue.leases import Lease

_encode = msgspec.msgpack.Encoder().encode
_run_of = msgspec.msgpack.Decoder(Claimed).decode
_ending_of = msgspec.msgpack.Decoder(Ending).decode


class Unfinished(FnrunError):  # noqa: N818 - a state
    """A cell has a run that it cannot execute: its functions are others than the worker's."""


async def run_in_cell(cells: Cells, lease: Lease) -> Ending:
    """Have a run executed in a cell. Crashed if that died, NotBegun if there was none."""
    try:
        return _ending_of(await cells.run(_encode(lease.run), lease.report))
    except CellDied as died:
        raise Crashed(str(died)) from died
    except NoCell as none:
        raise NotBegun(str(none)) from none


class _ToldLease(Lease):
    """A lease in a cell: its progress is told to the worker, which holds it."""

    __slots__ = ("tell",)

    tell: Callable[[bytes], None]

    @override
    def report(self, progress: bytes) -> None:
        super().report(progress)
        self.tell(progress)


async def execute_in_cell(
    job: bytes, tell: Callable[[bytes], None], registry: Registry, invoker: Invoker, *, result_max: int
) -> bytes:
    """Execute the run that a job is; its ending. Unfinished if the function is not there."""
    lease = _ToldLease(_run_of(job))
    lease.tell = tell
    ended: asyncio.Future[Ending | None] = asyncio.get_running_loop().create_future()
    execution = Execution(invoker, lambda _, ending: ended.set_result(ending), worker="", result_max=result_max)
    execution.adopt(registry.functions.values())
    execution.start(lease)
    ending = await ended
    if ending is None:
        raise Unfinished(f"no function {lease.run.function!r} is loaded in the process that was to run it")
    return _encode(ending)
