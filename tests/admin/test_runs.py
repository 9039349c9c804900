"""/_/runs and /_/queues, on a real store: looking, acting, who may, and what is asked wrongly."""

import asyncio
import json
import time
from pathlib import Path

import httpx
import pytest

from runtime.ledger.desk import Desk
from runtime.ledger.records import Held
from runtime.projects import load_project
from runtime.roles import HttpRole
from tests.conftest import client_of, client_on
from tests.desks import Worker, refuse_message, submit, view_of
from tests.keys import key_in
from tests.live_servers import until

FILES = {
    "functions/shop.py": """
        from runtime import http, fn

        @http.post("/open", auth="public")
        async def open_door() -> str: ...

        @http.post("/sell")
        async def sell() -> str: ...

        @fn()
        async def count() -> str: ...
        """
}
UNKNOWN = "0" * 32


@pytest.fixture
def root(write_project) -> Path:
    return write_project(**FILES)


@pytest.fixture
async def client(root: Path, desk: Desk, log):
    async with client_of(load_project(root), desk=desk) as client:
        yield client


SCOPES = ("admin", "read", "invoke", "invoke:shop.sell", "invoke:shop.count", "invoke:shop.open_door", "invoke:shop.*")


@pytest.fixture
def key(desk: Desk):
    """Headers with a key of a scope."""
    tokens = {scope: key_in(desk, scope) for scope in SCOPES}
    return lambda scope: {"authorization": f"Bearer {tokens[scope]}"}


# --- one run -----------------------------------------------------------------------------------------------------


async def test_one_run_shows_all_that_is_known_of_it(local: httpx.AsyncClient, desk: Desk):
    run_id = submit(desk, "shop.sell", payload=b'{"x":1}', trigger="http", priority=7, max_age_seconds=60.0)
    worker = Worker(desk, "shop.sell")
    run = worker.claim()
    desk.ask_sync(desk.ledger.beat("tester", [Held(run.id, run.token, run.queue, b'{"done":0.5}')]))
    found = (await local.get(f"/_/runs/{run_id}")).json()
    assert found["progress"] == {"done": 0.5}
    worker.fail(run, state="retrying", began=1_000_000.0, ended=1_000_001.5)
    desk.ask_sync(desk.ledger.reap())
    worker.finish(worker.claim(), {"n": 1})
    answer = await local.get(f"/_/runs/{run_id}")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    found = answer.json()
    times = {name: found.pop(name) for name in list(found) if name.endswith("_at")}
    assert set(times) == {"accepted_at", "due_at", "claimed_at", "finished_at", "expires_at"}
    assert all(len(time) == len("2026-11-22T10:00:00.000Z") and time.endswith("Z") for time in times.values())
    first, second = found.pop("attempts")
    assert first == {
        "attempt": 1, "state": "retrying", "reason": "error", "message": "ValueError: no", "worker": "tester",
        "began_at": "1970-01-12T13:46:40.000Z", "finished_at": "1970-01-12T13:46:41.500Z",
    }  # fmt: skip
    assert (second["attempt"], second["state"]) == (2, "succeeded")
    assert found == {
        "id": run_id, "function": "shop.sell", "queue": "default", "state": "succeeded", "trigger": "http",
        "priority": 7, "failures": 1, "crashes": 0, "worker": "tester", "payload": {"x": 1}, "result": {"n": 1},
        "progress": {"done": 0.5},
    }  # fmt: skip


async def test_an_unknown_run_is_404(local: httpx.AsyncClient, client: httpx.AsyncClient, key):
    for path in (UNKNOWN, "x", "%C3%A9", "a%2Fb", "x" * 500):
        for method, suffix in [
            ("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/redrive"), ("DELETE", ""),
        ]:  # fmt: skip
            answer = await local.request(method, f"/_/runs/{path}{suffix}")
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert (await client.get(f"/_/runs/{UNKNOWN}")).status_code == 404


