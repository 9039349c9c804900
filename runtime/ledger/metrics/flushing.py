"""Bring what this process counts to the store, by the minute, each few seconds: a thread with a connection of its own.

Begun and ended by the roles. While the store is away what is counted waits here, up to an hour's worth. Raises nothing.
"""

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import cast

from redis import Redis

from runtime.base.errors import StoreDown
from runtime.base.logs import get_logger
from runtime.ledger.calls import do
from runtime.ledger.desk import Store
from runtime.ledger.ledger import Ledger
from runtime.ledger.minutes import What, bucket_of, record
from runtime.observe import counts
from runtime.observe.board import BOUNDS, BUCKETS, RETRIED, SUM, VERDICTS, Key

log = get_logger(__name__)

_EVERY_SECONDS = 5.0
_END_SECONDS = 2.0
_MINUTE_SECONDS = 60
_KEPT_MINUTES = 60
_MOST_ROWS = 1000

_OF_CALLS: tuple[tuple[int, What, float], ...] = (
    *((at, cast(What, what), 1.0) for at, what in enumerate(VERDICTS)),
    (RETRIED, "retried", 1.0),
    (SUM, "ms", 1000.0),
    *((BUCKETS + at, bucket_of(at), 1.0) for at in range(len(BOUNDS) + 1)),
)
_OF: dict[str, tuple[tuple[int, What, float], ...]] = {
    "call": _OF_CALLS,
    "blocked": ((0, "blocked", 1.0),),
    "missed": ((0, "missed", 1.0),),
}

Counted = tuple[str, str, What]


class Flush:
    """sample: called before each time, to say what is at work; it may be called from any thread."""

    def __init__(self, store: Store, ledger: Ledger, sample: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._ledger = ledger
        self._sample = sample
        self._ending = threading.Event()
        self._before: dict[Counted, int] = {}
        self._waiting: Counter[tuple[int, str, str, What]] = Counter()
        self._source, self._number = secrets.token_hex(8), 0
        self._sent: dict[tuple[int, str, str, What], int] = {}
        self._is_down = False
        self._thread = threading.Thread(target=self._keep, name="minutes", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Bring the rest, unless that takes long, and no more. Blocks."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(_END_SECONDS)

    def _keep(self) -> None:
        with self._store.connect() as client:
            last = False
            while not last:
                last = self._ending.wait(_until_next(time.time()))
                try:
                    self._sample()
                    self.collect()
                    self._bring(client)
                    self._is_down = False
                except StoreDown as error:
                    if not self._is_down:
                        log.warning("what is counted waits for the store", reason=str(error))
                    self._is_down = True
                except Exception:
                    log.exception("what is counted cannot be brought to the store")

    def collect(self) -> None:
        """Take what was counted since the last time; it belongs to the minute that began then at the earliest."""
        minute = int(self._ledger.now() // _MINUTE_SECONDS)
        for name, total in _totals():
            added = total - self._before.get(name, 0)
            if added:
                self._before[name] = total
                self._waiting[(minute, *name)] += added
        for key in [key for key in self._waiting if key[0] < minute - _KEPT_MINUTES]:
            del self._waiting[key]

    def _bring(self, client: Redis) -> None:
        """What is not answered is sent again as it was, under its number: it may have been added all the same."""
        while self._sent or self._waiting:
            if not self._sent:
                self._number += 1
                self._sent = dict(islice(self._waiting.items(), _MOST_ROWS))
            rows = [(*key, number) for key, number in self._sent.items()]
            do(client, record(self._ledger, rows, source=self._source, number=self._number))
            for key, number in self._sent.items():
                self._waiting[key] -= number
                if self._waiting[key] <= 0:
                    del self._waiting[key]
            self._sent = {}


def _totals() -> Iterator[tuple[Counted, int]]:
    for key, numbers in counts.read_here().sums.items():
        yield from _totals_of(key, numbers)


def _totals_of(key: Key, numbers: list[float]) -> Iterator[tuple[Counted, int]]:
    kind, function, trigger = key
    for at, what, unit in _OF.get(kind, ()):
        if numbers[at]:
            yield (function, trigger, what), int(numbers[at] * unit)


def _until_next(now: float) -> float:
    """Seconds to wait: a minute's end is not passed, so that what was counted in it is told as that minute's."""
    left = _MINUTE_SECONDS - now % _MINUTE_SECONDS
    return min(_EVERY_SECONDS, max(left - 0.05, 0.05))
