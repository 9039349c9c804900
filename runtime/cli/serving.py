"""`fnrun dev` and `fnrun serve`, and the hidden command that their children are."""

import asyncio
import os
import socket
from pathlib import Path

import click

from runtime import roles
from runtime.base import logs
from runtime.base.keys import KeyFile
from runtime.base.settings import Settings, load_settings

_DEV_DEFAULTS = {"log.requests": "all", "serve.drain": "2s"}
"""What suits a developer, unless he says otherwise."""


@click.command()
@click.option("--bind", help='Address to listen on, "127.0.0.1:8000" unless functions.toml says otherwise.')
@click.pass_obj
def dev(root: Path, bind: str | None) -> None:
    """Serve while you write: what you save is served at once, open to local callers without a key."""
    from runtime.dev import Dev  # noqa: PLC0415 - only dev watches files

    given = {"http__bind": bind} if bind else {}
    loaded = load_settings(root, given)
    settings = loaded.settings
    given |= {p.replace(".", "__"): v for p, v in _DEV_DEFAULTS.items() if p not in loaded.sources}
    given["http__http3"] = "false"  # its port cannot be handed from one process to the next
    roles.check_tls(root, settings.http)
    logs.configure(style=settings.log.format, level=settings.log.level)
    with roles.open_socket(settings.http.bind) as sock:
        if not roles.is_loopback(sock):
            click.echo("Not on a loopback address: callers need a key, as under `fnrun serve`.", err=True)
            _show_first_key(root)
        watching = Dev(root, [*_child_arguments(root), "--dev", "--announce"], sock)
        asyncio.run(watching.run(os.environ | _variables(given)))


def _child_arguments(root: Path) -> list[str]:
    return ["--dir", str(root), "serve-child"]


def _variables(given: dict[str, str]) -> dict[str, str]:
    """What the command line says, for a child."""
    return {f"FNRUN_{path.upper()}": value for path, value in given.items()}


@click.command("serve-child", hidden=True)
@click.option("--fd", type=int, required=True)
@click.option("--line", type=int, required=True)
@click.option("--dev", is_flag=True)
@click.option("--announce", is_flag=True)
@click.pass_obj
def serve_child(root: Path, fd: int, line: int, dev: bool, announce: bool) -> None:
    """A child of `fnrun dev` or of the supervisor, on a socket it inherits."""
    roles.stop_at_once_until_served()
    parent = roles.Parent(socket.socket(fileno=line), dev=dev, announce=announce)
    roles.serve(roles.load_project(root), socket.socket(fileno=fd), parent)


@click.command()
@click.option("--bind", help='Address to listen on, "127.0.0.1:8000" unless functions.toml says otherwise.')
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.pass_obj
def serve(root: Path, bind: str | None, log_level: str | None) -> None:
    """Serve for production, until SIGTERM; then finish what is in flight, up to [serve] drain."""
    roles.stop_at_once_until_served()
    given = {name: value for name, value in {"http__bind": bind, "log__level": log_level}.items() if value}
    settings = load_settings(root, given).settings
    roles.check_tls(root, settings.http)
    if settings.http.workers > 1:
        _supervise(root, settings, given)
        return
    project = roles.load_project(root, given)
    with roles.open_socket(settings.http.bind) as sock:
        _show_first_key(root)
        roles.serve(project, sock)


def _supervise(root: Path, settings: Settings, given: dict[str, str]) -> None:
    from runtime.supervisor import Supervisor  # noqa: PLC0415 - most do with one process

    logs.configure(style=settings.log.format, level=settings.log.level)
    with roles.open_socket(settings.http.bind) as sock:
        _show_first_key(root)
        url = roles.url_of(sock, settings.http)
        children = Supervisor(_child_arguments(root), settings.http.workers, sock, url=url)
        asyncio.run(children.run(float(settings.serve.drain), os.environ | _variables(given)))


def _show_first_key(root: Path) -> None:
    token = KeyFile(root).create_first()
    if token:
        click.echo(f"First access key, shown this once: {token}", err=True)
