"""The endpoints on functions-framework: one function, so it looks at the path and checks the body itself."""

from collections.abc import Iterator

from flask import Request, Response

BLOBS = {size: b"x" * size for size in (100_000, 10_000_000)}


def main(request: Request) -> object:  # noqa: PLR0911
    asked = f"{request.method} {request.path}"
    if asked in ("GET /hello", "GET /hello-sync"):
        return {"message": f"Hello {request.args.get('name', 'world')}"}
    if asked == "POST /sum":
        body = request.get_json()
        if not isinstance(body, dict) or not all(isinstance(body.get(key), int | float) for key in ("x", "y")):
            return {"error": "x and y must be numbers"}, 422
        return {"result": body["x"] + body["y"]}
    if asked == "POST /size":
        return {"size": len(request.get_data())}
    if asked == "GET /blob":
        return Response(BLOBS[int(request.args["size"])], mimetype="application/octet-stream")
    if asked == "GET /stream":
        return Response(parts(), mimetype="application/octet-stream")
    return {"error": "nothing answers here"}, 404


def parts() -> Iterator[bytes]:
    for _ in range(100):
        yield b"x" * 1000
