"""`fnrun serve` as a real process: starting, answering bad clients, draining, stopping."""

import json
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import httpx
import pytest

from tests.live_servers import until

pytestmark = pytest.mark.live

PUBLIC = {"FNRUN_HTTP__AUTH": "public", "FNRUN_HTTP__BIND": "127.0.0.1:0"}
APP = {
    "functions/app.py": """
        import asyncio, os, threading, time
        from typing import Annotated
        import msgspec
        from starlette.responses import PlainTextResponse, Response, StreamingResponse
        from runtime import Body, Context, Query, Request, http

        @http.get("/pid")
        async def pid() -> int:
            return os.getpid()

        @http.get("/slow")
        async def slow(seconds: float = 1) -> str:
            print("at work", flush=True)
            await asyncio.sleep(seconds)
            return "done"

        @http.get("/stuck")
        def stuck() -> str:
            print("at work", flush=True)
            time.sleep(60)
            return "never"

        @http.get("/deaf")
        async def deaf() -> str:
            print("at work", flush=True)
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass

        @http.post("/raw", max_body="100kB")
        async def raw(body: Annotated[bytes, Body]) -> int:
            return len(body)

        @http.post("/sum")
        async def add(x: int, y: int) -> int:
            return x + y

        @http.get("/ticks")
        async def ticks():
            print("at work", flush=True)
            try:
                while True:
                    yield "tick\\n"
                    await asyncio.sleep(0.02)
            finally:
                print("stream closed", flush=True)

        @http.post("/reply")
        async def reply(how: Annotated[str, Query], request: Request):
            if how == "response":
                return Response("early")
            if how == "stream":
                return StreamingResponse(iter(["ea", "rly"]))
            return PlainTextResponse("early") if how == "plain" else "early"

        @http.post("/events")
        async def events(request: Request):
            yield "early"

        @http.post("/echo")
        async def echo(request: Request):
            async for part in request.stream():
                yield part

        @http.get("/endless")
        async def endless():
            async def ticks():
                while True:
                    yield "tick"
                    await asyncio.sleep(0.01)
            return StreamingResponse(ticks())

        @http.get("/to-thread")
        async def to_thread() -> None:
            print("at work", flush=True)
            await asyncio.to_thread(time.sleep, 60)

        @http.get("/own-thread")
        async def own_thread() -> str:
            threading.Thread(target=time.sleep, args=[60]).start()
            return "started"

        class Fussy(msgspec.Struct):
            how: str

            def __post_init__(self):
                if self.how == "exit":
                    raise SystemExit(1)
                raise KeyError(self.how)

        @http.post("/fussy")
        async def fussy(body: Fussy) -> None: ...

        @http.get("/odd-response")
        async def odd_response() -> Response:
            return Response("x", status_code=1000)

        @http("/leave", methods=["GET", "POST"])
        async def leave_early(name: str) -> None:
            await note(name)

        @http.post("/leave/cancel", on_disconnect="cancel")
        async def leave_cancel(name: str) -> None:
            await note(name)

        @http.get("/leave/finish", on_disconnect="finish")
        async def leave_finish(name: str) -> None:
            await note(name)

        async def note(name: str) -> None:
            print(name, "began", flush=True)
            try:
                await asyncio.sleep(0.5)
                print(name, "finished", flush=True)
            except asyncio.CancelledError:
                print(name, "cancelled", flush=True)
                raise

        @http.get("/half")
        async def half():
            yield "first"
            raise ValueError("in the middle")

        @http.get("/exit")
        async def leave() -> None:
            raise SystemExit(1)
        """
}


@pytest.fixture
def server(write_project, start):
    return start(write_project(**APP), "serve", environ=PUBLIC)


