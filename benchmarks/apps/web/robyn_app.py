"""The endpoints on robyn, with pydantic for what is sent. Started as a program: python robyn_app.py PORT."""

import os
import sys
from collections.abc import Iterator

from pydantic import BaseModel, ValidationError
from robyn import Headers, Request, Response, Robyn, StreamingResponse

app = Robyn(__file__)
BLOBS = {size: b"x" * size for size in (100_000, 10_000_000)}
BYTES = {"Content-Type": "application/octet-stream"}


class Numbers(BaseModel):
    x: float
    y: float


@app.get("/hello")
async def hello(request: Request) -> object:
    return {"message": f"Hello {request.query_params.get('name', 'world')}"}


@app.get("/hello-sync")
def hello_sync(request: Request) -> object:
    return {"message": f"Hello {request.query_params.get('name', 'world')}"}


@app.post("/sum")
async def add(request: Request) -> object:
    try:
        numbers = Numbers.model_validate_json(request.body)
    except ValidationError as error:
        return Response(422, {"Content-Type": "application/json"}, error.json())
    return {"result": numbers.x + numbers.y}


@app.post("/size")
async def size(request: Request) -> object:
    return {"size": len(request.body)}


@app.get("/blob")
async def blob(request: Request) -> Response:
    return Response(200, BYTES, BLOBS[int(request.query_params.get("size", "0"))])


@app.get("/stream")
async def stream() -> StreamingResponse:
    def parts() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    return StreamingResponse(parts(), headers=Headers(BYTES), media_type="application/octet-stream")


for number in range(int(os.environ.get("BENCH_ROUTES", "0"))):
    app.get(f"/r{number}")(hello)

app.start(host="127.0.0.1", port=int(sys.argv[1]))
