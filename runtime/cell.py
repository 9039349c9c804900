"""A cell: a process for one job after the other, which can end nobody but itself.

Called by runtime.zygote in a process that it has forked, or started, for the first job. Does jobs on an event loop of
its own, answers, and ends when its worker has no more. Ends at once when its worker does, or its zygote, whatever the
handler is at.
"""

import asyncio
import atexit
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, NoReturn

from runtime.base.logs import get_logger, keep_with
from runtime.invoke.isolation.frames import ANSWER, BEGAN, HEAD, LAST, LINE, PROGRESS, frame
from runtime.invoke.isolation.kernel import adopt_orphans, die_with_parent

log = get_logger(__name__)

_LOOK_SECONDS = 1.0


class Tell:
    """What a job may tell the worker before its answer. From any thread; waits if the worker is slow to read.

    last: set it if the cell shall get no more jobs.
    """

    def __init__(self, wire: "_Wire") -> None:
        self._wire: _Wire | None = wire
        self.last = False

    def __call__(self, message: bytes) -> None:
        """Tell of progress. Nothing happens once the job is done."""
        if self._wire is not None:
            self._wire.send(PROGRESS, message)

    def begin(self) -> None:
        """Say that what the job needs is open: the worker counts its time from now on."""
        if self._wire is not None:
            self._wire.send(BEGAN, b"")

    def keep(self, run_id: str, line: bytes) -> None:
        """Tell of a line that a run has logged: the worker keeps it."""
        if self._wire is not None:
            self._wire.send(LINE, run_id.encode() + b"\n" + line)

    def end(self) -> None:
        """Tell nothing more: what a job left behind would speak in the next one's name."""
        self._wire = None


Perform = Callable[[bytes, Tell], Coroutine[Any, Any, bytes]]
"""Do a job, in the cell: the answer. What it raises ends the cell, and the worker is told with which exit code."""
Opens = Callable[[], AbstractAsyncContextManager[Perform]]
"""Opens what the jobs of a cell need, on its event loop; closed when there are no more."""
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def live(sock: socket.socket, prepare: Callable[[], Opens], loop_factory: LoopFactory | None) -> NoReturn:
    """Be a cell: do the jobs that come over `sock`, answer them, and end."""
    code: Any = 1
    try:
        _stand_apart(sock)
        opens = prepare()
        # Never closed: that would wait for threads and tasks which may never end.
        asyncio.Runner(loop_factory=loop_factory).run(_do_jobs(_Wire(sock), opens))
        atexit._run_exitfuncs()
        code = 0
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        log.exception("a run ended the process that it had to itself")
    finally:
        flush()
        os._exit(code & 0xFF if isinstance(code, int) else 1)


def _stand_apart(sock: socket.socket) -> None:
    """Have a session of one's own, to be killed as a whole, and end with the worker and the zygote."""
    os.setsid()
    die_with_parent()
    adopt_orphans()  # else the zygote, which takes those of dead cells for its own, would end them
    fd = sock.fileno()
    known = _identity(fd)

    def watch() -> None:
        poll = select.poll()
        poll.register(fd, 0)  # POLLHUP is always told
        # A handler may close every descriptor: then no answer can be given, and nobody be heard.
        while not poll.poll(_LOOK_SECONDS * 1000) and _identity(fd) == known:
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="worker", daemon=True).start()


def _identity(fd: int) -> object:
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


async def _do_jobs(wire: "_Wire", opens: Opens) -> None:
    pid = os.getpid()
    async with opens() as perform:
        while (job := await wire.next_job()) is not None:
            tell = Tell(wire)
            keep_with(tell.keep)
            answer = await perform(job, tell)
            if os.getpid() != pid:  # a fork that the handler made, and in which it has returned, too
                os._exit(0)
            tell.end()
            flush()
            wire.send(LAST if tell.last else ANSWER, answer)


class _Wire:
    """The cell's end of the socket pair. uvloop leaves no socket blocking that it watches: who must wait polls."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def send(self, kind: bytes, body: bytes) -> None:
        """Send a frame, unless this is a fork of the cell."""
        if os.getpid() != self._pid:
            return
        left = memoryview(frame(kind, body))
        with self._lock:
            while left:
                try:
                    left = left[self._sock.send(left) :]
                except BlockingIOError:
                    self._wait(select.POLLOUT)

    async def next_job(self) -> bytes | None:
        """The next one; None if there is none."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._sock, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._sock)  # while a job is at work, what comes is the end, and a thread sees that
        head = self._read(HEAD.size)
        if head is None:
            return None
        _, length = HEAD.unpack(head)
        return self._read(length)

    def _read(self, length: int) -> bytes | None:
        """So many bytes; None at the end."""
        found = bytearray(length)
        view = memoryview(found)
        while view:
            try:
                count = self._sock.recv_into(view)
            except BlockingIOError:
                self._wait(select.POLLIN)
                continue
            if not count:
                return None
            view = view[count:]
        return bytes(found)

    def _wait(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._sock, event)
        poll.poll()


def flush() -> None:
    """Let out what was printed."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
