"""The worker's role, put together: runs from the ledger, under Celery, until told to stop.

Called by cli. Beside roles, whose project it runs; no layer below knows it.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from importlib.util import find_spec
from typing import NoReturn

import msgspec
from typing_extensions import override

from runtime.alerts.opening import open_watch
from runtime.base import __version__, logs
from runtime.base.errors import StartError
from runtime.base.secrets.masking import mask
from runtime.base.store import Store
from runtime.declare.lifespan import Lifespan
from runtime.declare.registry import Registry
from runtime.following import Parent, announce_alerts, announce_failures, follow, watch_loop
from runtime.invoke.invoker import Invoker
from runtime.invoke.isolation.calls import Isolated
from runtime.invoke.isolation.surroundings import cell_command, isolated_of
from runtime.invoke.resources import Resources
from runtime.invoke.watchdog import Culprit
from runtime.ledger.desk import Desk, open_desk, use
from runtime.ledger.lines.keeper import Bounds
from runtime.ledger.metrics.flushing import Flush
from runtime.observe import traces
from runtime.observe.counts import note_ready, sample
from runtime.outgoing.callbacks import Deliverer
from runtime.processes import Line, Message, end_without_parent
from runtime.projects import Project, begin_log, end_process, loop_factory
from runtime.tasks.around import WithBackground
from runtime.triggers.queue.app import App
from runtime.triggers.queue.crew import Crew
from runtime.triggers.queue.parts import Options
from runtime.triggers.queue.worker import QueueWorker, worker_name

log = logs.get_logger(__name__)

_SWITCH_SECONDS = 0.001
"""How long the thread that claims and the handlers' loop may keep each other from Python's lock."""
_END_SECONDS = 20.0
"""What an end may take beyond the drain time: handlers that swallow their cancellation, resources that close slowly."""

_CALLBACK_SECONDS = 3.0
"""What may be spent then on what is being sent; others send it again."""

_NOT_CELERYS = {
    "worker": "a worker is started by `fnrun serve`, or alone by `fnrun serve --only worker`",
    "multi": "workers are started by `fnrun serve`; how many, [queue] workers says",
    "call": "what Celery sends by itself would never run: `fnrun invoke NAME --async` submits a run",
    "result": "what became of a run is told by `fnrun runs show ID`",
    "purge": "what waits are runs: `fnrun runs cancel` ends them",
    "migrate": "runs are no messages, and stay in their store; `fnrun celery broker-url` says where clients send",
    "beat": "the functions' schedules are not Celery's; `fnrun serve --only scheduler` fires them",
}
"""Commands that would find nothing, or seem to do what they do not, since runs are in the ledger; and what does it."""


def work(project: Project, parent: Parent) -> NoReturn:
    """Run what is queued until SIGTERM or SIGINT, or until the parent is gone; then drain and end the process."""
    settings = project.settings
    begin_log(project.root, settings)
    if parent.announce:
        announce_failures(project.registry.failures)
        announce_alerts(settings, project.registry.functions)
    if project.registry.lifespan is None:
        raise StartError("functions/_lifespan.py does not load, and nothing is run without its resources")
    end_without_parent(parent.line, float(settings.serve.drain) + _END_SECONDS)
    if settings.traces.enabled:
        traces.begin(role="worker")
    desk = open_desk(project.root, settings, again=not parent.first)
    use(desk)
    sys.setswitchinterval(_SWITCH_SECONDS)
    role = WorkerRole(project, desk, parent)
    end_watch = open_watch(desk, project.root, delay_seconds=1.0)
    try:
        code = role.run()
    except StartError as error:  # not by Python's own end: what was opened may have left threads
        sys.stderr.write(f"Error: {mask(str(error))}\n")
        code = 1
    end_watch()
    desk.close()
    end_process(code)


class WorkerRole:
    """The parts, and what binds them. registry: what it runs."""

    def __init__(self, project: Project, desk: Desk, parent: Parent) -> None:
        settings = project.settings
        lifespan = project.registry.lifespan
        assert lifespan is not None  # noqa: S101 - asked by work
        self._project = project
        self._parent = parent
        isolated = isolated_of(project.root, settings, lifespan.secrets)
        self._resources = WithBackground(_Resources(lifespan, isolated, self._watch), settings.background)
        name, limit = worker_name(), settings.queue.concurrency
        told = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
            "dev": parent.dev,
            "concurrency": limit,
            "queues": settings.queue.queues,
        }
        # Twice as many threads as runs: one that outlives its run's timeout keeps its place.
        expected = tuple(lifespan.exception_handlers)
        self._invoker = Invoker(
            threads=limit * 2,
            expected=expected,
            resources=self._resources.opened,
            isolated=isolated,
            gate=desk.gate,
        )
        self._crew = Crew(
            desk.store,
            desk.ledger,
            self._invoker,
            Options(
                worker=name,
                queues=settings.queue.queues,
                concurrency=limit,
                beat_seconds=float(settings.queue.beat),
                result_max=int(settings.queue.result_max),
                info=msgspec.json.encode(told),
                celery_prefix=settings.queue.celery_prefix,
                payload_max=desk.payload_max,
                max_length=desk.max_length,
                cell_command=cell_command(project.root),
                lines=Bounds(settings.log.run_lines, int(settings.log.run_bytes)),
            ),
        )
        self._flush = Flush(desk.store, desk.ledger, self._sample)
        self.registry = project.registry
        desk.registry = lambda: self.registry
        self._callbacks = Deliverer(desk.store, desk.ledger, settings.callbacks)
        self._following: Future[None] | None = None
        """Kept, because a loop itself keeps no task."""
        app = App(desk.store.broker_url, desk.store.namespace)
        self._worker = QueueWorker(app, self._crew, name, drain_seconds=float(settings.serve.drain))

    def run(self) -> int:
        """Work until told to stop. The exit code. StartError if a resource cannot be opened."""

        def on_ready() -> None:
            self._watchdog.serve()
            self._flush.start()
            note_ready()
            self._following = self._crew.on_loop(self._follow(self._parent))
            self._callbacks.start()

        functions = self.registry.functions.values()
        try:
            return self._worker.run(functions, self._resources, loop_factory() or asyncio.new_event_loop, on_ready)
        finally:
            self._callbacks.stop(_CALLBACK_SECONDS)
            self._flush.end()

    def _sample(self) -> None:
        """Say what is at work here."""
        sample(self._invoker.threads.busy, self._resources.at_work)

    def adopt(self, registry: Registry) -> None:
        """Run these functions from now on; on the crew's loop."""
        self.registry = registry
        self._crew.adopt(registry.functions.values())
        self._worker.adopt()

    @property
    def worn_out(self) -> bool:
        """Whether its threads are."""
        return self._invoker.threads.worn_out

    def _watch(self) -> None:
        def on_stuck(culprit: Culprit, seconds: float) -> bool:
            gives_up = self._crew.give_up(culprit.run_id or culprit.task, seconds)
            if gives_up:
                self._flush.end()
            return gives_up

        self._watchdog = watch_loop(self._project.settings.serve, self._parent, on_stuck)
        self._crew.before_close = self._watchdog.end

    async def _follow(self, parent: Parent) -> None:
        line = await Line.on(parent.line)
        line.tell(
            Message(
                "ready",
                functions=len(self.registry.functions),
                failures=len(self.registry.failures),
                queues=self._crew.queues,
                concurrency=self._crew.limit,
            )
        )
        await follow(line, self._project.root, self._project.loader, self, announce=parent.announce)
        self._worker.stop()


