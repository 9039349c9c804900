"""Who may have a process: at most so many, of which idle ones are kept for further jobs of their kind.

Used by cells alone, on one event loop. Starts and kills nothing: it says who may, and lets go what nobody needs.
"""

import asyncio
from collections import deque
from typing import NamedTuple

import msgspec

from runtime.base.errors import NoCell
from runtime.invoke.isolation.talks import Talk


class Keep(msgspec.Struct, frozen=True):
    """How long an idle cell is kept, and how many jobs it gets."""

    seconds: float = 60.0
    jobs: int = 100


class _Waiting(NamedTuple):
    kind: str
    got: "asyncio.Future[Talk | None]"


class Places:
    """At most `limit` processes, idle ones included. Who waits is served in order."""

    def __init__(self, limit: int, keep: Keep) -> None:
        self._free = limit
        self._keep = keep
        self._waiting: deque[_Waiting] = deque()
        self._idle: dict[Talk, asyncio.TimerHandle] = {}
        """In the order in which they became idle."""

    async def take(self, kind: str, seconds: float | None) -> Talk | None:
        """A cell that is kept for this kind of job, or None: a new one may be started. `free` or `keep` follows.

        seconds: NoCell if there is no place by then; None: waits without end.
        """
        found = self._take_idle(kind)
        if found is not None:
            return found
        if self._free and not self._waiting:
            self._free -= 1
            return None
        if self._idle:  # the one that was not needed for longest; its place is ours when it has ended
            self._let_go(next(iter(self._idle)))
        waiting = _Waiting(kind, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(seconds):
                return await waiting.got
        except BaseException as error:
            self._leave(waiting)
            if isinstance(error, TimeoutError):
                raise NoCell(f"all processes were at work for {seconds:g} s") from None
            raise

    def free(self) -> None:
        """A process is gone, or was not started."""
        waiting = self._next()
        if waiting is None:
            self._free += 1
        else:
            waiting.got.set_result(None)

    def keep(self, talk: Talk) -> None:
        """A cell has done its job and can do another: for who waits, or later. Else it is let go."""
        if not talk.kind or talk.last or talk.jobs >= self._keep.jobs or talk.zygote.ends or talk.seat.ended.done():
            talk.let_go()
            return
        waiting = next((one for one in self._waiting if not one.got.done()), None)
        if waiting is None:
            loop = asyncio.get_running_loop()
            self._idle[talk] = loop.call_later(self._keep.seconds, self._let_go, talk)
            talk.seat.ended.add_done_callback(lambda _: self._forget(talk))
        elif waiting.kind == talk.kind:
            self._waiting.remove(waiting)
            waiting.got.set_result(talk)
        else:
            talk.let_go()

    def let_all_go(self) -> list["asyncio.Future[object]"]:
        """Keep none of those that are idle; done when they have ended."""
        idle = list(self._idle)
        for talk in idle:
            self._let_go(talk)
        return [talk.seat.ended for talk in idle]  # type: ignore[misc]  # a future of something

    def _take_idle(self, kind: str) -> Talk | None:
        """The one that was at work last: its memory is the warmest, and the others may end."""
        for talk in reversed(self._idle):
            if talk.kind == kind:
                self._forget(talk)
                return talk
        return None

    def _let_go(self, talk: Talk) -> None:
        self._forget(talk)
        talk.let_go()

    def _forget(self, talk: Talk) -> None:
        timer = self._idle.pop(talk, None)
        if timer is not None:
            timer.cancel()

    def _next(self) -> _Waiting | None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.got.done():
                return waiting
        return None

    def _leave(self, waiting: _Waiting) -> None:
        """Who waited does not any more; what it was given meanwhile is for the next."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)
        if not waiting.got.done() or waiting.got.cancelled():
            return
        talk = waiting.got.result()
        if talk is None:
            self.free()
        else:
            self.keep(talk)
