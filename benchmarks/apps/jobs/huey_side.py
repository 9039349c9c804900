"""huey: threads, no results."""

import os
import time
from datetime import UTC, datetime

from huey import RedisHuey
from marks import mark

huey = RedisHuey("bench", url=os.environ["BENCH_STORE"], results=False)


@huey.task()
def noop() -> None:
    mark()


@huey.task()
def nap() -> None:
    mark()
    time.sleep(0.01)


TASKS = {"noop": noop, "nap": nap}


def send(task: str) -> None:
    TASKS[task]()


def send_at(task: str, at: float) -> None:
    TASKS[task].schedule(eta=datetime.fromtimestamp(at, UTC))
