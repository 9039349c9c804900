"""What is in the project: its functions, what does not load, its settings. Serves nothing."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from runtime import projects
from runtime.base import __version__
from runtime.base.sections import Settings
from runtime.base.settings import Loaded, load_settings
from runtime.cli.printing import fire_lines
from runtime.declare.registry import Function
from runtime.declare.timing.schedules import schedule_id, timing_of
from runtime.declare.triggers import Http, Schedule


@click.command("list")
@click.option(
    "--next", "count", type=click.IntRange(1, 100), help="Show the ids of schedules, and so many next fires of each."
)  # fmt: skip
@click.pass_obj
def list_functions(root: Path, count: int | None) -> None:
    """Show every function, its triggers, and every file that does not load."""
    project = projects.load_project(root)
    for function in project.registry.functions.values():
        click.echo(f"{click.style(function.name, bold=True)}  {function.place}  {function.summary}".rstrip())
        for line in _trigger_lines(function, project.settings, count or 0):
            click.echo(f"    {line}")
    for name in project.registry.disabled:
        click.echo(f"{click.style(name, bold=True)}  disabled in functions.toml")
    print_failures(project)
    if not project.registry.functions and not project.registry.failures:
        click.echo("no functions yet: put a file with a decorated function into functions/")


def _trigger_lines(function: Function, settings: Settings, count: int) -> list[str]:
    lines = []
    for trigger in function.triggers:
        if isinstance(trigger, Http):
            auth = trigger.auth or settings.http.auth
            lines.append(f"{','.join(trigger.methods)} {function.route(trigger)}  ({auth})")
        elif isinstance(trigger, Schedule):
            lines += _schedule_lines(function, trigger, settings.schedule.timezone, count)
        else:
            lines.append(str(trigger))
    if not lines:
        lines.append("no trigger: called by name only")
    return lines


def _schedule_lines(function: Function, trigger: Schedule, zone: str, count: int) -> list[str]:
    """The rule and the next fires; with the id where there are fires, or functions.toml declares it."""
    if not count:
        return [f"{trigger}  {trigger.id}" if trigger.id else str(trigger)]
    fires = fire_lines(timing_of(trigger, zone), datetime.now(UTC), count)
    return [f"{trigger}  {schedule_id(function.name, trigger, zone)}", *(f"    {line}" for line in fires)]


def print_failures(project: projects.Project, *, tracebacks: bool = False) -> None:
    """Name every file that does not load, on stderr."""
    for failure in project.registry.failures:
        click.echo(click.style(str(failure), fg="red"), err=True)
        if tracebacks and failure.traceback:
            click.echo(failure.traceback, err=True)


def print_warnings(loaded: Loaded) -> None:
    """Say what is not as it should be with settings, on stderr."""
    for warning in loaded.warnings:
        click.echo(click.style(f"warning: {warning}", fg="yellow"), err=True)


@click.command()
@click.pass_obj
def check(root: Path) -> None:
    """Load everything as serve would; print each problem with its file and line. Exit 1 if there is one."""
    project = projects.load_project(root)
    print_warnings(project.loaded)
    print_failures(project, tracebacks=True)
    faults = _faults_of_alerts(project)
    for fault in faults:
        click.echo(fault, err=True)
    if count := len(project.registry.failures) + len(faults):
        raise click.ClickException(f"{count} problem(s)")
    click.echo(f"{len(project.registry.functions)} function(s), no problems")


def _faults_of_alerts(project: projects.Project) -> list[str]:
    if not project.settings.alerts:
        return []
    from runtime.alerts.rules import unknown_runs  # noqa: PLC0415 - it loads the store's client

    return unknown_runs(project.settings, project.registry.functions)


@click.command()
@click.option("--output", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write it to this file.")
@click.pass_obj
def openapi(root: Path, output: Path | None) -> None:
    """Print the OpenAPI document of the functions. Exit 1, without one, if a file does not load."""
    from runtime.triggers.http.openapi import describe  # noqa: PLC0415 - other commands do without a server

    project = projects.load_project(root)
    print_failures(project)
    if project.registry.failures:
        raise click.ClickException("no document: what does not load would be missing in it")
    text = (
        json.dumps(describe(project.registry, project.settings.http, __version__), indent=2, ensure_ascii=False) + "\n"
    )
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise click.ClickException(f"{output} cannot be written: {error.strerror}") from None


@click.command()
@click.option("--why", is_flag=True, help="Say where each value comes from.")
@click.pass_obj
def config(root: Path, why: bool) -> None:
    """Print every setting."""
    for one in load_settings(root).explain():
        click.echo(f"{one.path} = {one.value}" + (f"    # {one.source}" if why else ""))