async def test_a_run_may_be_waited_for(local: httpx.AsyncClient, desk: Desk):
    run_id = submit(desk, "shop.sell")
    waiting = asyncio.create_task(local.get(f"/_/runs/{run_id}", headers={"prefer": "wait=9"}))
    with desk.store.connect() as client:
        await asyncio.to_thread(until, lambda: client.pubsub_channels(desk.ledger.done(run_id)))
    worker = Worker(desk, "shop.sell")
    worker.finish(worker.claim(), 5)
    answer = await waiting
    assert (answer.json()["state"], answer.json()["result"]) == ("succeeded", 5)
    assert answer.headers["preference-applied"] == "wait=9"
    another = submit(desk, "shop.sell")
    answer = await local.get(f"/_/runs/{another}", headers={"prefer": "wait=1"})
    assert (answer.status_code, answer.json()["state"]) == (200, "queued")


# --- who may see and do what -------------------------------------------------------------------------------------


async def test_a_run_is_for_whoever_may_call_its_function(client: httpx.AsyncClient, desk: Desk, key):
    mine, other = submit(desk, "shop.sell", payload=b'{"card":"4711"}'), submit(desk, "shop.count")
    for headers, status in [
        ({}, 401), ({"authorization": "Bearer fnrun_x_y"}, 401), (key("invoke:shop.count"), 403),
        (key("invoke:shop.sell"), 200), (key("invoke"), 200), (key("read"), 200), (key("admin"), 200),
    ]:  # fmt: skip
        for suffix in ("", "/events"):
            if suffix and status == 200:
                continue
            answer = await client.get(f"/_/runs/{mine}{suffix}", headers=headers)
            assert answer.status_code == status
            assert status == 200 or "queued" not in answer.text
    assert (await client.get(f"/_/runs/{other}", headers=key("invoke:shop.sell"))).status_code == 403


async def test_a_caller_sees_results_and_no_more_than_an_answer_would_show(client: httpx.AsyncClient, desk: Desk, key):
    run_id = submit(desk, "shop.open_door", payload=b'{"card":"4711"}', parent=UNKNOWN)
    worker = Worker(desk, "shop.open_door")
    worker.fail(worker.claim(), message="password is 4711")
    shown = {
        name: (await client.get(f"/_/runs/{run_id}", headers=headers)).json()
        for name, headers in {"open": {}, "invoke": key("invoke:shop.*"), "read": key("read")}.items()
    }
    assert shown["read"]["payload"] == {"card": "4711"}
    assert shown["read"]["failure"]["traceback"].startswith("Traceback")
    assert shown["invoke"]["failure"] == {"type": "ValueError", "message": "password is 4711"}
    assert shown["open"]["failure"] == {"type": "ValueError", "message": "its log has the run id"}
    assert "4711" not in json.dumps(shown["open"])
    for name in ("open", "invoke"):
        assert not shown[name].keys() & {"payload", "worker", "parent"}
        assert "tester" not in json.dumps(shown[name])
        assert "secret lines" not in json.dumps(shown[name])


async def test_a_problem_is_meant_for_all_callers(client: httpx.AsyncClient, desk: Desk):
    run_id = submit(desk, "shop.open_door")
    worker = Worker(desk, "shop.open_door")
    worker.fail(worker.claim(), "Problem", "404 no such door")
    assert (await client.get(f"/_/runs/{run_id}")).json()["failure"]["message"] == "404 no such door"


async def test_a_run_that_could_be_guessed_needs_a_key_though_its_function_is_public(
    client: httpx.AsyncClient, desk: Desk, key
):
    named = submit(desk, "shop.open_door", "order-17")
    tick, task = (submit(desk, "shop.open_door", trigger=trigger) for trigger in ("cron", "celery"))
    assert (await client.get(f"/_/runs/{submit(desk, 'shop.open_door')}")).status_code == 200
    for run_id in (named, tick, task):
        assert (await client.get(f"/_/runs/{run_id}")).status_code == 401
        assert (await client.get(f"/_/runs/{run_id}", headers=key("invoke"))).status_code == 200
    # And whether there is one is not told, either.
    assert (await client.get("/_/runs/order-18")).status_code == 401
    assert (await client.get("/_/runs/order-18", headers=key("invoke"))).status_code == 403
    assert (await client.get("/_/runs/order-18", headers=key("read"))).status_code == 404


