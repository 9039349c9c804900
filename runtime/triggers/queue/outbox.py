"""Endings on their way to the ledger: those of one turn of the loop are written together, and none is given up.

Used by the crew, on its loop. While the store is down they wait here, and their leases with them.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from runtime.base.errors import StoreDown
from runtime.base.logs import get_logger
from runtime.ledger.records import Ending

log = get_logger(__name__)

_MOST = 200
_MOST_BYTES = 4_000_000
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 1.0

Send = Callable[[Sequence[Ending]], Awaitable[Sequence[bool]]]


class Outbox:
    """send: writes endings, and says of each whether it was taken. written: told of each that has left."""

    def __init__(self, send: Send, written: Callable[[Ending], None]) -> None:
        self._send = send
        self._written = written
        self._waiting: deque[Ending] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._pause_seconds = 0.0
        self._sending: list[Ending] = []

    def __len__(self) -> int:
        """How many are not written yet."""
        return len(self._waiting) + len(self._sending)

    @property
    def in_flight(self) -> int:
        """How many are about to be written; none while the store does not take them. From any thread."""
        return 0 if self._pause_seconds else len(self)

    def left(self) -> list[Ending]:
        """Those, from another thread, while the loop is held."""
        return [*self._sending, *self._waiting]

    def add(self, ending: Ending) -> None:
        """Write it, with others of this turn."""
        self._waiting.append(ending)
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_all())

    async def empty(self, within_seconds: float) -> bool:
        """Wait until all is written; whether it is."""
        if self._writing is not None:
            await asyncio.wait((self._writing,), timeout=within_seconds)
        return not len(self)

    def close(self) -> None:
        """Write no more."""
        if self._writing is not None:
            self._writing.cancel()

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                self._sending = self._batch()
                await self._write(self._sending)
                self._sending = []
        finally:
            self._writing = None

    def _batch(self) -> list[Ending]:
        batch: list[Ending] = []
        size = 0
        while self._waiting and len(batch) < _MOST and size < _MOST_BYTES:
            ending = self._waiting.popleft()
            size += len(ending.result)
            batch.append(ending)
        return batch

    async def _write(self, batch: Sequence[Ending]) -> None:
        """Write these, however long the store is away."""
        again = False
        while True:
            try:
                taken = await self._send(batch)
            except StoreDown as error:
                if not self._pause_seconds:
                    log.warning("outcomes wait for the store", count=len(self), reason=str(error))
            except Exception:
                if len(batch) > 1:
                    return await self._write_singly(batch)
                if not self._pause_seconds:
                    log.exception("an outcome cannot be written, and is tried again", run_id=batch[0].id)
            else:
                return self._note(batch, taken, again=again)
            again = True
            self._pause_seconds = min(_LONGEST_PAUSE_SECONDS, self._pause_seconds * 2 or _FIRST_PAUSE_SECONDS)
            await asyncio.sleep(self._pause_seconds)

    async def _write_singly(self, batch: Sequence[Ending]) -> None:
        """One of these may be what the store refuses: the others shall not wait for it."""
        for ending in batch:
            await self._write([ending])

    def _note(self, batch: Sequence[Ending], taken: Sequence[bool], *, again: bool) -> None:
        if self._pause_seconds:
            log.info("outcomes are written again", count=len(self))
            self._pause_seconds = 0.0
        for ending, was_taken in zip(batch, taken, strict=True):
            self._written(ending)
            if not was_taken and not again:  # else it was written the first time, perhaps, and the answer was lost
                log.info("an outcome came too late and was refused", run_id=ending.id, attempt=ending.attempt)
