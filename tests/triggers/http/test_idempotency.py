"""Idempotency-Key and idempotent= over HTTP: what is carried out, what is kept, what the others are told."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from runtime.base.errors import StoreDown
from runtime.ledger.desk import Desk
from runtime.ledger.ledger import Ledger
from runtime.ledger.once import key_of_function, take_by_run
from runtime.projects import Project, load_project
from runtime.roles import HttpRole
from tests.conftest import client_of, client_on
from tests.desks import Worker, desk_on, view_of
from tests.keys import key_in
from tests.live_servers import until

FILES = {
    "functions/app.py": """
        import asyncio
        import threading
        from collections.abc import AsyncIterator
        from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
        from runtime import PlainText, Problem, Reply, Request, UploadFile, fn, http, queue
        from runtime.base.errors import StoreDown

        calls: list = []
        go = asyncio.Event()
        go_on = threading.Event()

        @http("/orders", methods=["POST", "PUT", "PATCH", "DELETE", "GET"])
        async def orders(sku: str = "") -> Reply:
            calls.append(sku)
            return Reply({"n": len(calls)}, 201, {"X-Order": str(len(calls)), "Set-Cookie": "a=1"})

        @http.post("/other")
        async def other(sku: str) -> str:
            return sku

        @http.post("/slow")
        async def slow(sku: str) -> int:
            calls.append(sku)
            await go.wait()
            return len(calls)

        @http.post("/stops", on_disconnect="cancel")
        async def stops(sku: str) -> int:
            return await slow(sku)

        @http.post("/blocks")
        def blocks(sku: str) -> int:
            calls.append(sku)
            return len(calls)

        @http.post("/lingers", timeout="100ms")
        def lingers(sku: str) -> int:
            calls.append(sku)
            go_on.wait(60)
            return len(calls)

        @http.post("/fails/{status:int}")
        async def fails(status: int, again: bool = False) -> None:
            calls.append(status)
            if status == 500:
                raise ValueError("no")
            if status == 503:
                raise StoreDown("away")
            raise Problem(status, "no", headers={"Retry-After": "1"} if again else None)

        @http.post("/numbers")
        async def numbers() -> AsyncIterator[int]:
            yield 1

        @http.post("/late-stream")
        async def late_stream():
            calls.append(1)
            return StreamingResponse(iter(["a", "b"]))

        @http.post("/large")
        async def large() -> str:
            calls.append(1)
            return "x" * 1_000_001

        @http.post("/response")
        async def response():
            calls.append(1)
            return JSONResponse({"n": len(calls)}, 202, {"X-Own": "1"})

        @http.post("/view")
        async def view():
            calls.append(1)
            return Response(memoryview(b"abc"), 202, {"X-Own": "1"})

        @http.post("/text")
        async def text() -> PlainText:
            calls.append(1)
            return f"{len(calls)}"

        @http.post("/raw")
        async def raw(request: Request) -> str:
            calls.append(1)
            return (await request.body()).decode()

        @http.post("/file")
        async def file(file: UploadFile, note: str = "") -> str:
            calls.append(1)
            return (await file.read()).decode() + note

        @http.post("/customers/{customer}", status=201)
        @queue("default")
        @fn(idempotent=lambda customer, sku: None if sku == "each" else (customer, sku))
        async def buy(customer: str, sku: str, note: str = "") -> Reply:
            calls.append(sku)
            if sku == "wait":
                await go.wait()
            if sku == "bad" and len(calls) < 3:
                raise Problem(400, "no")
            return Reply([len(calls), note], 201, {"X-Order": str(len(calls)), "Set-Cookie": "a=1"})

        @http.post("/keyless")
        @queue("default")
        @fn(idempotent=lambda **arguments: 1 / 0)
        async def keyless(sku: str) -> int:
            return 1

        @http.post("/odd")
        @fn(idempotent=lambda sku, n: object())
        async def odd(sku: str, n: int = 1) -> int:
            return 1

        class Nameless(Exception):
            def __str__(self) -> str:
                raise SystemExit

        def nameless(sku: str) -> str:
            raise Nameless

        @http.post("/nameless")
        @fn(idempotent=nameless)
        async def without_a_name(sku: str) -> int:
            return 1

        @http.post("/nan")
        @fn(idempotent=lambda sku: [float("nan"), sku])
        async def nan(sku: str) -> int:
            return 1

        @http.get("/found")
        @fn(idempotent=lambda sku="none": sku)
        async def found() -> PlainText:
            calls.append(1)
            return f"{len(calls)}"
        """
}


@pytest.fixture
def project(write_project) -> Project:
    project = load_project(write_project(**FILES))
    assert project.registry.failures == ()
    return project


@pytest.fixture
async def client(project: Project, desk: Desk, log) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(project, desk=desk, open_locally=True) as client:
        yield client


@pytest.fixture
def app(project: Project) -> dict[str, Any]:
    """What is in the function file: `calls`, `go`."""
    return project.registry.functions["app.orders"].call.__globals__


def key(value: str = "k1", **more: str) -> dict[str, str]:
    return {"idempotency-key": value, **more}


async def post(client: httpx.AsyncClient, path: str, value: str = "k1", **said: Any) -> httpx.Response:
    return await client.post(path, headers=key(value), **said)


def same(first: httpx.Response, second: httpx.Response) -> bool:
    """Whether the second is the first one's replay."""
    mine = {"x-run-id", "idempotency-replayed", "date"}
    return (
        first.status_code == second.status_code
        and first.content == second.content
        and "idempotency-replayed" not in first.headers
        and second.headers["idempotency-replayed"] == "true"
        and [one for one in first.headers.multi_items() if one[0] not in mine]
        == [one for one in second.headers.multi_items() if one[0] not in mine]
        and first.headers["x-run-id"] != second.headers["x-run-id"]
    )


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_second_call_with_the_same_key_gets_the_answer_of_the_first(client, app, method: str):
    said = {"params": {"sku": "x"}} if method == "DELETE" else {"json": {"sku": "x"}}
    first, second = [await client.request(method, "/orders", headers=key(), **said) for _ in range(2)]
    assert (first.status_code, first.json(), first.headers["x-order"]) == (201, {"n": 1}, "1")
    assert same(first, second)
    assert app["calls"] == ["x"]


