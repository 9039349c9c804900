"""`auth = "signed"`, called by those who sign with the public library of Standard Webhooks."""

import asyncio
import base64
import json
import secrets
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from standardwebhooks import Webhook

from runtime.ledger.desk import Desk
from runtime.projects import load_project
from tests.conftest import client_of

FILES = {
    "functions/hooks.py": """
        from typing import Any
        from runtime import Problem, Request, http

        seen: list[Any] = []
        answers: list[int] = []

        @http.post("/paid", auth="signed")
        async def paid(invoice: str, cents: int) -> str:
            seen.append((invoice, cents))
            status = answers.pop() if answers else 0
            if status == 500:
                raise OSError("no luck")
            if status:
                raise Problem(status, "no")
            return "thanks"

        @http.post("/own", auth="signed")
        async def own(request: Request) -> int:
            return len(await request.body())

        @http.get("/look", auth="signed")
        def look() -> int:
            return 1

        @http.post("/plain")
        async def plain() -> int:
            return 1
        """
}
OLD, NEW, OWN = (f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}" for _ in range(3))
BODY = json.dumps({"invoice": "i1", "cents": 500}).encode()
WRONG = "this needs a signature (Standard Webhooks) of a secret that is known here, made just now"


def signed(
    body: bytes = BODY, *, secret: str = NEW, message: str = "", at: datetime | None = None, **more: str
) -> dict[str, str]:
    """The headers of a message."""
    message, at = message or f"msg_{secrets.token_hex(8)}", at or datetime.now(UTC)
    return {
        "content-type": "application/json",
        "webhook-id": message,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message, at, body.decode()),
        **more,
    }


@pytest.fixture
def root(write_project) -> Path:
    toml = f'[signing]\nsecrets = ["{NEW}", "{OLD}"]\n[functions."hooks.own"]\nsigning = ["{OWN}"]\n'
    return write_project(**FILES, **{"functions.toml": toml})


@pytest.fixture
async def client(root: Path, desk: Desk, log):
    async with client_of(load_project(root), desk=desk) as client:
        client.seen, client.answers = _lists()
        yield client


def _lists():
    import sys

    module = sys.modules["functions.hooks"]
    return module.seen, module.answers


async def post(client: httpx.AsyncClient, headers: dict[str, str], body: bytes = BODY, path: str = "/paid"):
    return await client.post(path, content=body, headers=headers)


async def test_what_the_public_library_signs_is_taken(client, log):
    for secret in (NEW, OLD):
        assert (await post(client, signed(secret=secret))).json() == "thanks"
    several = signed()
    several["webhook-signature"] = f"v1a,AAAA v1,{'A' * 43}= {several['webhook-signature']}"
    assert (await post(client, several)).status_code == 200
    assert client.seen == [("i1", 500)] * 3
    assert (await client.get("/look", headers=signed(b""))).json() == 1
    assert log.entries == []


async def test_a_function_has_secrets_of_its_own(client):
    assert (await post(client, signed(secret=OWN), path="/own")).json() == len(BODY)
    assert (await post(client, signed(secret=NEW), path="/own")).status_code == 401
    assert (await post(client, signed(secret=OWN))).status_code == 401


def _flipped(body: bytes) -> bytes:
    return bytes([body[0] ^ 1]) + body[1:]


