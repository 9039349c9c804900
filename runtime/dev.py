"""`fnrun dev`: watch the project, and have its children take up what is saved.

Called by cli. A saved function file is imported anew by each child, in place; anything else (functions.toml,
.env, .secrets, _lifespan.py) takes a new child, and the old one works on until that is ready.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from watchfiles import Change, DefaultFilter, awatch

from runtime.base import logs
from runtime.base.secrets.files import ENV_FILE, SECRETS_FILE
from runtime.base.settings import FILE_NAME
from runtime.declare.modules import PACKAGE
from runtime.processes import Child, Message, answer_for_nobody

log = logs.get_logger(__name__)

_ANSWER_SECONDS = 2.0
"""A child that does not say by then that it takes a change up is stuck in a handler."""
_LONG_SECONDS = 5.0
_MOST_NAMED = 200
"""Of more changed files all are loaded anew."""
_END_SECONDS = 5.0
_QUIT_SECONDS = 2.0
"""So long before it would be killed a worker is told to leave its work."""
_LEAVE_SECONDS = 30.0
"""What a worker may take for what it runs once another has its place."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
"""Before one that ended by itself and does not listen is started again, if no save does it sooner."""
_WELL_SECONDS = 10.0
"""One that lived for so long has the first pause again."""
_no_dropping = DefaultFilter(  # vim tries with a file 4913 whether it may write
    ignore_entity_patterns=(*DefaultFilter.ignore_entity_patterns, r"^4913$", r"^#.*#$")
)
_SETTINGS = frozenset({FILE_NAME, ENV_FILE, SECRETS_FILE})
_NOBODY = "the server ended; see its log"


