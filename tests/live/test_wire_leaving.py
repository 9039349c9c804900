"""Clients that leave while something of their request is unread: whatever waits for them ends."""

from collections.abc import Callable, Iterator

import h2.connection
import h2.events
import pytest

from tests.live_servers import until
from tests.wire_servers import Wired, write_files

pytestmark = pytest.mark.live

APP = {
    "functions/app.py": """
        import asyncio
        from starlette.responses import StreamingResponse
        from runtime import Request, http

        BOTH = ["GET", "POST"]
        ended = []

        async def ticks(name):
            try:
                while True:
                    yield "tick"
                    await asyncio.sleep(0.01)
            finally:
                ended.append(name)

        @http("/stream", methods=BOTH)
        async def stream():
            async for tick in ticks("stream"):
                yield tick

        @http("/busy", methods=BOTH)
        async def busy():
            try:
                while True:
                    yield "tick"
            finally:
                ended.append("busy")

        @http("/asking", methods=BOTH)
        async def asking(request: Request):
            async for tick in ticks("asking"):
                yield tick

        @http("/response", methods=BOTH)
        async def response(request: Request) -> StreamingResponse:
            return StreamingResponse(ticks("response"))

        async def wait(name):
            try:
                await asyncio.sleep(60)
            finally:
                ended.append(name)

        @http("/plain", methods=BOTH, on_disconnect="cancel")
        async def plain() -> None:
            await wait("plain")

        @http("/plain-asking", methods=BOTH, on_disconnect="cancel")
        async def plain_asking(request: Request) -> None:
            await wait("plain-asking")

        @http.get("/ended")
        async def ended_ones() -> list[str]:
            return ended
        """
}
PATHS = ["stream", "busy", "asking", "response", "plain", "plain-asking"]


@pytest.fixture(scope="module")
def server(tmp_path_factory, lane: str) -> Iterator[Wired]:
    wired = Wired(write_files(tmp_path_factory.mktemp("leaving"), **APP), lane=lane)
    yield wired
    wired.stop()


def in_flight(server: Wired) -> object:
    return server.ask(lambda: server.role.shell.in_flight)


LONG = b"content-length: 300000\r\n\r\n" + bytes(300_000)
"""More than may wait for a handler: what comes after it is not seen."""
SENT: dict[str, Callable[[bytes], bytes]] = {
    "GET": lambda path: b"GET /%s HTTP/1.1\r\nhost: a\r\n\r\n" % path,
    "GET with a byte": lambda path: b"GET /%s HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx" % path,
    "POST": lambda path: b"POST /%s HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx" % path,
    "POST of half a body": lambda path: b"POST /%s HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nx" % path,
    "POST that waits": lambda path: (
        b"POST /%s HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n" % path
    ),
    "POST of a long body": lambda path: b"POST /%s HTTP/1.1\r\nhost: a\r\n" % path + LONG,
}


# Of a long body a part stays in the kernel, and the end behind it: only who writes or drops the body finds out.
PAIRS = [(sent, path) for sent in SENT for path in PATHS if (sent, path) != ("POST of a long body", "plain-asking")]


@pytest.mark.parametrize(("sent", "path"), PAIRS)
def test_who_leaves_http_1_leaves_nothing_running(server: Wired, sent: str, path: str):
    with server.connect() as sock:
        sock.settimeout(None)
        request = SENT[sent](path.encode())
        sock.sendall(request[:100_000])  # no more: a body that nobody reads is not taken
        until(lambda: in_flight(server) == 1)
        if not path.startswith("plain"):
            assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
    until(lambda: in_flight(server) == 0)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [None, b"", b"x"], ids=["no body", "empty", "a byte"])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("resets", [False, True], ids=["closes", "resets"])
def test_who_leaves_http_2_leaves_nothing_running(server: Wired, path: str, method: str, body: bytes | None, resets):
    with server.connect() as sock:
        client = h2.connection.H2Connection()
        client.initiate_connection()
        headers = [(":method", method), (":path", f"/{path}"), (":scheme", "http"), (":authority", "localhost")]
        client.send_headers(1, headers, end_stream=body is None)
        if body is not None:
            client.send_data(1, body, end_stream=True)
        sock.sendall(client.data_to_send())
        until(lambda: in_flight(server) == 1)
        if resets:
            client.reset_stream(1)
            sock.sendall(client.data_to_send())
            until(lambda: in_flight(server) == 0)
    until(lambda: in_flight(server) == 0)


def test_a_body_that_nobody_asked_for_is_not_let_come(server: Wired):
    with server.connect() as sock:
        sock.sendall(SENT["POST that waits"](b"stream"))
        assert b"100 Continue" not in sock.recv(1000)
    until(lambda: in_flight(server) == 0)


def test_the_handlers_were_told(server: Wired):
    with server.connect() as sock:
        sock.sendall(b"GET /ended HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        heard = b""
        while part := sock.recv(65536):
            heard += part
    assert [path for path in PATHS if f'"{path}"'.encode() not in heard] == []
