"""The short way of plain requests: what it answers is what the long way does, and nothing is promised less there."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.triggers.http.wire import server as serving
from tests.live_servers import until
from tests.wire_servers import Heard, Wired, hear, read_answers, write_files

pytestmark = pytest.mark.live

APP = {
    "functions/app.py": """
        import asyncio
        import time
        from contextvars import ContextVar
        from functools import wraps
        from typing import Annotated
        from msgspec import Struct
        from starlette.responses import RedirectResponse, Response, StreamingResponse
        from runtime import Body, Context, Problem, Reply, Request, RetryAfter, fn, http

        seen = ContextVar("seen", default="nothing")
        left = []
        bound = []

        @http.get("/hello")
        async def hello(name: str = "world", times: int = 1) -> dict:
            return {"message": f"Hello {name}" * times}

        @http.get("/items/{item:int}")
        async def item(item: int) -> int:
            return item

        @http.post("/sum")
        async def add(x: float, y: float) -> dict[str, float]:
            return {"result": x + y}

        @http.post("/raw", max_body="4MB")
        async def raw(body: Annotated[bytes, Body]) -> bytes:
            return body

        @http.post("/small", max_body="10")
        async def small(body: Annotated[bytes, Body]) -> int:
            return len(body)

        @http.post("/streamed", max_body="4MB")
        async def streamed(request: Request) -> int:
            return sum([len(part) async for part in request.stream()])

        @http.get("/sync")
        def sync(name: str = "x") -> str:
            return name

        @http.get("/sync/{item:int}")
        def sync_item(item: int) -> int:
            return item

        @http.get("/sync-broken")
        def sync_broken() -> None:
            raise RuntimeError("broken")

        @http.get("/sync-exits")
        def sync_exits() -> None:
            raise SystemExit(3)

        @http.get("/sync-around")
        def sync_around():
            return hello("around")

        @http.get("/sync-flows")
        def sync_flows():
            return iter_of("ab")

        def iter_of(items):
            yield from items

        @http.get("/sync-late", timeout="100ms")
        def sync_late() -> None:
            time.sleep(0.5)
            left.append("sync-late")

        @http.get("/sync-waits")
        def sync_waits(context: Context) -> None:
            while not context.cancelled:
                time.sleep(0.01)
            left.append("sync-waits")

        @http.get("/sync-sets")
        def sync_sets() -> dict:
            found = seen.get()
            seen.set("something")
            return {"seen": found, "function": Context.current().function}

        @http.get("/nothing")
        async def nothing() -> None:
            pass

        @http.get("/unchanged")
        async def unchanged() -> Reply:
            return Reply({"a": 1}, status=304)

        class Nameless(RetryAfter):
            def __str__(self) -> str:
                raise RuntimeError("no words")

        @http.get("/nameless")
        async def nameless() -> None:
            raise Nameless("1s")

        class Counted(Struct):
            x: int

            def __post_init__(self) -> None:
                bound.append(self.x)
                if self.x < 0:
                    raise ValueError("too little")
                if self.x > 9:
                    raise RuntimeError("too much")

        @http.post("/counted")
        async def counted(body: Annotated[Counted, Body]) -> int:
            return body.x

        @http.post("/limited")
        @fn(concurrency=5)
        async def limited(body: Annotated[Counted, Body]) -> int:
            return body.x

        @http.get("/bound")
        async def bound_ones() -> list[int]:
            found = list(bound)
            bound.clear()
            return found

        @http.get("/reply")
        async def reply() -> Reply:
            return Reply({"a": 1}, status=201, headers={"X-Mine": "1", "Connection": "close"})

        @http.get("/broken")
        async def broken() -> None:
            raise RuntimeError("broken")

        @http.get("/teapot")
        async def teapot() -> None:
            raise Problem(418, detail="short and stout")

        @http.get("/exits")
        async def exits() -> None:
            raise SystemExit(3)

        @http.get("/cancels")
        async def cancels() -> None:
            raise asyncio.CancelledError

        @http.get("/unsayable")
        async def unsayable():
            return object()

        @http.get("/lies")
        async def lies() -> Response:
            return Response("abc", headers={"content-length": "5"})

        @http.get("/reset")
        async def reset() -> Reply:
            return Reply("abc", status=205)

        @http.get("/bodiless")
        async def bodiless() -> Response:
            return Response("abc", status_code=204)

        @http.get("/response")
        async def response() -> Response:
            return Response("abc", headers={"X-Mine": "1"})

        @http.get("/redirect")
        async def redirect() -> Response:
            return RedirectResponse("/hello")

        @http.get("/flows")
        async def flows():
            yield {"a": 1}
            yield {"a": 2}

        def decorated(function):
            @wraps(function)
            async def wrapper(*args, **kwargs):
                return function(*args, **kwargs)
            return wrapper

        @http.get("/wrapped")
        @decorated
        async def wrapped():
            yield "a"
            yield Context.current().function

        @http.get("/late", timeout="100ms")
        async def late() -> None:
            await asyncio.sleep(60)

        @http.get("/waits")
        async def waits() -> None:
            await asyncio.sleep(60)

        @http.get("/stubborn", timeout="100ms")
        async def stubborn(seconds: float = 2.0) -> str:
            while seconds > 0:
                try:
                    await asyncio.sleep(seconds)
                    break
                except asyncio.CancelledError:
                    continue
            left.append(Context.current().function)
            return "stubborn"

        @http.get("/left")
        async def left_ones() -> list[str]:
            return left

        @http.get("/renames")
        async def renames(context: Context, to: str | None = None) -> dict:
            context.run_id = to
            context.trace = None
            return {"renamed": True}

        @http.get("/sets")
        async def sets(context: Context) -> dict:
            found = seen.get()
            seen.set("something")
            return {"seen": found, "function": Context.current().function, "timeout": context.deadline is not None}
        """
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_files(tmp_path_factory.mktemp("lane"), **APP)


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Wired]:
    wired = Wired(root)
    yield wired
    wired.stop()


@pytest.fixture(scope="module")
def stock(root: Path) -> Iterator[Wired]:
    wired = Wired(root, lane="hypercorn")
    yield wired
    wired.stop()


H = b" HTTP/1.1\r\nHost: a\r\n"
JSON = b"Content-Type: application/json\r\n"


def get(target: bytes, more: bytes = b"") -> bytes:
    return b"GET " + target + H + more + b"\r\n"


def post(target: bytes, body: bytes, more: bytes = b"") -> bytes:
    return b"POST " + target + H + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


ASKED = {
    "plain": get(b"/hello"),
    "query": get(b"/hello?name=x&times=2"),
    "coded query": get(b"/hello?name=%C3%A4+b&&times=2&name=c"),
    "no UTF-8": get(b"/hello?name=%ff"),
    "no number": get(b"/hello?times=x"),
    "path": get(b"/items/7"),
    "no such path": get(b"/nowhere"),
    "no such method": post(b"/hello", b""),
    "json": post(b"/sum", b'{"x": 1, "y": 2}', JSON),
    "json that says no type": post(b"/sum", b'{"x": 1, "y": 2}'),
    "json of another case": post(b"/sum", b'{"x": 1, "y": 2}', b"CONTENT-TYPE: Application/JSON; charset=UTF-8\r\n"),
    "json that does not fit": post(b"/sum", b'{"x": "a"}', JSON),
    "no json": post(b"/sum", b"{", JSON),
    "no body": post(b"/sum", b"", JSON),
    "form": post(b"/sum", b"x=1&y=2", b"Content-Type: application/x-www-form-urlencoded\r\n"),
    "text": post(b"/sum", b"x", b"Content-Type: text/plain\r\n"),
    "two types": post(b"/sum", b'{"x": 1, "y": 2}', JSON + JSON),
    "not gzip": post(b"/sum", b'{"x": 1, "y": 2}', JSON + b"Content-Encoding: gzip\r\n"),
    "raw": post(b"/raw", b"abc"),
    "long": post(b"/raw", b"x" * 300_000),
    "too long": post(b"/small", b"x" * 11),
    "streamed": post(b"/streamed", b"x" * 200_000),
    "sync": get(b"/sync?name=y"),
    "sync of a path": get(b"/sync/7"),
    "sync of no such path": get(b"/sync/x"),
    "sync and broken": get(b"/sync-broken"),
    "sync that exits": get(b"/sync-exits"),
    "sync around async": get(b"/sync-around"),
    "sync that streams": get(b"/sync-flows"),
    "sync and late": get(b"/sync-late"),
    "a malformed path": get(b"/items/%ff"),
    "nothing": get(b"/nothing"),
    "reply": get(b"/reply"),
    "no content": get(b"/unchanged"),
    "an author's type that refuses": post(b"/counted", b'{"x": -1}', JSON),
    "an author's type that fails": post(b"/counted", b'{"x": 10}', JSON),
    "broken": get(b"/broken"),
    "teapot": get(b"/teapot"),
    "exits": get(b"/exits"),
    "cancels": get(b"/cancels"),
    "unsayable": get(b"/unsayable"),
    "reset": get(b"/reset"),
    "bodiless": get(b"/bodiless"),
    "response": get(b"/response"),
    "redirect": get(b"/redirect"),
    "flows": get(b"/flows"),
    "wrapped": get(b"/wrapped"),
    "late": get(b"/late"),
    "trace": get(b"/hello", b"traceparent: 00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01\r\n"),
    "two traces": get(b"/hello", b"traceparent: a\r\ntraceparent: b\r\n"),
    "preference": get(b"/hello", b"Prefer: respond-async\r\n"),
    "key": post(b"/sum", b'{"x": 1, "y": 2}', JSON + b"Idempotency-Key: a\r\n"),
    "a health check": get(b"/_/health"),
    "head": b"HEAD /hello" + H + b"\r\n",
    "options": b"OPTIONS /hello" + H + b"\r\n",
}


def told(answer: Heard) -> tuple[object, ...]:
    """What two answers to one request have in common."""
    own = {"date", "x-run-id"}
    headers = [(name, value) for name, value in answer.headers if name not in own and name != "traceparent"]
    traced = ["1" * 32 in value for value in answer.values("traceparent")]
    assert [len(value) for value in answer.values("x-run-id")] == [32]
    assert len(answer.values("date")) == 1
    body: object = answer.body
    if answer.header("content-type") == "application/problem+json":
        body = {name: value for name, value in json.loads(answer.body).items() if name != "run_id"}
    return answer.status, sorted(headers), traced, body


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("closes", [False, True], ids=["kept", "closed"])
def test_an_answer_is_the_same_on_both_ways(server: Wired, stock: Wired, name: str, closes: bool):
    one = ASKED[name]
    if closes:
        one = one.replace(H, H + b"Connection: close\r\n", 1)
    sent = one if closes else one + get(b"/hello", b"Connection: close\r\n")
    method = "HEAD" if name == "head" else "GET"
    short, long = ([told(answer) for answer in each.answers(sent, methods=(method,))] for each in (server, stock))
    assert short == long
    assert len(short) == (1 if closes or name == "reply" else 2)


def test_short_and_long_ways_take_turns_on_one_connection(server: Wired):
    chunked = b"POST /raw" + H + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    sent = [get(b"/items/1"), chunked, get(b"/items/2"), post(b"/raw", b"d"), b"HEAD /items/3" + H + b"\r\n"]
    methods = ("GET", "POST", "GET", "POST", "HEAD", "GET")
    answers = server.answers(b"".join(sent), get(b"/items/4", b"Connection: close\r\n"), methods=methods)
    assert [answer.body for answer in answers] == [b"1", b"abc", b"2", b"d", b"", b"4"]
    with server.connect() as sock:
        for one in (get(b"/items/5"), chunked, get(b"/items/6")):
            sock.sendall(one)
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_plain_request_meets_no_parser(server: Wired, stock: Wired):
    assert "Http1" not in protocols_after(server, get(b"/hello"))
    assert "Http1" in protocols_after(stock, get(b"/hello"))


def protocols_after(server: Wired, sent: bytes) -> str:
    """The protocols of all connections, once one of them has its answer."""
    until(lambda: not server.ask(lambda: server.server.connections))
    with server.connect() as sock:
        sock.sendall(sent)
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        return str(server.ask(lambda: [type(one._protocol).__name__ for one in server.server.connections]))


def test_hypercorns_protocols_are_loaded_once_for_all_who_want_them_and_again_if_that_failed(root, monkeypatch):
    load, loads, go, broken = serving._load_protocols, [], threading.Event(), [True]

    def slowly():
        loads.append(None)
        go.wait(20)
        if broken:
            raise ImportError("a disk fault")
        return load()

    monkeypatch.setattr(serving, "_load_protocols", slowly)
    wired = Wired(root)
    asked = get(b"/hello", b"Connection: close, upgrade\r\nExpect: 100-continue\r\n")
    try:
        for answer in (b"", b"HTTP/1.1 200 OK\r\n"):
            loads.clear()
            go.clear()
            socks = [wired.connect() for _ in range(5)]
            for sock in socks:
                sock.sendall(asked)
            until(lambda: wired.ask(lambda: sum(bool(one.inbox) for one in wired.server.connections)) == 5)
            until(lambda: loads)
            socks.pop().close()  # it leaves while they load
            (plain,) = wired.answers(get(b"/hello", b"Connection: close\r\n"))
            assert (plain.status, len(loads)) == (200, 1)
            go.set()
            for sock in socks:
                with sock, suppress(ConnectionError):
                    assert hear(sock).startswith(answer)
            until(lambda: wired.ask(lambda: len(wired.server.tasks.running)) == 1)  # which looks at deadlines
            broken.clear()
    finally:
        go.set()
        wired.stop()


def test_what_a_handler_sets_is_seen_by_no_other(server: Wired):
    answers = server.answers(get(b"/sets") * 3 + get(b"/sets", b"Connection: close\r\n"))
    assert [json.loads(answer.body) for answer in answers] == [
        {"seen": "nothing", "function": "app.sets", "timeout": True}
    ] * 4


@pytest.mark.parametrize("query", [b"?to=x%0d%0aSet-Cookie:%20a=b", b""])
def test_an_answer_says_its_own_run_id_whatever_a_handler_makes_of_it(server: Wired, query: bytes):
    traced = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
    [answer] = server.answers(get(b"/renames" + query, traced + b"Connection: close\r\n"))
    assert (answer.status, json.loads(answer.body)) == (200, {"renamed": True})
    assert answer.header("set-cookie") is None
    run_id = answer.header("x-run-id") or ""
    assert len(bytes.fromhex(run_id)) == 16
    assert answer.header("traceparent") == f"00-0af7651916cd43dd8448eb211c80319c-{run_id[16:]}-01"


def test_threads_have_variables_of_their_own(server: Wired):
    answers = server.answers(get(b"/sync-sets") * 3 + get(b"/sync-sets", b"Connection: close\r\n"))
    assert [json.loads(answer.body) for answer in answers] == [{"seen": "nothing", "function": "app.sync_sets"}] * 4


def test_a_thread_that_nobody_waits_for_is_told_and_counted(server: Wired):
    threads = server.role.invoker.threads
    with server.connect() as sock:
        sock.sendall(get(b"/sync-waits"))
        until(lambda: threads.busy == 1)
    until(lambda: not server.ask(lambda: server.role.shell.in_flight))
    until(lambda: b"sync-waits" in server.answers(get(b"/left", b"Connection: close\r\n"))[0].body)
    until(lambda: threads.busy == 0)
    assert not threads._left


def test_who_ignores_the_end_of_its_time_keeps_no_client_waiting(server: Wired):
    answers = server.answers(get(b"/stubborn"), get(b"/hello", b"Connection: close\r\n"))
    assert [answer.status for answer in answers] == [504, 200]
    until(lambda: json.loads(server.answers(get(b"/left", b"Connection: close\r\n"))[0].body).count("app.stubborn"))


def test_an_answer_without_content_tells_where_it_ends(server: Wired):
    reset, unchanged, hello = server.answers(
        get(b"/reset"), get(b"/unchanged"), get(b"/hello", b"Connection: close\r\n")
    )
    assert (reset.status, reset.header("content-length"), reset.body) == (205, "0", b"")
    assert (unchanged.status, unchanged.header("content-length")) == (304, None)
    assert hello.status == 200


def test_an_error_that_cannot_be_told_is_answered_all_the_same(server: Wired):
    answers = server.answers(get(b"/nameless"), get(b"/hello", b"Connection: close\r\n"))
    assert [answer.status for answer in answers] == [500, 200]
    assert server.ask(lambda: server.role.shell.in_flight) == 0


@pytest.mark.parametrize("path", [b"/counted", b"/limited"])
def test_types_of_the_authors_are_made_once_a_request(server: Wired, path: bytes):
    sent = [post(path, b'{"x": %d}' % x, JSON) for x in (1, -1, 10, 2)]
    answers = server.answers(get(b"/bound"), *sent, get(b"/bound", b"Connection: close\r\n"))
    assert [answer.status for answer in answers[1:]] == [200, 422, 500, 200, 200]
    assert json.loads(answers[-1].body) == [1, -1, 10, 2]
    assert server.ask(lambda: server.role.shell.in_flight) == 0


def test_a_body_comes_in_parts_of_any_size(server: Wired):
    body = bytes(range(256)) * 40
    sent = post(b"/raw", body, b"Connection: close\r\n")
    for size in (1_000, 3_333, len(sent) - 1):
        with server.connect() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(0, len(sent), size):
                sock.sendall(sent[at : at + size])
            heard = b""
            while part := sock.recv(65536):
                heard += part
        (answer,) = read_answers(heard)
        assert answer.body == body


def test_an_answer_that_is_shorter_than_it_says_closes_its_connection(server: Wired):
    heard = server.exchange(get(b"/lies") + get(b"/hello"))
    assert heard.count(b"HTTP/1.1") == 1
    assert heard.endswith(b"\r\n\r\nabc")


def test_a_client_that_leaves_ends_its_handler(server: Wired):
    with server.connect() as sock:
        sock.sendall(get(b"/waits"))
        until(lambda: server.ask(lambda: server.role.shell.in_flight) == 1)
    until(lambda: server.ask(lambda: server.role.shell.in_flight) == 0)
