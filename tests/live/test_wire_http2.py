"""HTTP/2 by prior knowledge, with h2 as the client: streams, flow control, floods."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import h2.connection
import h2.errors
import h2.events
import h2.settings
import hyperframe.frame as frames
import pytest
from h2.errors import ErrorCodes

from runtime.triggers.http.wire.requests import Limits
from tests.live_servers import until
from tests.wire_servers import Wired, write_files

pytestmark = pytest.mark.live

APP = {
    "functions/app.py": """
        import asyncio
        from typing import Annotated
        from starlette.responses import PlainTextResponse
        from runtime import Body, Reply, Request, http

        seen = []

        @http("/echo", methods=["GET", "POST"])
        async def echo(request: Request) -> dict:
            body = (await request.body()).decode("latin-1")
            return {"method": request.method, "path": request.path, "host": request.header(b"host"), "body": body}

        @http.get("/big")
        async def big(size: int = 1_000_000) -> bytes:
            return bytes(size)

        @http.post("/unread")
        async def unread(request: Request) -> str:
            return "unread"

        @http.post("/count", max_body="50MB")
        async def count(request: Request) -> int:
            size = 0
            async for part in request.stream():
                size += len(part)
            return size

        @http.post("/late", max_body="50MB")
        async def late(request: Request) -> int:
            await asyncio.sleep(0.5)
            return len(await request.body())

        @http.get("/half")
        async def half():
            yield "first"
            await asyncio.sleep(0.05)
            raise ValueError("in the middle")

        @http.get("/wait")
        async def wait(name: str, seconds: float = 10) -> str:
            seen.append(f"{name} began")
            try:
                await asyncio.sleep(seconds)
                seen.append(f"{name} finished")
            except asyncio.CancelledError:
                seen.append(f"{name} cancelled")
                raise
            return "waited"

        @http.get("/seen")
        async def seen_ones() -> list[str]:
            return seen

        @http.get("/closing")
        async def closing() -> Reply:
            return Reply("bye", headers={"Connection": "close", "Keep-Alive": "timeout=5"})
        """
}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Wired]:
    limits = Limits(write_seconds=0.6, tick_seconds=0.05)
    wired = Wired(write_files(tmp_path_factory.mktemp("http2"), **APP), limits=limits)
    yield wired
    wired.stop()


class Client:
    """One connection of h2 over a plain socket. events: all that came."""

    def __init__(self, sock: socket.socket, window: int | None = None) -> None:
        self.sock = sock
        self.h2 = h2.connection.H2Connection()
        self.events: list[h2.events.Event] = []
        self.open = True
        self.acknowledge = True
        if window is not None:
            self.h2.local_settings = h2.settings.Settings(
                client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
            )
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def raw(self, *items: frames.Frame) -> None:
        self.flush()
        self.sock.sendall(b"".join(item.serialize() for item in items))

    def ask(self, path: str = "/echo", method: str = "GET", body: bytes | None = None, end: bool = True, **more) -> int:
        """Begin a request; its stream."""
        stream = self.h2.get_next_available_stream_id()
        headers = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "localhost")]
        headers += [(name.replace("_", "-"), value) for name, value in more.items()]
        self.h2.send_headers(stream, headers, end_stream=body is None and end)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=end)
        self.flush()
        return stream

    def receive(self) -> bool:
        """Read once. False at the end of the connection."""
        data = self.sock.recv(65536)
        if not data:
            self.open = False
            return False
        found = self.h2.receive_data(data)
        for event in found:
            if isinstance(event, h2.events.DataReceived) and self.acknowledge and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.events += found
        self.flush()
        return True

    def of(self, kind: type, stream: int | None = None) -> list:
        return [e for e in self.events if isinstance(e, kind) and stream in (None, getattr(e, "stream_id", None))]

    def wait_for(self, kind: type, stream: int | None = None):
        while not self.of(kind, stream):
            assert self.receive(), f"the connection ended; {self.events}"
        return self.of(kind, stream)[0]

    def hear(self, stream: int) -> tuple[int, bytes]:
        """Status and body of an answer, once it is complete."""
        self.wait_for(h2.events.StreamEnded, stream)
        headers = dict(self.of(h2.events.ResponseReceived, stream)[0].headers)
        return int(headers[b":status"]), b"".join(e.data for e in self.of(h2.events.DataReceived, stream))

    def hear_the_end(self) -> h2.events.ConnectionTerminated | None:
        """The GOAWAY, once the connection is over."""
        while self.open:
            self.receive()
        return (self.of(h2.events.ConnectionTerminated) or [None])[-1]


@contextmanager
def client_of(server: Wired, window: int | None = None) -> Iterator[Client]:
    with server.connect() as sock:
        yield Client(sock, window)


def test_requests_of_one_connection_are_answered_beside_each_other(server: Wired):
    with client_of(server) as client:
        slow = client.ask("/wait?name=beside&seconds=0.3")
        status, body = client.hear(client.ask("/echo", "POST", b"abc"))
        assert (status, json.loads(body)) == (
            200,
            {"method": "POST", "path": "/echo", "host": "localhost", "body": "abc"},
        )
        assert not client.of(h2.events.StreamEnded, slow)
        assert client.hear(slow) == (200, b'"waited"')


def test_an_answer_has_one_date_and_nothing_of_its_connection(server: Wired):
    with client_of(server) as client:
        client.hear(client.ask("/closing"))
        names = [name for name, _ in client.of(h2.events.ResponseReceived)[0].headers]
        assert names.count(b"date") == 1
        assert not {b"connection", b"keep-alive", b"transfer-encoding"} & set(names)
        assert client.wait_for(h2.events.ConnectionTerminated).error_code == ErrorCodes.NO_ERROR  # what "close" is here


BAD = [
    ({":path": b"echo"}, 400, "no path"),
    ({":path": b"/ech\xc3\xb6"}, 400, "a path that is not ASCII"),
    ({":path": b"*"}, 400, "only for OPTIONS"),
    ({":path": b"http://a/echo"}, 400, "absolute"),
    ({":authority": b"a b"}, 400, "a bad authority"),
    ({":authority": b"u@a"}, 400, "one with a user"),
    ({":method": b"TRACE"}, 405, "TRACE"),
    ({":method": b"get"}, 405, "methods are case-sensitive"),
    ({"content-length": b"9"}, 400, "a length without a body"),
    ({"expect": b"miracles"}, 417, "what nobody expects"),
]


@pytest.mark.parametrize(("change", "status", "why"), BAD, ids=[why for _, _, why in BAD])
def test_a_bad_request_is_refused_alone(server: Wired, change: dict, status: int, why: str):
    pairs = {":method": b"GET", ":path": b"/echo", ":scheme": b"http", ":authority": b"localhost"} | change
    with client_of(server) as client:
        client.h2.config.validate_outbound_headers = False
        client.h2.send_headers(1, [(name.encode(), value) for name, value in pairs.items()], end_stream=True)
        client.flush()
        found, body = client.hear(1)
        assert (found, json.loads(body)["status"]) == (status, status), why
        assert client.hear(client.ask())[0] == 200


MALFORMED = [
    ({":method": b"CONNECT"}, "CONNECT with a path"),
    ({"connection": b"close"}, "a header of the connection"),
    ({"transfer-encoding": b"chunked"}, "chunks"),
    ({"X-Upper": b"a"}, "upper case"),
    ({"x": b"a\r\nb: c"}, "CR LF in a value"),
    ({"x": b"a\x00b"}, "NUL in a value"),
    ({"te": b"gzip"}, "TE that is not trailers"),
    ({"host": b"other"}, "authority and host differ"),
]


@pytest.mark.parametrize(("change", "why"), MALFORMED, ids=[why for _, why in MALFORMED])
def test_a_malformed_request_never_reaches_a_function(server: Wired, change: dict, why: str):
    pairs = {":method": b"GET", ":path": b"/wait?name=malformed", ":scheme": b"http", ":authority": b"localhost"}
    with client_of(server) as client:
        client.h2.config.validate_outbound_headers = client.h2.config.normalize_outbound_headers = False
        client.h2.send_headers(1, [(k.encode(), v) for k, v in (pairs | change).items()], end_stream=True)
        client.flush()
        while client.open and not client.of(h2.events.StreamReset) and not client.of(h2.events.StreamEnded):
            client.receive()
        for answer in client.of(h2.events.ResponseReceived):
            assert int(dict(answer.headers)[b":status"]) >= 400, why
    with client_of(server) as client:
        assert b"malformed" not in client.hear(client.ask("/seen"))[1]


def test_an_application_that_fails_midway_resets_its_stream_alone(server: Wired):
    with client_of(server) as client:
        reset = client.wait_for(h2.events.StreamReset, client.ask("/half"))
        assert reset.error_code == ErrorCodes.INTERNAL_ERROR
        assert client.hear(client.ask())[0] == 200


def test_an_answer_before_the_end_of_its_request_ends_its_stream(server: Wired):
    with client_of(server) as client:
        stream = client.ask("/unread", "POST", b"some", end=False)
        assert client.hear(stream) == (200, b'"unread"')
        assert client.wait_for(h2.events.StreamReset, stream).error_code == ErrorCodes.NO_ERROR
        client.raw(frames.DataFrame(stream, b"more"))  # as if it had been on its way
        assert client.hear(client.ask())[0] == 200


def test_a_client_that_resets_a_stream_has_gone_from_it(server: Wired):
    with client_of(server) as client:
        stream = client.ask("/wait?name=reset")
        until(lambda: b"reset began" in client.hear(client.ask("/seen"))[1])
        client.h2.reset_stream(stream)
        client.flush()
        until(lambda: b"reset cancelled" in client.hear(client.ask("/seen"))[1])


def test_a_stream_reset_while_its_connection_is_full_leaves_the_others_their_answers(server: Wired):
    with server.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 262_144)
        client = Client(sock, 2**31 - 1)
        client.h2.increment_flow_control_window(2**31 - 1 - 65_535)
        stream = client.ask("/big?size=20000000")
        client.wait_for(h2.events.ResponseReceived, stream)
        time.sleep(0.2)  # until nothing more fits into the sockets
        client.h2.reset_stream(stream)
        client.flush()
        time.sleep(0.2)  # until it is known: nothing tells when
        assert client.hear(client.ask("/echo", "POST", b"after"))[0] == 200
        assert len(client.hear(client.ask("/big?size=100000"))[1]) == 100_000


def test_what_a_client_closes_cancels_all_its_streams(server: Wired):
    with client_of(server) as client:
        client.ask("/wait?name=closed")
    with client_of(server) as client:
        until(lambda: b"closed cancelled" in client.hear(client.ask("/seen"))[1])


def test_a_big_answer_waits_for_the_window(server: Wired):
    with client_of(server) as client:
        assert len(client.hear(client.ask("/big?size=3000000"))[1]) == 3_000_000


def test_a_client_that_opens_no_window_holds_nothing_for_ever(server: Wired):
    with client_of(server) as client:
        client.acknowledge = False
        client.ask("/big")
        until(lambda: server.role.shell.in_flight == 1)
        while client.receive():  # its connection is cut
            pass
        until(lambda: server.role.shell.in_flight == 0)


def test_no_more_of_a_body_comes_than_the_function_reads(server: Wired):
    with client_of(server) as client:
        client.wait_for(h2.events.WindowUpdated)  # of the connection
        stream = client.ask("/late", "POST", end=False)
        client.h2.send_data(stream, bytes(16_000))
        client.flush()
        sent = 16_000
        while window := min(client.h2.local_flow_control_window(stream), 16_384):
            client.h2.send_data(stream, bytes(window))
            client.flush()
            sent += window
        assert sent <= 65_535
        other = client.ask("/echo", "POST", b"beside")  # and nobody else is held up
        assert client.hear(other)[0] == 200
        assert not client.of(h2.events.StreamEnded, stream)
        while sent < 500_000:
            while not (window := min(client.h2.local_flow_control_window(stream), 16_384, 500_000 - sent)):
                client.receive()
            client.h2.send_data(stream, bytes(window))
            client.flush()
            sent += window
        client.h2.end_stream(stream)
        client.flush()
        assert client.hear(stream) == (200, b"500000")


def test_100_comes_when_the_body_is_read(server: Wired):
    with client_of(server) as client:
        stream = client.ask("/count", "POST", end=False, expect="100-continue")
        client.wait_for(h2.events.InformationalResponseReceived, stream)
        client.h2.send_data(stream, b"abc", end_stream=True)
        client.flush()
        assert client.hear(stream) == (200, b"3")
        stream = client.ask("/unread", "POST", end=False, expect="100-continue")
        assert client.hear(stream)[0] == 200
        assert not client.of(h2.events.InformationalResponseReceived, stream)


def flood_of_pings(client: Client) -> None:
    for _ in range(3000):
        client.raw(frames.PingFrame(0, b"12345678"))


def flood_of_settings(client: Client) -> None:
    for _ in range(3000):
        client.raw(frames.SettingsFrame(0, {4: 65_535}))


def flood_of_priorities(client: Client) -> None:
    for number in range(3000):
        client.raw(frames.PriorityFrame(2 * number + 1, depends_on=0, stream_weight=1))


def flood_of_empty_data(client: Client) -> None:
    stream = client.ask("/count", "POST", end=False)
    for _ in range(3000):
        client.raw(frames.DataFrame(stream, b""))


def rapid_resets(client: Client) -> None:
    """CVE-2023-44487"""
    for _ in range(500):
        client.h2.reset_stream(client.ask("/wait?name=rapid"))


def flood_of_continuations(client: Client) -> None:
    """CVE-2024-27983 and its like"""
    client.raw(frames.HeadersFrame(1, b"\x82"))
    for _ in range(500):
        client.raw(frames.ContinuationFrame(1, b"\x00\x01a\x01b"))


def bomb_of_headers(client: Client) -> None:
    """Each reference is one byte, and 4,000 bytes once it is decoded."""
    block = client.h2.encoder.encode([(":method", "GET"), (":path", "/echo"), (":scheme", "http"), (":authority", "a")])
    block += b"\x40\x01x" + b"\x7f\xa1\x1e" + b"a" * 4000  # enters the table
    client.raw(frames.HeadersFrame(1, block + b"\xbe" * 10_000, flags=["END_HEADERS", "END_STREAM"]))


def too_many_streams(client: Client) -> None:
    for stream in range(1, 401, 2):
        block = client.h2.encoder.encode(
            [(":method", "GET"), (":path", "/wait?name=many"), (":scheme", "http"), (":authority", "a")]
        )
        client.raw(frames.HeadersFrame(stream, block, flags=["END_HEADERS", "END_STREAM"]))


@pytest.mark.parametrize(
    ("flood", "code"),
    [
        (flood_of_pings, ErrorCodes.ENHANCE_YOUR_CALM),
        (flood_of_settings, ErrorCodes.ENHANCE_YOUR_CALM),
        (flood_of_priorities, ErrorCodes.ENHANCE_YOUR_CALM),
        (flood_of_empty_data, ErrorCodes.ENHANCE_YOUR_CALM),
        (rapid_resets, ErrorCodes.ENHANCE_YOUR_CALM),
        (bomb_of_headers, ErrorCodes.ENHANCE_YOUR_CALM),
        (flood_of_continuations, ErrorCodes.PROTOCOL_ERROR),
        (too_many_streams, ErrorCodes.PROTOCOL_ERROR),
    ],
)
def test_a_flood_ends_its_connection_and_no_other(server: Wired, flood, code: ErrorCodes):
    with client_of(server) as other, client_of(server) as client:
        other.hear(other.ask())
        with suppress(OSError):  # it was cut off meanwhile
            flood(client)
        try:
            end = client.hear_the_end()
        except ConnectionError:
            end = (client.of(h2.events.ConnectionTerminated) or [None])[-1]
        assert end is not None
        assert end.error_code == code
        assert other.hear(other.ask())[0] == 200
    until(lambda: server.role.shell.in_flight == 0)


def test_what_a_browser_does_is_no_flood(server: Wired):
    with client_of(server) as client:
        for _ in range(150):
            client.h2.reset_stream(client.ask("/big?size=10"))
            client.flush()
            client.raw(frames.PingFrame(0, b"12345678"))
        until(lambda: client.hear(client.ask())[0] == 200)  # not 429, as on a busy machine: those reset are at work


def test_the_drain_says_goodbye_and_answers_what_is_under_way(tmp_path):
    server = Wired(write_files(tmp_path, **APP))
    with client_of(server) as client:
        stream = client.ask("/wait?name=drained&seconds=0.3")
        until(lambda: server.role.shell.in_flight == 1)
        asyncio.run_coroutine_threadsafe(_begin_drain(server), server.loop).result(5)
        late = client.ask()
        assert client.hear(late)[0] == 503
        assert client.hear(stream)[0] == 200
        assert client.hear_the_end().error_code == ErrorCodes.NO_ERROR
    with client_of(server) as client:
        assert client.hear(client.ask())[0] == 503
        assert client.hear_the_end().error_code == ErrorCodes.NO_ERROR
    server.stop()


async def _begin_drain(server: Wired) -> None:
    server.role.core.draining = True


def test_it_can_be_switched_off(tmp_path):
    server = Wired(write_files(tmp_path, **APP), http2="false")
    heard = server.exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert heard.startswith(b"HTTP/1.1 505 ")
    server.stop()
