"""Handlers that misbehave, and requests that find nothing. The server answers each and goes on."""

import asyncio

import anyio
import httpx
import pytest

from runtime.projects import Project

KINDS = [
    "value", "exit", "interrupt", "memory", "cancelled", "generator-exit", "stop-iteration", "stop-async",
    "unprintable", "group",
]  # fmt: skip


@pytest.mark.parametrize("route", ["raise", "raise-sync", "raise-stream", "raise-sync-stream"])
@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_a_handler_raises_is_a_500_without_a_trace(http: httpx.AsyncClient, log, route: str, kind: str):
    answer = await http.get(f"/{route}/{kind}")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["detail"] == "the function failed; its log has the run id"
    assert "secret" not in answer.text
    assert [line["event"] for line in log.entries] == ["handler failed"]
    assert (await http.get("/number")).status_code == 200


async def test_sys_exit_in_a_thread_is_a_500(http: httpx.AsyncClient):
    assert (await http.get("/exit")).status_code == 500


@pytest.mark.parametrize("path", ["/slow", "/slow-sync", "/slow-first"])
async def test_a_timeout_is_504(http: httpx.AsyncClient, log, path: str):
    answer = await http.get(path)
    assert (answer.status_code, answer.json()["detail"]) == (504, "the function did not finish in time")
    assert [line["event"] for line in log.entries] == ["handler took longer than its timeout"]


async def test_an_abandoned_thread_is_told(http: httpx.AsyncClient, samples: Project):
    released = samples.registry.get("fail.slow_sync").call.__globals__["released"]
    released.clear()
    await http.get("/slow-sync")
    with anyio.fail_after(20):
        while not released.is_set():
            await anyio.lowlevel.checkpoint()


async def test_a_handler_that_swallows_its_cancellation_is_named_and_left(http: httpx.AsyncClient, samples, log):
    names = samples.registry.get("fail.swallows").call.__globals__
    swallowing = names["swallowing"] = asyncio.Event()
    try:
        with anyio.fail_after(20):
            answer = await http.get("/swallows")
    finally:
        swallowing.set()
    assert answer.status_code == 504
    assert log.entries[0]["event"] == "handler ignores its cancellation and was left running"
    assert log.entries[0]["function"] == "fail.swallows"


@pytest.mark.parametrize("path", ["/nowhere", "/open/", "//open", "/open/x", "/paths/a/b", "/"])
async def test_an_unknown_path_is_404(http: httpx.AsyncClient, path: str):
    answer = await http.get(f"http://localhost{path}")
    assert (answer.status_code, answer.json()["title"]) == (404, "Not Found")


@pytest.mark.parametrize(
    "path", ["/%2e%2e/x", "/a/%2E/b", "/a%00b", "/a%0d%0ab", "/%ff", "/a%5Cb", "/typed/%00", "/typed/%2e%2e"]
)
async def test_a_path_with_dots_or_controls_is_400_however_it_is_written(http: httpx.AsyncClient, path: str):
    request = http.build_request("GET", "/")
    request.extensions["target"] = path.encode()
    request.url = request.url.copy_with(raw_path=path.encode())
    answer = await http.send(request)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


async def test_an_encoded_path_finds_the_same_route_and_the_same_lock(http: httpx.AsyncClient):
    assert (await http.get("/%6fpen")).json() == "open"
    assert (await http.get("/%6cocked")).status_code == 401
    assert (await http.get("/%5f/functions/doors.open_door/invoke")).status_code == 405


async def test_405_names_what_is_allowed(http: httpx.AsyncClient):
    answer = await http.get("/post-only")
    assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")
    assert (await http.request("BREW", "/methods")).headers["allow"] == "DELETE, GET, HEAD, OPTIONS, POST"


async def test_options_answers_by_itself(http: httpx.AsyncClient):
    answer = await http.options("/open")
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, "GET, HEAD, OPTIONS", b"")


async def test_a_body_past_the_limit_is_413(http: httpx.AsyncClient):
    assert (await http.post("/upload", content=b"x" * 2000)).json() == 2000
    answer = await http.post("/upload", content=b"x" * 2001)
    assert (answer.status_code, answer.json()["detail"]) == (
        413,
        "the body is longer than this route's limit of 2000 bytes",
    )

    async def parts():
        for _ in range(3):
            yield b"x" * 1000

    assert (await http.post("/upload", content=parts())).status_code == 413
