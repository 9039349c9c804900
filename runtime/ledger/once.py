"""Calls that have a key in common, of which one is carried out: who may go on, and what was kept for the others.

Used by HTTP and the command line for calls, by workers for runs. A call holds its key by a lease that a thread renews,
so that a loop that is blocked does not lose it; a run holds it for as long as it is open. See scripts/once.lua.
"""

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from hashlib import sha256
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from runtime.base.errors import StoreDown
from runtime.base.logs import get_logger
from runtime.ledger.calls import Argument, Call
from runtime.ledger.ledger import Ledger, packed
from runtime.ledger.records import Claimed, Submission

log = get_logger(__name__)

T = TypeVar("T")

WINDOW_SECONDS = 86_400.0
"""How long an outcome is kept with its key."""
_BEATS = 5
"""In the time of a lease."""
_CLOSE_SECONDS = 1.0
_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 15.0
_DOUBLINGS = 10


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a call may go on: mine. Else what there is in its place.

    kept: an outcome, as answer, or as result (JSON), or both. held: another call or run is under way. run: it is a run,
    that of `run_id`. other: the key was another request's. lost: a worker's run is no longer its own. accepted, full:
    of a submission. waits: how often a run has met "held".
    """

    verdict: Literal["mine", "kept", "held", "run", "other", "lost", "accepted", "full"]
    answer: bytes | None = None
    result: bytes | None = None
    run_id: str = ""
    waits: int = 0


class Asks(Protocol):
    """What asks the ledger: a desk."""

    ledger: Ledger

    async def ask(self, call: Call[T]) -> T:
        """Run a call on the loop at work. StoreDown."""
        ...

    def ask_sync(self, call: Call[T]) -> T:
        """Run a call without a loop. StoreDown."""
        ...


class Left(Protocol):
    """A handler that goes on though its caller has been answered: a future."""

    def done(self) -> bool:
        """Whether it has ended."""
        ...

    def add_done_callback(self, call: Callable[[Any], object], /) -> object:
        """Have this called at its end, in any thread; at once if that was before."""
        ...


TakesKeys = Callable[[str, Claimed], Awaitable[Found]]
"""Asks for a key in a run's name. StoreDown."""


def digest_of(*parts: str | bytes) -> str:
    """What a key is called in the store: of its scope and itself."""
    return sha256(msgspec.msgpack.encode(parts)).hexdigest()


def key_of_function(name: str, key: bytes) -> str:
    """The key that idempotent= gives the calls of a function, whoever makes them."""
    return digest_of("function", name, key)


def take_by_run(ledger: Ledger, key: str, run: Claimed) -> Call[Found]:
    """Ask for a key in a run's name."""
    return ledger.call("once_take", (key, "", "run", run.id, run.token), _read_found)


async def take_patiently(take: TakesKeys, key: str, run: Claimed) -> Found:
    """Ask for a key in a run's name, however long the store is away: its worker ends this if the run is lost."""
    told = False
    while True:
        try:
            return await take(key, run)
        except StoreDown as error:
            if not told:
                log.warning("a run waits for the store to ask for its key", run_id=run.id, reason=str(error))
            told = True
            await asyncio.sleep(_PAUSE_SECONDS)


def pause_seconds(waits: int) -> float:
    """How long a run leaves the call alone that has its key, the so-manieth time."""
    longest = min(_LONGEST_PAUSE_SECONDS, 2.0 ** min(waits, _DOUBLINGS))
    return random.uniform(1.0, longest)  # noqa: S311 - so that they do not come at once


async def accept_once(desk: Asks, key: str, request: str, run: Submission) -> Found:
    """Have a run accepted, unless there is one with this key. StoreDown, and then it may be accepted, too.

    Repeated once if the answer is lost: the key then is the run's.
    """
    call = desk.ledger.call("once_accept", (key, request, round(WINDOW_SECONDS * 1000), packed(run)), _read_found)
    try:
        return await desk.ask(call)
    except StoreDown:
        return await desk.ask(call)