async def test_acting_needs_a_key_with_the_scope_for_it(client: httpx.AsyncClient, desk: Desk, key):
    run_id = submit(desk, "shop.open_door")
    caller, reader, admin = key("invoke:shop.open_door"), key("read"), key("admin")
    acts = [("POST", f"/_/runs/{run_id}/redrive"), ("DELETE", f"/_/runs/{run_id}"), ("POST", "/_/queues/default/pause")]
    acts += [("POST", "/_/queues/default/resume"), *(("POST", f"/_/runs/{v}") for v in ("cancel", "redrive", "purge"))]
    for method, path in acts:
        assert (await client.request(method, path)).status_code == 401
        for headers in (caller, reader):
            assert (await client.request(method, path, headers=headers)).status_code == 403
        assert (await client.request(method, path, headers=admin)).status_code in (200, 409, 422)
    for path in ("/_/runs", "/_/queues"):
        assert [(await client.get(path, headers=headers)).status_code for headers in ({}, caller, reader, admin)] == [
            401,
            403,
            200,
            200,
        ]
    cancel = f"/_/runs/{run_id}/cancel"
    assert [
        (await client.post(cancel, headers=headers)).status_code
        for headers in ({}, key("invoke:shop.sell"), reader, caller)
    ] == [401, 403, 403, 200]


# --- acting on one -----------------------------------------------------------------------------------------------


async def test_cancel_ends_what_waits_and_tells_what_runs(local: httpx.AsyncClient, desk: Desk):
    waiting, running = submit(desk, "shop.sell", due=4e9), submit(desk, "shop.sell")
    worker = Worker(desk, "shop.sell")
    run = worker.claim()
    assert (await local.post(f"/_/runs/{waiting}/cancel")).json() == {"id": waiting, "state": "cancelled"}
    assert (await local.post(f"/_/runs/{running}/cancel")).json() == {"id": running, "state": "cancelling"}
    assert (await local.get(f"/_/runs/{running}")).json()["cancelling"] is True
    worker.finish(run)
    assert view_of(desk, running).state == "cancelled"
    again = await local.post(f"/_/runs/{running}/cancel")
    assert (again.status_code, again.json()["detail"]) == (409, "the run is finished")


async def test_cancel_takes_descendants_if_asked(local: httpx.AsyncClient, desk: Desk):
    top = submit(desk, "shop.sell")
    children = [submit(desk, "shop.count", parent=top) for _ in range(150)]
    grandchild = submit(desk, "shop.sell", parent=children[7])
    stranger = submit(desk, "shop.sell")
    worker = Worker(desk, "shop.sell")
    worker.finish(worker.claim())
    found = (await local.post(f"/_/runs/{top}/cancel?tree=true")).json()
    assert found == {"id": top, "state": "finished", "descendants": {"cancelled": 151}}
    assert view_of(desk, grandchild).state == "cancelled"
    assert view_of(desk, stranger).state == "queued"
    wrong = await local.post(f"/_/runs/{top}/cancel?tree=perhaps")
    assert (wrong.status_code, wrong.json()["errors"][0]["name"]) == (422, "tree")


async def test_a_refused_message_is_not_redriven(local: httpx.AsyncClient, desk: Desk):
    refused, failed = refuse_message(desk), submit(desk, "shop.sell")
    worker = Worker(desk, "shop.sell")
    worker.fail(worker.claim())
    answer = await local.post(f"/_/runs/{refused}/redrive")
    assert (answer.status_code, "have it sent again" in answer.json()["detail"]) == (409, True)
    many = await local.post("/_/runs/redrive", json={"function": "shop.sell"})
    assert many.json()["runs"] == {failed: "queued", refused: "refused"}
    assert (await local.get(f"/_/runs/{refused}")).json()["reason"] == "bad message"


