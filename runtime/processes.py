"""Child processes of ours, and the line between parent and child: one JSON message a line, both ways.

Used by the supervisor and dev (the parent's side) and by roles (the child's). The line's end is a message, too: the
child of a parent that is gone stops, however that one died.
"""

import asyncio
import atexit
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Literal, Self

import msgspec

from runtime.base.ids import new_run_id
from runtime.base.logs import get_logger
from runtime.base.pulse import STUCK, Silence
from runtime.spawning import Spawned, spawn

log = get_logger(__name__)

Kind = Literal["ready", "changed", "loading", "loaded", "restart", "worn", "leave"]


_LONGEST_LINE = 1_000_000
_NOBODY_SECONDS = 0.5
_LOOK_SECONDS = 0.5
_DUMP_SECONDS = 0.5
"""For a silent child to write its stacks."""


class Message(msgspec.Struct, frozen=True):
    """From the child: ready (it serves), loading and loaded (what changed), restart (a change takes a new process).

    worn: it still serves, and wants another to take its place.
    From the parent: changed, leave (another child has taken its place). files: from the project's root.
    functions, failures: how many there are. queues, concurrency: what a worker takes runs
    from, and how many at once. schedules: how many a scheduler has of them.
    """

    kind: Kind
    files: list[str] = []
    functions: int = 0
    failures: int = 0
    queues: list[str] = []
    concurrency: int = 0
    schedules: int = 0


_open: "set[Line]" = set()
"""asyncio keeps but weak references to readers and tasks: who waits for a message is kept by the line he waits on."""


class Line:
    """One end of the line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def on(cls, sock: socket.socket) -> Self:
        """The line over a connected socket."""
        line = cls(*await asyncio.open_connection(sock=sock, limit=_LONGEST_LINE))
        _open.add(line)
        return line

    def tell(self, message: Message) -> None:
        """Send a message; nothing happens if nobody is there any more."""
        self._writer.write(msgspec.json.encode(message) + b"\n")

    async def messages(self) -> AsyncIterator[Message]:
        """What the other side tells, until it is gone."""
        with suppress(ConnectionError):
            while line := await self._reader.readline():
                yield msgspec.json.decode(line, type=Message)

    def close(self) -> None:
        """Hang up."""
        _open.discard(self)
        self._writer.close()


class Child:
    """One process of ours, in a session of its own: Ctrl-C reaches the parent alone, which ends it in order."""

    def __init__(self, spawned: Spawned, line: Line, silence_seconds: float) -> None:
        self._process = spawned.process
        self._place = spawned.place
        self._pulse = spawned.pulse
        self._stopped = False
        self._silent = False
        self._end = asyncio.create_task(self._clear())
        self._watching = asyncio.create_task(self._watch(silence_seconds)) if silence_seconds else None
        self.line = line

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        environ: Mapping[str, str],
        sock: socket.socket | None = None,
        silence_seconds: float = 0.0,
    ) -> Self:
        """Start one: see spawn, and of for the rest. OSError."""
        return await cls.of(spawn(command, environ, sock), silence_seconds)

    @classmethod
    async def of(cls, spawned: Spawned, silence_seconds: float = 0.0) -> Self:
        """One that was started before. silence_seconds: killed if its pulse stands still for so long; 0.0 for never."""
        return cls(spawned, await Line.on(spawned.line), silence_seconds)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def ended(self) -> str | None:
        """How it ended: "exit code 1", "signal SIGKILL"; None while it runs."""
        code = self._process.returncode
        if code is None:
            return None
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        return f"stuck, {how}" if self.stuck else how

    @property
    def stuck(self) -> bool:
        """Whether it ended because a handler held it up: as its own watchdog found, or its pulse told."""
        return self._silent or self._process.returncode == STUCK

    async def wait(self) -> str:
        """Wait for its end; how it ended."""
        await asyncio.shield(self._end)
        return self.ended or ""

    async def _clear(self) -> None:
        """End what it started and left in its process group, and the line, which such a one may hold."""
        await _ended(self._process)
        self.kill()
        self.line.close()
        if self._watching is not None and not self._silent:
            self._watching.cancel()
        self._pulse.close()
        self._place.free()

    async def _watch(self, silence_seconds: float) -> None:
        """Kill it when its interpreter is held: nothing else can end that, and itself it can do and say nothing."""
        silence = Silence(_LOOK_SECONDS)
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if silence.look(self._pulse.beats, frozen=_is_frozen(self.pid)) > silence_seconds:
                break
        if self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self._pulse.ask_for_stacks(self.pid)
        await asyncio.sleep(_DUMP_SECONDS)
        self._silent = True
        log.error(
            "a process gives no sign of life, as when a handler holds its interpreter (a long regular expression, C "
            "code), and is killed",
            pid=self.pid,
            seconds=silence.seconds,
            stacks=self._pulse.stacks(),
        )
        self.kill()

    def stop(self) -> None:
        """Ask it, once, to finish what it does and end: a second signal would end it at once."""
        if not self._stopped:
            self._stopped = True
            self._signal(signal.SIGTERM)

    async def leave(self, within_seconds: float, quit_seconds: float | None = None) -> None:
        """Tell it that another has its place: it accepts nobody any more, answers whom it has, and ends.

        See end for the rest.
        """
        self.line.tell(Message("leave"))
        self._stopped = True
        await self.end(within_seconds, quit_seconds)

    async def end(self, within_seconds: float, quit_seconds: float | None = None) -> None:
        """Stop it; kill it, with all it started, and say so, if it takes longer.

        quit_seconds: after so long it is told by SIGQUIT not to wait for its work; None for a process that does not
        know that signal.
        """
        self.stop()
        if quit_seconds is not None and not await self._ends(quit_seconds):
            log.warning("a process is late and is told to quit", pid=self.pid, seconds=quit_seconds)
            self._signal(signal.SIGQUIT)
            within_seconds -= quit_seconds
        if not await self._ends(within_seconds):
            if within_seconds:
                log.warning("a process did not end in time and was killed", pid=self.pid, seconds=within_seconds)
            self.kill()
            await self.wait()

    async def _ends(self, within_seconds: float) -> bool:
        try:
            async with asyncio.timeout(within_seconds):
                await self.wait()
        except TimeoutError:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)  # to nobody, if it has ended

    def kill(self) -> None:
        """End it at once, with all it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


