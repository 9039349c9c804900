"""HTTP/3, with aioquic as the client."""

import asyncio
import importlib.util
import json

import pytest
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamReset

from runtime.base.errors import StartError
from runtime.base.sections import HttpSettings
from runtime.triggers.http.wire.requests import Limits
from runtime.triggers.http.wire.tls import load_tls
from tests.live.test_wire_http2 import APP
from tests.live.test_wire_tls import context_of, write_certificate
from tests.live_servers import until
from tests.wire_servers import Wired, hear, write_files

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = write_files(tmp_path_factory.mktemp("http3"), **APP)
    authority = write_certificate(root)
    limits = Limits(write_seconds=0.6, tick_seconds=0.05)
    wired = Wired(root, limits=limits, certfile="cert.pem", keyfile="cert-key.pem", http3="true")
    wired.authority = authority
    yield wired
    wired.stop()


class Client(QuicConnectionProtocol):
    """One connection; `heard` has what came for each stream."""

    def __init__(self, *arguments, **named) -> None:
        super().__init__(*arguments, **named)
        self.h3 = H3Connection(self._quic)
        self.heard: dict[int, list] = {}
        self.resets: dict[int, int] = {}
        self.came = asyncio.Event()

    def quic_event_received(self, event) -> None:
        if isinstance(event, StreamReset):
            self.resets[event.stream_id] = event.error_code
        for one in self.h3.handle_event(event):
            self.heard.setdefault(one.stream_id, []).append(one)
        self.came.set()

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, end: bool = True, **more) -> int:
        stream = self._quic.get_next_available_stream_id()
        pairs = {":method": method, ":scheme": "https", ":authority": "localhost", ":path": path} | more
        self.h3.send_headers(
            stream,
            [(k.encode(), v.encode() if isinstance(v, str) else v) for k, v in pairs.items()],
            end and body is None,
        )
        if body is not None:
            self.h3.send_data(stream, body, end_stream=end)
        self.transmit()
        return stream

    async def wait_until(self, condition) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self.came.clear()
                await self.came.wait()

    async def hear(self, stream: int) -> tuple[int, bytes]:
        await self.wait_until(lambda: any(e.stream_ended for e in self.heard.get(stream, ())))
        events = self.heard[stream]
        final = [e for e in events if isinstance(e, HeadersReceived)][-1]
        body = b"".join(e.data for e in events if isinstance(e, DataReceived))
        return int(dict(final.headers)[b":status"]), body


def client_of(server: Wired):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name="localhost")
    configuration.load_verify_locations(cadata=server.authority.cert_pem.bytes())
    return connect("127.0.0.1", server.port, configuration=configuration, create_protocol=Client)


async def test_requests_of_one_connection(server: Wired):
    async with client_of(server) as client:
        slow = client.ask("/wait?name=beside3&seconds=0.2")
        status, body = await client.hear(client.ask("/echo", "POST", b"abc"))
        assert (status, json.loads(body)) == (
            200,
            {"method": "POST", "path": "/echo", "host": "localhost", "body": "abc"},
        )
        assert await client.hear(slow) == (200, b'"waited"')
        assert len((await client.hear(client.ask("/big?size=3000000")))[1]) == 3_000_000
        assert await client.hear(client.ask("/count", "POST", bytes(500_000))) == (200, b"500000")
        headers = [name for name, _ in client.heard[0][0].headers]
        assert headers.count(b"date") == 1


def test_the_others_say_where_it_is(server: Wired):
    with server.connect(context=context_of(server.authority)) as sock:
        sock.sendall(b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert f'alt-svc: h3=":{server.port}"; ma=3600'.encode() in hear(sock)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({":path": b"/ech\xc3\xb6"}, 400),
        ({":path": "*"}, 400),
        ({":authority": "a b"}, 400),
        ({":method": "TRACE"}, 405),
        ({"expect": "miracles"}, 417),
        ({"x": "a" * 20_000}, 431),
        ({":path": "/nowhere"}, 404),
    ],
)
async def test_a_bad_request_is_refused_alone(server: Wired, change: dict, status: int):
    async with client_of(server) as client:
        found, body = await client.hear(client.ask("/echo", **change))
        assert (found, json.loads(body)["status"]) == (status, status)
        assert (await client.hear(client.ask("/echo")))[0] == 200


async def test_an_application_that_fails_midway_resets_its_stream_alone(server: Wired):
    async with client_of(server) as client:
        stream = client.ask("/half")
        await client.wait_until(lambda: stream in client.resets)
        assert client.resets[stream] == ErrorCode.H3_INTERNAL_ERROR
        assert (await client.hear(client.ask("/echo")))[0] == 200


async def test_an_answer_before_the_end_of_its_request(server: Wired):
    async with client_of(server) as client:
        assert await client.hear(client.ask("/unread", "POST", b"some", end=False)) == (200, b'"unread"')
        assert (await client.hear(client.ask("/echo")))[0] == 200


async def test_a_client_that_resets_a_stream_has_gone_from_it(server: Wired):
    async with client_of(server) as client:
        stream = client.ask("/wait?name=reset3")
        while b"reset3 began" not in (await client.hear(client.ask("/seen")))[1]:
            pass
        client._quic.reset_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
        client._quic.stop_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
        client.transmit()
        while b"reset3 cancelled" not in (await client.hear(client.ask("/seen")))[1]:
            pass


async def test_a_client_that_closes_has_gone_from_all(server: Wired):
    async with client_of(server) as client:
        client.ask("/wait?name=closed3")
        while b"closed3 began" not in (await client.hear(client.ask("/seen")))[1]:
            pass
    await asyncio.to_thread(until, lambda: server.role.shell.in_flight == 0)


async def test_100_comes_when_the_body_is_read(server: Wired):
    async with client_of(server) as client:
        stream = client.ask("/count", "POST", end=False, expect="100-continue")
        await client.wait_until(lambda: client.heard.get(stream))
        client.h3.send_data(stream, b"abc", end_stream=True)
        client.transmit()
        assert await client.hear(stream) == (200, b"3")


async def test_garbage_ends_nothing(server: Wired):
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=("127.0.0.1", server.port)
    )
    for data in (
        b"",
        b"\x00" * 1200,
        b"\xff" * 1200,
        b"\xc0\x00\x00\x00\x01" + b"\x08" * 1400,
        b"GET / HTTP/1.1\r\n\r\n",
    ):
        transport.sendto(data)
    transport.close()
    async with client_of(server) as client:
        assert (await client.hear(client.ask("/echo")))[0] == 200


def test_without_its_package_the_start_says_what_to_install(write_project, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "runtime.triggers.http.wire.tls.find_spec", lambda name: None if name == "aioquic" else real(name)
    )
    root = write_project(**APP)
    write_certificate(root)
    with pytest.raises(StartError, match=r'needs the package aioquic: pip install "\.\[http3\]"'):
        load_tls(root, HttpSettings(certfile="cert.pem", keyfile="cert-key.pem", http3=True))


def test_it_takes_a_single_process(tmp_path):
    with pytest.raises(StartError, match=r"set http\.workers = 1"):
        load_tls(tmp_path, HttpSettings(certfile="cert.pem", keyfile="cert-key.pem", http3=True, workers=2))
