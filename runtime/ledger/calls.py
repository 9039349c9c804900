"""Calls of the ledger's scripts: what is asked, and how the answer is read. Run by any client of redis.

Made by Ledger; run by whoever holds a connection. A script that the store has forgotten is sent again.
"""

import re
from collections.abc import Callable
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import NoScriptError

from runtime.base.store import as_store_down

T = TypeVar("T")

_SCRIPTS = Path(__file__).parent / "scripts"
_INCLUDE = re.compile(r"^ *-- include: (.+)$", re.MULTILINE)

Argument = str | bytes | int | float


class Script(msgspec.Struct, frozen=True):
    """A Lua script, and the digest the store knows it by."""

    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """One of scripts/*.lua, behind what they all begin with."""
    text = _read("common") + _read(name)
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


def _read(name: str) -> str:
    """A file of scripts/, with those that a line `-- include: a b` names in place of that."""
    text = (_SCRIPTS / f"{name}.lua").read_text("utf-8")
    return _INCLUDE.sub(lambda found: "".join(map(_read, found[1].split())), text)


class Call(msgspec.Struct, Generic[T], frozen=True):
    """A script with its arguments. read: makes the answer of what the store returns."""

    script: Script
    arguments: tuple[Argument, ...]
    read: Callable[[Any], T]


def do(client: Redis, call: Call[T]) -> T:
    """Run a call. StoreDown if the store does not answer, or not as it should."""
    with as_store_down():
        try:
            found = client.evalsha(call.script.sha, 0, *call.arguments)
        except NoScriptError:
            found = client.eval(call.script.text, 0, *call.arguments)
    return call.read(found)


async def ado(client: AsyncRedis, call: Call[T]) -> T:
    """Run a call. StoreDown if the store does not answer, or not as it should."""
    with as_store_down():
        try:
            found = await client.evalsha(call.script.sha, 0, *call.arguments)
        except NoScriptError:
            found = await client.eval(call.script.text, 0, *call.arguments)
    return call.read(found)
