"""The results in docs: docs/benchmarks.md between its markers, the picture beside it, and all figures as JSON.

Called by compare's command with --docs. What is outside of the markers is written by hand, and stays.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.compare import picture, tables
from benchmarks.compare.environments import BENCHMARKS

DOCS = BENCHMARKS.parent / "docs"
BEGIN, END = "<!-- results: begin; written by make bench -->", "<!-- results: end -->"


def write(record: dict[str, Any], folder: Path = DOCS) -> None:
    """All three files."""
    page = folder / "benchmarks.md"
    page.write_text(insert(page.read_text(), describe(record)))
    (folder / "benchmarks.svg").write_text(picture.draw(record))
    (folder / "benchmarks.json").write_text(json.dumps(record, indent=1) + "\n")


def insert(page: str, text: str) -> str:
    """The page with this between its markers. ValueError for a page that has none."""
    before, found, rest = page.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not (found and closed):
        raise ValueError(f"docs/benchmarks.md has no place for results: it wants {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{text.strip()}\n{END}{after}"


def describe(record: dict[str, Any]) -> str:
    """The machine, the command, who took part, and the tables."""
    lines = ["![The tables as bars](benchmarks.svg)"]
    for part, told in record["parts"].items():
        lines += [f"\n### {part}\n", f"On {told['machine']}.\n", f"`{told['command']}`: {told['rounds']}."]
        lines.append(tables.as_markdown(record, part))
        lines.append("\nWho took part, and how:\n")
        lines += [f"- {name}: {note}" for name, note in told.get("servers", {}).items()]
        lines += [f"- {name} was passed over: {why}" for name, why in told.get("passed_over", {}).items()]
        lines += [f"- {name} failed in a round: {why}" for name, why in told.get("failed", {}).items()]
        if "client" in told:
            lines.append(f"\nThe HTTP client: {told['client']}.")
    return "\n".join(lines)
