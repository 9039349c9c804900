"""Celery: JSON, no results, no events, a producer that is kept."""

import os
import time
from datetime import UTC, datetime

from celery import Celery
from kombu import Producer
from marks import mark

app = Celery("bench", broker=os.environ["BENCH_STORE"])
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=64,
    worker_send_task_events=False,
    task_send_sent_event=False,
    broker_connection_retry_on_startup=True,
)


@app.task
def noop() -> None:
    mark()


@app.task
def nap() -> None:
    mark()
    time.sleep(0.01)


TASKS = {"noop": noop, "nap": nap}
_open: dict[str, Producer] = {}


async def start() -> None:
    _open["producer"] = app.amqp.Producer(app.connection(), auto_declare=False)


def send(task: str) -> None:
    TASKS[task].apply_async(**_open)


def send_at(task: str, at: float) -> None:
    TASKS[task].apply_async(**_open, eta=datetime.fromtimestamp(at, UTC))
