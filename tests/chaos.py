"""Runs under workers that are killed: what tests/live/test_chaos.py does on a small scale, and `python -m tests.chaos`
on any. The checker is outside the store: handlers append their run's id to a file, in one write each.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from textwrap import dedent

import msgspec

from runtime.base.settings import load_settings
from runtime.ledger.desk import Desk, open_desk
from runtime.ledger.ledger import Ledger
from runtime.ledger.records import Submission
from tests.ledger.keys import stray_keys
from tests.live_servers import Server, until

FUNCTIONS = """
    import asyncio, os, time
    from runtime import Context, queue

    def note(ctx):
        # A killed process loses nothing it has written: no fsync is needed against kill -9.
        file = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{ctx.run_id} {ctx.attempt}\\n".encode())
        os.close(file)

    @queue("chaos")
    async def work(ctx: Context, seconds: float = 0.01) -> str:
        note(ctx)
        await asyncio.sleep(seconds)
        return ctx.run_id

    @queue("chaos")
    def work_in_thread(ctx: Context, seconds: float = 0.01) -> str:
        note(ctx)
        time.sleep(seconds)
        return ctx.run_id
"""
CONCURRENCY = 50
_MOSTLY = 0.99
"""Workers are killed until so much has begun: the last runs could be unlucky for long."""
_PATIENCE_SECONDS = 600.0
TEST_PROFILE = '[queue]\nlease = "5s"\nbeat = "1s"\n'


class Journal:
    """What handlers have written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def counts(self) -> Counter[str]:
        """How often each run has begun."""
        return (
            Counter(line.split()[0] for line in self.path.read_text().splitlines()) if self.path.exists() else Counter()
        )


def children_of(pid: int) -> list[int]:
    """The ids of a process's children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def command_of(pid: int) -> str:
    """A process's command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def workers_of(server: Server) -> list[int]:
    """The worker processes that a server supervises."""
    return [pid for pid in children_of(server.process.pid) if "worker-child" in command_of(pid)]


class Killer:
    """Kills a random worker every so often, until stopped; none while nothing has begun since the last one.

    Else a busy machine, where a start takes longer than that, would never come to an end.
    """

    def __init__(self, server: Server, between: tuple[float, float], journal: Journal) -> None:
        self.kills = 0
        self._server, self._between, self._journal = server, between, journal
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Killer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        before = -1
        while not self._stop.wait(random.uniform(*self._between)):
            begun = self._journal.counts().total()
            workers = workers_of(self._server)
            if workers and begun != before:
                before = begun
                os.kill(random.choice(workers), signal.SIGKILL)
                self.kills += 1


def submit_all(desk: Desk, ledger: Ledger, count: int, seconds: float) -> list[str]:
    """Queue so many runs, each of which takes so long."""
    payload = msgspec.json.encode({"seconds": seconds})
    ids = [f"chaos-{i:06}" for i in range(count)]
    for at in range(0, count, 500):
        batch = [
            Submission(
                id=one, function="chaos.work" if i % 5 else "chaos.work_in_thread", queue="chaos", payload=payload
            )
            for i, one in enumerate(ids[at : at + 500])
        ]
        assert all(found.verdict == "accepted" for found in desk.ask_sync(ledger.accept(batch)))
    return ids


def open_runs(desk: Desk) -> int:
    """How many are not finished."""
    return sum(queue.ready + queue.later + queue.running for queue in desk.ask_sync(desk.ledger.queues()))


def check(desk: Desk, ids: list[str], journal: Journal) -> dict[str, int]:
    """Nothing is lost, each has one outcome, no attempt of a healthy run was spent. Returns figures."""
    counts = journal.counts()
    lost, unexpected = set(ids) - set(counts), set(counts) - set(ids)
    views = [view for at in range(0, len(ids), 500) for view in desk.ask_sync(desk.ledger.show(ids[at : at + 500]))]
    assert not lost
    assert not unexpected
    assert all(view is not None and view.state == "succeeded" for view in views)
    assert all(view.failures == 0 for view in views if view)
    assert all(bytes(view.result or b"").decode() == f'"{view.id}"' for view in views if view)
    return {"duplicates": sum(counts.values()) - len(counts), "crashes": sum(view.crashes for view in views if view)}


def run(
    folder: Path, count: int, seconds: float, *, workers: int = 3, between: tuple[float, float] = (0.5, 2.0)
) -> dict[str, float]:
    """The whole of it, with runs that take so long; figures. Workers are killed until nearly all have begun."""
    (folder / "functions").mkdir(exist_ok=True)
    (folder / "functions" / "chaos.py").write_text(dedent(FUNCTIONS))
    (folder / "functions.toml").write_text(
        TEST_PROFILE + f"workers = {workers}\nconcurrency = {CONCURRENCY}\nkeep_count = 1000000\n"
    )
    journal = Journal(folder / "journal")
    desk = open_desk(folder, load_settings(folder).settings)
    server = Server(folder, "serve", "--only", "worker", environ={"JOURNAL": str(journal.path)})
    try:
        server.wait_for_line("taking runs")
        ids = submit_all(desk, desk.ledger, count, seconds)
        began = time.monotonic()
        with Killer(server, between, journal) as killer:
            until(lambda: len(journal.counts()) >= count * _MOSTLY, _PATIENCE_SECONDS)
        until(lambda: not open_runs(desk), _PATIENCE_SECONDS)
        took = time.monotonic() - began
        figures = check(desk, ids, journal)
        assert killer.kills
        assert figures["duplicates"] <= killer.kills * CONCURRENCY
        assert stray_keys(desk.store.connect(), desk.store.namespace, lasting=("celery:",)) == []
        assert server.stop() == 0
        return {"runs": count, "seconds": round(took, 1), "kills": killer.kills, **figures}
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.wait()
        desk.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--every", type=float, nargs=2, default=(0.5, 2.0))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos", ignore_cleanup_errors=True) as temporary:
        found = run(
            Path(temporary), options.runs, options.seconds, workers=options.workers, between=tuple(options.every)
        )
        sys.stdout.write(f"{found}\n")
