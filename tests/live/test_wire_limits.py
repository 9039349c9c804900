"""What one client may cost: time, bytes, connections."""

import json
import resource
import select
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from runtime.triggers.http.wire.requests import Limits
from tests.live_servers import until
from tests.wire_servers import Wired, hear, read_answers, write_files

pytestmark = pytest.mark.live

H = b"Host: a\r\n"
GET = b"GET /fast HTTP/1.1\r\n" + H + b"\r\n"
APP = {
    "functions/app.py": """
        import asyncio
        from typing import Annotated
        from starlette.responses import StreamingResponse
        from runtime import Body, Request, http

        ended = []

        @http.get("/fast")
        async def fast() -> str:
            return "fast"

        @http.get("/slow")
        async def slow(seconds: float = 0.3) -> str:
            await asyncio.sleep(seconds)
            return "slow"

        @http.post("/length")
        async def length(body: Annotated[bytes, Body]) -> int:
            return len(body)

        @http.post("/late")
        async def late(request: Request) -> int:
            await asyncio.sleep(0.6)
            return len(await request.body())

        @http.get("/big")
        async def big() -> bytes:
            return bytes(20_000_000)

        @http.get("/flow")
        async def flow():
            try:
                while True:
                    yield bytes(100_000)
            finally:
                ended.append("flow")

        @http.get("/quiet")
        async def quiet():
            yield "one"
            await asyncio.sleep(1.5)
            yield "two"

        @http.get("/ended")
        async def ended_ones() -> list[str]:
            return ended
        """
}
SHORT = Limits(
    idle_seconds=0.6, head_seconds=0.5, body_silence_seconds=0.4, body_seconds=0.6, body_bytes_a_second=1000,
    write_seconds=0.6, handshake_seconds=0.5, linger_seconds=0.3, close_seconds=0.5, tick_seconds=0.05,
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory, lane: str):
    wired = Wired(write_files(tmp_path_factory.mktemp("limits"), **APP), lane=lane, limits=SHORT)
    yield wired
    wired.stop()


def drip(sock: socket.socket, data: bytes, every: float) -> bytes:
    """Send byte by byte until something comes back; that, to the end."""
    for at in range(len(data)):
        sock.sendall(data[at : at + 1])
        if select.select([sock], [], [], every)[0]:
            return hear(sock)
    raise AssertionError("it was never cut off")


def test_a_head_that_drips_is_cut_off_however_steadily_it_does(server: Wired):
    with server.connect() as sock:
        started = time.monotonic()
        (answer,) = read_answers(drip(sock, b"GET /fast HTTP/1.1\r\n" + H + b"X: " + b"a" * 200, 0.05))
        assert 0.4 < time.monotonic() - started < 8
    assert (answer.status, answer.header("connection").lower()) == (408, "close")
    assert json.loads(answer.body)["detail"] == "the request did not come to the end of its head in time"


def test_so_is_the_head_of_a_second_request(server: Wired):
    with server.connect() as sock:
        sock.sendall(GET)
        assert b"fast" in sock.recv(65536)
        (answer,) = read_answers(drip(sock, b"GET /fast HTTP/1.1\r\n" + H + b"X: " + b"a" * 200, 0.05))
    assert answer.status == 408


def test_one_that_drips_empty_lines_is_cut_off(server: Wired):
    with server.connect() as sock, suppress(ConnectionError):
        assert b"200 OK" not in drip(sock, b"\r\n" * 200, 0.05)


@pytest.mark.parametrize("sent", [b"", b"P", b"PR", GET])
def test_a_connection_that_is_idle_is_closed_after_its_time(server: Wired, sent: bytes):
    with server.connect() as sock:
        sock.sendall(sent)
        started = time.monotonic()
        hear(sock)
        assert 0.4 < time.monotonic() - started < 8


