"""Several HTTP processes on one socket: one that dies is replaced at once, and the others serve on.

Called by cli for `serve` with `[http] workers` above 1. Serves nothing itself, and loads no function.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Mapping, Sequence

from runtime.base.errors import StartError
from runtime.base.logs import get_logger
from runtime.processes import Child, Message, answer_for_nobody

log = get_logger(__name__)

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 1.0
"""Between the deaths of one that dies again and again. With the time to start it is below the 2 s that are promised."""
_WELL_SECONDS = 10.0
"""One that lived for so long is replaced without a pause."""
_END_SECONDS = 15.0
"""What a child may take longer than its drain time, to close what is open."""


class Supervisor:
    """count children, each `fnrun ARGUMENTS`, on a listening socket that they share and inherit."""

    def __init__(self, arguments: Sequence[str], count: int, sock: socket.socket, *, url: str) -> None:
        self._arguments = arguments
        self._sock = sock
        self._url = url
        self._children: dict[int, Child | None] = dict.fromkeys(range(count))
        self._serving = 0
        self._well: set[int] = set()
        self._stopping = asyncio.Event()

    async def run(self, drain_seconds: float, environ: Mapping[str, str] = os.environ) -> None:
        """Keep them running until SIGTERM or SIGINT, then let them drain. StartError if one cannot even start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        try:
            async with asyncio.TaskGroup() as group:
                for slot in self._children:
                    group.create_task(self._keep(slot, environ))
                await self._stopping.wait()
                log.info("stopping", processes=len(self._children), drain_seconds=drain_seconds)
                await self._end_all(drain_seconds + _END_SECONDS)
        except* StartError as errors:
            await self._end_all(_END_SECONDS)
            raise StartError(str(errors.exceptions[0])) from None
        answer_for_nobody(self._sock, "the server has stopped")
        log.info("stopped")

    def _stop(self) -> None:
        """At the first signal every child hears of it at once; at the second they are killed."""
        for child in self._children.values():
            if child is not None and not self._stopping.is_set():
                child.stop()
            elif child is not None and child.ended is None:
                child.kill()
        self._stopping.set()

    async def _end_all(self, within_seconds: float) -> None:
        self._stopping.set()
        await asyncio.gather(*(child.end(within_seconds) for child in self._children.values() if child is not None))

    async def _keep(self, slot: int, environ: Mapping[str, str]) -> None:
        """One place: whoever holds it is replaced when it ends."""
        loop = asyncio.get_running_loop()
        pause = 0.0
        first = True
        while not self._stopping.is_set():
            # What does not load is said by one of the children only.
            announce = ["--announce"] if first and slot == 0 else []
            try:
                child = await Child.start([*self._arguments, *announce], self._sock, environ)
            except OSError as error:  # no memory, no process to be had: others may end, so it is tried again
                log.error("an HTTP process cannot be started", reason=str(error))  # noqa: TRY400 - the reason says all
                await asyncio.sleep(_LONGEST_PAUSE_SECONDS)
                continue
            self._children[slot] = child
            if self._stopping.is_set():  # the signal came while it was started
                child.stop()
            began = loop.time()
            ready = await anext(child.line.messages(), None)
            if ready is not None:
                self._well.add(slot)
                loop.remove_reader(self._sock)
                self._note_ready(ready, first=first)
            how = await child.wait()
            self._well.discard(slot)
            child.line.close()
            if self._stopping.is_set():
                return
            if ready is None and first:
                raise StartError(f"an HTTP process ended before it could serve ({how}); what it printed says why")
            log.error("an HTTP process ended and is replaced", pid=child.pid, how=how)
            if ready is None and not self._well:
                loop.add_reader(self._sock, answer_for_nobody, self._sock, "no process can be started; see the log")
            first = first and ready is None
            lived = loop.time() - began
            pause = 0.0 if lived > _WELL_SECONDS else min(_LONGEST_PAUSE_SECONDS, pause * 2 or _FIRST_PAUSE_SECONDS)
            await asyncio.sleep(pause)

    def _note_ready(self, ready: Message, *, first: bool) -> None:
        self._serving += first
        if first and self._serving == len(self._children):
            log.info(
                "listening", url=self._url, functions=ready.functions, failures=ready.failures, workers=self._serving
            )
