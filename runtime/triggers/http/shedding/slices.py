"""Run what is ready on the loop in slices, and let sockets be read between them.

Used by overload while turns of the loop are long. A loop runs all that is ready before it looks at its sockets again:
if a hundred handlers woke at once, nobody is read, and nobody refused, until the last of them has had its turn. Here a
turn ends after some milliseconds, and what is left goes on, in its order, after the sockets were looked at.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any

ASKED: ContextVar[bool] = ContextVar("fnrun_asked")
"""Set in the contexts in which requests are answered: what they are going to cost is told by them."""
_SLICE_SECONDS = 0.005
"""A single step of a handler may take longer, and is not interrupted."""
_KEPT = 0.95
"""Of what is known of the cost of a request's step: what is left of it after one more slice."""


class Slices:
    """What is ready on one loop. told: called after each slice.

    on: whether `loop.call_soon`, by which tasks are woken, leads here. What comes from other threads, of sockets and
    of timers does not: it is short. armed: whether a slice comes. soon: the
    loop's own `call_soon`. worked_seconds: how long slices took, for who counts it to set back.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, told: Callable[[], None]) -> None:
        self.on = False
        self.worked_seconds = 0.0
        self.soon = loop.call_soon  # the loop's own
        self._loop: Any = loop
        self._told = told
        self.armed = False
        self._ready: deque[tuple[asyncio.Handle, float, bool]] = deque()
        self._asked = 0  # of them, requests' steps
        self._known_seconds = self._known_steps = 0.0

    def begin(self) -> None:
        """From now on. What is ready already is the loop's, and comes first."""
        if not self.on:
            self.on = True
            self._loop.call_soon = self._take  # on the instance: asyncio's tasks and futures look there, too

    def end(self) -> None:
        """No more; unless something is left, which is to go before what comes now."""
        if self.on and not self._ready:
            self.on = False
            del self._loop.call_soon

    def delay(self, now: float) -> float:
        """Seconds one more request would wait: by those before it, or as the first has. now: of perf_counter."""
        if not self._ready:
            return 0.0
        return max(now - self._ready[0][1], self._asked * self._known_seconds / max(self._known_steps, 1.0))

    def _take(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self._loop, context)
        asked = context is not None and ASKED in context
        if not self.armed:
            self.soon(self._run)  # raises where the loop is closed; in debug mode, from another thread, too
            self.armed = True
        self._ready.append((handle, time.perf_counter(), asked))
        self._asked += asked
        return handle

    def _run(self) -> None:
        ready, steps = self._ready, 0
        now = began = time.perf_counter()
        try:
            while ready and now - began < _SLICE_SECONDS:
                handle, _, asked = ready.popleft()
                steps += asked
                if not handle.cancelled():
                    handle._run()
                now = time.perf_counter()
        finally:  # SystemExit and KeyboardInterrupt leave a handle
            self._asked -= steps
            self.armed = bool(ready)
            if ready:
                self.soon(self._run)
        self.worked_seconds += now - began
        self._known_seconds = self._known_seconds * _KEPT + now - began
        self._known_steps = self._known_steps * _KEPT + steps
        self._told()