class _Resources(Resources):
    """And the processes of isolated functions. watch: begins to watch the loop."""

    def __init__(self, lifespan: Lifespan, isolated: Isolated, watch: Callable[[], None]) -> None:
        super().__init__(lifespan)
        self.isolated = isolated
        self._watch = watch

    @override
    async def open(self, stop: asyncio.Event | None = None) -> bool:
        self._watch()
        self.isolated.open()
        return await super().open(stop)

    @override
    async def close(self) -> None:
        await self.isolated.aclose()
        await super().close()


def run_celery(project: Project, arguments: Sequence[str]) -> NoReturn:
    """Celery's own command line on the project's app: `inspect ping`, `flower`, and what else it knows.

    And `broker-url`, which is ours: where the store is, password and all, as Celery's clients write it.
    """
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    if command in _NOT_CELERYS:
        raise StartError(_NOT_CELERYS[command])
    if command == "flower" and find_spec("flower") is None:
        raise StartError("Flower is not installed here: pip install flower")
    store = Store.open(project.root, project.settings.store)
    if command == "broker-url":
        sys.stdout.write(f"{store.broker_url}\n")
        store.close()
        end_process(0)
    app = App(store.broker_url, store.namespace)
    app.adopt(project.registry.functions, ())
    code = 0
    try:
        app.start(list(arguments))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    store.close()
    end_process(code)