async def test_redrive_and_purge_say_when_a_state_does_not_allow_it(local: httpx.AsyncClient, desk: Desk):
    run_id = submit(desk, "shop.sell")
    worker = Worker(desk, "shop.sell")
    early = await local.post(f"/_/runs/{run_id}/redrive")
    assert (early.status_code, early.headers["retry-after"]) == (409, "5")
    assert (await local.delete(f"/_/runs/{run_id}")).status_code == 409
    worker.fail(worker.claim())
    assert (await local.post(f"/_/runs/{run_id}/redrive")).json() == {"id": run_id, "state": "queued"}
    assert (await local.get(f"/_/runs/{run_id}")).json()["redriven"] == 1
    worker.finish(worker.claim())
    answer = await local.post(f"/_/runs/{run_id}/redrive")
    assert (answer.status_code, "has succeeded" in answer.json()["detail"]) == (409, True)
    assert (await local.delete(f"/_/runs/{run_id}")).status_code == 204
    assert (await local.get(f"/_/runs/{run_id}")).status_code == 404


# --- many --------------------------------------------------------------------------------------------------------


async def test_the_list_can_be_narrowed_and_turned_page_by_page(local: httpx.AsyncClient, desk: Desk):
    sold = [submit(desk, "shop.sell", trigger="http") for _ in range(5)]
    counted = [submit(desk, "shop.count", trigger="cron") for _ in range(2)]
    worker = Worker(desk, "shop.sell")
    worker.fail(worker.claim())
    worker.finish(worker.claim())

    async def ids(query: str) -> list[str]:
        return [run["id"] for run in (await local.get(f"/_/runs?{query}")).json()["runs"]]

    assert sorted(await ids("")) == sorted(sold + counted)
    assert sorted(await ids("function=shop.sell&function=shop.count")) == sorted(sold + counted)
    assert await ids("function=shop.count") == counted[::-1]
    assert await ids("function=nobody") == []
    assert await ids("trigger=cron") == counted[::-1]
    assert await ids("state=failed") == [sold[0]]
    assert sorted(await ids("state=failed,succeeded")) == sorted(await ids("state=failed&state=succeeded"))
    assert sorted(await ids("state=failed,%20succeeded")) == sorted(sold[:2])
    assert len(await ids("since=1h")) == len(await ids("since=2026-01-01T00:00:00%2B01:00")) == 7
    assert len(await ids("since=2026-01-01T00:00:00+01:00")) == 7
    assert await ids("since=2099-01-01T00:00:00Z") == []
    pages, cursor = [], ""
    while True:
        page = (await local.get("/_/runs", params={"limit": 3, "cursor": cursor})).json()
        pages += [run["id"] for run in page["runs"]]
        if not (cursor := page["cursor"]):
            break
    assert (len(pages), sorted(pages)) == (7, sorted(sold + counted))


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("state=done", "state"), ("state=failed,faild", "state"), ("limit=0", "limit"), ("limit=1001", "limit"),
        ("limit=many", "limit"), ("limit=1&limit=", "limit"), ("since=yesterday", "since"), ("since=-5", "since"),
        ("since=2026-01-01T00:00:00", "since"), ("since=T", "since"), ("since=nan", "since"),
        ("since=2026-99-01T00:00:00Z", "since"),
        ("cursor=x", "cursor"), ("cursor=:", "cursor"), ("cursor=1:", "cursor"), ("cursor=%2Binf:a", "cursor"),
        ("cursor=(5:a", "cursor"), ("cursor=1e:a", "cursor"), ("cursor=" + "1" * 60 + ":a", "cursor"),
        ("cursor=1:" + "a" * 3000, "cursor"), ("fonction=shop.sell", "fonction"), ("Limit=5", "Limit"),
    ],
)  # fmt: skip
async def test_a_wrong_query_is_422_and_names_its_parameter(local: httpx.AsyncClient, query: str, name: str):
    answer = await local.get(f"/_/runs?{query}")
    assert (answer.status_code, answer.json()["errors"][0]["name"]) == (422, name)
    assert answer.json()["errors"][0]["in"] == "query"


