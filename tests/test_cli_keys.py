"""`fnrun keys` and `fnrun audit`: on the project's own store, and on a running system, alike."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.ledger.desk import Desk
from tests.commands import Command, command, good


@pytest.fixture
def root(write_project, valkey: Path, desk: Desk) -> Path:
    settings = f'[store]\nurl = "unix://{valkey}"\nnamespace = "{desk.store.namespace}"\n'
    return write_project(**{"functions/app.py": "from runtime import http\n", "functions.toml": settings})


@pytest.fixture(params=["here", "there"])
def fnrun(request, root: Path, desk: Desk) -> Iterator[Command]:
    with command(root, desk, there=request.param == "there") as found:
        yield found


def test_keys_are_made_listed_and_revoked(fnrun: Command):
    made = fnrun("keys", "create", "--name", "ci", "--scope", "invoke:app.*", "--scope", "read", "--expires", "30d")
    token = good(made).strip()
    key_id = token.split("_")[1]
    assert f"id {key_id}, scopes invoke:app.* read, expires 20" in made.stderr
    listed = good(fnrun("keys", "list"))
    assert re.search(rf"^{key_id} +invoke:app.\* read +20\S+ \S+ UTC +never +ci$", listed, re.MULTILINE)
    assert token not in listed + good(fnrun("keys", "list", "--json"))
    assert good(fnrun("keys", "revoke", key_id)) == f"revoked {key_id}\n"
    assert key_id not in good(fnrun("keys", "list"))
    whole = good(fnrun("keys", "create")).strip()
    assert good(fnrun("keys", "revoke", whole)) == f"revoked {whole.split('_')[1]}\n"
    assert whole not in fnrun("keys", "revoke", whole).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "--scope", "root"], 'unknown scope "root"; write admin, read, invoke'),
        (["create", "--expires", ""], "--expires: '' is not a duration above zero"),
        (["create", "--name", "a\nb"], "--name: one line of printable characters"),
        (["create", "--expires", "soon"], "--expires: 'soon' is not a duration above zero"),
        (["revoke", "nobody"], 'no key has the id "nobody"; see `fnrun keys list`'),
    ],
)
def test_wrong_words_for_keys_are_said(fnrun: Command, arguments: list[str], message: str):
    result = fnrun("keys", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr


def test_the_last_key_that_administers_is_revoked_by_force_alone(fnrun: Command):
    keys = json.loads(good(fnrun("keys", "list", "--json")))
    here = not keys
    key_id = good(fnrun("keys", "create", "--scope", "admin")).split("_")[1] if here else keys[0]["id"]
    refused = fnrun("keys", "revoke", key_id)
    assert refused.exit_code == 1
    assert f"{key_id} is the last key with admin" in refused.stderr
    assert good(fnrun("keys", "revoke", key_id, "--force")) == f"revoked {key_id}\n"


def test_the_audit_log_tells_who_did_what(fnrun: Command):
    good(fnrun("queues", "pause", "orders"))
    made = good(fnrun("keys", "create", "--name", "ci")).split("_")[1]
    first, second, *_ = json.loads(good(fnrun("audit", "--json")))
    assert (second["action"], second["target"]) == ("queues.pause", "orders")
    assert (first["action"], first["target"], first["details"]["scopes"]) == ("keys.create", made, ["invoke"])
    assert first["actor"] == second["actor"]
    if first["actor"]["kind"] == "key":
        assert first["actor"]["address"] == "127.0.0.1"
    else:
        assert first["actor"] == {"kind": "cli", "name": first["actor"]["name"]}
    table = good(fnrun("audit", "--limit", "1", "--since", "1h")).splitlines()
    assert table[0].split() == ["AT", "WHO", "FROM", "DID", "TO"]
    assert f"keys.create  {made}" in table[1]
