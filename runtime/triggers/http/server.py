"""Hypercorn, as we run it: its settings, and two faults of it mended.

Called by roles. Serves an ASGI application on a socket that is there already.
"""

import asyncio
import logging
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from hypercorn.asyncio import run as hypercorn_run
from hypercorn.asyncio import serve, task_group, tcp_server
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from typing_extensions import override

BACKLOG = 2048
"""Connections the kernel holds while none is accepted."""

_KEEP_ALIVE_SECONDS = 75
_CLOSE_SECONDS = 1.0


class _Messages(asyncio.Queue[Any]):
    """The ASGI messages of one request: its end never waits for a place.

    Hypercorn's own is bounded for the end, too. Where an application answers without reading a long body, nobody makes
    a place, and both sides wait for ever.
    """

    @override
    async def put(self, item: Any) -> None:
        if item["type"] == "http.disconnect":
            self._maxsize = 0
        await super().put(item)


class _TaskGroup(task_group.TaskGroup):
    @override
    async def spawn_app(self, app: Any, config: Config, scope: Any, send: Any) -> Any:
        """As Hypercorn's, with our queue."""
        messages = _Messages(config.max_app_queue_size)

        def call_soon(function: Callable[..., Any], *args: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(function(*args), self._loop).result()

        in_executor = partial(self._loop.run_in_executor, None)
        self.spawn(task_group._handle, app, config, scope, messages.get, send, in_executor, call_soon)
        return messages.put


class _TCPServer(tcp_server.TCPServer):
    """Lets go of a connection whose client closed it. Hypercorn's holds it until the idle time is over."""

    _ended = False

    @override
    async def _read_data(self) -> None:
        await super()._read_data()
        self._ended = True
        await self.idle_task.stop()

    @override
    async def protocol_send(self, event: Event) -> None:
        if not (self._ended and isinstance(event, Updated)):  # what would start the idle time anew
            await super().protocol_send(event)


async def serve_app(app: Any, sock: socket.socket, until: Callable[[], Awaitable[None]]) -> None:
    """Serve `app` on a bound socket, which is ours from now on, until `until` returns; then close each connection."""
    hypercorn_run.TCPServer = _TCPServer  # type: ignore[attr-defined]  # where Hypercorn looks it up
    tcp_server.TaskGroup = _TaskGroup  # type: ignore[attr-defined]  # where Hypercorn looks it up
    config = Config()
    config.bind = [f"fd://{sock.detach()}"]
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.errorlog.setLevel(logging.WARNING)  # that it runs is said once, by us
    config.include_server_header = False
    config.backlog = BACKLOG
    config.keep_alive_timeout = _KEEP_ALIVE_SECONDS
    config.keep_alive_max_requests = sys.maxsize
    config.graceful_timeout = _CLOSE_SECONDS
    await serve(app, config, shutdown_trigger=until)
