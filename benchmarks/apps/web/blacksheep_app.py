"""The endpoints on blacksheep, with its own binders and pydantic for what is sent."""

import os
from collections.abc import AsyncIterator

from blacksheep import Application, Content, FromJSON, Request, Response, StreamedContent, get, post
from pydantic import BaseModel

app = Application()
BLOBS = {size: b"x" * size for size in (100_000, 10_000_000)}


class Numbers(BaseModel):
    x: float
    y: float


@get("/hello")
async def hello(name: str = "world") -> dict[str, str]:
    return {"message": f"Hello {name}"}


@get("/hello-sync")
def hello_sync(name: str = "world") -> dict[str, str]:
    return {"message": f"Hello {name}"}


@post("/sum")
async def add(numbers: FromJSON[Numbers]) -> dict[str, float]:
    return {"result": numbers.value.x + numbers.value.y}


@post("/size")
async def size(request: Request) -> dict[str, int]:
    return {"size": len(await request.read() or b"")}


@get("/blob")
async def blob(size: int) -> Response:
    return Response(200, content=Content(b"application/octet-stream", BLOBS[size]))


@get("/stream")
async def stream() -> Response:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    return Response(200, content=StreamedContent(b"application/octet-stream", parts))


for number in range(int(os.environ.get("BENCH_ROUTES", "0"))):
    app.router.add_get(f"/r{number}", hello)