class Place:
    """One child of a kind, `COMMAND`: it, its successor until that is ready, and those that leave.

    name: "server", "scheduler" or "worker". sock: the listening socket of the server, so that what comes between two
    children waits. The others have none: they are started again when they end, as nobody would notice that they are not
    there. silence_seconds: see Child.start.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environ: Mapping[str, str],
        sock: socket.socket | None = None,
        silence_seconds: float = 0.0,
    ) -> None:
        self._name = name
        self._command = command
        self._environ = environ
        self._sock = sock
        self._silence_seconds = silence_seconds
        self._child: Child | None = None
        self._next: Child | None = None
        self._heard = asyncio.Event()
        self._loading = False
        self._began = 0.0
        self._pause = 0.0
        self._again: asyncio.TimerHandle | None = None
        self._leaving: set[Child] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # asyncio keeps but weak references

    async def start(self, *, kill: bool = False) -> None:
        """Start a child to take the place of the one there is, as soon as it is ready; or, kill, at once."""
        loop = asyncio.get_running_loop()
        if self._sock is not None:
            loop.remove_reader(self._sock)
        if self._again is not None:
            self._again.cancel()
        self._loading = False
        leaving, self._next = self._next, None
        if kill:
            self._end_in_background(self._child, 0)
            self._child = None
        self._end_in_background(leaving, 0)
        self._began = loop.time()
        try:
            child = await Child.start(self._command, self._environ, self._sock, self._silence_seconds)
        except OSError as error:
            log.error("no process can be started; save again", process=self._name, reason=str(error))  # noqa: TRY400 - it says all
            return
        self._end_in_background(self._next, 0)  # of a start that came between
        self._next = child
        self._spawn(self._follow(child))

    async def take_up(self, files: list[str]) -> None:
        """Have the child take up what changed; start another where there is none that can."""
        child = self._child
        if child is None or self._next is not None or self._loading:
            log.info("changed, starting anew", process=self._name, files=files)
            await self.start()
            return
        self._loading = True
        self._heard.clear()
        child.line.tell(Message("changed", files if len(files) <= _MOST_NAMED else [PACKAGE]))
        try:
            await asyncio.wait_for(self._heard.wait(), _ANSWER_SECONDS)
        except TimeoutError:
            if child is not self._child:  # another has come meanwhile, and has loaded what was saved
                return
            log.warning(
                "the change is not taken up: a handler blocks it; starting anew", process=self._name, files=files
            )
            await self.start(kill=True)
        else:
            asyncio.get_running_loop().call_later(_LONG_SECONDS, self._note_long, child, files)

    async def end(self) -> None:
        """End all of its children."""
        if self._again is not None:
            self._again.cancel()
        children, self._child, self._next = {self._child, self._next, *self._leaving}, None, None
        await asyncio.gather(
            *(child.end(_END_SECONDS, self._quit_seconds(_END_SECONDS)) for child in children if child is not None)
        )

    def _note_long(self, child: Child, files: list[str]) -> None:
        if self._loading and child is self._child:
            log.info(
                "still loading; the old version serves, and another save starts a new process",
                process=self._name,
                files=files,
            )

    async def _follow(self, child: Child) -> None:
        """Listen to a child until it ends."""
        async for message in child.line.messages():
            await self._hear(child, message)
        how = await child.wait()
        if child is self._next:
            self._next = None
        elif child is self._child:
            self._child, self._loading = None, False
            self._heard.set()
        else:
            return  # ended by us
        if self._child is not None:
            log.error(
                "the new version does not start, the old one serves on; mend what is wrong and save",
                process=self._name,
                how=how,
            )
        elif self._next is None and child.stuck:
            log.error("the process ended and is started again", process=self._name, how=how)
            await self.start()
        elif self._next is None:
            self._note_end(how)

    def _note_end(self, how: str) -> None:
        loop = asyncio.get_running_loop()
        if self._sock is not None:
            log.error("the server ended; mend what is wrong and save, and it starts anew", how=how)
            loop.add_reader(self._sock, answer_for_nobody, self._sock, _NOBODY)
            return
        lived = loop.time() - self._began
        self._pause = 0.0 if lived > _WELL_SECONDS else self._pause
        self._pause = min(_LONGEST_PAUSE_SECONDS, self._pause * 2 or _FIRST_PAUSE_SECONDS)
        said = f"the {self._name} ended and is started again, at a save at once"
        log.error(said, how=how, pause_seconds=self._pause)
        self._again = loop.call_later(self._pause, lambda: self._spawn(self.start()))

    async def _hear(self, child: Child, message: Message) -> None:
        if child is self._child and message.kind == "worn":
            log.warning("the process is worn out: another takes its place", process=self._name)
            if self._next is None:
                await self.start()
        elif child is self._child:
            self._heard.set()
            self._loading = message.kind == "loading"
            if message.kind == "restart":
                log.info("that takes a new process, starting anew", process=self._name)
                await self.start()
        elif child is self._next and message.kind == "ready":
            old, self._child, self._next = self._child, child, None
            self._end_in_background(old, _END_SECONDS if self._sock is not None else _LEAVE_SECONDS)
            if self._name == "worker":
                log.info("taking runs", queues=message.queues, concurrency=message.concurrency)
            elif self._name == "scheduler":
                log.info("scheduling", schedules=message.schedules)

    def _end_in_background(self, child: Child | None, within_seconds: float) -> None:
        if child is not None:
            self._leaving.add(child)
            self._spawn(self._let_leave(child, within_seconds))

    async def _let_leave(self, child: Child, within_seconds: float) -> None:
        await child.leave(within_seconds, self._quit_seconds(within_seconds))
        self._leaving.discard(child)

    def _quit_seconds(self, within_seconds: float) -> float | None:
        """After how long SIGQUIT is for one that may take so long; None for all but a worker, which alone knows it."""
        if self._name != "worker" or within_seconds <= _QUIT_SECONDS:
            return None
        return within_seconds - _QUIT_SECONDS

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def watch(root: Path, places: Sequence[Place]) -> None:
    """Fill the places and have each take up what is saved in `root`, until SIGTERM or SIGINT."""
    asyncio.run(_watch(root, places))


async def _watch(root: Path, places: Sequence[Place]) -> None:
    task = asyncio.current_task()
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # what changed is said by us
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lambda: task and task.cancel())
    try:
        await asyncio.gather(*(place.start() for place in places))
        # The whole folder: an editor replaces functions.toml, and a watch on the old file would see nothing.
        async for changes in awatch(root, watch_filter=partial(_matters, root), rust_timeout=200):
            files = sorted({_inside(root, path) for _, path in changes})
            if not _SETTINGS.isdisjoint(files):
                log.info("changed, starting anew", files=files)
                await asyncio.gather(*(place.start() for place in places))
            else:
                await asyncio.gather(*(place.take_up(files) for place in places))
    except asyncio.CancelledError:
        pass  # the signal
    finally:
        await asyncio.gather(*(place.end() for place in places))


def _matters(root: Path, change: Change, path: str) -> bool:
    """Whether a changed file is one of the project's: of settings, or anything in functions/ but droppings."""
    inside = _inside(root, path)
    return inside.partition(os.sep)[0] in (PACKAGE, *_SETTINGS) and _no_dropping(change, inside)


def _inside(root: Path, path: str) -> str:
    return os.path.relpath(path, root)
