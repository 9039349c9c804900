"""Processes that are measured: started on a core of their own, watched, and ended with all their children.

Called by web, jobs and overload.py. Ends nothing that it has not started.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.load import HOST, ask

KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")  # the others could configure a server: THREADS, FNRUN_...
_START_SECONDS, _STOP_SECONDS = 30, 4  # robyn does not heed SIGTERM


class BenchmarkError(Exception):
    """A program that does not start, answers wrongly, or fails under load."""


def pick_cores() -> tuple[int | None, int | None]:
    """One for the server, one for the client; None where the system cannot pin, or has but one."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """What is started inside runs on `core`: children inherit it from the first instruction on."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def clean_environ(**more: str) -> dict[str, str]:
    """What a measured program is told: nothing that we have not thought of."""
    kept = {key: os.environ[key] for key in KEPT_VARIABLES if key in os.environ}
    return {**kept, **more}


def start(command: Sequence[str], log: Path, cwd: Path, environ: dict[str, str]) -> "subprocess.Popen[bytes]":
    """In a process group of its own; what it says goes to `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip


def wait_until_up(process: "subprocess.Popen[bytes]", port: int, path: str) -> None:
    """Until it answers GET `path` with 200."""
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise BenchmarkError(f"it did not start, exit code {process.returncode}")
        try:
            status, _ = ask(port, "GET", path)
        except (OSError, ValueError):
            time.sleep(0.005)
            continue
        if status == 200:
            return
        raise BenchmarkError(f"GET {path} answers {status}")
    raise BenchmarkError(f"it did not answer within {_START_SECONDS} s")


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End the whole process group: in order, then by force."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_STOP_SECONDS)


def tree(root: int) -> set[int]:
    """A process and those it has begun, and theirs."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def memory_mb(root: int) -> float:
    """Of a process and its children: what they share is counted once (PSS)."""
    kilobytes = 0
    for pid in tree(root):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kilobytes += int(line.split()[1])
    return kilobytes * 1024 / 1e6


def tail(log: Path) -> str:
    """The end of what a program said."""
    return log.read_text(errors="replace")[-2000:] if log.exists() else ""
