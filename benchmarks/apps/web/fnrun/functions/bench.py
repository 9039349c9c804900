"""The endpoints on fnrun."""

from collections.abc import AsyncIterator
from typing import Annotated

from runtime import Body, http

BLOBS = {size: b"x" * size for size in (100_000, 10_000_000)}


@http.get("/hello")
async def hello(name: str = "world") -> dict[str, str]:
    return {"message": f"Hello {name}"}


@http.get("/hello-sync")
def hello_sync(name: str = "world") -> dict[str, str]:
    return {"message": f"Hello {name}"}


@http.post("/sum")
async def add(x: float, y: float) -> dict[str, float]:
    return {"result": x + y}


@http.post("/size")
async def size(body: Annotated[bytes, Body]) -> dict[str, int]:
    return {"size": len(body)}


@http.get("/blob")
async def blob(size: int) -> bytes:
    return BLOBS[size]


@http.get("/stream")
async def stream() -> AsyncIterator[bytes]:
    for _ in range(100):
        yield b"x" * 1000
