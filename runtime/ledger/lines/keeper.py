"""Lines of a worker's runs on their way to the store: twice a second, and before the end of their run is written.

Used by the crew. Nobody who logs waits for the store: what comes while it is away, or faster than it takes, stays
within bounds, the newest of it, and what is lost is told by a line in its place.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import msgspec
from redis import Redis

from runtime.base.errors import StoreDown
from runtime.base.logs import get_logger
from runtime.base.logs.lines import Line, keep_with
from runtime.ledger.calls import Call, do
from runtime.ledger.ledger import Ledger
from runtime.ledger.lines.calls import keep_lines
from runtime.ledger.records import Ending

log = get_logger(__name__)

T = TypeVar("T")

_EACH_SECONDS = 0.5
_MOST_BYTES = 64_000_000
"""Of all runs together, while the store is away."""
_PATIENCE_SECONDS = 2.0
_LOOK_SECONDS = 0.005


class Bounds(msgspec.Struct, frozen=True):
    """What a run keeps at most: lines, and bytes of them. lines: 0 for none."""

    lines: int = 1000
    bytes: int = 256_000


class RunLines:
    """Keeps lines of runs. client: its own, for its thread. holds: whether a run is this worker's. As upkeep.Keeper."""

    def __init__(self, client: Redis, ledger: Ledger, bounds: Bounds, holds: Callable[[str], bool]) -> None:
        self._client = client
        self._ledger = ledger
        self._bounds = bounds
        self._holds = holds
        self._waiting: dict[str, _Waiting] = {}
        self._bytes = 0
        self._written: frozenset[str] = frozenset()
        # Of one thread more than once: a signal's handler may log.
        self._lock = threading.RLock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep_on, name="run-lines", daemon=True)

    def start(self) -> None:
        """Keep what is logged from now on."""
        if self._bounds.lines:
            keep_with(self.add)
            self._thread.start()

    def stop(self, within_seconds: float) -> None:
        """Write what is left, and keep no more."""
        if self._bounds.lines:
            keep_with(None)
            self._ending.set()
            self._thread.join(within_seconds)

    def add(self, run_id: str, line: bytes) -> None:
        """Keep a line, if the run is ours. From any thread; never waits for the store."""
        if not self._holds(run_id):
            return
        with self._lock:
            waiting = self._waiting.get(run_id)
            if waiting is None:
                waiting = self._waiting[run_id] = _Waiting()
            if self._bytes > _MOST_BYTES:
                waiting.lost += 1
            else:
                self._bytes += waiting.add(line, self._bounds)

    def before(
        self, send: Callable[[Sequence[Ending]], Awaitable[T]], ask: Callable[[Call[None]], Awaitable[None]]
    ) -> Callable[[Sequence[Ending]], Awaitable[T]]:
        """`send`, but what the runs have logged is kept first: who sees the end of a run sees all its lines."""

        async def keep_and_send(endings: Sequence[Ending]) -> T:
            if self._waiting or self._written:
                await self._keep_of([ending.id for ending in endings], ask)
            return await send(endings)

        return keep_and_send

    async def _keep_of(self, ids: Sequence[str], ask: Callable[[Call[None]], Awaitable[None]]) -> None:
        until = time.monotonic() + _PATIENCE_SECONDS
        while not self._written.isdisjoint(ids) and time.monotonic() < until:  # noqa: ASYNC110 - a thread is at it, seldom
            await asyncio.sleep(_LOOK_SECONDS)
        taken = self._take(ids)
        try:
            for call in self._calls(taken):
                await ask(call)
        except StoreDown:
            self._put_back(taken)
            raise
        except Exception:
            log.exception("lines of runs cannot be kept", count=sum(len(one.lines) for one in taken.values()))

    def _calls(self, taken: "dict[str, _Waiting]") -> Iterable[Call[None]]:
        own = {run_id: one.all() for run_id, one in taken.items()}
        again = {run_id for run_id, one in taken.items() if one.again}
        return keep_lines(self._ledger, own, most=self._bounds.lines, most_bytes=self._bounds.bytes, again=again)

    def _take(self, ids: Iterable[str]) -> "dict[str, _Waiting]":
        with self._lock:
            taken = {run_id: self._waiting.pop(run_id) for run_id in dict.fromkeys(ids) if run_id in self._waiting}
            self._bytes -= sum(one.bytes for one in taken.values())
        return taken

    def _put_back(self, taken: "dict[str, _Waiting]") -> None:
        with self._lock:
            for run_id, older in taken.items():
                older.again = True
                newer = self._waiting.get(run_id)
                if newer is not None:
                    self._bytes -= newer.bytes
                    older.append(newer, self._bounds)
                self._waiting[run_id] = older
                self._bytes += older.bytes

    def _keep_on(self) -> None:
        ends = False
        while not ends:
            ends = self._ending.wait(_EACH_SECONDS)
            with self._lock:
                taken = self._take(list(self._waiting))
                self._written = frozenset(taken)
            try:
                for call in self._calls(taken):
                    do(self._client, call)
            except StoreDown:
                self._put_back(taken)
            except Exception:
                log.exception("lines of runs cannot be kept", count=sum(len(one.lines) for one in taken.values()))
            finally:
                self._written = frozenset()


class _Waiting:
    """Lines of one run. lost: how many older ones are not among them. again: some of them may have been kept."""

    __slots__ = ("again", "bytes", "lines", "lost")

    def __init__(self) -> None:
        self.lines: deque[bytes] = deque()
        self.bytes = self.lost = 0
        self.again = False

    def add(self, line: bytes, bounds: Bounds) -> int:
        """Add a line, and let go of the oldest of too many. By how many bytes it is more."""
        before = self.bytes
        self.lines.append(line)
        self.bytes += len(line)
        while len(self.lines) > 1 and (len(self.lines) > bounds.lines or self.bytes > bounds.bytes):
            self.bytes -= len(self.lines.popleft())
            self.lost += 1
        return self.bytes - before

    def append(self, newer: "_Waiting", bounds: Bounds) -> None:
        """Add lines that came later."""
        if newer.lost:
            self.lost += newer.lost + len(self.lines)
            self.lines.clear()
            self.bytes = 0
        for line in newer.lines:
            self.add(line, bounds)

    def all(self) -> list[bytes]:
        """The lines; before them one that says how many are lost."""
        if not self.lost:
            return list(self.lines)
        told = Line(time=time.time(), level="warning", text=f"{self.lost} lines were left out: too many at once")
        return [msgspec.json.encode(told), *self.lines]
