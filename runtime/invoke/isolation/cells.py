"""Run a job alone in a process of its own, so that it can end nobody but itself.

Called by the queue's worker, for runs that a process died with. Processes are forked by a zygote, which is started at
the first need: see runtime.zygote. What a job and its answer are is between who calls this and the
`perform` that the zygote was given; here they are bytes.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from runtime.base.logs import get_logger
from runtime.invoke.isolation.frames import ANSWER, HEAD, JOB, LONGEST_FRAME, PROGRESS, frame
from runtime.invoke.isolation.zygote_client import CellDied, NoCell, Seat, Zygote

log = get_logger(__name__)

_READ_BYTES = 1 << 20
_LEAVE_SECONDS = 1.0
"""How long a cell may take to end once its answer is here."""
_PAUSE_SECONDS = 1.0
"""Between two zygotes of which the first could not even start."""

Progress = Callable[[bytes], None]


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
    """At most `limit` processes at once for one job each; further jobs wait in order. Used on one event loop.

    command: what starts a zygote; `--line FD` is added. idle_seconds: how long a zygote without cells is kept.
    """

    def __init__(self, command: Sequence[str], limit: int = 32, *, idle_seconds: float = 60.0) -> None:
        self._command = tuple(command)
        self._idle_seconds = idle_seconds
        self._places = asyncio.Semaphore(limit)
        self._zygote: Zygote | None = None
        self._zygotes: set[Zygote] = set()
        self._idle: asyncio.TimerHandle | None = None
        self._not_before = 0.0
        self._closed = False

    async def run(self, job: bytes, on_progress: Progress | None = None) -> bytes:
        """The answer of a cell to `job`. Raises, and is cancelled, as Cell.answer is.

        on_progress: is called with what the cell tells before it answers.
        """
        return await self.start(job, on_progress).answer()

    def start(self, job: bytes, on_progress: Progress | None = None) -> Cell:
        """As `run`, for callers who may want to kill it."""
        return Cell(self._run(job, on_progress))

    def renew(self) -> None:
        """Run what begins from now on in cells of a new zygote, which loads the functions anew."""
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            zygote.retire()

    async def close(self) -> None:
        """Kill the cells, and return when no process is left."""
        self._closed = True
        if self._idle is not None:
            self._idle.cancel()
        zygotes = set(self._zygotes)
        for zygote in zygotes:
            zygote.end()
        if zygotes:
            await asyncio.wait([zygote.buried for zygote in zygotes])

    async def _run(self, job: bytes, on_progress: Progress | None) -> bytes:
        await self._places.acquire()
        try:
            zygote = await self._have_zygote()
            talk = await _Talk.begin(zygote, job)
        except BaseException:
            self._places.release()
            raise
        talk.seat.ended.add_done_callback(lambda _: self._note_end())
        return await talk.answer(on_progress)

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
            zygote = Zygote(self._command)
        except OSError as error:  # no memory, or no process to be had
            raise NoCell(f"the zygote cannot be started: {error}") from None
        self._zygote = zygote
        self._zygotes.add(zygote)
        zygote.buried.add_done_callback(lambda _: self._zygotes.discard(zygote))

    def _note_end(self) -> None:
        """A cell is gone: the next may have its place. The last one's zygote is not kept for ever."""
        self._places.release()
        if self._idle is not None:
            self._idle.cancel()
        if not self._closed:
            self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._rest)

    def _rest(self) -> None:
        if self._zygote is not None and not self._zygote.busy:
            self.renew()


class _Talk:
    """The worker's end of a cell's socket pair. Open until the cell is gone: its closing is the order to die."""

    def __init__(self, zygote: Zygote, seat: Seat, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seat = seat
        self._zygote = zygote
        self._reader = reader
        self._writer = writer
        seat.ended.add_done_callback(lambda _: writer.close())

    @classmethod
    async def begin(cls, zygote: Zygote, job: bytes) -> "_Talk":
        """Have a cell forked and give it the job."""
        message = frame(JOB, job)
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:  # no descriptor to be had
            raise NoCell(f"no socket can be opened: {error}") from None
        try:
            reader, writer = await asyncio.open_connection(sock=ours, limit=_READ_BYTES)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        writer.write(message)
        return cls(zygote, zygote.fork(theirs), reader, writer)

    async def answer(self, on_progress: Progress | None) -> bytes:
        """The answer; CellDied when the cell ends first. It is killed when this is left otherwise."""
        listening = asyncio.create_task(self._listen(on_progress))
        answer = None
        try:
            await asyncio.wait((listening, self.seat.ended), return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                answer = listening.result()
        finally:
            listening.cancel()
            if answer is None:  # it has hung up, or talks nonsense; if it is just dying, this does not change how
                await self._zygote.see_off(self.seat)
        if answer is None:
            await asyncio.wait((self.seat.ended,))
            raise self.seat.ended.result()
        self._let_go()
        return answer

    async def _listen(self, on_progress: Progress | None) -> bytes | None:
        """The answer, or None if the cell says nothing more, or what nobody understands."""
        try:
            while True:
                kind, length = HEAD.unpack(await self._reader.readexactly(HEAD.size))
                if kind not in (PROGRESS, ANSWER) or length > LONGEST_FRAME:
                    return None
                body = await self._reader.readexactly(length)
                if kind == ANSWER:
                    return body
                if on_progress is not None:
                    on_progress(body)
        except (OSError, EOFError):
            return None

    def _let_go(self) -> None:
        """Tell it that the answer is here, whereupon it ends; see that it does."""
        if not self.seat.ended.done():
            self._writer.write_eof()
            timer = asyncio.get_running_loop().call_later(_LEAVE_SECONDS, self._zygote.end_cell, self.seat)
            self.seat.ended.add_done_callback(lambda _: timer.cancel())
