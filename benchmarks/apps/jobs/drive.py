"""Send jobs from one process, with the client of one side; run by its own python.

    python -P drive.py SIDE fill TASK COUNT        as fast as it goes; prints {"seconds"}
    python -P drive.py SIDE delay TASK COUNT LEAD  all to start at one instant, LEAD seconds from now; {"seconds", "at"}
    python -P drive.py SIDE lag TASK COUNT         one at a time; the milliseconds from submit to start: {"found"}

SIDE: a module with `send(task)` and `send_at(task, at)`, and `start()` if it has something to open; functions or
coroutines. Coroutines are called by 100 tasks at once.
"""

import asyncio
import importlib
import inspect
import json
import os
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

WIDTH = 100
MARKS = Path(os.environ["BENCH_MARKS"])
_PATIENCE_SECONDS = 30
_PAUSE_SECONDS = 0.005
_WARM_UP = 5  # a client connects, and loads what it needs, at its first job


async def call(function: Callable[..., Any], *arguments: object) -> None:
    found = function(*arguments)
    if inspect.isawaitable(found):
        await found


async def fill(side: Any, count: int, send: Callable[[], Any]) -> dict[str, object]:
    await side.start()
    began = time.perf_counter()
    if inspect.iscoroutinefunction(side.send):
        left = iter(range(count))

        async def work() -> None:
            for _ in left:
                await send()

        await asyncio.gather(*(work() for _ in range(WIDTH)))
    else:
        for _ in range(count):
            send()
    return {"seconds": time.perf_counter() - began}


async def delay(side: Any, task: str, count: int, lead: float) -> dict[str, object]:
    at = time.time() + lead
    return {**await fill(side, count, lambda: side.send_at(task, at)), "at": at}


def count_marks() -> int:
    return MARKS.stat().st_size // 8


def read_mark(at: int) -> float:
    """When that task began."""
    began: float = struct.unpack_from("d", MARKS.read_bytes(), at * 8)[0]
    return began


async def lag(side: Any, task: str, count: int) -> dict[str, object]:
    await side.start()
    found = []
    for _ in range(_WARM_UP + count):
        known = count_marks()
        sent = time.time()
        await call(side.send, task)
        while count_marks() == known:
            if time.time() - sent > _PATIENCE_SECONDS:
                raise SystemExit("a job does not start")
            await asyncio.sleep(0.0005)
        found.append((read_mark(known) - sent) * 1000)
        await asyncio.sleep(_PAUSE_SECONDS)
    return {"found": found[_WARM_UP:]}


async def run(name: str, what: str, task: str, count: int, *more: str) -> None:
    side = importlib.import_module(f"{name}_side")
    if not hasattr(side, "start"):
        side.start = lambda: asyncio.sleep(0)
    if what == "fill":
        told = await fill(side, count, lambda: side.send(task))
    elif what == "delay":
        told = await delay(side, task, count, float(more[0]))
    else:
        told = await lag(side, task, count)
    print(json.dumps(told))
    sys.stdout.flush()
    os._exit(0)  # some clients complain of what they leave open


if __name__ == "__main__":
    with suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(run(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), *sys.argv[5:]))
