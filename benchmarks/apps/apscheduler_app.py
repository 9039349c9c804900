"""APScheduler alone, as it is used without us: a job a schedule, in memory, which notes in the store that it ran."""

import asyncio
import os

import redis
from apscheduler.schedulers.asyncio import AsyncIOScheduler

broker, _, options = os.environ["BENCH_BROKER"].partition("?")  # as Celery wants it: a socket, and a database behind it
client = redis.Redis.from_url(
    broker.replace("redis+socket://", "unix://"), db=int(options.partition("virtual_host=")[2] or 0)
)


async def tick() -> None:
    """What each job does: as much as a message of Celery beat."""
    client.rpush("beat-bench:beat", 1)


async def main() -> None:
    """Run until killed."""
    scheduler = AsyncIOScheduler(timezone="UTC")
    for number in range(int(os.environ["BENCH_COUNT"])):
        scheduler.add_job(tick, "cron", second=0, id=str(number), misfire_grace_time=None)
    scheduler.start()
    await asyncio.Event().wait()


asyncio.run(main())