class Holds:
    """The keys that calls of this process hold. Thread-safe."""

    def __init__(self, desk: Asks) -> None:
        self._desk = desk
        self._lease_ms = round(desk.ledger.lease_seconds * 1000)
        self._held: dict[tuple[str, str], Callable[[], object] | None] = {}  # None: its handler has ended
        self._unwritten: dict[tuple[str, str], Call[bool]] = {}
        self._closed = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    async def take(self, key: str, call_id: str, request: str, on_loss: Callable[[], object]) -> Found:
        """Ask for a key, and hold it from now on if it is mine. StoreDown.

        request: a digest; a call with the same key and another one is refused; "" for none. on_loss: called from
        another thread, if the key is another's because this process stood still.
        """
        call = self._desk.ledger.call("once_take", (key, request, "call", call_id, self._lease_ms), _read_found)
        while True:
            asked = time.monotonic()
            found = await self._desk.ask(call)
            if found.verdict != "mine" or time.monotonic() - asked < self._desk.ledger.lease_seconds / 2:
                break  # else this process stood still, and the key may be another's by now
        if found.verdict == "mine":
            self._held[key, call_id] = on_loss
            self._start()
        return found

    async def keep(self, key: str, call_id: str, *, answer: bytes | None = None, result: bytes | None = None) -> bool:
        """Write how the call ended: its answer, or its result as JSON, or both.

        False if the key was lost to another, whose outcome counts. While the store is away the key is held on, and this
        is written later, for as long as this process lives.
        """
        kept: list[Argument] = []
        for name, content in (("answer", answer), ("result", result)):
            if content is not None:
                kept += (name, content)
        return await self._end(key, call_id, WINDOW_SECONDS, kept)

    async def release(self, key: str, call_id: str, left: Collection[Left] = ()) -> None:
        """Let the next call with this key go on. Later, if the store is away.

        left: what is still at work for this call, though its caller has its answer: the next one waits for its end.
        """
        waits_for = {one for one in left if not one.done()}
        if not waits_for:
            await self._end(key, call_id, 0.0, ())
            return
        if (key, call_id) not in self._held:
            return
        self._held[key, call_id] = None
        call = self._call_to_end(key, call_id, 0.0, ())

        def ended(one: Left) -> None:  # in whichever thread it ends
            waits_for.discard(one)
            if not waits_for:
                self._unwritten[key, call_id] = call

        for one in list(waits_for):
            one.add_done_callback(ended)

    async def _end(self, key: str, call_id: str, seconds: float, kept: Sequence[Argument]) -> bool:
        one = key, call_id
        if one not in self._held:
            return False
        self._held[one] = None
        call = self._call_to_end(key, call_id, seconds, kept)
        try:
            is_mine = await self._desk.ask(call)
        except StoreDown as error:
            log.warning("what became of a call with a key is written later", run_id=call_id, reason=str(error))
            self._unwritten[one] = call
            return True
        except asyncio.CancelledError:
            self._unwritten[one] = call
            raise
        except BaseException:
            self._held.pop(one, None)
            raise
        self._held.pop(one, None)
        return is_mine

    def _call_to_end(self, key: str, call_id: str, seconds: float, kept: Sequence[Argument]) -> Call[bool]:
        return self._desk.ledger.call("once_end", (key, call_id, round(seconds * 1000), *kept), bool)

    def close(self) -> None:
        """Renew nothing more; what has not been written is, if the store is still there."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _start(self) -> None:
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._keep, name="keys", daemon=True)
                    self._thread.start()

    def _keep(self) -> None:
        while not self._closed.wait(self._desk.ledger.lease_seconds / _BEATS):
            self._try(self._renew)  # before what may be much to write
            self._try(self._write)
        self._try(self._write)

    @staticmethod
    def _try(work: Callable[[], None]) -> None:
        try:
            work()
        except StoreDown as error:
            log.debug("keys of calls are not renewed", reason=str(error))
        except Exception:
            log.exception("keys of calls cannot be renewed")

    def _write(self) -> None:
        for one, call in list(self._unwritten.items()):
            self._desk.ask_sync(call)
            self._unwritten.pop(one, None)
            self._held.pop(one, None)

    def _renew(self) -> None:
        held = list(self._held)
        if not held:
            return
        arguments: list[Argument] = [self._lease_ms, *(part for one in held for part in one)]
        taken = self._desk.ask_sync(self._desk.ledger.call("once_beat", arguments, list))
        for one, is_mine in zip(held, taken, strict=True):
            on_loss = None if is_mine else self._held.pop(one, None)
            if on_loss is not None:
                log.warning("a call has lost its key to another; its handler is ended", run_id=one[1])
                on_loss()


def _read_found(answer: Sequence[Any]) -> Found:
    verdict: Any = answer[0].decode()
    if verdict == "kept":
        return Found(verdict=verdict, answer=answer[1], result=answer[2])
    more = answer[1] if len(answer) > 1 else None
    if isinstance(more, int):
        return Found(verdict=verdict, waits=more)
    return Found(verdict=verdict, run_id=more.decode() if more else "")
