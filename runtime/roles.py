"""Put the parts together and run them: the composition root.

Called by cli. Knows every layer; no layer knows it. `serve` is the HTTP role, the child of a supervisor or of `fnrun
dev`, which tells it what changed.
"""

import asyncio
import socket
import sys
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from runtime.base import logs
from runtime.base.errors import StartError
from runtime.base.secrets.masking import mask
from runtime.declare.lifespan import Lifespan
from runtime.declare.registry import Function, Registry
from runtime.declare.triggers import Http
from runtime.following import Parent, announce_alerts, announce_failures, follow, watch_loop
from runtime.listening import is_loopback, url_of
from runtime.observe import traces
from runtime.observe.counts import note_ready, sample
from runtime.processes import Line, Message, end_without_parent
from runtime.projects import Project, begin_log, end_process, loop_factory, stop_event

if TYPE_CHECKING:  # the HTTP role alone loads it
    from runtime.admin.api import Route
    from runtime.invoke.isolation.calls import Isolated
    from runtime.ledger.desk import Desk
    from runtime.triggers.http.shedding.overload import App

log = logs.get_logger(__name__)

_CLOSE_SECONDS = 2.0
_MOMENT_SECONDS = 0.01
_SWITCH_SECONDS = 0.001
"""How long a handler that computes in a thread may keep the loop from Python's lock, if others want it, too."""


def serve(project: Project, sock: socket.socket, parent: Parent) -> NoReturn:
    """Serve HTTP until SIGTERM or SIGINT, or until the parent is gone; then drain and end the process."""
    from runtime.alerts.opening import open_watch  # noqa: PLC0415 - the CLI's other commands need no store
    from runtime.ledger.desk import open_desk, use  # noqa: PLC0415

    settings = project.settings
    begin_log(project.root, settings)
    if parent.announce:
        announce_failures(project.registry.failures)
        announce_alerts(settings, project.registry.functions)
    if project.registry.lifespan is None:
        raise StartError("functions/_lifespan.py does not load, and nothing is served without its middleware")
    if parent.announce:
        _announce_public(project)
    if settings.traces.enabled:
        traces.begin(role="http")
    desk = open_desk(project.root, settings, again=not parent.first)
    use(desk)
    sys.setswitchinterval(_SWITCH_SECONDS)
    runner = asyncio.Runner(loop_factory=loop_factory())
    end_watch = open_watch(desk, project.root, delay_seconds=2.0)
    try:
        left = runner.run(_serve_http(project, sock, parent, desk))
    except StartError as error:  # not by Python's own end: what was opened may have left threads
        sys.stderr.write(f"Error: {mask(str(error))}\n")
        end_process(1)
    end_watch()
    desk.close()
    if left:
        log.warning("handlers are left at work", count=left)
    if parent.dev:
        log.info("stopped")
    end_process(0)


def _announce_listening(project: Project, url: str) -> None:
    """Say that the project is served."""
    count, failed = len(project.registry.functions), len(project.registry.failures)
    roles = [str(role) for role in project.settings.serve.only]
    log.info("listening", url=url, docs=f"{url}/_/docs", roles=roles, functions=count, failures=failed)


def _announce_public(project: Project) -> None:
    """Say which functions need no key."""
    public = [
        function.name
        for function in project.registry.functions.values()
        for trigger in function.triggers
        if isinstance(trigger, Http) and (trigger.auth or project.settings.http.auth) == "public"
    ]
    if public:
        log.info("public functions, callable without a key", functions=sorted(set(public)))


