"""Keep the embedded store's server running for as long as a process uses it. A program of its own, started by embedded.

Standard library only, run by its path, so that it stays small: `python -I -S keeper.py FOLDER SOCKET SERVER LOCK TOLD`.
LOCK is the descriptor of keeper.lock, which the starter has locked: it is held until this process ends, whose id is
in the file. TOLD is a pipe:
"loading" and "ready" as the server comes up, or why it does not.

Every process that uses the store holds users.lock, shared. To get it alone means that nobody is left, however they
died. A server holds server.lock: one that a killed keeper left behind is found by it, and ended before a new one.
It also brings the server's file to the disk each second. The server could do so itself (`appendfsync everysec`), but
then, while the disk is slow, it answers before it has handed a write to the system, for up to 2 s: killed there, it
loses what it has said it took (flushAppendOnlyFile in aof.c). With `appendfsync no` it never does.

It never reads or writes data, and ends by nothing but that lock: a signal for all processes of a service shall not
take the store away from those that still finish their work.
"""

import fcntl
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress

USERS, KEEPER, SERVER, LOG, PID = "users.lock", "keeper.lock", "server.lock", "server.log", "server.pid"

_LOG_BYTES = 1_000_000
_FAULT_BYTES = 4_000
_ASK_SECONDS = 1.0
_LEAVE_SECONDS = 5.0
_END_SECONDS = 20.0
_POLL_SECONDS = 0.005
_SYNC_SECONDS = 1.0
_FEW_BLOCKS = 16
_MOST_KILLED = 5
_STEADY_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 0.5


def lock_file(path: str, kind: int) -> int | None:
    """A descriptor of the file with that lock, which a child does not get; None if another has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def ask(path: str, command: bytes, within_seconds: float = _ASK_SECONDS) -> bytes:
    """The first line that the server on a socket answers; b"" if it does not."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(within_seconds)
        connection.connect(path)
        connection.sendall(command + b"\r\n")
        return connection.recv(1000).partition(b"\r\n")[0]
    return b""


