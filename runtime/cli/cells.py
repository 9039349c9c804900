"""The hidden commands that zygotes are, and each of their cells where they cannot fork: see runtime.zygote."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime import roles
from runtime.base import logs
from runtime.base.settings import load_settings
from runtime.declare.context import log_fields
from runtime.tasks.performed import opens
from runtime.tasks.processes import COMMAND

if TYPE_CHECKING:
    from runtime.cell import Opens


@click.command("cell-child", hidden=True)
@click.option("--line", type=int, required=True)
@click.option("--alone", is_flag=True)
@click.pass_obj
def cell_child(root: Path, line: int, alone: bool) -> None:
    """Fork a process for each run that a worker wants to be alone, until it hangs up."""
    from runtime.triggers.queue.alone import perform_runs  # noqa: PLC0415 - no other command runs what is queued

    def opens_of(project: roles.Project) -> "Opens":
        return perform_runs(project.registry, int(project.settings.queue.result_max))

    roles.serve_cells(root, socket.socket(fileno=line), opens_of, alone=alone)


@click.command(COMMAND, hidden=True)
@click.option("--line", type=int, required=True)
@click.option("--alone", is_flag=True)
@click.pass_obj
def function_child(root: Path, line: int, alone: bool) -> None:
    """Fork a process for each function that background.in_process calls, until it hangs up."""
    from runtime import zygote  # noqa: PLC0415 - no other command forks

    def prepare() -> "Opens":
        said = load_settings(root).settings.log
        logs.configure(style=said.format, level=said.level, fields=log_fields)
        return opens

    zygote.serve_cells(socket.socket(fileno=line), prepare, alone=alone)
