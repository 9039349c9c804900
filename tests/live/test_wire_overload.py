"""What a client hears of a server that has too much to do, and what it does not."""

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.live.test_wire_http2 import client_of
from tests.live_servers import until
from tests.wire_servers import Heard, Wired, read_answers, write_files

pytestmark = pytest.mark.live

H = b"Host: a\r\n"
APP = {
    "functions/app.py": """
        import asyncio, time
        from typing import Annotated
        from runtime import Body, http

        let = asyncio.Event()

        @http.get("/fast")
        async def fast() -> str:
            return "fast"

        @http.get("/sync")
        def sync() -> str:
            return "sync"

        @http.get("/burn")
        async def burn() -> str:
            end = time.thread_time() + 0.003
            while time.thread_time() < end:
                pass
            return "burnt"

        @http.get("/wait")
        async def wait() -> str:
            await let.wait()
            return "waited"

        @http.get("/go")
        async def go() -> None:
            let.set()

        @http.post("/length")
        async def length(body: Annotated[bytes, Body]) -> int:
            return len(body)

        @http.get("/flow")
        async def flow():
            yield "one"
            await let.wait()
        """
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Wired]:
    wired = Wired(write_files(tmp_path, **APP))
    yield wired
    wired.stop()


@contextmanager
def overloaded(server: Wired) -> Iterator[None]:
    """Within: nobody may begin."""
    pace = server.role.overload._pace
    pace.take = lambda: False
    yield
    del pace.take


def get(path: str, method: str = "GET", more: bytes = b"") -> bytes:
    return f"{method} {path} HTTP/1.1\r\n".encode() + H + more + b"\r\n"


def ask(sock: socket.socket, sent: bytes) -> Heard:
    sock.sendall(sent)
    return listen(sock)


def listen(sock: socket.socket) -> Heard:
    """One answer, with a length."""
    data = b""
    while True:
        part = sock.recv(65536)
        assert part, f"it closed after {data!r}"
        data += part
        head, end, rest = data.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0)
        if end and len(rest) >= length:
            (answer,) = read_answers(data)
            return answer


def test_a_refusal_is_a_problem_that_says_when_to_come_back(server: Wired):
    with overloaded(server), server.connect() as sock:
        found = [ask(sock, get("/fast?x=1")) for _ in range(4)]  # the first by the parser, the others before it
    assert {answer.status for answer in found} == {429}
    assert len({answer.header("x-run-id") for answer in found}) == 4
    for answer in found:
        body = json.loads(answer.body)
        assert body["run_id"] == answer.header("x-run-id")
        assert (body["title"], body["status"]) == ("Too Many Requests", 429)
        assert body["detail"] == "more requests come than this process can answer in time"
        assert answer.header("content-type") == "application/problem+json"
        assert 1 <= int(answer.header("retry-after") or "") <= 3
        assert "GMT" in (answer.header("date") or "")
        assert {name for name, _ in answer.headers} == {name for name, _ in found[0].headers}
    with server.connect() as sock:
        assert ask(sock, get("/fast")).status == 200  # as soon as there is room


def test_the_connection_serves_on_whatever_became_of_the_body(server: Wired):
    with server.connect() as sock:
        with overloaded(server):
            for _ in range(2):
                post = get("/length", "POST", b"Content-Length: 5\r\n")
                assert ask(sock, post + b"12345").status == 429
                answer = ask(sock, get("/length", "POST", b"Content-Length: 5\r\n") + b"12")
                assert answer.status == 429
                sock.sendall(b"345")
                assert ask(sock, get("/fast")).status == 429
                sock.sendall(get("/length", "POST", b"Content-Length: 30000\r\n"))
                assert listen(sock).status == 429
                sock.sendall(bytes(20_000))
                sock.sendall(bytes(10_000))
        answer = ask(sock, get("/length", "POST", b"Content-Length: 3\r\n") + b"abc")
        assert (answer.status, answer.body) == (200, b"3")
        assert ask(sock, get("/fast")).body == b'"fast"'


def test_what_is_not_plain_is_refused_as_well(server: Wired):
    with overloaded(server):
        for _ in range(2):
            (head,) = server.answers(get("/fast", "HEAD", b"Connection: close\r\n"), methods=("HEAD",))
            assert (head.status, head.body) == (429, b"")
            with server.connect() as sock:
                chunked = get("/length", "POST", b"Transfer-Encoding: chunked\r\n")
                assert ask(sock, chunked + b"1\r\na\r\n0\r\n\r\n").status == 429
            (expecting,) = server.answers(get("/length", "POST", b"Expect: 100-continue\r\nContent-Length: 9\r\n"))
            assert expecting.status == 429
            first, second = server.answers(get("/fast") + get("/fast", more=b"Connection: close\r\n"))
            assert (first.status, second.status) == (429, 429)
            (malformed,) = server.answers(b"GET /fast HTTP/1.1\r\nHost: \x01\r\n\r\n")
            assert malformed.status == 400


