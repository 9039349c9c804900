"""A process's way to the ledger: its connections, one set for each event loop and one for code without a loop.

Held by each role; a plain script gets one when it first asks. Thread-safe; after a fork, the child makes connections of
its own. What thousands of tasks ask in one turn of a loop goes to the store as one.
"""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import wait
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar
from weakref import WeakKeyDictionary

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from runtime.base.errors import StartError, StoreDown, UnknownRun
from runtime.base.sections import QueueSettings, Settings
from runtime.base.settings import load_settings
from runtime.declare.modules import PACKAGE, open_root
from runtime.ledger.calls import Call, ado, do
from runtime.ledger.endings import Endings
from runtime.ledger.flows.nodes import FlowSubmission
from runtime.ledger.ledger import Keeping, Ledger
from runtime.ledger.limits.gate import StoreGate
from runtime.ledger.once import Holds
from runtime.ledger.records import Accepted, Submission
from runtime.ledger.shared import Shared
from runtime.ledger.targets import Catalogue, FolderCatalogue
from runtime.ledger.views import RunView

T = TypeVar("T")

_PATIENCE_SECONDS = 4.5
"""How long a caller waits for the store at most: less than the 5 s that are promised."""
_LOOK_SECONDS = 1.0
_CLOSE_SECONDS = 1.0
_OUTAGE_SECONDS = 30.0
"""Whoever waits for the end of a run sits out as long an outage of the store."""
_MOST_ACCEPTED = 100
_MOST_SHOWN = 50
_MOST_CALLS = 32
"""Calls under way at once on a loop, each of which has a connection."""


class Store(Protocol):
    """What a desk wants of runtime.base.store.Store."""

    namespace: str
    durability: str
    broker_url: str

    def connect(self) -> Redis:
        """A client for code without a loop."""
        ...

    def connect_async(self) -> AsyncRedis:
        """A client for one event loop."""
        ...

    def close(self) -> None:
        """The process no longer needs the store."""
        ...


class Desk:
    """A process's way to the ledger.

    max_length: of a queue, in open runs; payload_max: of arguments, in bytes; 0 for no limit. result_max: bytes of an
    answer that is kept with a key. registry: the functions that are loaded at the moment, set by roles; where there is
    none, submit takes names as they are. holds: the keys of calls. gate: what lets calls of limited functions begin.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        *,
        max_length: int = 0,
        payload_max: int = 0,
        result_max: int = 1_000_000,
        registry: Callable[[], Catalogue] | None = None,
    ) -> None:
        self.store = store
        self.ledger = ledger
        self.max_length = max_length
        self.payload_max = payload_max
        self.result_max = result_max
        self.registry = registry
        self.settings = Settings()
        """Of the project: what schedules are that do not say otherwise. As in the defaults, where nobody sets it."""
        self._own = _Own()
        self.holds = Holds(self)
        self.gate = StoreGate(self)

    async def ask(self, call: Call[T]) -> T:
        """Run a call on the loop at work. StoreDown within 5 s."""
        line = await self._line()
        async with _patience(), line.gate:
            return await ado(line.client, call)

    def ask_sync(self, call: Call[T]) -> T:
        """Run a call without a loop. StoreDown."""
        return do(self._client(), call)

    async def accept(self, run: Submission) -> Accepted:
        """Have a run recorded: it is, once this returns. StoreDown within 5 s, and then it may be, too.

        Submissions of one turn of the loop share a call. One whose answer is lost is repeated once; so a run may be
        known by the id it was just given.
        """
        return await (await self._line()).accepts.ask(run)

    async def accept_all(self, runs: Sequence[Submission]) -> list[Accepted]:
        """Have many runs recorded, 100 in a call; as accept."""
        line = await self._line()
        found: list[Accepted] = []
        for start in range(0, len(runs), _MOST_ACCEPTED):
            found += await line.accept(list(runs[start : start + _MOST_ACCEPTED]))
        return found

    async def accept_flow(self, flow: FlowSubmission) -> Accepted:
        """Have a flow recorded, as accept."""
        line = await self._line()
        async with line.gate:
            return await line.record(self.ledger.accept_flow(flow))

    async def show(self, run_id: str) -> RunView | None:
        """All that is known of a run; None for one that is not. StoreDown within 5 s."""
        return await (await self._line()).shows.ask(run_id)

    async def finished(self, run_id: str, timeout_seconds: float | None) -> RunView | None:
        """The run once it is over; None if it is not within that time. UnknownRun. Short outages are sat out."""
        line = await self._line()
        now = asyncio.get_running_loop().time
        end = float("inf") if timeout_seconds is None else now() + timeout_seconds
        seen = now()
        async with line.endings.listening(self.ledger.done(run_id)) as told:
            while True:
                await _wait(told, min(_LOOK_SECONDS, end - now()))
                try:
                    view = await line.shows.ask(run_id)
                except StoreDown:
                    if now() >= min(end, seen + _OUTAGE_SECONDS):
                        raise
                    continue
                if view is None:
                    raise UnknownRun(run_id)
                if view.is_finished:
                    return view
                seen = now()
                if seen >= end:
                    return None

    async def aclose(self) -> None:
        """Close what belongs to the loop at work. Done by itself when asyncio.run ends."""
        await self.gate.settle()
        line = self._lines().lines.get(asyncio.get_running_loop())
        if line is not None:
            await line.close()

    def close(self) -> None:
        """Close what belongs to no loop, and to loops that run in other threads; then the store. Raises nothing."""
        self.gate.close()
        self.holds.close()
        own = self._lines()
        here = asyncio._get_running_loop()
        with own.lock:
            elsewhere = [(loop, line) for loop, line in own.lines.items() if loop is not here and loop.is_running()]
        closing = [asyncio.run_coroutine_threadsafe(line.close(), loop) for loop, line in elsewhere]
        wait(closing, timeout=_CLOSE_SECONDS)  # no longer: a loop may be stuck in a handler
        if own.client is not None:
            own.client.close()
        self.store.close()

    def _lines(self) -> "_Own":
        if self._own.pid != os.getpid():
            # Kept, for the parent's loops watch the same sockets: to close them here would disturb it.
            _left_behind.append(self._own)
            self._own = _Own()
        return self._own

    def _client(self) -> Redis:
        own = self._lines()
        with own.lock:
            if own.client is None:
                own.client = self.store.connect()
            return own.client

    async def _line(self) -> "_Line":
        own, loop = self._lines(), asyncio.get_running_loop()
        line = own.lines.get(loop)
        if line is None:
            line = _Line(self.ledger, self.store.connect_async(), lambda: own.lines.pop(loop, None))
            with own.lock:
                own.lines[loop] = line
            await line.open()
        return line


class _Line:
    """What one event loop has: a client, and what is shared by its tasks."""

    def __init__(self, ledger: Ledger, client: AsyncRedis, forget: Callable[[], object]) -> None:
        self.client = client
        self._forget = forget
        self.gate = asyncio.Semaphore(_MOST_CALLS)
        self.accepts = Shared(self.accept, _MOST_ACCEPTED)
        self.shows = Shared(self._show, _MOST_SHOWN)
        self.endings = Endings(client)
        self._ledger = ledger
        self._closing = self._closed_with_the_loop()

    async def open(self) -> None:
        """Have it closed when the loop ends."""
        await anext(self._closing)

    async def close(self) -> None:
        """Close the client."""
        await self._closing.aclose()

    async def _closed_with_the_loop(self) -> AsyncGenerator[None]:
        """asyncio.run ends the generators that its loop has left: the one moment to close connections of that loop."""
        try:
            yield
        finally:
            self._forget()
            await self.client.aclose()

    async def accept(self, runs: list[Submission]) -> list[Accepted]:
        """Have runs recorded in one call."""
        return await self.record(self._ledger.accept(runs))

    async def record(self, call: Call[T]) -> T:
        """Make a call that accepts, again if its answer is lost: the store knows the runs by their ids."""
        async with _patience():
            try:
                return await ado(self.client, call)
            except StoreDown:
                return await ado(self.client, call)

    async def _show(self, run_ids: list[str]) -> list[RunView | None]:
        async with _patience():
            return await ado(self.client, self._ledger.show(run_ids))


class _Own:
    """What one process has: connections are not shared with a fork's."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.client: Redis | None = None
        self.lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line] = WeakKeyDictionary()


