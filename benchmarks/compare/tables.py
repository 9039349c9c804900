"""Results as tables: text for a terminal, Markdown for docs.

Called by compare's command and document. Figures are medians with least and most; ratios are of one round.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.compare.environments import OURS
from benchmarks.compare.results import ratios, spread


class Row(NamedTuple):
    """One side of one case, as words."""

    name: str
    middle: str
    between: str
    ratio: str


def rows(case: dict[str, Any]) -> Iterator[Row]:
    """Ours first, then the best."""
    middles = {name: spread(list(values.values())) for name, values in case["values"].items() if values}
    names = sorted(middles, key=lambda name: (name != OURS, middles[name].middle * (1 if case["less"] else -1)))
    for name in names:
        found = middles[name]
        ratio = ""
        if name != OURS and (compared := ratios(case, name)):
            times = spread(compared)
            ratio = f"{times.middle:.2f}x ({times.least:.2f}-{times.most:.2f})"
        yield Row(name, number(found.middle), f"{number(found.least)}-{number(found.most)}", ratio)


def number(value: float) -> str:
    """Three figures are all that such a measurement is worth."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def as_text(record: dict[str, Any]) -> str:
    lines = []
    for key, case in record["cases"].items():
        if not case["values"]:
            continue
        lines.append(f"\n{key}: {heading(case)}")
        lines.extend(f"  {row.name:<26} {row.middle:>10}  {row.between:<20} {row.ratio}".rstrip() for row in rows(case))
    for part, told in record["parts"].items():
        for why in ("passed_over", "failed"):
            lines.extend(
                f"\n{part}: {name}: {why.replace('_', ' ')}: {said}" for name, said in told.get(why, {}).items()
            )
    return "\n".join(lines)


def heading(case: dict[str, Any]) -> str:
    """What it is, in which unit, and what one must know of how it was asked."""
    rate, scale = case["settings"].get("rate"), case["settings"].get("scale", 1)
    more = f" (at {rate:,.0f} requests/s)" if rate else f" (scale {scale})" if scale != 1 else ""
    return f"{case['title']}, {case['unit']}{more}"


def as_markdown(record: dict[str, Any], part: str) -> str:
    """The tables of one part."""
    lines = []
    for key, case in record["cases"].items():
        if not case["values"] or not key.startswith(f"{part}."):
            continue
        lines += [
            f"\n**{heading(case)}** (`{key}`, {case['at']})\n",
            f"| | median | least to most | {OURS} is better by |",
            "| --- | ---: | ---: | ---: |",
        ]
        for row in rows(case):
            name = f"**{row.name}**" if row.name == OURS else row.name
            lines.append(f"| {name} | {row.middle} | {row.between.replace('-', ' to ')} | {row.ratio} |")
    return "\n".join(lines)
