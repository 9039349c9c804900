"""What a run costs the store, and what looks at runs cost, with few and many functions, queues and kept runs.

Called by growth.py. Each measurement has an embedded store of its own, gone afterwards. The store's cost is the
time on a processor of its main thread, and of several tries the least, so that neighbours count little.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from runtime.base.ids import new_run_id
from runtime.base.keeper import KEEPER, lock_file
from runtime.base.settings import load_settings
from runtime.ledger.calls import Call, do
from runtime.ledger.desk import open_desk
from runtime.ledger.ledger import Keeping, Ledger
from runtime.ledger.metrics.facts import facts
from runtime.ledger.minutes import KEPT_MINUTES, add, read_hours, record
from runtime.ledger.records import Ending, Submission

PAYLOAD, RESULT = b'{"order": 12345, "customer": "x"}', b'{"ok":true}'
BATCH = 50
COPIED = 2000
WARM = 10_000
TRIES = 5
END_SECONDS = 20
KEPT_COUNT = 100_000_000
COPY = """
local ns, from, id, finished = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local functions = #ARGV - 5
for at = id, id + ARGV[5] - 1 do
  local name = string.format('%032x', at)
  for _, kind in ipairs({'run:', 'in:', 'out:'}) do
    redis.call('COPY', ns .. kind .. from, ns .. kind .. name)
  end
  redis.call('ZADD', ns .. 'done:' .. ARGV[6 + at % functions], finished + at % 4096 / 4096, name)
end
"""
"""Finished runs by the thousand: copies of one that really ran, so each is as large as it."""


class Kept:
    """A store with so many functions and queues, on which one worker is known."""

    def __init__(self, root: Path, functions: int, queues: int = 1) -> None:
        self.desk = open_desk(root, load_settings(root).settings)
        self.client: redis.Redis = self.desk.store.connect()
        self.ledger = Ledger(self.desk.store.namespace, keeping=Keeping(count=KEPT_COUNT))
        self.names = [f"shop.function_{one}" for one in range(functions)]
        self.queues = [f"queue_{one}" for one in range(queues)]
        self.kept = 0

    def register(self) -> None:
        """Say that the worker lives, and what it knows."""
        do(self.client, self.ledger.register("worker", dict.fromkeys(self.names), {}))

    def work(self, count: int) -> float:
        """Runs from accept to their end, in batches as a worker has them. CPU of the store for each, in us."""
        self.register()
        began = self.cpu_seconds()
        for at in range(0, count, BATCH):
            runs = [self._submission(at + one) for one in range(BATCH)]
            do(self.client, self.ledger.accept(runs))
            claimed = do(self.client, self.ledger.claim("worker", self.queues, BATCH)) or []
            endings = [Ending(id=one.id, token=one.token, state="succeeded", result=RESULT) for one in claimed]
            do(self.client, self.ledger.finish(endings))
        return (self.cpu_seconds() - began) / count * 1e6

    def _submission(self, number: int) -> Submission:
        function, queue = self.names[number % len(self.names)], self.queues[number % len(self.queues)]
        return Submission(id=new_run_id(), function=function, queue=queue, payload=PAYLOAD)

    def keep(self, count: int) -> float:
        """Finished runs until there are so many; bytes that each of the new ones takes."""
        self.register()
        one = self._submission(0)
        do(self.client, self.ledger.accept([one]))
        claimed = do(self.client, self.ledger.claim("worker", self.queues, 1)) or []
        ending = Ending(id=one.id, token=claimed[0].token, state="succeeded", result=RESULT)
        do(self.client, self.ledger.finish([ending]))
        prefix, before, added = self.ledger.prefix, self.bytes_used(), count - self.kept
        finished = self.client.hget(f"{prefix}run:{one.id}", "finished") or b""
        copy = self.client.register_script(COPY)
        for at in range(self.kept, count, COPIED):
            copy(args=[prefix, one.id, at, finished.decode(), min(COPIED, count - at), *self.names])
        for name in self.names:
            self.client.pexpire(f"{prefix}done:{name}", 6 * 86_400_000)
        self.kept = count
        self.settle()
        return (self.bytes_used() - before) / added

    def settle(self) -> None:
        """Wait until the store writes its file anew no longer: what changes meanwhile is copied, and costs more."""
        while (found := self.client.info("persistence"))["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"]:
            time.sleep(0.1)

    def bytes_used(self) -> int:
        """Memory of all data."""
        return int(self.client.memory_stats()["dataset.bytes"]) + int(self.client.memory_stats()["overhead.total"])

    def cpu_seconds(self) -> float:
        """Of the store's main thread."""
        found = self.client.info("cpu")
        return float(found["used_cpu_user_main_thread"]) + float(found["used_cpu_sys_main_thread"])

    def milliseconds(self, call: Call[Any]) -> float:
        """CPU of the store for a call."""
        do(self.client, call)
        found = []
        for _ in range(TRIES):
            began = self.cpu_seconds()
            for _ in range(TRIES):
                do(self.client, call)
            found.append((self.cpu_seconds() - began) / TRIES * 1e3)
        return min(found)

    def close(self) -> None:
        """Use the store no more."""
        self.client.close()
        self.desk.close()


