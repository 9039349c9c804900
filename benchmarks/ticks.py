"""Measure schedules beside Celery beat and bare APScheduler: many that are due at one instant, on one store.

`make bench-ticks`; --help tells the options. Burst: all are due when a minute begins; from outside it is looked every
few ms how many runs (of beat: messages) are there, which gives when half of them and 99% of them were. Spread: as many,
167 each second of 10,000; by when the store accepted each. Idle: none of them is due. Start: from the start of the
process until it fires. Nobody runs what is fired. Never judges a time.
"""

import argparse
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
from statistics import quantiles

import redis

from runtime.base.settings import load_settings
from runtime.ledger.desk import open_desk

HERE = Path(__file__).resolve().parent
_LOOK_SECONDS = 0.002
_PATIENCE_SECONDS = 100.0
_IDLE_SECONDS = 10.0
_SPREAD_SECONDS = 20.0

Rule = Callable[[int], str]
AT_ONCE: Rule = lambda _: 'cron = "* * * * *"'  # noqa: E731
SPREAD: Rule = lambda number: f'cron = "{number % 60} * * * * *"'  # noqa: E731
LATER: Rule = lambda number: f'cron = "{number % 60} 0 1 1 *"'  # noqa: E731


class Bench:
    """The store, and what is measured on it."""

    def __init__(self, root: Path, count: int) -> None:
        self.root, self.count = root, count
        self.desk = open_desk(root, load_settings(root).settings)
        self.client: redis.Redis = self.desk.store.connect()
        self.prefix = self.desk.ledger.prefix
        os.environ["BENCH_BROKER"] = self.desk.store.broker_url
        os.environ["BENCH_COUNT"] = str(count)

    @contextmanager
    def scheduler(self, rule: Rule) -> Iterator[tuple[subprocess.Popen[str], float]]:
        """One process of ours with so many schedules, and how long it took until it fired, in seconds."""
        self.client.flushdb()
        tables = [f'[schedules.s{n}]\nfunction = "jobs.tick"\noverlap = "allow"\n{rule(n)}' for n in range(self.count)]
        (self.root / "functions.toml").write_text("\n".join(tables))
        command = [sys.executable, "-P", "-m", "runtime", "--dir", str(self.root), "serve", "--only", "scheduler"]
        with _ended([*command, "--log-level", "info"], stdout=subprocess.PIPE, text=True) as process:
            began = time.monotonic()
            assert process.stdout is not None
            while (line := process.stdout.readline()) and "schedules fire" not in line:
                pass
            yield process, time.monotonic() - began

    @contextmanager
    def apscheduler(self) -> Iterator[subprocess.Popen[str]]:
        """APScheduler with a job for each, and nothing that would outlive it: each notes that it ran."""
        self.client.flushdb()
        with _ended([sys.executable, str(HERE / "apps" / "apscheduler_app.py")], text=True) as process:
            yield process

    @contextmanager
    def beat(self) -> Iterator[subprocess.Popen[str]]:
        """Celery beat, without its file: its fastest scheduler."""
        self.client.flushdb()
        command = [sys.executable, "-m", "celery", "-A", "beat_app", "beat", "-S", "celery.beat.Scheduler"]
        environ = {**os.environ, "PYTHONPATH": str(HERE / "apps")}
        with _ended([*command, "--loglevel", "ERROR"], env=environ, text=True) as process:
            yield process

    def fired(self) -> int:
        """How many runs there are."""
        return int(self.client.zcard(f"{self.prefix}open:jobs.tick"))

    def sent(self) -> int:
        """How many messages beat has sent, or notes APScheduler has left."""
        return int(self.client.llen("beat-bench:beat"))

    def burst(self, process: subprocess.Popen[str], there: Callable[[], int]) -> str:
        """When a minute begins: how late half of them were there, and 99%, and all."""
        at = (time.time() // 60 + 1) * 60
        before = there()
        marks = dict.fromkeys((0.5, 0.99, 1.0), 0.0)
        time.sleep(max(0.0, at - time.time() - 0.1))
        while not marks[1.0]:
            done, now = there() - before, time.time()
            for part, when in marks.items():
                if not when and done >= self.count * part:
                    marks[part] = now - at
            if now > at + _PATIENCE_SECONDS or process.poll() is not None:
                return f"{done} of {self.count} after {now - at:.1f} s" + " and it has ended" * (
                    process.poll() is not None
                )
            time.sleep(_LOOK_SECONDS)
        return ", ".join(f"{part:.0%} after {seconds * 1000:,.0f} ms" for part, seconds in marks.items())

    def spread(self) -> str:
        """How late each was accepted, and the CPU it took."""
        with self.scheduler(SPREAD) as (process, _):
            cpu = _cpu_of(process.pid, _SPREAD_SECONDS)
            names = self.client.zrange(f"{self.prefix}open:jobs.tick", 0, -1)
            late = []
            for at in range(0, len(names), 500):
                found = self.desk.ask_sync(self.desk.ledger.show([one.decode() for one in names[at : at + 500]]))
                late += [run.accepted * 1000 - int(run.id.rpartition("-")[2]) for run in found if run]
        cuts = quantiles(late, n=100)
        return f"late p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms; CPU {cpu:.1%}; {len(late)} runs"

    def idle(self) -> str:
        """Where nothing is due: the CPU it takes, and how long it took to start."""
        with self.scheduler(LATER) as (process, start):
            cpu = _cpu_of(process.pid, _IDLE_SECONDS)
        return f"start {start:.2f} s; CPU {cpu:.1%}"


def _cpu_of(pid: int, seconds: float) -> float:
    """The share of a core that a process takes, once it has settled; measured for so long."""
    time.sleep(2)
    before = _cpu_seconds(pid)
    time.sleep(seconds)
    return (_cpu_seconds(pid) - before) / seconds


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _ended(command: list[str], **options) -> Iterator[subprocess.Popen[str]]:
    """A process, that is ended."""
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def measure(bench: Bench, only: str | None, rounds: int) -> Iterator[str]:
    """What was asked for, line by line."""
    if only in (None, "burst"):
        with bench.scheduler(AT_ONCE) as (process, _):
            yield from (f"burst   fnrun        {bench.burst(process, bench.fired)}" for _ in range(rounds))
    if only in (None, "beat"):
        with bench.beat() as process:
            yield from (f"burst   celery beat  {bench.burst(process, bench.sent)}" for _ in range(rounds))
    if only in (None, "apscheduler"):
        with bench.apscheduler() as process:
            yield from (f"burst   apscheduler  {bench.burst(process, bench.sent)}" for _ in range(rounds))
    if only in (None, "spread"):
        yield f"spread  fnrun        {bench.spread()}"
    if only in (None, "idle"):
        yield f"idle    fnrun        {bench.idle()}"


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 1000, 10_000], help="schedules")
    parser.add_argument("--rounds", type=int, default=1, help="bursts")
    parser.add_argument("--only", choices=("burst", "beat", "apscheduler", "spread", "idle"))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench"))
    shutil.copytree(HERE / "apps" / "ticks", folder, dirs_exist_ok=True)
    try:
        for count in options.counts:
            bench = Bench(folder, count)
            try:
                for line in measure(bench, options.only, options.rounds):
                    print(f"{count:6,}  {line}", flush=True)
            finally:
                bench.desk.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
