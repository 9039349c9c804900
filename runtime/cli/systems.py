"""The system that a command asks: a running one over HTTP, or the project's own store, here.

Called by the commands for runs, queues and calls. Both speak the same API: here its endpoints are called in process, by
whoever is at this machine's shell and may do all.
"""

import asyncio
import json
import os
import pwd
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

import click
from typing_extensions import override

from runtime.base import logs
from runtime.base.durations import parse_duration
from runtime.base.errors import Problem
from runtime.base.ids import new_run_id
from runtime.base.sections import Settings
from runtime.base.settings import NOTHING, load_settings
from runtime.cli.project import print_failures
from runtime.cli.remote import Answered, fetch, problem_text
from runtime.declare.registry import Function, Registry
from runtime.projects import load_project

if TYPE_CHECKING:
    from runtime.triggers.http.core import HttpCore, Site

F = TypeVar("F", bound=Callable[..., Any])

Query = Mapping[str, str | int | tuple[str, ...]]

_PATIENCE_SECONDS = 60.0
_WAIT_SECONDS = 10


class System(Protocol):
    """What answers the API's paths."""

    def ask(
        self, method: str, path: str, *, query: Query = ..., body: bytes | None = ..., headers: Mapping[str, str] = ...
    ) -> Answered:
        """The answer to a request; ClickException with the problem's own words for one that is refused."""


def for_systems(command: F) -> F:
    """Add the options that say which system is meant, as `url` and `key`."""
    for add in (
        click.option("--key", envvar="FNRUN_KEY", help="An access key of that system."),
        click.option("--url", envvar="FNRUN_URL", help="A running system; here, in this process, if left out."),
    ):
        command = add(command)
    return command


@contextmanager
def open_system(
    root: Path, where: Mapping[str, str | None], function: Function | None = None, *, whole: bool = False
) -> Iterator[System]:
    """The system at where["url"], or the project's own.

    function: one that may be called here. whole: here, all functions are loaded; what does not load is told.
    """
    if url := where["url"]:
        yield _There(url, where["key"])
        return
    registry = None
    if whole:
        project = load_project(root)
        registry = project.registry
        print_failures(project)
    with _here(root, load_settings(root).settings, registry, function) as system:
        yield system


class _There:
    def __init__(self, url: str, key: str | None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Query = NOTHING,
        body: bytes | None = None,
        headers: Mapping[str, str] = NOTHING,
    ) -> Answered:
        given = {**self._headers, **headers, **({"content-type": "application/json"} if body is not None else {})}
        url = self._url + path + _encoded(query)
        return fetch(url, method=method, headers=given, data=body, timeout=_PATIENCE_SECONDS)


class _Here:
    def __init__(self, core: "HttpCore", runner: asyncio.Runner) -> None:
        self._core = core
        self._runner = runner

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Query = NOTHING,
        body: bytes | None = None,
        headers: Mapping[str, str] = NOTHING,
    ) -> Answered:
        answer = self._runner.run(self._ask(method, path, _encoded(query)[1:].encode(), body or b"", headers))
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise click.ClickException(f"{answer.status}: {problem_text(answer.body)}")
        return answer

    async def _ask(self, method: str, path: str, query: bytes, body: bytes, headers: Mapping[str, str]) -> Answered:
        from runtime.declare.request import Request  # noqa: PLC0415

        given = [(name.encode(), value.encode()) for name, value in headers.items()]
        request = Request(method, path, query_string=query, headers=given, wire=_Body(body))
        request.max_body = len(body)
        answer = await self._core.handle(request, new_run_id())
        content = answer.body if isinstance(answer.body, bytes) else b""
        return Answered(answer.status, {name.decode(): value.decode() for name, value in answer.headers}, content)


class _Body:
    """A body that is there already."""

    def __init__(self, content: bytes) -> None:
        self._content: bytes | None = content
        self.done = False

    async def next(self) -> bytes | None:
        content, self._content = self._content, None
        self.done = True
        return content


