"""`fnrun dev`: watch the project, and have its one child take up what is saved.

Called by cli. A saved function file is imported anew by the child, in place; anything else (functions.toml,
_lifespan.py) takes a new child, and the old one serves until that is ready.
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

from runtime.base.logs import get_logger
from runtime.base.settings import FILE_NAME
from runtime.declare.modules import PACKAGE
from runtime.processes import Child, Message, answer_for_nobody

log = get_logger(__name__)

_ANSWER_SECONDS = 2.0
"""A child that does not say by then that it takes a change up is stuck in a handler."""
_LONG_SECONDS = 5.0
_MOST_NAMED = 200
"""Of more changed files all are loaded anew."""
_END_SECONDS = 5.0
_no_dropping = DefaultFilter(  # vim tries with a file 4913 whether it may write
    ignore_entity_patterns=(*DefaultFilter.ignore_entity_patterns, r"^4913$", r"^#.*#$")
)
_NOBODY = "the server ended; see its log"


class Dev:
    """One child, `fnrun ARGUMENTS`, on a listening socket of ours: what comes between two children waits."""

    def __init__(self, root: Path, arguments: Sequence[str], sock: socket.socket) -> None:
        self._root = root
        self._arguments = arguments
        self._sock = sock
        self._child: Child | None = None
        self._next: Child | None = None
        self._heard = asyncio.Event()
        self._loading = False
        self._leaving: set[Child] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # asyncio keeps but weak references

    async def run(self, environ: Mapping[str, str] = os.environ) -> None:
        """Serve until SIGTERM or SIGINT."""
        task = asyncio.current_task()
        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # what changed is said by us
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, lambda: task and task.cancel())
        try:
            await self._start(environ)
            # The whole folder: an editor replaces functions.toml, and a watch on the old file would see nothing.
            async for changes in awatch(self._root, watch_filter=partial(_matters, self._root), rust_timeout=200):
                await self._take_up(sorted({_inside(self._root, path) for _, path in changes}), environ)
        except asyncio.CancelledError:
            pass  # the signal
        finally:
            children, self._child, self._next = {self._child, self._next, *self._leaving}, None, None
            await asyncio.gather(*(child.end(_END_SECONDS) for child in children if child is not None))

    async def _take_up(self, files: list[str], environ: Mapping[str, str]) -> None:
        child = self._child
        if child is None or self._next is not None or self._loading or FILE_NAME in files:
            log.info("changed, starting anew", files=files)
            await self._start(environ)
            return
        self._loading = True
        self._heard.clear()
        child.line.tell(Message("changed", files if len(files) <= _MOST_NAMED else [PACKAGE]))
        try:
            await asyncio.wait_for(self._heard.wait(), _ANSWER_SECONDS)
        except TimeoutError:
            log.warning("the server does not take the change up: a handler blocks it; starting anew", files=files)
            await self._start(environ, kill=True)
        else:
            asyncio.get_running_loop().call_later(_LONG_SECONDS, self._note_long, child, files)

    def _note_long(self, child: Child, files: list[str]) -> None:
        if self._loading and child is self._child:
            log.info("still loading; the old version serves, and another save starts a new process", files=files)

    async def _start(self, environ: Mapping[str, str], *, kill: bool = False) -> None:
        """Start a child to take the place of the one there is, as soon as it serves; or, kill, at once."""
        asyncio.get_running_loop().remove_reader(self._sock)
        self._loading = False
        leaving, self._next = self._next, None
        if kill:
            self._end_in_background(self._child, 0)
            self._child = None
        self._end_in_background(leaving, 0)
        try:
            self._next = await Child.start(self._arguments, self._sock, environ)
        except OSError as error:
            log.error("no process can be started; save again", reason=str(error))  # noqa: TRY400 - it says all
            return
        self._spawn(self._follow(self._next, environ))

    async def _follow(self, child: Child, environ: Mapping[str, str]) -> None:
        """Listen to a child until it ends."""
        async for message in child.line.messages():
            await self._hear(child, message, environ)
        how = await child.wait()
        if child is self._next:
            self._next = None
        elif child is self._child:
            self._child, self._loading = None, False
            self._heard.set()
        else:
            return  # ended by us
        if self._child is not None:
            log.error("the new version does not start, the old one serves on; mend what is wrong and save", how=how)
        elif self._next is None:
            log.error("the server ended; mend what is wrong and save, and it starts anew", how=how)
            asyncio.get_running_loop().add_reader(self._sock, answer_for_nobody, self._sock, _NOBODY)

    async def _hear(self, child: Child, message: Message, environ: Mapping[str, str]) -> None:
        if child is self._child:
            self._heard.set()
            self._loading = message.kind == "loading"
            if message.kind == "restart":
                log.info("that takes a new process, starting anew")
                await self._start(environ)
        elif child is self._next and message.kind == "ready":
            old, self._child, self._next = self._child, child, None
            self._end_in_background(old, _END_SECONDS)

    def _end_in_background(self, child: Child | None, within_seconds: float) -> None:
        if child is not None:
            self._leaving.add(child)
            self._spawn(self._let_leave(child, within_seconds))

    async def _let_leave(self, child: Child, within_seconds: float) -> None:
        await child.leave(within_seconds)
        self._leaving.discard(child)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _matters(root: Path, change: Change, path: str) -> bool:
    """Whether a changed file is one of the project's: functions.toml, or anything in functions/ but droppings."""
    inside = _inside(root, path)
    return inside.partition(os.sep)[0] in (PACKAGE, FILE_NAME) and _no_dropping(change, inside)


def _inside(root: Path, path: str) -> str:
    return os.path.relpath(path, root)
