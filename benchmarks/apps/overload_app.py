"""The four kinds of work of apps/overload on FastAPI."""

import asyncio
import time

from fastapi import FastAPI

app = FastAPI()


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@app.get("/async-cpu")
async def async_cpu() -> str:
    burn(0.002)
    return "done"


@app.get("/async-sleep")
async def async_sleep() -> str:
    await asyncio.sleep(0.02)
    burn(0.001)
    return "done"


@app.get("/sync-sleep")
def sync_sleep() -> str:
    time.sleep(0.02)
    return "done"


@app.get("/sync-cpu")
def sync_cpu() -> str:
    burn(0.005)
    return "done"
