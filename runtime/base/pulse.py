"""A child's sign of life: a little memory that it shares with its parent, and room for its stacks.

Made by the parent (processes), beaten by the child's watchdog. A child whose interpreter is held by C code, a regular
expression that backtracks for instance, can tell nobody; that it is silent can be seen.
"""

import faulthandler
import mmap
import os
import signal
import struct
from functools import cache
from pathlib import Path
from typing import Self

STUCK = 70
"""The exit code of a process that ends because a handler holds its event loop."""

_SIGNAL = getattr(signal, "SIGRTMAX", signal.SIGUSR2)
"""Has a child write its stacks. The last of the real-time signals, which nobody else uses."""
_PAGE = mmap.PAGESIZE
_BEATS = struct.Struct("Q")
_LONGEST_STACKS = 100_000
_BELOW = f'  File "{Path(__file__).parents[1] / "invoke" / "execute.py"}"'


class Pulse:
    """Either side of it. fd: of the file that is the memory; of the child it is the one it inherits.

    The first page counts beats, 0 while nobody shall mind; behind it stand the stacks.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, _PAGE)

    @classmethod
    def make(cls) -> Self:
        """The parent's."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("pulse")
        else:
            import tempfile  # noqa: PLC0415 - it loads much

            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, _PAGE)
        return cls(fd)

    @classmethod
    def inherited(cls, fd: int) -> Self:
        """The child's, which no process that it starts inherits in turn."""
        os.set_inheritable(fd, False)
        os.lseek(fd, _PAGE, os.SEEK_SET)
        faulthandler.register(_SIGNAL, file=fd, all_threads=True)
        return cls(fd)

    @property
    def beats(self) -> int:
        """How many there were."""
        return int(_BEATS.unpack_from(self._memory)[0])

    def beat(self) -> None:
        """Give a sign of life; from one thread alone."""
        _BEATS.pack_into(self._memory, 0, self.beats + 1)

    def rest(self) -> None:
        """From now on silence means nothing."""
        _BEATS.pack_into(self._memory, 0, 0)

    def close(self) -> None:
        """The parent needs it no longer."""
        self._memory.close()
        os.close(self.fd)

    def ask_for_stacks(self, pid: int) -> None:
        """Have the child write where its threads are. It needs no interpreter for that. ProcessLookupError."""
        os.kill(pid, _SIGNAL)

    def stacks(self) -> str:
        """What it has written of threads that run code of the project's; of all if none does. Innermost first."""
        threads = os.pread(self.fd, _LONGEST_STACKS, _PAGE).decode(errors="replace").strip().split("\n\n")
        return "\n\n".join([cut for one in threads if _is_theirs(cut := one.partition(_BELOW)[0].rstrip())] or threads)


def _is_theirs(stack: str) -> bool:
    lines = [line.lstrip() for line in stack.splitlines()]
    return any(line.startswith("File ") and not line.startswith(_ours()) for line in lines)


@cache
def _ours() -> tuple[str, ...]:
    """How lines begin that are of our files, or of libraries."""
    import sysconfig  # noqa: PLC0415 - for a parent that has seen a child die, not for its start

    libraries = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return tuple(f'File "{path}' for path in (Path(__file__).parents[1], *libraries, "<frozen"))


class Silence:
    """How long a pulse has stood still, counted in looks: a parent that was frozen itself has looked but once."""

    def __init__(self, look_seconds: float) -> None:
        self._look_seconds = look_seconds
        self._last = 0
        self.seconds = 0.0

    def look(self, beats: int, *, frozen: bool) -> float:
        """For how long it is silent now. frozen: somebody has stopped the process, which can say nothing then."""
        if frozen or not beats or beats != self._last:
            self.seconds = 0.0
        else:
            self.seconds += self._look_seconds
        self._last = beats
        return self.seconds
