"""`fnrun dev` and `fnrun serve`: the parents, which load next to nothing before their children are started."""

import os
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import click

from runtime import listening
from runtime.base import logs
from runtime.base.addresses import EMBEDDED
from runtime.base.errors import StartError
from runtime.base.sections import HttpSettings, Settings
from runtime.base.settings import Loaded, load_settings
from runtime.spawning import Team, spawn, stop_at_once_until_served

PROGRAM = (sys.executable, "-P", "-m", "runtime")
"""`fnrun`. -P: a file of the project's called like a module of ours shall not stand in for it."""
_DEV_DEFAULTS = {"log.requests": "all", "serve.drain": "2s"}
"""What suits a developer, unless he says otherwise."""


@click.command()
@click.option("--bind", help='Address to listen on, "127.0.0.1:8000" unless functions.toml says otherwise.')
@click.pass_obj
def dev(root: Path, bind: str | None) -> None:
    """Serve while you write: what you save is served at once, open to local callers without a key."""
    from runtime.dev import Place, watch  # noqa: PLC0415 - only dev watches files

    given = {"http__bind": bind} if bind else {}
    loaded = load_settings(root, given)
    settings = loaded.settings
    given |= {p.replace(".", "__"): v for p, v in _DEV_DEFAULTS.items() if p not in loaded.sources}
    given["http__http3"] = "false"  # its port cannot be handed from one process to the next
    environ = os.environ | _variables(given)
    logs.begin(root, settings.log)
    _warn(loaded)
    with ExitStack() as opened:
        places, silence = [], float(settings.serve.blocked_limit)
        if "http" in settings.serve.only:
            _check_tls(root, settings.http)
            sock = opened.enter_context(listening.open_socket(settings.http.bind))
            if not listening.is_loopback(sock):
                click.echo("Not on a loopback address: callers need a key, as under `fnrun serve`.", err=True)
            command = [*_command(root, "serve-child"), "--dev", "--announce"]
            places.append(Place("server", command, environ, sock, silence))
        for name in ("scheduler", "worker"):
            if name in settings.serve.only:
                announce = [] if places else ["--announce"]
                command = [*_command(root, f"{name}-child"), *announce]
                places.append(Place(name, command, environ, silence_seconds=silence))
        _open_store(root, settings, opened)
        watch(root, places)


def _warn(loaded: Loaded) -> None:
    for warning in loaded.warnings:
        click.echo(f"Warning: {warning}", err=True)


def _command(root: Path, name: str) -> tuple[str, ...]:
    """What a child is: `fnrun NAME`, in this project."""
    return (*PROGRAM, "--dir", str(root), name)


def _variables(given: dict[str, str]) -> dict[str, str]:
    """What the command line says, for a child."""
    return {f"FNRUN_{path.upper()}": value for path, value in given.items()}


def _check_tls(root: Path, settings: HttpSettings) -> None:
    """StartError if what the settings say of TLS cannot be had."""
    if settings.certfile or settings.keyfile or settings.http3:
        from runtime.triggers.http.wire.tls import load_tls  # noqa: PLC0415 - most have a proxy for that

        load_tls(root, settings)


@click.command()
@click.option("--bind", help='Address to listen on, "127.0.0.1:8000" unless functions.toml says otherwise.')
@click.option(
    "--only", help='Roles, "http,scheduler,worker" unless functions.toml says otherwise; each may run many times.'
)
@click.option("--queues", help='What a worker takes runs from, "orders,mails" for instance; else [queue] queues.')
@click.option("--concurrency", help="How many runs a worker executes at once; else [queue] concurrency.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.pass_obj
def serve(root: Path, /, bind: str | None, log_level: str | None, **chosen: str | None) -> None:
    """Serve for production, until SIGTERM; then finish what is in flight, up to [serve] drain."""
    stop_at_once_until_served()
    options = {
        "http__bind": bind or None,
        "serve__only": chosen["only"],
        "queue__queues": chosen["queues"],
        "queue__concurrency": chosen["concurrency"],
        "log__level": log_level,
    }
    given = {name: value for name, value in options.items() if value is not None}
    loaded = load_settings(root, given)
    settings = loaded.settings
    _warn(loaded)
    if "http" in settings.serve.only:
        _check_tls(root, settings.http)
    # Whatever runs handlers has a parent, which replaces it.
    if set(settings.serve.only) != {"scheduler"} or settings.ops.bind:
        _supervise(root, settings, os.environ | _variables(given))
        return
    from runtime import projects  # noqa: PLC0415 - a parent loads no function
    from runtime.scheduling import schedule  # noqa: PLC0415 - it loads APScheduler

    schedule(projects.open_project(root, loaded))  # thousands of tables take long to read twice


def _supervise(root: Path, settings: Settings, environ: Mapping[str, str]) -> None:
    with ExitStack() as opened:
        teams = []
        if "http" in settings.serve.only:
            sock = opened.enter_context(listening.open_socket(settings.http.bind))
            url, count = listening.url_of(sock, settings.http), settings.http.workers
            command, alone = _command(root, "serve-child"), settings.http.http3
            teams.append(Team(name="http", command=command, count=count, sock=sock, url=url, alone=alone))
        if "scheduler" in settings.serve.only:
            teams.append(Team(name="scheduler", command=_command(root, "scheduler-child")))
        if "worker" in settings.serve.only:
            count = settings.queue.workers
            teams.append(Team(name="worker", command=_command(root, "worker-child"), count=count))
        if settings.ops.bind:
            sock = opened.enter_context(listening.open_socket(settings.ops.bind, "ops.bind"))
            url = listening.url_of(sock, HttpSettings())
            teams.append(Team(name="ops", command=_command(root, "ops-child"), sock=sock, url=url))
        first = None
        with suppress(OSError):  # the supervisor tries again, and says what is wrong
            first = spawn(teams[0].first_command, environ, teams[0].sock)
        stop_at_once_until_served(first)
        if settings.store.url == EMBEDDED:
            threading.Thread(target=_use_embedded, args=[root], daemon=True).start()
        from runtime.supervisor import Supervisor  # noqa: PLC0415 - it loads asyncio, and the first child has begun

        silence = float(settings.serve.blocked_limit)
        supervisor = Supervisor(teams, silence, first, lambda: logs.begin(root, settings.log))
        in_order = supervisor.keep(float(settings.serve.drain), environ)
    sys.exit(not in_order)


def _use_embedded(root: Path) -> None:
    """Start the embedded store while the children load, and have it there while they come and go.

    What is wrong with it they say: each opens it for itself.
    """
    from runtime.base.embedded import Embedded  # noqa: PLC0415 - not everybody has it

    with suppress(StartError):
        Embedded.open(root)


def _open_store(root: Path, settings: Settings, opened: ExitStack) -> None:
    """Have the store there before dev's children, which open it again for themselves, and until they have ended."""
    from runtime.base.store import Store  # noqa: PLC0415 - not every command needs one

    opened.enter_context(closing(Store.open(root, settings.store)))
