"""A cell, as its worker speaks with it: the worker's end of a socket pair, over which jobs and answers go.

Used by cells and places alone. What a job is nobody here knows.
"""

import asyncio
import socket
from collections.abc import Callable

import msgspec

from runtime.base.errors import NoCell, TookTooLong
from runtime.base.logs.lines import keep
from runtime.invoke.isolation.frames import ANSWER, BEGAN, HEAD, JOB, LAST, LINE, LONGEST_FRAME, PROGRESS, frame
from runtime.invoke.isolation.zygote_client import Seat, Zygote

_READ_BYTES = 1 << 20
_LEAVE_SECONDS = 1.0
"""How long a cell may take to end once its answer is here."""
_CLOSE_SECONDS = 5.0
"""The same, where it has to close what it has kept open for its jobs."""
_OPEN_SECONDS = 60.0
"""How long a cell may take to open what its jobs need."""
_KINDS = frozenset((BEGAN, PROGRESS, LINE, ANSWER, LAST))

Progress = Callable[[bytes], None]


class NotRead(Exception):  # noqa: N818 - a state
    """The cell died before it had read the job, which has not begun."""


class Work(msgspec.Struct, frozen=True):
    """A job, and what is to be done about it. seconds: its cell is killed when it takes longer; None: it is not.

    A cell that has to open things first has that time from when it says that it has done so. patient: it waits for a
    place as long as it takes.
    """

    job: bytes
    on_progress: Progress | None = None
    seconds: float | None = None
    patient: bool = False


class Talk:
    """Open until the cell is gone: its closing is the order to die. kind: of its jobs. jobs: how many it had."""

    def __init__(self, zygote: Zygote, seat: Seat, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seat = seat
        self.zygote = zygote
        self.kind = ""
        self.jobs = 0
        self.last = False
        self._reader = reader
        self._writer = writer
        self._began = asyncio.Event()
        self._unread = False
        seat.ended.add_done_callback(lambda _: writer.close())

    @classmethod
    async def begin(cls, zygote: Zygote) -> "Talk":
        """Have a cell forked. NoCell."""
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
        return cls(zygote, zygote.fork(theirs), reader, writer)

    async def ask(self, work: Work, seconds: float | None) -> bytes:
        """The answer; `last` is then set if the cell wants no more jobs.

        seconds: what is left of its time. CellDied when the cell ends first; TookTooLong. NotRead, but not for its
        first job. The cell is killed when this is left without an answer.
        """
        self.jobs += 1
        self._writer.write(frame(JOB, work.job))
        listening = asyncio.create_task(self._listen(work.on_progress))
        answer = None
        try:
            in_time = await self._wait(listening, seconds)
            if listening.done():
                answer = listening.result()
        finally:
            listening.cancel()
            if answer is None:  # it has hung up, or talks nonsense; if it is just dying, this does not change how
                await self.zygote.see_off(self.seat)
        if answer is not None:
            return answer
        if not in_time:
            raise TookTooLong(f"killed: it took longer than {work.seconds:g} s")
        if self._unread and self.jobs > 1:
            raise NotRead
        await asyncio.wait((self.seat.ended,))
        raise self.seat.ended.result()

    async def _wait(self, listening: "asyncio.Task[bytes | None]", seconds: float | None) -> bool:
        """Until the cell has answered, or is gone; whether that was in time."""
        awaited = (listening, self.seat.ended)
        if seconds is not None and self.jobs == 1:
            began = asyncio.ensure_future(self._began.wait())
            await asyncio.wait((*awaited, began), timeout=_OPEN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            began.cancel()
        done, _ = await asyncio.wait(awaited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)

    async def _listen(self, on_progress: Progress | None) -> bytes | None:
        """The answer, or None if the cell says nothing more, or what nobody understands."""
        try:
            while True:
                kind, length = HEAD.unpack(await self._reader.readexactly(HEAD.size))
                if kind not in _KINDS or length > LONGEST_FRAME:
                    return None
                body = await self._reader.readexactly(length)
                if kind in (ANSWER, LAST):
                    self.last = kind == LAST
                    return body
                if kind == LINE:
                    run_id, _, line = body.partition(b"\n")
                    keep(run_id.decode(), line)
                else:
                    self._note(kind, body, on_progress)
        except (ConnectionResetError, BrokenPipeError):  # so the kernel says that it had not read all there was
            self._unread = True
            return None
        except (OSError, EOFError):
            return None

    def _note(self, kind: bytes, body: bytes, on_progress: Progress | None) -> None:
        if kind == BEGAN:
            self._began.set()
        elif on_progress is not None:
            on_progress(body)

    def let_go(self) -> None:
        """Tell it that the last answer is here, whereupon it ends; see that it does."""
        if not self.seat.ended.done():
            self._writer.write_eof()
            seconds = _CLOSE_SECONDS if self.kind else _LEAVE_SECONDS
            timer = asyncio.get_running_loop().call_later(seconds, self.zygote.end_cell, self.seat)
            self.seat.ended.add_done_callback(lambda _: timer.cancel())

    def end(self) -> None:
        """Kill it, with all it has started."""
        self.zygote.end_cell(self.seat)
