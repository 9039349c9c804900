"""Which manager a call of background means: of the running loop, of the role at work here, or of a loop in a thread.

Used by runtime.tasks.api from any thread, and by roles, which open theirs first and close it last.
"""

import asyncio
import os
import threading

from runtime.base.sections import BackgroundSettings
from runtime.base.settings import load_settings
from runtime.declare.modules import open_root
from runtime.ledger.portal import wait_for
from runtime.tasks.manager import Manager

_DRAIN_SECONDS = 25.0

_managers: dict[asyncio.AbstractEventLoop, Manager] = {}
_serving: list[Manager] = []
"""Those that roles have opened: what a thread without a loop means. The last one counts; tests have several."""
_portals: list[Manager] = []
_lock = threading.Lock()


def open_manager(settings: BackgroundSettings) -> Manager:
    """One for this loop, and for threads without one. To be closed by close_manager."""
    manager = Manager(settings)
    with _lock:
        _managers[manager.loop] = manager
        _serving.append(manager)
    return manager


async def close_manager(manager: Manager, within_seconds: float) -> None:
    """See Manager.close."""
    await manager.close(within_seconds)
    with _lock:
        if _managers.get(manager.loop) is manager:
            del _managers[manager.loop]
        if manager in _serving:
            _serving.remove(manager)


async def close_here(within_seconds: float) -> None:
    """Close this loop's, if it has one; the next call makes another."""
    if (manager := _managers.get(asyncio.get_running_loop())) is not None:
        await close_manager(manager, within_seconds)


def manager_at_hand() -> Manager:
    """The one that is meant here; made if there is none."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _without_loop()
    found = _managers.get(loop)
    return found or _make()


def _make() -> Manager:
    """For a loop of the caller's own, in a script; a closed one's is let go of."""
    root = open_root()
    manager = Manager(BackgroundSettings() if root is None else load_settings(root, sealed=True).settings.background)
    with _lock:
        for loop in [loop for loop in _managers if loop.is_closed()]:
            del _managers[loop]
        _managers[manager.loop] = manager
    return manager


def _without_loop() -> Manager:
    with _lock:
        if _serving:
            return _serving[-1]
        if _portals:
            return _portals[0]
    manager = wait_for(_made())
    with _lock:
        if not _portals:
            # Before concurrent.futures lets no thread begin: atexit's own calls come after that.
            threading._register_atexit(_end_portal)  # type: ignore[attr-defined]
            _portals.append(manager)
        return _portals[0]


async def _made() -> Manager:
    return manager_at_hand()


def _end_portal() -> None:
    """A script that ends waits for what it has spawned, as for its threads."""
    for manager in _portals:  # none in a forked child
        wait_for(manager.close(_DRAIN_SECONDS))


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - the parent's may be held by a thread that is not here
    _lock = threading.Lock()
    _managers.clear()
    _serving.clear()
    _portals.clear()


os.register_at_fork(after_in_child=_after_fork)
