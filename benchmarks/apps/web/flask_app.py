"""The endpoints on Flask, which checks what it is sent by hand."""

import os
from collections.abc import Iterator

from flask import Flask, Response, request

app = Flask(__name__)
BLOBS = {size: b"x" * size for size in (100_000, 10_000_000)}


@app.get("/hello")
def hello() -> object:
    return {"message": f"Hello {request.args.get('name', 'world')}"}


@app.get("/hello-sync")
def hello_sync() -> object:
    return {"message": f"Hello {request.args.get('name', 'world')}"}


@app.post("/sum")
def add() -> object:
    body = request.get_json()
    if not isinstance(body, dict) or not all(isinstance(body.get(key), int | float) for key in ("x", "y")):
        return {"error": "x and y must be numbers"}, 422
    return {"result": body["x"] + body["y"]}


@app.post("/size")
def size() -> object:
    return {"size": len(request.get_data())}


@app.get("/blob")
def blob() -> Response:
    return Response(BLOBS[int(request.args["size"])], mimetype="application/octet-stream")


@app.get("/stream")
def stream() -> Response:
    def parts() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    return Response(parts(), mimetype="application/octet-stream")


for number in range(int(os.environ.get("BENCH_ROUTES", "0"))):
    app.add_url_rule(f"/r{number}", f"r{number}", hello)
