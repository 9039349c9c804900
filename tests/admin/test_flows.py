"""Flows and other families of runs at /_/runs: what is shown of parents, children and steps, and to whom."""

import asyncio
import secrets
from pathlib import Path

import httpx
import pytest

from runtime.ledger.desk import Desk
from runtime.projects import load_project
from tests.conftest import client_of
from tests.desks import Worker, submit
from tests.keys import key_in
from tests.ledger.trees import Tree, chain, chord, group, step, submission
from tests.live_servers import until

FILES = {
    "functions/shop.py": """
        from runtime import fn, http

        @http.post("/open", auth="public")
        async def open_door() -> str: ...

        @fn()
        async def count() -> str: ...
        """
}


@pytest.fixture
def root(write_project) -> Path:
    return write_project(**FILES)


def start(desk: Desk, tree: Tree, **said) -> str:
    flow = submission(tree, id=secrets.token_hex(16), **said)
    assert desk.ask_sync(desk.ledger.accept_flow(flow)).verdict == "accepted"
    return flow.id


async def test_a_flow_shows_its_steps_and_they_show_their_flow(local: httpx.AsyncClient, desk: Desk):
    above = submit(desk, "shop.open_door")
    flow = start(desk, chord([step("shop.count"), step("shop.count")], step("shop.count")), kind="chord", parent=above)
    worker = Worker(desk, "shop.count")
    worker.finish(worker.claim(), 1)
    shown = (await local.get(f"/_/runs/{flow}")).json()
    assert (shown["function"], shown["state"], shown["parent"]) == ("flow:chord", "running", above)
    assert shown["steps"] == {"total": 3, "open": 1, "succeeded": 1, "failed": 0, "cancelled": 0}
    assert shown["children"] == [f"{flow}-3", f"{flow}-4"]
    assert not shown.keys() & {"more_children", "flow", "step", "attempts", "queue"}
    within = (await local.get(f"/_/runs/{flow}-1")).json()["detail"]
    assert within.endswith("not recorded, or a chain or a group within a flow, which has none")
    of_step = (await local.get(f"/_/runs/{flow}-4")).json()
    assert (of_step["flow"], of_step["step"], of_step["parent"], of_step["trigger"]) == (flow, 4, flow, "flow")
    assert (await local.get(f"/_/runs/{above}")).json()["children"] == [flow]
    worker.fail(worker.claim(), message="no more")
    failed = (await local.get(f"/_/runs/{flow}", headers={"prefer": "wait=5"})).json()
    assert (failed["state"], failed["reason"], failed["failure"]["type"]) == ("failed", "error", "StepFailed")
    assert (await local.post(f"/_/runs/{flow}/redrive")).json() == {"id": flow, "state": "queued"}
    assert (await local.post(f"/_/runs/{flow}/cancel")).json() == {"id": flow, "state": "cancelled"}


async def test_a_hundred_children_are_shown_and_all_are_listed_in_their_order(local: httpx.AsyncClient, desk: Desk):
    flow = start(desk, group(*[step("shop.count") for _ in range(1200)]))
    while desk.ask_sync(desk.ledger.reap()):
        pass
    shown = (await local.get(f"/_/runs/{flow}")).json()
    assert (len(shown["children"]), shown["more_children"]) == (100, True)
    found, cursor = [], ""
    while True:
        page = (await local.get("/_/runs", params={"parent": flow, "limit": 500, "cursor": cursor})).json()
        found += page["runs"]
        if not (cursor := page["cursor"]):
            break
    assert [run["id"] for run in found] == [f"{flow}-{n}" for n in range(1, 1201)]
    assert {(run["state"], run["flow"]) for run in found} == {("queued", flow)}
    assert "payload" not in found[0]


async def test_children_are_narrowed_like_all_others(local: httpx.AsyncClient, desk: Desk):
    flow = start(desk, group(step("shop.count"), step("shop.open_door"), step("shop.count"), collect=True))
    worker = Worker(desk, "shop.count")
    worker.fail(worker.claim())
    for query, numbers in (
        ("", [1, 2, 3]), ("state=failed", [1]), ("state=queued&function=shop.count", [3]), ("trigger=submit", []),
        ("since=2099-01-01T00:00:00Z", []), ("since=1h", [1, 2, 3]), ("limit=1", [1]), (f"cursor=0:{flow}-2", [3]),
    ):  # fmt: skip
        runs = (await local.get(f"/_/runs?parent={flow}&{query}")).json()["runs"]
        assert [run["step"] for run in runs] == numbers, query
    assert (await local.get("/_/runs?parent=nobody")).json() == {"runs": [], "cursor": ""}


async def test_families_are_for_those_who_may_see_all_runs(root: Path, desk: Desk, log):
    flow = start(desk, chain(step("shop.open_door")))
    keys = {scope: key_in(desk, scope) for scope in ("read", "invoke", "invoke:shop.*")}
    async with client_of(load_project(root), desk=desk) as client:

        async def ask(path: str, scope: str) -> httpx.Response:
            headers = {"authorization": f"Bearer {keys[scope]}"} if scope else {}
            return await client.get(f"/_/runs{path}", headers=headers)

        assert [(await ask(f"/{flow}", scope)).status_code for scope in ("", "invoke:shop.*", "invoke")] == [
            401,
            403,
            200,
        ]
        assert (await ask(f"/{flow}-1", "")).status_code == 401
        assert (await ask(f"?parent={flow}", "invoke")).status_code == 403
        assert "children" not in (await ask(f"/{flow}", "invoke")).json()
        assert not (await ask(f"/{flow}-1", "invoke")).json().keys() & {"flow", "parent"}
        assert (await ask(f"/{flow}", "read")).json()["children"] == [f"{flow}-1"]


async def test_events_tell_how_a_flow_comes_along(local: httpx.AsyncClient, desk: Desk):
    flow = start(desk, chain(step("shop.count"), step("shop.count")))
    worker = Worker(desk, "shop.count")
    listening = asyncio.create_task(local.get(f"/_/runs/{flow}/events"))
    told = desk.ledger.done(flow)
    client = desk.store.connect()
    await asyncio.to_thread(until, lambda: client.pubsub_channels(told))  # it listens, and has looked once
    client.close()
    worker.finish(worker.claim())
    worker.finish(worker.claim())
    text = (await listening).text
    assert text.index("event: state") < text.index("event: finished")
    assert '"steps":{"total":2,"open":0,"succeeded":2,' in text