async def test_safe_methods_do_not_heed_it(client, app):
    for _ in range(2):
        answer = await client.get("/orders", params={"sku": "x"}, headers=key('"'))
        assert "idempotency-replayed" not in answer.headers
    assert app["calls"] == ["x", "x"]


async def test_a_key_for_another_request_is_refused(client, app):
    await post(client, "/orders", json={"sku": "x"})
    others = [
        await post(client, "/orders", json={"sku": "y"}),
        await post(client, "/orders", json={"sku": "x"}, params={"a": "1"}),
        await client.put("/orders", json={"sku": "x"}, headers=key()),
        await client.post("/_/functions/app.orders/invoke", json={"sku": "x"}, headers=key()),
    ]
    assert [answer.status_code for answer in others] == [422] * 4
    assert "Idempotency-Key" in others[0].json()["detail"]
    assert (await post(client, "/other", json={"sku": "y"})).json() == "y"
    assert app["calls"] == ["x"]


@pytest.mark.asgi  # a client of HTTP/1.1 sends no spaces after a value
@pytest.mark.parametrize("value", ["", "a b", "x" * 256, '"', '"a', '"a" ', '""', "é".encode(), '"a"; b', "a\tb"])
async def test_a_header_that_is_no_key_is_refused(client, app, value):
    headers = [(b"idempotency-key", value if isinstance(value, bytes) else value.encode())]
    answer = await client.post("/orders", json={"sku": "x"}, headers=headers)
    if value != '"a" ':  # spaces around a value are no part of it
        assert (answer.status_code, app["calls"]) == (400, [])
        assert "Idempotency-Key" in answer.json()["detail"]


async def test_two_keys_are_refused(client, app):
    answer = await client.post("/orders", json={"sku": "x"}, headers=[*key("a").items(), *key("b").items()])
    assert (answer.status_code, app["calls"]) == (400, [])


async def test_a_key_may_be_quoted_as_the_standard_wants_it(client, app):
    answers = [await post(client, "/orders", value, json={"sku": "x"}) for value in ("a-1", '"a-1"', "x" * 255)]
    assert [answer.json()["n"] for answer in answers] == [1, 1, 2]


