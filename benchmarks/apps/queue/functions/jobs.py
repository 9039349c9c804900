"""What benchmarks/queue.py runs."""

import asyncio
import time

from runtime import queue


@queue("bench")
async def noop() -> None:
    """Nothing."""


@queue("bench")
async def nap() -> None:
    """Wait for 10 ms, as for a database."""
    await asyncio.sleep(0.01)


@queue("bench")
async def lag(sent: float) -> float:
    """Seconds from submit to start."""
    return time.time() - sent
