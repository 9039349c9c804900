"""A scheduler: it has the ledger make runs of ticks as they come due. It never runs a handler.

Held by the scheduler's role. Any number of them may do the same at once: a script lets one win each tick, and the
others learn what it did. Nothing is kept here that the store does not know.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from runtime.base.errors import StoreDown
from runtime.base.logs import get_logger
from runtime.declare.timing.calendar import Timing
from runtime.ledger.desk import Desk
from runtime.ledger.schedules.records import Definition, Fired, Firing
from runtime.observe import counts
from runtime.triggers.schedule.jobs import Jobs
from runtime.triggers.schedule.standing import Standing, parts_of

log = get_logger(__name__)

_WATCH_SECONDS = 1.0
_AGAIN_SECONDS = 0.25
_END_SECONDS = 2.0
_AT_ONCE = 2
"""One call is written while the store works on another."""


class Scheduler:
    """One scheduler. Make it inside the loop that will run it.

    name: no other has it. deployment: what the settings say; 0 to have the store number it. info: JSON, for people.
    registered: the store knows it, or did.
    """

    def __init__(self, desk: Desk, *, name: str, deployment: int = 0, info: bytes = b"{}") -> None:
        self.registered = asyncio.Event()
        self._due = asyncio.Event()
        """Something may be due."""
        self._news = asyncio.Event()
        """The store is to be asked at once."""
        self._stopping = False
        self._is_down = False
        self._said: tuple[object, ...] = ()
        self._unfit: set[str] = set()
        """Schedules that could not be fired the last time."""
        self._standing = Standing(desk, self._adopt_rules, name=name, deployment=deployment, info=info)
        self._jobs = Jobs(self._standing.clock, self._due.set)

    def adopt(self, definitions: Sequence[Definition], *, is_partial: bool = False) -> None:
        """Bring these definitions from now on. is_partial: there are files that do not load."""
        self._standing.adopt(definitions, is_partial=is_partial)
        self._news.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Schedule until told to stop; what is under way then is finished."""
        self._jobs.start()
        tasks = [
            asyncio.create_task(self._keep(self._watch, self._news, _WATCH_SECONDS)),
            asyncio.create_task(self._keep(self._fire, self._due, None)),
        ]
        await stop.wait()
        self._stopping = True
        self._jobs.shutdown()
        self._news.set()
        self._due.set()
        await asyncio.wait(tasks, timeout=_END_SECONDS)
        for task in tasks:
            task.cancel()
        with suppress(StoreDown):
            await self._standing.leave()

    async def _keep(self, step: Callable[[], Awaitable[None]], event: asyncio.Event, every: float | None) -> None:
        """Do a step each so many seconds (None: only then), and when the event is set."""
        while not self._stopping:
            event.clear()
            wait = every
            try:
                await step()
            except StoreDown as error:
                self._note_down(error)
                wait = None if every is None else _AGAIN_SECONDS
            except Exception:
                log.exception("a step of the scheduler failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await event.wait()

    def _adopt_rules(self, timings: Iterable[Timing]) -> None:
        self._jobs.adopt(timings)

    async def _watch(self) -> None:
        await self._standing.look()
        if self._is_down:
            self._is_down = False
            log.info("the store answers again")
        self._say()
        self.registered.set()
        self._due.set()  # what no job woke for: what was missed, what is late

    def _say(self) -> None:
        """Once, whether it fires."""
        standing = self._standing
        said = (standing.fires, standing.number)
        if standing.is_known and said != self._said:
            self._said = said
            if standing.fires:
                log.info("schedules fire", schedules=standing.count, deployment=standing.number)
            elif standing.is_partial:
                log.warning("schedules of a deployment that loads fire, these stand by", deployment=standing.number)
            else:
                log.info("schedules of a newer deployment fire, these stand by", deployment=standing.number)

    async def _fire(self) -> None:
        """Fire what is due, until nothing is."""
        standing = self._standing
        while self._may_fire():
            firings = standing.table.due(math.floor(standing.clock.now_ms()))
            # Where nothing came of any, rather a second later than at once, and again and again.
            if not await self._fire_each(parts_of(firings)):
                return

    async def _fire_each(self, parts: Iterator[list[Firing]]) -> bool:
        """Fire them, some calls at once; whether there is a point in going on. Not beyond the first that fails."""
        goes_on = False
        under_way: set[asyncio.Task[bool]] = set()
        try:
            while self._may_fire() and (part := next(parts, None)) is not None:
                under_way.add(asyncio.create_task(self._fire_part(part)))
                await asyncio.sleep(0)  # it is sent before the next is made
                if len(under_way) >= _AT_ONCE:
                    done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                    goes_on |= any(await asyncio.gather(*done))
            return any(await asyncio.gather(*under_way)) or goes_on
        finally:
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _fire_part(self, firings: Sequence[Firing]) -> bool:
        """Fire these; whether there is a point in going on at once."""
        try:
            found = await self._standing.fire(firings)
        except StoreDown:
            raise
        except Exception:
            if len(firings) > 1:  # one that cannot be fired shall not keep the others from it
                return any([await self._fire_part([firing]) for firing in firings])
            schedule = firings[0].definition.id
            if schedule not in self._unfit:  # once for as long as it lasts: it is tried again each second
                self._unfit.add(schedule)
                log.exception("a schedule cannot be fired", schedule=schedule)
            return False
        self._unfit.difference_update(firing.definition.id for firing in firings)
        self._count(firings, found)
        if not found:
            self._news.set()
        return any(fired.verdict in ("fired", "stale") for fired in found)

    def _count(self, firings: Sequence[Firing], found: Sequence[Fired]) -> None:
        now_ms = self._standing.clock.now_ms()
        for firing, fired in zip(firings, found, strict=False):  # nothing is found by one that may not fire any more
            if fired.verdict == "fired":
                function = firing.definition.function
                for planned_ms in firing.planned:
                    counts.late(function, max(0.0, now_ms - planned_ms) / 1000)
                if missed := sum(firing.missed_before) + firing.missed_after:
                    counts.missed(function, missed)

    def _may_fire(self) -> bool:
        return self._standing.fires and not self._stopping

    def _note_down(self, error: StoreDown) -> None:
        if not self._is_down:
            log.warning("the store does not answer; ticks wait", reason=str(error))
        self._is_down = True