def test_streams_of_http2_are_refused_one_by_one(server: Wired):
    with client_of(server) as client:
        with overloaded(server):
            for stream in (client.ask("/fast"), client.ask("/length", "POST", b"abc")):
                status, body = client.hear(stream)
                assert (status, json.loads(body)["status"]) == (429, 429)
            assert client.hear(client.ask("/_/health"))[0] == 200
        assert client.hear(client.ask("/fast")) == (200, b'"fast"')


def test_health_is_answered_and_so_is_the_operator(server: Wired):
    with overloaded(server), server.connect() as sock:
        for path in ("/fast", "/_/health", "/_/ready", "/_/health"):
            assert ask(sock, get(path)).status == (429 if path == "/fast" else 200)
        assert ask(sock, get("/_/functions")).status == 401


def test_only_as_many_are_at_work_as_the_setting_allows(tmp_path: Path):
    server = Wired(write_files(tmp_path, **APP), max_in_flight="3")
    with ExitStack() as stack:
        held = [stack.enter_context(server.connect()) for _ in range(3)]
        flows = [stack.enter_context(server.connect()) for _ in range(4)]
        for sock in flows:  # which count only until they flow
            sock.sendall(get("/flow"))
            assert b"200 OK" in sock.recv(65536)
        for sock in held:
            sock.sendall(get("/wait"))
        until(lambda: server.role.shell.in_flight == 7)
        for sock in (stack.enter_context(server.connect()) for _ in range(2)):
            for _ in range(3):
                answer = ask(sock, get("/fast"))
                assert answer.status == 429
                assert "http.max_in_flight" in json.loads(answer.body)["detail"]
            assert ask(sock, get("/_/health")).status == 200
        held[0].shutdown(socket.SHUT_RDWR)  # gone, and so cancelled
        with server.connect() as sock:
            until(lambda: ask(sock, get("/go")).status == 204)
        assert [listen(sock).body for sock in held[1:]] == [b'"waited"'] * 2
        until(lambda: server.role.overload._at_work == 0)
    server.stop()


def test_a_small_load_is_never_refused(server: Wired):
    with ExitStack() as stack:
        held = [stack.enter_context(server.connect()) for _ in range(50)]
        for path in ("/fast", "/sync", "/fast"):
            for sock in held:
                sock.sendall(get(path))
            assert {listen(sock).status for sock in held} == {200}
    assert sum(server.role.overload.refused.values()) == 0


def test_under_a_flood_some_are_served_others_refused_and_afterwards_all_are_served(server: Wired):
    over, found = threading.Event(), Counter[int]()
    flood = threading.Thread(target=_flood, args=(server, over, found))
    flood.start()
    try:
        until(lambda: found[429] > 100, seconds=30)
        served = found[200]
        until(lambda: found[200] > served + 20, seconds=30)
        with server.connect() as sock:
            for _ in range(3):
                assert ask(sock, get("/_/health")).status == 200
        assert server.ask(lambda: server.role.overload.active) is True
    finally:
        over.set()
        flood.join(20)
    until(lambda: not server.role.overload.active, seconds=10)
    refused = sum(server.role.overload.refused.values())
    assert refused >= found[429]
    with server.connect() as sock:
        assert [ask(sock, get("/burn")).status for _ in range(20)] == [200] * 20
    assert sum(server.role.overload.refused.values()) == refused


def _flood(server: Wired, over: threading.Event, found: Counter[int]) -> None:
    """200 clients that ask again at once."""
    with ExitStack() as stack:
        held = [stack.enter_context(server.connect()) for _ in range(200)]
        for sock in held:
            sock.sendall(get("/burn"))
        while not over.is_set():
            for sock in held:
                found[listen(sock).status] += 1
                sock.sendall(get("/burn"))
        for sock in held:
            listen(sock)


def test_it_is_told_once_when_it_begins_and_once_when_it_is_over(server: Wired, monkeypatch, caplog):
    monkeypatch.setattr("runtime.triggers.http.shedding.overload._QUIET_SECONDS", 0.3)
    caplog.set_level("INFO")
    with server.connect() as sock:
        with overloaded(server):
            assert {ask(sock, get("/fast")).status for _ in range(20)} == {429}
        assert ask(sock, get("/fast")).status == 200
    until(lambda: "the overload is over" in caplog.text)
    assert caplog.text.count("requests are refused with 429") == 1
    assert "refused=20" in caplog.text
