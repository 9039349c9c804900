"""The places that calls of this process hold under limits: a thread keeps them, and what ends is told in batches.

Used by the gate. The thread also notices when the store is away, and when it is back.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context

from runtime.base.errors import StoreDown
from runtime.base.logs import get_logger
from runtime.invoke.execute import Left
from runtime.invoke.limits.gate import when_ended
from runtime.invoke.limits.rules import Ask
from runtime.ledger.limits.calls import Exit, give_up, keep, leave
from runtime.ledger.once import Asks

log = get_logger(__name__)

_BEATS = 5
"""In the time of a lease."""
_MOST_WRITTEN = 200
_MOST_UNWRITTEN = 10_000
"""Ends of calls that wait for the store: beyond that the places of the oldest are free when their leases are over."""
_CLOSE_SECONDS = 1.0


class Places:
    """inside: the calls that hold one. on_away: called when the store is, in any thread; on_written: on the loop."""

    def __init__(self, desk: Asks, on_away: Callable[[], None], on_written: Callable[[Sequence[Exit]], None]) -> None:
        self._desk = desk
        self._on_away = on_away
        self._on_written = on_written
        self.inside: dict[str, Ask] = {}
        self.is_away = False
        self._exits: deque[Exit] = deque(maxlen=_MOST_UNWRITTEN)
        self._gone: list[Ask] = []
        self._writing: asyncio.Task[None] | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Keep places from now on."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="limits", daemon=True)
            self._thread.start()

    def renew(self) -> None:
        """Hold all places for another lease; in any thread. StoreDown."""
        held = list(self.inside.values())
        self._desk.ask_sync(keep(self._desk.ledger, held))
        # One that left meanwhile may be held again by this, if the store heard of it last.
        self._exits += (Exit(ask, "none") for ask in held if ask.holder not in self.inside)

    def free_after(self, ask: Ask, left: Sequence[Left]) -> bool:
        """Free a place once what is left has ended; False, and it is free now, if all of it has."""
        loop = asyncio.get_running_loop()

        def ended() -> None:  # in whichever thread it ends
            self.inside.pop(ask.holder, None)
            with suppress(RuntimeError):  # the loop has ended: the thread leaves all places
                loop.call_soon_threadsafe(self.tell, Exit(ask, "none"))

        if when_ended(left, ended):
            return True
        self.inside.pop(ask.holder, None)
        return False

    def tell(self, exit_: Exit) -> None:
        """Tell the store of the end of a call; on the loop. A rate takes no note of that."""
        limits = exit_.ask.limits
        if limits.concurrency or limits.failures:
            self._exits.append(exit_)
            self._start_writing()

    def give_up(self, ask: Ask) -> None:
        """Tell the store that a call waits no more; on the loop."""
        self._gone.append(ask)
        self._start_writing()

    def note_away(self, error: StoreDown) -> None:
        """The store did not answer; in any thread."""
        if not self.is_away:
            log.warning("the store does not answer: limits are kept by this process alone", reason=str(error))
            self._on_away()
            self.is_away = True

    async def settle(self) -> None:
        """Let what is just being told come to its end, if it is on this loop."""
        writing = self._writing
        if writing is not None and writing.get_loop() is asyncio.get_running_loop():
            await asyncio.wait((writing,), timeout=_CLOSE_SECONDS)

    def close(self) -> None:
        """Leave all places, if the store is there: the process ends."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    # --- the thread ---

    def _keep(self) -> None:
        while not self._closed.wait(self._desk.ledger.lease_seconds / _BEATS):
            self._try_to_keep()
        self._exits += (Exit(ask, "none") for ask in list(self.inside.values()))
        with suppress(StoreDown):
            self._write_from_thread()

    def _try_to_keep(self) -> None:
        try:
            if self.is_away:
                self._write_from_thread()  # first: a call may be inside that was given up in the outage
            self.renew()
            if self.is_away:
                self.is_away = False
                log.info("limits hold over all processes again")
            if self._writing is None:
                self._write_from_thread()
        except StoreDown as error:
            self.note_away(error)
        except Exception:
            log.exception("places under limits cannot be kept")

    def _write_from_thread(self) -> None:
        while batch := self._take():
            try:
                self._desk.ask_sync(leave(self._desk.ledger, batch))
            except BaseException:
                self._exits.extendleft(reversed(batch))
                raise

    # --- the loop ---

    def _start_writing(self) -> None:
        if self._writing is None and not self.is_away:  # in no caller's context, for it works for all of them
            self._writing = asyncio.get_running_loop().create_task(self._write(), context=Context())

    async def _write(self) -> None:
        try:
            while self._exits or self._gone:
                gone, self._gone = self._gone, []
                if gone:
                    await self._desk.ask(give_up(self._desk.ledger, gone))
                await self._write_exits(self._take())
        except StoreDown as error:
            self.note_away(error)
        finally:
            self._writing = None

    async def _write_exits(self, batch: Sequence[Exit]) -> None:
        if not batch:
            return
        try:
            await self._desk.ask(leave(self._desk.ledger, batch))
        except BaseException:
            self._exits.extendleft(reversed(batch))
            raise
        self._on_written(batch)

    def _take(self) -> list[Exit]:
        batch: list[Exit] = []
        with suppress(IndexError):  # loop and thread may both take some
            while len(batch) < _MOST_WRITTEN:
                batch.append(self._exits.popleft())
        return batch
