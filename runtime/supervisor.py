"""Several processes of several kinds: one that dies is replaced, and the others go on.

Called by cli for `serve`, unless one HTTP process is all there is. Serves nothing itself, and loads no function.
"""

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from runtime.base import logs
from runtime.base.errors import StartError
from runtime.observe.board import note_replacement
from runtime.processes import Child, Message, answer_for_nobody, answer_the_last
from runtime.spawning import Spawned, Team, spawn

log = logs.get_logger(__name__)

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 1.0
"""Between the deaths of one that dies again and again. With the time to start it is below the 2 s that are promised."""
_LONGEST_PAUSE_UNREADY_SECONDS = 5.0
"""The same of one that does not listen and dies before it is ready: whatever keeps it from that is not over so soon."""
_HEAD_START_SECONDS = 1.0
"""Those who answer callers begin alone, until one is ready, or for so long: all at once would take twice as long."""
_WELL_SECONDS = 10.0
"""One that lived for so long is replaced without a pause."""


class _Turn:
    """A child's time in a place. ready: what it said then; None if it ended before."""

    def __init__(self, child: Child, began: float) -> None:
        self.child = child
        self.began = began
        self.messages = child.line.messages()
        self.ready: Message | None = None

    async def wears_out(self) -> bool:
        """Wait until it wants to be replaced, or ends: whether it is the former."""
        async for message in self.messages:
            if message.kind == "worn":
                return True
        return False


class _Place:
    """One place in a team. children: who holds it, whoever is to follow, those that leave. well: one is ready.

    tried: set once a first one is started, or could not be.
    """

    def __init__(self, team: Team, *, vital: bool, announces: bool) -> None:
        self.team = team
        self.vital = vital
        self.announces = announces
        self.children: set[Child] = set()
        self.well = False
        self.first = True
        self.tried = asyncio.Event()

    def next_pause(self, last: float, lived_seconds: float, *, ready: bool) -> float:
        """How long to wait before whoever held it for so long is replaced; last: the pause before that one."""
        if lived_seconds > _WELL_SECONDS:
            return 0.0
        unready = not ready and self.team.sock is None
        longest = _LONGEST_PAUSE_UNREADY_SECONDS if unready else _LONGEST_PAUSE_SECONDS
        return min(longest, last * 2 or _FIRST_PAUSE_SECONDS)


