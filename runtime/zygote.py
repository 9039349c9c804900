"""The zygote: it has the functions loaded, and forks processes, cells, for jobs that are to be alone.

`serve_cells` is called for the hidden command `fnrun cell-child`, which is started at the first need. Has one thread,
no event loop and no connection, so that a fork of it is a fresh worker within milliseconds. Tells the worker how cells
ended, kills those it is told to with all they started, and ends with all of them when the worker does.

Where functions start threads when they are imported, a fork would have their locks and not them; each cell is then a
new process that loads the functions itself (`alone`).
"""

import atexit
import errno
import faulthandler
import gc
import io
import os
import select
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import NoReturn

from runtime.base.logs import get_logger
from runtime.cell import LoopFactory, Opens, flush, live
from runtime.invoke.isolation.frames import ENDED, FAILED, FORK, ORDER, READY, REPORT, STARTED
from runtime.invoke.isolation.kernel import adopt_orphans, children, kill_group, share_arena

log = get_logger(__name__)

_LOOK_SECONDS = 1.0
_END_SECONDS = 0.5
_UNEXPECTED = 70


def serve_cells(
    line: socket.socket,
    prepare: Callable[[], Opens],
    *,
    alone: bool = False,
    loop_factory: LoopFactory | None = None,
    given: int | None = None,
) -> NoReturn:
    """Fork a cell whenever the worker at the other end of `line` asks; end when it is gone.

    prepare: loads the functions; is called once, and shall leave no thread behind. alone: be a cell, on `line`.
    given: a descriptor that `prepare` has to read, which no handler shall.
    """
    line.set_inheritable(False)
    share_arena()  # before there is a thread: what one's arena reserves, a limit of memory would not see being used
    # What a run says last, before it kills its process, is worth most.
    faulthandler.enable()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    for number in (signal.SIGTERM, signal.SIGINT):  # the worker's business; it drains, and ends us
        signal.signal(number, _go_on)
    if alone:
        live(line, partial(_prepare, prepare, given), loop_factory)
    parent = os.getppid()
    with _ending_with(line):
        opens = prepare()
    _Zygote(line, partial(live, prepare=lambda: opens, loop_factory=loop_factory), given).serve(parent)


def _prepare(prepare: Callable[[], Opens], given: int | None) -> Opens:
    opens = prepare()
    if given is not None:
        os.close(given)
    return opens


def _go_on(*_: object) -> None:
    """Ignore a signal. Not by SIG_IGN, which the programs that a handler starts would inherit."""


@contextmanager
def _ending_with(line: socket.socket) -> Iterator[None]:
    """Within: end when the worker does, though an import may hang."""
    loaded, done = socket.socketpair()

    def watch() -> None:
        poll = select.poll()
        poll.register(line, 0)  # POLLHUP is always told
        poll.register(loaded, 0)
        if all(fd != loaded.fileno() for fd, _ in poll.poll()):
            os._exit(1)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.close()
        thread.join()
        loaded.close()


