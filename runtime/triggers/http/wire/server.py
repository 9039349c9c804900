"""Accept connections and hand them to the protocols, until the drain is over; then close without losing one.

Called by roles. Serves an ASGI application on a socket that listens already. What the bytes mean is the business of
connection, http1 and http2, which run on Hypercorn's protocols; Hypercorn's own accept loop resets at its end whatever
the kernel still holds for it, and has no limit of connections.
"""

import asyncio
import errno
import resource
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from runtime.base.logs import get_logger
from runtime.base.sections import HttpSettings
from runtime.triggers.http.shedding.overload import App, Overload
from runtime.triggers.http.wire.connection import Connection
from runtime.triggers.http.wire.lane import Direct, Lane
from runtime.triggers.http.wire.requests import Limits, Surroundings, Tasks
from runtime.triggers.http.wire.tls import load_tls

if TYPE_CHECKING:  # loaded when somebody needs them
    from hypercorn.config import Config

    from runtime.triggers.http.wire.http1 import Http1
    from runtime.triggers.http.wire.http2 import Http2
    from runtime.triggers.http.wire.http3 import Http3Server

log = get_logger(__name__)

_ACCEPTED_AT_ONCE = 100
_OTHER_FILES = 256
"""File descriptors that are left for functions, out of what the process may have."""
_PAUSE_SECONDS = 0.1
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_OF_A_CLIENT = frozenset(
    getattr(errno, name, None)  # ENONET is Linux's alone
    for name in (
        "ENETDOWN",
        "EPROTO",
        "ENOPROTOOPT",
        "EHOSTDOWN",
        "ENONET",
        "EHOSTUNREACH",
        "EOPNOTSUPP",
        "ENETUNREACH",
    )
)
"""Errors of the connection that would be accepted, not of the listener: accept(2)."""


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """How to serve. tls: None for plain text. http2: where TLS agrees on it, and for clients that begin with it.

    http3: certificate and key, where it is wanted.
    """

    limits: Limits = Limits()
    tls: ssl.SSLContext | None = None
    http2: bool = True
    http3: tuple[Path, Path] | None = None


def wire_of(root: Path, settings: HttpSettings) -> Wire:
    """How to serve, by the settings of the project in `root`. StartError for a certificate that cannot be used."""
    limits = Limits(
        connections=settings.max_connections, head_bytes=settings.max_headers, idle_seconds=float(settings.keep_alive)
    )
    certificate = (root / settings.certfile, root / settings.keyfile) if settings.http3 else None
    return Wire(limits=limits, tls=load_tls(root, settings), http2=settings.http2, http3=certificate)


