"""What becomes of a run under its function's limits, beyond what claim and finish do themselves.

Used by the execution, the crew and the harness.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from runtime.base.errors import StoreDown
from runtime.base.logs import get_logger
from runtime.invoke.limits.gate import Gate
from runtime.invoke.limits.rules import Ask, Limits
from runtime.ledger.records import Claimed, Held
from runtime.triggers.queue.leases import Lease

log = get_logger(__name__)

Keyed = tuple[Held, str]


def place_of(run: Claimed, limits: Limits) -> Ask:
    """The place that a run's handler has which goes on: its ending leaves it under that name."""
    return Ask(function=run.function, limits=limits, holder=f"{run.id}:{run.token}", key=run.key or "")


def hand_over(gate: Gate, lease: Lease | None) -> None:
    """A run is its worker's no longer: what goes on of its handler keeps its place."""
    if lease is not None and lease.stays is not None:
        gate.take_over(*lease.stays)


class Assigning:
    """Hands runs back that have got their keys, those of one turn of the loop together.

    assign: tells the ledger. done: told of each that is no longer the worker's.
    """

    def __init__(
        self, assign: Callable[[Sequence[Keyed]], Awaitable[object]], done: Callable[[str, int], None]
    ) -> None:
        self._assign = assign
        self._done = done
        self._waiting: list[Keyed] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, lease: Lease) -> None:
        """Hand one back."""
        self._waiting.append((lease.holding(), lease.key))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    await self._assign(batch)
                except StoreDown as error:
                    log.warning("runs wait for their leases' end to take their turns", reason=str(error))
                for held, _ in batch:
                    self._done(held.id, held.token)
        finally:
            self._task = None
