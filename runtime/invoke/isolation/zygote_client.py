"""A zygote, as its worker sees it: a process that forks others when asked, and tells how they ended.

Used by cells and talks alone. The other side is runtime.zygote. Knows nothing of jobs and answers: those go over each
cell's own socket pair.
"""

import asyncio
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from tempfile import TemporaryFile
from typing import NamedTuple

import msgspec

from runtime.base.errors import CellDied, NoCell
from runtime.base.logs import get_logger
from runtime.invoke.isolation.frames import ENDED, FAILED, FORK, KILL, ORDER, READY, REPORT, STARTED, describe_end

log = get_logger(__name__)

_START_SECONDS = 60.0
"""How long the functions may take to load."""
_END_SECONDS = 2.0
"""How long it may take to end, with its cells, and a cell to be seen dead once it was killed."""
_READ_BYTES = 4096


class Surroundings(msgspec.Struct, frozen=True):
    """What a zygote and its cells have about them. environ: None for that of this process.

    given: what the command is told besides, with `--given FD` to be read from: settings that shall not be seen in an
    environment. None: it is not. stdout: the descriptor that is theirs; None for that of this process.
    """

    environ: Mapping[str, str] | None = None
    given: bytes | None = None
    stdout: int | None = None


class Seat:
    """A cell's place in its zygote. ended: set once its process is gone, to what to raise if it has not answered."""

    def __init__(self, number: int, ended: asyncio.Future[CellDied]) -> None:
        self.number = number
        self.ended = ended
        self.pid: int | None = None


class _Order(NamedTuple):
    """What is to be sent. theirs: the descriptor that goes along, to be closed then."""

    data: bytes
    seat: Seat
    theirs: socket.socket | None


