"""The hidden commands that the children of `fnrun dev` and of the supervisor are, and `fnrun celery`."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from runtime import projects, roles
from runtime.base.pulse import Pulse
from runtime.base.settings import load_settings
from runtime.cli.serving import stop_at_once_until_served
from runtime.following import Parent
from runtime.observe import counts


def _child(command: Callable[..., None]) -> Callable[..., None]:
    """With what a parent tells each of its children."""
    for option in (
        click.option("--line", type=int, required=True),
        click.option("--pulse", type=int),
        click.option("--counts", "place", default=""),
        click.option("--announce", is_flag=True),
        click.option("--first", is_flag=True),
        click.pass_obj,
    ):
        command = option(command)
    return command


@click.command("serve-child", hidden=True)
@click.option("--fd", type=int, required=True)
@click.option("--dev", is_flag=True)
@_child
def serve_child(root: Path, /, fd: int, **told: Any) -> None:
    """It answers HTTP, on a socket it inherits."""
    parent = _parent("http", **told)
    roles.serve(projects.load_project(root), socket.socket(fileno=fd), parent)


@click.command("ops-child", hidden=True)
@click.option("--fd", type=int, required=True)
@_child
def ops_child(root: Path, /, fd: int, **told: Any) -> None:
    """It answers whether the others are well, and what they count."""
    from runtime.operating import operate  # noqa: PLC0415 - it loads a server

    parent = _parent("ops", **told)
    operate(root, load_settings(root).settings, socket.socket(fileno=fd), parent)


@click.command("worker-child", hidden=True)
@_child
def worker_child(root: Path, /, **told: Any) -> None:
    """It runs what is queued."""
    from runtime.working import work  # noqa: PLC0415 - it loads Celery

    parent = _parent("worker", **told)
    work(projects.load_project(root), parent)


@click.command("scheduler-child", hidden=True)
@_child
def scheduler_child(root: Path, /, **told: Any) -> None:
    """It fires what is due."""
    from runtime.scheduling import schedule  # noqa: PLC0415 - it loads APScheduler

    parent = _parent("scheduler", **told)
    schedule(projects.load_project(root), parent)


def _parent(role: str, line: int, pulse: int | None, place: str, **said: bool) -> Parent:
    """Whose child this process is, which ends at a signal while it still loads."""
    stop_at_once_until_served()
    if place:
        counts.join(place, role)
    beaten = None if pulse is None else Pulse.inherited(pulse)
    return Parent(socket.socket(fileno=line), pulse=beaten, **said)


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def celery(root: Path, arguments: tuple[str, ...]) -> None:
    """Celery's own command line, on the project's workers: `fnrun celery inspect ping`, `fnrun celery flower`.

    `fnrun celery broker-url` prints what clients of Celery's own write as broker=.
    """
    from runtime.working import run_celery  # noqa: PLC0415 - as above

    run_celery(projects.load_project(root), arguments)