@pytest.mark.parametrize(("status", "again", "count"), [
    (400, False, 1), (404, False, 1), (409, False, 1), (422, False, 1), (409, True, 2), (429, False, 2),
    (408, False, 2), (500, False, 2), (501, False, 2), (503, False, 2),
])  # fmt: skip
async def test_an_error_is_kept_if_it_is_the_functions_last_word(client, app, status: int, again: bool, count: int):
    answers = [await post(client, f"/fails/{status}", json={"again": again}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [status, status]
    assert len(app["calls"]) == count
    assert same(*answers) == (count == 1)


async def test_what_is_refused_before_the_function_keeps_no_key(client, app):
    for content in (b"nope", b'{"sku": 5}', b"[]"):
        assert (await post(client, "/other", content=content)).status_code in (400, 422)
    assert (await post(client, "/other", json={"sku": "x"})).status_code == 200


async def test_a_call_that_is_under_way_is_409_and_says_when_to_ask_again(client, app):
    first = asyncio.create_task(post(client, "/slow", json={"sku": "x"}))
    await begun(app)
    second = await post(client, "/slow", json={"sku": "x"})
    assert (second.status_code, second.headers["retry-after"]) == (409, "1")
    assert (await post(client, "/slow", json={"sku": "y"})).status_code == 422
    app["go"].set()
    assert (await first).json() == 1
    assert same(await first, await post(client, "/slow", json={"sku": "x"}))


async def begun(app: dict[str, Any], count: int = 1) -> None:
    await asyncio.to_thread(until, lambda: len(app["calls"]) == count)


async def test_a_thread_that_is_at_work_when_its_time_is_over_keeps_its_key_until_it_ends(client, app):
    first = await post(client, "/lingers", json={"sku": "x"})
    second = await post(client, "/lingers", json={"sku": "x"})
    assert [one.status_code for one in (first, second)] == [504, 409]
    assert second.headers["retry-after"] == "1"
    assert app["calls"] == ["x"]
    app["go_on"].set()
    assert (await final(client, "/lingers")).json() == 2


NOT_YET = (409, 503)
"""Ask again: another call is under way; the store has not answered, on a busy machine."""


async def final(client: httpx.AsyncClient, path: str) -> httpx.Response:
    for _ in range(300):
        answer = await post(client, path, json={"sku": "x"})
        if answer.status_code not in NOT_YET:
            return answer
        await asyncio.sleep(0.1)
    raise AssertionError("there is no answer")


@pytest.mark.parametrize("path", ["/orders", "/blocks", "/customers/c1"])
async def test_of_100_calls_at_once_one_is_carried_out(project, valkey, desk, app, log, path: str):
    other = desk_on(valkey, desk.store.namespace)
    async with (
        client_of(project, desk=desk, open_locally=True) as here,
        client_of(project, desk=other, open_locally=True) as there,
    ):
        found = await asyncio.gather(*(post(one, path, json={"sku": "x"}) for _ in range(50) for one in (here, there)))
        last = await final(there, path)
    assert app["calls"] == ["x"]
    assert set(Counter(answer.status_code for answer in found)) <= {last.status_code, *NOT_YET}
    assert {answer.content for answer in found if answer.is_success} == {last.content}
    other.close()


async def test_callers_do_not_share_keys(project, desk, app, log):
    tokens = [key_in(desk, "invoke") for _ in range(2)]
    async with client_of(project, desk=desk) as client:
        for _ in range(2):
            for token in tokens:
                headers = key(authorization=f"Bearer {token}")
                await client.post("/orders", json={"sku": token[-4:]}, headers=headers)
        answer = await client.post("/orders", json={"sku": "x"}, headers=key(authorization="Bearer no"))
    assert answer.status_code == 401
    assert app["calls"] == [token[-4:] for token in tokens]


async def test_callers_of_a_public_function_are_told_by_their_own_authorization(write_project, desk, log):
    project = load_project(write_project(**FILES), {"http__auth": "public"})
    async with client_of(project, desk=desk) as client:
        found = [
            await client.post("/orders", json={"sku": "x"}, headers=key(**said))
            for said in ({}, {"authorization": "Bearer a"}, {"authorization": "Bearer b"}, {})
        ]
    assert [answer.json()["n"] for answer in found] == [1, 2, 3, 1]


async def test_a_stream_is_refused_where_that_is_known(client, app):
    answer = await post(client, "/numbers")
    assert (answer.status_code, answer.json()["detail"]) == (
        400, "Idempotency-Key: this function streams, and a stream cannot be kept; leave it out",
    )  # fmt: skip
    assert (await client.post("/numbers")).status_code == 200


@pytest.mark.parametrize(("path", "why"), [("/late-stream", "stream"), ("/large", "longer than 1000000 bytes")])
async def test_a_call_whose_answer_cannot_be_kept_is_not_carried_out_twice(client, app, path: str, why: str):
    first, second = [await post(client, path) for _ in range(2)]
    assert (first.status_code, second.status_code) == (200, 410)
    assert why in second.json()["detail"]
    assert app["calls"] == [1]


@pytest.mark.parametrize("path", ["/response", "/view"])
async def test_a_response_of_the_functions_own_is_kept(client, app, path: str):
    first, second = [await post(client, path) for _ in range(2)]
    assert (first.status_code, first.headers["x-own"]) == (202, "1")
    assert same(first, second)


async def test_a_body_that_the_function_reads_itself_counts(client, app):
    answers = [await post(client, "/raw", content=content) for content in (b"a", b"a", b"b")]
    assert [(one.status_code, app["calls"]) for one in answers] == [(200, [1]), (200, [1]), (422, [1])]


async def test_a_form_is_the_same_whatever_its_boundary(client, app):
    async def send(content: bytes, note: str = "") -> httpx.Response:
        return await post(client, "/file", files={"file": ("a.txt", content)}, data={"note": note})

    first, second = await send(b"abc"), await send(b"abc")
    assert first.request.headers["content-type"] != second.request.headers["content-type"]
    assert same(first, second)
    assert [(await send(b"abd")).status_code, (await send(b"abc", "n")).status_code] == [422, 422]
    assert first.json() == "abc"


async def test_without_a_store_nothing_with_a_key_is_carried_out(project, gone, app, log):
    for desk in (None, gone):
        async with client_of(project, desk=desk, open_locally=True) as client:
            for path in ("/orders", "/customers/c1"):
                answer = await post(client, path, json={"sku": "x"})
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert (await client.post("/customers/c1", json={"sku": "x"})).status_code == 503
            assert app["calls"] == []
            assert (await client.post("/customers/c1", json={"sku": "each"})).status_code == 201
            app["calls"].clear()


async def test_an_answer_is_given_though_the_store_is_gone_by_then_and_kept_when_it_is_back(project, desk, app, log):
    async with client_of(project, desk=desk, open_locally=True) as client:
        first = asyncio.create_task(post(client, "/slow", json={"sku": "x"}))
        await begun(app)
        ask, desk.ask = desk.ask, no_store
        app["go"].set()
        assert (await first).json() == 1
        desk.ask = ask
        assert (await post(client, "/slow", json={"sku": "x"})).status_code in (200, 409)
        desk.holds._write()
        assert same(await first, await post(client, "/slow", json={"sku": "x"}))


async def no_store(_: object) -> None:
    raise StoreDown("away")


async def test_a_call_that_was_taken_over_is_ended_and_not_kept(project, valkey, desk, app, log):
    async with client_of(project, desk=desk, open_locally=True) as client:
        first = asyncio.create_task(post(client, "/slow", json={"sku": "x"}))
        await begun(app)
        desk.holds.close()  # as if the process stood still
        name = next(desk.store.connect().scan_iter(f"{desk.store.namespace}:once:*"))
        desk.store.connect().hset(name, mapping={"over": 1, "lease": 0})
        other = desk_on(valkey, desk.store.namespace)
        async with client_of(project, desk=other, open_locally=True) as there:
            second = asyncio.create_task(post(there, "/slow", json={"sku": "x"}))
            await begun(app, 2)
            desk.holds._renew()
            answer = await first
            assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")
            app["go"].set()
            assert (await second).json() == 2
            assert (await post(client, "/slow", json={"sku": "x"})).json() == 2
        other.close()


async def test_a_call_whose_key_is_taken_over_before_it_has_begun_is_not_carried_out(project, desk, app, log):
    short = Desk(desk.store, Ledger(desk.store.namespace, lease_seconds=0.2))
    ask, told = short.ask, asyncio.Event()
    async with (
        client_of(project, desk=short, open_locally=True) as here,
        client_of(project, desk=desk, open_locally=True) as there,
    ):

        async def late(call: Any) -> Any:
            found = await ask(call)
            if not told.is_set():
                told.set()  # the key is its own; and now the process stands still
                assert (await final(there, "/orders")).status_code == 201
            return found

        short.ask = late
        answer = await post(here, "/orders", json={"sku": "x"})
    assert (answer.json(), answer.headers["idempotency-replayed"]) == ({"n": 1}, "true")
    assert app["calls"] == ["x"]
    short.holds.close()


async def test_a_call_that_is_cut_off_leaves_its_key(project, desk, app, log):
    role = HttpRole(project, open_locally=True, desk=desk)
    async with client_on(role) as client:
        first = asyncio.create_task(post(client, "/slow", json={"sku": "x"}))
        await begun(app)
        role.shell.give_up()
        assert (await first).status_code == 503
        app["go"].set()
        assert (await post(client, "/slow", json={"sku": "x"})).json() == 2


async def test_a_call_that_is_cut_off_while_its_answer_is_being_kept_is_not_carried_out_again(project, desk, app, log):
    role, ask, asked = HttpRole(project, open_locally=True, desk=desk), desk.ask, asyncio.Event()

    async def no_answer(_: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    async with client_on(role) as client:
        first = asyncio.create_task(post(client, "/slow", json={"sku": "x"}))
        await begun(app)
        desk.ask = no_answer
        app["go"].set()
        await asked.wait()
        role.shell.give_up()
        assert (await first).status_code == 503
        desk.ask = ask
        desk.holds.close()
        assert (await final(client, "/slow")).json() == 1
    assert app["calls"] == ["x"]


# --- later ---


LATER = {"prefer": "respond-async"}


async def test_one_run_is_accepted_however_often_it_is_asked_for(client, desk):
    found = await asyncio.gather(*(client.post("/other", json={"sku": "x"}, headers=key(**LATER)) for _ in range(20)))
    assert {answer.status_code for answer in found} == {202}
    assert len({answer.headers["location"] for answer in found}) == 1
    assert {answer.headers["preference-applied"] for answer in found} == {"respond-async"}
    assert sum("idempotency-replayed" in answer.headers for answer in found) == 19
    assert len(desk.ask_sync(desk.ledger.runs()).runs) == 1
    answer = await client.post("/other", json={"sku": "y"}, headers=key(**LATER))
    assert answer.status_code == 422
    assert "preference-applied" not in answer.headers


async def test_who_does_not_prefer_gets_the_answer_of_the_run(client, desk):
    accepted = await client.post("/other", json={"sku": "x"}, headers=key(**LATER))
    early = await post(client, "/other", json={"sku": "x"})
    assert (early.status_code, early.headers["retry-after"]) == (409, "1")
    assert early.headers["location"] == accepted.headers["location"]
    worker = Worker(desk, "app.other")
    worker.finish(worker.claim(), "x")
    answer = await post(client, "/other", json={"sku": "x"})
    assert (answer.status_code, answer.json(), answer.headers["idempotency-replayed"]) == (200, "x", "true")
    later = await client.post("/other", json={"sku": "x"}, headers=key(prefer="respond-async, wait=5"))
    assert (later.status_code, later.json()) == (200, "x")
    assert later.headers["preference-applied"] == "respond-async, wait=5"
    desk.ask_sync(desk.ledger.purge([accepted.json()["id"]]))
    assert (await post(client, "/other", json={"sku": "x"})).status_code == 410


async def test_a_run_that_has_failed_is_its_keys_answer_too(client, desk):
    accepted = await client.post("/other", json={"sku": "x"}, headers=key(**LATER))
    worker = Worker(desk, "app.other")
    worker.fail(worker.claim())
    first = await client.post("/other", json={"sku": "x"}, headers=key(prefer="respond-async, wait=5"))
    second = await post(client, "/other", json={"sku": "x"})
    for answer in (first, second):
        assert (answer.status_code, answer.headers["idempotency-replayed"]) == (500, "true")
        assert answer.json()["run_id"] == accepted.json()["id"] != answer.headers["x-run-id"]
    assert first.headers["preference-applied"] == "respond-async, wait=5"


async def test_who_prefers_gets_what_was_answered_at_once(client, desk):
    first = await post(client, "/other", json={"sku": "x"})
    answer = await client.post("/other", json={"sku": "x"}, headers=key(**LATER))
    assert same(first, answer)
    assert "preference-applied" not in answer.headers
    assert desk.ask_sync(desk.ledger.runs()).runs == ()


async def test_a_full_queue_accepts_none_and_keeps_no_key(project, valkey, way, log):
    desk = desk_on(valkey, f"full-once-{way}", max_length=1)
    async with client_of(project, open_locally=True, desk=desk) as client:
        codes = [
            (await client.post("/other", json={"sku": "x"}, headers=key(value, **LATER))).status_code
            for value in ("a", "b", "a")
        ]
        assert codes == [202, 429, 202]
        assert (await post(client, "/other", "b", json={"sku": "x"})).status_code == 200
    desk.close()


# --- idempotent= ---


async def test_calls_that_mean_the_same_are_carried_out_once_for_all_callers(client, app):
    first = await client.post("/customers/c1", json={"sku": "x", "note": "a"})
    second = await client.post("/customers/c1", json={"sku": "x", "note": "b"})
    by_name = await client.post("/_/functions/app.buy/invoke", json={"customer": "c1", "sku": "x"})
    assert (first.json(), second.json(), by_name.json()) == ([1, "a"],) * 3
    assert (second.headers["x-order"], second.headers["idempotency-replayed"]) == ("1", "true")
    assert [one.headers.get("set-cookie") for one in (first, second)] == ["a=1", None]
    assert (await client.post("/customers/c2", json={"sku": "x"})).json() == [2, ""]
    assert [(await client.post("/customers/c2", json={"sku": "each"})).json()[0] for _ in range(2)] == [3, 4]


async def test_only_a_success_is_kept_for_all(client, app):
    found = [await client.post("/customers/c1", json={"sku": "bad"}) for _ in range(4)]
    assert [answer.status_code for answer in found] == [400, 400, 201, 201]
    assert len(app["calls"]) == 3


async def test_both_keys_hold(client, app):
    first = await post(client, "/customers/c1", json={"sku": "x"})
    assert (await post(client, "/customers/c1", json={"sku": "y"})).status_code == 422
    other = await post(client, "/customers/c1", "k2", json={"sku": "x"})
    again = await post(client, "/customers/c1", "k2", json={"sku": "x"})
    assert [one.json() for one in (first, other, again)] == [[1, ""]] * 3
    assert [one.headers.get_list("idempotency-replayed") for one in (other, again)] == [["true"], ["true"]]


async def test_a_call_waits_for_a_run_with_its_key_and_gets_its_result(client, desk, app):
    await client.post("/customers/c1", json={"sku": "x"}, headers=LATER)
    worker = Worker(desk, "app.buy")
    run = worker.claim()
    desk.ask_sync(take_by_run(desk.ledger, key_of_function("app.buy", b'["c1","x"]'), run))
    early = await client.post("/customers/c1", json={"sku": "x"})
    assert (early.status_code, early.headers["retry-after"]) == (409, "1")
    worker.finish(run, [9, "of the run"])
    answer = await client.post("/customers/c1", json={"sku": "x"})
    assert (answer.status_code, answer.json()) == (201, [9, "of the run"])
    assert answer.headers["idempotency-replayed"] == "true"
    assert (view_of(desk, run.id).state, app["calls"]) == ("succeeded", [])


@pytest.mark.parametrize("path", ["/keyless", "/odd", "/nan", "/nameless"])
async def test_a_key_that_cannot_be_made_is_the_functions_fault(client, path: str, log):
    answer = await client.post(path, json={"sku": "x"})
    assert answer.status_code == 500
    assert "idempotent= of app." in answer.json()["detail"]
    assert "division" not in answer.text
    assert [line for line in log.entries if line["event"] == "a call has no key"]


async def test_idempotent_holds_on_every_method(client, app):
    assert [(await client.get("/found")).text for _ in range(2)] == ["1", "1"]
