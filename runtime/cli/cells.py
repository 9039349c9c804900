"""The hidden commands that zygotes are, and each of their cells where they cannot fork: see runtime.zygote."""

import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
import msgspec

from runtime import projects
from runtime.base.errors import SettingsError
from runtime.base.sections import Settings
from runtime.base.settings import load_settings
from runtime.observe import traces
from runtime.tasks.performed import ending_with_calls, opens
from runtime.tasks.processes import COMMAND

if TYPE_CHECKING:
    from runtime.cell import Opens, Perform
    from runtime.ledger.desk import Desk

_MOST_GIVEN = 1 << 24


@click.command("cell-child", hidden=True)
@click.option("--line", type=int, required=True)
@click.option("--given", type=int)
@click.option("--alone", is_flag=True)
@click.option("--calls", is_flag=True)
@click.pass_obj
def cell_child(root: Path, line: int, given: int | None, alone: bool, calls: bool) -> None:
    """Fork processes for runs, or calls, that are to be alone, until who wants that hangs up."""

    def opens_of(project: projects.Project) -> "Opens":
        if calls:
            from runtime.invoke.isolation.calls import decode_call  # noqa: PLC0415 - no other command does
            from runtime.invoke.isolation.inside import perform_calls  # noqa: PLC0415 - no other command does

            return ending_with_calls(perform_calls(project.registry), lambda job: decode_call(job).timeout_seconds)
        from runtime.triggers.queue.alone import perform_runs  # noqa: PLC0415 - as above

        return perform_runs(project.registry, int(project.settings.queue.result_max))

    serve_cells(root, socket.socket(fileno=line), opens_of, alone=alone, given=given)


@click.command(COMMAND, hidden=True)
@click.option("--line", type=int, required=True)
@click.option("--alone", is_flag=True)
@click.pass_obj
def function_child(root: Path, line: int, alone: bool) -> None:
    """Fork a process for each function that background.in_process calls, until it hangs up."""
    from runtime import zygote  # noqa: PLC0415 - no other command forks

    def prepare() -> "Opens":
        projects.begin_log(root, _settings_here(root), direct=True)
        return opens

    zygote.serve_cells(socket.socket(fileno=line), prepare, alone=alone)


def _settings_here(root: Path) -> Settings:
    """Those of the project; where the keys are not, as in a process for isolated functions, without what they open."""
    try:
        return load_settings(root).settings  # and its secrets are known, and masked, from here on
    except SettingsError:
        return load_settings(root, sealed=True).settings


def serve_cells(
    root: Path,
    line: socket.socket,
    opens_of: "Callable[[projects.Project], Opens]",
    *,
    alone: bool = False,
    given: int | None = None,
) -> NoReturn:
    """Be a worker's zygote, or with `alone` one cell. opens_of: what the cells of the loaded project do with jobs.

    given: a descriptor with the variables, as JSON, that settings are read from besides those of the environment.
    """
    from runtime import zygote  # noqa: PLC0415 - no other command is one
    from runtime.ledger.run import make_desk_with  # noqa: PLC0415 - as above

    def prepare() -> "Opens":
        said = {} if given is None else msgspec.json.decode(os.pread(given, _MOST_GIVEN, 0), type=dict[str, str])
        # A process for isolated functions is told its settings; it shall open no secrets.
        project = projects.load_project(root, environ={**os.environ, **said}, sealed=given is not None)
        settings = project.settings
        projects.begin_log(root, settings, direct=True)
        make_desk_with(lambda: _desk_again(project))
        opens = opens_of(project)
        return _traced(opens, {**os.environ, **said}) if settings.traces.enabled else opens

    zygote.serve_cells(line, prepare, alone=alone, loop_factory=projects.loop_factory(), given=given)


def _traced(opens: "Opens", environ: Mapping[str, str]) -> "Opens":
    """With traces, which are begun in each cell: what sends them is a thread, and a fork has none."""
    traces.load()

    @asynccontextmanager
    async def traced() -> AsyncIterator["Perform"]:
        traces.begin(role="cell", inside=True, environ=environ)
        async with opens() as perform:
            yield perform

    return traced


def _desk_again(project: projects.Project) -> "Desk":
    """The desk of a cell, which has one only if its run wants it."""
    from runtime.ledger.desk import open_desk  # noqa: PLC0415 - as above

    desk = open_desk(project.root, project.settings, again=True)
    desk.registry = lambda: project.registry
    return desk
