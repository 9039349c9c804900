"""/_/runs/{id}/logs, on a real store."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from runtime.ledger.access.keys import list_keys, revoke_key
from runtime.ledger.desk import Desk
from runtime.projects import load_project
from tests.conftest import client_of
from tests.desks import Worker, submit
from tests.keys import key_in
from tests.ledger.test_lines import keep

FILES = {"functions/shop.py": "from runtime import http\n\n@http.post('/sell', auth='public')\nasync def sell(): ..."}


@pytest.fixture
def root(write_project) -> Path:
    return write_project(**FILES)


async def test_lines_are_read_page_by_page_and_shown_with_their_run(local: httpx.AsyncClient, desk: Desk):
    run_id = submit(desk, "shop.sell")
    keep(desk, run_id, range(150))
    page = (await local.get(f"/_/runs/{run_id}/logs", params={"limit": 2})).json()
    assert page == {
        "lines": [
            {"number": n + 1, "at": "1970-01-01T00:00:01.000Z", "level": "info", "text": str(n)} for n in range(2)
        ],
        "next": 2, "total": 150, "dropped": 0, "finished": False,
    }  # fmt: skip
    rest = (await local.get(f"/_/runs/{run_id}/logs", params={"after": 2})).json()
    assert ([one["number"] for one in rest["lines"]], rest["next"]) == ([*range(3, 151)], 150)
    run = (await local.get(f"/_/runs/{run_id}")).json()
    assert ([one["number"] for one in run["logs"]], run["more_logs"]) == ([*range(51, 151)], 50)


async def test_they_are_followed_to_the_end_of_the_run_and_taken_up_again(local: httpx.AsyncClient, desk: Desk):
    run_id, worker = submit(desk, "shop.sell"), Worker(desk, "shop.sell")
    run = worker.claim()
    keep(desk, run_id, "abc")

    async def end() -> None:
        keep(desk, run_id, "d")
        worker.finish(run)

    following, _ = await asyncio.gather(
        local.get(f"/_/runs/{run_id}/logs?follow=true", headers={"last-event-id": "1"}), end()
    )
    events = [dict(line.split(": ", 1) for line in one.splitlines()) for one in following.text.strip().split("\n\n")]
    assert [(one["event"], one["id"]) for one in events] == [
        ("line", "2"), ("line", "3"), ("line", "4"), ("finished", "4"),
    ]  # fmt: skip
    assert json.loads(events[0]["data"])["text"] == "b"
    assert json.loads(events[-1]["data"]) == {"total": 4, "dropped": 0}


async def test_what_is_asked_wrongly_is_told(local: httpx.AsyncClient, desk: Desk):
    run_id = submit(desk, "shop.sell")
    assert (await local.get(f"/_/runs/{'0' * 32}/logs")).status_code == 404
    for query in ("limit=0", "limit=1001", "after=x", "folow=1"):
        assert (await local.get(f"/_/runs/{run_id}/logs?{query}")).status_code == 422
    refused = await local.get(f"/_/runs/{run_id}/logs?follow=1", headers={"last-event-id": "x"})
    assert refused.status_code == 422


async def test_they_are_for_keys_that_may_read(root: Path, desk: Desk, log):
    run_id = submit(desk, "shop.sell")
    keep(desk, run_id, "a")
    tokens = {scope: key_in(desk, scope) for scope in ("read", "invoke")}
    async with client_of(load_project(root), desk=desk) as client:
        found = {
            scope: await client.get(f"/_/runs/{run_id}/logs", headers={"authorization": f"Bearer {token}"})
            for scope, token in tokens.items()
        }
        assert {scope: answer.status_code for scope, answer in found.items()} == {"read": 200, "invoke": 403}
        assert (await client.get(f"/_/runs/{run_id}/logs")).status_code == 401
        assert "logs" not in (await client.get(f"/_/runs/{run_id}")).json()  # which anybody may see


@pytest.mark.parametrize("path", ["logs?follow=true", "events"])
async def test_who_has_no_key_any_more_follows_no_longer(root: Path, desk: Desk, log, path: str):
    run_id, token = submit(desk, "shop.sell"), key_in(desk, "read")
    keep(desk, run_id, "a")
    headers = {"authorization": f"Bearer {token}"}
    async with client_of(load_project(root), desk=desk) as client, asyncio.timeout(30):
        following = asyncio.create_task(client.get(f"/_/runs/{run_id}/{path}", headers=headers))
        while (await list_keys(desk))[0].used_at is None:  # noqa: ASYNC110 - until it is let in
            await asyncio.sleep(0.05)
        assert await revoke_key(desk, token.split("_")[1]) == "revoked"
        answer = await following
        assert answer.status_code == 200
        assert "event: finished" not in answer.text
