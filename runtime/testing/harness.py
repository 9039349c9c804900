"""A project in this process, on a private store, with a clock that only the test moves.

Used by authors' tests and our own. The ledger, its scripts, and what executes a run are those of production; what is
not there is Celery and the other processes.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from runtime.base.durations import Duration, parse_duration
from runtime.base.errors import FnrunError, StartError, UnknownRun
from runtime.base.secrets.given import NO_SECRETS
from runtime.base.secrets.vault import publish
from runtime.declare.modules import PACKAGE
from runtime.invoke.isolation.calls import Isolated
from runtime.invoke.isolation.surroundings import isolated_of
from runtime.ledger.calls import Call
from runtime.ledger.desk import Desk, in_use, keeping_of, use
from runtime.ledger.ledger import Ledger
from runtime.ledger.limits.calls import assign
from runtime.ledger.limits.gate import StoreGate
from runtime.ledger.once import Found, take_by_run
from runtime.ledger.records import Claimed, Ending, Held
from runtime.ledger.schedules.definitions import definitions_of
from runtime.ledger.schedules.records import Fired
from runtime.ledger.submit import Submit, submit
from runtime.ledger.targets import limits_map, name_of, on_failure_map
from runtime.ledger.views import RunView
from runtime.projects import Project, load_project
from runtime.roles import HttpRole
from runtime.testing.stores import LentStore
from runtime.triggers.queue.execution import Execution
from runtime.triggers.queue.leases import Lease
from runtime.triggers.queue.outcomes.places import hand_over
from runtime.triggers.schedule.standing import Standing, parts_of

if TYPE_CHECKING:
    from httpx import AsyncClient

_WORKER = _SCHEDULER = "harness"
_MOMENT_SECONDS = 0.05
"""After so long, real time, a run does not hold up the next: it may wait for it."""
_MOST_ATTEMPTS = 10_000
_STOP_SECONDS = 2.0


class Harness:
    """A project under test: `async with Harness() as harness`.

    project: its folder, or one that was loaded. now: what the clock says at first; None for the time of day. The clock
    stands still but for `advance`. It is the ledger's: schedules, delays, retries, ages and windows go by it;
    asyncio.sleep, timeouts and datetime.now() in a handler do not. StartError if a function file does not load.
    """

    submit: Submit = submit
    """`await harness.submit(function, ...)`, `harness.submit.using(...)`, `.many`: the same as `runtime.submit`."""

    def __init__(self, project: Project | Path | str = ".", *, now: datetime | None = None) -> None:
        self._project = project
        self._seconds = (now or datetime.now(UTC)).timestamp()
        self._stack = AsyncExitStack()
        self._assigned = 0  # runs that were claimed only to be given the key they wait by
        self._at_work: set[asyncio.Task[None]] = set()
        self._leases: dict[Lease, asyncio.Future[Ending | None]] = {}
        self._http: AsyncClient | None = None
        self.is_open = False

    @property
    def now(self) -> datetime:
        """What the clock says. Aware, UTC."""
        return datetime.fromtimestamp(self._seconds, UTC)

    @property
    def http(self) -> "AsyncClient":
        """An HTTP client on the functions, as from this machine in `fnrun dev`: no key is needed. Wants httpx."""
        self._need_open()
        if self._http is None:
            from httpx import ASGITransport, AsyncClient  # noqa: PLC0415 - fnrun itself does without

            transport = ASGITransport(self._role.app, raise_app_exceptions=True)
            self._http = AsyncClient(transport=transport, base_url="http://localhost")
            self._stack.push_async_callback(self._http.aclose)
        return self._http

    async def __aenter__(self) -> Self:
        if self.is_open:
            raise FnrunError("this harness is open already: make another")
        async with AsyncExitStack() as stack:
            self._open_project()
            stack.callback(publish, {})  # what its `.env` says is not for the tests after it
            await self._open_store(stack)
            self._role = HttpRole(
                self._registered, open_locally=True, desk=self._desk, isolated=self._isolated(self._registered)
            )
            stack.callback(self._role.invoker.threads.close)
            await self._role.open()
            stack.push_async_callback(self._role.close, _STOP_SECONDS)
            result_max = int(self._registered.settings.queue.result_max)
            self._execution = Execution(
                self._role.invoker, self._note_end, worker=_WORKER, result_max=result_max, keys=self._take_key
            )
            self._execution.adopt(self._registered.registry.functions.values())
            stack.push_async_callback(self._stop)
            self._stack = stack.pop_all()
            self.is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_open, self._http = False, None
        await self._stack.aclose()

    async def run_until_idle(self) -> int:
        """Run what is due and ready, and what that starts, until nothing is; how many attempts that took.

        One after the other, the most urgent first; but one that takes longer than 50 ms does not hold up the next.
        Errors of handlers are failures of their runs, not of this.
        """
        await self._register()
        count, assigned = 0, self._assigned
        while True:
            moved = await self._desk.ask(self._ledger.reap())
            claimed = await self._claim()
            if claimed is not None:
                count += 1
                if count > _MOST_ATTEMPTS:
                    raise FnrunError(f"more than {_MOST_ATTEMPTS} attempts, and there is still one: {claimed.function}")
                self._at_work.add(asyncio.create_task(self._execute(claimed)))
                await self._wait()
            elif self._at_work:
                await self._wait()
            elif not (moved or await self._fire()):
                return count - self._assigned + assigned

    async def advance(self, by: Duration | timedelta) -> int:
        """Move the clock, by "1d" for instance, from one due time to the next, running what is due; how many attempts.

        Due are ticks of schedules, delays, retries. What is ready now runs first.
        """
        seconds = by.total_seconds() if isinstance(by, timedelta) else parse_duration(by)
        end = self._seconds + seconds
        count = await self.run_until_idle()
        while True:
            due = await self._next_due()
            if due is None or due > end:
                break
            self._set_clock(max(self._seconds, due))
            count += await self.run_until_idle()
        self._set_clock(end)
        return count + await self.run_until_idle()

    def _set_clock(self, seconds: float) -> None:
        """Calls that are inside of a function's limits keep their places, however far that is."""
        self._seconds = seconds
        self._desk.gate.renew()

    async def _next_due(self) -> float | None:
        """When there will be something to do, in seconds since the epoch."""
        reap, tick_ms = await self._desk.ask(self._ledger.next_reap()), self._standing.table.next_ms()
        # A tick that is due and was not fired is not ours to fire.
        tick = None if tick_ms is None or tick_ms <= self._now_ms() else tick_ms / 1000
        return min((one for one in (reap, tick) if one is not None), default=None)

    def runs(self, function: Callable[..., Any] | str | None = None) -> list[RunView]:
        """The runs of a function, of all if none is given, in the order they were accepted in."""
        self._need_open()
        names = () if function is None else (function if isinstance(function, str) else name_of(function),)
        page = self._desk.ask_sync(self._ledger.runs(names, limit=1000))
        ids = [run.id for run in page.runs]
        while page.cursor:
            page = self._desk.ask_sync(self._ledger.runs(names, cursor=page.cursor, limit=1000))
            ids += [run.id for run in page.runs]
        found = self._desk.ask_sync(self._ledger.show(reversed(ids)))
        return sorted((run for run in found if run is not None), key=lambda run: run.accepted)

    def run(self, run_id: str) -> RunView:
        """All that is known of a run, as it is now. UnknownRun."""
        self._need_open()
        view = self._desk.ask_sync(self._ledger.show([run_id]))[0]
        if view is None:
            raise UnknownRun(run_id)
        return view

    async def ask(self, call: Call[Any]) -> Any:
        """Ask the ledger itself: cancel, redrive, pause and the rest, `harness.ask(harness.ledger.redrive([id]))`."""
        return await self._desk.ask(call)

    @property
    def ledger(self) -> Ledger:
        """What makes calls for `ask`."""
        self._need_open()
        return self._ledger

    # --- opening and closing ---

    def _need_open(self) -> None:
        if not self.is_open:
            raise FnrunError(
                "the harness is not open: the fixture is opened for an `async def` test, "
                "any other by `async with Harness(...) as harness:`"
            )

    def _open_project(self) -> None:
        project = self._project
        self._registered = project if isinstance(project, Project) else _load(Path(project).resolve())
        failures = self._registered.registry.failures
        if failures:
            raise StartError("; ".join(f"{failure.file} does not load: {failure}" for failure in failures))

    async def _open_store(self, stack: AsyncExitStack) -> None:
        store = await asyncio.to_thread(LentStore)
        queue, registry = self._registered.settings.queue, self._registered.registry
        self._ledger = Ledger(store.namespace, keeping=keeping_of(queue), clock=lambda: self._seconds)
        limits = {"max_length": queue.max_length, "payload_max": int(queue.payload_max)}
        limits["result_max"] = int(queue.result_max)
        self._desk = Desk(store, self._ledger, registry=lambda: registry, **limits)
        self._desk.settings = self._registered.settings
        self._desk.gate = StoreGate(self._desk, now=lambda: self._seconds)
        self._standing = Standing(self._desk, lambda _: None, name=_SCHEDULER)
        self._standing.adopt(definitions_of(registry, self._registered.settings))
        stack.callback(self._desk.close)
        stack.push_async_callback(self._desk.aclose)
        stack.callback(use, in_use())
        use(self._desk)

    def _isolated(self, project: Project) -> Isolated:
        """Processes that are started when one is needed, and know this harness's store."""
        store = self._desk.store
        known = {"FNRUN_STORE__URL": store.broker_url, "FNRUN_STORE__NAMESPACE": store.namespace}
        shared = project.registry.lifespan.secrets if project.registry.lifespan else NO_SECRETS
        return isolated_of(project.root, project.settings, shared, {**os.environ, **known})

    async def _stop(self) -> None:
        self._execution.stop(self._execution.at_work, "handed back")
        await self._execution.idle(_STOP_SECONDS)
        for task in self._at_work:
            task.cancel()
        await asyncio.gather(*self._at_work, return_exceptions=True)

    # --- the scheduler's part ---

    def _now_ms(self) -> int:
        return round(self._seconds * 1000)

    async def _fire(self) -> int:
        """Fire the ticks that are due; how many became runs."""
        await self._standing.look()
        found: list[Fired] = []
        for part in parts_of(self._standing.table.due(self._now_ms())):
            found += await self._standing.fire(part)
        return sum(one.runs for one in found)

    # --- the worker's part ---

    async def _register(self) -> None:
        self._need_open()
        functions = {name: plan.function for name, plan in self._execution.plans.items()}
        await self._desk.ask(self._ledger.register(_WORKER, limits_map(functions), on_failure_map(functions)))

    async def _claim(self) -> Claimed | None:
        queues = [queue.name for queue in await self._desk.ask(self._ledger.queues())]
        found = await self._desk.ask(self._ledger.claim(_WORKER, queues, 1))
        if found is None:  # the test stood still for an hour, in a debugger say
            await self._register()
            return await self._claim()
        return found[0] if found else None

    async def _take_key(self, key: str, claimed: Claimed) -> Found:
        return await self._desk.ask(take_by_run(self._ledger, key, claimed))

    async def _execute(self, claimed: Claimed) -> None:
        lease = Lease(claimed)
        self._leases[lease] = asyncio.get_running_loop().create_future()
        try:
            self._execution.start(lease)
            ending = await self._leases[lease]
        finally:
            del self._leases[lease]
        if lease.fate == "assigned":
            self._assigned += 1
            await self._desk.ask(assign(self._ledger, [(lease.holding(), lease.key)]))
        elif ending is None:
            await self._desk.ask(self._ledger.release([lease.held()]))
        else:
            await self._desk.ask(self._ledger.finish([ending]))
        hand_over(self._desk.gate, lease)

    def _note_end(self, lease: Lease, ending: Ending | None) -> None:
        if not self._leases[lease].done():
            self._leases[lease].set_result(ending)

    async def _wait(self) -> None:
        """For the end of a run, but not long; then for news of those that are at work."""
        done, self._at_work = await asyncio.wait(
            self._at_work, timeout=_MOMENT_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            task.result()
        if not done:
            held: list[Held] = [lease.held() for lease in self._leases]
            beat = await self._desk.ask(self._ledger.beat(_WORKER, held))
            self._execution.stop([lease for lease in self._leases if lease.run.id in beat.cancelled], "cancelled")


_last: list[tuple[Project, object]] = []


def _load(root: Path) -> Project:
    """The project in a folder, loaded once for all tests of it: its modules are then those that a test imports."""
    if not (_last and _last[0][0].root == root and _last[0][1] is sys.modules.get(PACKAGE)):
        project = load_project(root)
        _last[:] = [(project, sys.modules[PACKAGE])]
    return _last[0][0]
