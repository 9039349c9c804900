"""`fnrun stats`: throughput, durations and failures of the last minutes, here or on a running system."""

from pathlib import Path
from typing import Any

import click

from runtime.cli.printing import plain, print_json, print_table
from runtime.cli.systems import Query, asked, for_systems, open_system


@click.command()
@click.argument("functions", nargs=-1)
@click.option("--minutes", default=60, type=click.IntRange(1, 1440), help="Of how many minutes up to now; 60.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers of each minute, too, as JSON.")
@for_systems
@click.pass_obj
def stats(root: Path, /, functions: tuple[str, ...], minutes: int, *, as_json: bool, **where: str | None) -> None:
    """Show how many calls each function had, how long they took, and how many failed; with runs that wait."""
    query: Query = {"minutes": minutes, "function": functions}
    with open_system(root, where) as system:
        found = asked(system.ask("GET", "/_/stats", query=query))
    if as_json:
        print_json(found)
        return
    print_table(
        ("FUNCTION", "CALLS", "PER MINUTE", "MEAN", "P95", "FAILED", "RATE", "RETRIED", "OPEN", "DEAD"),
        [
            (
                plain(one["function"]), one["calls"], f"{one['per_minute']:g}", _ms(one["mean_ms"]), _ms(one["p95_ms"]),
                one["failed"] + one["timeout"] + one["crashed"], _rate(one), one["retried"], one["open"], one["dead"],
            )
            for one in found["functions"]
        ],
    )  # fmt: skip


def _ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}ms" if value < 1000 else f"{value / 1000:.2f}s"  # noqa: PLR2004 - a second


def _rate(one: dict[str, Any]) -> str:
    return "" if one["failure_rate"] is None else f"{one['failure_rate']:.1%}"
