"""saq: 100 jobs at once, no results."""

import asyncio
import os

import uvloop
from marks import mark
from saq import Queue

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
queue = Queue.from_url(os.environ["BENCH_STORE"], max_concurrent_ops=100)


async def noop(_context: object) -> None:
    mark()


async def nap(_context: object) -> None:
    mark()
    await asyncio.sleep(0.01)


settings = {"queue": queue, "functions": [noop, nap], "concurrency": 100}


async def start() -> None:
    await queue.connect()


async def send(task: str) -> None:
    await queue.enqueue(task, ttl=-1)


async def send_at(task: str, at: float) -> None:
    await queue.enqueue(task, ttl=-1, scheduled=at)
