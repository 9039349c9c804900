"""Calls of the ledger's scripts: what is asked, and how the answer is read. Run by any client of redis.

Made by Ledger; run by whoever holds a connection. A script that the store has forgotten is sent again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import (
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import TimeoutError as NoAnswer

from runtime.base.errors import StoreDown

T = TypeVar("T")

_SCRIPTS = Path(__file__).parent / "scripts"

_REFUSALS = (MasterDownError, NoPermissionError, OutOfMemoryError, ReadOnlyError)
_REFUSED = ("MISCONF ", "NOREPLICAS ", "BUSY ", "ACL failure ")
"""A full disk, too few replicas, a script without end, a command that a script may not use."""

Argument = str | bytes | int | float


class Script(msgspec.Struct, frozen=True):
    """A Lua script, and the digest the store knows it by."""

    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """One of scripts/*.lua, behind what they all begin with."""
    text = "\n".join((_SCRIPTS / f"{part}.lua").read_text("utf-8") for part in ("common", name))
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


class Call(msgspec.Struct, Generic[T], frozen=True):
    """A script with its arguments. read: makes the answer of what the store returns."""

    script: Script
    arguments: tuple[Argument, ...]
    read: Callable[[Any], T]


@contextmanager
def _told_as_store_down() -> Iterator[None]:
    try:
        yield
    except (NoConnection, NoAnswer, OSError) as error:
        raise StoreDown(f"the store does not answer: {error}") from error
    except ResponseError as error:
        if isinstance(error, _REFUSALS) or str(error).startswith(_REFUSED):
            raise StoreDown(f"the store does not do its work: {error}") from error
        raise
    except RuntimeError as error:
        if "closed" not in str(error):
            raise
        # uvloop's word for a connection that was reset a moment ago, which redis-py takes for a fault of its own.
        raise StoreDown(f"the store has hung up: {error}") from error


def do(client: Redis, call: Call[T]) -> T:
    """Run a call. StoreDown if the store does not answer, or not as it should."""
    with _told_as_store_down():
        try:
            found = client.evalsha(call.script.sha, 0, *call.arguments)
        except NoScriptError:
            found = client.eval(call.script.text, 0, *call.arguments)
    return call.read(found)


async def ado(client: AsyncRedis, call: Call[T]) -> T:
    """Run a call. StoreDown if the store does not answer, or not as it should."""
    with _told_as_store_down():
        try:
            found = await client.evalsha(call.script.sha, 0, *call.arguments)
        except NoScriptError:
            found = await client.eval(call.script.text, 0, *call.arguments)
    return call.read(found)
