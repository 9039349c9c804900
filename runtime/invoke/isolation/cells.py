"""Run jobs apart, in processes that can end nobody but themselves.

Called by the queue's worker, for runs that a process died with, and for functions that are to have a process of their
own (calls). Processes are forked by a zygote, which is started at the first need: see runtime.zygote. What a job and
its answer are is between who calls this and the `perform` that the zygote was given; here they are bytes.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from runtime.base.errors import CellDied, NoCell
from runtime.base.logs import get_logger
from runtime.invoke.isolation.frames import LONGEST_FRAME
from runtime.invoke.isolation.places import Keep, Places
from runtime.invoke.isolation.talks import NotRead, Progress, Talk, Work
from runtime.invoke.isolation.zygote_client import Surroundings, Zygote

log = get_logger(__name__)

_PAUSE_SECONDS = 1.0
"""Between two zygotes of which the first could not even start."""
_LEAVE_SECONDS = 2.0
"""How long idle cells may take, when all ends, to close what they have open."""


class Cell:
    """A job on its way: it waits for a place, or is at work."""

    def __init__(self, work: Coroutine[Any, Any, bytes]) -> None:
        self._work = asyncio.create_task(work)
        self._why: str | None = None

    async def answer(self) -> bytes:
        """Wait for the answer. CellDied if none will come, NoCell if the job did not begin.

        To be awaited once. When that is cancelled, the cell is killed, and is gone when the cancellation is through.
        """
        try:
            return await self._work
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if self._why is None or (current is not None and current.cancelling()):
                raise
            raise CellDied(f"killed: {self._why}") from None

    def kill(self, why: str) -> None:
        """End it with all it started, wherever it is: `answer` raises CellDied. Nothing happens once it is done."""
        self._why = why
        self._work.cancel()


class Cells:
    """At most `limit` processes at once; further jobs wait in order. Used on one event loop.

    command: what starts a zygote; `--line FD` is added. idle_seconds: how long a zygote without cells is kept; None: to
    the end. keep: cells that have done a job of some kind, for others of that kind.
    """

    def __init__(
        self,
        command: Sequence[str],
        limit: int = 32,
        *,
        idle_seconds: float | None = 60.0,
        keep: Keep = Keep(),  # noqa: B008 - frozen
        surroundings: Surroundings = Surroundings(),  # noqa: B008 - frozen
    ) -> None:
        self._command = tuple(command)
        self._idle_seconds = idle_seconds
        self._surroundings = surroundings
        self._places = Places(limit, keep)
        self._zygote: Zygote | None = None
        self._zygotes: set[Zygote] = set()
        self._idle: asyncio.TimerHandle | None = None
        self._not_before = 0.0
        self._closed = False

    async def run(
        self,
        job: bytes,
        on_progress: Progress | None = None,
        *,
        kind: str = "",
        seconds: float | None = None,
        patient: bool = False,
    ) -> bytes:
        """The answer of a cell to `job`. Raises, and is cancelled, as Cell.answer is.

        on_progress: is called with what the cell tells before it answers. kind: jobs of one kind may have the same cell
        one after the other; "": this one has a cell to itself. seconds: its time; TookTooLong if that is over, when its
        cell is killed. The wait for a place is part of it, and then it ends in NoCell, unless the job is patient.
        """
        return await self.start(job, on_progress, kind=kind, seconds=seconds, patient=patient).answer()

    def start(
        self,
        job: bytes,
        on_progress: Progress | None = None,
        *,
        kind: str = "",
        seconds: float | None = None,
        patient: bool = False,
    ) -> Cell:
        """As `run`, for callers who may want to kill it."""
        if len(job) > LONGEST_FRAME:
            raise OverflowError(f"a job of {len(job)} bytes; {LONGEST_FRAME} can be sent")
        return Cell(self._run(Work(job, on_progress, seconds, patient), kind))

    def warm(self) -> None:
        """Start a zygote now if there is none: the first job will not have to wait for it."""
        if (self._zygote is None or self._zygote.over) and not self._closed:
            try:
                self._start_zygote()
            except NoCell as none:
                log.error("no zygote, for now", reason=str(none))  # noqa: TRY400 - it says all

    def renew(self) -> None:
        """Run what begins from now on in cells of a new zygote, which loads the functions anew."""
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            zygote.retire()
        self._places.let_all_go()

    async def close(self) -> None:
        """Kill the cells, and return when no process is left. Idle ones may close what they have open."""
        self._closed = True
        if self._idle is not None:
            self._idle.cancel()
        if leaving := self._places.let_all_go():
            await asyncio.wait(leaving, timeout=_LEAVE_SECONDS)
        zygotes = set(self._zygotes)
        for zygote in zygotes:
            zygote.end()
        if zygotes:
            await asyncio.wait([zygote.buried for zygote in zygotes])

    async def _run(self, work: Work, kind: str) -> bytes:
        began = asyncio.get_running_loop().time()
        while True:
            talk = await self._places.take(kind, None if work.patient else work.seconds)
            waited = 0.0 if work.patient else asyncio.get_running_loop().time() - began
            talk = talk or await self._start(kind)
            try:
                answer = await talk.ask(work, None if work.seconds is None else max(0.0, work.seconds - waited))
            except NotRead:  # it died while it was idle
                continue
            self._places.keep(talk)
            return answer

    async def _start(self, kind: str) -> Talk:
        """A new cell, in the place that was taken."""
        try:
            talk = await Talk.begin(await self._have_zygote())
        except BaseException:
            self._places.free()
            raise
        talk.kind = kind
        talk.seat.ended.add_done_callback(lambda _: self._note_end())
        return talk

    async def _have_zygote(self) -> Zygote:
        """One that is ready to fork."""
        while not self._closed:
            zygote = self._zygote
            if zygote is None or zygote.over:
                pause = self._not_before - asyncio.get_running_loop().time()
                if pause <= 0:
                    self._start_zygote()
                else:
                    await asyncio.sleep(pause)
                continue
            await asyncio.wait((zygote.ready,))
            if not zygote.ready.result() and zygote is self._zygote and not self._closed:
                self._not_before = asyncio.get_running_loop().time() + _PAUSE_SECONDS
                raise NoCell("the zygote ended before it was ready; what it printed says why")
            if zygote is self._zygote and not zygote.over:  # else it was renewed meanwhile
                return zygote
        raise NoCell("the worker is about to end")

    def _start_zygote(self) -> None:
        try:
            zygote = Zygote(self._command, self._surroundings)
        except OSError as error:  # no memory, or no process to be had
            raise NoCell(f"the zygote cannot be started: {error}") from None
        self._zygote = zygote
        self._zygotes.add(zygote)
        zygote.buried.add_done_callback(lambda _: self._zygotes.discard(zygote))

    def _note_end(self) -> None:
        """A cell is gone: the next may have its place. The last one's zygote is not kept for ever."""
        self._places.free()
        if self._idle is not None:
            self._idle.cancel()
        if not self._closed and self._idle_seconds is not None:
            self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._rest)

    def _rest(self) -> None:
        if self._zygote is not None and not self._zygote.busy:
            zygote, self._zygote = self._zygote, None
            zygote.retire()
