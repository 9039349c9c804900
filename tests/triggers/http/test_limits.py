"""Limits, breakers and fallbacks over HTTP, in a process without a store."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from runtime.base.ids import new_run_id, trace_of
from runtime.invoke.invocation import Invocation, Outcome
from runtime.projects import load_project
from runtime.roles import HttpRole
from tests.conftest import client_on

APP = """
    import asyncio, threading
    from runtime import Breaker, Context, PlainText, Problem, Request, fn, http

    at_work = most = 0
    go = asyncio.Event()
    go_on = threading.Event()
    calls: list = []

    @http.post("/one/{customer}")
    @fn(concurrency=1, key="customer")
    async def one(customer: str) -> int:
        global at_work, most
        at_work += 1
        most = max(most, at_work)
        try:
            await go.wait()
        finally:
            at_work -= 1
        return most

    @http.post("/stuck", timeout="50ms")
    @fn(concurrency=1)
    def stuck() -> int:
        go_on.wait(60)
        return 1

    @http.get("/stream")
    @fn(concurrency=1)
    async def stream():
        for n in range(3):
            yield n
            await go.wait()

    @http.get("/sync-stream")
    @fn(concurrency=1)
    def sync_stream():
        yield 1
        go_on.wait(60)
        yield 2

    @http.post("/rated")
    @fn(rate="2/m", key=lambda customer: customer.lower())
    async def rated(customer: str) -> str:
        return customer

    @http.post("/odd")
    @fn(rate="2/m", key=lambda customer: 1 / 0)
    async def odd(customer: str) -> str:
        return customer

    @http.post("/shaky/{how}")
    @fn(breaker=Breaker(2, reset="500ms"), timeout="20ms")
    async def shaky(how: str) -> str:
        calls.append(how)
        if how == "raise":
            raise OSError("no")
        if how == "slow":
            await asyncio.sleep(60)
        if how == "404":
            raise Problem(404, "none such")
        return how

    async def instead(error, how, ctx, size):
        assert Context.current() is ctx
        if how == "worse":
            raise ValueError("the fallback, too")
        return {"how": how, "error": type(error).__name__, "size": size, "function": ctx.function}

    @http.post("/falls/{how}", status=201)
    @fn(fallback=instead, timeout="20ms")
    async def falls(how: str, ctx: Context, size: int = 3) -> dict:
        if how in ("raise", "worse"):
            raise OSError("no")
        if how == "slow":
            await asyncio.sleep(60)
        if how == "404":
            raise Problem(404, "none such")
        if how == "503":
            raise Problem(503, "later")
        return {"how": how}

    @http.post("/constant")
    @fn(fallback={"cached": True}, concurrency=1)
    async def constant(n: int) -> dict:
        await go.wait()
        return {"n": n}

    @http.post("/plain")
    @fn(fallback=lambda: asyncio.sleep(0, "awaited"), breaker=Breaker(1, reset="1m"))
    async def plain() -> str:
        raise OSError("no")