@pytest.mark.parametrize("framing", [b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n"])
def test_a_body_that_stops_or_drips_is_answered_408(server: Wired, framing: bytes):
    head = b"POST /length HTTP/1.1\r\n" + H + framing
    with server.connect() as sock:
        sock.sendall(head + b"a")
        (answer,) = read_answers(hear(sock))
        assert (answer.status, json.loads(answer.body)["detail"]) == (408, "the body stopped coming")
    with server.connect() as sock:
        sock.sendall(head)
        (answer,) = read_answers(drip(sock, b"a" * 300, 0.05))
        assert (answer.status, json.loads(answer.body)["detail"]) == (408, "the body comes too slowly")


def test_a_slow_function_is_not_taken_for_a_slow_client(server: Wired):
    body = bytes(300_000)
    with server.connect() as sock:
        sock.sendall(b"POST /late HTTP/1.1\r\n" + H + b"Connection: close\r\nContent-Length: 300000\r\n\r\n" + body)
        (answer,) = read_answers(hear(sock))
    assert (answer.status, answer.body) == (200, b"300000")


@pytest.mark.parametrize("path", [b"/big", b"/flow"])
def test_a_client_that_does_not_read_holds_nothing_for_ever(server: Wired, path: bytes):
    until(lambda: not server.server.connections)  # those of other tests
    with server.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET " + path + b" HTTP/1.1\r\n" + H + b"\r\n")
        until(lambda: server.server.connections, seconds=2)
        until(lambda: not server.server.connections, seconds=5)
        until(lambda: server.role.shell.in_flight == 0, seconds=2)
    if path == b"/flow":
        assert b"flow" in server.exchange(b"GET /ended HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")


def test_a_client_that_reads_slowly_but_reads_gets_all(server: Wired):
    with server.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.sendall(b"GET /big HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
        size = 0
        started = time.monotonic()
        while part := sock.recv(400_000):
            size += len(part)
            if time.monotonic() - started < 1.5:
                time.sleep(0.02)
    assert size > 20_000_000


def test_a_stream_that_is_quiet_is_not_cut(server: Wired):
    (answer,) = server.answers(b"GET /quiet HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
    assert answer.body == b"onetwo"


def test_past_the_limit_the_longest_idle_connection_makes_room(tmp_path: Path):
    server = Wired(write_files(tmp_path, **APP), max_connections="10")
    with ExitStack() as stack:
        held = [stack.enter_context(server.connect()) for _ in range(10)]
        for sock in held[1:]:
            sock.sendall(GET)
            assert b"200 OK" in sock.recv(65536)
        (answer,) = server.answers(b"GET /fast HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
        assert answer.status == 200
        assert hear(held[0]) == b""  # it was idle the longest: it had never asked
        held[-1].sendall(GET)
        assert b"200 OK" in held[-1].recv(65536)
    server.stop()


def test_who_begins_a_head_at_the_limit_makes_room_and_who_is_answered_does_not(tmp_path: Path):
    server = Wired(write_files(tmp_path, **APP), max_connections="5")
    with ExitStack() as stack:
        held = [stack.enter_context(server.connect()) for _ in range(5)]
        held[0].sendall(b"GET /slow?seconds=2 HTTP/1.1\r\n" + H + b"\r\n")
        until(lambda: server.role.shell.in_flight == 1)
        for sock in held[1:]:
            sock.sendall(b"GET /fa")
        until(lambda: server.ask(lambda: len(server.server.asking)) == 4)
        started = time.monotonic()
        (answer,) = server.answers(b"GET /fast HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
        assert answer.status == 200
        assert time.monotonic() - started < 5  # a head has 15 s
        assert b"200 OK" in held[0].recv(65536)
        held[-1].sendall(b"st HTTP/1.1\r\n" + H + b"\r\n")
        assert b"200 OK" in held[-1].recv(65536)
        assert server.ask(lambda: len(server.server.asking)) < 4
    server.stop()


def test_who_comes_when_all_are_busy_waits_in_the_kernel(tmp_path: Path):
    server = Wired(write_files(tmp_path, **APP), max_connections="3")
    with ExitStack() as stack:
        busy = [stack.enter_context(server.connect()) for _ in range(3)]
        for sock in busy:
            sock.sendall(b"GET /slow?seconds=0.7 HTTP/1.1\r\n" + H + b"\r\n")
        until(lambda: server.role.shell.in_flight == 3)
        started = time.monotonic()
        (answer,) = server.answers(b"GET /fast HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
        assert answer.body == b'"fast"'
        assert time.monotonic() - started > 0.3
        for sock in busy[1:]:
            assert b"200 OK" in sock.recv(65536)
    server.stop()


def test_no_more_files_neither_ends_the_server_nor_spins_it(write_project, start):
    server = start(write_project(**APP), "serve", environ=ENVIRON)
    port, pid = server.port, server.serving
    assert _seconds_of_an_answer(port) < 5  # it serves: its own limit is set
    folder = Path(f"/proc/{pid}/fd")
    used = len(list(folder.iterdir()))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        server.wait_for_line("connections wait to be accepted")
        before = _cpu_seconds(pid)
        time.sleep(0.5)
        assert _cpu_seconds(pid) - before < 0.3
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:  # the idle ones make room for it
            sock.sendall(b"GET /fast HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
            assert b"200 OK" in hear(sock)
    assert server.stop() == 0


ENVIRON = {"FNRUN_HTTP__AUTH": "public", "FNRUN_HTTP__BIND": "127.0.0.1:0"}


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _resident_kilobytes(pid: int) -> int:
    return next(
        int(line.split()[1]) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in line
    )


def test_ten_thousand_idle_connections(write_project, start, record_property):
    wanted = 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard - 500)
    if wanted < 1000:
        pytest.skip(f"the hard limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted + 500, hard))
    server = start(write_project(**APP), "serve", environ={**ENVIRON, "FNRUN_HTTP__MAX_CONNECTIONS": "10100"})
    port, pid = server.port, server.serving
    folder = Path(f"/proc/{pid}/fd")
    assert _seconds_of_an_answer(port) < 5
    files, memory = len(list(folder.iterdir())), _resident_kilobytes(pid)
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(wanted)]
        until(lambda: len(list(folder.iterdir())) >= files + wanted - 1, seconds=20)
        silent = _resident_kilobytes(pid)
        for sock in held[:2000]:
            sock.sendall(GET)
            assert sock.recv(4096), server.output
        record_property("kilobytes_silent", (silent - memory) / wanted)
        record_property("kilobytes_kept_alive", (_resident_kilobytes(pid) - silent) / 2000)
        print(f"{wanted} idle: {(silent - memory) / wanted:.1f} kB each; ", end="")
        print(f"after an answer {(_resident_kilobytes(pid) - silent) / 2000:.1f} kB more")
        assert silent - memory < 8 * wanted
        assert _resident_kilobytes(pid) - silent < 24 * 2000
        assert max(_seconds_of_an_answer(port) for _ in range(20)) < 1  # others are served meanwhile
    until(lambda: len(list(folder.iterdir())) <= files + 1, seconds=20)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert server.stop() == 0


def _seconds_of_an_answer(port: int) -> float:
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(b"GET /fast HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
        assert b"200 OK" in hear(sock)
    return time.monotonic() - started