@contextmanager
def opened(functions: int, queues: int = 1) -> Iterator[Kept]:
    """A store, for a while."""
    root = Path(tempfile.mkdtemp(prefix="growth"))
    (root / "functions").mkdir()
    try:
        with use_of(root, functions, queues) as kept:
            yield kept
    finally:
        remove(root)


@contextmanager
def use_of(root: Path, functions: int = 1, queues: int = 1) -> Iterator[Kept]:
    """A project's own, for a while."""
    kept = Kept(root, functions, queues)
    try:
        yield kept
    finally:
        kept.close()


def remove(root: Path) -> None:
    """A project, once its store has ended: it is still at its files until then."""
    lock = root / ".fnrun" / "store" / KEEPER
    end = time.monotonic() + END_SECONDS
    while lock.exists() and (found := lock_file(str(lock), fcntl.LOCK_EX | fcntl.LOCK_NB)) is None:
        if time.monotonic() > end:
            raise SystemExit(f"the store in {root} does not end")
        time.sleep(0.01)
    if lock.exists():
        os.close(found)
    shutil.rmtree(root, ignore_errors=True)


def measure_runs(counts: list[int], functions: int, runs: int) -> Iterator[dict[str, float]]:
    """By how many runs are kept."""
    with opened(functions) as kept:
        warm = min(WARM, 4 * runs)
        kept.work(warm)  # of a store that has nothing the processor's caches hold all
        for count in counts:
            size = kept.keep(count) if count else 0.0
            found = min(kept.work(runs // TRIES) for _ in range(TRIES))
            yield {
                "functions": functions,
                "kept": warm + count,
                "store_us_a_run": found,
                "bytes_a_run": size,
                **{f"{name}_ms": kept.milliseconds(call) for name, call in looks(kept)},
            }


def looks(kept: Kept) -> Iterator[tuple[str, Call[Any]]]:
    """What is asked again and again, by people and by processes."""
    ledger = kept.ledger
    yield "list", ledger.runs()
    yield "list_failed", ledger.runs(states=["failed"])
    yield "list_one", ledger.runs(kept.names[:1])
    yield "facts", facts(ledger)
    yield "queues", ledger.queues()
    yield "reap", ledger.reap()
    yield "register", ledger.register("worker", dict.fromkeys(kept.names), {})


def measure_queues(counts: list[int], runs: int) -> Iterator[dict[str, float]]:
    """By how many queues one worker serves."""
    for count in counts:
        with opened(1, count) as kept:
            kept.work(min(WARM, 4 * runs))
            yield {
                "queues": count,
                "store_us_a_run": min(kept.work(runs // TRIES) for _ in range(TRIES)),
                "claim_ms": kept.milliseconds(kept.ledger.claim("worker", kept.queues, BATCH)),
                "reap_ms": kept.milliseconds(kept.ledger.reap()),
            }


def measure_minutes(counts: list[int], hours: int) -> Iterator[dict[str, float]]:
    """What is counted by the minute, of functions that are called in each; so many hours of it."""
    for count in counts:
        with opened(count) as kept:
            now = int(kept.ledger.now() // 60)
            first = now - now % 60 - hours * 60
            began = kept.cpu_seconds()
            for minute in range(first, first + hours * 60):
                kinds = (("succeeded", 17), ("failed", 1), ("ms", 170), ("b1", 3), ("b2", 9), ("b3", 6))
                rows = [(minute, name, "http", what, number) for name in kept.names for what, number in kinds]
                for at in range(0, len(rows), 1000):
                    do(kept.client, record(kept.ledger, rows[at : at + 1000]))  # type: ignore[arg-type]
            told = hours * 60 * count
            yield {
                "functions": count,
                "store_us_a_minute": (kept.cpu_seconds() - began) / told * 1e6,
                "megabytes_a_day": _size(kept) / told * KEPT_MINUTES * count / 1e6,
                "day_read_s": _seconds(lambda kept=kept, first=first: _read(kept, first, hours)) / hours * 24,
            }


def _size(kept: Kept) -> int:
    with kept.client.pipeline(transaction=False) as pipeline:
        for key in kept.client.scan_iter(match=f"{kept.ledger.prefix}counted:*", count=10_000):
            pipeline.memory_usage(key, samples=0)
        return sum(pipeline.execute())


def _read(kept: Kept, first: int, hours: int) -> None:
    sums = [0] * 32
    for one in do(kept.client, read_hours(kept.ledger, first // 60, first // 60 + hours - 1)):
        add(one.numbers, sums)


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
