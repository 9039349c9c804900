"""What Linux knows of a process: its time, its memory, its open files. Called at each scrape."""

import os
from functools import cache
from pathlib import Path

import msgspec

_UTIME, _STIME, _RSS = 11, 12, 21
"""Fields of /proc/PID/stat, counted behind the program's name."""


class Usage(msgspec.Struct, frozen=True):
    """Of one process. cpu_seconds: user and system. rss_bytes: memory that it really has. fds: open ones."""

    cpu_seconds: float
    rss_bytes: int
    fds: int


def usage_of(pid: int) -> Usage | None:
    """What it uses; None if nobody can tell."""
    folder = Path(f"/proc/{pid}")
    try:
        fields = (folder / "stat").read_bytes().rpartition(b") ")[2].split()
        fds = len(os.listdir(folder / "fd"))  # noqa: PTH208 - their number alone is asked
    except OSError:
        return None
    ticks, page = _units()
    return Usage((int(fields[_UTIME]) + int(fields[_STIME])) / ticks, int(fields[_RSS]) * page, fds)


@cache
def _units() -> tuple[int, int]:
    return os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
