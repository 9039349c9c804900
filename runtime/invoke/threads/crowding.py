"""How many threads may be at work at once: they share Python's lock with the event loop.

Used by pool. Each time the loop reads from a socket it lets go of that lock, and gets it back after each of those
who wait for it had it for a moment: with 40 threads that compute, that is tens of milliseconds for each request, and
nothing is done sooner than by two of them. Threads that wait, for a database or a disk, keep nobody from anything. So
there are few at first, more as long as the loop is in time, and fewer when it is not.
"""

import asyncio
import time
from contextlib import suppress

from runtime.invoke.threads.turnstile import Turnstile

_FEW = 4
"""At work at first, and after a quiet time."""
_TICK_SECONDS = 0.02
_LATE_SECONDS = 0.008
"""What the loop may be late, beyond its own work. Half as late, and more threads may be at work."""
_MUCH = 0.5
"""The part of a core, or of the process's work, from which on threads compute rather than wait."""
_LONG_SECONDS = 0.25
"""Who is at work for longer keeps no place: others must not wait for what may never end."""
_CALM_TICKS = 50
"""Looks at which nobody waited, before there are no more of them."""


class Crowding:
    """Sets the width of a turnstile, while anybody waits there. limit: how many threads there are."""

    def __init__(self, turnstile: Turnstile, limit: int) -> None:
        self._turnstile = turnstile
        self._limit = limit
        self._width = float(min(_FEW, limit))
        turnstile.set_width(int(self._width))
        self._loop: asyncio.AbstractEventLoop | None = None  # that of the ticks
        self._ticking = False
        self._blind = False  # somebody came, and there was no loop to look on
        self._calm = 0
        self._at = self._own = self._all = 0.0

    def look(self) -> None:
        """Somebody came."""
        if self._limit <= _FEW or not (self._blind or self._turnstile.is_full):
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # from a thread, what ends a generator
            self._have_it_looked()
            return
        if not self._ticking or self._loop is not loop:
            if self._blind:
                self._blind = False
                self._turnstile.set_width(int(self._width))
            self._loop, self._ticking, self._calm = loop, True, 0
            self._at, self._own, self._all = _clocks()
            loop.call_later(_TICK_SECONDS, self._tick, loop)

    def _have_it_looked(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(self.look)
                return
        self._blind = True
        self._turnstile.set_width(self._limit)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        at, own, every = _clocks()
        passed, own_seconds, others_seconds = at - self._at, own - self._own, (every - self._all) - (own - self._own)
        self._at, self._own, self._all = at, own, every
        late = passed - _TICK_SECONDS - own_seconds
        turnstile = self._turnstile
        turnstile.excuse(time.monotonic() - _LONG_SECONDS)
        if min(late, others_seconds) > _LATE_SECONDS and others_seconds > _MUCH * (others_seconds + own_seconds):
            self._width = max(1.0, turnstile.long, min(self._width, turnstile.working) / 2)
        elif late < _LATE_SECONDS / 2:
            self._width = 2 * self._width if others_seconds < _MUCH * passed else self._width + 0.25
        self._width = min(self._width, float(self._limit))
        turnstile.set_width(int(self._width))
        self._calm = 0 if turnstile.waiting else self._calm + 1
        if self._calm < _CALM_TICKS:
            loop.call_later(_TICK_SECONDS, self._tick, loop)
            return
        self._ticking = False
        self._width = float(min(max(_FEW, 2 * turnstile.working), self._limit))
        turnstile.set_width(int(self._width))


def _clocks() -> tuple[float, float, float]:
    """Seconds: of the wall's clock, of the calling thread at work, of the process."""
    return time.perf_counter(), time.thread_time(), time.process_time()