def raw_exchange(port: int, *parts: bytes) -> bytes:
    """Send bytes over a plain socket; everything that comes back until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        for part in parts:
            sock.sendall(part)
        found = b""
        while part := sock.recv(65536):
            found += part
        return found


def test_it_answers_and_ends_with_0_on_sigterm(server):
    with server.client() as client:
        assert client.get("/pid").json() == server.serving
        assert client.get("/_/health").json()["status"] == "ok"
        assert client.get("/_/ready").status_code == 200
    assert server.stop() == 0
    assert "stopped" in server.output


def test_an_http_process_has_loaded_nothing_of_the_other_roles(write_project, start):
    app = """
        import sys
        from runtime import cron, http, queue

        @http.get("/loaded")
        @queue("later")
        @cron("0 6 * * *")
        def loaded() -> list[str]:
            return sorted(sys.modules)
        """
    server = start(write_project(**{"functions/app.py": app}), "serve", environ=PUBLIC)
    answer = httpx.get(f"{server.url}/loaded")
    assert answer.status_code == 200, answer.text
    loaded = set(answer.json())
    assert {"redis", "starlette"} <= loaded
    late = {"celery", "kombu", "billiard", "apscheduler", "httpx", "prometheus_client", "watchfiles", "aioquic"}
    assert loaded & {"click", "runtime.cli", "runtime.admin.api", "runtime.triggers.http.openapi"} == set()
    for_others = {"h11", "h2", "wsproto", "hypercorn"}  # than those whom the lane takes
    heavy = {"importlib.metadata", "zipfile", "tempfile", "shutil", "csv", "bz2", "lzma", "zoneinfo", "sysconfig"}
    theirs = set() if "coverage" in loaded else {"multiprocessing"} | heavy
    assert loaded & (late | for_others | theirs | {"runtime.invoke.isolation.cells"}) == set()
    with httpx.Client(http1=False, http2=True) as client:
        answer = client.get(f"{server.url}/loaded")
    assert answer.http_version == "HTTP/2"
    assert for_others <= set(answer.json())
    assert set(answer.json()) & late == set()


def test_what_the_client_of_the_store_does_without_is_there_for_functions(write_project, start):
    app = """
        from typing import get_overloads, overload
        from runtime import http

        @overload
        def found(x: int) -> int: ...
        @overload
        def found(x: str) -> str: ...
        def found(x): return x

        @http.get("/found")
        def told() -> list[str]:
            import importlib.metadata
            from importlib import metadata
            from redis.utils import get_lib_version
            named = metadata.__spec__.name
            return [named, importlib.metadata.version("redis"), get_lib_version(), str(len(get_overloads(found)))]
        """
    server = start(write_project(**{"functions/app.py": app}), "serve", environ=PUBLIC)
    version = metadata.version("redis")
    assert httpx.get(f"{server.url}/found").json() == ["importlib.metadata", version, version, "2"]


def test_the_other_roles_begin_once_http_is_ready(write_project, start):
    server = start(write_project(**APP), "serve", environ=PUBLIC, roles=None)
    for said in ("listening", "taking runs"):
        server.wait_for_line(f'"event": "{said}"')
    until(lambda: '"event": "scheduling"' in server.output)
    said = [json.loads(line).get("event") for line in server.lines if line.startswith("{")]
    assert said.index("listening") < min(said.index("taking runs"), said.index("scheduling"))


def test_http_that_takes_long_to_load_does_not_hold_up_the_other_roles(write_project, start):
    app = """
        import pathlib, sys, time
        from runtime import http

        end = time.monotonic() + 30  # nobody ends a process that loads for ever once its parent is killed
        while "serve-child" in sys.argv and not pathlib.Path(__file__).with_name("go").exists():
            if time.monotonic() > end:
                break
            time.sleep(0.05)

        @http.get("/x")
        async def x() -> int:
            return 1
        """
    root = write_project(**{"functions/app.py": app})
    server = start(root, "serve", environ=PUBLIC, roles=None)
    server.wait_for_line("scheduling|taking runs")
    assert "listening" not in server.output
    (root / "functions" / "go").touch()
    assert httpx.get(f"{server.url}/x").json() == 1


def test_a_signal_while_the_parent_still_loads_ends_its_first_child_too(write_project, start):
    hold = """
        import sys, time

        class Hold:
            def find_spec(self, name, path=None, target=None):
                if name == "runtime.supervisor":
                    print("the parent loads", flush=True)
                    time.sleep(60)

        sys.meta_path.insert(0, Hold())
        """
    app = """
        import sys, time
        if "serve-child" in sys.argv:
            print("the child loads", flush=True)
            time.sleep(60)
        """
    root = write_project(**{"functions/app.py": app, "hold/sitecustomize.py": hold})
    server = start(root, "serve", environ={**PUBLIC, "PYTHONPATH": str(root / "hold")})
    until(lambda: {"the parent loads", "the child loads"} <= set(server.lines), seconds=40)
    assert server.stop() == 0
    until(lambda: not server.family())


def test_the_first_start_prints_a_key_and_the_next_none(write_project, start):
    root = write_project(**APP)
    environ = {"FNRUN_HTTP__BIND": "127.0.0.1:0"}
    first = start(root, "serve", environ=environ)
    token = first.wait_for_line(r"shown this once: (\S+)")[1]
    with first.client() as client:
        assert client.get("/pid").status_code == 401
        assert client.get("/pid", headers={"authorization": f"Bearer {token}"}).status_code == 200
    assert first.stop() == 0
    second = start(root, "serve", environ=environ)
    with second.client() as client:
        assert client.get("/pid", headers={"authorization": f"Bearer {token}"}).status_code == 200
    assert "shown this once" not in second.output
    assert not (root / ".fnrun" / "keys.json").exists()


def test_a_key_that_is_revoked_is_refused_within_a_second(write_project, start):
    root = write_project(**APP)
    server = start(root, "serve", environ={"FNRUN_HTTP__BIND": "127.0.0.1:0"})
    token = server.wait_for_line(r"shown this once: (\S+)")[1]
    with server.client(headers={"authorization": f"Bearer {token}"}) as client:
        assert client.get("/pid").status_code == 200
        revoke = start(root, "keys", "revoke", "--force", token.split("_")[1])
        assert revoke.wait() == 0
        until(lambda: client.get("/pid").status_code == 401, seconds=1.5)


def test_a_port_in_use_is_said_in_one_line(server, write_project, start):
    second = start(write_project(**APP), "serve", "--bind", f"127.0.0.1:{server.port}")
    assert second.wait() == 1
    assert f"cannot listen on 127.0.0.1:{server.port}: Address already in use; stop what uses it" in second.output
    assert "Traceback" not in second.output


def test_a_broken_file_does_not_keep_the_others_from_serving(write_project, start):
    root = write_project(**APP, **{"functions/broken.py": "import nothing_of_that_name\n"})
    server = start(root, "serve", environ=PUBLIC)
    with server.client() as client:
        assert client.get("/pid").status_code == 200
    assert "functions/broken.py:1: ModuleNotFoundError: No module named 'nothing_of_that_name'" in server.output


def test_a_typo_in_the_settings_is_said_in_one_line(write_project, start):
    server = start(write_project(**APP, **{"functions.toml": "[http]\nbnd = 'x'\n"}), "serve")
    assert server.wait() == 1
    assert server.output == 'Error: functions.toml: unknown setting "http.bnd"; did you mean "bind"?'


def test_sigterm_finishes_what_is_in_flight_and_refuses_the_rest(server):
    answers: list[httpx.Response] = []
    with server.client() as client:
        client.get("/pid")
        slow = threading.Thread(target=lambda: answers.append(httpx.get(f"{server.url}/slow?seconds=1.5", timeout=10)))
        slow.start()
        server.wait_for_line("at work")
        server.process.send_signal(signal.SIGTERM)
        until(lambda: client.get("/_/ready").status_code == 503)
        refused = client.get("/pid")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        assert client.get("/_/health").status_code == 200
    slow.join()
    assert [(a.status_code, a.json()) for a in answers] == [(200, "done")]
    assert server.wait() == 0


@pytest.mark.parametrize("path", ["/stuck", "/deaf", "/slow?seconds=60", "/ticks", "/to-thread"])
def test_nothing_outlives_the_drain_time(write_project, start, path: str):
    server = start(write_project(**APP), "serve", environ={**PUBLIC, "FNRUN_SERVE__DRAIN": "200ms"})
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        server.wait_for_line("at work")
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 10
    assert "drain time is over" in server.output


def test_who_is_given_up_is_answered_with_the_id_of_its_run(write_project, start):
    server = start(write_project(**APP), "serve", environ={**PUBLIC, "FNRUN_SERVE__DRAIN": "200ms"})
    answers: list[httpx.Response] = []
    url = f"{server.url}/slow?seconds=60"
    asking = threading.Thread(target=lambda: answers.append(httpx.get(url, timeout=20)))
    asking.start()
    server.wait_for_line("at work")
    assert server.stop() == 0
    asking.join()
    (answer,) = answers
    assert (answer.status_code, answer.headers["x-run-id"]) == (503, answer.json()["run_id"])
    (logged,) = [json.loads(line) for line in server.lines if '"event":"request"' in line.replace(" ", "")]
    assert (logged["status"], logged["run_id"]) == (503, answer.headers["x-run-id"])


@pytest.mark.parametrize("lane", ["fast", "hypercorn"])
@pytest.mark.parametrize("which", ["all", "problems"])
def test_a_request_has_one_line_with_all_that_says_whose_it_is(write_project, start, which, lane):
    environ = {**PUBLIC, "FNRUN_LOG__REQUESTS": which, "FNRUN_HTTP__LANE": lane}
    server = start(write_project(**APP), "serve", environ=environ)
    trace = "0af7651916cd43dd8448eb211c80319c"
    with server.client() as client:
        calls = [
            client.get("/pid", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"}),
            client.get("/pid?seconds=x"),
            client.get("/nowhere"),
            client.get("/exit"),
        ]
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.lines if '"event": "request"' in line]
    told = calls if which == "all" else calls[-1:]
    assert [(one["run_id"], one["status"], one["path"]) for one in lines] == [
        (call.headers["x-run-id"], call.status_code, call.url.path) for call in told
    ]
    whose = [[one.get(name) for name in ("function", "trigger", "attempt")] for one in lines]
    assert (whose[-1], lines[-1]["trace_id"]) == (["app.leave", "http", 1], lines[-1]["run_id"])
    if which == "all":
        assert whose[:3] == [["app.pid", "http", 1], ["app.pid", "http", 1], [None, None, None]]
        assert lines[0]["trace_id"] == trace


def test_an_idle_connection_does_not_hold_up_the_end(server):
    with server.client() as client:
        client.get("/pid")
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 10


def test_a_second_signal_ends_it_at_once(server):
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"GET /slow?seconds=60 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        until(lambda: httpx.get(f"{server.url}/pid").status_code == 200)
        server.process.send_signal(signal.SIGINT)
        server.wait_for_line("stopping")
        assert server.stop(signal.SIGINT) == 1


def test_a_body_past_its_limit_is_refused_while_it_is_sent_and_the_client_can_read_it(server):
    head = b"POST /raw HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    part = b"x" * 65536
    with_length = raw_exchange(server.port, head + b"content-length: 1048576\r\n\r\n", *[part] * 16)
    chunk = b"10000\r\n" + part + b"\r\n"
    chunked = raw_exchange(server.port, head + b"transfer-encoding: chunked\r\n\r\n", *[chunk] * 16, b"0\r\n\r\n")
    for answer in (with_length, chunked):
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"longer than this route's limit of 100000 bytes" in answer


@pytest.mark.parametrize(
    "path", ["/reply?how=response", "/reply?how=plain", "/reply?how=stream", "/reply?how=", "/events"]
)
@pytest.mark.parametrize("size", [100, 1_500_000])
def test_an_answer_that_comes_before_its_body_is_read_can_be_read_and_holds_nothing_up(server, path: str, size: int):
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n".encode()
    answer = raw_exchange(server.port, head, b"x" * size)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"early" in answer or b"ea" in answer
    with socket.create_connection(("127.0.0.1", server.port)) as sock:  # one that never sends the rest
        sock.sendall(head + b"x" * (size // 2))
        assert sock.recv(12) == b"HTTP/1.1 200"
    assert server.stop() == 0
    assert "drain time is over" not in server.output


def test_a_stream_may_read_the_body_while_it_answers(server):
    content = os.urandom(300_000)
    with server.client() as client:
        assert client.post("/echo", content=content).content == content


def test_head_of_an_endless_response_ends(server):
    with server.client() as client:
        assert client.head("/endless").status_code == 200
        assert client.get("/pid").status_code == 200
    assert server.stop() == 0
    assert "drain time is over" not in server.output


def test_connections_whose_clients_are_gone_are_let_go(server):
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(b"GET /pid HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert sock.recv(100)
    folder = Path(f"/proc/{server.serving}/fd")
    until(lambda: len(list(folder.iterdir())) < 60)


def test_what_does_not_end_in_the_drain_time_is_told_so(write_project, start):
    server = start(write_project(**APP), "serve", environ={**PUBLIC, "FNRUN_SERVE__DRAIN": "200ms"})
    answers: list[httpx.Response] = []
    url = server.url  # read here: two threads that look for lines would each miss the other's
    slow = threading.Thread(target=lambda: answers.append(httpx.get(f"{url}/slow?seconds=60", timeout=20)))
    slow.start()
    server.wait_for_line("at work")
    assert server.stop() == 0
    slow.join()
    assert (answers[0].status_code, answers[0].json()["detail"]) == (503, "the server is shutting down")
    assert answers[0].headers["retry-after"] == "2"
    assert "Traceback" not in server.output


def test_the_drain_does_not_wait_for_those_who_come_during_it(server):
    stopping = threading.Event()

    def call_on() -> None:
        while not stopping.is_set():
            with suppress(httpx.HTTPError):
                httpx.get(f"{server.url}/pid", timeout=5)

    callers = [threading.Thread(target=call_on) for _ in range(8)]
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"GET /slow?seconds=0.5 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        server.wait_for_line("at work")
        for caller in callers:
            caller.start()
        started = time.monotonic()
        try:
            assert server.stop() == 0
        finally:
            stopping.set()
    assert time.monotonic() - started < 10
    for caller in callers:
        caller.join()


def test_a_thread_of_a_handlers_own_does_not_hold_up_the_end(server):
    with server.client() as client:
        assert client.get("/own-thread").status_code == 200
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("how", ["exit", "key"])
def test_code_of_an_authors_types_cannot_end_the_server(server, how: str):
    with server.client() as client:
        answer = client.post("/fussy", json={"how": how})
        assert (answer.status_code, answer.json()["title"]) == (500, "Internal Server Error")
        assert client.get("/pid").json() == server.serving
    server.wait_for_line("arguments cannot be made")


def test_a_response_that_breaks_http_is_in_the_log(server):
    with server.client() as client:
        assert client.get("/odd-response").status_code == 500
    server.wait_for_line("response failed while it was sent")


def test_a_lying_client_that_stops_in_its_body_costs_nothing(server):
    head = b"POST /raw HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50\r\n\r\nshort"
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(head)
    with server.client() as client:
        assert client.get("/pid").status_code == 200
    assert server.stop() == 0
    assert "drain time is over" not in server.output


def test_pipelined_requests_are_answered_in_order(server):
    one = b"GET /slow?seconds=0.2 HTTP/1.1\r\nhost: localhost\r\n\r\n"
    two = b"GET /pid HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    answers = raw_exchange(server.port, one + two)
    assert answers.index(b'\r\n\r\n"done"') < answers.index(f"\r\n\r\n{server.serving}".encode())


@pytest.mark.parametrize("path", [b"/..", b"/%2e%2e", b"/a%00b", b"/a/../pid", b"*", b"pid"])
def test_odd_paths_are_refused(server, path: bytes):
    answer = raw_exchange(server.port, b"GET " + path + b" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer


def test_a_stream_flows_and_ends_when_its_client_leaves(server):
    with server.client() as client, client.stream("GET", "/ticks") as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(3)] == ["tick"] * 3
    server.wait_for_line("stream closed")


@pytest.mark.parametrize(
    ("method", "path", "end"),
    [
        ("GET", "/leave?name=n", "cancelled"),
        ("HEAD", "/leave?name=n", "cancelled"),
        ("POST", "/leave", "finished"),
        ("POST", "/leave/cancel", "cancelled"),
        ("GET", "/leave/finish?name=n", "finished"),
    ],
)
def test_what_becomes_of_a_handler_whose_client_leaves(server, method: str, path: str, end: str):
    body = b'{"name": "n"}' if method == "POST" else b""
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        server.wait_for_line("n began")
    server.wait_for_line(f"n {end}")
    with server.client() as client:
        assert client.get("/pid").status_code == 200
    assert server.stop() == 0
    assert "handler failed" not in server.output


def test_a_stream_that_fails_is_cut_not_ended(server):
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"), server.client() as client:
        client.get("/half")


def test_system_exit_in_a_handler_leaves_the_server_alone(server):
    with server.client() as client:
        assert [client.get("/exit").status_code for _ in range(3)] == [500] * 3
        assert client.get("/pid").json() == server.serving
    failed = [json.loads(line) for line in server.lines if "handler failed" in line]
    assert failed[0]["function"] == "app.leave"
    assert len(failed[0]["run_id"]) == 32
    assert "SystemExit" in failed[0]["exception"]


def test_many_at_once_are_all_answered(server):
    limits = httpx.Limits(max_connections=50)
    with server.client(limits=limits) as client:
        results: list[int] = []
        threads = [
            threading.Thread(target=lambda n=n: results.append(client.post("/sum", json={"x": n, "y": 1}).json()))
            for n in range(200)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == list(range(1, 201))


def test_a_websocket_is_refused(server):
    answer = raw_exchange(
        server.port,
        b"GET /pid HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 501 ")
    assert b"WebSockets are not served" in answer


def test_health_command_asks_the_running_server_and_no_proxy(server, start, write_project):
    environ = {"FNRUN_HTTP__BIND": f"0.0.0.0:{server.port}", "http_proxy": "http://127.0.0.1:9"}
    well = start(write_project(**APP), "health", environ=environ)
    assert well.wait() == 0
    server.stop()
    gone = start(write_project(**APP), "health", environ=environ)
    assert gone.wait() == 1
    assert "does not answer" in gone.output


def test_invoke_ends_at_the_timeout_of_a_thread(start, write_project):
    root = write_project(**APP, **{"functions.toml": '[functions."app.stuck"]\ntimeout = "200ms"\n'})
    started = time.monotonic()
    stuck = start(root, "invoke", "app.stuck")
    assert stuck.wait() == 1
    assert time.monotonic() - started < 15
    assert "Error: app.stuck failed: it did not finish in time" in stuck.output


def test_invoke_calls_a_function_of_a_running_server(server, start, write_project):
    root = write_project(**APP)
    done = start(root, "invoke", "app.add", "--data", '{"x": 1, "y": 2}', "--url", server.url)
    assert done.wait() == 1
    assert "401" in done.output
    key = start(root, "keys", "create", "--scope", "invoke:app.*")
    assert key.wait() == 0
    token = next(line for line in key.lines if line.startswith("fnrun_"))
    done = start(root, "invoke", "app.add", "--data", '{"x": 1, "y": 2}', "--url", server.url, "--key", token)
    assert done.wait() == 0
    assert done.output == "3"
