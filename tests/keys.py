"""Access keys for tests: in a store, or in a project's folder, as an older version kept them, before its start."""

from pathlib import Path

import msgspec

from runtime.base.keys import STATE_FOLDER, Key, make_key
from runtime.ledger.access.keys import add_key
from runtime.ledger.desk import Desk


def key_in(desk: Desk, *scopes: str, name: str = "") -> str:
    """A new key's token."""
    key, token = make_key(name, scopes)
    assert desk.ask_sync(add_key(desk.ledger, "new", key))
    return token


def key_for(root: Path, *scopes: str, name: str = "") -> str:
    """The token of a key that is taken over when the project is served, or another command is run in it."""
    key, token = make_key(name, scopes)
    path = root / STATE_FOLDER / "keys.json"
    path.parent.mkdir(exist_ok=True)
    known = msgspec.json.decode(path.read_bytes(), type=list[Key]) if path.exists() else []
    path.write_bytes(msgspec.json.encode([*known, key]))
    return token


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}
