"""arq: 100 jobs at once, no results, and a look each 10 ms instead of each half a second."""

import asyncio
import os
from datetime import UTC, datetime

import uvloop
from arq import ArqRedis, create_pool
from arq.connections import RedisSettings
from marks import mark

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
STORE = RedisSettings.from_dsn(os.environ["BENCH_STORE"])


async def noop(_context: object) -> None:
    mark()


async def nap(_context: object) -> None:
    mark()
    await asyncio.sleep(0.01)


class WorkerSettings:
    functions = (noop, nap)
    redis_settings = STORE
    max_jobs = 100
    poll_delay = 0.01
    keep_result = 0


_open: dict[str, ArqRedis] = {}


async def start() -> None:
    _open["pool"] = await create_pool(STORE)


async def send(task: str) -> None:
    await _open["pool"].enqueue_job(task)


async def send_at(task: str, at: float) -> None:
    await _open["pool"].enqueue_job(task, _defer_until=datetime.fromtimestamp(at, UTC))
