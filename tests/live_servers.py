"""Real processes: `fnrun serve` and `fnrun dev`, on a free port of this machine, ended by their id."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx

START_SECONDS = 40.0


class Server:
    """One `fnrun` process. `url` once it listens; `lines` is what it has printed so far.

    It is the HTTP role alone, as most tests want no more, unless they say so by `--only` or `roles`; None: the default.
    """

    program: tuple[str, ...] = (sys.executable, "-m", "runtime")

    def __init__(
        self, root: Path, *arguments: str, environ: dict[str, str] | None = None, roles: str | None = "http"
    ) -> None:
        self._mark = f"FNRUN_TEST_MARK={uuid.uuid4()}"
        given = dict([self._mark.split("=")]) | ({"FNRUN_SERVE__ONLY": roles} if roles else {}) | (environ or {})
        self.process = subprocess.Popen(
            [*self.program, "--dir", str(root), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **given},
        )
        self.lines: list[str] = []
        self._fresh: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.lines.append(line.rstrip())
                self._fresh.put(line)

    def wait_for_line(self, pattern: str) -> re.Match[str]:
        """The next line that matches; every line is looked at once."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                line = self._fresh.get(timeout=0.1)
            except queue.Empty:
                assert self.process.poll() is None, f"it ended:\n{self.output}"
                continue
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"no line matches {pattern!r}:\n{self.output}")

    def join(self) -> None:
        """Wait until its last line is read."""
        self._reader.join(START_SECONDS)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    @property
    def url(self) -> str:
        if not hasattr(self, "_url"):
            self._url = self.wait_for_line(r'"url": "([^"]+)"')[1]
        return self._url

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def family(self) -> dict[int, str]:
        """The processes it and its children started that still run, by pid: their command lines."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self._mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    @property
    def serving(self) -> int:
        """The process that answers, of which there is one."""
        (pid,) = (pid for pid, command in self.family().items() if " serve-child " in command)
        return pid

    def client(self, **options) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=10, **options)

    def kill(self) -> None:
        """Kill it, if it still runs. What it started ends by itself, also what a test froze and then failed."""
        if self.process.poll() is None:
            for pid in self.family():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            self.process.kill()
            self.process.wait()
        self.join()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it and wait for its end; its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end and its last line; its exit code."""
        code = self.process.wait(START_SECONDS)
        self.join()
        return code


def until(condition: Callable[[], object], seconds: float = 10.0) -> object:
    """Poll a condition until it holds; its value."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)
    return found