class HttpRole:
    """The HTTP role, put together. Make it inside the loop that will run it; `open` it before it answers.

    app: the ASGI application. open_locally: to callers of this machine, without a key. desk: the way to the ledger;
    without one, what wants the store is answered 503. isolated: what runs isolated functions, where not as usual.
    direct: what answers plain requests without an ASGI scope; None where all go through `app`.
    """

    def __init__(
        self,
        project: Project,
        *,
        open_locally: bool = False,
        desk: "Desk | None" = None,
        isolated: "Isolated | None" = None,
    ) -> None:
        # Imported here: the CLI's other commands need no server, and start in half the time.
        from runtime.invoke.invoker import Invoker  # noqa: PLC0415
        from runtime.invoke.isolation.surroundings import isolated_of  # noqa: PLC0415
        from runtime.invoke.resources import Resources  # noqa: PLC0415
        from runtime.ledger.access.keyring import Keyring  # noqa: PLC0415
        from runtime.tasks.around import WithBackground  # noqa: PLC0415
        from runtime.triggers.http.access import Access  # noqa: PLC0415
        from runtime.triggers.http.app import Shell  # noqa: PLC0415
        from runtime.triggers.http.core import HttpCore, Site  # noqa: PLC0415
        from runtime.triggers.http.durable import Later  # noqa: PLC0415
        from runtime.triggers.http.shedding.overload import Overload  # noqa: PLC0415

        settings = project.settings
        lifespan = project.registry.lifespan or Lifespan()
        self.isolated = isolated or isolated_of(project.root, settings, lifespan.secrets)
        self._resources = WithBackground(Resources(lifespan), settings.background)
        self.invoker = Invoker(
            threads=settings.serve.threads,
            expected=tuple(lifespan.exception_handlers),
            resources=self._resources.opened,
            isolated=self.isolated,
            gate=desk.gate if desk is not None else None,
            limit_wait_seconds=float(settings.http.limit_wait),
        )
        self._root, self.desk = project.root, desk
        self.core = HttpCore(Access(Keyring(desk), open_locally=open_locally, origins=settings.cors.origins))
        self.overload = Overload(
            shed=settings.http.shed,
            max_in_flight=settings.http.max_in_flight,
            threads_full=self.invoker.threads.are_crowded,
            work_of=self.core.work_of,
        )
        self.shell = Shell(self.core, log_all=settings.log.requests == "all", overload=self.overload)
        self.app: App = self.shell
        if around := lifespan.middleware or settings.cors.origins:
            from runtime.triggers.http.middleware import build_app  # noqa: PLC0415 - it loads Starlette

            self.app = build_app(self.shell, lifespan.middleware, settings.cors, open_locally=open_locally)
        # The lane goes straight to the shell, past what is around it.
        self.direct = None if around or settings.http.lane != "fast" else self.shell
        later = Later(
            desk=desk,
            longest_wait_seconds=float(settings.http.timeout),
            stopping=lambda: self.core.draining,
            # A public function's callers, too: else anybody could have us send requests.
            may_call_back=partial(self.core.access.admit, public=False, action="invoke"),
        )
        counts = lambda: {name: guard.counts for name, guard in self.invoker.guards.items()}  # noqa: E731
        secrets = settings.signing.secrets
        self._site = Site(self.invoker, settings.http, lifespan, later, self.core.access, counts, secrets)
        self._routes: dict[Function, list[Route]] = {}
        self.adopt(project.registry)
        if desk is not None:
            desk.registry = lambda: self.registry

    @property
    def worn_out(self) -> bool:
        """Whether its threads are."""
        return self.invoker.threads.worn_out

    def sample(self) -> None:
        """Say what is at work here; from any thread."""
        sample(self.invoker.threads.busy, self._resources.at_work)

    async def open(self, stop: asyncio.Event | None = None) -> bool:
        """Open the project's resources; False if `stop` is set before that. StartError if one fails."""
        from runtime.ledger.access.beginning import take_over_keys  # noqa: PLC0415 - as above

        if self.desk is not None and not self.core.access.is_local:
            await take_over_keys(self.desk, self._root)
        return await self._resources.open(stop)

    async def close(self, within_seconds: float = 0.0) -> None:
        """Close them, once the handlers have finished, and what these began in the background, which has so long."""
        await self._resources.end(within_seconds)
        await self.isolated.aclose()
        await self._resources.close()

    def adopt(self, registry: Registry) -> None:
        """Serve these functions from the next request on; those at work go on."""
        from runtime.admin.health import health_routes  # noqa: PLC0415 - as above
        from runtime.triggers.http.core import function_routes  # noqa: PLC0415
        from runtime.triggers.http.routes import RouteTable  # noqa: PLC0415

        self.registry = registry
        functions = registry.functions.values()
        self.invoker.adopt(functions)
        self._routes = {
            function: self._routes.get(function) or [*function_routes(function, self._site)] for function in functions
        }
        table = RouteTable[Any](partial(self._own_routes, registry))
        for routes in (health_routes(self.core, self.desk), *self._routes.values()):
            for route in routes:
                table.add(*route)
        self.core.table = table

    def _own_routes(self, registry: Registry) -> "Iterator[Route]":
        """The runtime's own, but for health. Who first asks for one waits for the 0.04 s that loading them takes."""
        from runtime.admin.api import invoke_route, system_routes  # noqa: PLC0415 - many a process is never asked

        yield from system_routes(self.core, registry, self._site)
        for function in registry.functions.values():
            yield invoke_route(function, self._site)