async def test_a_cursor_of_garbage_that_looks_like_one_is_harmless(local: httpx.AsyncClient, desk: Desk):
    submit(desk, "shop.sell")
    for cursor in ("0:x", "99999999999999999999:x", "1.5:\u00e9", "1:a:b:c"):
        assert (await local.get("/_/runs", params={"cursor": cursor})).status_code == 200


async def test_many_are_acted_on_by_their_ids(local: httpx.AsyncClient, desk: Desk):
    failed, open_, done = (submit(desk, "shop.sell") for _ in range(3))
    worker = Worker(desk, "shop.sell")
    worker.fail(worker.claim())
    last = worker.claim()
    worker.finish(worker.claim())
    ids = [failed, open_, done, UNKNOWN, failed]
    answer = await local.post("/_/runs/redrive", json={"ids": ids})
    assert answer.json() == {
        "counts": {"queued": 1, "open": 1, "succeeded": 1, "unknown": 1},
        "runs": {failed: "queued", open_: "open", done: "succeeded", UNKNOWN: "unknown"},
        "cursor": "",
    }
    answer = await local.post("/_/runs/cancel", json={"ids": ids})
    assert answer.json()["counts"] == {"cancelled": 1, "cancelling": 1, "finished": 1, "unknown": 1}
    worker.finish(last)
    answer = await local.post("/_/runs/purge", json={"ids": ids})
    assert answer.json()["counts"] == {"purged": 3, "unknown": 1}


async def test_many_are_acted_on_as_they_are_selected(local: httpx.AsyncClient, desk: Desk):
    for _ in range(5):
        submit(desk, "shop.sell")
    submit(desk, "shop.count")
    worker = Worker(desk, "shop.sell", "shop.count")
    for _ in range(6):
        worker.fail(worker.claim())
    first = (await local.post("/_/runs/redrive", json={"function": "shop.sell", "limit": 3})).json()
    assert (first["counts"], bool(first["cursor"])) == ({"queued": 3}, True)
    rest = await local.post("/_/runs/redrive", json={"function": "shop.sell", "limit": 3, "cursor": first["cursor"]})
    assert (rest.json()["counts"], rest.json()["cursor"]) == ({"queued": 2}, "")
    assert (await local.post("/_/runs/cancel", json={"since": "1h"})).json()["counts"] == {"cancelled": 5}
    assert (await local.post("/_/runs/purge", json={"state": ["failed"]})).json()["counts"] == {"purged": 1}
    assert (await local.post("/_/runs/redrive", json={"state": "cancelled", "since": 60})).json()["counts"] == {
        "queued": 5
    }


@pytest.mark.parametrize(
    ("verb", "body", "name"),
    [
        ("redrive", {}, "ids"), ("redrive", {"ids": []}, "ids"), ("redrive", {"ids": "x"}, "ids"),
        ("redrive", {"ids": [1]}, "ids"), ("redrive", {"ids": ["x"], "function": "f"}, "ids"),
        ("redrive", {"ids": ["x"] * 1001}, "ids"), ("redrive", {"limit": 5}, "ids"),
        ("redrive", {"state": "succeeded"}, "state"), ("purge", {"state": "running"}, "state"),
        ("cancel", {"state": "failed"}, "state"), ("purge", {"function": "f", "limit": 0}, "limit"),
        ("purge", {"function": "f", "limit": True}, "limit"), ("purge", {"function": 5}, "function"),
        ("purge", {"fnction": "f"}, "fnction"), ("purge", {"function": "f", "cursor": "x"}, "cursor"),
        ("purge", {"since": "x"}, "since"), ("purge", {"since": -1}, "since"),
    ],
)  # fmt: skip
async def test_a_wrong_body_is_422_names_its_field_and_does_nothing(
    local: httpx.AsyncClient, desk: Desk, verb: str, body: dict, name: str
):
    run_id = submit(desk, "shop.sell")
    answer = await local.post(f"/_/runs/{verb}", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["name"]) == (422, name)
    assert answer.json()["errors"][0]["in"] == "body"
    assert view_of(desk, run_id).state == "queued"


