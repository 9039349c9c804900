"""What was measured: kept in a file after each figure, so that a run can go on where it was ended.

Called by web, jobs and what tells of results. Ratios are of one round: what slows a round slows both sides.
"""

import json
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.compare.environments import OURS


class Case(NamedTuple):
    """What a figure means. less: less of it is better. title, unit: as a table shows them."""

    title: str
    unit: str
    less: bool = False


class Spread(NamedTuple):
    middle: float
    least: float
    most: float


def spread(values: list[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


def ratios(case: dict[str, Any], peer: str) -> list[float]:
    """How many times better ours is than a peer, round by round, where both have the round."""
    ours, theirs = case["values"].get(OURS, {}), case["values"].get(peer, {})
    rounds = sorted(ours.keys() & theirs.keys(), key=int)
    pairs = [(theirs[at], ours[at]) if case["less"] else (ours[at], theirs[at]) for at in rounds]
    return [better / worse for better, worse in pairs if worse > 0]


class Results:
    """All figures, by "part.case", server and round.

    The file holds {"cases": {key: {"title", "unit", "less", "at", "settings", "values": {server: {round: figure}}}},
    "parts": {part: {"servers": {name: note}, "passed_over": {name: why}, ...}}}.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record: dict[str, Any] = {"cases": {}, "parts": {}}
        if path.exists():
            self.record = json.loads(path.read_text())

    @property
    def cases(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.record["cases"]
        return found

    def begin(self, part: str, cases: dict[str, Case], settings: dict[str, Any], *, resume: bool) -> None:
        """Forget what these cases had, unless it is gone on with. Other cases stay as they are."""
        for name, case in cases.items():
            key = f"{part}.{name}"
            if not resume or key not in self.cases:
                self.cases[key] = {"settings": settings, "values": {}}
            self.cases[key] |= case._asdict()
        self.save()

    def part(self, name: str, **what: Any) -> None:
        """Tell more of a part: who was measured, who was passed over. None takes a name out of what was told of it."""
        told = self.record["parts"].setdefault(name, {})
        for key, value in what.items():
            if isinstance(value, dict):
                both = {**told.get(key, {}), **value}
                told[key] = {one: said for one, said in both.items() if said is not None}
            else:
                told[key] = value
        self.save()

    def has(self, key: str, server: str, number: int) -> bool:
        return str(number) in self.cases[key]["values"].get(server, {})

    def add(self, key: str, server: str, number: int, figure: float) -> None:
        case = self.cases[key]
        case["values"].setdefault(server, {})[str(number)] = round(figure, 4)
        case["at"] = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        self.save()

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.record, indent=1) + "\n")
        part.replace(self.path)