class _Zygote:
    """live: what a forked process does, with its end of the socket pair to the worker."""

    def __init__(self, line: socket.socket, live: Callable[[socket.socket], NoReturn], given: int | None) -> None:
        self._line = line
        self._given = given
        self._live = live
        self._pids: dict[int, int] = {}
        self._awake, self._wake = socket.socketpair()
        self._new_process = self._fork
        others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        if others:
            log.warning(
                "functions start threads when they are imported, which a fork would not have: each run that is to be "
                "alone loads them anew, and begins later; start threads in functions/_lifespan.py instead",
                threads=others,
            )
            self._new_process = self._spawn
        elif given is not None:
            os.close(given)
        adopt_orphans()
        self._own = children()  # what an import has started is not a cell's

    def serve(self, parent: int) -> NoReturn:
        """Obey until the worker, process `parent`, is gone; then end, with all cells."""
        try:
            for sock in (self._awake, self._wake):
                sock.setblocking(False)
            signal.signal(signal.SIGCHLD, _go_on)
            signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
            flush()  # else each cell would print it again
            gc.collect()
            gc.freeze()  # so that no collection in a cell writes to the pages it shares with us
            self._tell(READY)
            poll = select.poll()
            poll.register(self._line, select.POLLIN)
            poll.register(self._awake, select.POLLIN)
            obeying = True
            while obeying and os.getppid() == parent:  # a fork of the worker's may hold its end of the line
                for fd, _ in poll.poll(_LOOK_SECONDS * 1000):
                    if fd == self._line.fileno():
                        obeying = self._obey()
                    else:
                        self._reap()
        except ConnectionError:
            pass
        except Exception:
            log.exception("the zygote fails and is replaced")
        self._end()

    def _tell(self, kind: bytes, number: int = 0, value: int = 0) -> None:
        self._line.sendall(REPORT.pack(kind, number, value))

    def _obey(self) -> bool:
        """Take one order; False at the line's end."""
        data, fds, _, _ = socket.recv_fds(self._line, ORDER.size, 1)
        while 0 < len(data) < ORDER.size:
            data += self._line.recv(ORDER.size - len(data))
        if not data:
            return False
        kind, number = ORDER.unpack(data)
        if kind == FORK:
            if fds:
                self._start(number, fds[0])
            else:
                self._tell(FAILED, number, errno.EMFILE)
        elif number in self._pids:
            kill_group(self._pids[number])
        return True

    def _start(self, number: int, fd: int) -> None:
        os.set_inheritable(fd, False)
        try:
            pid = self._pids[number] = self._new_process(fd)
        except OSError as error:  # no memory, or no process to be had
            self._tell(FAILED, number, error.errno or 0)
        else:
            self._tell(STARTED, number, pid)
        finally:
            os.close(fd)

    def _fork(self, fd: int) -> int:
        with warnings.catch_warnings():
            # Threads that are not Python's, such as OpenBLAS's, whose owners see to it that they can be forked.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            try:
                self._leave()
                self._live(socket.socket(fileno=fd))
            finally:
                os._exit(_UNEXPECTED)
        return pid

    def _leave(self) -> None:
        """In a new process: forget what was the zygote's alone."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for sock in (self._line, self._awake, self._wake):
            sock.close()
        # What was registered when the functions were imported would remove what all cells use.
        atexit._clear()
        if numpy_random := sys.modules.get("numpy.random"):  # Python's own sees to itself
            numpy_random.seed()

    def _spawn(self, fd: int) -> int:
        """A new process, that loads the functions itself. Without a fork, which threads do not survive."""
        os.set_inheritable(fd, True)
        if self._given is not None:
            os.set_inheritable(self._given, True)
        command = [sys.executable, *sys.orig_argv[1:], "--alone", "--line", str(fd)]
        return os.posix_spawn(sys.executable, command, os.environ)

    def _reap(self) -> None:
        """Tell of cells that have ended."""
        with suppress(BlockingIOError):
            while self._awake.recv(4096):
                pass
        for number, pid in list(self._pids.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self._pids[number]
                # Process ids are given out in a circle: this one is not another's so soon.
                kill_group(pid)
                self._tell(ENDED, number, status)
        self._end_orphans()

    def _end_orphans(self) -> None:
        """Kill what dead cells have left, in whatever session; its own children come here when it has died."""
        for pid in children() - self._own - set(self._pids.values()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def _end(self) -> NoReturn:
        for pid in self._pids.values():
            kill_group(pid)
        until = time.monotonic() + _END_SECONDS
        for pid in self._pids.values():
            with suppress(ChildProcessError):
                while not os.waitpid(pid, os.WNOHANG)[0] and time.monotonic() < until:
                    time.sleep(0.001)
        self._pids = {}
        while children() - self._own and time.monotonic() < until:
            self._end_orphans()
            time.sleep(0.001)
        os._exit(0)
