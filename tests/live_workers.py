"""Real worker processes on a real store, and the ledger as tests see it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from runtime.base.ids import new_run_id
from runtime.base.store import Store
from runtime.ledger.calls import do
from runtime.ledger.ledger import Ledger
from runtime.ledger.records import FINISHED, Submission
from runtime.ledger.views import RunView
from runtime.processes import Message
from tests.ledger.audit import misplaced
from tests.ledger.keys import stray_keys
from tests.live_servers import until

LEASE_SECONDS = 3.0
FAST = {"FNRUN_QUEUE__LEASE": f"{LEASE_SECONDS}", "FNRUN_QUEUE__BEAT": "500ms", "FNRUN_SERVE__DRAIN": "5s"}
"""Leases that are over soon."""


class Worker:
    """One `fnrun worker-child`, and the end of its line. It has said that it is ready."""

    def __init__(self, root: Path, environ: dict[str, str]) -> None:
        self.line, theirs = socket.socketpair()
        self.log = root / f"worker-{new_run_id()}.log"
        command = [sys.executable, "-P", "-m", "runtime", "--dir", str(root), "worker-child"]
        with theirs, self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "--announce", "--line", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "FNRUN_LOG__FORMAT": "json", **FAST, **environ},
            )
        self.line.settimeout(20)
        self._messages = self.line.makefile()
        self.ready = self.hear()

    def hear(self) -> Message:
        """Its next message."""
        line = self._messages.readline()
        assert line, f"it ended:\n{self.output}"
        return msgspec.json.decode(line, type=Message)

    def tell(self, message: Message) -> None:
        self.line.sendall(msgspec.json.encode(message) + b"\n")

    @property
    def output(self) -> str:
        return self.log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it and wait for its end; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(20)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)
        self._messages.close()
        self.line.close()


class Runs:
    """Submits runs and looks at them."""

    def __init__(self, store: Store) -> None:
        self.client = store.connect()
        self.ledger = Ledger(store.namespace)

    def submit(self, function: str, *, count: int = 1, queue: str = "default", **arguments: Any) -> list[str]:
        payload = msgspec.json.encode(arguments)
        runs = [Submission(id=new_run_id(), function=function, queue=queue, payload=payload) for _ in range(count)]
        for begin in range(0, count, 500):
            do(self.client, self.ledger.accept(runs[begin : begin + 500]))
        return [run.id for run in runs]

    def show(self, ids: Sequence[str]) -> list[RunView]:
        found = do(self.client, self.ledger.show(ids))
        assert None not in found
        return [view for view in found if view]

    def reach(self, ids: Sequence[str], states: frozenset[str] = FINISHED, seconds: float = 30.0) -> list[RunView]:
        """Wait until all are in one of these states. Some at a time: thousands, asked again and again, are dear."""
        left = list(ids)

        def are_there() -> bool:
            while left and all(view.state in states for view in self.show(left[:100])):
                del left[:100]
            return not left

        until(are_there, seconds)
        return self.show(ids)

    def run(self, function: str, **arguments: Any) -> RunView:
        """Submit one and wait for its end."""
        return self.reach(self.submit(function, **arguments))[0]

    def account(self) -> None:
        """Every key has a time to live or is one that may last, and every run is in its place."""
        namespace = self.ledger.prefix.rstrip(":")
        assert stray_keys(self.client, namespace, lasting=("celery:",)) == []
        assert misplaced(self.client, namespace) == []

    def cancel(self, run_id: str) -> None:
        do(self.client, self.ledger.cancel([run_id]))


Starts = Callable[..., Worker]


@contextmanager
def workers(root: Path, store_url: str) -> Iterator[Starts]:
    """Start worker processes on a store; what still runs at the end is killed."""
    started: list[Worker] = []

    def start(**environ: str) -> Worker:
        started.append(Worker(root, {"FNRUN_STORE__URL": store_url, **environ}))
        return started[-1]

    try:
        yield start
    finally:
        for worker in started:
            worker.close()


def journal(root: Path) -> list[tuple[str, int]]:
    """What handlers have written: run, attempt."""
    file = root / "journal"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(line.split()[0], int(line.split()[1])) for line in lines]


def wait_for_lines(root: Path, count: int, seconds: float = 15.0) -> None:
    """Until handlers have written so many."""
    until(lambda: len(journal(root)) >= count, seconds)
