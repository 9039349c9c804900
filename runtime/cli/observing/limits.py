"""`fnrun limits`: what bounds functions and who waits for that, in the project's own store or on a running system."""

from pathlib import Path
from typing import Any

import click

from runtime.cli.printing import print_json, print_table
from runtime.cli.systems import asked, for_systems, open_system


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@for_systems
@click.pass_obj
def limits(root: Path, /, as_json: bool, **where: str | None) -> None:
    """Show every function with limits or a fallback: places held, who waits, breakers."""
    with open_system(root, where, whole=True) as system:
        found = asked(system.ask("GET", "/_/limits"))["limits"]
    if as_json:
        print_json(found)
        return
    print_table(
        ("FUNCTION", "CONCURRENCY", "RATE", "KEYED", "HELD", "CALLERS", "WAITING", "KEYS", "BREAKER"),
        [
            (
                one["function"], one.get("concurrency", ""), _rate(one), "yes" if one["keyed"] else "",
                one["held"], one["callers"], one["waiting"], one["keys"], _breaker(one),
            )
            for one in found
        ],
    )  # fmt: skip


def _rate(one: dict[str, Any]) -> str:
    rate = one.get("rate")
    return f"{rate['count']} in {rate['seconds']:g}s, {rate['burst']} at once" if rate else ""


def _breaker(one: dict[str, Any]) -> str:
    breaker = one.get("breaker", {})
    if breaker.get("state") == "open":
        return f"open for {breaker['open_seconds']:.0f}s"
    return str(breaker.get("state", ""))