class Zygote:
    """Starts `COMMAND --line FD` at once. OSError if that fails. To be made inside the loop that will use it.

    ready: done when it can fork, or has ended before it could (False). buried: done when its process is gone.
    """

    def __init__(self, command: Sequence[str], surroundings: Surroundings = Surroundings()) -> None:  # noqa: B008 - frozen
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[bool] = loop.create_future()
        self.over = False
        self._loop = loop
        self._numbers = count(1)
        self._seats: dict[int, Seat] = {}
        self._outbox: deque[_Order] = deque()
        self._blocked = False
        self._heard = bytearray()
        self._reports = 0
        self._retired = False
        self._line, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = _start([*command, "--line", str(theirs.fileno())], theirs.fileno(), surroundings)
            except OSError:
                self._line.close()
                raise
        self._line.setblocking(False)
        loop.add_reader(self._line, self._read)
        self._limit = loop.call_later(_START_SECONDS, self.kill)
        self._line_ended = asyncio.Event()
        self.buried = asyncio.create_task(self._bury())

    @property
    def busy(self) -> bool:
        """Whether a cell of it is at work."""
        return bool(self._seats)

    @property
    def ends(self) -> bool:
        """Whether it has ended, or will when its cells have."""
        return self.over or self._retired

    def fork(self, theirs: socket.socket) -> Seat:
        """Have a cell forked, on its end of a socket pair, which is closed here."""
        seat = Seat(next(self._numbers), self._loop.create_future())
        self._seats[seat.number] = seat
        self._order(FORK, seat, theirs)
        return seat

    def end_cell(self, seat: Seat) -> None:
        """Kill a cell with all it started. Nothing happens to one that has ended."""
        if seat.ended.done():
            return
        for waiting in self._outbox:
            if waiting.seat is seat and waiting.theirs is not None:
                self._outbox.remove(waiting)
                waiting.theirs.close()
                self._end(seat, NoCell("it was not wanted any more"))
                return
        self._order(KILL, seat)

    async def see_off(self, seat: Seat) -> None:
        """Kill a cell and wait until it is gone; a zygote that does not see to that goes itself."""
        self.end_cell(seat)
        reports = -1
        while not seat.ended.done() and reports != self._reports:
            reports = self._reports
            await asyncio.wait((seat.ended,), timeout=_END_SECONDS)
        if not seat.ended.done():
            log.error("a zygote says nothing any more and is killed", pid=self._process.pid, seconds=_END_SECONDS)
            self.kill()
            self._lose("its zygote does not answer")

    def retire(self) -> None:
        """Let it end when its cells have."""
        self._retired = True
        if not self._seats:
            self.end()

    def end(self) -> None:
        """End it with all its cells, now. See buried."""
        self._lose("its worker ends it")

    def kill(self) -> None:
        """SIGKILL it; its cells die, too."""
        with suppress(ProcessLookupError):
            self._process.kill()

    def _order(self, kind: bytes, seat: Seat, theirs: socket.socket | None = None) -> None:
        order = _Order(ORDER.pack(kind, seat.number), seat, theirs)
        if theirs is None:
            self._outbox.appendleft(order)  # a kill comes first
        else:
            self._outbox.append(order)
        if self.over:
            self._lose("its zygote is gone")
        elif not self._blocked:
            self._send()

    def _send(self) -> None:
        """Send what can be sent; the rest when the line has room again."""
        try:
            while self._outbox:
                order = self._outbox[0]
                if order.theirs is None:
                    self._line.send(order.data)
                else:
                    socket.send_fds(self._line, [order.data], [order.theirs.fileno()])
                    order.theirs.close()
                self._outbox.popleft()
        except BlockingIOError:
            if not self._blocked:
                self._blocked = True
                self._loop.add_writer(self._line, self._send)
        except OSError as error:
            self._lose(f"its zygote cannot be reached: {error}")
        else:
            if self._blocked:
                self._blocked = False
                self._loop.remove_writer(self._line)

    def _read(self) -> None:
        try:
            data = self._line.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose("its zygote died")
            return
        self._heard += data
        whole = len(self._heard) - len(self._heard) % REPORT.size
        self._reports += whole
        for kind, number, value in REPORT.iter_unpack(bytes(self._heard[:whole])):
            self._note(kind, number, value)
        del self._heard[:whole]

    def _note(self, kind: bytes, number: int, value: int) -> None:
        if kind == READY:
            self._limit.cancel()
            self.ready.set_result(True)
        elif kind == STARTED:
            self._seats[number].pid = value
        elif kind in (FAILED, ENDED):
            how = NoCell(f"cannot fork: {os.strerror(value)}") if kind == FAILED else CellDied(describe_end(value))
            self._end(self._seats[number], how)

    def _end(self, seat: Seat, how: CellDied) -> None:
        del self._seats[seat.number]
        seat.ended.set_result(how)
        if self._retired and not self._seats:
            self.end()

    def _lose(self, why: str) -> None:
        """Hang up, which ends it if it has not ended; so do its cells."""
        if not self.over:
            self.over = True
            self._limit.cancel()
            self._loop.remove_reader(self._line)
            self._loop.remove_writer(self._line)
            self._line.close()
            self._line_ended.set()
        for order in self._outbox:
            if order.theirs is not None:
                order.theirs.close()
        self._outbox.clear()
        if not self.ready.done():
            self.ready.set_result(False)
        seats, self._seats = self._seats, {}
        for seat in seats.values():
            # A killed zygote's cells die by themselves; what they have started only so.
            if seat.pid is not None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(seat.pid, signal.SIGKILL)
            seat.ended.set_result(NoCell(why) if seat.pid is None else CellDied(f"killed: {why}"))

    async def _bury(self) -> None:
        await self._line_ended.wait()
        await asyncio.to_thread(self._wait_for_end)

    def _wait_for_end(self) -> None:
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _start(command: list[str], line: int, surroundings: Surroundings) -> "subprocess.Popen[bytes]":
    """Start it, in a session of its own: Ctrl-C is its worker's business."""
    with TemporaryFile(buffering=0) as told:
        passed = [line]
        if surroundings.given is not None:
            told.write(surroundings.given)
            passed.append(told.fileno())
            command += ["--given", str(told.fileno())]
        return subprocess.Popen(  # noqa: S603 - our own command
            command, stdin=subprocess.DEVNULL, stdout=surroundings.stdout, pass_fds=passed, start_new_session=True,
            env=surroundings.environ,
        )  # fmt: skip