"""


@pytest.fixture
async def role(write_project: Callable[..., Any]) -> AsyncIterator[HttpRole]:
    files = {"functions/app.py": APP, "functions.toml": '[http]\nauth = "public"\nlimit_wait = "100ms"\n'}
    project = load_project(write_project(**files))
    assert project.registry.failures == ()
    role = HttpRole(project)
    yield role
    app(role)["go_on"].set()
    role.invoker.threads.close()


@pytest.fixture
async def http(role: HttpRole, log) -> AsyncIterator[httpx.AsyncClient]:
    async with client_on(role) as client:
        yield client


def app(role: HttpRole) -> dict[str, Any]:
    return role.registry.get("app.one").call.__globals__


async def soon(condition: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def test_a_key_has_its_own_limit_and_who_waits_too_long_is_told_when_to_come_back(http, role):
    first, other = (asyncio.create_task(http.post(f"/one/{name}")) for name in ("a", "b"))
    await soon(lambda: app(role)["at_work"] == 2)
    refused = await http.post("/one/a")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["limit"] == "concurrency=1 of its key"
    assert refused.json()["detail"] == "app.one is called as much as its limit allows; try again later"
    next_one = asyncio.create_task(http.post("/one/a"))
    app(role)["go"].set()
    assert {answer.status_code for answer in await asyncio.gather(first, other, next_one)} == {200}
    assert (await next_one).json() == 2
    counts = role.invoker.guards["app.one"].counts
    assert (counts.calls, counts.refused) == (4, 1)


async def test_a_caller_that_goes_away_while_it_waits_or_works_leaves_its_place(http, role):
    for task in [asyncio.create_task(http.post("/one/a")) for _ in range(3)]:
        await soon(lambda: app(role)["at_work"] == 1)
        task.cancel()
        await asyncio.wait([task])
    app(role)["go"].set()
    assert (await http.post("/one/a")).status_code == 200
    assert not len(role.invoker.gate._bounds)


async def test_a_thread_that_goes_on_keeps_its_place_until_it_ends(http, role):
    assert (await http.post("/stuck")).status_code == 504
    assert (await http.post("/stuck")).status_code == 429
    app(role)["go_on"].set()
    await soon(lambda: not role.invoker.threads.busy)
    assert (await http.post("/stuck")).status_code == 200


def called(role: HttpRole, name: str) -> Coroutine[Any, Any, Outcome]:
    run_id = new_run_id()
    function = role.registry.get(name)
    said = {"trigger": "http", "arguments": {}, "run_id": run_id, "trace": trace_of(run_id, None)}
    return role.invoker.invoke(Invocation(function=function, timeout_seconds=10, **said))


@pytest.mark.parametrize("name", ["app.stream", "app.sync_stream"])
async def test_a_stream_has_its_place_until_it_is_closed(role, name):
    stream = (await called(role, name)).value
    await anext(stream)
    assert (await called(role, name)).reason == "limit"
    again = asyncio.create_task(called(role, name))
    await stream.aclose()
    app(role)["go"].set()
    app(role)["go_on"].set()
    stream = (await again).value
    assert [item async for item in stream][-1] == 2
    assert (await called(role, name)).reason == "limit"
    await stream.aclose()
    assert not len(role.invoker.gate._bounds)


async def test_a_rate_holds_for_each_key(http):
    answers = [await http.post("/rated", json={"customer": name}) for name in ("a", "A", "b", "a")]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].json()["limit"] == 'rate="2/m" of its key'
    assert 29 <= int(answers[-1].headers["retry-after"]) <= 30


async def test_a_key_that_cannot_be_made_is_a_500_that_spends_nothing(http, role, log):
    answer = await http.post("/odd", json={"customer": "a"})
    assert (answer.status_code, answer.json()["detail"]) == (500, "the function failed; its log has the run id")
    assert [line["event"] for line in log.entries] == ["a call has no key for its limits"]
    assert not len(role.invoker.gate._bounds)


async def test_a_breaker_opens_after_failures_in_a_row_and_lets_one_call_try(http, role):
    for how in ("raise", "404", "fine", "slow", "raise"):
        await http.post(f"/shaky/{how}")
    refused = await http.post("/shaky/fine")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.headers["fnrun-breaker"] == "open"
    assert app(role)["calls"] == ["raise", "404", "fine", "slow", "raise"]
    await anyio.sleep(0.55)  # and no polling: each call that is refused counts
    tried = await http.post("/shaky/raise")
    assert (tried.status_code, tried.headers["fnrun-breaker"]) == (500, "half-open")
    assert (await http.post("/shaky/fine")).status_code == 503
    await anyio.sleep(0.55)
    tried = await http.post("/shaky/fine")
    assert (tried.status_code, tried.headers["fnrun-breaker"]) == (200, "half-open")
    assert "fnrun-breaker" not in (await http.post("/shaky/fine")).headers
    assert role.invoker.guards["app.shaky"].counts.open == 2


@pytest.mark.parametrize(
    ("how", "reason", "error"), [("raise", "error", "OSError"), ("slow", "timeout", "TimeoutError"),
                                 ("503", "error", "Problem")]
)  # fmt: skip
async def test_a_fallback_is_given_the_error_and_the_arguments(http, how, reason, error):
    answer = await http.post(f"/falls/{how}")
    assert (answer.status_code, answer.headers["fnrun-fallback"]) == (201, reason)
    assert answer.json() == {"how": how, "error": error, "size": 3, "function": "app.falls"}


async def test_a_fallback_has_no_say_in_what_the_handler_means(http):
    assert (await http.post("/falls/404")).status_code == 404
    assert (await http.post("/falls/x", json={"size": "x"})).status_code == 422
    fine = await http.post("/falls/fine")
    assert (fine.json(), "fnrun-fallback" in fine.headers) == ({"how": "fine"}, False)


async def test_a_fallback_that_fails_leaves_the_failure_as_it_is(http, log):
    answer = await http.post("/falls/worse")
    assert (answer.status_code, "fnrun-fallback" in answer.headers) == (500, False)
    assert [str(line["exc_info"]) for line in log.entries] == ["no", "the fallback, too"]


async def test_a_fallback_answers_what_a_limit_or_an_open_breaker_refuses(http, role):
    first = asyncio.create_task(http.post("/constant", json={"n": 1}))
    await soon(lambda: len(role.invoker.gate._bounds))
    refused = await http.post("/constant", json={"n": 2})
    assert (refused.status_code, refused.json(), refused.headers["fnrun-fallback"]) == (200, {"cached": True}, "limit")
    app(role)["go"].set()
    assert (await first).json() == {"n": 1}
    for reason in ("error", "open"):
        answer = await http.post("/plain")
        assert (answer.json(), answer.headers["fnrun-fallback"]) == ("awaited", reason)
    assert answer.headers["fnrun-breaker"] == "open"
    assert role.invoker.guards["app.plain"].counts.fell_back == 2
