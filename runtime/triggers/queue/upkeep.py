"""The threads that keep a worker's leases: one renews them, one takes back what other workers have lost.

A third one drains what Celery clients send. Started by the crew. Knows no event loop and no Celery: a handler that
blocks the loop loses no lease. What becomes of them all if that one does not let go, is said here, too.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from runtime.base.errors import StoreDown
from runtime.base.logs import get_logger
from runtime.ledger.calls import do
from runtime.ledger.desk import Store
from runtime.ledger.ledger import Ledger
from runtime.ledger.records import Beat, Ending, Failure, Held
from runtime.observe import counts
from runtime.triggers.queue.leases import Fate, Lease, Leases

log = get_logger(__name__)

_REAP_SECONDS = 0.2
_LEAST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 1.0
_MOST_NAMED = 10
_CRASH_SECONDS = 1.0
_NOTICE_SECONDS = 3.0
"""How long another worker's call may hang before it is made again: its client's patience."""


class Keeper:
    """A thread that calls `step` each so many seconds, as long as it is told; store outages are said once.

    step: returns how long to wait before the next one, None for the usual. after_outage:
    called first when the store may be back; StoreDown if it is not.
    """

    def __init__(
        self, name: str, every_seconds: float, step: Callable[[], float | None], after_outage: Callable[[], Any]
    ) -> None:
        self._every_seconds = every_seconds
        self._step = step
        self._after_outage = after_outage
        self._down = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=name, daemon=True)

    def start(self) -> None:
        """Begin with the first step at once."""
        self._thread.start()

    def stop(self, within_seconds: float) -> None:
        """Make no further step."""
        self._stopping.set()
        self._thread.join(within_seconds)

    def _keep(self) -> None:
        wait = 0.0
        while not self._stopping.wait(wait):
            wait = self._every_seconds
            try:
                if self._down:
                    self._after_outage()
                found = self._step()
                wait = self._every_seconds if found is None else found
                self._down = False
            except StoreDown as error:
                if not self._down:
                    log.warning("the store does not answer", task=self._thread.name, reason=str(error))
                self._down = True
                wait = min(self._every_seconds, _LONGEST_PAUSE_SECONDS)
            except Exception:
                log.exception("a step of the worker's upkeep failed", task=self._thread.name)


class Surrender:
    """Hands back what a worker holds when a handler holds its loop, over a connection of its own.

    worker: its name in the ledger. leases: all that it holds.
    """

    def __init__(self, store: Store, ledger: Ledger, worker: str, leases: Leases) -> None:
        self._store = store
        self._ledger = ledger
        self._worker = worker
        self._leases = leases

    def hand_back(self) -> None:
        """All of them, as if they had not been claimed."""
        with _said_if_down(), self._store.connect() as client:
            do(client, self._ledger.release([one.holding() for one in self._leases.all()]))

    def all(self, endings: list[Ending], culprit: str, seconds: float) -> None:
        """Write what has ended, the attempt of the run at fault as a crash, and hand the others back; then leave.

        So do other runs of its function: else a hundred such would take a hundred processes, one after the other. From
        then on each is alone. culprit: its id; "": nobody knows it, and all whose handlers have begun here count as
        crashed, as if the process had died. What is no run at work, a resource for one, is told against none.
        """
        here = [one for one in self._leases.all() if not one.ended and not one.run.crashes]
        functions = {one.run.function for one in here if one.run.id == culprit}
        at_fault = [one for one in here if one.run.function in functions or (one.began and not culprit)]
        endings = [*endings, *(self._crash_of(lease, culprit, seconds) for lease in at_fault)]
        done = {ending.id for ending in endings}
        with _said_if_down(), self._store.connect() as client:
            if endings:
                do(client, self._ledger.finish(endings))
            while left := [one for one in self._leases.all() if one.run.id not in done]:  # a claim may be under way
                do(client, self._ledger.release([one.holding() for one in left]))
                done |= {one.run.id for one in left}
            do(client, self._ledger.leave(self._worker))

    def _crash_of(self, lease: Lease, culprit: str, seconds: float) -> Ending:
        run = lease.run
        who = "its handler" if run.id == culprit else "another run of its function" if culprit else "a handler"
        if lease.began:  # the loop, which counts otherwise, is held
            cell = counts.of(run.function, run.trigger)
            cell.done(max(0.0, time.time() - lease.began), "crashed")
            cell.retried()
        said = f"{who} held the event loop for {seconds:g} s, and its process was ended for that"
        return Ending(
            id=run.id,
            token=run.token,
            state="lost",
            attempt=run.attempt,
            failure=Failure(type="Crashed", message=said),
            retry_seconds=_CRASH_SECONDS,
            progress=lease.progress,
            worker=self._worker,
            began=lease.began,
            ended=time.time(),
            verdict="bad" if run.id == culprit else "none",
        )


@contextmanager
def _said_if_down() -> Iterator[None]:
    try:
        yield
    except StoreDown as error:
        log.warning("runs cannot be handed back; they begin again when their leases are over", reason=str(error))


class Beating:
    """Renew all leases, and end the handlers of those that are lost or cancelled.

    beat: tells the ledger. register: says to the ledger what this worker knows, which holds only for a while. look:
    sees what is new there.
    """

    def __init__(
        self,
        leases: Leases,
        beat: Callable[[list[Held]], Beat],
        stop: Callable[[list[Lease], Fate], None],
        register: Callable[[], None],
        look: Callable[[], None],
        register_seconds: float,
    ) -> None:
        self._look = look
        self._leases = leases
        self._beat = beat
        self._stop = stop
        self._register = register
        self._register_seconds = register_seconds
        self._register_at = 0.0

    def step(self) -> None:
        """One beat."""
        if time.monotonic() > self._register_at:
            self._register()
            self._register_at = time.monotonic() + self._register_seconds
        held = self._leases.all()
        answer = self._beat([lease.held() for lease in held])
        self._look()
        if answer.lost or answer.cancelled:
            # What has ended meanwhile is lost because its outcome is written, or about to be.
            at_work = {lease.run.id: lease for lease in held if not lease.ended}
            self._lose([at_work[one] for one in answer.lost if one in at_work])
            self._stop([at_work[one] for one in answer.cancelled if one in at_work], "cancelled")

    def _lose(self, leases: list[Lease]) -> None:
        if leases:
            names = [lease.run.id for lease in leases[:_MOST_NAMED]]
            log.warning("leases are lost; their handlers are ended", count=len(leases), run_ids=names)
            for lease in leases:
                self._leases.drop(lease.run.id, lease.run.token)
            self._stop(leases, "lost")

    def register_again(self) -> None:
        """The store was away, and may have forgotten."""
        self._register_at = 0.0


class Reaping:
    """When to reap: often while there is something, never just after an outage, when living workers renew first.

    reap: returns how many runs it moved. beat_seconds: how long to wait after an outage, or a call so slow that it was
    one.
    """

    def __init__(self, reap: Callable[[], int], beat_seconds: float) -> None:
        self._reap = reap
        self._beat_seconds = beat_seconds
        self._not_before = time.monotonic() + beat_seconds

    def wait_for_others(self) -> None:
        """After an outage: reap nothing until the others have noticed its end, and beaten once."""
        self._not_before = time.monotonic() + self._beat_seconds + _NOTICE_SECONDS

    def step(self) -> float:
        """Reap, unless it is too early. Seconds until the next step."""
        began = time.monotonic()
        if began < self._not_before:
            return min(self._not_before - began, _LONGEST_PAUSE_SECONDS)
        moved = self._reap()
        if time.monotonic() - began > self._beat_seconds:
            self.wait_for_others()
        return 0.0 if moved else _LEAST_PAUSE_SECONDS


class Duties(msgspec.Struct, frozen=True):
    """What the threads do, as calls to the ledger that block. StoreDown, each of them.

    probe: asks for a sign of life. stop: ends handlers, for that reason. drain: returns how long to wait until the
    next time.
    """

    beat: Callable[[list[Held]], Beat]
    probe: Callable[[], object]
    reap: Callable[[], int]
    register: Callable[[], None]
    look: Callable[[], None]
    stop: Callable[[list[Lease], Fate], None]
    drain: Callable[[], float]


def keepers_of(leases: Leases, duties: Duties, beat_seconds: float, register_seconds: float) -> tuple[Keeper, ...]:
    """The threads, to be started."""
    beating = Beating(leases, duties.beat, duties.stop, duties.register, duties.look, register_seconds)
    reaping = Reaping(duties.reap, beat_seconds)

    def after_outage() -> None:
        duties.probe()
        reaping.wait_for_others()

    return (
        Keeper("leases", beat_seconds, beating.step, beating.register_again),
        Keeper("reaper", _REAP_SECONDS, reaping.step, after_outage),
        Keeper("drain", _REAP_SECONDS, duties.drain, duties.probe),
    )
