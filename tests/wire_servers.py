"""A server on a real socket, in a thread of this process, and what a plain socket hears from it."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import msgspec
import uvloop

from runtime.ledger.desk import Desk
from runtime.listening import open_socket
from runtime.projects import load_project
from runtime.roles import HttpRole
from runtime.triggers.http.wire.requests import Limits
from runtime.triggers.http.wire.server import Server, wire_of


def write_files(root: Path, **files: str) -> Path:
    """Write files of a project into a folder."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
    return root


class Wired:
    """A project served until `stop`. role, server: what serves it, to be looked at."""

    def __init__(
        self,
        root: Path,
        *,
        auth: str = "public",
        limits: Limits | None = None,
        desk: Desk | None = None,
        **settings: str,
    ) -> None:
        self.project = load_project(root, {"http__auth": auth, **{f"http__{k}": v for k, v in settings.items()}})
        assert self.project.registry.failures == (), self.project.registry.failures
        self._limits, self._desk = limits, desk
        self._sock = open_socket("127.0.0.1:0")
        self.port: int = self._sock.getsockname()[1]
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        """As roles does, with limits of its own."""
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.role = HttpRole(self.project, desk=self._desk)
        wire = wire_of(self.project.root, self.project.settings.http)
        if self._limits is not None:
            wire = msgspec.structs.replace(wire, limits=self._limits)
            self.role.shell.limits = self._limits
        self.server = Server(self.role.app, self._sock, wire, self.role.overload, self.role.direct)
        await self.server.begin()
        self._ready.set()
        await self._stop.wait()
        self.role.core.draining = True
        await self.server.end()
        self.role.invoker.threads.close()

    def stop(self) -> None:
        """End the drain at once, and wait for the end."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(20)
        assert not self._thread.is_alive()

    def ask(self, function: Callable[[], object]) -> object:
        """What a function says inside the server's loop."""

        async def call() -> object:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(10)

    def connect(self, timeout: float = 10, context: ssl.SSLContext | None = None) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        return context.wrap_socket(sock, server_hostname="localhost") if context else sock

    def exchange(self, *parts: bytes, end: bool = False) -> bytes:
        """Send bytes; all that comes back until the other side closes. end: say that no more is sent."""
        with self.connect() as sock:
            for part in parts:
                sock.sendall(part)
            if end:
                sock.shutdown(socket.SHUT_WR)
            return hear(sock)

    def answers(self, *parts: bytes, methods: tuple[str, ...] = (), end: bool = False) -> "list[Heard]":
        """As `exchange`, but read as answers. methods: of the requests; GET where not said."""
        return read_answers(self.exchange(*parts, end=end), methods)


def hear(sock: socket.socket) -> bytes:
    """Everything until the other side closes."""
    found = b""
    while part := sock.recv(65536):
        found += part
    return found


class Heard(NamedTuple):
    """One answer, as it came over the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def header(self, name: str) -> str | None:
        found = self.values(name)
        assert len(found) <= 1, f"{name} stands {len(found)} times"
        return found[0] if found else None


def read_answers(data: bytes, methods: tuple[str, ...] = ()) -> list[Heard]:
    """Cut what came into answers, strictly: nothing may be left over."""
    found: list[Heard] = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator, f"no end of the head: {head!r}"
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1", first
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        final = [one for one in found if one.status >= 200]
        answer = Heard(int(status), headers, b"")
        method = methods[len(final)] if len(final) < len(methods) else "GET"
        body, data = _take_body(answer, method, data)
        found.append(answer._replace(body=body))
    return found


def _take_body(answer: Heard, method: str, data: bytes) -> tuple[bytes, bytes]:
    if method == "HEAD" or answer.status < 200 or answer.status in (204, 304):
        return b"", data
    if answer.header("transfer-encoding") == "chunked":
        body = b""
        while True:
            size, _, data = data.partition(b"\r\n")
            length = int(size, 16)
            body, end, data = body + data[:length], data[length : length + 2], data[length + 2 :]
            assert end == b"\r\n"
            if not length:
                return body, data
    length = answer.header("content-length")
    if length is None:
        return data, b""  # until the end of the connection
    assert len(data) >= int(length), f"{len(data)} bytes of {length}"
    return data[: int(length)], data[int(length) :]
