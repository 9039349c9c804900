"""The endpoints on Starlette, with msgspec for JSON."""

import os
from collections.abc import AsyncIterator

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

BLOBS = {size: b"x" * size for size in (100_000, 10_000_000)}
encode = msgspec.json.encode


class Numbers(msgspec.Struct):
    x: float
    y: float


decode = msgspec.json.Decoder(Numbers).decode


def answer(value: object, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")


async def hello(request: Request) -> Response:
    return answer({"message": f"Hello {request.query_params.get('name', 'world')}"})


def hello_sync(request: Request) -> Response:
    return answer({"message": f"Hello {request.query_params.get('name', 'world')}"})


async def add(request: Request) -> Response:
    try:
        numbers = decode(await request.body())
    except msgspec.DecodeError as error:
        return answer({"error": str(error)}, 422)
    return answer({"result": numbers.x + numbers.y})


async def size(request: Request) -> Response:
    return answer({"size": len(await request.body())})


async def blob(request: Request) -> Response:
    return Response(BLOBS[int(request.query_params["size"])], media_type="application/octet-stream")


async def stream(_request: Request) -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    return StreamingResponse(parts(), media_type="application/octet-stream")


app = Starlette(
    routes=[
        Route("/hello", hello),
        Route("/hello-sync", hello_sync),
        Route("/sum", add, methods=["POST"]),
        Route("/size", size, methods=["POST"]),
        Route("/blob", blob),
        Route("/stream", stream),
        *(Route(f"/r{number}", hello) for number in range(int(os.environ.get("BENCH_ROUTES", "0")))),
    ]
)
