"""The queues: how each one's worker is started, in its best usual settings.

Called by jobs.measure. None keeps results but ours. Each has a module in apps/jobs, with its two tasks and how to send
them.
"""

from typing import NamedTuple

from benchmarks.compare.environments import OURS


class Side(NamedTuple):
    """module: of apps/jobs, without "_side". worker: a command; nap: what is added for jobs that wait, noop: for
    those that do not. helper: a process that delayed jobs need. a_second: about what it drains (no-op, nap) and takes,
    by which it gets its number of jobs. without: cases that it does not know.
    """

    module: str
    worker: tuple[str, ...]
    note: str
    a_second: tuple[int, int, int]
    noop: tuple[str, ...] = ()
    nap: tuple[str, ...] = ()
    helper: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def environment(self) -> str:
        return self.module


_CELERY = ("-m", "celery", "-A", "celery_side", "worker", "--without-gossip", "--without-mingle", "--without-heartbeat",
           "--loglevel", "ERROR", "--pool")  # fmt: skip

SIDES = {
    OURS: Side(
        OURS,
        ("-P", "-m", "runtime", "--dir", "{project}", "serve", "--only", "worker"),
        "this checkout, its defaults; every run in the ledger",
        (6000, 5000, 6000),
    ),
    "celery-prefork": Side(
        "celery", (*_CELERY, "prefork"), "2 processes for no-ops, 20 for naps; prefetch 64", (900, 600, 2000),
        noop=("--concurrency", "2"), nap=("--concurrency", "20"),
    ),
    "celery-threads": Side(
        "celery", (*_CELERY, "threads", "--concurrency", "100"), "100 threads; prefetch 64", (700, 800, 2000)
    ),
    "taskiq": Side(
        "taskiq",
        ("-m", "taskiq", "worker", "taskiq_side:broker", "--workers", "1", "--max-async-tasks", "100", "--max-prefetch",
         "100", "--log-level", "ERROR"),
        "streams, 1 process, 100 tasks, prefetch 100; delayed: its scheduler, each second",
        (3000, 3000, 3000),
        helper=("-m", "taskiq", "scheduler", "taskiq_side:scheduler", "--update-interval", "1", "--log-level", "ERROR"),
    ),
    "dramatiq": Side(
        "dramatiq", ("-m", "dramatiq", "dramatiq_side", "--processes", "1"), "8 threads for no-ops, 100 for naps",
        (2000, 4000, 2500), noop=("--threads", "8"), nap=("--threads", "100"),
    ),
    "arq": Side("arq", ("-m", "arq", "arq_side.WorkerSettings"), "100 jobs at once, looks each 10 ms",
                (1600, 1500, 1500)),
    "huey": Side(
        "huey", ("-m", "huey.bin.huey_consumer", "huey_side.huey", "-k", "thread", "-n", "-q"),
        "8 threads for no-ops, 100 for naps; loses what it works at when it is killed", (4000, 3000, 4000),
        noop=("-w", "8"), nap=("-w", "100"),
    ),
    "saq": Side("saq", ("-m", "saq", "saq_side.settings", "--quiet"), "100 jobs at once", (2000, 2000, 2000)),
}  # fmt: skip