async def test_a_body_that_is_no_object_is_refused(local: httpx.AsyncClient):
    assert (await local.post("/_/runs/redrive", content=b"{")).status_code == 400
    assert (await local.post("/_/runs/redrive", json=[1])).status_code == 422
    assert (await local.post("/_/runs/redrive", content=b"")).status_code == 422


# --- events ------------------------------------------------------------------------------------------------------


def events(text: str) -> list[tuple[str, dict]]:
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        found.append((fields["event"], json.loads(fields["data"])))
    return found


class Looks:
    """Counts the answers of the store to what is asked through a desk."""

    def __init__(self, desk: Desk) -> None:
        self.count = 0
        self._ask, desk.ask = desk.ask, self._counted

    async def _counted(self, call):
        found = await self._ask(call)
        self.count += 1
        return found

    async def again(self) -> None:
        """Wait until it was asked anew and answered: of the next two, the second was asked after now."""
        wanted = self.count + 2
        await asyncio.to_thread(until, lambda: self.count >= wanted)


async def test_events_tell_each_change_until_the_end(local: httpx.AsyncClient, desk: Desk):
    run_id = submit(desk, "shop.sell")
    looks = Looks(desk)
    listening = asyncio.create_task(local.get(f"/_/runs/{run_id}/events"))
    await looks.again()
    worker = Worker(desk, "shop.sell")
    run = worker.claim()
    await looks.again()
    desk.ask_sync(desk.ledger.beat("tester", [Held(run.id, run.token, run.queue, b'{"done":1}')]))
    await looks.again()
    worker.finish(run, 5)
    answer = await asyncio.wait_for(listening, 5)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    found = events(answer.text)
    assert [(kind, data.get("state", data)) for kind, data in found] == [
        ("state", "queued"), ("state", "running"), ("progress", {"done": 1}), ("finished", "succeeded"),
    ]  # fmt: skip
    assert found[-1][1]["result"] == 5
    assert "id: finished" in answer.text
    # Whoever comes back after the end is told to stay away.
    back = await local.get(f"/_/runs/{run_id}/events", headers={"last-event-id": "finished"})
    assert back.status_code == 204


async def test_events_of_a_run_that_is_purged_end(local: httpx.AsyncClient, desk: Desk):
    run_id = submit(desk, "shop.sell")
    looks = Looks(desk)
    listening = asyncio.create_task(local.get(f"/_/runs/{run_id}/events"))
    await looks.again()
    desk.ask_sync(desk.ledger.cancel([run_id]))
    desk.ask_sync(desk.ledger.purge([run_id]))
    assert events((await asyncio.wait_for(listening, 5)).text)[0][0] == "state"


# --- queues ------------------------------------------------------------------------------------------------------


async def test_queues_say_how_long_they_are_and_can_be_paused(local: httpx.AsyncClient, desk: Desk):
    submit(desk, "shop.sell")
    submit(desk, "shop.sell", due=4e9)
    submit(desk, "shop.sell", queue="other")
    (first, second) = (await local.get("/_/queues")).json()["queues"]
    assert first.pop("age_seconds") >= 0
    assert first == {
        "name": "default",
        "ready": 1,
        "later": 1,
        "running": 0,
        "unknown": 0,
        "limited": 0,
        "paused": False,
    }
    assert second["name"] == "other"
    paused = await local.post("/_/queues/other/pause")
    assert paused.json() == {"name": "other", "paused": True, "changed": True}
    assert (await local.post("/_/queues/other/pause")).json()["changed"] is False
    assert (await local.get("/_/queues")).json()["queues"][1]["paused"] is True
    assert (await local.post("/_/queues/other/resume")).json()["paused"] is False


