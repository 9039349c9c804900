"""What a process does with the calls of one function that background.in_process sends it.

Used by the hidden command that the zygote of such processes is. Whatever a function raises is its caller's.
"""

import inspect
import pickle
import runpy
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import msgspec

from runtime.base.errors import BackgroundError
from runtime.declare.modules import open_package, open_root
from runtime.tasks.home import close_here
from runtime.tasks.processes import Job
from runtime.tasks.work import GRACE_SECONDS

_MAIN = "__mp_main__"
"""How Python's own pools, too, call a script that is imported a second time, not to be run."""

_LONGEST_SECONDS = 60.0
_MARGIN_SECONDS = GRACE_SECONDS + 1.0
"""What tasks that are cancelled may take, before the time of their call is over, and its process killed."""

_job_of = msgspec.msgpack.Decoder(Job).decode


class Tells(Protocol):
    """What a job may tell its caller."""

    def begin(self) -> None:
        """Its time counts from now on."""
        ...


@asynccontextmanager
async def opens() -> AsyncIterator[Callable[[bytes, Tells], Coroutine[Any, Any, bytes]]]:
    """What a process does with each job."""
    yield _perform


Perform = Callable[[bytes, Any], Coroutine[Any, Any, bytes]]
Opens = Callable[[], AbstractAsyncContextManager[Perform]]


def ending_with_calls(opens: Opens, seconds_of: Callable[[bytes], float | None]) -> Opens:
    """As `opens`, but what a job begins in the background ends with it. seconds_of: the time of a job.

    Else a kept process would be let go, or be killed for a later job's fault, with the tasks of earlier ones.
    """

    @asynccontextmanager
    async def ending() -> AsyncIterator[Perform]:
        async with opens() as perform:

            async def do(job: bytes, tell: Any) -> bytes:
                end = time.monotonic() + (seconds_of(job) or _LONGEST_SECONDS) - _MARGIN_SECONDS
                answer = await perform(job, tell)
                await close_here(max(0.0, end - time.monotonic()))
                return answer

            yield do

    return ending


async def _perform(job: bytes, tell: Tells) -> bytes:
    try:
        call = _read(_job_of(job))
        tell.begin()
        value = call()
        if inspect.isawaitable(value):
            value = await value
        answer = pickle.dumps((True, value), protocol=pickle.HIGHEST_PROTOCOL)
    except BaseException as error:  # noqa: BLE001 - whatever it raises is its caller's
        answer = _failed(error)
    await close_here(0.0)  # what it began in the background: nobody would look after it
    return answer


def _read(job: Job) -> Callable[[], Any]:
    sys.path[:] = job.path
    if job.root and open_root() != Path(job.root):
        open_package(Path(job.root))
    if job.main and _MAIN not in sys.modules:
        main = ModuleType(_MAIN)
        main.__dict__.update(runpy.run_path(job.main, run_name=_MAIN))
        sys.modules[_MAIN] = sys.modules["__main__"] = main
    call: Callable[[], Any] = pickle.loads(job.call)  # noqa: S301 - of our own parent
    return call


def _failed(error: BaseException) -> bytes:
    """An error with the lines where it was raised; one that cannot be written, or not be read, as its text."""
    lines = "".join(traceback.format_exception(error, limit=-20))
    error.__traceback__ = None
    try:
        error.add_note(f"in its process:\n{lines}")
        written = pickle.dumps((False, error), protocol=pickle.HIGHEST_PROTOCOL)
        pickle.loads(written)  # noqa: S301 - as above
    except Exception:  # noqa: BLE001 - as said
        return pickle.dumps((False, BackgroundError(f"it raised what cannot be sent:\n{lines}")))
    return written
