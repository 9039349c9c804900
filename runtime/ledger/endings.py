"""Hear at once when runs end: one pub/sub connection for all who wait on an event loop.

Used by the desk. A hint and no more: a lost connection is made again, but what was said meanwhile is not heard, so
whoever waits looks each second, too.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

_QUIET_SECONDS = 10.0
"""When nothing was heard for so long, we ask whether the connection lives; or end it, if nobody waits."""
_PAUSE_SECONDS = 0.5
_ERRORS = (RedisError, OSError)


class Endings:
    """Who waits on this loop for the end of which run, by channel."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._waiting: dict[bytes, set[asyncio.Event]] = {}
        self._said: set[bytes] = set()  # channels that were subscribed to
        self._pubsub: PubSub | None = None
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def listening(self, channel: str) -> AsyncIterator[asyncio.Event]:
        """Within: the event is set each time something is told on the channel, and once when we begin to listen."""
        key, event = channel.encode(), asyncio.Event()
        if key in self._said:
            event.set()  # listened to already, or still
        self._waiting.setdefault(key, set()).add(event)
        try:
            if self._task is None:
                self._task = asyncio.get_running_loop().create_task(self._listen(), context=Context())
            elif self._pubsub is not None:
                with suppress(*_ERRORS):
                    await self._subscribe(self._pubsub)
            yield event
        finally:
            events = self._waiting[key]
            events.discard(event)
            if not events:
                del self._waiting[key]  # unsubscribed from by the listener, some time

    async def _listen(self) -> None:
        try:
            while self._waiting:
                try:
                    await self._hear()
                except _ERRORS:
                    if self._waiting:
                        await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            self._task = None

    async def _hear(self) -> None:
        """Listen on one connection until it fails, or is of no use any more."""
        self._said = set()
        async with self._client.pubsub() as pubsub:
            try:
                await self._subscribe(pubsub)
                self._pubsub = pubsub
                await self._subscribe(pubsub)  # whoever came meanwhile
                asked = False
                while True:
                    message = await pubsub.get_message(timeout=_QUIET_SECONDS)
                    if message is not None:
                        asked = False
                        self._tell(message)
                    elif asked or not self._waiting:
                        return
                    else:
                        asked = True
                        await pubsub.ping()
                    await self._unsubscribe(pubsub)
            finally:
                self._pubsub = None

    async def _subscribe(self, pubsub: PubSub) -> None:
        new = self._waiting.keys() - self._said
        if new:
            self._said |= new
            await pubsub.subscribe(*new)

    async def _unsubscribe(self, pubsub: PubSub) -> None:
        old = self._said - self._waiting.keys()
        if old:
            self._said -= old
            await pubsub.unsubscribe(*old)

    def _tell(self, message: dict[str, Any]) -> None:
        if message["type"] in ("subscribe", "message"):
            for event in self._waiting.get(message["channel"], ()):
                event.set()
