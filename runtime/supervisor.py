"""Several processes of several kinds: one that dies is replaced, and the others go on.

Called by cli for `serve`, unless one HTTP process is all there is. Serves nothing itself, and loads no function.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from runtime.base import logs
from runtime.base.errors import StartError
from runtime.processes import Child, Message, answer_for_nobody

log = logs.get_logger(__name__)

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 1.0
"""Between the deaths of one that dies again and again. With the time to start it is below the 2 s that are promised."""
_LONGEST_PAUSE_UNREADY_SECONDS = 5.0
"""The same of one that does not listen and dies before it is ready: whatever keeps it from that is not over so soon."""
_WELL_SECONDS = 10.0
"""One that lived for so long is replaced without a pause."""
_END_SECONDS = 15.0
"""What a child may take longer than its drain time, to close what is open."""
_QUIT_SECONDS = 2.0
"""Of these, what a worker may take before it is told to leave its work."""
_CALLED = {"http": "an HTTP process", "scheduler": "a scheduler", "worker": "a worker"}


class Team(msgspec.Struct, frozen=True, kw_only=True):
    """Processes of one kind.

    name: "http", "scheduler" or "worker". command: of each; `--line FD` is added, `--fd FD` where there is a sock, and
    `--announce` for the one that says what does not load. sock: the listening socket that they share and inherit. url:
    its address.
    """

    name: str
    command: tuple[str, ...]
    count: int = 1
    sock: socket.socket | None = None
    url: str = ""

    @property
    def called(self) -> str:
        """One of them, for people."""
        return _CALLED[self.name]

    @property
    def may_be_late(self) -> bool:
        """Whether SIGQUIT tells it not to wait for its work."""
        return self.name == "worker"


class _Place:
    """One place in a team. child: who holds it, or held it last. well: whether that one is ready."""

    def __init__(self, team: Team, *, vital: bool, announces: bool) -> None:
        self.team = team
        self.vital = vital
        self.announces = announces
        self.child: Child | None = None
        self.well = False
        self.first = True

    def next_pause(self, last: float, lived_seconds: float, *, ready: bool) -> float:
        """How long to wait before whoever held it for so long is replaced; last: the pause before that one."""
        if lived_seconds > _WELL_SECONDS:
            return 0.0
        unready = not ready and self.team.sock is None
        longest = _LONGEST_PAUSE_UNREADY_SECONDS if unready else _LONGEST_PAUSE_SECONDS
        return min(longest, last * 2 or _FIRST_PAUSE_SECONDS)


class Supervisor:
    """Keeps teams at work. One whose team listens must be able to start; where no team does, each one must."""

    def __init__(self, teams: Sequence[Team]) -> None:
        self._teams = teams
        listening = any(team.sock is not None for team in teams)
        self._places = [
            _Place(team, vital=team.sock is not None or not listening, announces=team is teams[0] and number == 0)
            for team in teams
            for number in range(team.count)
        ]
        self._stopping = asyncio.Event()

    async def run(self, drain_seconds: float, environ: Mapping[str, str] = os.environ) -> None:
        """Keep them running until SIGTERM or SIGINT, then let them drain. StartError if a vital one cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        try:
            async with asyncio.TaskGroup() as group:
                for place in self._places:
                    group.create_task(self._keep(place, environ))
                await self._stopping.wait()
                log.info("stopping", processes=len(self._places), drain_seconds=drain_seconds)
                await self._end_all(drain_seconds)
        except* StartError as errors:
            await self._end_all(0)
            raise StartError(str(errors.exceptions[0])) from None
        for team in self._teams:
            if team.sock is not None:
                answer_for_nobody(team.sock, "the server has stopped")
        log.info("stopped")

    def _stop(self) -> None:
        """At the first signal every child hears of it at once; at the second they are killed."""
        for place in self._places:
            if place.child is not None and not self._stopping.is_set():
                place.child.stop()
            elif place.child is not None and place.child.ended is None:
                place.child.kill()
        self._stopping.set()

    async def _end_all(self, drain_seconds: float) -> None:
        self._stopping.set()
        quits = drain_seconds + _QUIT_SECONDS
        await asyncio.gather(
            *(
                place.child.end(drain_seconds + _END_SECONDS, quits if place.team.may_be_late else None)
                for place in self._places
                if place.child is not None
            )
        )

    async def _keep(self, place: _Place, environ: Mapping[str, str]) -> None:
        """Whoever holds the place is replaced when it ends."""
        loop = asyncio.get_running_loop()
        pause = 0.0
        while not self._stopping.is_set():
            child = await self._start(place, environ)
            if child is None:
                await self._wait(_LONGEST_PAUSE_SECONDS)
                continue
            began = loop.time()
            ready = await anext(child.line.messages(), None)
            if ready is not None:
                self._note_ready(place, ready)
            how = await child.wait()
            place.well = False
            if self._stopping.is_set():
                return
            if place.first and place.vital:
                raise StartError(f"{place.team.called} ended before it could serve ({how}); what it printed says why")
            pause = place.next_pause(pause, loop.time() - began, ready=ready is not None)
            said = f"{place.team.called} ended and is replaced"
            log.error(said, pid=child.pid, how=how, pause_seconds=pause)
            if ready is None:
                self._answer_for(place.team)
            await self._wait(pause)

    async def _start(self, place: _Place, environ: Mapping[str, str]) -> Child | None:
        """Another one for the place; None if no process can be had: others may end, so it is tried again."""
        team = place.team
        # What does not load is said by one of the children only.
        announce = ["--announce"] if place.first and place.announces else []
        try:
            place.child = await Child.start([*team.command, *announce], environ, team.sock)
        except OSError as error:
            said = f"{team.called} cannot be started"
            log.error(said, reason=str(error))  # noqa: TRY400 - the reason says all
            return None
        if self._stopping.is_set():  # the signal came while it was started
            place.child.stop()
        return place.child

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _answer_for(self, team: Team) -> None:
        """Answer who calls a team of which nobody is well, until one is."""
        if team.sock is not None and not any(place.well for place in self._places if place.team is team):
            reason = "no process can be started; see the log"
            asyncio.get_running_loop().add_reader(team.sock, answer_for_nobody, team.sock, reason)

    def _note_ready(self, place: _Place, ready: Message) -> None:
        """At the first time that all of a team are there, say so."""
        place.well = True
        team = place.team
        if team.sock is not None:
            asyncio.get_running_loop().remove_reader(team.sock)
        if not place.first:
            return
        place.first = False
        if any(one.first for one in self._places if one.team is team):
            return
        counts = {"functions": ready.functions, "failures": ready.failures, "processes": team.count}
        if team.sock is not None:
            roles = [str(one.name) for one in self._teams]
            log.info("listening", url=team.url, docs=f"{team.url}/_/docs", roles=roles, **counts)
        elif team.name == "worker":
            log.info("taking runs", queues=ready.queues, concurrency=ready.concurrency, **counts)
        else:
            log.info("scheduling", schedules=ready.schedules, **counts)
