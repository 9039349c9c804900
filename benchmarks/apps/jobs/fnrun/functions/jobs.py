"""The two jobs on fnrun."""

import asyncio

from marks import mark

from runtime import queue


@queue("bench")
async def noop() -> None:
    mark()


@queue("bench")
async def nap() -> None:
    """Wait for 10 ms, as for a database."""
    mark()
    await asyncio.sleep(0.01)
