"""The audit log: who did what to the system, and when. Kept for 90 days, the newest 10,000.

Written by the admin API, which the command line uses, too; read there. What a deployment or a handler does by itself (a
schedule that it adds, say) is not in it.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from runtime.base.errors import InputError
from runtime.base.ids import new_run_id
from runtime.ledger.calls import Call
from runtime.ledger.desk import Desk
from runtime.ledger.ledger import Ledger

KEPT_SECONDS = 90 * 86_400
KEPT_COUNT = 10_000
_CURSOR = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_LONGEST = 1000


class Actor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who acts. address: where the call came from.

    key: by an access key, with its id and name; cli: a user of this machine, at the project's own store; local: whoever
    calls `fnrun dev` from this machine; fnrun: the system itself.
    """

    kind: Literal["key", "cli", "local", "fnrun"]
    id: str = ""
    name: str = ""
    address: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One act. at: seconds since 1970, by the store's clock. action: "runs.cancel". target: the run's id, say."""

    id: str
    at: float = 0.0
    actor: Actor
    action: str
    target: str = ""
    details: dict[str, Any] = {}


async def audit(desk: Desk, actor: Actor, action: str, target: str, **details: Any) -> None:
    """Write down an act. details: what JSON can say, and no secrets; long texts are cut. StoreDown."""
    shortened = {name: _short(value) for name, value in details.items()}
    entry = Entry(id=new_run_id(), actor=actor, action=action, target=target[:_LONGEST], details=shortened)
    arguments = (KEPT_SECONDS * 1000, KEPT_COUNT, msgspec.json.encode(entry))
    await desk.ask(desk.ledger.call("access/note", arguments, bool))


def read_audit(
    ledger: Ledger, *, since: float = 0.0, cursor: str = "", limit: int = 100
) -> Call[tuple[list[Entry], str]]:
    """A page of the log, newest first, and the cursor of the next ("" if there is none). InputError for a cursor."""
    if cursor and not _CURSOR.fullmatch(cursor):
        raise InputError(422, f"{cursor[:50]!r} is no cursor: leave it out, or give one that came with a page")

    def read(found: Sequence[bytes]) -> tuple[list[Entry], str]:
        entries = [_entry(found[i], found[i + 1]) for i in range(0, len(found), 2)]
        return entries, found[-1].decode() if len(entries) == limit else ""

    return ledger.call("access/audit", (limit, f"({cursor}" if cursor else "+inf", round(since * 1000)), read)


def _entry(text: bytes, score: bytes) -> Entry:
    return msgspec.structs.replace(msgspec.json.decode(text, type=Entry), at=int(float(score)) / 1000)


def _short(value: Any) -> Any:
    return f"{value[:_LONGEST]}..." if isinstance(value, str) and len(value) > _LONGEST else value
