"""The hidden command that a worker's zygote is, and each of its cells where it cannot fork: see runtime.zygote."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime import roles

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
