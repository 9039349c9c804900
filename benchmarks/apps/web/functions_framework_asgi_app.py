"""The endpoints on functions-framework --asgi: one function, so it looks at the path and checks the body itself."""

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

BLOBS = {size: b"x" * size for size in (100_000, 10_000_000)}


async def main(request: Request) -> object:  # noqa: PLR0911
    asked = f"{request.method} {request.url.path}"
    if asked in ("GET /hello", "GET /hello-sync"):
        return {"message": f"Hello {request.query_params.get('name', 'world')}"}
    if asked == "POST /sum":
        body = await request.json()
        if not isinstance(body, dict) or not all(isinstance(body.get(key), int | float) for key in ("x", "y")):
            return JSONResponse({"error": "x and y must be numbers"}, 422)
        return {"result": body["x"] + body["y"]}
    if asked == "POST /size":
        return {"size": len(await request.body())}
    if asked == "GET /blob":
        return Response(BLOBS[int(request.query_params["size"])], media_type="application/octet-stream")
    if asked == "GET /stream":
        return StreamingResponse(parts(), media_type="application/octet-stream")
    return JSONResponse({"error": "nothing answers here"}, 404)


async def parts() -> AsyncIterator[bytes]:
    for _ in range(100):
        yield b"x" * 1000
