"""What a child does for its parent: say that it serves, take up what has changed, leave when told to.

And what it does for itself: watch its loop. Called by the roles, whose functions it changes. Knows no trigger.
"""

import asyncio
import socket
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from runtime.base.garbage import keep_what_there_is
from runtime.base.logs import get_logger
from runtime.base.pulse import Pulse
from runtime.base.sections import ServeSettings, Settings
from runtime.declare.loader import Loader
from runtime.declare.registry import LoadFailure, Registry
from runtime.invoke.watchdog import OnStuck, Watchdog
from runtime.processes import Line, Message

log = get_logger(__name__)

_WORN_SECONDS = 1.0
"""How often we look whether we are."""
_AGAIN_SECONDS = 10.0
"""Until the parent is told again: another could not be started, perhaps."""


class Parent(msgspec.Struct, frozen=True):
    """The process this one is a child of. line: to it. dev: it watches the files, and the caller is its user.

    announce: say what does not load; of several children only one does. first: and this is the start, so what the
    store lacks ends it. pulse: what it watches this one by.
    """

    line: socket.socket
    announce: bool = False
    dev: bool = False
    first: bool = False
    pulse: Pulse | None = None


def watch_loop(settings: ServeSettings, parent: Parent | None, on_stuck: OnStuck | None = None) -> Watchdog:
    """Watch the loop this is called on. Where nobody would replace this process it is not ended."""
    watchdog = Watchdog(
        warn_seconds=float(settings.blocked_warn),
        limit_seconds=0.0 if parent is None else float(settings.blocked_limit),
        pulse=None if parent is None else parent.pulse,
        on_stuck=on_stuck,
    )
    watchdog.begin()
    return watchdog


class Role(Protocol):
    """What serves functions. registry: them; adopt: serve others from now on."""

    registry: Registry

    @property
    def worn_out(self) -> bool:
        """Whether another process had better take its place."""
        ...

    def adopt(self, registry: Registry) -> None:
        """Serve these functions from now on."""
        ...


async def follow(line: Line, root: Path, loader: Loader, role: Role, *, announce: bool) -> bool:
    """Do as the parent says until it is gone; True if it said that another has this child's place.

    announce: say what was loaded, and what was not; of several children only one does.
    """
    keep_what_there_is()
    telling = asyncio.create_task(_tell_when_worn(line, role))
    try:
        return await _follow(line, root, loader, role, announce=announce)
    finally:
        telling.cancel()


async def _tell_when_worn(line: Line, role: Role) -> None:
    while True:
        await asyncio.sleep(_WORN_SECONDS)
        if role.worn_out:
            log.warning("handlers that never end have half of the threads: this process asks to be replaced")
            line.tell(Message("worn"))
            await asyncio.sleep(_AGAIN_SECONDS)


async def _follow(line: Line, root: Path, loader: Loader, role: Role, *, announce: bool) -> bool:
    async for message in line.messages():
        if message.kind == "leave":
            return True
        line.tell(Message("loading"))
        try:
            taken_up = await _take_up(root, loader, role, message.files, announce)
        except Exception:
            log.exception("the change cannot be taken up", files=message.files)
            taken_up = False
        line.tell(Message("loaded" if taken_up else "restart"))
    return False


async def _take_up(root: Path, loader: Loader, role: Role, files: Sequence[str], announce: bool) -> bool:
    """Serve what changed; False if that takes a new process."""
    began = time.perf_counter()
    # In a thread, as at start: no loop runs there, and the requests go on meanwhile.
    changed = await asyncio.to_thread(loader.reload, [root / file for file in files])
    if changed is None:
        return False
    known = role.registry.failures
    role.adopt(changed)
    if not announce:
        return True
    ms = round((time.perf_counter() - began) * 1000, 1)
    log.info("reloaded", files=files, ms=ms, functions=len(changed.functions), failures=len(changed.failures))
    announce_failures(one for one in changed.failures if one not in known or one.file in files)
    return True


def announce_alerts(settings: Settings, names: Collection[str]) -> None:
    """Say in the log which alerts would run a function that is not there. names: those that are."""
    if settings.alerts:
        from runtime.alerts.rules import unknown_runs  # noqa: PLC0415 - it loads the store's client

        for fault in unknown_runs(settings, names):
            log.error("an alert would tell nobody", reason=fault)


def announce_failures(failures: Iterable[LoadFailure]) -> None:
    """Say in the log what does not load."""
    for failure in failures:
        last = " (the last version that loaded serves on)" if failure.serves_last else ""
        log.error(f"does not load{last}: {failure}\n{failure.traceback}".rstrip())
