"""The access keys of a store, shared by all of its processes: make, list, revoke, take over an older version's file.

Called by the admin API, which the command line asks, too, and by the HTTP role at its start. Who may call is looked up
in a Keyring, not here. See scripts/access/keys.lua.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from runtime.base.keys import Key, make_key, read_old_file, set_old_file_aside
from runtime.base.logs import get_logger
from runtime.ledger.calls import Argument, Call
from runtime.ledger.desk import Desk
from runtime.ledger.ledger import Ledger

log = get_logger(__name__)

Revoked = Literal["revoked", "unknown", "last"]


class Known(msgspec.Struct, frozen=True):
    """A key, and when it was last used, in seconds since 1970: to the minute; None for never."""

    key: Key
    used_at: float | None


async def create_key(
    desk: Desk, name: str, scopes: Sequence[str], lifetime_seconds: float | None = None
) -> tuple[Key, str]:
    """A new key and its token; the token is not kept and cannot be shown again. FnrunError for an unknown scope."""
    while True:
        key, token = make_key(name, tuple(scopes), lifetime_seconds)
        if await desk.ask(add_key(desk.ledger, "new", key)):
            return key, token


async def create_first_key(desk: Desk) -> str | None:
    """The token of a new admin key if there is none at all, so that somebody can begin; else None.

    Of several processes that ask at once, one gets it.
    """
    key, token = make_key("first", ("admin",))
    return token if await desk.ask(add_key(desk.ledger, "first", key)) else None


async def list_keys(desk: Desk) -> list[Known]:
    """Every key, oldest first, expired ones too."""
    return await desk.ask(desk.ledger.call("access/list", (), _read_list))


async def revoke_key(desk: Desk, key_id: str, *, forced: bool = False) -> Revoked:
    """Forget a key: within a second no process lets it in. "last": nobody could administer the system without it.

    forced: revoke even that.
    """
    call: Call[Any] = desk.ledger.call("access/revoke", (key_id, int(forced)), bytes.decode)
    found: Revoked = await desk.ask(call)
    return found


async def take_over_file(desk: Desk, root: Path) -> None:
    """Have what older versions kept in `.fnrun/keys.json` in the store; set the file aside. StartError, StoreDown."""
    found = read_old_file(root)
    if found is None:
        return
    digest, keys = found
    pairs: list[Argument] = [part for key in keys for part in (key.id, msgspec.json.encode(key))]
    count = await desk.ask(desk.ledger.call("access/take", (digest, *pairs), int))
    try:
        set_old_file_aside(root)
    except FileNotFoundError:
        pass  # another process was faster
    except OSError as error:
        log.warning("the old file of access keys cannot be set aside; remove .fnrun/keys.json", reason=error.strerror)
    if count:
        log.info("access keys are in the store now; .fnrun/keys.json is set aside", keys=count)


def read_keys(ledger: Ledger, version: str, used: Iterable[str]) -> Call[tuple[str, list[Key] | None]]:
    """The version of the keys, and they themselves unless it is `version`. used: ids of keys that were just used."""
    return ledger.call("access/read", (version, *used), _read_keys)


def add_key(ledger: Ledger, mode: Literal["new", "first"], key: Key) -> Call[bool]:
    """Keep a key; first: only if there is none at all. Whether it is kept."""
    return ledger.call("access/add", (mode, key.id, msgspec.json.encode(key)), bool)


def _read_keys(found: Sequence[Any]) -> tuple[str, list[Key] | None]:
    version: str = found[0].decode()
    return version, None if len(found) == 1 else [msgspec.json.decode(one, type=Key) for one in found[1]]


def _read_list(found: Sequence[Any]) -> list[Known]:
    keys, used = found
    at = {used[i].decode(): int(used[i + 1]) / 1000 for i in range(0, len(used), 2)}
    read = [msgspec.json.decode(one, type=Key) for one in keys]
    return [Known(key, at.get(key.id)) for key in sorted(read, key=lambda key: (key.created_at, key.id))]