class Supervisor:
    """Keeps teams at work. One whose team listens must be able to start; where no team does, each one must."""

    def __init__(
        self, teams: Sequence[Team], silence_seconds: float, begun: Spawned | None, begin_log: Callable[[], None]
    ) -> None:
        """silence_seconds: see Child.of. begun: the very first child. begin_log: called before the first line."""
        self._teams = teams
        self._begun = begun
        self._log = begin_log
        self._silence_seconds = silence_seconds
        self._leaving: set[asyncio.Task[None]] = set()
        serving = any(team.serves for team in teams)
        self._served = asyncio.Event()
        if not serving:
            self._served.set()
        self._places = [
            _Place(
                team,
                vital=team.serves or not (serving or team.name == "ops"),
                announces=team is teams[0] and number == 0,
            )
            for team in teams
            for number in range(team.count)
        ]
        self._stopping = asyncio.Event()
        self._hurried = False

    def keep(self, drain_seconds: float, environ: Mapping[str, str]) -> bool:
        """Keep them running until SIGTERM or SIGINT, then let them drain. StartError if a vital one cannot start.

        False if a second signal ended them at once.
        """
        return asyncio.run(self._run(drain_seconds, environ))

    def _begin_log(self) -> None:
        begin, self._log = self._log, lambda: None
        begin()

    async def _run(self, drain_seconds: float, environ: Mapping[str, str]) -> bool:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        try:
            async with asyncio.TaskGroup() as group:
                for place in self._places:
                    group.create_task(self._keep(place, environ, drain_seconds))
                await self._let_go_first()
                for place in self._places:
                    await place.tried.wait()
                self._begin_log()
                await self._stopping.wait()
                log.info("stopping", processes=len(self._places), drain_seconds=drain_seconds)
                await self._end_all(drain_seconds)
        except* StartError as errors:
            await self._end_all(0)
            raise StartError(str(errors.exceptions[0])) from None
        for team in self._teams:
            if team.sock is not None:
                answer_the_last(team.sock, "the server has stopped")
        log.info("stopped")
        return not self._hurried

    def _stop(self) -> None:
        """At the first signal every child hears of it at once; at the second they are killed."""
        for child in (child for place in self._places for child in place.children):
            if not self._stopping.is_set():
                child.stop()
            elif child.ended is None:
                child.kill()
        self._hurried = self._stopping.is_set()
        self._stopping.set()
        self._served.set()

    async def _end_all(self, drain_seconds: float) -> None:
        self._stopping.set()
        self._served.set()
        await asyncio.gather(
            *(child.end(*place.team.patience(drain_seconds)) for place in self._places for child in place.children)
        )

    async def _keep(self, place: _Place, environ: Mapping[str, str], drain_seconds: float) -> None:
        """Whoever holds the place is replaced when it ends, or asks for that."""
        pause = 0.0
        turn: _Turn | None = None
        if not place.team.serves:
            await self._let_go_first()
        while not self._stopping.is_set():
            turn = turn or await self._begin(place, environ)
            if turn is None:
                await self._wait(_LONGEST_PAUSE_SECONDS)
            elif await turn.wears_out():
                turn = await self._relieve(place, turn, environ, drain_seconds)
            else:
                pause = await self._note_end(place, turn, pause)
                turn = None
                await self._wait(pause)
        place.tried.set()

    async def _let_go_first(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_HEAD_START_SECONDS):
                await self._served.wait()

    async def _begin(self, place: _Place, environ: Mapping[str, str]) -> _Turn | None:
        """Start one for the place and wait until it is ready, or has ended. None if there is none."""
        child = await self._start(place, environ)
        if child is None:
            return None
        turn = _Turn(child, asyncio.get_running_loop().time())
        turn.ready = await anext(turn.messages, None)
        if turn.ready is not None:
            self._note_ready(place, turn.ready)
        return turn

    async def _relieve(self, place: _Place, worn: _Turn, environ: Mapping[str, str], drain_seconds: float) -> _Turn:
        """Have another take its place: who has it then. The worn one stays if the other does not get ready."""
        said = f"{place.team.called} is worn out: another takes its place"
        log.warning(said, pid=worn.child.pid)
        if place.team.alone:
            await self._leave(place, worn.child, drain_seconds)
            return worn
        turn = await self._begin(place, environ)
        if turn is not None and turn.ready is not None:
            task = asyncio.create_task(self._leave(place, worn.child, drain_seconds))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
            return turn
        if turn is not None:
            how = await turn.child.wait()
            place.children.discard(turn.child)
            if not self._stopping.is_set():
                said = f"{place.team.called} ended before it could serve; the worn one works on"
                log.error(said, how=how)
        return worn

    async def _leave(self, place: _Place, child: Child, drain_seconds: float) -> None:
        await child.leave(*place.team.patience(drain_seconds))
        place.children.discard(child)

    async def _note_end(self, place: _Place, turn: _Turn, pause: float) -> float:
        """It has hung up: see how it ends. How long to wait before it is replaced; pause: the last time."""
        how = await turn.child.wait()
        self._begin_log()
        place.children.discard(turn.child)
        place.well = False
        if self._stopping.is_set():
            return 0.0
        called = place.team.called
        if place.first and place.vital:
            raise StartError(f"{called} ended before it could serve ({how}); what it printed says why")
        lived = asyncio.get_running_loop().time() - turn.began
        pause = 0.0 if turn.child.stuck else place.next_pause(pause, lived, ready=turn.ready is not None)
        said = f"{called} ended and is replaced"
        log.error(said, pid=turn.child.pid, how=how, pause_seconds=pause)
        note_replacement(place.team.name)
        if turn.ready is None:
            self._answer_for(place.team)
        return pause

    async def _start(self, place: _Place, environ: Mapping[str, str]) -> Child | None:
        """Another one for the place; None if no process can be had: others may end, so it is tried again."""
        team = place.team
        very_first = place.first and place.announces
        begun, self._begun = (self._begun, None) if very_first else (None, self._begun)
        try:
            command = team.first_command if very_first else team.command
            child = await Child.of(begun or spawn(command, environ, team.sock), self._silence_seconds)
        except OSError as error:
            self._begin_log()
            said = f"{team.called} cannot be started"
            log.error(said, reason=str(error))  # noqa: TRY400 - the reason says all
            return None
        finally:
            place.tried.set()
        place.children.add(child)
        if self._stopping.is_set():  # the signal came while it was started
            child.stop()
        return child

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
        self._begin_log()
        if team.serves:
            self._served.set()
        if team.sock is not None:
            asyncio.get_running_loop().remove_reader(team.sock)
        if not place.first:
            return
        place.first = False
        if any(one.first for one in self._places if one.team is team):
            return
        counts = {"functions": ready.functions, "failures": ready.failures, "processes": team.count}
        if team.name == "ops":
            log.info("health, ready and metrics are served", address=team.url)
        elif team.sock is not None:
            roles = [str(one.name) for one in self._teams if one.name != "ops"]
            log.info("listening", url=team.url, docs=f"{team.url}/_/docs", roles=roles, **counts)
        elif team.name == "worker":
            log.info("taking runs", queues=ready.queues, concurrency=ready.concurrency, **counts)
        else:
            log.info("scheduling", schedules=ready.schedules, **counts)
