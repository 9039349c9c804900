"""`fnrun celery`: Celery's own command line."""

from pathlib import Path

import click

from runtime import projects


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def celery(root: Path, arguments: tuple[str, ...]) -> None:
    """Celery's own command line, on the project's workers: `fnrun celery inspect ping`, `fnrun celery flower`.

    `fnrun celery broker-url` prints what clients of Celery's own write as broker=.
    """
    from runtime.working import run_celery  # noqa: PLC0415 - it loads Celery

    run_celery(projects.load_project(root), arguments)
