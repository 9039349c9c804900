"""The whole way: a request that prefers to be answered later, a real worker, and what its caller then sees."""

from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import httpx
import pytest

from runtime.ledger.desk import Desk
from tests.live_servers import until
from tests.live_workers import workers
from tests.wire_servers import Wired

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

FUNCTIONS = """
    import asyncio, datetime
    from typing import Annotated
    import msgspec
    from runtime import Body, Context, PlainText, Problem, Retry, fn, http, queue

    class Order(msgspec.Struct):
        when: datetime.datetime
        blob: bytes

    @http.post("/order", status=201)
    @queue("orders")
    async def order(order: Order, ctx: Context) -> list[str]:
        return [order.when.isoformat(), order.blob.hex(), ctx.trigger, ctx.run_id]

    @http.post("/raw")
    async def raw(data: Annotated[bytes, Body]) -> bytes:
        return data[::-1]

    @http.get("/text")
    async def text() -> PlainText:
        return "h\\u00e9"

    @http.get("/nothing")
    async def nothing() -> None: ...

    @http.get("/missing")
    async def missing() -> None:
        raise Problem(404, "no such article", sku="x")

    @http.get("/breaks")
    @fn(retries=Retry(attempts=1))
    async def breaks() -> None:
        raise ValueError("a secret")

    @http.get("/late")
    @fn(timeout="200ms", retries=Retry(attempts=1))
    async def late() -> None:
        await asyncio.sleep(9)

    @http.get("/steps")
    async def steps(ctx: Context) -> str:
        for n in range(100):
            ctx.progress(n)
            await asyncio.sleep(0.1)
        return "done"
"""


@pytest.fixture
def client(tmp_path: Path, desk: Desk, valkey: Path) -> Iterator[httpx.Client]:
    """A client of a server with a worker beside it."""
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "app.py").write_text(dedent(FUNCTIONS))
    server = Wired(tmp_path, desk=desk)
    with workers(tmp_path, f"unix://{valkey}") as start:
        start(FNRUN_STORE__NAMESPACE=desk.store.namespace)
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as client:
            yield client
    server.stop()


def test_a_run_is_answered_as_its_function_would_be(client: httpx.Client):
    wait = {"prefer": "respond-async, wait=20"}
    order = client.post("/order", json={"when": "2026-11-22T10:00:00+01:00", "blob": "AP8="}, headers=wait)
    assert (order.status_code, order.headers["preference-applied"]) == (201, "respond-async, wait=20")
    assert order.json() == ["2026-11-22T10:00:00+01:00", "00ff", "http", order.headers["x-run-id"]]
    assert client.post("/raw", content=b"\x00\xff", headers=wait).content == b"\xff\x00"
    for path in ("/text", "/nothing", "/missing", "/breaks", "/late"):
        now, later = client.get(path), client.get(path, headers=wait)
        assert (now.status_code, now.headers.get("content-type")) == (
            later.status_code,
            later.headers.get("content-type"),
        )
        if now.is_success:
            assert now.content == later.content
        else:
            assert now.json()["title"] == later.json()["title"]
            assert "secret" not in later.text


def test_a_run_is_followed_to_its_end(client: httpx.Client):
    accepted = client.get("/steps", headers={"prefer": "respond-async"})
    where = accepted.headers["location"]
    until(lambda: client.get(where).json().get("progress", 0) > 3)
    with client.stream("GET", f"{where}/events") as events:
        lines = events.iter_lines()
        kinds = [next(line for line in lines if line.startswith("event: ")) for _ in range(2)]
        assert kinds == ["event: state", "event: progress"]
    run_id = where.rpartition("/")[2]
    assert client.post(f"{where}/cancel").status_code == 401
    assert client.get(where).json()["state"] == "running"
    assert client.get(where, headers={"prefer": "wait=30"}).json()["result"] == "done"
    assert client.get(f"/_/runs/{run_id}").json()["attempts"][0]["state"] == "succeeded"
