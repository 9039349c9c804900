"""/_/callbacks, and the command for it: what was given up is looked at, and tried again."""

from pathlib import Path

import httpx
import pytest

from runtime.base.sections import CallbackSettings, Settings
from runtime.ledger.callbacks.calls import take, tell
from runtime.ledger.callbacks.records import Told
from runtime.ledger.desk import Desk
from runtime.projects import load_project
from tests.commands import command, good
from tests.conftest import client_of
from tests.desks import Worker, submit, view_of
from tests.keys import bearer, key_in
from tests.receivers import new_secret

FILES = {
    "functions/shop.py": """
        from runtime import http

        @http.post("/open", auth="public")
        async def open_door() -> str: ...

        @http.post("/sell")
        async def sell() -> str: ...
        """
}
URL = "https://example.com/hook?key=very-secret"


@pytest.fixture
def root(write_project, valkey: Path, desk: Desk) -> Path:
    namespace = desk.store.namespace
    settings = (
        f'[store]\nurl = "unix://{valkey}"\nnamespace = "{namespace}"\n[callbacks]\nsecrets = ["{new_secret()}"]\n'
    )
    return write_project(**FILES, **{"functions.toml": settings})


@pytest.fixture
def dead(desk: Desk) -> tuple[str, str]:
    """A callback that was given up: the run's id, and its own."""
    run_id = submit(desk, "shop.sell", callback=URL)
    worker = Worker(desk, "shop.sell")
    worker.finish(worker.claim())
    [message] = desk.ask_sync(take(desk.ledger, 1, 10.0))
    told = Told(id=message.id, token=message.token, verdict="dead", status=410, error="it answered 410")
    assert desk.ask_sync(tell(desk.ledger, [told])) == [True]
    return run_id, message.id


async def test_what_was_given_up_is_shown_without_secrets_and_tried_again(
    local: httpx.AsyncClient, desk: Desk, dead: tuple[str, str]
):
    run_id, message = dead
    found = (await local.get("/_/callbacks")).json()
    assert found["count"] == 1
    (one,) = found["callbacks"]
    assert one.items() >= {
        "id": message, "run": run_id, "function": "shop.sell", "outcome": "succeeded", "state": "dead", "tries": 1,
        "status": 410, "error": "it answered 410", "url": "https://example.com/hook?****",
    }.items()  # fmt: skip
    run = await local.get(f"/_/runs/{run_id}")
    assert run.json()["callback"].items() >= {"id": message, "state": "dead"}.items()
    assert "very-secret" not in run.text
    assert (await local.post(f"/_/callbacks/{message}/retry")).json() == {"id": message, "state": "waiting"}
    assert (await local.get("/_/callbacks?state=waiting")).json()["callbacks"][0]["id"] == message
    [again] = desk.ask_sync(take(desk.ledger, 1, 10.0))
    assert desk.ask_sync(tell(desk.ledger, [Told(id=again.id, token=again.token, verdict="delivered", status=200)]))
    assert (await local.post(f"/_/callbacks/{message}/retry")).status_code == 409
    assert (await local.post("/_/callbacks/nobody/retry")).status_code == 404
    assert (await local.get("/_/callbacks?state=open")).status_code == 422


async def test_only_a_key_for_all_looks_and_tries(root: Path, desk: Desk, dead: tuple[str, str]):
    tokens = {scope: key_in(desk, scope) for scope in ("read", "invoke", "admin")}
    async with client_of(load_project(root), desk=desk) as client:
        statuses = {
            scope: [
                (await client.request(method, path, headers={"authorization": f"Bearer {token}"})).status_code
                for method, path in (("GET", "/_/callbacks"), ("POST", f"/_/callbacks/{dead[1]}/retry"))
            ]
            for scope, token in tokens.items()
        }
        assert statuses == {"read": [200, 403], "invoke": [403, 403], "admin": [200, 200]}
        shown = await client.get(f"/_/runs/{dead[0]}", headers={"authorization": f"Bearer {tokens['invoke']}"})
        assert shown.json()["callback"]["state"] == "waiting"
        assert "example.com" not in shown.text


async def test_a_caller_asks_for_a_callback_by_a_header(root: Path, desk: Desk):
    key = bearer(key_in(desk, "invoke:shop.open_door"))
    later = {"prefer": "respond-async", "x-callback-url": URL}
    async with client_of(load_project(root), desk=desk) as client:
        refused = await client.post("/open", headers={**later, **key})
        assert (refused.status_code, "[callbacks] secrets" in refused.json()["detail"]) == (422, True)
        desk.settings = Settings(callbacks=CallbackSettings(secrets=(new_secret(),)))
        for headers in ({}, key):
            plain = await client.post("/open", headers={"prefer": "respond-async", **headers})
            assert plain.status_code == 202
        assert (await client.post("/open", headers=later)).status_code == 401
        accepted = await client.post("/open", headers={**later, **key, "idempotency-key": "k"})
        found = view_of(desk, accepted.json()["id"]).callback
        assert found is not None
        assert (found.url, found.state) == (URL, "open")
        for url in ("http://127.0.0.1/", "http://[::1]/", "x", "https://a@example.com/"):
            assert (await client.post("/open", headers={**later, **key, "x-callback-url": url})).status_code == 422


def test_the_command_lists_and_tries_again(root: Path, desk: Desk, dead: tuple[str, str]):
    with command(root, desk, there=False) as fnrun:
        said = good(fnrun("callbacks", "list"))
        assert dead[1] in said
        assert "it answered 410" in said
        assert good(fnrun("callbacks", "retry", dead[1])).split() == [dead[1], "waiting"]
        assert dead[1] in good(fnrun("callbacks", "list", "--waiting", "--json"))
        assert fnrun("callbacks", "retry", "nobody").exit_code == 1
        run_id = good(fnrun("invoke", "shop.sell", "--async", "--callback", URL)).strip()
        found = view_of(desk, run_id).callback
        assert found is not None
        assert found.url == URL
