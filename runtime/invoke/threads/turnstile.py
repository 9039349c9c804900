"""Who of a pool's threads may be at work.

Made by pool, in place of the queue that Python's pool has.
"""

import time
from collections import deque
from queue import SimpleQueue
from threading import Lock, get_ident
from typing import Any

from typing_extensions import override


class Turnstile(SimpleQueue[Any]):
    """What waits for a thread of a pool. width: how many may be at work at once; others wait with what they took.

    threads: how many there are. long: how many are at work and no more counted, as `excuse` says. Whoever waits goes
    before what comes later. It is Python's own queue while the width is not less than the threads.
    """

    def __init__(self, threads: int) -> None:
        super().__init__()
        self.width = self._threads = threads
        self._pool: set[int] = set()
        self._working: dict[int, float] = {}  # since when
        self._long: set[int] = set()
        self._held: deque[tuple[int, Lock]] = deque()
        self._lock = Lock()

    def enlist(self) -> None:
        """The calling thread is the pool's. At the end others look, too, for what to cancel."""
        self._pool.add(get_ident())

    @property
    def waiting(self) -> int:
        """How many wait, for a thread or with one."""
        return self.qsize() + len(self._held)

    @property
    def working(self) -> int:
        """How many are at work, and counted."""
        return len(self._working)

    @property
    def long(self) -> int:
        """How many are at work beside them."""
        return len(self._long)

    @property
    def is_full(self) -> bool:
        """Whether as many are at work as may be."""
        return len(self._working) >= min(self.width, self._threads - len(self._long))

    def set_width(self, width: int) -> None:
        """From now on. Those at work go on."""
        self.width = width
        self._let_go()

    def excuse(self, before: float) -> None:
        """Whoever has been at work since before then, of monotonic, keeps no place: it may never end."""
        for who, since in list(self._working.items()):
            if since < before and self._working.pop(who, None) == since:
                self._long.add(who)
        self._let_go()

    @override
    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """What is next. Who asks is at work no more."""
        self._end()
        return self._begin(super().get(block, timeout))

    @override
    def get_nowait(self) -> Any:
        """The same; queue.Empty if there is nothing."""
        if get_ident() not in self._pool:
            return super().get_nowait()
        self._end()
        return self._begin(super().get_nowait())

    def _end(self) -> None:
        me = get_ident()
        self._working.pop(me, None)
        self._long.discard(me)
        if self._held:
            self._let_go()

    def _begin(self, item: Any) -> Any:
        if item is None:  # the pool's word that it ends
            return item
        me = get_ident()
        if not self._held and len(self._working) < self.width:
            self._working[me] = time.monotonic()
            return item
        turn = Lock()
        turn.acquire()
        self._held.append((me, turn))
        self._let_go()  # the last one at work may have ended just now
        turn.acquire()
        return item

    def _let_go(self) -> None:
        with self._lock:
            while self._held and len(self._working) < self.width:
                who, turn = self._held.popleft()
                self._working[who] = time.monotonic()
                turn.release()
