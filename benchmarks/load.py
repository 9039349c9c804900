"""A small HTTP/1.1 client: for the check before measuring, and as load generator where there is no wrk.

Called by http.py, in its process to check and as one of its own to make load. Only ever talks to 127.0.0.1.

    python -P load.py PORT CONNECTIONS SECONDS METHOD PATH [BODY]     prints one line of JSON, as wrk.lua does
"""

import asyncio
import json
import socket
import sys
import time

HOST = "127.0.0.1"


def request_bytes(method: str, path: str, body: str = "") -> bytes:
    content = f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{content}\r\n{body}".encode()


def read_answer(data: bytes) -> tuple[int, bytes, int] | None:
    """(status, body, length of the whole) of the first answer in `data`, None if there is more to come.

    ValueError for one without Content-Length: none of the servers chunks answers as short as ours.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None
    _, found, value = head.lower().partition(b"\r\ncontent-length:")
    if not found:
        raise ValueError(f"no Content-Length in {head!r}")
    length = int(value.partition(b"\r\n")[0])
    if len(rest) < length:
        return None
    return int(head.split(b" ", 2)[1]), rest[:length], len(head) + 4 + length


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
