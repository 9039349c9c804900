"""A small HTTP/1.1 client: for the check before measuring, and as load generator where there is no wrk.

Called by compare, in its process to check and as one of its own to make load. Only ever talks to 127.0.0.1.

    python -P load.py PORT CONNECTIONS SECONDS METHOD PATH [BODY]     prints one line of JSON, as wrk.lua does

BODY: JSON, or "@N" for N bytes.
"""

import asyncio
import json
import socket
import sys
import time

HOST = "127.0.0.1"


def request_bytes(method: str, path: str, body: str = "") -> bytes:
    kind = "application/json"
    if body.startswith("@"):
        kind, body = "application/octet-stream", "x" * int(body[1:])
    content = f"Content-Type: {kind}\r\nContent-Length: {len(body.encode())}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{content}\r\n{body}".encode()


def read_answer(data: bytes) -> tuple[int, bytes, int] | None:
    """(status, body, length of the whole) of the first answer in `data`, None if there is more to come.

    ValueError for one that has neither a Content-Length nor chunks.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None
    status, lower = int(head.split(b" ", 2)[1]), head.lower()
    if b"\r\ntransfer-encoding: chunked" in lower:
        body, size = join_chunks(rest)
        return None if body is None else (status, body, len(head) + 4 + size)
    _, found, value = lower.partition(b"\r\ncontent-length:")
    if not found:
        raise ValueError(f"no Content-Length in {head!r}")
    length = int(value.partition(b"\r\n")[0])
    if len(rest) < length:
        return None
    return status, rest[:length], len(head) + 4 + length


def join_chunks(data: bytes) -> tuple[bytes | None, int]:
    """The body that chunks make, and the length of them all; None while the last is not there."""
    parts, at = [], 0
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end].partition(b";")[0], 16)
        at = end + 2 + size + 2
        if len(data) < at:
            break
        if not size:
            return b"".join(parts), at
        parts.append(data[end + 2 : at - 2])
    return None, 0


def ask(port: int, method: str, path: str, body: str = "") -> tuple[int, bytes]:
    """Status and body of one request."""
    with socket.create_connection((HOST, port), timeout=5) as sock:
        sock.sendall(request_bytes(method, path, body))
        data = b""
        while (answer := read_answer(data)) is None:
            part = sock.recv(65536)
            if not part:
                raise ConnectionResetError(f"the connection ended after {data!r}")
            data += part
    return answer[0], answer[1]


class _Connection(asyncio.Protocol):
    """Sends the next request when the last one is answered. answered, errors: counts."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._data = b""
        self.answered = self.errors = 0
        self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        try:
            answer = read_answer(self._data)
        except ValueError:
            self._transport.abort()
            return
        if answer is None:
            return
        status, _, size = answer
        self._data = self._data[size:]
        self.answered += 1
        self.errors += not 200 <= status <= 299
        if not self.stopped:
            self._transport.write(self._request)

    def connection_lost(self, _error: Exception | None) -> None:
        self.errors += not self.stopped


async def make_load(port: int, connections: int, seconds: float, request: bytes) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    opened = [await loop.create_connection(lambda: _Connection(request), HOST, port) for _ in range(connections)]
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - started
    for transport, connection in opened:
        connection.stopped = True
        transport.abort()
    return {
        "requests": sum(connection.answered for _, connection in opened),
        "seconds": elapsed,
        "errors": sum(connection.errors for _, connection in opened),
    }


if __name__ == "__main__":
    port, connections, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    print(json.dumps(asyncio.run(make_load(port, connections, seconds, request_bytes(*sys.argv[4:])))))
