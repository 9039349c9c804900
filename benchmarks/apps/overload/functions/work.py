"""Four kinds of work: on the loop or in a thread, with the CPU or waiting."""

import asyncio
import time

from runtime import http


def burn(seconds: float) -> None:
    """Hold the CPU for so much of its time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@http.get("/async-cpu")
async def async_cpu() -> str:
    burn(0.002)
    return "done"


@http.get("/async-sleep")
async def async_sleep() -> str:
    await asyncio.sleep(0.02)
    burn(0.001)  # else its rate is more than the client can multiply
    return "done"


@http.get("/sync-sleep")
def sync_sleep() -> str:
    time.sleep(0.02)
    return "done"


@http.get("/sync-cpu")
def sync_cpu() -> str:
    burn(0.005)
    return "done"


@http.get("/async-fast")
async def async_fast() -> str:
    return "done"
