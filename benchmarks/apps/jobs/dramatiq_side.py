"""dramatiq: its Redis broker, its usual middleware."""

import os
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from marks import mark

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_STORE"]))


@dramatiq.actor
def noop() -> None:
    mark()


@dramatiq.actor
def nap() -> None:
    mark()
    time.sleep(0.01)


TASKS = {"noop": noop, "nap": nap}


def send(task: str) -> None:
    TASKS[task].send()


def send_at(task: str, at: float) -> None:
    TASKS[task].send_with_options(delay=max(0, int((at - time.time()) * 1000)))