_left_behind: list[_Own] = []


@asynccontextmanager
async def _patience() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            yield
    except TimeoutError:
        raise StoreDown(f"the store has not answered for {_PATIENCE_SECONDS:g} s") from None


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, so long at most, and have it wait for the next."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
    event.clear()


def open_desk(root: Path, settings: Settings, *, again: bool = False) -> Desk:
    """A desk for the project in `root`. Blocks while an embedded store starts. StartError. again: see Store.open."""
    from runtime.base.store import Store as Opened  # noqa: PLC0415

    queue = settings.queue
    store = Opened.open(root, settings.store, again=again)
    ledger = Ledger(store.namespace, lease_seconds=float(queue.lease), keeping=keeping_of(queue))
    payload_max, result_max = int(queue.payload_max), int(queue.result_max)
    desk = Desk(store, ledger, max_length=queue.max_length, payload_max=payload_max, result_max=result_max)
    desk.settings = settings
    return desk


def keeping_of(settings: QueueSettings) -> Keeping:
    """How long finished runs are kept, as the settings say."""
    return Keeping(
        seconds=float(settings.keep), failures_seconds=float(settings.keep_failures), count=settings.keep_count
    )


def open_for_script() -> Desk:
    """A desk for the project whose functions are imported, or that in FNRUN_DIR, or in this folder. StartError."""
    root = open_root() or Path(os.environ.get("FNRUN_DIR") or ".").resolve()
    if not (root / PACKAGE).is_dir():
        raise StartError(
            f"there is no {PACKAGE}/ folder in {root}: run the script in the project's folder, or set FNRUN_DIR"
        )
    settings = load_settings(root).settings
    desk = open_desk(root, settings)
    catalogue = FolderCatalogue(root, settings.functions, settings.schedules, str(settings.schedule.timezone))
    desk.registry = lambda: catalogue
    return desk


_current: Desk | None = None
_opening = threading.Lock()


def use(desk: Desk | None) -> None:
    """Make it the desk of this process."""
    global _current  # noqa: PLW0603 - one a process, as there is one store
    _current = desk


def in_use() -> Desk | None:
    """The desk of this process, if it has one yet."""
    return _current


def current(make: Callable[[], Desk] = open_for_script) -> Desk:
    """The desk of this process, made now if there is none. Blocks while that opens the store; raises what it raises."""
    with _opening:
        desk = make() if _current is None else _current
        use(desk)
        return desk
