"""The endpoints on FastAPI, as its tutorial would write them."""

import os
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

app = FastAPI()
BLOBS = {size: b"x" * size for size in (100_000, 10_000_000)}


class Numbers(BaseModel):
    x: float
    y: float


@app.get("/hello")
async def hello(name: str = "world") -> dict[str, str]:
    return {"message": f"Hello {name}"}


@app.get("/hello-sync")
def hello_sync(name: str = "world") -> dict[str, str]:
    return {"message": f"Hello {name}"}


@app.post("/sum")
async def add(numbers: Numbers) -> dict[str, float]:
    return {"result": numbers.x + numbers.y}


@app.post("/size")
async def size(request: Request) -> dict[str, int]:
    return {"size": len(await request.body())}


@app.get("/blob")
async def blob(size: int) -> Response:
    return Response(BLOBS[size], media_type="application/octet-stream")


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    return StreamingResponse(parts(), media_type="application/octet-stream")


for number in range(int(os.environ.get("BENCH_ROUTES", "0"))):
    app.get(f"/r{number}")(hello)
