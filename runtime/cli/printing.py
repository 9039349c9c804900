"""How commands print what they list: tables, JSON, times, the words of others, when a schedule fires next."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

from runtime.declare.timing.calendar import Timing, instant_of, next_fires

_WHY = {
    "": "",
    "gap": "  the clocks skip the time it names",
    "fold": "  the clocks show this time twice; it fires the first time",
}


def print_table(head: Sequence[str], rows: Sequence[Sequence[str | int]]) -> None:
    """Columns as wide as what is in them, numbers to the right."""
    texts = [head, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[n]) for row in texts) for n in range(len(head))]
    numbers = [bool(rows) and all(isinstance(row[n], int) for row in rows) for n in range(len(head))]
    for number, row in enumerate(texts):
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numbers, strict=True)
        ]
        line = "  ".join(cells).rstrip()
        click.echo(click.style(line, bold=True) if number == 0 else line)


def plain(text: str, *, lines: bool = False) -> str:
    """Without what would steer a terminal: authors' and callers' words are in it."""
    return "".join(c if c.isprintable() or (lines and c == "\n") else repr(c)[1:-1] for c in text)


def print_fields(fields: Mapping[str, Any], width: int) -> None:
    """A line each, text as it is and all else as JSON. width: of the names' column, in characters."""
    for name, value in fields.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        click.echo(f"{name + ':':<{width}} {plain(text)}")


def print_json(value: Any) -> None:
    """For programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def to_second(text: str) -> str:
    """A time of the API, "2026-11-22T10:00:00.000Z", as people read it: "2026-11-22 10:00:00"."""
    return text.replace("T", " ").partition(".")[0]


def fire_line(at: datetime, local: datetime | None, shift: str) -> str:
    """One fire. at: in UTC. local: in the rule's zone, None where that is UTC."""
    shown = f"{local:%a %Y-%m-%d %H:%M:%S%z}" if local else f"{at:%a}"
    return f"{at:%Y-%m-%dT%H:%M:%SZ}  {shown}{_WHY[shift]}"


def fire_lines(timing: Timing, after: datetime, count: int) -> Iterator[str]:
    """The next fires, in UTC and in the rule's zone, and where daylight saving time shifts one."""
    zone = ZoneInfo(timing.tz) if timing.cron and timing.tz != "UTC" else None
    found = next_fires(timing, after, count)
    for due in found:
        at = instant_of(due.at_ms)
        yield fire_line(at, at.astimezone(zone) if zone else None, due.shift)
    if not found:
        yield "never again"
