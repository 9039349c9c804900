"""What a child does for its parent: say that it serves, take up what has changed, leave when told to.

Called by the roles, whose functions it changes. Knows no trigger.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from runtime.base.logs import get_logger
from runtime.declare.loader import Loader
from runtime.declare.registry import LoadFailure, Registry
from runtime.processes import Line, Message

log = get_logger(__name__)


class Role(Protocol):
    """What serves functions. registry: them; adopt: serve others from now on."""

    registry: Registry

    def adopt(self, registry: Registry) -> None:
        """Serve these functions from now on."""
        ...


async def follow(line: Line, root: Path, loader: Loader, role: Role, *, announce: bool) -> bool:
    """Do as the parent says until it is gone; True if it said that another has this child's place.

    announce: say what was loaded, and what was not; of several children only one does.
    """
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


def announce_failures(failures: Iterable[LoadFailure]) -> None:
    """Say in the log what does not load."""
    for failure in failures:
        last = " (the last version that loaded serves on)" if failure.serves_last else ""
        log.error(f"does not load{last}: {failure}\n{failure.traceback}".rstrip())
