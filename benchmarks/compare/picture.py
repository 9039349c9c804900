"""Results as a picture: a panel a case with a bar a side, as SVG, which needs no library and grows with the page.

Called by document. Bars are medians; a thin line goes from least to most. Colours hold on light and on dark pages.
"""

from html import escape
from typing import Any

from benchmarks.compare.environments import OURS
from benchmarks.compare.results import spread
from benchmarks.compare.tables import heading, number

COLUMNS = 2
_WIDTH, _ROW, _HEAD, _GAP = 470, 17, 34, 16
_LABEL, _VALUE = 165, 60
_STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#57606a}.h{font-weight:600;font-size:12px}"
    ".o{fill:#1f6feb;font-weight:600}"
    "rect{fill:#8b949e}rect.o{fill:#1f6feb}line{stroke:#d1242f;stroke-width:1.5}"
    "@media(prefers-color-scheme:dark){text{fill:#9aa4af}}"
)


def draw(record: dict[str, Any]) -> str:
    """The whole SVG."""
    panels = [case for case in record["cases"].values() if case["values"]]
    parts, top = [], _GAP
    for at in range(0, len(panels), COLUMNS):
        row = panels[at : at + COLUMNS]
        parts += [_panel(case, _GAP + place * (_WIDTH + _GAP), top) for place, case in enumerate(row)]
        top += max(_height(case) for case in row) + _GAP
    width = _GAP + COLUMNS * (_WIDTH + _GAP)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" role="img" '
        f'aria-label="{OURS} beside its peers"><style>{_STYLE}</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _height(case: dict[str, Any]) -> int:
    return _HEAD + _ROW * len(case["values"])


def _panel(case: dict[str, Any], left: int, top: int) -> str:
    found = {name: spread(list(values.values())) for name, values in case["values"].items() if values}
    most = max(one.most for one in found.values()) or 1.0
    room = _WIDTH - _LABEL - _VALUE
    better = "less is better" if case["less"] else "more is better"
    lines = [f'<text class="h" x="{left}" y="{top + 14}">{escape(heading(case))}; {better}</text>']
    names = sorted(found, key=lambda name: found[name].middle, reverse=not case["less"])
    for at, name in enumerate(names):
        one, y = found[name], top + _HEAD - 8 + at * _ROW
        ours = ' class="o"' if name == OURS else ""
        x, middle = left + _LABEL, y + 6
        least, longest = x + one.least / most * room, x + one.most / most * room
        lines += [
            f'<text{ours} x="{x - 6}" y="{y + 10}" text-anchor="end">{escape(name)}</text>',
            f'<rect{ours} x="{x}" y="{y}" width="{max(1.0, one.middle / most * room):.1f}" height="12" rx="2"/>',
            f'<line x1="{least:.1f}" x2="{longest:.1f}" y1="{middle}" y2="{middle}"/>',
            f'<text{ours} x="{longest + 5:.1f}" y="{y + 10}">{number(one.middle)}</text>',
        ]
    return "\n".join(lines)
