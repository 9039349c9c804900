"""Resources, and background tasks that use them: opened before, and ended before they are closed.

Made by roles, for the loop that runs handlers.
"""

import asyncio
from collections.abc import Awaitable, Callable

from runtime.base.sections import BackgroundSettings
from runtime.declare.resources import Opened
from runtime.invoke.resources import Resources
from runtime.tasks.home import close_manager, open_manager
from runtime.tasks.manager import Manager


class WithBackground:
    """What handlers have around them. opened: the resources by name."""

    def __init__(self, resources: Resources, settings: BackgroundSettings) -> None:
        self._resources = resources
        self._settings = settings
        self._manager: Manager | None = None
        self.opened: Opened = resources.opened

    async def open(self, stop: asyncio.Event | None = None) -> bool:
        """See Resources.open; start-up hooks may begin background tasks."""
        self._manager = open_manager(self._settings)
        is_open = False
        try:
            is_open = await self._resources.open(stop)
        finally:
            if not is_open:
                await self.end(0.0)
        return is_open

    @property
    def at_work(self) -> tuple[int, int]:
        """How many background tasks wait, and how many run; from any thread."""
        found = None if self._manager is None else self._manager.statistics()
        return (0, 0) if found is None else (found.queued, found.running)

    async def finish(self, idle: Callable[[float], Awaitable[object]], within_seconds: float) -> None:
        """Wait, so long, until handlers are idle, then until what they have begun is over; `close` ends what is not."""
        loop = asyncio.get_running_loop()
        end = loop.time() + within_seconds
        if await idle(within_seconds) and self._manager is not None:
            await self._manager.drain(max(0.0, end - loop.time()))

    async def close(self) -> None:
        """End the background tasks, then close the resources. Raises nothing."""
        await self.end(0.0)
        await self._resources.close()

    async def end(self, within_seconds: float) -> None:
        """End the background tasks, which have so long."""
        if self._manager is not None:
            await close_manager(self._manager, within_seconds)
