"""Print rows as a table, and words of others. Called by the commands that list things."""

from collections.abc import Sequence

import click


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