NOW = datetime.now(UTC)
REFUSED = {
    "no signature": (lambda: {"content-type": "application/json"}, BODY),
    "a bit flipped": (signed, _flipped(BODY)),
    "re-serialised": (signed, json.dumps(json.loads(BODY), separators=(",", ":")).encode()),
    "a wrong secret": (lambda: signed(secret=f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"), BODY),
    "301 s old": (lambda: signed(at=datetime.now(UTC) - timedelta(seconds=301)), BODY),
    "302 s ahead": (lambda: signed(at=datetime.now(UTC) + timedelta(seconds=302)), BODY),
    "another id": (lambda: signed() | {"webhook-id": "msg_other"}, BODY),
    "another time": (lambda: signed() | {"webhook-timestamp": str(int(NOW.timestamp()) - 7)}, BODY),
    "a time that is none": (lambda: signed() | {"webhook-timestamp": "1e9"}, BODY),
    "a zero before its time": (lambda: (h := signed()) | {"webhook-timestamp": f"0{h['webhook-timestamp']}"}, BODY),
    "an id without end": (lambda: signed(message="m" * 501), BODY),
    "cut": (lambda: (h := signed()) | {"webhook-signature": h["webhook-signature"][:-2]}, BODY),
    "its version": (lambda: (h := signed()) | {"webhook-signature": h["webhook-signature"].replace("v1", "v2")}, BODY),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_not_signed_as_it_should_be_is_refused_without_saying_why(client, log, case: str):
    headers, body = REFUSED[case]
    answer = await post(client, headers(), body)
    assert (answer.status_code, answer.json()["detail"]) == (401, WRONG)
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.seen == []
    assert [line["event"] for line in log.entries] == ["a signed call is refused"]


async def test_299_seconds_are_not_too_many(client):
    for seconds in (-295, 295):
        at = datetime.now(UTC) + timedelta(seconds=seconds)
        assert (await post(client, signed(at=at))).status_code == 200


async def test_a_key_does_not_stand_in_for_a_signature(client, desk):
    from tests.keys import bearer, key_in

    token = key_in(desk, "admin")
    assert (await post(client, {"content-type": "application/json", **bearer(token)})).status_code == 401
    assert (await client.post("/plain", headers=signed(b"{}"))).status_code == 401


async def test_a_body_past_its_limit_is_not_read_to_its_end(client):
    body = b"x" * 1_000_001
    assert (await post(client, signed(body), body)).status_code == 413


async def test_of_a_message_sent_100_times_at_once_to_two_processes_one_is_taken(client, root, desk, log):
    headers = signed()
    async with client_of(load_project(root), desk=desk) as other:
        found = await asyncio.gather(*(post(one, headers) for one in (client, other) * 50))
        counts = Counter(answer.status_code for answer in found)
        assert counts[200] == 1
        assert set(counts) <= {200, 409, 503}, "503: the store was not asked in time, on a busy machine"
        assert len(client.seen) + len(_lists()[0]) == 1
    async with client_of(load_project(root), desk=desk) as restarted:
        again = await post(restarted, headers)
        assert (again.status_code, again.json()["detail"]) == (
            409,
            "this message was taken already; it is not carried out again",
        )


@pytest.mark.parametrize(("status", "calls"), [(500, 2), (503, 2), (429, 2), (404, 1)])
async def test_a_message_that_failed_may_be_sent_again(client, log, status: int, calls: int):
    client.answers.append(status)
    first = await post(client, signed(message="m1"))
    assert first.status_code == status
    later = datetime.now(UTC) + timedelta(seconds=5)
    second = await post(client, signed(message="m1", at=later))
    assert second.status_code == (200 if calls == 2 else status)
    assert len(client.seen) == calls


async def test_a_message_whose_answer_was_lost_is_answered_again_and_not_carried_out(client):
    assert (await post(client, signed(message="m1"))).status_code == 200
    again = await post(client, signed(message="m1", at=datetime.now(UTC) + timedelta(seconds=5)))
    assert (again.status_code, again.headers["idempotency-replayed"], again.content) == (200, "true", b"")
    assert len(client.seen) == 1


async def test_without_the_store_nobody_knows_what_is_a_replay(root, gone, log):
    async with client_of(load_project(root), desk=gone) as client:
        answer = await post(client, signed())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert (await post(client, signed(secret=OWN))).status_code == 401
        assert _lists()[0] == []


async def test_dev_lets_unsigned_calls_in_and_checks_signed_ones(root, desk, log):
    async with client_of(load_project(root), desk=desk, open_locally=True) as client:
        assert (await post(client, {"content-type": "application/json"})).status_code == 200
        assert (await post(client, signed(), _flipped(BODY))).status_code == 401


async def test_who_prefers_to_be_answered_later_is_taken_once_too(client, desk):
    headers = signed(prefer="respond-async")
    assert [(await post(client, headers)).status_code for _ in range(2)] == [202, 409]


async def test_the_default_may_be_signed(root, desk, log):
    async with client_of(load_project(root, {"http__auth": "signed"}), desk=desk) as client:
        assert (await client.post("/plain", content=b"{}", headers=signed(b"{}"))).status_code == 200
        assert (await client.post("/plain")).status_code == 401
        assert (await client.get("/_/docs")).status_code == 401
        document = load_project(root, {"http__auth": "signed"})
        assert document.registry.failures == ()


async def test_secrets_are_not_shown(root):
    shown = {one.path: one.value for one in load_project(root).loaded.explain()}
    assert {shown["signing.secrets"], shown["functions.hooks.own.signing"]} == {"********"}
