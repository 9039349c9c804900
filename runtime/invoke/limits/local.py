"""The bounds of functions within this process: for one that has no store, or whose store is away.

Bounds is pure state, asked with the time; LocalGate has calls wait for it, each key's in the order they came in.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal

import msgspec

from runtime.base.errors import BreakerOpen, LimitReached
from runtime.invoke.execute import Left
from runtime.invoke.limits.gate import Entry, when_ended
from runtime.invoke.limits.rules import Ask, Limits, Verdict, limit_said

_SWEEP_ABOVE = 100
_MOST_WAITING = 10_000
"""Calls of one key: beyond that they are refused at once, for nobody comes to the end of such a line in time."""

_TRIAL_SECONDS = 1.0
"""How soon to come back while one call tries an open breaker."""


class Standing(msgspec.Struct, frozen=True):
    """What is known of an Ask, as ledger.limits.calls.Entered. trial: it is in, and the breaker hears how it ends."""

    verdict: Literal["in", "wait", "late", "open"]
    seconds: float = 0.0
    trial: bool = False


class _Key(msgspec.Struct):
    """One key of a function. free_at: when the rate allows the next call, but for the burst (GCRA's arrival time)."""

    inside: set[str]
    line: dict[str, None]
    free_at: float = 0.0


class _Circuit(msgspec.Struct):
    """A function's breaker. opened: when, None while it is closed. trial: the holder that tries it."""

    failures: int = 0
    opened: float | None = None
    trial: str = ""


class Bounds:
    """Who is inside, who waits, and how often functions failed. now: seconds, of any clock that goes forward."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], _Key] = {}
        self._circuits: dict[str, _Circuit] = {}
        self._sweep_at = _SWEEP_ABOVE

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._keys)

    def enter(self, ask: Ask, now: float, within_seconds: float) -> Standing:
        """Ask for a call. One that is to wait is in line; when a place is free, the first in line asks again.

        Source: GCRA, as in ITU-T I.371; a call that may begin later has its time kept, and its place.
        """
        key = self._keys.get((ask.function, ask.key))
        circuit = self._circuits.get(ask.function)
        if circuit is not None and (seconds := _open_seconds(circuit, ask, now)) > 0:
            self.give_up(ask)
            return Standing("open", seconds)
        if key is None:
            key = self._keys[ask.function, ask.key] = self._new_key(now)
        if not _has_room(key, ask.limits.concurrency, ask.holder):
            if ask.holder not in key.line and len(key.line) >= _MOST_WAITING:
                return Standing("late", within_seconds)
            key.line.setdefault(ask.holder)
            return Standing("wait")
        key.line.pop(ask.holder, None)
        every = ask.limits.every_ms / 1000
        seconds = max(0.0, key.free_at - now - every * (ask.limits.burst - 1)) if every else 0.0
        if seconds > within_seconds:
            return Standing("late", seconds)
        if every:
            key.free_at = max(key.free_at, now) + every
        key.inside.add(ask.holder)
        is_trial = circuit is not None and circuit.opened is not None
        if circuit is not None and is_trial:
            circuit.trial = ask.holder
        return Standing("in", seconds, is_trial)

    def give_up(self, ask: Ask) -> None:
        """It waits no more."""
        key = self._keys.get((ask.function, ask.key))
        if key is not None:
            key.line.pop(ask.holder, None)

    def hold(self, ask: Ask, now: float) -> None:
        """Have a call inside, though it be one too many."""
        one = ask.function, ask.key
        key = self._keys.get(one) or self._keys.setdefault(one, self._new_key(now))
        key.inside.add(ask.holder)

    def free(self, ask: Ask) -> None:
        """Its place is free."""
        key = self._keys.get((ask.function, ask.key))
        if key is not None:
            key.inside.discard(ask.holder)
            if not (key.inside or key.line or ask.limits.every_ms):
                del self._keys[ask.function, ask.key]

    def judge(self, ask: Ask, verdict: Verdict, now: float) -> bool:
        """Take note of how a call ended; whether that opened the breaker. What ends while it is open says nothing."""
        if not ask.limits.failures:
            return False
        circuit = self._circuits.get(ask.function)
        if circuit is None:
            if verdict != "bad":
                return False
            circuit = self._circuits[ask.function] = _Circuit()
        is_trial = circuit.trial == ask.holder
        if is_trial:
            circuit.trial = ""
        if verdict == "none" or (circuit.opened is not None and not is_trial):
            return False
        if verdict == "good":
            del self._circuits[ask.function]
            return False
        circuit.failures += 1
        if not is_trial and circuit.failures < ask.limits.failures:
            return False
        circuit.opened = now
        return True

    def next_in_line(self, function: str, key: str, limits: Limits) -> str | None:
        """Who may ask again, if there is a free place."""
        found = self._keys.get((function, key))
        first = next(iter(found.line), None) if found is not None else None
        return first if found and first is not None and _has_room(found, limits.concurrency, first) else None

    def waiting(self, function: str) -> list[str]:
        """All who wait for a function."""
        return [holder for (name, _), key in self._keys.items() if name == function for holder in key.line]

    def _new_key(self, now: float) -> _Key:
        if len(self._keys) >= self._sweep_at:
            idle = [one for one, key in self._keys.items() if not (key.inside or key.line or key.free_at > now)]
            for one in idle:
                del self._keys[one]
            self._sweep_at = max(_SWEEP_ABOVE, 2 * len(self._keys))  # so that a sweep costs each new key little
        return _Key(inside=set(), line={})


def _has_room(key: _Key, concurrency: int, holder: str) -> bool:
    """Whether a place is free, and nobody who came before waits for it."""
    if not concurrency:
        return True
    return len(key.inside) < concurrency and next(iter(key.line), holder) == holder


def _open_seconds(circuit: _Circuit, ask: Ask, now: float) -> float:
    """How long the breaker stays open; above 0, too, while another call tries it."""
    if circuit.opened is None:
        return 0.0
    left = circuit.opened + ask.limits.reset_ms / 1000 - now
    return _TRIAL_SECONDS if left <= 0 and circuit.trial not in ("", ask.holder) else left


class LocalGate:
    """See Gate. Used on one loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._bounds = Bounds()
        self._waiting: dict[str, asyncio.Future[None]] = {}

    async def enter(self, ask: Ask, within_seconds: float) -> Entry:
        """Return once the call may begin. LimitReached if that is not so in time; BreakerOpen."""
        end = self._clock() + within_seconds
        waited = False
        while True:
            found = self._bounds.enter(ask, self._clock(), max(0.0, end - self._clock()))
            if found.verdict == "wait":
                await self._wait(ask, end)
                waited = True
                continue
            self._wake(ask.function, ask.key, ask.limits)
            if found.verdict == "in":
                await self._sleep(ask, found.seconds)
                return Entry(found.trial, waited or found.seconds > 0)
            if found.verdict == "open":
                raise BreakerOpen(ask.function, found.seconds)
            raise LimitReached(ask.function, limit_said(ask.limits, found.verdict), found.seconds)

    def leave(self, ask: Ask, verdict: Verdict, left: Sequence[Left] = ()) -> None:
        """The call has ended. Its place is free once `left`, what goes on of its handler, has ended, too."""
        opened = self._bounds.judge(ask, verdict, self._clock())
        self._free_after(ask, left)
        for holder in self._bounds.waiting(ask.function) if opened else ():  # they hear that it is open
            self._tell(holder)

    def take_over(self, ask: Ask, left: Sequence[Left]) -> None:
        """Hold the place of a run, which its ending left under `ask.holder`, until `left` have ended."""
        self.hold(ask)
        self._free_after(ask, left)

    def hold(self, ask: Ask) -> None:
        """Have a call inside that began before: `leave` ends it as any other."""
        self._bounds.hold(ask, self._clock())

    def _free_after(self, ask: Ask, left: Sequence[Left]) -> None:
        loop = asyncio.get_running_loop()

        def ended() -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._free, ask)

        if not when_ended(left, ended):
            self._free(ask)

    def _free(self, ask: Ask) -> None:
        self._bounds.free(ask)
        self._wake(ask.function, ask.key, ask.limits)

    async def _sleep(self, ask: Ask, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.leave(ask, "none")
            raise

    async def _wait(self, ask: Ask, end: float) -> None:
        """Until it is this one's turn. LimitReached if it is not in time."""
        turn = self._waiting[ask.holder] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(max(0.0, end - self._clock())):
                await turn
        except BaseException as error:
            self._bounds.give_up(ask)
            self._wake(ask.function, ask.key, ask.limits)  # its turn may have come just now
            if isinstance(error, TimeoutError):
                raise LimitReached(ask.function, limit_said(ask.limits, "wait"), 1.0) from None
            raise
        finally:
            del self._waiting[ask.holder]

    def _wake(self, function: str, key: str, limits: Limits) -> None:
        """Tell the first in line that a place is free; when it is inside, or gone, the next one is told."""
        first = self._bounds.next_in_line(function, key, limits)
        if first is not None:
            self._tell(first)

    def _tell(self, holder: str) -> None:
        turn = self._waiting.get(holder)
        if turn is not None and not turn.done():
            turn.set_result(None)
