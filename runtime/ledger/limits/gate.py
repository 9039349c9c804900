"""Lets calls begin over all processes of a store; see invoke.limits.gate.

What comes in one turn of the loop is asked as one. A call that has to wait asks again 40 times a second: of each key in
a process only the first few do, in the order they came in. While the store is away, this process bounds its calls by
itself.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from itertools import islice

import msgspec

from runtime.base.errors import BreakerOpen, LimitReached, StoreDown
from runtime.base.logs import get_logger
from runtime.invoke.execute import Left
from runtime.invoke.limits.gate import Entry
from runtime.invoke.limits.local import LocalGate
from runtime.invoke.limits.rules import Ask, Verdict, limit_said
from runtime.ledger.limits.calls import Entered, Exit, enter
from runtime.ledger.limits.places import Places
from runtime.ledger.once import Asks

log = get_logger(__name__)

_AGAIN_SECONDS = 0.025
_MOST_ASKED = 200
_RETRY_SECONDS = 1.0
_SLICE_SECONDS = 0.01


class _Waiter(msgspec.Struct, eq=False):
    """A call that wants to begin. end, ask_at: by the loop's clock. answer: None if the store is away.

    asked: the store is just being asked. waited: it has been told to.
    """

    ask: Ask
    end: float
    answer: "asyncio.Future[Entered | None]"
    ask_at: float = 0.0
    asked: bool = False
    waited: bool = False


class StoreGate:
    """See Gate. Used on one loop. desk: the way to the ledger. now: the ledger's clock, where a test moves that."""

    def __init__(self, desk: Asks, now: Callable[[], float] | None = None) -> None:
        self._desk = desk
        self._now = now
        self._lines: dict[tuple[str, str], dict[str, _Waiter]] = {}
        self._places = Places(desk, self._begin_locally, self._hurry)
        self._local = LocalGate()
        self._locally: dict[str, LocalGate] = {}  # those inside that it counts, too
        self._asking: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self.renew = self._places.renew
        self.settle = self._places.settle
        self.close = self._places.close

    async def enter(self, ask: Ask, within_seconds: float) -> Entry:
        """Return once the call may begin. LimitReached if that is not so in time; BreakerOpen."""
        self._places.start()
        loop = asyncio.get_running_loop()
        end = loop.time() + within_seconds
        if self._places.is_away:
            return await self._enter_locally(ask, end)
        waiter = _Waiter(ask, end, loop.create_future())
        self._lines.setdefault((ask.function, ask.key), {})[ask.holder] = waiter
        self._start_asking()
        try:
            found = await waiter.answer
        except asyncio.CancelledError:
            self._cancel(waiter)
            raise
        if found is None:
            return await self._enter_locally(ask, end)
        if found.verdict == "open":
            raise BreakerOpen(ask.function, found.seconds)
        if found.verdict != "in":
            raise LimitReached(ask.function, limit_said(ask.limits, found.verdict), found.seconds or _RETRY_SECONDS)
        if found.seconds > 0:
            await self._sleep(ask, found.seconds)
        return Entry(trial=found.trial, waited=waiter.waited or found.seconds > 0)

    def leave(self, ask: Ask, verdict: Verdict, left: Sequence[Left] = ()) -> None:
        """The call has ended. Its place is free once `left`, what goes on of its handler, has ended, too."""
        local = self._locally.pop(ask.holder, None)
        if local is not None:
            local.leave(ask, verdict, left)
        self._places.tell(Exit(ask, verdict, self._places.free_after(ask, left)))

    def take_over(self, ask: Ask, left: Sequence[Left]) -> None:
        """Hold the place of a run, which its ending left under `ask.holder`, until `left` have ended."""
        self._places.start()
        self._places.inside[ask.holder] = ask
        if not self._places.free_after(ask, left):
            self._places.tell(Exit(ask, "none"))

    # --- while the store is away ---

    def _begin_locally(self) -> None:
        """From now on calls are bounded by this process alone, with those that are inside already; in any thread."""
        self._local = LocalGate()
        for holder, ask in list(self._places.inside.items()):
            self._local.hold(ask)
            self._locally[holder] = self._local

    async def _enter_locally(self, ask: Ask, end: float) -> Entry:
        local = self._local
        entry = await local.enter(ask, max(0.0, end - asyncio.get_running_loop().time()))
        self._places.inside[ask.holder] = ask  # so that the store counts it when it is back
        self._locally[ask.holder] = local
        return entry

    # --- coming in ---

    async def _sleep(self, ask: Ask, seconds: float) -> None:
        """Until its time has come, by either clock."""
        try:
            if self._now is None:
                await asyncio.sleep(seconds)
            else:
                await _sleep_by(self._now, seconds)
        except asyncio.CancelledError:
            self.leave(ask, "none")
            raise

    def _cancel(self, waiter: _Waiter) -> None:
        """Its caller is gone. If the store is just being asked, its answer finds nobody, and is undone."""
        if waiter.asked:
            return
        if waiter.answer.cancelled():
            self._give_up(waiter)
        elif waiter.ask.holder in self._places.inside:  # it was let in this very moment
            self.leave(waiter.ask, "none")

    def _drop(self, waiter: _Waiter) -> None:
        """It is in line no longer."""
        key = waiter.ask.function, waiter.ask.key
        line = self._lines.get(key)
        if line is None or line.pop(waiter.ask.holder, None) is None:
            return
        if not line:
            del self._lines[key]
        else:
            self._woken.set()  # the next one may be asked for

    def _give_up(self, waiter: _Waiter) -> None:
        self._drop(waiter)
        if waiter.waited:
            self._places.give_up(waiter.ask)

    def _start_asking(self) -> None:
        self._woken.set()
        if self._asking is None:  # in no caller's context, for it works for all of them
            self._asking = asyncio.get_running_loop().create_task(self._ask(), context=Context())

    async def _ask(self) -> None:
        now = asyncio.get_running_loop().time
        try:
            while self._lines:
                self._woken.clear()
                self._refuse_late(now())
                if batch := self._due(now()):
                    await self._ask_for(batch, now())
                else:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_AGAIN_SECONDS / 2):
                            await self._woken.wait()
        finally:
            self._asking = None

    def _refuse_late(self, now: float) -> None:
        """Those whose time is over, and who have been asked for, wait no more; of a line, the first are the oldest."""
        for line in list(self._lines.values()):
            for at, waiter in enumerate(list(line.values())):
                if waiter.end > now:
                    break
                if waiter.waited or at >= _first_of(waiter):
                    self._give_up(waiter)
                    _answer(waiter, Entered("wait"))

    def _due(self, now: float) -> list[_Waiter]:
        """Whom to ask for: of each line the first, as many as there are places, in the order of their turns."""
        due = [
            waiter
            for line in self._lines.values()
            for waiter in islice(line.values(), _first_of(next(iter(line.values()))))
            if waiter.ask_at <= now
        ]
        return sorted(due, key=lambda waiter: waiter.ask_at)[:_MOST_ASKED]

    async def _ask_for(self, batch: Sequence[_Waiter], now: float) -> None:
        for waiter in batch:
            waiter.asked = True
        try:
            asks = [(waiter.ask, max(0.0, waiter.end - now)) for waiter in batch]
            found = await self._desk.ask(enter(self._desk.ledger, asks))
        except StoreDown as error:
            self._places.note_away(error)
            for waiter in batch:
                self._places.tell(Exit(waiter.ask, "none"))  # as far as the store knows, it may be in
            self._send_away()
            return
        except Exception as error:  # the others are asked for nevertheless
            log.exception("calls cannot be let in")
            self._fail(batch, error)
            return
        except BaseException:
            self._fail(batch, RuntimeError("ended"))
            raise
        for waiter, one in zip(batch, found, strict=True):
            self._take(waiter, one, now)

    def _fail(self, batch: Sequence[_Waiter], error: Exception) -> None:
        for waiter in batch:
            self._drop(waiter)
            if not waiter.answer.done():
                waiter.answer.set_exception(error)

    def _take(self, waiter: _Waiter, found: Entered, now: float) -> None:
        """What the store says of a call."""
        waiter.asked = False
        if found.verdict == "wait":
            waiter.waited, waiter.ask_at = True, now + _AGAIN_SECONDS
            if waiter.answer.done():
                self._give_up(waiter)
            return
        self._drop(waiter)
        if waiter.answer.done():  # its caller is gone
            if found.verdict == "in":
                self._places.tell(Exit(waiter.ask, "none"))
            return
        if found.verdict == "in":
            self._places.inside[waiter.ask.holder] = waiter.ask
        _answer(waiter, found)

    def _send_away(self) -> None:
        """The store is away: all who wait are let in, or not, by this process."""
        waiters = [waiter for line in self._lines.values() for waiter in line.values()]
        self._lines.clear()
        for waiter in waiters:
            waiter.asked = False
            _answer(waiter, None)

    def _hurry(self, exits: Sequence[Exit]) -> None:
        """Places are free: who waits for them here need not wait until it asks again."""
        for one in exits:
            for waiter in self._lines.get((one.ask.function, one.ask.key), {}).values():
                waiter.ask_at = 0.0
                break
        self._woken.set()


def _first_of(waiter: _Waiter) -> int:
    """How many of its line are asked for at once: as many as there are places, and all where there is no such bound."""
    return waiter.ask.limits.concurrency or _MOST_ASKED


def _answer(waiter: _Waiter, found: Entered | None) -> None:
    if not waiter.answer.done():
        waiter.answer.set_result(found)


async def _sleep_by(now: Callable[[], float], seconds: float) -> None:
    """By a clock that a test moves, or by that of the loop, whichever is first."""
    loop = asyncio.get_running_loop()
    end, due = loop.time() + seconds, now() + seconds
    while loop.time() < end and now() < due:  # noqa: ASYNC110 - a test's clock tells nobody
        await asyncio.sleep(_SLICE_SECONDS)
