"""Room for one item between two tasks, one that makes and one that waits for no longer than so long.

Used by execute for streams. As asyncio.Queue(1) under asyncio.timeout, without a timer an item: one that was set for an
earlier wait looks again when it is due.
"""

import asyncio
from math import inf
from typing import Any

_NOTHING: Any = object()


class Slot:
    """One puts, one gets."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._item = _NOTHING
        self._giver: asyncio.Future[None] | None = None
        self._taker: asyncio.Future[bool] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = inf

    async def put(self, item: Any) -> None:
        """Leave it there, once there is room."""
        while self._item is not _NOTHING:
            self._giver = self._loop.create_future()
            try:
                await self._giver
            finally:
                self._giver = None
        self._item = item
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(True)

    async def get(self, within_seconds: float | None) -> Any:
        """Take the item, once there is one. TimeoutError if there is none by then."""
        if self._item is _NOTHING:
            await self._wait(within_seconds)
        item, self._item = self._item, _NOTHING
        if self._giver is not None and not self._giver.done():
            self._giver.set_result(None)
        return item

    async def _wait(self, seconds: float | None) -> None:
        self._taker = self._loop.create_future()
        self._due = inf
        if seconds is not None:
            self._due = self._loop.time() + seconds
            if self._timer is None or self._timer.when() > self._due:
                self.close()
                self._timer = self._loop.call_later(seconds, self._look)
        try:
            if not await self._taker:
                raise TimeoutError
        finally:
            self._taker = None

    def _look(self) -> None:
        self._timer = None
        if self._taker is None or self._taker.done() or self._due == inf:
            return  # the next wait sets one
        left = self._due - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._taker.set_result(False)

    def close(self) -> None:
        """Nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
