"""Callbacks the whole way: real workers, a receiver that verifies, deaths and outages in between."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from runtime.base.settings import load_settings
from runtime.ledger.callbacks.calls import retry
from runtime.ledger.callbacks.records import CallbackView
from runtime.ledger.desk import Desk
from tests.desks import Worker, view_of
from tests.desks import submit as submit_run
from tests.keys import bearer, key_in
from tests.live_servers import until
from tests.live_workers import Starts, workers
from tests.receivers import Receiver, Request, new_secret
from tests.wire_servers import Wired, write_files

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

PATIENCE, ATTEMPTS = 30.0, 4
SECRET, OLD_SECRET = new_secret(), new_secret()
FUNCTIONS = """
    from runtime import Retry, chain, fn, http, step, submit

    @http.post("/add")
    async def add(x: int, y: int = 1) -> int:
        return x + y

    @http.post("/fail", auth="public")
    @fn(retries=Retry(attempts=2, wait="50ms..50ms"))
    async def fail() -> None:
        raise ValueError("no such luck")

    @fn()
    async def begin(url: str) -> str:
        return (await submit.using(callback=url)(chain(step(add, x=1), step(add, x=2)))).id
"""
SETTINGS = f"""
    [http]
    auth = "key"
    [callbacks]
    secrets = ["{SECRET}", "{OLD_SECRET}"]
    allow_private = true
    timeout = "1s"
    attempts = {ATTEMPTS}
    retry_first = "300ms"
    retry_longest = "1s"
"""


@pytest.fixture
def project(tmp_path: Path, desk: Desk) -> Path:
    root = write_files(tmp_path, **{"functions/app.py": FUNCTIONS, "functions.toml": SETTINGS})
    desk.settings = load_settings(root).settings
    return root


@pytest.fixture
def start(project: Path, desk: Desk, valkey: Path) -> Iterator[Starts]:
    with workers(project, f"unix://{valkey}") as start:
        yield lambda: start(FNRUN_STORE__NAMESPACE=desk.store.namespace)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def submit(desk: Desk, url: str) -> str:
    return submit_run(desk, "app.add", payload=b'{"x": 1}', callback=url)


def callback(desk: Desk, run_id: str) -> CallbackView:
    found = view_of(desk, run_id).callback
    assert found is not None
    return found


def delivered(desk: Desk, run_id: str) -> CallbackView:
    until(lambda: callback(desk, run_id).state == "delivered", PATIENCE)
    return callback(desk, run_id)


def arrived(receiver: Receiver, count: int) -> list[Request]:
    until(lambda: len(receiver.requests) >= count, PATIENCE)
    return receiver.requests


def test_the_end_of_a_run_comes_signed_to_whoever_asked_for_it(
    project: Path, desk: Desk, start: Starts, receiver: Receiver
):
    start()
    server = Wired(project, auth="key", desk=desk)
    key = bearer(key_in(desk, "admin"))
    later = {"prefer": "respond-async", "x-callback-url": receiver.url}
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as client:
        accepted = client.post("/add", json={"x": 2}, headers={**key, **later})
        assert accepted.status_code == 202
        (request,) = arrived(receiver, 1)
        run_id = accepted.json()["id"]
        for secret in (SECRET, OLD_SECRET):
            assert request.verified(secret)["data"]["id"] == run_id
        told = request.verified(SECRET)
        assert told["type"] == "run.succeeded"
        assert told["data"].items() >= {"function": "app.add", "result": 3, "attempts": 1, "trigger": "http"}.items()
        delivered(desk, run_id)
        shown = client.get(f"/_/runs/{run_id}", headers=key).json()["callback"]
        assert shown.items() >= {"url": receiver.url, "state": "delivered", "status": 204, "tries": 1}.items()

        assert client.post("/fail", headers={**later, **key}).status_code == 202
        told = arrived(receiver, 2)[1].verified(SECRET)
        assert (told["type"], told["data"]["reason"], told["data"]["attempts"]) == ("run.failed", "error", 2)
        assert told["data"]["failure"] == {"type": "ValueError", "message": "no such luck"}
        assert "Traceback" not in request.body.decode()

        # A public function is anybody's, but what we send to others is not.
        assert client.post("/fail", headers=later).status_code == 401
        refused = client.post("/add", json={"x": 2}, headers={**key, **later, "x-callback-url": "ftp://example.com"})
        assert (refused.status_code, "X-Callback-Url" in refused.json()["detail"]) == (422, True)

        wait = {**key, "prefer": "respond-async, wait=20"}
        begun = client.post("/_/functions/app.begin/invoke", json={"url": receiver.url}, headers=wait)
        told = arrived(receiver, 3)[2].verified(SECRET)
        assert told["data"].items() >= {"id": begun.json(), "function": "flow:chain", "result": 3}.items()
    server.stop()
    assert len(receiver.requests) == 3


def test_what_a_dead_worker_did_not_deliver_another_does(desk: Desk, start: Starts, receiver: Receiver):
    ended = submit(desk, receiver.url)
    dead = Worker(desk, "app.add")
    dead.finish(dead.claim(), 2)  # and it is gone before it tells anybody
    receiver.seconds = 60.0
    first = start()
    (request,) = arrived(receiver, 1)
    first.process.kill()  # which knows of no answer
    receiver.seconds = 0.0
    start()
    again = arrived(receiver, 2)[1]
    assert (again.id, again.body) == (request.id, request.body)
    assert again.verified(SECRET)["data"]["id"] == ended
    assert delivered(desk, ended).id == request.id


def test_a_receiver_that_was_down_is_told_when_it_is_back(desk: Desk, start: Starts, receiver: Receiver):
    receiver.status = 503
    start()
    run_id = submit(desk, receiver.url)
    message = arrived(receiver, 2)[0].id
    receiver.close()
    until(lambda: callback(desk, run_id).state == "dead", PATIENCE)
    assert callback(desk, run_id).tries == ATTEMPTS
    back = Receiver(receiver.port)
    assert desk.ask_sync(retry(desk.ledger, [message])) == ["waiting"]
    assert arrived(back, 1)[0].id == message
    assert delivered(desk, run_id).tries == 1
    back.close()


def test_a_receiver_that_is_slow_holds_up_neither_runs_nor_others(desk: Desk, start: Starts, receiver: Receiver):
    slow = Receiver()
    slow.seconds = 20.0
    start()
    late = [submit(desk, slow.url) for _ in range(60)]
    arrived(slow, 1)
    prompt = [submit(desk, receiver.url) for _ in range(20)]
    arrived(receiver, 20)
    assert all(view_of(desk, run_id).state == "succeeded" for run_id in prompt)
    assert callback(desk, late[-1]).state == "waiting"
    assert len({request.id for request in receiver.requests}) == len(prompt)
    slow.close()
