"""The process of [ops] bind, put together: it tells whether the others of its parent are well, and what they count.

Called by cli. It loads no function, so none can hold it up. Beside working and scheduling; no layer below knows it.
"""

import asyncio
import socket
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from runtime.admin.metrics.routes import metrics_routes
from runtime.base import __version__, logs
from runtime.base.errors import Problem, StartError
from runtime.base.garbage import keep_what_there_is
from runtime.base.secrets.masking import mask
from runtime.base.sections import HttpSettings, Settings
from runtime.following import Parent
from runtime.ledger.access.keyring import Keyring
from runtime.ledger.desk import Desk, open_desk
from runtime.observe import counts
from runtime.processes import Line, Message, end_without_parent
from runtime.projects import end_process, loop_factory, stop_event
from runtime.triggers.http.access import Access
from runtime.triggers.http.answers import Answer, answer_of
from runtime.triggers.http.app import Shell
from runtime.triggers.http.core import Call, Endpoint, HttpCore
from runtime.triggers.http.routes import RouteTable
from runtime.triggers.http.wire.server import Server, wire_of

_END_SECONDS = 5.0
_IDLE_SECONDS = 1.0
_PULSE_SECONDS = 0.5


def operate(root: Path, settings: Settings, sock: socket.socket, parent: Parent) -> NoReturn:
    """Answer until SIGTERM, or until the parent is gone; then end the process."""
    logs.begin(root, settings.log)
    end_without_parent(parent.line, _END_SECONDS)
    try:
        desk = open_desk(root, settings, again=True)
    except StartError as error:
        sys.stderr.write(f"Error: {mask(str(error))}\n")
        end_process(1)
    asyncio.Runner(loop_factory=loop_factory()).run(_operate(root, settings, sock, parent, desk))
    desk.close()
    end_process(0)


async def _operate(root: Path, settings: Settings, sock: socket.socket, parent: Parent, desk: Desk) -> None:
    stop = stop_event()
    core = HttpCore(Access(Keyring(desk)))
    core.table = RouteTable[Endpoint]()
    wanted = {str(role) for role in settings.serve.only}
    for method, path, endpoint in _routes(desk, wanted):
        core.table.add(method, path, endpoint)
    shell = Shell(core, log_all=False)
    server = Server(shell, sock, wire_of(root, HttpSettings()))
    await server.begin()
    keep_what_there_is()
    counts.note_ready()
    following = asyncio.create_task(_follow(parent, stop))
    beating = asyncio.create_task(_beat(parent))
    await stop.wait()
    core.draining = True
    await shell.idle(_IDLE_SECONDS)
    await server.end()
    following.cancel()
    beating.cancel()
    await desk.aclose()


def _routes(desk: Desk, wanted: set[str]) -> Any:
    """(method, path, endpoint) of each; open to all, for who may reach the address is the operator's to say."""

    async def health(_: Call) -> Answer:
        ready, _missing = _processes(wanted)
        return answer_of({"status": "ok", "version": __version__, "processes": ready})

    async def ready(_: Call) -> Answer:
        ready, missing = _processes(wanted)
        if missing:
            raise Problem(503, headers={"Retry-After": "1"}, detail=f"not there yet, or no more: {', '.join(missing)}")
        return answer_of({"status": "ready", "processes": ready})

    yield "GET", "/_/health", Endpoint(handle=health, public=True, action="read", open=True)
    yield "GET", "/_/ready", Endpoint(handle=ready, public=True, action="read", open=True)
    for method, path, endpoint in metrics_routes(desk, __version__):
        yield method, path, Endpoint(handle=endpoint.handle, public=True, action="read", open=True)


def _processes(wanted: set[str]) -> tuple[dict[str, int], list[str]]:
    """How many of each role are at work, and the roles of which none is."""
    there = Counter(one.role for one in counts.read().processes if one.ready)
    return {role: there[role] for role in sorted(wanted) if there[role]}, sorted(wanted - set(there))


async def _follow(parent: Parent, stop: asyncio.Event) -> None:
    """Tell the parent that this child serves; stop when it is gone. There is nothing here that could change."""
    line = await Line.on(parent.line)
    line.tell(Message("ready"))
    async for message in line.messages():
        if message.kind == "leave":
            break
    stop.set()


async def _beat(parent: Parent) -> None:
    """Give signs of life from the loop itself: no handler has a say here, so a loop that stands is a fault of ours."""
    while parent.pulse is not None:
        with suppress(ValueError):
            parent.pulse.beat()
        await asyncio.sleep(_PULSE_SECONDS)
