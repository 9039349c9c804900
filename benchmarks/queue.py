"""Measure the queue alone, in less than a minute: what `benchmarks.compare --only queue` measures beside its peers.

`make bench-queue`; --help tells the options. Drain: so many runs are queued, then one worker is started, and the
time is taken from when 10% are done until 90% are; once more with what Celery's own client has sent. Submit: from one
process, nothing else at work. Lag: one at a time, from submit to the handler's first line. Never judges a time.
"""

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import redis
from celery import Celery

from runtime import submit, submit_sync
from runtime.base.settings import load_settings
from runtime.ledger.desk import open_desk, use

HERE = Path(__file__).resolve().parent
PREFIX = "celery-bench:"

OURS, SENT = "fnrun", "fnrun, Celery sends"
"""The second is what Celery's own client has sent, run by fnrun."""
_START_SECONDS = 30
_STALLED_SECONDS = 60


class Bench:
    """The store, and what is measured on it."""

    def __init__(self, root: Path, count: int) -> None:
        self.root, self.count = root, count
        self.desk = open_desk(root, load_settings(root).settings)
        use(self.desk)
        self.client: redis.Redis = self.desk.store.connect()
        os.environ["FNRUN_DIR"] = str(root)

    @contextmanager
    def worker(self) -> Iterator[None]:
        """One worker process, alone on its core where there are two."""
        command = [sys.executable, "-P", "-m", "runtime", "--dir", str(self.root), "serve", "--only", "worker"]
        environ = {**os.environ, "FNRUN_LOG__LEVEL": "warning"}
        environ["FNRUN_QUEUE__CELERY_PREFIX"] = PREFIX
        process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_START_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)

    def left(self, function: str) -> int:
        """How many are not done."""
        waiting = int(self.client.llen(f"{PREFIX}bench"))
        return waiting + int(self.client.zcard(f"{self.desk.ledger.prefix}open:jobs.{function}"))

    def fill(self, side: str, function: str) -> None:
        """Queue them all."""
        if side == OURS:
            submit_sync.many(f"jobs.{function}", [{}] * self.count)
            return
        options = {"task_default_queue": "bench", "broker_transport_options": {"global_keyprefix": PREFIX}}
        sender = Celery(broker=self.desk.store.broker_url, changes=options)
        with sender, sender.pool.acquire(block=True) as connection:
            for _ in range(self.count):
                sender.send_task(f"jobs.{function}", connection=connection)

    def drain(self, side: str, function: str) -> float:
        """Runs a second."""
        self.fill(side, function)
        total = self.left(function)
        with self.worker():
            began = self.reach(function, int(total * 0.9))
            ended = self.reach(function, int(total * 0.1))
            self.reach(function, 0)
        return total * 0.8 / (ended - began)

    def reach(self, function: str, left: int) -> float:
        """When no more than so many are left."""
        end = time.monotonic() + _STALLED_SECONDS
        while (found := self.left(function)) > left:
            if time.monotonic() > end:
                raise SystemExit(f"{found} of {function} are left and do not get fewer")
            time.sleep(0.005)
        return time.monotonic()

    def submit(self, _: str) -> float:
        """Submits a second, from one process."""
        count = min(self.count, 10_000)

        async def all_of_them() -> None:
            for _ in range(0, count, 1000):
                await asyncio.gather(*(submit("jobs.noop") for _ in range(1000)))

        began = time.monotonic()
        asyncio.run(all_of_them())
        rate = count / (time.monotonic() - began)
        self.client.flushdb()
        return rate

    def lag(self) -> list[float]:
        """Milliseconds from submit to start, one at a time."""
        found = []
        with self.worker():
            for _ in range(220):
                seconds = submit_sync("jobs.lag", sent=time.time()).result(timeout=_START_SECONDS)
                found.append(seconds * 1000)
        return found[20:]


def measure(title: str, rounds: int, sides: list[str], once: Callable[[str], float]) -> None:
    """All sides in turn, so many times. Each one's median, and its spread."""
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            rates[side].append(once(side))
    for side, found in rates.items():
        print(f"{title:14} {side:20} {median(found):9,.0f}/s  ({min(found):,.0f}-{max(found):,.0f})")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=20_000, help="runs to drain a round")
    parser.add_argument("--quick", action="store_true", help="one round of few runs: shows that it works")
    parser.add_argument("--only", choices=("drain", "submit", "lag"))
    parser.add_argument("--concurrency", type=int, default=100, help="of our worker; for naps, more is faster")
    parser.add_argument("--function", choices=("noop", "nap"), help="drain only this")
    parser.add_argument("--alone", action="store_true", help="drain without what Celery sends")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.count = 1, 2000
    folder = Path(tempfile.mkdtemp(prefix="bench"))
    shutil.copytree(HERE / "apps" / "queue", folder, dirs_exist_ok=True)
    os.environ["FNRUN_QUEUE__CONCURRENCY"] = str(options.concurrency)
    bench = Bench(folder, options.count)
    sides = [OURS] if options.alone else [OURS, SENT]
    try:
        if options.only in (None, "drain"):
            for function in (options.function,) if options.function else ("noop", "nap"):
                measure(f"drain {function}", options.rounds, sides, lambda side, f=function: bench.drain(side, f))
        if options.only in (None, "submit"):
            measure("submit", options.rounds, [OURS], bench.submit)
        if options.only in (None, "lag"):
            found = quantiles(bench.lag(), n=100)
            print(f"{'lag':14} {OURS:20} p50 {found[49]:.1f} ms, p99 {found[98]:.1f} ms")
    finally:
        bench.desk.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
