"""The peer of benchmarks/queue.py: plain Celery with the settings that make it fastest."""

import os
import time

from celery import Celery, shared_task

app = Celery("bench", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_BROKER"])
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=64,
    worker_send_task_events=False,
    task_send_sent_event=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"global_keyprefix": "celery-bench:"},
    task_default_queue="bench",
)


@shared_task
def noop():
    """Nothing."""


@shared_task
def nap():
    """Wait for 10 ms, as for a database."""
    time.sleep(0.01)


@shared_task(ignore_result=False)
def lag(sent):
    """Seconds from submit to start."""
    return time.time() - sent
