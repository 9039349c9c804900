"""Access keys and the audit log over HTTP; what is known of attacks on them."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from runtime.ledger.access.keys import revoke_key
from runtime.ledger.desk import Desk
from runtime.projects import load_project
from tests.conftest import client_of
from tests.desks import Worker, submit
from tests.keys import bearer, key_in

FILES = {
    "functions/shop.py": """
        from runtime import http, interval

        @http.post("/sell")
        async def sell(n: int) -> str:
            return "<script>alert(1)</script>"

        @http.get("/page", auth="public")
        async def page() -> str:
            return "<script>alert(1)</script>"

        @interval("1h", name="night")
        def sweep() -> None: ...
        """
}


@pytest.fixture
def root(write_project) -> Path:
    return write_project(**FILES)


@pytest.fixture
async def client(root: Path, desk: Desk, log):
    async with client_of(load_project(root), desk=desk) as client:
        yield client


@pytest.fixture
def admin(desk: Desk) -> dict[str, str]:
    return bearer(key_in(desk, "admin", name="ops"))


async def entries(client: httpx.AsyncClient, admin: dict[str, str], query: str = "") -> list[tuple[str, str, dict]]:
    found = (await client.get(f"/_/audit{query}", headers=admin)).json()["entries"]
    return [(one["action"], one["target"], one["details"]) for one in found]


async def test_keys_are_made_listed_and_revoked(client, admin):
    made = await client.post("/_/keys", json={"name": "ci", "scopes": ["read"], "expires": "1h"}, headers=admin)
    key = made.json()
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    assert (await client.get("/_/runs", headers=bearer(key["key"]))).status_code == 200
    listed = (await client.get("/_/keys", headers=admin)).json()["keys"]
    assert [one["name"] for one in listed] == ["ops", "ci"]
    assert not {"key", "hash"} & listed[1].keys()
    assert (await client.delete(f"/_/keys/{key['id']}", headers=admin)).status_code == 204
    assert (await client.delete(f"/_/keys/{key['id']}", headers=admin)).status_code == 404
    assert (await client.delete(f"/_/keys/{listed[0]['id']}", headers=admin)).status_code == 409
    assert await entries(client, admin) == [
        ("keys.revoke", key["id"], {}),
        ("keys.create", key["id"], {"name": "ci", "expires": "1h", "scopes": ["read"]}),
    ]


@pytest.mark.parametrize(
    ("body", "name"),
    [({"scopes": ["root"]}, "scopes"), ({"scopes": []}, "scopes"), ({"expires": "soon"}, "expires"), ({"x": 1}, "x"),
     ({"name": "a\nb"}, "name")],
)  # fmt: skip
async def test_what_is_wrong_with_a_new_key_is_said(client, admin, body: dict, name: str):
    answer = await client.post("/_/keys", json=body, headers=admin)
    assert (answer.status_code, answer.json()["errors"][0]["name"]) == (422, name)
    assert await entries(client, admin) == []


async def test_a_key_revoked_here_is_refused_there_within_a_second(client, admin, desk, root):
    token = key_in(desk, "invoke")
    async with client_of(load_project(root), desk=desk) as other:
        assert (await other.post("/sell", json={"n": 1}, headers=bearer(token))).status_code == 200
        assert (await client.delete(f"/_/keys/{token.split('_')[1]}", headers=admin)).status_code == 204
        await asyncio.sleep(1)  # what is promised
        assert (await other.post("/sell", json={"n": 1}, headers=bearer(token))).status_code == 401


ACTS = {
    "runs.cancel": ("POST", "/_/runs/{run}/cancel", None, "{run}", {}),
    "runs.redrive": ("POST", "/_/runs/redrive", {"function": "shop.sell"}, "",
                     {"function": "shop.sell", "counts": {}, "ids": []}),
    "runs.purge": ("POST", "/_/runs/purge", {"ids": ["{run}"]}, "{run}", {"counts": {"open": 1}}),
    "callbacks.retry": ("POST", "/_/callbacks/retry", {"ids": ["a", "b"]}, "", {"ids": ["a", "b"], "count": 2}),
    "queues.pause": ("POST", "/_/queues/q/pause", None, "q", {}),
    "queues.resume": ("POST", "/_/queues/q/resume", None, "q", {}),
    "schedules.add": (
        "POST", "/_/schedules", {"id": "mine", "function": "shop.sweep", "interval": "2h"}, "mine",
        {"function": "shop.sweep", "interval": "2h"},
    ),
    "schedules.change": ("PATCH", "/_/schedules/shop.sweep:night", {"interval": "3h"}, "shop.sweep:night",
                         {"interval": "3h"}),
    "schedules.run": ("POST", "/_/schedules/shop.sweep:night/run", None, "shop.sweep:night", {}),
    "schedules.pause": ("POST", "/_/schedules/shop.sweep:night/pause", None, "shop.sweep:night", {}),
}  # fmt: skip


@pytest.mark.parametrize("action", ACTS)
async def test_what_is_done_is_written_down(client, admin, desk, action: str):
    method, path, body, target, details = ACTS[action]
    run = submit(desk, "shop.sell")
    content = json.dumps(body).replace("{run}", run) if body else ""
    answer = await client.request(method, path.format(run=run), content=content, headers=admin)
    assert answer.is_success, answer.text
    assert await entries(client, admin) == [(action, target.format(run=run), details)]
    assert (await client.get("/_/audit?limit=1", headers=admin)).json()["entries"][0]["actor"]["name"] == "ops"


async def test_whoever_revokes_the_own_key_is_in_the_log(client, admin, desk, monkeypatch):
    own = key_in(desk, "admin", name="leaver")

    async def revoke(*arguments, **options):
        word = await revoke_key(*arguments, **options)
        assert (await client.get("/_/keys", headers=bearer(own))).status_code == 401, "it is known here already"
        return word

    monkeypatch.setattr("runtime.admin.access.keys.revoke_key", revoke)
    monkeypatch.setattr("runtime.ledger.access.keyring._LOOK_SECONDS", 0.0)
    assert (await client.delete(f"/_/keys/{key_id(own)}", headers=bearer(own))).status_code == 204
    [entry] = (await client.get("/_/audit", headers=admin)).json()["entries"]
    assert (entry["action"], entry["actor"]["name"]) == ("keys.revoke", "leaver")


async def test_the_last_administrator_that_is_forced_out_and_runs_in_bulk_are_told(client, admin, desk):
    run = submit(desk, "shop.sell")
    await client.post("/_/runs/cancel", json={"ids": [run]}, headers=admin)
    assert await entries(client, admin) == [("runs.cancel", run, {"counts": {"cancelled": 1}})]
    other = key_in(desk, "admin")
    await client.delete(f"/_/keys/{key_id(other)}?force=true", headers=admin)
    assert (await entries(client, admin))[0] == ("keys.revoke", key_id(other), {"force": True})


def key_id(token: str) -> str:
    return token.split("_")[1]


async def test_what_is_refused_and_what_only_looks_is_not(client, admin, desk):
    reader = bearer(key_in(desk, "read"))
    assert (await client.post("/_/queues/q/pause", headers=reader)).status_code == 403
    assert (await client.post("/_/runs/nobody/cancel", headers=admin)).status_code == 404
    assert (await client.get("/_/queues", headers=admin)).status_code == 200
    assert await entries(client, admin) == []


async def test_the_address_in_the_log_is_the_connections_whatever_a_header_says(client, admin):
    spoofed = {"x-forwarded-for": "198.51.100.7", "forwarded": "for=198.51.100.7", "x-real-ip": "198.51.100.7"}
    await client.post("/_/queues/q/pause", headers=admin | spoofed)
    [entry] = (await client.get("/_/audit", headers=admin)).json()["entries"]
    assert entry["actor"]["address"] == "127.0.0.1"


@pytest.mark.parametrize("scopes", [(), ("read",), ("invoke",), ("read", "invoke")])
async def test_what_administers_takes_a_key_that_may(client, desk, scopes: tuple[str, ...]):
    headers = bearer(key_in(desk, *scopes)) if scopes else {}
    for method, path in (
        ("GET", "/_/keys"), ("POST", "/_/keys"), ("DELETE", "/_/keys/x"), ("GET", "/_/audit"),
        ("POST", "/_/runs/purge"), ("POST", "/_/queues/q/pause"), ("DELETE", "/_/schedules/x"),
    ):  # fmt: skip
        assert (await client.request(method, path, headers=headers)).status_code == (403 if scopes else 401), path


async def test_another_keys_run_is_not_shown_and_not_cancelled(client, desk):
    run = submit(desk, "shop.sell")
    other = bearer(key_in(desk, "invoke:shop.page"))
    assert (await client.get(f"/_/runs/{run}", headers=other)).status_code == 403
    assert (await client.get(f"/_/runs/{run}/events", headers=other)).status_code == 403
    assert (await client.post(f"/_/runs/{run}/cancel", headers=other)).status_code == 403
    assert (await client.get(f"/_/runs/{run}")).status_code == 401


async def test_a_script_in_a_runs_result_is_text_to_a_browser(client, admin, desk):
    run_id = submit(desk, "shop.sell")
    worker = Worker(desk, "shop.sell")
    worker.finish(worker.claim(), "<script>alert(1)</script>")
    for path in (f"/_/runs/{run_id}", "/_/runs", "/page"):
        answer = await client.get(path, headers={**admin, "accept": "text/html"})
        assert answer.headers["content-type"] == "application/json", path


async def test_a_page_of_another_origin_cannot_act_in_dev(root, desk, log):
    async with client_of(load_project(root), desk=desk, open_locally=True) as client:
        for path in ("/_/keys", "/_/queues/q/pause"):
            answer = await client.post(path, json={}, headers={"origin": "http://evil.example"})
            assert answer.status_code == 403, path
        [*found] = (await client.get("/_/audit")).json()["entries"]
        assert found == []


async def test_the_store_away_is_503_and_no_wrong_key(root, gone, log):
    async with client_of(load_project(root), desk=gone) as client:
        answer = await client.post("/sell", json={"n": 1}, headers=bearer("fnrun_0_x"))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert (await client.post("/sell", json={"n": 1})).status_code == 401
