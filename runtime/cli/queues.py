"""`fnrun queues`: how long they are; pause and resume, in the project's own store or on a running system."""

from pathlib import Path
from urllib.parse import quote

import click

from runtime.cli.printing import print_json, print_table
from runtime.cli.systems import asked, for_systems, open_system


@click.group()
def queues() -> None:
    """Look at queues, pause and resume them."""


@queues.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@for_systems
@click.pass_obj
def list_queues(root: Path, /, as_json: bool, **where: str | None) -> None:
    """Show every queue: how many runs are ready, wait for their time, run, wait for a worker or limits."""
    with open_system(root, where) as system:
        found = asked(system.ask("GET", "/_/queues"))["queues"]
    if as_json:
        print_json(found)
        return
    print_table(
        ("QUEUE", "READY", "LATER", "RUNNING", "UNKNOWN", "LIMITED", "AGE", ""),
        [
            (
                one["name"], one["ready"], one["later"], one["running"], one["unknown"], one["limited"],
                f"{one['age_seconds']:.0f}s",
                "paused" if one["paused"] else "",
            )
            for one in found
        ],
    )  # fmt: skip


@queues.command("pause")
@click.argument("name")
@for_systems
@click.pass_obj
def pause_queue(root: Path, /, name: str, **where: str | None) -> None:
    """Let no worker take runs from a queue; what runs goes on, what comes waits."""
    _turn(root, name, "pause", where)


@queues.command("resume")
@click.argument("name")
@for_systems
@click.pass_obj
def resume_queue(root: Path, /, name: str, **where: str | None) -> None:
    """Let workers take runs from a queue again."""
    _turn(root, name, "resume", where)


def _turn(root: Path, name: str, verb: str, where: dict[str, str | None]) -> None:
    with open_system(root, where) as system:
        found = asked(system.ask("POST", f"/_/queues/{quote(name, safe='')}/{verb}", body=b""))
    click.echo(f"{name} {verb}d" + ("" if found["changed"] else ", as it was before"))
