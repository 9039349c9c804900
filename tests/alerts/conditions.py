"""Rules as tests write them."""

from itertools import count
from typing import Any

from runtime.alerts.judging import RuleState, judge
from runtime.alerts.rules import Found, Rule
from runtime.base.tables.alerts import Condition, parse_value


def rule(when: str = "failures > 10", clear: str = "", **said: Any) -> Rule:
    condition = Condition.parse(when)
    clear_at = parse_value(condition.measure, clear) if clear else condition.threshold
    return Rule(**{"name": "r", "when": condition, "clear_at": clear_at, "clear_seconds": 0.0, **said})


class Course:
    """A rule over time, of one subject."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self.state, self.now = rule, RuleState(), 1_000_000.0
        self._ids = count(1)

    def see(self, value: float | None, *, after: float = 5.0) -> str:
        """The phase once this was found, so long after the look before."""
        self.now += after
        found = {} if value is None else {"f": Found(value)}
        self.state = judge(self.rule, self.state, found, self.now, lambda: f"id{next(self._ids)}")
        return self.phase

    @property
    def phase(self) -> str:
        one = self.state.subjects.get("f")
        return one.phase if one else "ok"

    @property
    def id(self) -> str:
        return self.state.subjects["f"].id
