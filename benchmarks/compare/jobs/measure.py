"""Measure the queues in turn, round by round.

Called by compare's command. A task writes the time when it begins (apps/jobs/marks.py), for all sides alike, so that
rates and delays are seen from outside. Drain: so many jobs are queued, then one worker is started; the rate is that of
the middle 80%. Submit: what queued the no-ops, one process. Lag: one at a time. Delayed: all due at one instant.
"""

import json
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree, ignore_patterns
from statistics import quantiles
from typing import Any, NamedTuple

from benchmarks.compare import environments, processes
from benchmarks.compare.environments import BENCHMARKS, OURS, NotInstalledError
from benchmarks.compare.jobs.sides import SIDES, Side
from benchmarks.compare.jobs.store import serve_store
from benchmarks.compare.processes import BenchmarkError
from benchmarks.compare.results import Case, Results

PART = "queue"
APPS = BENCHMARKS / "apps" / "jobs"
CASES = {
    "submit": Case("Submit, one process", "jobs/s"),
    "drain-noop": Case("Drain, jobs that do nothing", "jobs/s"),
    "drain-nap": Case("Drain, jobs that wait 10 ms", "jobs/s"),
    "lag-p50": Case("Submit to start, p50", "ms", less=True),
    "lag-p99": Case("Submit to start, p99", "ms", less=True),
    "memory": Case("Memory of the idle worker", "MB", less=True),
    "delayed-p99": Case("10,000 due at one instant: late, p99", "ms", less=True),
    "delayed-memory": Case("Memory for 10,000 delayed jobs", "MB", less=True),
}
_TOGETHER = (
    ("submit", "drain-noop"),
    ("drain-nap",),
    ("lag-p50", "lag-p99", "memory"),
    ("delayed-p99", "delayed-memory"),
)
"""What one measurement gives; it goes by the name of the last."""
_QUICK = ("submit", "drain-noop")
_FILL_SECONDS, _LAGS, _DELAYED = 2.0, 200, 10_000
_PATIENCE_SECONDS = 60
_LEAST_MB = 1.0  # what is less cannot be told from chance


class Plan(NamedTuple):
    """scale: of the numbers of jobs; 1 keeps each side busy for some 2 s a measurement."""

    sides: list[str]
    cases: list[str]
    rounds: int
    scale: float


def measure(plan: Plan, results: Results, *, resume: bool) -> None:
    """Fill the results; each figure is there as soon as it is known."""
    results.begin(PART, {case: CASES[case] for case in plan.cases}, {"scale": plan.scale}, resume=resume)
    pythons, passed_over = {}, {}
    for name in plan.sides:
        try:
            pythons[name] = environments.prepare(SIDES[name].environment)
        except NotInstalledError as error:
            print(f"{name} is passed over: {error}", flush=True)
            passed_over[name] = str(error)
    notes = {
        name: "; ".join((SIDES[name].note, " ".join(environments.requirements(SIDES[name].environment)))).rstrip("; ")
        for name in pythons
    }
    results.part(PART, servers=notes, passed_over=dict.fromkeys(pythons) | passed_over, failed=dict.fromkeys(pythons))
    names = list(pythons)
    with serve_store() as (url, client):
        for number in range(plan.rounds):
            first = number % max(1, len(names))
            for name in names[first:] + names[:first]:
                _take(_Desk(name, pythons[name], url, client, plan.scale), number, plan, results)


def _take(desk: "_Desk", number: int, plan: Plan, results: Results) -> None:
    """One side in one round. A fault ends its turn, is told, and leaves the others theirs."""
    shown = []
    try:
        for together in _TOGETHER:
            wanted = [case for case in together if case in plan.cases and case not in desk.side.without]
            if all(results.has(f"{PART}.{case}", desk.name, number) for case in wanted):
                continue
            if together[0].startswith("delayed") and number:
                continue  # once: it takes as long as all else
            found = desk.measure(together[-1])
            for case in wanted:
                results.add(f"{PART}.{case}", desk.name, number, found[case])
                shown.append(f"{case} {found[case]:,.{2 if found[case] < 100 else 0}f}")
    except (BenchmarkError, subprocess.TimeoutExpired) as error:
        if desk.name == OURS:
            raise
        print(f"round {number + 1}: {desk.name}: {error}", flush=True)
        results.part(PART, failed={desk.name: str(error).splitlines()[0]})
    print(f"round {number + 1}: {desk.name}: {'  '.join(shown)}", flush=True)


