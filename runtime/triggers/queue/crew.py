"""The loop that runs handlers, in a thread of its own, and what it needs: leases, outcomes, the threads that keep them.

Used by the pool and the transport from Celery's thread (the hub), put together by the worker. Knows no Celery: it could
stand under another. Between the hub and the loop, work is handed over in batches: one wake-up for all there is.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import CancelledError, Future, wait
from functools import partial
from typing import Any, TypeVar

import redis
import redis.asyncio

from runtime.base.errors import StoreDown
from runtime.base.logs import get_logger
from runtime.declare.registry import Function
from runtime.invoke.execute import settle
from runtime.invoke.invoker import Invoker
from runtime.invoke.isolation.cells import Cells
from runtime.ledger.calls import Call, ado, do
from runtime.ledger.desk import Store
from runtime.ledger.ledger import Ledger
from runtime.ledger.limits.calls import assign
from runtime.ledger.lines.keeper import RunLines
from runtime.ledger.once import take_by_run
from runtime.ledger.records import Ending
from runtime.ledger.targets import limits_map, on_failure_map
from runtime.ledger.views import Contact
from runtime.triggers.queue.alone import run_in_cell
from runtime.triggers.queue.claims import Claims
from runtime.triggers.queue.clients.draining import Draining
from runtime.triggers.queue.execution import Execution
from runtime.triggers.queue.leases import Lease, Leases
from runtime.triggers.queue.outbox import Outbox
from runtime.triggers.queue.outcomes.places import Assigning, hand_over
from runtime.triggers.queue.parts import Keeps, Opens, Options
from runtime.triggers.queue.plans import Served
from runtime.triggers.queue.upkeep import Duties, Surrender, keepers_of

log = get_logger(__name__)

T = TypeVar("T")

_CANCEL_SECONDS = 2.0
_WRITE_SECONDS = 3.0
_STUCK_SECONDS = _CANCEL_SECONDS + _WRITE_SECONDS + 1.0
_LOOK_SECONDS = 0.2
_CLOSE_SECONDS = 12.0

Ended = tuple[Lease, Ending | None]


class Crew:
    """Runs what is claimed, `concurrency` at once."""

    def __init__(self, store: Store, ledger: Ledger, invoker: Invoker, options: Options) -> None:
        self._store, self._ledger, self._options = store, ledger, options
        self._client, self._hub_client, self._reaps = store.connect(), store.connect(), store.connect()
        self._invoker = invoker
        self._leases = Leases()
        self._claims = Claims(self._hub_client, ledger, options.worker, self._leases)
        self._lines = RunLines(store.connect(), ledger, options.lines, self._leases.holds)
        self._surrender = Surrender(store, ledger, options.worker, self._leases)
        self._execution = Execution(
            invoker, self._note_end, worker=options.worker, result_max=options.result_max,
            keys=lambda key, run: ado(self._async_client, take_by_run(ledger, key, run)),
            alone=lambda lease: run_in_cell(self._cells, lease),
        )  # fmt: skip
        self.draining = Draining(store.connect(), ledger, options, lambda: self._execution.plans)
        self._at_work = 0
        self._opening: Future[None] | None = None
        self._arrived: deque[Lease] = deque()
        self._ended: deque[Ended] = deque()
        self._arrived_told = self._ended_told = self._free_told = False
        self.limit = options.concurrency  # runs at once
        self._most_ahead = self.limit // 4  # runs that are claimed while outcomes are written
        self.closing = self._hurried = False
        self.before_close: Callable[[], None] = lambda: None
        self.wake_hub: Callable[[], None] = lambda: None
        self.on_new_queues: Callable[[], None] = lambda: None
        self._served = Served(options.queues)

    # --- life, from the main thread -----------------------------------------------------------------------------

    def begin(
        self, functions: Iterable[Function], resources: Opens, new_loop: Callable[[], asyncio.AbstractEventLoop]
    ) -> bool:
        """Start the loop, open the resources on it, start the threads that keep the leases.

        False if it was told to hurry before that was done. StartError if a resource cannot be opened.
        """
        self._execution.adopt(functions)
        self._resources = resources
        self._loop = new_loop()
        threading.Thread(target=self._loop.run_forever, name="handlers", daemon=True).start()
        self._opening = self.on_loop(self._open())
        try:
            self._opening.result()
        except CancelledError:
            self.on_loop(settle(_CLOSE_SECONDS)).result()
            return False
        self._begin_keeping()
        return True

    async def _open(self) -> None:
        await self._resources.open()
        self._async_client = self._store.connect_async()
        self._hurrying = asyncio.Event()
        self._cells = Cells(self._options.cell_command, self.limit)
        ask: Callable[[Call[Any]], Any] = lambda call: ado(self._async_client, call)  # noqa: E731
        send = self._lines.before(lambda endings: ask(self._ledger.finish(endings)), ask)
        self._outbox = Outbox(send, lambda ending: self._drop(ending.id, ending.token))
        self._assigning = Assigning(lambda runs: ado(self._async_client, assign(self._ledger, runs)), self._drop)

    def _begin_keeping(self) -> None:
        lose, contact = partial(self._call_on_loop, self._execution.tally.lose), Contact()
        duties = Duties(
            beat=lambda held: do(self._client, self._ledger.beat(self._options.worker, held)),
            probe=lambda: do(self._reaps, self._ledger.beat(self._options.worker, ())),
            reap=lambda: do(self._reaps, self._ledger.reap(lose, contact)),
            register=lambda: self._register(self._client),
            look=self._look_for_queues,
            stop=lambda leases, fate: self._call_on_loop(self._execution.stop, leases, fate),
            drain=self.draining.step,
        )
        seconds = self._options.beat_seconds, self._ledger.stays_seconds / 3
        self._keepers: Sequence[Keeps] = (*keepers_of(self._leases, duties, *seconds), self._lines)
        for keeper in self._keepers:
            keeper.start()

    def on_loop(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run a coroutine where the handlers run."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _call_on_loop(self, call: Callable[..., object], *args: object) -> None:
        self._loop.call_soon_threadsafe(call, *args)

    def adopt(self, functions: Iterable[Function]) -> None:
        """Run these functions from now on; on the loop."""
        self._execution.adopt(functions)
        self._cells.renew()

    def register(self) -> None:
        """Tell the ledger what this worker knows now; from the hub. StoreDown."""
        self._register(self._hub_client)

    def register_soon(self) -> None:
        """As register, or when the store is back; from the hub."""
        try:
            self.register()
        except StoreDown:
            log.debug("the store will be told when it is back")

    def _register(self, client: redis.Redis) -> None:
        functions = {name: plan.function for name, plan in self._execution.plans.items()}
        one = self._options
        do(client, self._ledger.register(one.worker, limits_map(functions), on_failure_map(functions), one.info))

    @property
    def functions(self) -> list[str]:
        """Names of the functions that can run here."""
        return list(self._execution.plans)

    @property
    def queues(self) -> list[str]:
        """The queues to claim from: for "*" those that functions declare, and those that somebody has submitted to."""
        return self._served.names(plan.function for plan in self._execution.plans.values())

    def _look_for_queues(self) -> None:
        if self._served.meets(lambda: (view.name for view in do(self._client, self._ledger.queues()))):
            self.on_new_queues()

    # --- from the hub -------------------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """How many to claim: for free slots and some whose outcomes are being written; none whose handlers go on."""
        held = len(self._leases) - min(self._outbox.in_flight, self._most_ahead)  # the loop changes both meanwhile
        return 0 if self.closing else max(0, self.limit - max(self._at_work, held))

    def claim(self, queues: Sequence[str], slots: int) -> list[Lease]:
        """Take at most so many runs. StoreDown if the store does not answer."""
        runs = self._claims.take(queues, slots)
        if runs is None:
            self._register(self._hub_client)
            return []
        self._at_work += len(runs)
        return [self._leases.take(run) for run in runs]

    def bell(self, queue: str) -> str:
        """The key of a queue's doorbell."""
        return self._ledger.bell(queue)

    def give_back(self, lease: Lease) -> None:
        """Hand a run back that nobody here knows."""
        lease.fate = "handed back"
        self._call_on_loop(self._note_end, lease, None)

    def cancel(self, lease: Lease) -> None:
        """End a run's handler; the run is cancelled."""
        self._call_on_loop(self._execution.stop, [lease], "cancelled")

    def put(self, lease: Lease) -> None:
        """Have a run executed."""
        self._arrived.append(lease)
        if not self._arrived_told:
            self._arrived_told = True
            self._loop.call_soon_threadsafe(self._start_arrived)

    def take_ended(self) -> list[Ended]:
        """The runs that have ended since the last time. Their slots are free."""
        self._ended_told = False
        found = [self._ended.popleft() for _ in range(len(self._ended))]
        self._at_work -= len(found)
        return found

    # --- on the loop --------------------------------------------------------------------------------------------

    def _start_arrived(self) -> None:
        """Begin what has a slot. One whose outcome is not written is taken: its run would begin again after a kill."""
        self._arrived_told = False
        if self._hurrying.is_set():
            self._arrived.clear()  # they are handed back with all leases
        while self._arrived and (self.closing or self._execution.busy + len(self._outbox) < self.limit):
            self._execution.start(self._arrived.popleft())

    def _note_end(self, lease: Lease, ending: Ending | None) -> None:
        self._ended.append((lease, ending))
        if ending is not None:
            self._outbox.add(ending)
            if len(self._ended) >= self._most_ahead > self.limit - len(self._leases):
                self._tell_hub()  # it is worth a claim; else the hub hears of it when it is written
        elif lease.fate == "assigned" and not self.closing:
            self._assigning.add(lease)
        elif lease.fate == "handed back" and not self.closing:
            self._loop.create_task(self._release([lease]))
        else:
            self._free_slot()

    def _drop(self, run_id: str, token: int) -> None:
        hand_over(self._invoker.gate, self._leases.drop(run_id, token))
        self._free_slot()

    def _free_slot(self) -> None:
        if not self._free_told:
            self._free_told = True
            self._loop.call_soon(self._use_slots)

    def _use_slots(self) -> None:
        self._free_told = False
        self._start_arrived()
        if self._ended or self.free > 0:
            self._tell_hub()

    def _tell_hub(self) -> None:
        """Have the hub look for what has ended, once for a batch: at each wake the threads are in each other's way."""
        if not self._ended_told:
            self._ended_told = True
            self._loop.call_soon(self.wake_hub)

    async def _release(self, leases: Sequence[Lease]) -> None:
        held = [lease.holding() for lease in leases]
        try:
            await ado(self._async_client, self._ledger.release(held))
        except StoreDown as error:
            log.warning("runs cannot be handed back; they begin again when their leases are over", reason=str(error))
        for lease in leases:
            self._drop(lease.run.id, lease.run.token)

    # --- the end, from the main thread --------------------------------------------------------------------------

    def hurry(self) -> None:
        """Do not wait for handlers any longer; safe in a signal handler."""
        self._hurried = True
        self._call_on_loop(self._hurrying.set)

    def open_no_more(self) -> bool:
        """Stop opening resources; whether it had not come to its end."""
        return self._opening is None or self._opening.cancel()

    def end(self, drain_seconds: float) -> None:
        """Let the handlers finish for so long, hand the others back, write every outcome, and stop."""
        self.closing = True
        if not (drained := self._await_drain(drain_seconds)):
            log.error("a handler blocks the event loop; the process ends without it, and hands its runs back")
        self.before_close()
        if len(self._leases):
            self._surrender.hand_back()
        for keeper in self._keepers:
            keeper.stop(_CANCEL_SECONDS)
        try:
            do(self._client, self._ledger.leave(self._options.worker))
        except StoreDown:
            log.debug("the store is not there to be told of the worker's end")
        self._invoker.threads.close()
        if drained:
            try:
                self.on_loop(self._close()).result(_CLOSE_SECONDS)
            except TimeoutError:
                log.error("resources are not closed in time")  # noqa: TRY400 - nothing more is known
            self._call_on_loop(self._loop.stop)

    def give_up(self, run_id: str, seconds: float) -> bool:
        """A run, or what else is called so, holds the loop: hand back all; from any thread. False if we end already."""
        ends, self.closing = self.closing, True
        if not ends:
            self._surrender.all(self._outbox.left(), run_id, seconds)
        return not ends

    def _await_drain(self, seconds: float) -> bool:
        """Whether the loop has come to the end of its drain; false if it is stuck."""
        drain = self.on_loop(self._drain(seconds))
        end = time.monotonic() + seconds + _STUCK_SECONDS
        while not wait((drain,), timeout=_LOOK_SECONDS).done:
            if self._hurried:
                end = min(end, time.monotonic() + _STUCK_SECONDS)
                self._hurried = False
            if time.monotonic() > end:
                return False
        if (error := drain.exception()) is not None:
            log.error("the drain failed", exc_info=error)
        return True

    async def _drain(self, seconds: float) -> None:
        self._start_arrived()
        hurry = asyncio.ensure_future(self._hurrying.wait())
        idle = asyncio.ensure_future(self._resources.finish(self._execution.idle, seconds))
        await asyncio.wait((hurry, idle), return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        idle.cancel()
        if left := self._execution.at_work:
            log.warning("runs are handed back", count=len(left), functions=sorted({one.run.function for one in left}))
            self._execution.stop(left, "handed back")
            await self._execution.idle(_CANCEL_SECONDS)
            await self._release(left)
        if not await self._outbox.empty(_WRITE_SECONDS):
            log.error("outcomes are lost: the store does not answer; their runs begin again", count=len(self._outbox))
            self._outbox.close()

    async def _close(self) -> None:
        await self._cells.close()
        await self._resources.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await settle(_CLOSE_SECONDS)
