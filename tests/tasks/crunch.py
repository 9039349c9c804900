"""Functions that tests call in processes."""

import asyncio
import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path


def pid(_: object = None) -> int:
    return os.getpid()


def half(x: int) -> int:
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x // 2


async def later(x: int) -> int:
    await asyncio.sleep(0.01)
    return x + 1


def spin(note: str = "") -> None:
    if note:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        Path(note).write_text(f"{os.getpid()} {child.pid}")
    while True:
        pass


def die(how: str) -> None:
    match how:
        case "exit":
            os._exit(3)
        case "segfault":
            ctypes.string_at(0)
        case "sys.exit":
            sys.exit(4)


class OddError(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a)


def raise_odd() -> None:
    raise OddError(1, 2)


def unwritable() -> object:
    return lambda: 1


def slow_pid(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def big(size: int) -> bytes:
    return b"x" * size
