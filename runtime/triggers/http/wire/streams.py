"""How a request of Hypercorn's protocols reaches the application.

Used by http1, http2 and http3. Loads Hypercorn's protocols, and with them h11, h2 and wsproto; so nothing that every
process needs may import it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.utils import suppress_body
from typing_extensions import override

from runtime.base.logs import get_logger
from runtime.triggers.http.shedding.overload import App
from runtime.triggers.http.wire.requests import GONE, Receive, Send, Tasks, refusal

log = get_logger(__name__)


class Hearer(Protocol):
    """What a protocol of Hypercorn's says something to: a connection, which does not know the words of that."""

    async def say(self, data: bytes) -> None:
        """Send something. Waits while the client does not read."""

    def turn(self, *, idle: bool) -> None:
        """A request begins, or none is under way any more."""

    def close(self) -> None:
        """All is said."""

    def reset(self) -> None:
        """An answer has no end, and nothing else tells its client."""


class Cut(Closed):
    """An answer has no end."""


async def tell(hearer: Hearer, event: Event) -> None:
    """Have it heard."""
    if isinstance(event, RawData):
        await hearer.say(event.data)
    elif isinstance(event, Cut):
        hearer.reset()
    elif isinstance(event, Closed):
        hearer.close()
    elif isinstance(event, Updated):
        hearer.turn(idle=event.idle)


class Stream(HTTPStream):
    """Hypercorn's request and answer. Its own errors are bare; ours are problems."""

    @override
    async def _send_error_response(self, status_code: int) -> None:
        headers, body = refusal(status_code, "the request was given up", close=self.scope["http_version"] < "2")
        await self.app_send({"type": "http.response.start", "status": status_code, "headers": headers})
        if not suppress_body(self.scope["method"], status_code):
            await self.app_send({"type": "http.response.body", "body": body, "more_body": False})


class Messages:
    """The ASGI messages of one request, from its connection to the application.

    Hypercorn's queue counts messages, and bounds their end as well: where an application answers without reading a long
    body nobody makes a place, and both sides wait for ever. This one counts bytes, and its end is always let in.

    size: bytes that nobody has read. gone: set once no more will come. wanted: called once, when the application
    first asks. taken: called with the length of each part it took.
    """

    def __init__(
        self,
        room: int,
        wanted: Callable[[], Awaitable[None]] | None = None,
        taken: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self._room = room
        self._wanted = wanted
        self._taken = taken
        self._items: deque[Any] = deque()
        self.size = 0
        self.gone = asyncio.Event()
        self._came = asyncio.Event()
        self._left: asyncio.Event | None = None

    async def put(self, message: Any) -> None:
        """Hand over a message; waits while too much is unread."""
        if message["type"] == "http.disconnect":
            self.end()
            return
        while self.size >= self._room and not self.gone.is_set():
            self._left = asyncio.Event()
            await self._left.wait()
        self.size += len(message["body"])
        self._items.append(message)
        self._came.set()

    def end(self) -> None:
        """The client has gone away, or is answered."""
        self.gone.set()
        self._came.set()
        if self._left is not None:
            self._left.set()

    async def get(self) -> Any:
        """The next message; once the client is gone, that, for ever."""
        if self._wanted is not None and not self._items:
            wanted, self._wanted = self._wanted, None
            await wanted()
        while not self._items:
            if self.gone.is_set():
                return {"type": "http.disconnect"}
            self._came.clear()
            await self._came.wait()
        message = self._items.popleft()
        length = len(message["body"])
        self.size -= length
        if self._left is not None and self.size < self._room:
            self._left.set()
        if self._taken is not None and length:
            await self._taken(length)
        return message

    def drop(self) -> int:
        """Forget what nobody will read; its length."""
        self._items.clear()
        size, self.size = self.size, 0
        return size


class Caller:
    """What a Stream takes for its task group: starts the application on one request, with these messages.

    complete: whether the whole request has come, where its protocol says so here.
    """

    def __init__(self, tasks: Tasks, messages: Messages) -> None:
        self._tasks = tasks
        self.messages = messages
        self.complete = False
        self.task: asyncio.Task[None] | None = None

    async def spawn_app(self, app: App, _config: Config, scope: Any, send: Send) -> Any:
        """Start it; returns where the request's messages go."""
        scope["extensions"][GONE] = self.messages.gone
        self.task = self._tasks.spawn(_run, app, scope, self.messages.get, send)
        return self.messages.put


async def _run(app: App, scope: Any, receive: Receive, send: Send) -> None:
    try:
        await app(scope, receive, send)
    except Exception as error:
        log.error("request failed inside the server", exc_info=error)  # noqa: TRY400 - the traceback is in it
    finally:
        await send(None)
