"""taskiq: streams with acknowledgement; delayed jobs through its scheduler, which is a process of its own."""

import asyncio
import os
from datetime import UTC, datetime

from marks import mark
from taskiq import TaskiqScheduler
from taskiq_redis import ListRedisScheduleSource, RedisStreamBroker

broker = RedisStreamBroker(os.environ["BENCH_STORE"])
source = ListRedisScheduleSource(os.environ["BENCH_STORE"])
scheduler = TaskiqScheduler(broker, [source])


@broker.task
async def noop() -> None:
    mark()


@broker.task
async def nap() -> None:
    mark()
    await asyncio.sleep(0.01)


TASKS = {"noop": noop, "nap": nap}


async def start() -> None:
    await broker.startup()
    await source.startup()


async def send(task: str) -> None:
    await TASKS[task].kiq()


async def send_at(task: str, at: float) -> None:
    await TASKS[task].schedule_by_time(source, datetime.fromtimestamp(at, UTC))
