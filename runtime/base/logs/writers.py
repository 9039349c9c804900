"""Write lines off the threads that have them: a thread for each target, over a queue that is bounded.

Used by setup. Whoever has a line never waits for a disk or a reader of a pipe: what does not fit is dropped, counted
and told. A forked process, which has no such thread, and a cell, which may be killed at any moment, write at once.
"""

import atexit
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol, TextIO
from weakref import WeakSet

_MOST_BYTES = 8_000_000
_BATCH_BYTES = 256_000
_PIECE_BYTES = 4096
"""What a pipe takes as a whole, so that lines of several processes do not mix."""
_TELL_SECONDS = 60.0
_FLUSH_SECONDS = 2.0
_HELD_UP_SECONDS = 1.0

Tell = Callable[[int], bytes]
"""A line that says how many lines were dropped."""


class Target(Protocol):
    """Where lines go."""

    name: str

    def write(self, lines: Sequence[bytes]) -> None:
        """Write lines, as a whole. OSError if they are lost."""
        ...


class Writer:
    """Writes lines to a target, in order. direct: at once, in the thread that has them.

    put is called by one thread at a time, as a logging.Handler sees to.
    """

    def __init__(self, target: Target, tell: Tell, *, direct: bool = False, most_bytes: int = _MOST_BYTES) -> None:
        self._target = target
        self._tell = tell
        self._most_bytes = most_bytes
        self.direct = direct
        self._queue: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._put_bytes = self._written_bytes = 0  # each counted by one side alone, so without a lock
        self.dropped = self._told = 0
        self._next_told_at = 0.0
        _writers.add(self)

    def put(self, line: bytes) -> None:
        """Have a line written. Never waits, unless direct."""
        if self.direct:
            self._write([line])
        elif self._put_bytes - self._written_bytes > self._most_bytes:
            self.dropped += 1
        else:
            self._put_bytes += len(line)
            self._queue.put(line)
            if self._thread is None:
                self._start()

    def flush(self, seconds: float) -> bool:
        """Wait until what was put is written, so long at most; whether it is."""
        if self._thread is None:
            return True
        done = threading.Event()
        self._queue.put(done)
        return done.wait(seconds)

    def forget(self) -> None:
        """In a forked process: what waits is the parent's to write, and its thread is not here."""
        self.direct, self._thread, self._queue = True, None, SimpleQueue()

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:  # at the end of the process, or there are too many
            self._thread, self.direct = None, True
            with suppress(Empty):
                while True:
                    line = self._queue.get_nowait()
                    if isinstance(line, bytes):
                        self._write([line])

    def _work(self) -> None:
        while True:
            batch: list[bytes] = []
            waiting: list[threading.Event] = []
            size = self._take(self._queue.get(), batch, waiting)
            with suppress(Empty):
                while size < _BATCH_BYTES:
                    size += self._take(self._queue.get_nowait(), batch, waiting)
            if batch:
                self._write(batch)
                self._written_bytes += size
            for one in waiting:
                one.set()

    @staticmethod
    def _take(one: bytes | threading.Event, batch: list[bytes], waiting: list[threading.Event]) -> int:
        if isinstance(one, threading.Event):
            waiting.append(one)
            return 0
        batch.append(one)
        return len(one)

    def _write(self, batch: list[bytes]) -> None:
        """Write, come what may. What cannot be written is lost, and that is told on stderr, now and then."""
        if (lost := self.dropped - self._told) > 0:
            self._told += lost
            batch = [self._tell(lost), *batch]
        try:
            self._target.write(batch)
        except (OSError, ValueError) as error:  # ValueError: a stream that was closed
            self.dropped += len(batch)
            self._told += len(batch)
            if time.monotonic() >= self._next_told_at:
                self._next_told_at = time.monotonic() + _TELL_SECONDS
                _complain(f"log lines are lost: {self._target.name} cannot be written: {error}; the work goes on\n")


class Stream:
    """stdout, for instance: by its descriptor where it has one, else as it is."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.name = str(getattr(stream, "name", "the stream"))

    def write(self, lines: Sequence[bytes]) -> None:
        """Write lines, in pieces that a pipe takes as a whole."""
        try:
            fd = self._stream.fileno()
        except (OSError, ValueError, AttributeError):  # it has none: a test's
            self._stream.write(b"".join(lines).decode())
            self._stream.flush()
            return
        piece = b""
        for line in lines:
            if piece and len(piece) + len(line) > _PIECE_BYTES:
                write_all(fd, piece)
                piece = b""
            piece += line
        write_all(fd, piece)


def write_all(fd: int, data: bytes) -> None:
    """Write all of it, however little a descriptor takes at once."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # somebody has made it so, for all who share it
            _is_ready(fd, _HELD_UP_SECONDS)


def _is_ready(fd: int, seconds: float) -> bool:
    """Wait until it takes more, so long at most; whether it does."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))


def _complain(text: str) -> None:
    """On stderr, past whatever stands in for it, and never waiting for a reader."""
    with suppress(OSError, ValueError, AttributeError):
        fd = sys.__stderr__.fileno() if sys.__stderr__ else 2
        if _is_ready(fd, 0):
            os.write(fd, text.encode("utf-8", "backslashreplace"))


_writers: WeakSet[Writer] = WeakSet()


def flush(seconds: float = _FLUSH_SECONDS) -> bool:
    """Wait until all lines of this process are written, so long at most; whether they are."""
    end = time.monotonic() + seconds
    flushed = [writer.flush(max(0.0, end - time.monotonic())) for writer in list(_writers)]
    return all(flushed)


def dropped() -> int:
    """How many lines of this process are lost: there was no room, or they could not be written."""
    return sum(writer.dropped for writer in list(_writers))


def _forget() -> None:
    for writer in list(_writers):
        writer.forget()


atexit.register(flush)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