async def test_a_name_no_queue_can_have_is_refused(local: httpx.AsyncClient):
    for verb in ("pause", "resume"):
        answer = await local.post(f"/_/queues/a%20b/{verb}")
        assert (answer.status_code, answer.json()["errors"][0]["name"]) == (422, "name")


# --- without a store ---------------------------------------------------------------------------------------------


async def test_without_a_store_runs_and_queues_are_503(root: Path, gone: Desk, log):
    for desk in (None, gone):
        async with client_of(load_project(root), desk=desk, open_locally=True) as client:
            for method, path in [
                ("GET", "/_/runs"), ("GET", f"/_/runs/{UNKNOWN}"), ("GET", f"/_/runs/{UNKNOWN}/events"),
                ("POST", f"/_/runs/{UNKNOWN}/cancel"), ("DELETE", f"/_/runs/{UNKNOWN}"), ("GET", "/_/queues"),
                ("POST", "/_/queues/default/pause"),
            ]:  # fmt: skip
                answer = await client.request(method, path)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
                assert answer.headers["content-type"] == "application/problem+json"


async def test_health_says_what_the_store_keeps_and_ready_stays(root: Path, desk: Desk, gone: Desk, log):
    async with client_of(load_project(root), desk=desk) as client:
        assert (await client.get("/_/health")).json()["store"] == "none: a test's"
        assert (await client.get("/_/ready")).json() == {"status": "ready", "store": "none: a test's"}
    async with client_of(load_project(root), desk=gone) as client:
        for path in ("/_/health", "/_/ready"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["store"]) == (200, "down")
            assert "nobody" not in answer.text


async def test_health_waits_a_second_for_a_silent_store_and_then_knows(root: Path, frozen: Desk, log):
    async with client_of(load_project(root), desk=frozen) as client:
        for most_seconds in (1.5, 0.5):
            began = time.monotonic()
            found = await asyncio.gather(*(client.get(f"/_/{path}") for path in ("health", "ready", "health")))
            assert [answer.json()["store"] for answer in found] == ["down"] * 3
            assert time.monotonic() - began < most_seconds


async def test_health_hears_when_the_store_is_back(root: Path, desk: Desk, gone: Desk, log, monkeypatch):
    monkeypatch.setattr("runtime.admin.health._FRESH_SECONDS", 0.0)
    async with client_of(load_project(root), desk=desk) as client:
        with monkeypatch.context() as away:
            away.setattr(desk, "ask", gone.ask)
            assert (await client.get("/_/health")).json()["store"] == "down"
            assert (await client.get("/_/health")).json()["store"] == "down"
        assert (await client.get("/_/health")).json()["store"] == "none: a test's"
    assert len([line for line in log.entries if line["event"] == "the store does not answer"]) == 1


async def test_events_sit_out_an_outage_of_the_store(local: httpx.AsyncClient, desk: Desk, gone: Desk, monkeypatch):
    run_id = submit(desk, "shop.sell")
    looks = Looks(desk)
    listening = asyncio.create_task(local.get(f"/_/runs/{run_id}/events"))
    await looks.again()
    with monkeypatch.context() as away:
        away.setattr(desk, "ask", gone.ask)
        away.setattr(desk, "finished", gone.finished)
        await asyncio.sleep(0.5)  # it is away for so long
        assert not listening.done()
    worker = Worker(desk, "shop.sell")
    worker.finish(worker.claim(), 5)
    assert events((await asyncio.wait_for(listening, 10)).text)[-1][0] == "finished"


async def test_events_end_when_the_process_stops(root: Path, desk: Desk, log):
    role = HttpRole(load_project(root), open_locally=True, desk=desk)
    async with client_on(role) as client:
        looks = Looks(desk)
        listening = asyncio.create_task(client.get(f"/_/runs/{submit(desk, 'shop.sell')}/events"))
        await looks.again()
        role.core.draining = True
        assert [kind for kind, _ in events((await asyncio.wait_for(listening, 5)).text)] == ["state"]
