"""Handlers that misbehave. Nothing they do may reach the server."""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from functools import wraps
from typing import Any

from runtime import Context, http

released = threading.Event()
swallowing = asyncio.Event()


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


ERRORS: dict[str, Any] = {
    "value": ValueError("secret detail"),
    "exit": SystemExit(1),
    "interrupt": KeyboardInterrupt(),
    "memory": MemoryError(),
    "cancelled": asyncio.CancelledError(),
    "generator-exit": GeneratorExit(),
    "stop-iteration": StopIteration(),
    "stop-async": StopAsyncIteration(),
    "unprintable": UnprintableError(),
    "group": BaseExceptionGroup("many", [SystemExit(1)]),
}


@http.get("/raise/{kind}")
async def raise_async(kind: str) -> None:
    raise ERRORS[kind]


@http.get("/raise-sync/{kind}")
def raise_sync(kind: str) -> None:
    raise ERRORS[kind]


@http.get("/raise-stream/{kind}")
async def raise_stream(kind: str) -> AsyncIterator[str]:
    raise ERRORS[kind]
    yield ""


@http.get("/raise-sync-stream/{kind}")
def raise_sync_stream(kind: str) -> Iterator[str]:
    raise ERRORS[kind]
    yield ""


@http.get("/exit")
def leave() -> None:
    sys.exit(2)


@http.get("/slow", timeout="100ms")
async def slow() -> None:
    await asyncio.sleep(60)


@http.get("/slow-sync", timeout="100ms")
def slow_sync(ctx: Context) -> None:
    while not ctx.cancelled:
        time.sleep(0.01)
    released.set()


@http.get("/slow-stream", timeout="100ms")
async def slow_stream() -> AsyncIterator[str]:
    yield "a"
    await asyncio.sleep(60)
    yield "b"


@http.get("/slow-first", timeout="100ms")
async def slow_first() -> AsyncIterator[str]:
    await asyncio.sleep(60)
    yield "b"


@http.get("/swallows", timeout="100ms")
async def swallows() -> str:
    while not swallowing.is_set():
        try:
            await swallowing.wait()
        except asyncio.CancelledError:
            continue
    return "done anyway"


def plainly(function):
    @wraps(function)
    def call(*args, **kwargs):
        return function(*args, **kwargs)

    return call


@plainly
@http.get("/wrapped-stream")
async def wrapped_stream() -> AsyncIterator[str]:
    yield "a"


@plainly
@http.get("/wrapped-sync-stream")
def wrapped_sync_stream() -> Iterator[str]:
    yield "a"


@http.get("/wrapped")
@plainly
async def wrapped() -> str:
    return "awaited"
