"""The same schedules for Celery beat: BENCH_COUNT entries, each minute. Nobody runs them."""

import os

from celery import Celery
from celery.schedules import crontab

app = Celery("beat", broker=os.environ["BENCH_BROKER"])
app.conf.broker_transport_options = {"global_keyprefix": "beat-bench:"}
app.conf.task_default_queue = "beat"
app.conf.beat_schedule = {
    f"s{number}": {"task": "jobs.tick", "schedule": crontab()} for number in range(int(os.environ["BENCH_COUNT"]))
}
