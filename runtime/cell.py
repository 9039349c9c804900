"""A cell: a process for one job, which can end nobody but itself.

Called by runtime.zygote in a process that it has forked, or started, for the job. Does the job on an event loop of its
own, answers, and ends. Ends at once when its worker does, or its zygote, whatever the handler is at.
"""

import asyncio
import atexit
import ctypes
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from runtime.base.logs import get_logger
from runtime.invoke.isolation.frames import ANSWER, HEAD, PROGRESS, frame

log = get_logger(__name__)

Tell = Callable[[bytes], None]
"""Send the worker something before the answer. From any thread; waits if the worker is slow to read."""
Perform = Callable[[bytes, Tell], Coroutine[Any, Any, bytes]]
"""Do a job, in the cell: the answer. What the job needs is opened and closed in here, on the cell's own event loop.

What it raises ends the cell, and the worker is told with which exit code. It is called once.
"""
LoopFactory = Callable[[], asyncio.AbstractEventLoop]

_LOOK_SECONDS = 1.0
_OOM_SCORE = "500"
"""For the kernel, when memory is short: rather a cell than its worker. From -1000 (never) to 1000."""
_PR_SET_PDEATHSIG = 1


def live(sock: socket.socket, prepare: Callable[[], Perform], loop_factory: LoopFactory | None) -> NoReturn:
    """Be a cell: do the job that comes over `sock`, answer, and end."""
    code: Any = 1
    try:
        _stand_apart(sock)
        _do_job(sock, prepare(), loop_factory)
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
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
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


def _do_job(sock: socket.socket, perform: Perform, loop_factory: LoopFactory | None) -> None:
    job = _read_job(sock)
    pid = os.getpid()
    lock = threading.Lock()

    def tell(message: bytes) -> None:
        if os.getpid() == pid:
            with lock:
                sock.sendall(frame(PROGRESS, message))

    # Never closed: that would wait for threads and tasks which may never end.
    runner = asyncio.Runner(loop_factory=loop_factory)
    answer = runner.run(perform(job, tell))
    if os.getpid() != pid:  # a fork that the handler made, and in which it has returned, too
        os._exit(0)
    message = frame(ANSWER, answer)
    flush()
    with lock:
        sock.sendall(message)
        sock.recv(1)  # until the worker has it: what it hears of our end shall come later
    atexit._run_exitfuncs()


def _read_job(sock: socket.socket) -> bytes:
    _, length = HEAD.unpack(_read(sock, HEAD.size))
    return _read(sock, length)


def _read(sock: socket.socket, length: int) -> bytes:
    """So many bytes. SystemExit if the worker is gone before."""
    found = bytearray(length)
    view = memoryview(found)
    while view:
        count = sock.recv_into(view)
        if not count:
            raise SystemExit(0)
        view = view[count:]
    return bytes(found)


def flush() -> None:
    """Let out what was printed."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
