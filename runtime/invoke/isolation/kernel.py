"""What is asked of the kernel about processes: who dies with whom, whose child an orphan is, how much memory it has.

Used by runtime.zygote and runtime.cell, and by what runs in a cell. Elsewhere than on Linux most of it does nothing.
"""

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_M_ARENA_MAX = -8
_OOM_SCORE = "500"
"""For the kernel, when memory is short: rather a cell than its worker. From -1000 (never) to 1000."""


def die_with_parent() -> None:
    """Be killed when the parent dies, and be the first to go when memory is short."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")


def adopt_orphans() -> None:
    """Become the parent of all processes below this one whose own parents die: a daemon does not get away."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children() -> set[int]:
    """Ids of this process's children, dead ones that nobody has waited for among them. Of a process of one thread."""
    pid = os.getpid()
    try:
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()))
    except OSError:  # not Linux, or a kernel without it
        return set()


def has_children() -> bool:
    """Whether this process has any, dead or alive."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def kill_group(pid: int) -> None:
    """Kill a process and its group; the process itself, too, if it has no group of its own yet."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def address_space() -> int:
    """Bytes that this process has mapped; 0 where nobody can say."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def share_arena() -> None:
    """Have all threads allocate from one arena. Each of glibc's own takes 128 MB of address space, used or not."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def limit_memory(more_bytes: int) -> None:
    """Let this process map so much more than it has now, at most."""
    if used := address_space():
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        soft = used + more_bytes
        resource.setrlimit(resource.RLIMIT_AS, (soft if most == resource.RLIM_INFINITY else min(soft, most), most))


def lift_limit() -> None:
    """Let it have all it may again."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
