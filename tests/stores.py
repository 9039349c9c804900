"""Real stores, and a network between that can be broken: for all tests of what happens when a store is away."""

import fcntl
import os
import select
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from runtime.base.embedded import find_server
from runtime.base.keeper import ask, lock_file
from runtime.base.sections import StoreSettings
from runtime.base.store import Store
from tests.live_servers import until

HOST = "127.0.0.1"


@contextmanager
def private_store(folder: Path, namespace: str = "fnrun") -> Iterator[Store]:
    """An embedded store of a folder's own. It ends by itself, a moment after the last one who uses it."""
    store = Store.open(folder, StoreSettings(namespace=namespace))
    try:
        yield store
    finally:
        store.close()


def server_id(folder: Path) -> int:
    """The process of a folder's embedded server; 0 if there is none."""
    return _id_in(folder / ".fnrun" / "store" / "server.pid")


def keeper_id(folder: Path) -> int:
    """The process of a folder's keeper; 0 if there is none."""
    file = folder / ".fnrun" / "store" / "keeper.lock"
    lock = lock_file(str(file), fcntl.LOCK_SH | fcntl.LOCK_NB) if file.exists() else None
    if lock is not None:
        os.close(lock)
        return 0
    return _id_in(file)


def _id_in(file: Path) -> int:
    with suppress(OSError, ValueError):
        return int(file.read_text())
    return 0


def free_port() -> int:
    with socket.create_server((HOST, 0)) as sock:
        return sock.getsockname()[1]


class TcpStore:
    """A valkey-server on a free port of this machine, with an append-only file unless the options say otherwise.

    `TcpStore(folder, "--requirepass", "x")`. start, stop (SIGTERM), kill, freeze and thaw as often as one likes.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._folder = folder / f"store-{self.port}"
        self._folder.mkdir()
        self._options = options
        self.start()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def settings(self) -> StoreSettings:
        return StoreSettings(url=self.url)

    @property
    def socket(self) -> Path:
        """Where it can be asked without a network."""
        return self._folder / "admin.sock"

    def start(self, *, wait: bool = True) -> None:
        path = self.socket
        self.process = subprocess.Popen(
            [
                find_server(), "--port", str(self.port), "--bind", HOST, "--unixsocket", path, "--dir", self._folder,
                "--save", "", "--appendonly", "yes", "--logfile", self._folder / "log", *self._options,
            ]
        )  # fmt: skip
        if wait:
            until(lambda: (told := ask(str(path), b"PING")) and not told.startswith(b"-LOADING"), 30)

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(10)

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def freeze(self) -> None:
        """It does nothing more, but its connections stay; new ones are let in by the kernel."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


class Proxy:
    """A network in front of a store: cut, freeze, delay, reset_all, restore. tls: it speaks TLS to its clients.

    target: a port of this machine, or the path of a unix socket. delay: seconds for each piece, each way.
    """

    def __init__(self, target: int | str | Path, tls: ssl.SSLContext | None = None) -> None:
        self.delay = 0.0
        self._target = target
        self._tls = tls
        self._flowing = threading.Event()
        self._flowing.set()
        self._ends: set[socket.socket] = set()
        self._to_reset: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._guard = threading.Lock()
        self.port = 0
        self._listen()

    @property
    def url(self) -> str:
        return f"{'rediss' if self._tls else 'redis'}://{HOST}:{self.port}/0"

    @property
    def settings(self) -> StoreSettings:
        return StoreSettings(url=self.url)

    @property
    def connections(self) -> int:
        return len(self._ends) // 2

    def cut(self) -> None:
        """Every connection ends, new ones are refused."""
        with self._guard:
            with suppress(OSError):  # the thread that accepts would keep it open until somebody comes
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        self._close_all()

    def freeze(self) -> None:
        """A black hole: connections are accepted and stay, nothing passes; what was sent passes after `restore`."""
        self._flowing.clear()

    def reset_all(self) -> None:
        """Every connection is reset when this returns; new ones work."""
        with self._guard:
            ends = list(self._ends)
        self._close_all(reset=True)
        until(lambda: all(end.fileno() == -1 for end in ends))

    def restore(self) -> None:
        """All is well again, on the same port."""
        self.delay = 0.0
        self._flowing.set()
        if self._listener.fileno() == -1:
            self._listen()

    def close(self) -> None:
        self.cut()
        self._flowing.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self) -> None:
        self._listener = socket.create_server((HOST, self.port), backlog=512)
        self._listener.settimeout(0.1)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while listener.fileno() != -1:
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        client.settimeout(None)
        family = socket.AF_INET if isinstance(self._target, int) else socket.AF_UNIX
        server = socket.socket(family)
        try:
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
            server.connect((HOST, self._target) if isinstance(self._target, int) else str(self._target))
        except OSError:  # the store is away, or the client does not like the certificate
            client.close()
            server.close()
            return
        with self._guard:
            self._ends |= {client, server}
            if self._listener.fileno() == -1:  # cut meanwhile
                _shut(client)
                _shut(server)
        one_at_a_time = threading.Lock()  # OpenSSL wants it for the two directions of a connection
        other = threading.Thread(target=self._pump, args=(server, client, one_at_a_time), daemon=True)
        other.start()
        self._pump(client, server, one_at_a_time)
        other.join()
        with self._guard:
            self._ends -= {client, server}
            client.close()
            server.close()

    def _pump(self, source: socket.socket, sink: socket.socket, one_at_a_time: threading.Lock) -> None:
        with suppress(OSError, ValueError):
            while True:
                if not (isinstance(source, ssl.SSLSocket) and source.pending()):
                    select.select([source], [], [])
                with one_at_a_time:
                    data = source.recv(65536)
                if not data:
                    break
                self._flowing.wait()
                if self.delay:
                    time.sleep(self.delay)
                with one_at_a_time:
                    sink.sendall(data)
        how = socket.SHUT_RD if source in self._to_reset or sink in self._to_reset else socket.SHUT_RDWR
        _shut(source, how)
        _shut(sink, how)

    def _close_all(self, *, reset: bool = False) -> None:
        with self._guard:
            for end in self._ends:
                if reset:  # to close it with this option resets it; to shut it down would end it in good order
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self._to_reset.add(end)
                _shut(end, socket.SHUT_RD if reset else socket.SHUT_RDWR)


def _shut(end: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    with suppress(OSError):
        end.shutdown(how)
