"""The endpoints as a bare ASGI app: what uvicorn does when nothing is on it."""

import msgspec

BLOBS = {size: b"x" * size for size in (100_000, 10_000_000)}
JSON, BYTES = b"application/json", b"application/octet-stream"
encode = msgspec.json.encode


class Numbers(msgspec.Struct):
    x: float
    y: float


decode = msgspec.json.Decoder(Numbers).decode


async def app(scope, receive, send) -> None:
    if scope["type"] != "http":
        return
    path, query = scope["path"], scope["query_string"]
    if path == "/stream":
        await respond(send, BYTES, None)
        for _ in range(100):
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    status, kind = 200, JSON
    if path == "/sum":
        try:
            numbers = decode(await read(receive))
            body = encode({"result": numbers.x + numbers.y})
        except msgspec.DecodeError as error:
            status, body = 422, encode({"error": str(error)})
    elif path == "/size":
        body = encode({"size": len(await read(receive))})
    elif path == "/blob":
        kind, body = BYTES, BLOBS[int(query.partition(b"=")[2])]
    else:
        body = encode({"message": f"Hello {query.partition(b'=')[2].decode()}"})
    await respond(send, kind, len(body), status)
    await send({"type": "http.response.body", "body": body})


async def respond(send, kind: bytes, length: int | None, status: int = 200) -> None:
    headers = [(b"content-type", kind)]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def read(receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts)
