"""Functions in processes of their own, as their callers see them.

Used by the manager, on its loop. The processes are cells (invoke.isolation), kept for further calls of their function,
and killed with all they started when a call's time is over or nobody waits for it. What they do is in `performed`.

What passes is pickled, as for Python's own pools: functions and arguments of the same program, for its own use. This is
no wall against code that nobody trusts.
"""

import asyncio
import inspect
import pickle
import sys
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from runtime.base.errors import BackgroundError, CellDied, NoCell, ProcessDied, TookTooLong
from runtime.declare.modules import open_root
from runtime.invoke.threads.pool import Finished
from runtime.tasks.records import timed_out
from runtime.tasks.work import GRACE_SECONDS, Begun, name_of

if TYPE_CHECKING:  # loaded with the first of them
    from runtime.invoke.isolation.cells import Cells

COMMAND = "function-child"
"""The hidden command that is a zygote of such processes."""


class Job(msgspec.Struct, frozen=True):
    """path: sys.path. root: the project, "" for none. main: of a function of a script, the script. call: what to do."""

    path: list[str]
    root: str
    main: str
    call: bytes


_encode = msgspec.msgpack.Encoder().encode
_job_of = msgspec.msgpack.Decoder(Job).decode


class Call:
    """A function and its arguments, written for a process. BackgroundError for what cannot be sent."""

    def __init__(self, function: Callable[..., Any], call: partial[Any]) -> None:
        self.name = name = name_of(function)
        try:
            written = pickle.dumps(call, protocol=pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # noqa: BLE001 - of an author's type, when it is written
            raise BackgroundError(
                f"{name} cannot be called in a process: {error}; give a function of a module, by its name there, and "
                "arguments that pickle can write"
            ) from None
        root, module = open_root(), inspect.getmodule(function)
        is_main = module is sys.modules.get("__main__")
        main = (getattr(module, "__file__", None) or "") if is_main else ""
        self.job = _encode(Job(list(sys.path), "" if root is None else str(root), main, written))
        # Of a module that was loaded anew, processes have the old one: they are of another kind.
        self.kind = f"{name} {id(module)}"


class Processes:
    """Of one loop, started at the first need. limit: how many at once, idle ones among them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._cells: Cells | None = None
        self._closing: AsyncGenerator[None] | None = None

    def begin(self, call: Call, timeout_seconds: float | None) -> Begun:
        """Begin a call, now. Its time counts from when its process has loaded the function."""
        task = asyncio.get_running_loop().create_task(self._call(call, timeout_seconds))

        def stop() -> float:
            task.cancel()
            return GRACE_SECONDS

        return Begun(task, stop)

    async def close(self) -> None:
        """End them all."""
        if self._closing is not None:
            await self._closing.aclose()

    async def _call(self, call: Call, timeout_seconds: float | None) -> Finished:
        cells = await self._opened()
        try:
            answer = await cells.run(call.job, kind=call.kind, seconds=timeout_seconds)
            is_well, written = pickle.loads(answer)  # noqa: S301 - of our own process
        except TookTooLong:
            error = timed_out(call.name, timeout_seconds).error
            return Finished(error=error, timed_out=True)
        except NoCell as none:
            return Finished(error=ProcessDied(f"there is no process to run it in: {none}"))
        except CellDied as died:
            return Finished(error=ProcessDied(f"the process that it ran in died: {died}"))
        except Exception as error:  # noqa: BLE001 - a result that can be written there, and not be read here
            return Finished(error=error)
        return Finished(value=written) if is_well else Finished(error=written)

    async def _opened(self) -> "Cells":
        if self._cells is None:
            from runtime.invoke.isolation.cells import Cells  # noqa: PLC0415 - see above

            root = open_root() or Path.cwd()
            command = (sys.executable, "-P", "-m", "runtime", "--dir", str(root), COMMAND)
            self._cells = Cells(command, self._limit)
            # asyncio.run ends what a loop's generators hold: in a script nobody else does.
            self._closing = _held(self._cells)
            await anext(self._closing)
        return self._cells


async def _held(cells: "Cells") -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await cells.close()
