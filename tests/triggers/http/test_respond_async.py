"""`Prefer: respond-async`: what is accepted, what is answered, and what reaches the worker."""

import asyncio
import threading
import time
from typing import Any

import httpx
import pytest

from runtime.invoke.binding import PayloadPlan
from runtime.ledger.desk import Desk
from runtime.projects import load_project
from runtime.roles import HttpRole
from tests.conftest import client_of, client_on
from tests.desks import Worker, desk_on, view_of
from tests.live_servers import until

LATER = {"prefer": "respond-async"}

FILES = {
    "functions/app.py": """
        import datetime, decimal, enum, uuid
        from dataclasses import dataclass
        from typing import Annotated, Any
        import msgspec
        from collections.abc import AsyncIterator
        from starlette.responses import Response
        from runtime import Body, Context, Cookie, Header, PlainText, Query, Reply, Request, UploadFile, fn, http, queue

        class Color(enum.Enum):
            RED = "red"

        class Item(msgspec.Struct, rename="camel", tag="item"):
            item_name: str
            when: datetime.datetime
            price: decimal.Decimal
            blob: bytes = b""

        class Gift(msgspec.Struct, tag="gift"):
            to: str

        @dataclass
        class Extra:
            sizes: set[int]
            note: str = "none"

        @http.post("/add", status=201)
        @queue("sums")
        @fn(max_age="1h")
        async def add(x: int, y: int = 2) -> int:
            return x + y

        @http.post("/typed/{number:int}/{key}")
        async def typed(
            number: int, key: uuid.UUID, things: list[Item | Gift], extra: Extra,
            since: Annotated[datetime.datetime, Query("from")],
            tags: Annotated[list[str], Header] = [],
            color: Annotated[Color, Query] = Color.RED,
            every: Annotated[datetime.timedelta | None, Query] = None,
            session: Annotated[str, Cookie] = "",
        ) -> None: ...

        @http.post("/raw")
        async def raw(data: Annotated[bytes, Body]) -> bytes:
            return data

        @http.get("/text/{name}")
        async def text(name: str, ctx: Context) -> PlainText:
            return name

        @http.get("/request")
        async def request(request: Request) -> str:
            return "now"

        @http.get("/maybe")
        async def maybe(request: Request | None = None) -> str:
            return "now"

        @http.post("/file")
        async def file(file: UploadFile) -> str:
            return "now"

        @http.get("/stream")
        async def stream() -> AsyncIterator[str]:
            yield "now"

        @http.get("/response")
        async def response() -> Response:
            return Response("now")

        class Odd(msgspec.Struct):
            n: int
            def __post_init__(self):
                self.n += 1
                if self.n > 3:
                    raise ValueError("too large")

        @http.post("/odd")
        async def odd(odd: Odd) -> None: ...
        """
}


@pytest.fixture
def project(write_project):
    project = load_project(write_project(**FILES), {"http__auth": "public"})
    assert project.registry.failures == ()
    return project


@pytest.fixture
async def client(project, desk: Desk, log):
    async with client_of(project, desk=desk, open_locally=True) as client:
        yield client


async def test_a_run_is_accepted_before_its_caller_is_told(client: httpx.AsyncClient, desk: Desk):
    answer = await client.post("/add", json={"x": 1}, headers=LATER)
    run_id = answer.headers["x-run-id"]
    assert (answer.status_code, answer.headers["location"]) == (202, f"/_/runs/{run_id}")
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.json() == {"id": run_id, "state": "queued", "function": "app.add", "queue": "sums"}
    view = view_of(desk, run_id)
    assert (view.state, view.function, view.queue, view.trigger, view.priority) == (
        "queued", "app.add", "sums", "http", 5,
    )  # fmt: skip
    assert view.expires == pytest.approx(view.accepted + 3600, abs=1)
    run = Worker(desk, "app.add", queues=("sums",)).claim()
    assert (run.id, run.payload) == (run_id, b'{"x":1}')


async def test_a_call_by_name_may_be_answered_later_too(client: httpx.AsyncClient, desk: Desk):
    answer = await client.post("/_/functions/app.add/invoke", json={"x": 1, "y": 4}, headers=LATER)
    assert answer.status_code == 202
    assert view_of(desk, answer.json()["id"]).trigger == "api"