async def _serve_http(project: Project, sock: socket.socket, parent: Parent, desk: "Desk") -> int:
    """Serve until told to stop. Returns how many handlers could not be ended."""
    from runtime.ledger.metrics.flushing import Flush  # noqa: PLC0415 - as above
    from runtime.triggers.http.wire.server import Server, wire_of  # noqa: PLC0415 - as above

    settings = project.settings
    stop, replaced = stop_event(), asyncio.Event()
    role = HttpRole(project, open_locally=parent.dev and is_loopback(sock), desk=desk)
    role.isolated.open()
    server = Server(role.app, sock, wire_of(project.root, settings.http), role.overload, role.direct)
    end_without_parent(parent.line, float(settings.serve.drain) + _CLOSE_SECONDS * 4)
    watchdog = watch_loop(settings.serve, parent)
    if not await _open(role, stop, parent):
        return 0
    await _announce(project, parent, role, sock)
    watchdog.serve()
    flush = Flush(desk.store, desk.ledger, role.sample)
    flush.start()
    await server.begin()
    note_ready()
    following = asyncio.create_task(_follow(parent, project, role, stop, replaced))
    await stop.wait()
    left_seconds = float(settings.serve.drain)
    end = asyncio.get_running_loop().time() + left_seconds
    if replaced.is_set():
        await server.leave(left_seconds)
        left_seconds = _MOMENT_SECONDS
    role.core.draining = True
    if parent.dev and not replaced.is_set():
        log.info("stopping", in_flight=role.shell.in_flight, drain_seconds=left_seconds)
    if not await role.shell.idle(left_seconds):
        log.warning("drain time is over", in_flight=role.shell.in_flight)
        role.shell.give_up()
        await role.shell.idle(_CLOSE_SECONDS)
    await server.end()
    following.cancel()
    watchdog.end()
    await role.close(max(0.0, end - asyncio.get_running_loop().time()))
    await desk.aclose()
    await asyncio.to_thread(flush.end)
    role.invoker.threads.close()
    return await _end_tasks() + role.invoker.threads.busy


async def _announce(project: Project, parent: Parent, role: HttpRole, sock: socket.socket) -> None:
    """Tell a new system's key, and, where no supervisor does, that it is served."""
    from runtime.ledger.access.beginning import show_first_key  # noqa: PLC0415 - as above

    if parent.announce and not role.core.access.is_local and role.desk is not None:
        await show_first_key(role.desk)
    if parent.dev:
        _announce_listening(project, url_of(sock, project.settings.http))


async def _open(role: HttpRole, stop: asyncio.Event, parent: Parent) -> bool:
    """Open the role; False if it is to stop first. All its parent can say by then is "leave", or that it is gone."""
    loop = asyncio.get_running_loop()
    loop.add_reader(parent.line, stop.set)
    try:
        return await role.open(stop)
    finally:
        loop.remove_reader(parent.line)


async def _follow(
    parent: Parent, project: Project, role: HttpRole, stop: asyncio.Event, replaced: asyncio.Event
) -> None:
    """Tell the parent that this child serves, and take up what it says has changed. Stop when it is gone."""
    line = await Line.on(parent.line)
    registry = project.registry
    line.tell(Message("ready", functions=len(registry.functions), failures=len(registry.failures)))
    if await follow(line, project.root, project.loader, role, announce=parent.announce):
        replaced.set()
    stop.set()


async def _end_tasks() -> int:
    """Cancel whatever still runs on this loop; how many tasks ignored it."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)
    return sum(1 for task in tasks if not task.done())