class _Desk:
    """One side, and what is measured of it. Each measurement begins with an empty store."""

    def __init__(self, name: str, python: Path, url: str, client: Any, scale: float) -> None:
        self.name, self.side, self.python = name, SIDES[name], python
        self.url, self.client, self.scale = url, client, scale

    def measure(self, what: str) -> dict[str, float]:
        self.client.flushall()
        with _Place.made(self.side, self.python, self.url) as place:
            if what == "drain-noop":
                return self._drain(place, "noop", self.side.a_second[0])
            if what == "drain-nap":
                return self._drain(place, "nap", self.side.a_second[1])
            return self._lag(place) if what == "memory" else self._delay(place)

    def _drain(self, place: "_Place", task: str, a_second: int) -> dict[str, float]:
        count = max(100, int(a_second * _FILL_SECONDS * self.scale))
        filled = place.drive("fill", task, count)
        with place.worker(task):
            marks = place.wait_for(count)
        begun, ended = marks[int(count * 0.1)], marks[int(count * 0.9) - 1]
        rate = (int(count * 0.9) - 1 - int(count * 0.1)) / max(ended - begun, 1e-6)
        return {f"drain-{task}": rate, "submit": count / filled["seconds"]}

    def _lag(self, place: "_Place") -> dict[str, float]:
        with place.worker("noop") as memory:
            place.drive("lag", "noop", 5)  # until it has started, and then some
            idle = memory()
            found = place.drive("lag", "noop", max(20, int(_LAGS * min(self.scale, 1))))["found"]
        cuts = quantiles(found, n=100)
        return {"lag-p50": cuts[49], "lag-p99": cuts[98], "memory": idle}

    def _delay(self, place: "_Place") -> dict[str, float]:
        count = int(_DELAYED * min(self.scale, 1))
        with place.worker("noop", delayed=True) as memory:
            place.drive("lag", "noop", 5)
            before, known = memory(), len(place.marks())
            lead = 2 + 1.5 * count / self.side.a_second[2]
            at = place.drive("delay", "noop", count, str(lead))["at"]
            if time.time() > at - 0.5:
                raise BenchmarkError(f"{count} delayed jobs took longer than {lead:.0f} s to send")
            time.sleep(at - 0.5 - time.time())
            grown = memory() - before
            marks = place.wait_for(known + count)[known:]
        if marks[0] < at - 0.01:
            raise BenchmarkError(f"a delayed job began {at - marks[0]:.2f} s before its time")
        return {"delayed-p99": (marks[int(count * 0.99)] - at) * 1000, "delayed-memory": max(grown, _LEAST_MB)}


class _Place:
    """A folder for one measurement: the marks, the log of what is started, and our project."""

    def __init__(self, folder: Path, side: Side, python: Path, url: str) -> None:
        self.folder, self.side, self.python = folder, side, python
        self.file, self.log, self.project = folder / "marks", folder / "log", folder / "project"
        self.environ = processes.clean_environ(
            BENCH_MARKS=str(self.file), BENCH_STORE=url, PYTHONPATH=str(APPS), FNRUN_DIR=str(self.project)
        )
        copytree(APPS / "fnrun", self.project, ignore=ignore_patterns("__pycache__", ".fnrun"))
        (self.project / "functions.toml").write_text(f'[store]\nurl = "{url}"\n[log]\nlevel = "warning"\n')
        self.file.touch()

    @classmethod
    @contextmanager
    def made(cls, side: Side, python: Path, url: str) -> Iterator["_Place"]:
        """For one `with`. A fault tells the end of what was said in it."""
        with tempfile.TemporaryDirectory(prefix="fnrun-bench-", ignore_cleanup_errors=True) as folder:
            place = cls(Path(folder), side, python, url)
            try:
                yield place
            except BenchmarkError as error:
                raise BenchmarkError(f"{error}; the end of its output:\n{processes.tail(place.log)}") from None

    def drive(self, what: str, task: str, count: int, *more: str) -> dict[str, Any]:
        """Send so many, by the side's own client, in a process of its own."""
        command = [str(self.python), "-P", str(APPS / "drive.py"), self.side.module, what, task, str(count), *more]
        done = subprocess.run(
            command, env=self.environ, cwd=self.folder, capture_output=True, text=True, check=False, timeout=300
        )
        if done.returncode or not done.stdout.strip():
            raise BenchmarkError(f"{what} {task} failed: {(done.stderr or done.stdout).strip()[-1500:]}")
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told

    @contextmanager
    def worker(self, task: str, *, delayed: bool = False) -> Iterator[Callable[[], float]]:
        """One worker, and its helper if delayed jobs need one; how much memory they have, in MB."""
        more = self.side.nap if task == "nap" else self.side.noop
        commands = [(*self.side.worker, *more), *([self.side.helper] if delayed and self.side.helper else [])]
        started = []
        try:
            for command in commands:
                filled = [part.format(project=self.project) for part in command]
                started.append(processes.start([str(self.python), *filled], self.log, self.folder, self.environ))
            yield lambda: sum(processes.memory_mb(process.pid) for process in started)
            if any(process.poll() is not None for process in started):
                raise BenchmarkError("the worker has ended")
        finally:
            for process in reversed(started):
                processes.stop(process)

    def marks(self) -> list[float]:
        """When tasks began, in order."""
        data = self.file.read_bytes()
        return sorted(one for (one,) in struct.iter_unpack("d", data[: len(data) // 8 * 8]))

    def wait_for(self, count: int) -> list[float]:
        """The marks when there are so many, and not one more."""
        seen, end = 0, time.monotonic() + _PATIENCE_SECONDS
        while (found := self.file.stat().st_size // 8) < count:
            if found > seen:
                seen, end = found, time.monotonic() + _PATIENCE_SECONDS
            elif time.monotonic() > end:
                raise BenchmarkError(f"{found} of {count} jobs have begun, and no more do")
            time.sleep(0.02)
        time.sleep(0.1)
        marks = self.marks()
        if len(marks) != count:
            raise BenchmarkError(f"{len(marks)} jobs began where {count} were sent")
        return marks


def default_cases(*, quick: bool) -> list[str]:
    return [case for case in CASES if not quick or case in _QUICK]
