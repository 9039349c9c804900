"""Claims of a worker, and what becomes of those whose answer is lost: the ledger has given runs that nobody here knows.

Used by the crew, in the hub's thread alone: no claim is under way while it is asked what came of an earlier one.
"""

import time
from collections.abc import Sequence

import redis

from runtime.base.errors import StoreDown
from runtime.base.logs import get_logger
from runtime.ledger.calls import do
from runtime.ledger.ledger import Ledger
from runtime.ledger.records import Claimed
from runtime.triggers.queue.leases import Leases

log = get_logger(__name__)

_DOUBT_SECONDS = 5.0
"""How long after an outage a claim from before it may still be carried out: the store has yet to read it."""
_LOOK_SECONDS = 1.0


class Claims:
    """worker: its name in the ledger. leases: all that it holds."""

    def __init__(self, client: redis.Redis, ledger: Ledger, worker: str, leases: Leases) -> None:
        self._client = client
        self._ledger = ledger
        self._worker = worker
        self._leases = leases
        self._doubtful: set[str] = set()
        self._sure_at: float | None = None
        self._look_at = 0.0

    def take(self, queues: Sequence[str], slots: int) -> list[Claimed] | None:
        """At most so many runs; None for a worker that has to register. StoreDown if the store does not answer."""
        try:
            if self._doubtful:
                self._disown()
            return do(self._client, self._ledger.claim(self._worker, queues, slots))
        except StoreDown:
            self._doubtful.update(queues)
            self._sure_at, self._look_at = None, 0.0
            raise

    def _disown(self) -> None:
        """Hand back what lost answers brought, until none can come any more."""
        now = time.monotonic()
        if now < self._look_at:
            return
        held = [lease.holding() for lease in self._leases.all()]
        count = do(self._client, self._ledger.disown(self._worker, sorted(self._doubtful), held))
        if count:
            log.info("runs whose claim was not answered are handed back", count=count)
        self._look_at = now + _LOOK_SECONDS
        if self._sure_at is None:
            self._sure_at = now + _DOUBT_SECONDS
        elif now > self._sure_at:
            self._doubtful.clear()
