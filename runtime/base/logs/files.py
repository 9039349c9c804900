"""A log file that all processes of a system write, and whoever finds it due rotates, by size and by time.

Used by setup, as a writer's target. Lines are appended under a shared lock (flock, of a file beside it) and the file is
renamed under an exclusive one: so nobody writes into a file that has been put aside, and nobody rotates twice. Locks of
dead processes are gone with them; a frozen one holds up nobody for long.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from runtime.base.errors import StartError
from runtime.base.logs.writers import write_all

_PATIENCE_SECONDS = 1.0
_ROTATING_SECONDS = 0.2
_PAUSE_SECONDS = 0.002


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """size: bytes of a file. every: seconds, from midnight UTC on. keep, keep_files: how long, how many put aside."""

    size: int = 50_000_000
    every: float = 86_400.0
    keep: float = 14 * 86_400.0
    keep_files: int = 30


class LogFile:
    """The file at `path`. Those put aside stand beside it, named by their time."""

    def __init__(self, path: Path, rotation: Rotation = Rotation(), clock: Callable[[], float] = time.time) -> None:  # noqa: B008 - frozen
        self.name = str(path)
        self._path = path
        self._rotation = rotation
        self._clock = clock
        self._fd = self._lock_fd = -1
        self._pid = os.getpid()
        self._torn = False

    def check(self) -> None:
        """StartError if it cannot be written."""
        try:
            self._open_lock()
            self._open()
        except OSError as error:
            raise StartError(
                f"log.file: {self._path} cannot be written: {error.strerror}; name another, or have its folder writable"
            ) from None

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines, to a new file if that is due. OSError if they are lost."""
        data = b"".join(lines)
        self._open_lock()
        with self._locked(fcntl.LOCK_SH, _PATIENCE_SECONDS):
            due = self._is_due(self._open(), len(data))
        if due:
            with self._locked(fcntl.LOCK_EX, _ROTATING_SECONDS) as is_ours:
                if is_ours and self._is_due(self._open(), len(data)):
                    self._put_aside()
        with self._locked(fcntl.LOCK_SH, _PATIENCE_SECONDS):
            self._open()
            if self._torn:  # the disk was full in the middle of a line
                data = b"\n" + data
            self._torn = True
            write_all(self._fd, data)
            self._torn = False

    def _open(self) -> os.stat_result:
        """Have the file open that is at the path now; what it is like."""
        found = None
        with suppress(FileNotFoundError):
            found = self._path.stat()
        if self._fd >= 0 and found is not None:
            ours = os.fstat(self._fd)
            if (ours.st_ino, ours.st_dev) == (found.st_ino, found.st_dev):
                return ours
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        return os.fstat(self._fd)

    def _open_lock(self) -> None:
        if self._pid != os.getpid():  # a fork shares our lock, and would let go of it
            self._close()
        path = self._path.with_name(f".{self._path.name}.lock")
        with suppress(FileNotFoundError):
            if self._lock_fd >= 0 and path.stat().st_ino == os.fstat(self._lock_fd).st_ino:
                return
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _close(self) -> None:
        self._pid = os.getpid()
        for fd in (self._fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock_fd = -1

    @contextmanager
    def _locked(self, kind: int, seconds: float) -> Iterator[bool]:
        """Hold the lock, or not, if it cannot be had so soon: lines are worth more than order."""
        end = time.monotonic() + seconds
        held = False
        while not held:
            try:
                fcntl.flock(self._lock_fd, kind | fcntl.LOCK_NB)
                held = True
            except OSError:
                if time.monotonic() >= end:
                    break
                time.sleep(_PAUSE_SECONDS)
        try:
            yield held
        finally:
            if held:
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def _is_due(self, found: os.stat_result, more: int) -> bool:
        """Whether it has become too large, or its last line is of an earlier time."""
        if not found.st_size:
            return False
        every = self._rotation.every
        return found.st_size + more > self._rotation.size or found.st_mtime // every < self._clock() // every

    def _put_aside(self) -> None:
        stamp = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
        aside, more = self._aside(stamp), 0
        while aside.exists():
            more += 1
            aside = self._aside(f"{stamp}-{more}")
        self._path.rename(aside)
        self._open()
        self._clean()

    def _aside(self, stamp: str) -> Path:
        return self._path.with_name(f"{self._path.stem}.{stamp}Z{self._path.suffix}")

    def _clean(self) -> None:
        """Remove the oldest of those put aside."""
        stem, suffix = re.escape(self._path.stem), re.escape(self._path.suffix)
        ours = re.compile(rf"{stem}\.\d{{8}}T\d{{6}}\.\d{{3}}(-\d+)?Z{suffix}")
        aside = (one for one in self._path.parent.iterdir() if ours.fullmatch(one.name))
        found = sorted(aside, key=lambda one: one.stat().st_mtime, reverse=True)
        oldest = self._clock() - self._rotation.keep
        for at, one in enumerate(found):
            if at >= self._rotation.keep_files or one.stat().st_mtime < oldest:
                one.unlink(missing_ok=True)


def path_of(root: Path, named: str) -> Path:
    """The file that a setting names: a folder's is fnrun.log in it."""
    path = root / named
    return path / "fnrun.log" if named.endswith("/") or path.is_dir() else path
