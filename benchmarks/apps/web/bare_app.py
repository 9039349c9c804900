"""The limit for Python: httptools on a bare uvloop protocol, msgspec for JSON, no framework and no safety.

Started as a program: python bare_app.py PORT. It answers /hello and /sum, and knows large bodies.
"""

import asyncio
import sys

import httptools
import msgspec
import uvloop

BLOBS = {size: b"x" * size for size in (100_000, 10_000_000)}
HEAD = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
encode = msgspec.json.encode


class Numbers(msgspec.Struct):
    x: float
    y: float


decode = msgspec.json.Decoder(Numbers).decode


class Connection(asyncio.Protocol):
    def connection_made(self, transport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.parts: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url = url
        self.parts = []

    def on_body(self, body: bytes) -> None:
        self.parts.append(body)

    def on_message_complete(self) -> None:
        path, _, query = self.url.partition(b"?")
        status, kind = b"200 OK", b"application/json"
        if path == b"/sum":
            try:
                numbers = decode(b"".join(self.parts))
                body = encode({"result": numbers.x + numbers.y})
            except msgspec.DecodeError as error:
                status, body = b"422 Unprocessable Entity", encode({"error": str(error)})
        elif path == b"/size":
            body = encode({"size": len(b"".join(self.parts))})
        elif path == b"/blob":
            kind, body = b"application/octet-stream", BLOBS[int(query.partition(b"=")[2])]
        else:
            body = encode({"message": f"Hello {query.partition(b'=')[2].decode()}"})
        self.transport.write(HEAD % (status, kind, len(body)) + body)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


uvloop.run(main())