@contextmanager
def _here(root: Path, settings: Settings, registry: Registry | None, function: Function | None) -> Iterator[System]:
    # Loaded here: other commands do without the HTTP trigger and the store's client.
    from runtime.ledger.desk import open_desk  # noqa: PLC0415
    from runtime.triggers.http.core import HttpCore, Site  # noqa: PLC0415
    from runtime.triggers.http.durable import Later  # noqa: PLC0415

    logs.begin(root, settings.log, stream=sys.stderr, direct=True)
    desk = open_desk(root, settings)
    if registry is not None:
        desk.registry = lambda: registry
    try:
        with asyncio.Runner() as runner:
            core = HttpCore(_owner())
            site = Site(_Nobody(), settings.http, later=Later(desk=desk))
            _route(core, site, function)
            yield _Here(core, runner)
    finally:
        desk.close()


def _route(core: "HttpCore", site: "Site", function: Function | None) -> None:
    from runtime.admin.access.keys import access_routes  # noqa: PLC0415
    from runtime.admin.access.recording import recorded  # noqa: PLC0415
    from runtime.admin.alerts import alert_routes  # noqa: PLC0415
    from runtime.admin.api import invoke_route  # noqa: PLC0415
    from runtime.admin.callbacks import callback_routes  # noqa: PLC0415
    from runtime.admin.limits import limit_routes  # noqa: PLC0415
    from runtime.admin.logs import log_routes  # noqa: PLC0415
    from runtime.admin.metrics.stats import stats_route  # noqa: PLC0415
    from runtime.admin.queues import queue_routes  # noqa: PLC0415
    from runtime.admin.runs import run_routes  # noqa: PLC0415
    from runtime.admin.schedules import schedule_routes  # noqa: PLC0415

    later = site.later
    routes = chain(
        run_routes(core.access, Registry(), site),
        log_routes(site),
        queue_routes(later),
        limit_routes(site),
        schedule_routes(later),
        callback_routes(later),
        access_routes(later),
        alert_routes(later),
        [stats_route(later)],
    )
    for route in recorded(routes, core.access, later):
        core.table.add(*route)
    if function is not None:
        core.table.add(*invoke_route(function, site, "cli"))


def _owner() -> Any:
    """Access for whoever is at the shell, who could read the store itself."""
    from runtime.ledger.access.audit import Actor  # noqa: PLC0415
    from runtime.triggers.http.access import Access, Reach  # noqa: PLC0415

    class _Owner(Access):
        @override
        async def admit(self, *_: Any, **__: Any) -> None:
            return

        @override
        def check(self, *_: Any, **__: Any) -> None:
            return

        @override
        def reach(self, *_: Any, **__: Any) -> Reach:
            return "read"

        @override
        def actor_of(self, request: Any) -> Actor:
            return Actor(kind="cli", name=_user())

    from runtime.ledger.access.keyring import Keyring  # noqa: PLC0415

    return _Owner(Keyring(None))


def _user() -> str:
    """Who is at the shell, as the system knows them."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in many a container
        return str(os.getuid())


class _Nobody:
    """Runs nothing: what cannot run later is not run here."""

    async def invoke(self, invocation: Any) -> Any:
        raise Problem(
            409, detail=f"{invocation.function.name} cannot run later: it streams, or takes a Request or files"
        )


def asked(answer: Answered) -> Any:
    """What an answer says, read as JSON."""
    return json.loads(answer.body)


def finished_run(system: System, run_id: str, seconds: float) -> dict[str, Any]:
    """A run, once it is finished or so many seconds are over."""
    until = time.monotonic() + seconds
    while True:
        wait = max(0, min(_WAIT_SECONDS, round(until - time.monotonic() + 0.5)))
        run: dict[str, Any] = asked(system.ask("GET", f"/_/runs/{quote(run_id)}", headers={"prefer": f"wait={wait}"}))
        if "finished_at" in run or time.monotonic() >= until:
            return run


def seconds_of(option: str, text: str) -> float:
    """The seconds of an option."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.ClickException(f"{option}: {error}") from None


def _encoded(query: Query) -> str:
    given = {name: value for name, value in query.items() if value not in ("", ())}
    return f"?{urlencode(given, doseq=True)}" if given else ""
