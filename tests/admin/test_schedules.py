"""/_/schedules, on a real store: looking, changing, running, who may, and what is asked wrongly."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from runtime.ledger.desk import Desk
from runtime.projects import load_project
from tests.conftest import client_of
from tests.desks import Worker, view_of
from tests.keys import key_in
from tests.schedulers import Scheduler

FILES = {
    "functions/shop.py": """
        from runtime import Tick, cron, fn, http, interval, queue

        @cron("0 4 * * *", tz="Europe/Paris", name="night", payload={"n": 1})
        @queue("sales")
        def count(n: int = 0) -> int: ...

        @interval("1h", overlap="queue", jitter="30s")
        async def poll(tick: Tick): ...

        @fn()
        async def remind(user: int): ...
        """
}
NIGHT = "/_/schedules/shop.count:night"
FIELDS = [
    "id", "function", "kind", "rule", "timezone", "source", "place", "payload", "missed", "overlap", "jitter_seconds",
    "window_seconds", "timeout_seconds", "paused", "overrides", "registered", "last_planned_at", "last_run",
    "last_success_at", "open", "waiting", "runs", "missed_count", "overlapped_count", "next",
]  # fmt: skip


@pytest.fixture
def root(write_project) -> Path:
    return write_project(**FILES)


@pytest.fixture
def scheduler(local: httpx.AsyncClient, desk: Desk) -> Scheduler:
    """One that has registered what the project declares."""
    return Scheduler(desk)


async def asked(answer: httpx.Response, status: int = 200):
    assert answer.status_code == status, answer.text
    return answer.json()


# --- looking -----------------------------------------------------------------------------------------------------


async def test_schedules_are_listed_before_any_scheduler_ran(local: httpx.AsyncClient):
    found = await asked(await local.get("/_/schedules"))
    assert found["cursor"] == ""
    [night, poll] = found["schedules"]
    assert list(night) == FIELDS
    assert (night["id"], night["registered"], night["source"]) == ("shop.count:night", False, "code")
    assert night["place"] == "functions/shop.py:4"
    assert (night["kind"], night["rule"], night["timezone"]) == ("cron", "0 4 * * *", "Europe/Paris")
    assert (night["payload"], night["window_seconds"], night["timeout_seconds"]) == ({"n": 1}, 3600.0, None)
    [fire] = night["next"]
    assert fire["at"].endswith(":00:00.000Z")
    assert fire["local"][10:19] == "T04:00:00"
    assert (poll["overlap"], poll["jitter_seconds"]) == ("queue", 30.0)


async def test_one_shows_what_became_of_its_ticks(local: httpx.AsyncClient, scheduler: Scheduler, desk: Desk):
    found = await asked(await local.get(NIGHT, params={"next": 3}))
    assert list(found) == [*FIELDS, "skips"]
    assert (found["registered"], found["runs"], found["skips"], len(found["next"])) == (True, 0, [], 3)
    planned = scheduler.entry("shop.count:night").last_ms + 1
    [run_id] = scheduler.fire("shop.count:night", planned, missed=2)
    worker = Worker(desk, "shop.count", queues=("sales",))
    worker.finish(worker.claim(), 1)
    found = await asked(await local.get(NIGHT))
    when = datetime.fromtimestamp(planned / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert (found["last_run"], found["last_planned_at"], found["last_success_at"]) == (run_id, when, when)
    assert (found["runs"], found["open"], found["missed_count"]) == (1, 0, 2)
    assert [(skip["count"], skip["why"]) for skip in found["skips"]] == [(2, "missed")]
    assert (await asked(await local.get(f"/_/runs/{run_id}")))["trigger"] == "cron"


async def test_a_function_with_one_schedule_stands_for_it(local: httpx.AsyncClient):
    assert (await asked(await local.get("/_/schedules/shop.count")))["id"] == "shop.count:night"
    await local.post("/_/schedules", json={"id": "x", "function": "shop.count", "cron": "@daily"})
    problem = await asked(await local.get("/_/schedules/shop.count"), 409)
    assert problem["detail"] == "shop.count has 2 schedules; say which, by its id: shop.count:night, x"


async def test_a_list_has_pages_and_may_be_of_some_functions(local: httpx.AsyncClient):
    for n in range(5):
        body = {"id": f"u:{n}", "function": "shop.remind", "interval": 60, "payload": {"user": n}}
        await asked(await local.post("/_/schedules", json=body), 201)
    found, cursor = [], ""
    for size in (3, 3, 1):
        page = await asked(await local.get("/_/schedules", params={"limit": 3, "cursor": cursor, "next": 0}))
        assert len(page["schedules"]) == size
        assert all(one["next"] == [] for one in page["schedules"])
        found, cursor = found + [one["id"] for one in page["schedules"]], page["cursor"]
    assert cursor == ""
    assert found == sorted(found)
    assert len(set(found)) == 7
    page = await asked(await local.get("/_/schedules?function=shop.remind&function=shop.count&limit=2"))
    assert [one["id"] for one in page["schedules"]] == ["shop.count:night", "u:0"]
    assert page["cursor"] == "u:0"


# --- changing ----------------------------------------------------------------------------------------------------


async def test_one_is_added_replaced_and_removed(local: httpx.AsyncClient):
    body = {
        "id": "once", "function": "shop.remind", "payload": {"user": 1}, "timeout": "1m", "overlap": 2,
        "at": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
    }  # fmt: skip
    found = await asked(await local.post("/_/schedules", json=body), 201)
    assert (found["kind"], found["source"], found["timeout_seconds"], found["overlap"]) == ("at", "added", 60.0, 2)
    assert "already; say replace" in (await asked(await local.post("/_/schedules", json=body), 409))["detail"]
    again = {**body, "at": None, "cron": "@daily", "replace": True}
    assert (await asked(await local.post("/_/schedules", json=again), 201))["rule"] == "0 0 * * *"
    assert (await local.delete("/_/schedules/once")).status_code == 204
    assert "no schedule" in (await asked(await local.delete("/_/schedules/once"), 404))["detail"]
    assert "is declared in functions/shop.py:4" in (await asked(await local.delete(NIGHT), 409))["detail"]


async def test_a_change_shows_as_an_override_until_it_is_reset(local: httpx.AsyncClient, scheduler: Scheduler):
    found = await asked(await local.patch(NIGHT, json={"cron": "0 3 * * *", "missed": "all"}))
    assert found["overrides"] == {
        "rule": {"declared": "0 4 * * *", "now": "0 3 * * *"},
        "missed": {"declared": "latest", "now": "all"},
    }
    assert (found["rule"], found["missed"]) == ("0 3 * * *", "all")
    assert scheduler.entry("shop.count:night").effective.timing.cron == "0 3 * * *"
    found = await asked(await local.post(f"{NIGHT}/reset"))
    assert (found["rule"], found["overrides"]) == ("0 4 * * *", {})


async def test_pause_and_resume_say_whether_that_changes_anything(local: httpx.AsyncClient, scheduler: Scheduler):
    for verb, paused, changed in (
        ("pause", True, True), ("pause", True, False), ("resume", False, True), ("resume", False, False),
    ):  # fmt: skip
        found = await asked(await local.post(f"{NIGHT}/{verb}"))
        assert found == {"id": "shop.count:night", "paused": paused, "changed": changed}
        assert scheduler.entry("shop.count:night").paused is paused


async def test_one_runs_at_once(local: httpx.AsyncClient, desk: Desk):
    answer = await local.post(f"{NIGHT}/run")
    found = await asked(answer, 202)
    assert answer.headers["location"] == f"/_/runs/{found['id']}"
    assert found == {
        "id": found["id"], "state": "queued", "function": "shop.count", "queue": "sales",
        "schedule": "shop.count:night",
    }  # fmt: skip
    view = view_of(desk, found["id"])
    assert (view.function, view.queue, view.trigger) == ("shop.count", "sales", "manual")


async def test_a_backfill_is_counted_and_then_run(local: httpx.AsyncClient, desk: Desk):
    body = {"from": "2024-10-26", "to": "2024-10-29"}
    found = await asked(await local.post(f"{NIGHT}/backfill", json={**body, "dry_run": True}))
    assert found == {
        "id": "shop.count:night", "ticks": 3, "new": 0, "known": 0,
        "first_planned_at": "2024-10-26T02:00:00.000Z", "last_planned_at": "2024-10-28T03:00:00.000Z",
    }  # fmt: skip
    found = await asked(await local.post(f"{NIGHT}/backfill", json=body))
    assert (found["ticks"], found["new"], found["known"]) == (3, 3, 0)
    found = await asked(await local.post(f"{NIGHT}/backfill", json=body))
    assert (found["new"], found["known"]) == (0, 3)
    runs = (await asked(await local.get("/_/runs?trigger=backfill")))["runs"]
    assert len(runs) == 3


# --- who may, and what is asked wrongly ----------------------------------------------------------------------------


async def test_looking_takes_a_key_that_reads_and_acting_one_that_may_all(root: Path, desk: Desk, log):
    scopes = ("read", "invoke", "admin")
    tokens = {scope: key_in(desk, scope) for scope in scopes}
    async with client_of(load_project(root), desk=desk) as client:

        async def status(method: str, path: str, scope: str) -> int:
            headers = {"authorization": f"Bearer {tokens[scope]}"} if scope else {}
            return (await client.request(method, path, headers=headers)).status_code

        for method, path in (("GET", "/_/schedules"), ("GET", NIGHT)):
            assert [await status(method, path, scope) for scope in ("", *scopes)] == [401, 200, 403, 200]
        acts = [("POST", "/_/schedules"), ("PATCH", NIGHT), ("DELETE", NIGHT)]
        acts += [("POST", f"{NIGHT}/{verb}") for verb in ("reset", "pause", "resume", "run", "backfill")]
        for method, path in acts:
            assert [await status(method, path, scope) for scope in ("", "read", "invoke")] == [401, 403, 403]
        assert await status("POST", f"{NIGHT}/run", "admin") == 202


async def test_a_ticks_run_takes_a_key_for_its_id_could_be_guessed(write_project, desk: Desk, log):
    public = """
        from runtime import cron, http

        @http.get("/now", auth="public")
        @cron("@daily", name="d")
        def now(): ...
        """
    root = write_project(**{"functions/now.py": public})
    async with client_of(load_project(root), desk=desk) as client:
        scheduler = Scheduler(desk)
        [run_id] = scheduler.fire("now:d", scheduler.entry("now:d").last_ms + 1)
        assert (await client.get(f"/_/runs/{run_id}")).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "body", "name", "says"),
    [
        ("POST", "", {"function": "shop.count", "cron": "@daily"}, "", "missing required field `id`"),
        ("POST", "", {"id": "a b", "function": "shop.count", "cron": "@daily"}, "id", "1 to 100 of"),
        ("POST", "", {"id": "x", "function": "shop.cuont", "cron": "@daily"}, "function", 'did you mean "shop.count"'),
        ("POST", "", {"id": "x", "function": "shop.count"}, "cron", "say when it fires"),
        ("POST", "", {"id": "x", "function": "shop.count", "cron": "61 * * * *"}, "cron", ""),
        ("POST", "", {"id": "x", "function": "shop.count", "interval": 0}, "interval", ""),
        (
            "POST",
            "",
            {"id": "x", "function": "shop.count", "cron": "@daily", "windw": 1},
            "windw",
            'did you mean "window"',
        ),
        ("POST", "", {"id": "x", "function": "shop.remind", "cron": "@daily"}, "payload", "user: required"),
        ("PATCH", "/shop.count", {}, "", "say what to change"),
        ("PATCH", "/shop.count", {"tz": "Nowhere"}, "tz", "unknown time zone"),
        ("PATCH", "/shop.count", {"payload": [1]}, "payload", "Expected `object | null`"),
        ("PATCH", "/shop.count", {"timeout": "1s"}, "timeout", "there is no such field"),
        ("POST", "/shop.count/backfill", {}, "", "missing required field `from`"),
        ("POST", "/shop.count/backfill", {"from": "x"}, "from", "a date"),
        ("POST", "/shop.count/backfill", {"from": "2024-10-26", "to": "2999-01-01"}, "to", "in the future"),
    ],
)
async def test_what_is_asked_wrongly_is_told_under_its_name(local, method, path, body, name, says):
    problem = await asked(await local.request(method, f"/_/schedules{path}", json=body), 422)
    [error] = problem["errors"]
    assert (error["in"], error["name"]) == ("body", name)
    assert says in error["detail"]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "next=101", "cursor=a%20b", "functions=x"])
async def test_queries_are_checked(local, query):
    assert (await local.get(f"/_/schedules?{query}")).status_code == 422


async def test_a_store_that_is_away_is_told(root: Path, gone: Desk, log):
    async with client_of(load_project(root), desk=gone, open_locally=True) as client:
        answer = await client.get("/_/schedules")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
