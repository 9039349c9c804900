"""A pool of threads for handlers, and how a call in one has ended.

Used by execute and direct.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context as Variables
from functools import partial
from threading import get_ident
from typing import Any

import msgspec

from runtime.invoke.threads.crowding import Crowding
from runtime.invoke.threads.jobs import Back, Job, Returns
from runtime.invoke.threads.turnstile import Turnstile

_LONG_SECONDS = 3.0
"""A thread that goes on for so long without a caller is not expected to end."""
_PATIENCE_SECONDS, _LONGEST_PATIENCE_SECONDS = 0.25, 10.0


class Finished(msgspec.Struct, frozen=True):
    """How a handler ended: with a value, with what it raised, or not in time. is_logged: the log has it already."""

    value: Any = None
    error: BaseException | None = None
    timed_out: bool = False
    is_logged: bool = False


class Threads:
    """The threads sync handlers run in. One that outlives its caller keeps its place until it ends."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue = Turnstile(limit)
        self._pool = ThreadPoolExecutor(limit, thread_name_prefix="handler", initializer=self._queue.enlist)
        self._pool._work_queue = self._queue
        self._crowding = Crowding(self._queue, limit)
        self._working: set[int] = set()
        self._left: dict[Future[Finished] | Job, float] = {}
        self._returns: Returns | None = None
        self._job_seconds = self._gap_seconds = 0.0  # of late; between two that end while others wait
        self._begun_at = self._ended_at = 0.0  # of the last one

    @property
    def busy(self) -> int:
        """How many are at work."""
        return len(self._working)

    @property
    def worn_out(self) -> bool:
        """Whether half of them are at what nobody waits for any more, and has not ended for long."""
        if 2 * len(self._left) < self._limit:
            return False
        long_ago = time.monotonic() - _LONG_SECONDS
        return 2 * sum(1 for since in list(self._left.values()) if since < long_ago) >= self._limit

    def leave(self, job: Future[Finished] | Job) -> None:
        """Nobody waits for a call that was started: it keeps its thread until it ends."""
        self._left[job] = time.monotonic()
        if isinstance(job, Future):
            job.add_done_callback(self._forget)
        elif job.is_done:
            self._forget(job)

    def _forget(self, job: Future[Finished] | Job) -> None:
        self._left.pop(job, None)

    def are_crowded(self) -> bool:
        """Whether one more would wait for long: longer than a job takes, and than a moment."""
        waiting = self._queue.waiting
        if not waiting or not self._queue.is_full:
            return False
        patience = min(max(self._job_seconds, _PATIENCE_SECONDS), _LONGEST_PATIENCE_SECONDS)
        if waiting * self._gap_seconds > patience:
            return True
        return time.monotonic() - self._begun_at > patience  # none ends: they may never

    def start(self, call: Callable[[], Any], context: Variables) -> Future[Finished]:
        """Run `call` in a thread, in `context`; it waits for a free one first."""
        job = self._pool.submit(context.run, self._catch, call)
        self._crowding.look()
        return job

    def hand(self, call: Callable[[], Any], context: Variables, back: Back, loop: asyncio.AbstractEventLoop) -> Job:
        """As start, at a third of its cost: `back` is called on the loop. Not to be called once it is closed."""
        returns = self._returns
        if returns is None or returns.loop is not loop:
            returns = self._returns = Returns(loop)
        pool = self._pool
        job = Job(partial(context.run, self._catch, call), back, returns, self._forget)
        # As submit, without its future; see there.
        with pool._shutdown_lock:
            pool._work_queue.put(job)  # type: ignore[arg-type]  # it runs, and is cancelled, as its own items are
            if len(pool._threads) < self._limit:
                pool._adjust_thread_count()
        self._crowding.look()
        return job

    @property
    def is_closed(self) -> bool:
        """Whether no more may be started."""
        return self._pool._shutdown

    def close(self) -> None:
        """Start no more. Those at work are not waited for."""
        self._queue.set_width(self._limit)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _catch(self, call: Callable[[], Any]) -> Finished:
        if not (self._working or self._queue.waiting):
            self._gap_seconds = 0.0  # these may be others
        self._working.add(get_ident())
        began = self._begun_at = time.monotonic()
        try:
            return Finished(value=call())
        except BaseException as error:  # noqa: BLE001 - an author's SystemExit must not reach the event loop
            return Finished(error=error)
        finally:
            now = time.monotonic()
            self._job_seconds += (now - began - self._job_seconds) / 16
            gap = now - max(began, self._ended_at) if self._queue.waiting else 0.0  # else it tells how often they come
            self._gap_seconds += (gap - self._gap_seconds) / 32
            self._ended_at = now
            self._working.discard(get_ident())
