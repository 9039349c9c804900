"""The hidden commands that a worker and a scheduler process are, and `fnrun celery`."""

from pathlib import Path

import click

from runtime import roles
from runtime.cli.serving import parent_of
from runtime.following import Parent


@click.command("worker-child", hidden=True)
@click.option("--line", type=int, required=True)
@click.option("--pulse", type=int)
@click.option("--announce", is_flag=True)
@click.pass_obj
def worker_child(root: Path, line: int, pulse: int | None, announce: bool) -> None:
    """A child of `fnrun dev` or of the supervisor, which runs what is queued."""
    from runtime.working import work  # noqa: PLC0415 - it loads Celery

    parent = _parent(line, pulse, announce=announce)
    work(roles.load_project(root), parent)


@click.command("scheduler-child", hidden=True)
@click.option("--line", type=int, required=True)
@click.option("--pulse", type=int)
@click.option("--announce", is_flag=True)
@click.pass_obj
def scheduler_child(root: Path, line: int, pulse: int | None, announce: bool) -> None:
    """A child of `fnrun dev` or of the supervisor, which fires what is due."""
    from runtime.scheduling import schedule  # noqa: PLC0415 - it loads APScheduler

    parent = _parent(line, pulse, announce=announce)
    schedule(roles.load_project(root), parent)


def _parent(line: int, pulse: int | None, *, announce: bool) -> Parent:
    """Whose child this process is, which ends at a signal while it still loads."""
    roles.stop_at_once_until_served()
    return parent_of(line, pulse, announce=announce)


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def celery(root: Path, arguments: tuple[str, ...]) -> None:
    """Celery's own command line, on the project's workers: `fnrun celery inspect ping`, `fnrun celery flower`.

    `fnrun celery broker-url` prints what clients of Celery's own write as broker=.
    """
    from runtime.working import run_celery  # noqa: PLC0415 - as above

    run_celery(roles.load_project(root), arguments)
