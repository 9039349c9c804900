"""What waits: `fnrun queues` and `fnrun callbacks`, in the project's own store or on a running system."""

import json
from pathlib import Path
from urllib.parse import quote

import click

from runtime.cli.printing import print_json, print_table, to_second
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


@click.group()
def callbacks() -> None:
    """Look at callbacks that were not delivered yet, and try them again."""


@callbacks.command("list")
@click.option("--waiting", is_flag=True, help="Those that wait for their next try, in place of those given up.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@for_systems
@click.pass_obj
def list_callbacks(root: Path, /, waiting: bool, limit: int, as_json: bool, **where: str | None) -> None:
    """Show callbacks that were given up, the newest first."""
    with open_system(root, where) as system:
        query = {"state": "waiting" if waiting else "dead", "limit": limit}
        found = asked(system.ask("GET", "/_/callbacks", query=query))
    if as_json:
        print_json(found)
        return
    print_table(
        ("ID", "FUNCTION", "OUTCOME", "TRIES", "LAST TRY", "NEXT TRY", "URL", "ERROR"),
        [
            (
                one["id"], one["function"], one["outcome"], one["tries"], to_second(one.get("tried_at", "")),
                to_second(one.get("next_at", "")), one["url"], one.get("error", ""),
            )
            for one in found["callbacks"]
        ],
    )  # fmt: skip


@callbacks.command("retry")
@click.argument("ids", nargs=-1, required=True)
@for_systems
@click.pass_obj
def retry_callbacks(root: Path, /, ids: tuple[str, ...], **where: str | None) -> None:
    """Try callbacks now, by their ids: those that were given up, and those that wait."""
    with open_system(root, where) as system:
        body = json.dumps({"ids": ids}).encode()
        found: dict[str, str] = asked(system.ask("POST", "/_/callbacks/retry", body=body))["callbacks"]
    for one, word in found.items():
        click.echo(f"{one}  {word}")
    if set(found.values()) != {"waiting"}:
        raise click.exceptions.Exit(1)