async def test_what_does_not_fit_is_refused_before_anything_is_accepted(client: httpx.AsyncClient, desk: Desk):
    for path in ("/add", "/_/functions/app.add/invoke"):
        answer = await client.post(path, json={"x": "one"}, headers=LATER)
        assert (answer.status_code, answer.json()["errors"][0]["name"]) == (422, "x")
    assert desk.ask_sync(desk.ledger.runs()).runs == ()


async def test_arguments_of_every_type_reach_the_worker_as_they_were(client: httpx.AsyncClient, project, desk: Desk):
    key = "6f1f9a3a-1c2d-4b5e-8f90-123456789abc"
    answer = await client.post(
        f"/typed/7/{key}?from=2026-11-22T10:00:00%2B01:00&every=PT90S",
        json={
            "things": [
                {
                    "type": "item",
                    "itemName": "é",
                    "when": "2026-01-01T00:00:00.000001Z",
                    "price": "1.10",
                    "blob": "AP8=",
                },
                {"type": "gift", "to": "you"},
            ],
            "extra": {"sizes": [1, 2]},
        },
        headers={**LATER, "tags": "a, b", "cookie": "session=s"},
    )
    assert answer.status_code == 202, answer.text
    function = project.registry.get("app.typed")
    names = function.call.__globals__
    arguments = PayloadPlan(function).bind(Worker(desk, "app.typed").claim().payload)
    import datetime
    import decimal
    import uuid

    hour = datetime.timezone(datetime.timedelta(hours=1))
    when = datetime.datetime(2026, 1, 1, 0, 0, 0, 1, datetime.UTC)
    assert arguments == {
        "number": 7,
        "key": uuid.UUID(key),
        "things": [
            names["Item"](item_name="é", when=when, price=decimal.Decimal("1.10"), blob=b"\x00\xff"),
            names["Gift"](to="you"),
        ],
        "extra": names["Extra"](sizes={1, 2}, note="none"),
        "since": datetime.datetime(2026, 11, 22, 10, tzinfo=hour),
        "tags": ["a", "b"],
        "every": datetime.timedelta(seconds=90),
        "session": "s",
    }


async def test_bytes_reach_the_worker_as_they_were(client: httpx.AsyncClient, project, desk: Desk):
    await client.post("/raw", content=b"\x00\xff{}", headers=LATER)
    payload = Worker(desk, "app.raw").claim().payload
    assert PayloadPlan(project.registry.get("app.raw")).bind(payload) == {"data": b"\x00\xff{}"}


async def test_what_a_type_would_not_take_back_is_not_accepted(client: httpx.AsyncClient, desk: Desk, log):
    assert (await client.post("/odd", json={"n": 1}, headers=LATER)).status_code == 202
    answer = await client.post("/odd", json={"n": 2}, headers=LATER)
    assert (answer.status_code, "do not survive" in answer.json()["detail"]) == (500, True)
    assert len(desk.ask_sync(desk.ledger.runs()).runs) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/request"), ("GET", "/maybe"), ("POST", "/file"), ("GET", "/stream"), ("GET", "/response")],
)
async def test_what_cannot_be_kept_is_answered_at_once_and_says_nothing_of_it(
    client: httpx.AsyncClient, method: str, path: str
):
    files = {"file": b"x"} if method == "POST" else None
    answer = await client.request(method, path, headers=LATER, files=files)
    assert (answer.status_code, answer.text.strip('"')) == (200, "now")
    assert "preference-applied" not in answer.headers


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("respond-async", "respond-async"),
        ("RESPOND-Async", "respond-async"),
        ("handling=lenient, respond-async", "respond-async"),
        ('foo="a,b;respond-async"; x, respond-async ;p="1"; q', "respond-async"),
        ("respond-async, wait=0", "respond-async, wait=0"),
        ('respond-async, wait="0"', "respond-async, wait=0"),
        ("wait = 0,respond-async", "respond-async, wait=0"),
        ('respond-async=""', "respond-async"),
        ("respond-async, wait=-1", "respond-async"),
        ("respond-async, wait=1.5", "respond-async"),
        ("respond-async, wait=soon, wait=1", "respond-async"),
        ("respond-async, (broken", "respond-async"),
        ("respond-async;;", "respond-async"),
        ("", None),
        ("wait=5", None),
        ("respond-asynchronously", None),
        ("x-respond-async", None),
        ("respond-async=yes", None),
        ("respond-async wait=5", None),
        ('x="respond-async', None),
        ("respond-async=yes, respond-async", None),
        (";respond-async", None),
        ("x" * 9000, None),
        ('"' * 5000 + "\t" * 5000 + '"', None),
    ],
)
async def test_preferences_are_read_as_the_rfc_has_them(client: httpx.AsyncClient, prefer: str, applied: str | None):
    answer = await client.post("/add", json={"x": 1}, headers={"prefer": prefer})
    assert answer.headers.get("preference-applied") == applied
    assert answer.status_code == (201 if applied is None else 202)