class Keeper:
    """The parent of the server. Paths are absolute; server: the program."""

    def __init__(self, folder: str, path: str, server: str, told: int) -> None:
        self._folder = folder
        self._path = path
        self._server = server
        self._told = told
        self._starting = threading.Lock()
        self._process: int | None = None

    def keep(self) -> None:
        """Start the server, and again whenever it has died; end this process if it does not come up."""
        wait_seconds, killed = 0.0, 0
        while True:
            time.sleep(wait_seconds)
            began = time.monotonic()
            process, code = self._start()
            if code is None:
                self._tell("ready")
                killed = 0
                os.waitpid(process, 0)
                self._process = None
            else:  # killed before it was ready: by chance, or for what it is
                killed += 1
                if killed == _MOST_KILLED:
                    self._give_up(f"signal {-code} ended it while it started, {killed} times")
            with suppress(OSError):
                os.killpg(process, signal.SIGKILL)  # its child that rewrites the file
            steady = time.monotonic() - began > _STEADY_SECONDS
            wait_seconds = 0.0 if steady else min(wait_seconds * 2 + 0.05, _LONGEST_WAIT_SECONDS)

    def keep_or_end(self) -> None:
        """Keep, and end this process if that cannot be."""
        try:
            self.keep()
        except OSError as error:
            self._give_up(f"{error.filename or 'its folder'}: {error.strerror}")

    def sync(self) -> None:
        """Bring what the server has written to the disk, each second, for ever."""
        data, synced = self._in_folder("appendonlydir"), dict[str, tuple[int, int]]()
        while True:
            time.sleep(_SYNC_SECONDS)
            try:
                with os.scandir(data) as files:
                    synced = {file.path: _sync(file, synced.get(file.path)) for file in files}
            except FileNotFoundError:  # not there yet, or just replaced
                continue
            except OSError as error:
                # From now on the server does it at each write, and ends when it cannot.
                sys.stderr.write(f"{data} cannot be brought to the disk: {error.strerror}\n")
                ask(self._path, b"CONFIG SET appendfsync always")

    def end(self) -> None:
        """End the server, and this process. No other is started meanwhile."""
        with self._starting:
            began = time.monotonic()
            with suppress(ProcessLookupError):  # when `keep` has seen its end
                self._signal(signal.SIGTERM)
                while True:
                    time.sleep(_POLL_SECONDS)
                    self._signal(signal.SIGKILL if time.monotonic() - began > _END_SECONDS else 0)
            os._exit(0)

    def _start(self) -> tuple[int, int | None]:
        """The id of a new server, and None when it answers, or the code of the signal that killed it before."""
        log = os.open(self._in_folder(LOG), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            with self._starting:
                lock = self._end_left_behind()
                _trim(log)
                logged = os.fstat(log).st_size
                self._process = process = self._spawn(lock, log)
                os.close(lock)  # the server's own copy is what says that it lives
            code = self._wait_until_ready(process)
            if code is not None and code >= 0:
                self._give_up(_fault(log, logged) or self._silence())
        finally:
            os.close(log)
        return process, code

    def _wait_until_ready(self, process: int) -> int | None:
        """None as soon as it answers; its exit code if it ends before."""
        loading = False
        while (answer := ask(self._path, b"PING")) != b"+PONG":
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if not loading and answer.startswith(b"-LOADING"):
                loading = True
                self._tell("loading")
            time.sleep(_POLL_SECONDS)
        return None

    def _silence(self) -> str:
        """Why a server may have had no word."""
        full = os.statvfs(self._folder).f_bavail < _FEW_BLOCKS
        return "No space left on device" if full else "it ended without a word"

    def _spawn(self, lock: int, log: int) -> int:
        with suppress(FileNotFoundError):
            os.unlink(self._in_folder(PID))
        os.set_inheritable(lock, True)
        try:
            return os.posix_spawn(
                self._server,
                [self._server, *_options(self._folder, self._path)],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
                setpgroup=0,
            )
        except OSError as error:
            self._give_up(f"{self._server} cannot be run: {error.strerror}")
            raise

    def _end_left_behind(self) -> int:
        """The locked descriptor of server.lock, when no server has it any more.

        One that is there is asked to go; a frozen one is killed, with its children, who hold the lock, too.
        """
        began = time.monotonic()
        while (lock := lock_file(self._in_folder(SERVER), fcntl.LOCK_EX | fcntl.LOCK_NB)) is None:
            if time.monotonic() - began < _LEAVE_SECONDS:
                ask(self._path, b"SHUTDOWN NOSAVE", 0.2)
            else:  # it has written this file: it is removed before each start
                with suppress(OSError, ValueError), open(self._in_folder(PID), encoding="ascii") as file:
                    os.killpg(int(file.read()), signal.SIGKILL)
            time.sleep(_POLL_SECONDS)
        return lock

    def _signal(self, number: int) -> None:
        """Signal the server and its children; ProcessLookupError if there is none."""
        if self._process is None:
            raise ProcessLookupError
        os.killpg(self._process, number)

    def _in_folder(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _tell(self, word: str) -> None:
        with suppress(OSError):
            os.write(self._told, word.encode() + b"\n")

    def _give_up(self, reason: str) -> None:
        self._tell(reason)
        os._exit(1)


def _options(folder: str, path: str) -> list[str]:
    options = {
        "port": "0", "unixsocket": path, "unixsocketperm": "600", "dir": folder, "daemonize": "no",
        "appendonly": "yes", "appendfsync": "no", "aof-load-truncated": "yes", "save": "",
        "maxmemory-policy": "noeviction", "pidfile": os.path.join(folder, PID),
        "logfile": os.path.join(folder, LOG), "always-show-logo": "no",
    }  # fmt: skip
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _sync(file: "os.DirEntry[str]", synced: tuple[int, int] | None) -> tuple[int, int]:
    """Bring a file to the disk if it has changed; what is to be remembered of it."""
    found = file.stat()
    state = (found.st_ino, found.st_size)
    if state != synced:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            getattr(os, "fdatasync", os.fsync)(descriptor)  # macOS has only the second
        finally:
            os.close(descriptor)
    return state


def _trim(log: int) -> None:
    """Keep the end of a log that has grown."""
    size = os.fstat(log).st_size
    if size > _LOG_BYTES:
        kept = os.pread(log, _LOG_BYTES // 4, size - _LOG_BYTES // 4)
        os.ftruncate(log, 0)
        os.write(log, kept.partition(b"\n")[2])


def _fault(log: int, logged: int) -> str:
    """What a server that ended has said last: what it marked as grave, else all."""
    text = os.pread(log, _FAULT_BYTES, max(logged, os.fstat(log).st_size - _FAULT_BYTES)).decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    grave = [line.partition(" # ")[2] for line in lines if " # " in line and " WARNING " not in line]
    return " | ".join((grave or lines)[-4:])


def main(arguments: list[str]) -> None:
    """See the module."""
    folder, path, server, lock, told = arguments
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which the server would inherit
    for descriptor in (int(lock), int(told)):
        os.set_inheritable(descriptor, False)
    with suppress(OSError):  # for people; a full disk is told when the server says so
        os.ftruncate(int(lock), 0)
        os.pwrite(int(lock), b"%d\n" % os.getpid(), 0)
    os.umask(0o077)
    os.chdir(folder)
    keeper = Keeper(folder, path, server, int(told))
    threading.Thread(target=keeper.keep_or_end, daemon=True).start()
    threading.Thread(target=keeper.sync, daemon=True).start()
    users = os.open(os.path.join(folder, USERS), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(users, fcntl.LOCK_EX)  # nobody is left, and who comes waits until this process has ended
    keeper.end()


if __name__ == "__main__":
    main(sys.argv[1:])
