"""The scheduler's role, put together: it fires ticks until told to stop, and runs no handler.

Called by cli. Beside roles, whose project it schedules; no layer below knows it.
"""

import asyncio
import os
import secrets
import socket
import sys
from typing import NoReturn

import msgspec

from runtime.alerts.opening import open_watch
from runtime.base import __version__, logs
from runtime.base.errors import StartError
from runtime.base.secrets.masking import mask
from runtime.declare.registry import Registry
from runtime.following import Parent, announce_alerts, announce_failures, follow, watch_loop
from runtime.ledger.desk import Desk, open_desk, use
from runtime.ledger.metrics.flushing import Flush
from runtime.ledger.schedules.definitions import definitions_of
from runtime.observe.counts import note_ready
from runtime.processes import Line, Message, end_without_parent
from runtime.projects import Project, begin_log, end_process, loop_factory, stop_event
from runtime.triggers.schedule.scheduler import Scheduler

log = logs.get_logger(__name__)

_END_SECONDS = 10.0
"""What an end may take: a call of the store that does not answer."""


def schedule(project: Project, parent: Parent | None = None) -> NoReturn:
    """Fire what is due until SIGTERM or SIGINT, or until the parent is gone; then end the process."""
    settings = project.settings
    begin_log(project.root, settings)
    if parent is None or parent.announce:
        announce_failures(project.registry.failures)
        announce_alerts(project.settings, project.registry.functions)
    if parent is not None:
        end_without_parent(parent.line, _END_SECONDS)
    try:
        desk = open_desk(project.root, settings, again=parent is not None and not parent.first)
    except StartError as error:
        sys.stderr.write(f"Error: {mask(str(error))}\n")
        end_process(1)
    use(desk)
    end_watch = open_watch(desk, project.root)
    asyncio.Runner(loop_factory=loop_factory()).run(_schedule(project, parent, desk))
    end_watch()
    desk.close()
    if parent is None:
        log.info("stopped")
    end_process(0)


class SchedulerRole:
    """The parts, and what binds them. Make it inside the loop that will run it. registry: whose schedules it fires."""

    worn_out = False
    """It has no threads that could be."""

    def __init__(self, project: Project, desk: Desk) -> None:
        self._settings = project.settings
        name = f"scheduler-{os.getpid()}-{secrets.token_hex(3)}@{socket.gethostname()}"
        told = {"host": socket.gethostname(), "pid": os.getpid(), "version": __version__}
        deployment = self._settings.schedule.deployment
        self.scheduler = Scheduler(desk, name=name, deployment=deployment, info=msgspec.json.encode(told))
        self.adopt(project.registry)

    def adopt(self, registry: Registry) -> None:
        """Fire these functions' schedules from now on."""
        self.registry = registry
        definitions = definitions_of(registry, self._settings)
        self.schedules = len(definitions)
        self.scheduler.adopt(definitions, is_partial=bool(registry.failures))


async def _schedule(project: Project, parent: Parent | None, desk: Desk) -> None:
    """Schedule until told to stop."""
    stop = stop_event()
    role = SchedulerRole(project, desk)
    desk.registry = lambda: role.registry
    watchdog = watch_loop(project.settings.serve, parent)
    watchdog.serve()
    flush = Flush(desk.store, desk.ledger)
    flush.start()
    telling = asyncio.create_task(_follow(parent, project, role, stop) if parent else _announce(role))
    await role.scheduler.run(stop)
    telling.cancel()
    watchdog.end()
    await desk.aclose()
    await asyncio.to_thread(flush.end)


async def _announce(role: SchedulerRole) -> None:
    """Say that it schedules, once it does."""
    await role.scheduler.registered.wait()
    note_ready()
    failures = len(role.registry.failures)
    log.info("scheduling", schedules=role.schedules, functions=len(role.registry.functions), failures=failures)


async def _follow(parent: Parent, project: Project, role: SchedulerRole, stop: asyncio.Event) -> None:
    """Tell the parent that this child schedules, and take up what it says has changed. Stop when it is gone."""
    line = await Line.on(parent.line)

    async def tell_ready() -> None:
        await role.scheduler.registered.wait()
        note_ready()
        registry = role.registry
        functions, failures = len(registry.functions), len(registry.failures)
        line.tell(Message("ready", functions=functions, failures=failures, schedules=role.schedules))

    telling = asyncio.create_task(tell_ready())
    await follow(line, project.root, project.loader, role, announce=parent.announce)
    telling.cancel()
    stop.set()