async def test_preferences_may_be_on_several_lines(client: httpx.AsyncClient):
    headers = [("prefer", "wait=0"), ("prefer", "respond-async")]
    answer = await client.post("/add", json={"x": 1}, headers=headers)
    assert answer.headers["preference-applied"] == "respond-async, wait=0"


def works(desk: Desk, function: str, *queues: str, **said: Any) -> threading.Thread:
    """A worker that ends the next run a moment later."""

    def work() -> None:
        worker = Worker(desk, function, queues=queues or ("default",))
        run = worker.wait_for_one()
        (worker.fail if "kind" in said else worker.end)(run, **said)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


async def call(client: httpx.AsyncClient, thread: threading.Thread, method: str, path: str, **more: Any):
    answer = await client.request(method, path, headers={"prefer": "respond-async, wait=9"}, **more)
    await asyncio.to_thread(thread.join)
    assert answer.headers["preference-applied"] == "respond-async, wait=9"
    return answer


async def test_a_run_that_ends_in_time_is_answered_as_the_function_would(client: httpx.AsyncClient, desk: Desk):
    thread = works(desk, "app.add", "sums", state="succeeded", result=b"3")
    answer = await call(client, thread, "POST", "/add", json={"x": 1})
    assert (answer.status_code, answer.json(), answer.headers["content-type"]) == (201, 3, "application/json")
    thread = works(desk, "app.text", state="succeeded", result=b'"h\\u00e9"')
    answer = await call(client, thread, "GET", "/text/x")
    assert (answer.status_code, answer.text) == (200, "hé")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    thread = works(desk, "app.raw", state="succeeded", result=b'"AP8="')
    answer = await call(client, thread, "POST", "/raw", content=b"x")
    assert (answer.content, answer.headers["content-type"]) == (b"\x00\xff", "application/octet-stream")
    thread = works(desk, "app.odd", state="succeeded", result=b"null")
    assert (await call(client, thread, "POST", "/odd", json={"n": 1})).status_code == 204


@pytest.mark.parametrize(
    ("said", "status", "title"),
    [
        ({"kind": "ValueError", "message": "a secret"}, 500, "Internal Server Error"),
        ({"kind": "Problem", "message": "404 no such article"}, 404, "no such article"),
        ({"kind": "TimeoutError", "message": "", "reason": "timeout"}, 504, "Gateway Timeout"),
        ({"kind": "X", "message": "", "reason": "expired"}, 504, "Gateway Timeout"),
        ({"state": "cancelled", "reason": "cancelled"}, 409, "Conflict"),
    ],
)
async def test_a_run_that_fails_in_time_is_answered_with_its_problem(
    client: httpx.AsyncClient, desk: Desk, said: dict[str, str], status: int, title: str
):
    answer = await call(client, works(desk, "app.text", **said), "GET", "/text/x")
    assert (answer.status_code, answer.json()["title"]) == (status, title)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text