class Server:
    """One listening socket, which is its own from now on, and its connections.

    direct: what answers plain requests of HTTP/1.1 the short way; None for `app`, as it does all others.

    idle: those without a request, the longest so first. asking: those with a part of a head, the longest first.
    """

    def __init__(
        self,
        app: App,
        sock: socket.socket,
        wire: Wire,
        overload: Overload | None = None,
        direct: Direct | None = None,
    ) -> None:
        self.app = app
        self.overload = overload or Overload()  # which refuses nobody
        self.limits = wire.limits
        self.http2 = wire.http2
        self.tasks = Tasks()
        self.alt_svc = b""
        self.context = Surroundings()
        self.ending = False
        self.connections: set[Connection] = set()
        self.lane = Lane(self, direct)
        self._stock = wire.tls is not None or direct is None
        self.idle: dict[Connection, None] = {}
        self.asking: dict[Connection, None] = {}
        self._tls = wire.tls
        self._protocols: asyncio.Future[tuple[type[Http1], type[Http2]]] | None = None
        self._http3 = wire.http3
        self._quic: Http3Server | None = None
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._limit = _most_connections(wire.limits.connections)
        self._opening: dict[Connection, asyncio.Task[None]] = {}  # in their handshakes, the longest first
        self._changed = asyncio.Event()
        self._accepting = False
        self._stopped = False
        self._told = False

    @cached_property
    def config(self) -> "Config":
        """What Hypercorn's protocols ask for: it logs nothing, as we do that."""
        from hypercorn.config import Config  # noqa: PLC0415 - its protocols load it, and many a process never needs them

        config = Config()
        config.accesslog = config.errorlog = None
        return config

    async def begin(self) -> None:
        """Start to accept. StartError if HTTP/3 cannot be had."""
        if self._http3 is not None:
            from runtime.triggers.http.wire.http3 import open_http3  # noqa: PLC0415 - an extra: it may not be installed

            self._quic = await open_http3(self, self._sock, self._http3)
        self._sock.setblocking(False)
        self._accept_on()
        self.tasks.spawn(self._watch)
        if self._stock:  # they will be asked for at once
            self.tasks.spawn(self.protocols)

    async def protocols(self) -> "tuple[type[Http1], type[Http2]]":
        """Hypercorn's, loaded once, for the first that needs them. It takes 0.1 s, in which the others go on."""
        loaded = self._protocols
        if loaded is None or (loaded.done() and loaded.exception() is not None):
            thread = ThreadPoolExecutor(1)  # not the loop's own: handlers may have filled that for long
            loaded = self._protocols = self._loop.run_in_executor(thread, _load_protocols)
            thread.shutdown(wait=False)
        return await asyncio.shield(loaded)

    async def leave(self, within_seconds: float) -> None:
        """Make room for another process on the same socket: accept nobody, and end each connection with an answer.

        Returns when none is left, or when the time is over.
        """
        self._stopped = True
        self._accept_off()
        await self._terminate()
        await self._wait_until(lambda: not self._opening and not self.connections, within_seconds)

    async def end(self) -> None:
        """Stop accepting, and close the connections. Whom the kernel lets in from now on is for the parent."""
        self._stopped = True
        self._accept_off()
        self._sock.close()
        await self._wait_until(lambda: not self._opening, self.limits.close_seconds)  # those are no connections yet
        await self._terminate()
        for connection in list(self.connections):
            connection.finish()
        if self._quic is not None:
            self._quic.close()
        await self._wait_until(lambda: not self.connections, self.limits.close_seconds)

    async def _terminate(self) -> None:
        self.ending = True
        await self.context.terminated.set()

    async def _wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until a condition on the connections holds, for some time at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()

    def on_opened(self, connection: Connection) -> None:
        """A connection is there, its handshake done."""
        self._opening.pop(connection, None)
        self.connections.add(connection)
        self._changed.set()

    def on_left(self, connection: Connection) -> None:
        """A connection has ended: there may be room for another."""
        self.idle.pop(connection, None)
        self.asking.pop(connection, None)
        self.connections.discard(connection)
        self._on_less()

    def _on_less(self) -> None:
        self._changed.set()
        if not self._accepting and not self._stopped and not self._is_full():
            self._accept_on()

    def _is_full(self) -> bool:
        return len(self.connections) + len(self._opening) >= self._limit

    def _accept_on(self) -> None:
        if not self._accepting and not self._stopped:
            self._accepting = True
            self._loop.add_reader(self._sock, self._on_readable)

    def _accept_off(self) -> None:
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._sock)

    def _on_readable(self) -> None:
        if self._is_full():
            self._make_room("the limit of connections is reached")
            return
        for _ in range(_ACCEPTED_AT_ONCE):
            if self._is_full() or not self._accept():
                return

    def _accept(self) -> bool:
        """Accept one; False when there is none, or no file for it."""
        try:
            sock, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionError:  # it is gone already
            return True
        except OSError as error:
            if error.errno in _OF_A_CLIENT:
                return True
            if error.errno not in _OUT_OF_FILES:
                raise
            self._make_room("the system has no more files for connections")
            return False
        sock.setblocking(False)
        connection = Connection(self)
        task = self._opening[connection] = self.tasks.spawn(self._open, connection, sock)
        task.add_done_callback(partial(self._on_open_ended, connection, sock))
        return True

    def _make_room(self, reason: str) -> None:
        """Close the connection that asks least: idle, else in its handshake, else in its head; of those the oldest.

        Then wait: what comes next waits in the kernel.
        """
        self._accept_off()
        if not self._told:
            self._told = True
            log.warning("connections wait to be accepted", reason=reason, connections=len(self.connections))
        if self.idle:
            next(iter(self.idle)).drop()
        elif self._opening:
            next(iter(self._opening.values())).cancel()
        elif self.asking:
            next(iter(self.asking)).drop()
        self._loop.call_later(_PAUSE_SECONDS, self._accept_on)

    async def _open(self, connection: Connection, sock: socket.socket) -> None:
        seconds = self.limits.handshake_seconds if self._tls is not None else None
        with suppress(OSError, TimeoutError):  # what goes wrong in a handshake is the client's
            await self._loop.connect_accepted_socket(
                lambda: connection, sock, ssl=self._tls, ssl_handshake_timeout=seconds
            )

    def _on_open_ended(self, connection: Connection, sock: socket.socket, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # for the sake of another, perhaps before it began
            sock.close()
        self._opening.pop(connection, None)
        self._on_less()

    async def _watch(self) -> None:
        """Look at the deadlines of all connections, over and over: a timer for each would cost each request."""
        while True:
            await asyncio.sleep(self.limits.tick_seconds)
            now = self._loop.time()
            for connection in list(self.connections):
                try:
                    connection.check(now)
                except Exception:  # the others have deadlines, too
                    log.exception("a connection could not be checked")


def _load_protocols() -> "tuple[type[Http1], type[Http2]]":
    from runtime.triggers.http.wire.http1 import Http1  # noqa: PLC0415 - 4 MB that many a process never needs
    from runtime.triggers.http.wire.http2 import Http2  # noqa: PLC0415 - as above

    return Http1, Http2


def _most_connections(wanted: int) -> int:
    """As many as are wanted, if the process may have as many files; its soft limit is raised to that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    return max(soft - _OTHER_FILES, soft // 2, 1)