async def _ended(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process's end, in a thread: as asyncio does where a system has nothing better."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def wait() -> None:
        process.wait()
        with suppress(RuntimeError):  # nobody waits any more: the loop is closed
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, name="child", daemon=True).start()
    await ended.wait()


def _is_frozen(pid: int) -> bool:
    """Whether somebody has stopped a process, by SIGSTOP or a debugger."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123 - the shortest way, twice a second
            return stat.read().rpartition(b") ")[2][:1] in b"Tt"
    except OSError:  # it is gone, or this is no Linux
        return False


def end_without_parent(line: socket.socket, within_seconds: float) -> None:
    """End this process so long after its parent has hung up, though its event loop may be stuck in a handler.

    To be called once, in a child. However it ends then, what it started and left in its process group ends with it:
    nobody else is there any more to see to that.
    """
    watched = os.dup(line.fileno())

    def watch() -> None:
        _hung_up(watched, wait=True)
        time.sleep(within_seconds)
        _end_group()
        os._exit(1)

    def clear() -> None:
        if _hung_up(watched, wait=False):
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            _end_group()

    threading.Thread(target=watch, name="parent", daemon=True).start()
    atexit.register(clear)


def _hung_up(fd: int, *, wait: bool) -> bool:
    poll = select.poll()
    poll.register(fd, getattr(select, "POLLRDHUP", 0))  # POLLHUP is always told, too
    return bool(poll.poll(None if wait else 0))


def _end_group() -> None:
    """Kill all of this process's group, itself too, if the group is its own."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)


def answer_for_nobody(sock: socket.socket, reason: str) -> None:
    """503 to whoever has called and whom no child will answer, instead of silence. Blocks for half a second at most."""
    sock.setblocking(False)
    end = time.monotonic() + _NOBODY_SECONDS
    while (left := end - time.monotonic()) > 0:
        try:
            connection, _ = sock.accept()
        except OSError:  # nobody is there, or is there any more
            return
        with connection, suppress(OSError):
            connection.settimeout(left / 4)  # what it asks is read first: else the answer is lost in a reset
            connection.recv(65536)
            connection.sendall(_unavailable(reason))
            connection.shutdown(socket.SHUT_WR)


def answer_the_last(sock: socket.socket, reason: str) -> None:
    """Close a listening socket for good, and answer 503 to whom the kernel has let in by then: nobody is reset."""
    sock.setblocking(False)
    waiting = selectors.DefaultSelector()
    with suppress(OSError):  # that was the last
        while True:
            waiting.register(sock.accept()[0], selectors.EVENT_READ)
    sock.close()
    end = time.monotonic() + _NOBODY_SECONDS
    while waiting.get_map() and (left := end - time.monotonic()) > 0:
        for key, _ in waiting.select(left):
            waiting.unregister(key.fileobj)
            _refuse(key.fileobj, reason)  # type: ignore[arg-type]  # it may be a number, but is none here
    for key in list(waiting.get_map().values()):
        _refuse(key.fileobj, reason)  # type: ignore[arg-type]  # as above
    waiting.close()


def _refuse(connection: socket.socket, reason: str) -> None:
    with connection, suppress(OSError):
        connection.setblocking(False)
        with suppress(BlockingIOError):
            connection.recv(65536)
        connection.sendall(_unavailable(reason))
        connection.shutdown(socket.SHUT_WR)


def _unavailable(reason: str) -> bytes:
    run_id = new_run_id()
    problem = {"type": "about:blank", "title": "Service Unavailable", "status": 503, "run_id": run_id, "detail": reason}
    body = msgspec.json.encode(problem)
    return (
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 2\r\n"
        b"x-run-id: %b\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (run_id.encode(), len(body), body)
    )