async def test_a_run_that_does_not_end_in_time_is_answered_as_accepted(client: httpx.AsyncClient):
    answer = await client.get("/text/x", headers={"prefer": "respond-async, wait=1"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async, wait=1")


async def test_a_wait_is_held_to_the_timeout_of_http(write_project, desk: Desk, log):
    project = load_project(write_project(**FILES), {"http__timeout": "1s"})
    async with client_of(project, open_locally=True, desk=desk) as client:
        answer = await client.get("/text/x", headers={"prefer": f"respond-async, wait={'9' * 40}"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async, wait=1")


async def test_the_trace_of_the_caller_goes_along(client: httpx.AsyncClient, desk: Desk):
    sent = f"00-{'a' * 32}-{'b' * 16}-01"
    answer = await client.get("/text/x", headers={**LATER, "traceparent": sent})
    assert view_of(desk, answer.json()["id"]).trace == sent
    assert answer.headers["traceparent"].startswith(f"00-{'a' * 32}-")
    answer = await client.get("/text/x", headers=LATER)
    assert view_of(desk, answer.json()["id"]).trace == ""


async def test_a_full_queue_is_429_and_says_when_to_come_back(project, valkey, way, log):
    desk = desk_on(valkey, f"full-{way}", max_length=2)
    async with client_of(project, open_locally=True, desk=desk) as client:
        found = [await client.get("/text/x", headers=LATER) for _ in range(3)]
    assert [one.status_code for one in found] == [202, 202, 429]
    assert int(found[2].headers["retry-after"]) > 0
    desk.close()


async def test_without_a_store_what_wants_it_is_503_and_all_else_goes_on(project, gone: Desk, log):
    for desk in (None, gone):
        async with client_of(project, open_locally=True, desk=desk) as client:
            answer = await client.post("/add", json={"x": 1}, headers=LATER)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert answer.headers["content-type"] == "application/problem+json"
            assert "nobody" not in answer.text
            assert (await client.post("/add", json={"x": "one"}, headers=LATER)).status_code == 422
            assert (await client.post("/add", json={"x": 1})).status_code == 201


async def test_a_store_that_is_silent_is_503_in_good_time(project, frozen: Desk, log):
    began = time.monotonic()
    async with client_of(project, open_locally=True, desk=frozen) as client:
        answer = await client.post("/add", json={"x": 1}, headers=LATER)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert time.monotonic() - began < 15  # not the client's 50
        assert (await client.post("/add", json={"x": 1})).status_code == 201


async def test_who_waits_while_the_process_stops_is_answered_as_accepted(project, desk: Desk, log):
    role = HttpRole(project, open_locally=True, desk=desk)
    async with client_on(role) as client:
        waiting = asyncio.create_task(client.get("/text/x", headers={"prefer": "respond-async, wait=20"}))
        await asyncio.to_thread(until, lambda: desk.ask_sync(desk.ledger.runs()).runs)
        role.core.draining = True
        assert (await asyncio.wait_for(waiting, 5)).status_code == 202


async def test_a_handler_that_submits_is_answered_alike(write_project, gone: Desk, log):
    files = {
        "functions/app.py": """
        from runtime import QueueFull, http
        from runtime.base.errors import StoreDown

        @http.get("/down")
        async def down() -> None:
            raise StoreDown("redis at 10.0.0.1 is away")

        @http.get("/full")
        async def full() -> None:
            raise QueueFull("sales", 5)
        """
    }
    async with client_of(load_project(write_project(**files)), open_locally=True) as client:
        down, full = await client.get("/down"), await client.get("/full")
    assert (down.status_code, full.status_code) == (503, 429)
    assert all("retry-after" in answer.headers for answer in (down, full))
    assert "10.0.0.1" not in down.text


async def test_a_handler_that_submits_what_does_not_fit_has_failed_itself(write_project, desk: Desk, log, monkeypatch):
    files = {
        "functions/app.py": """
        from runtime import http, queue, submit

        @queue("numbers")
        def leaf(n: int) -> int:
            return n

        @http.post("/inner")
        async def inner() -> None:
            await submit(leaf, n="x")
        """
    }
    project = load_project(write_project(**files))
    desk.registry = lambda: project.registry
    monkeypatch.setattr("runtime.ledger.desk._current", desk)
    async with client_of(project, open_locally=True, desk=desk) as client:
        answer = await client.post("/inner")
    assert (answer.status_code, answer.json().get("errors")) == (500, None)
    (failed,) = [line for line in log.entries if line["event"] == "handler failed"]
    assert "app.leaf: " in str(failed["exc_info"])
    assert "n: Expected `int`, got `str`" in str(failed["exc_info"])


async def test_every_answer_that_depends_on_what_is_preferred_tells_caches(client: httpx.AsyncClient):
    found = [await client.get("/text/x", headers=said) for said in ({}, LATER, {"prefer": "return=minimal"})]
    assert [answer.headers["vary"] for answer in found] == ["prefer"] * 3
    shown = await client.get(found[1].headers["location"])
    assert (shown.headers["vary"], shown.headers["cache-control"]) == ("prefer", "no-store")
    assert "vary" not in (await client.get("/request")).headers  # it is answered at once, whatever is preferred
    assert "vary" not in (await client.post("/add", json={"x": 1})).headers
