"""[alerting] and [alerts.NAME] of functions.toml: when somebody is told that something is wrong, and how.

Records alone, and what makes one impossible; settings reads them, alerts goes by them. Never measures or sends.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

import msgspec

from runtime.base.durations import Seconds, SecondsOrNever, parse_duration
from runtime.base.errors import FnrunError, did_you_mean
from runtime.base.secrets.masking import Secret
from runtime.base.webhooks import secret_of

Unit = Literal["share", "seconds", "count"]
About = Literal["function", "queue", "system"]

ALERT_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_CONDITION = re.compile(r"\s*([a-z0-9_]+)\s*(>=|<=|>|<)\s*(\S+)\s*", re.ASCII)
_NUMBER = re.compile(r"\d{1,15}(\.\d{1,6})?", re.ASCII)
_LEAST_WINDOW_SECONDS = 60.0
_DAY_SECONDS = 86_400.0


class Measure(msgspec.Struct, frozen=True):
    """Something that a rule may be about.

    about: whether each function, or each queue, is looked at by itself, or there is one number. windowed: it is counted
    over `window`. shared: a part of the calls, and so `least` holds for it. for_seconds: it must hold for so long where
    a rule says nothing: processes that are being started are not missing.
    """

    unit: Unit
    about: About
    windowed: bool = True
    shared: bool = False
    for_seconds: float = 0.0


_STARTING_SECONDS = 15.0
MEASURES: Mapping[str, Measure] = {
    "failure_rate": Measure("share", "function", shared=True),
    "failures": Measure("count", "function"),
    "timeouts": Measure("count", "function"),
    "retries": Measure("count", "function"),
    "calls": Measure("count", "function"),
    "mean_duration": Measure("seconds", "function", shared=True),
    "loop_blocked": Measure("count", "function"),
    "missed_ticks": Measure("count", "function"),
    "dead_letters": Measure("count", "function"),
    "backlog": Measure("count", "queue", windowed=False),
    "backlog_age": Measure("seconds", "queue", windowed=False),
    "workers": Measure("count", "system", windowed=False, for_seconds=_STARTING_SECONDS),
    "schedulers": Measure("count", "system", windowed=False, for_seconds=_STARTING_SECONDS),
    "lost_workers": Measure("count", "system"),
}


class Condition(str):
    """What a rule looks for, as it is written: "failure_rate > 5%". measure, op, threshold: its parts."""

    __slots__ = ("measure", "op", "threshold")

    measure: str
    op: str
    threshold: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """ValueError that says what cannot be, and what can."""
        found = _CONDITION.fullmatch(str(text))
        if found is None:
            raise ValueError(f'{text!r}: write a measure, one of > >= < <= and a value: "failure_rate > 5%"')
        name = found[1]
        if name not in MEASURES:
            hint = did_you_mean(name, tuple(MEASURES)) or f"; there are: {', '.join(MEASURES)}"
            raise ValueError(f'there is no measure "{name}"{hint}')
        made = cls(f"{name} {found[2]} {found[3]}")
        made.measure, made.op, made.threshold = name, found[2], parse_value(name, found[3])
        return made

    def holds(self, value: float) -> bool:
        """Whether a value is as the rule says."""
        return _compare(self.op, value, self.threshold)

    def is_over(self, value: float, clear: float) -> bool:
        """Whether a value is well again, where it has to come back to `clear`, or stand on the good side of it."""
        if clear == self.threshold:
            return not self.holds(value)
        return value <= clear if self.op[0] == ">" else value >= clear


def _compare(op: str, value: float, threshold: float) -> bool:
    if op[0] == ">":
        return value > threshold or (op == ">=" and value == threshold)
    return value < threshold or (op == "<=" and value == threshold)


def parse_value(measure: str, text: str | float) -> float:
    """What stands behind the sign, in the measure's unit: a share of 1, seconds, or a number. ValueError."""
    unit, said = MEASURES[measure].unit, str(text).strip()
    if unit == "seconds":
        return 0.0 if said in ("0", "0s") else parse_duration(said)
    if unit == "share":
        is_percent = said.endswith("%")
        number = said.removesuffix("%")
        share = float(number) / (100 if is_percent else 1) if _NUMBER.fullmatch(number) else math.nan
        if not 0 <= share <= 1:
            raise ValueError(f'{said!r} is no share of the calls; write "5%", or a number from 0 to 1')
        return share
    if not _NUMBER.fullmatch(said):
        raise ValueError(f"{said!r} is no number of {measure}; write 0, 10, 1000")
    return float(said)


class AlertTable(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"for_seconds": "for", "clear_at": "clear"},
):
    """[alerts.NAME]: what is looked for, in what, since how long, and who is told.

    function, queue: patterns, `*` for any letters. run: the function that is run with it. None: as [alerting] says, or
    the measure.
    """

    when: Condition
    function: str = ""
    queue: str = ""
    window: Seconds = Seconds(300)
    least: Annotated[int, msgspec.Meta(ge=1)] = 20
    for_seconds: SecondsOrNever | None = None
    clear_at: str | int | float | None = None
    clear_for: SecondsOrNever = SecondsOrNever(60)
    repeat: SecondsOrNever = SecondsOrNever(4 * 3600)
    resolve: bool = True
    enabled: bool = True
    webhook: Secret | None = None
    secrets: tuple[Secret, ...] | None = None
    command: tuple[str, ...] = ()
    run: str = ""


class AlertingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[alerting]: what holds for every alert that does not say otherwise.

    secrets: that sign what goes to webhooks. allow_private: whether a webhook may be at a private address.
    """

    webhook: Secret = Secret()
    secrets: tuple[Secret, ...] = ()
    allow_private: bool = False
    timeout: Seconds = Seconds(10)
    most_per_hour: Annotated[int, msgspec.Meta(ge=1)] = 60


def faults_of(name: str, table: AlertTable) -> Iterator[tuple[str, str]]:
    """What of a table cannot be: (field, what is wrong with it). Nothing secret is in the words."""
    if not ALERT_NAME.fullmatch(name):
        yield "", "a name is 1 to 100 letters, digits and any of _ . -; choose another"
    measure = MEASURES[table.when.measure]
    for field in ("function", "queue"):
        if getattr(table, field) and measure.about != field:
            yield field, f"{table.when.measure} is of no {field}; leave it out"
    if measure.windowed and not _LEAST_WINDOW_SECONDS <= table.window <= _DAY_SECONDS:
        yield "window", f"{table.window} is not between 1m and 1d: counts are kept by the minute, for a day"
    if table.for_seconds is not None and table.for_seconds > _DAY_SECONDS:
        yield "for", f"{table.for_seconds} is more than 1d"
    if table.command and not table.command[0]:
        yield "command", 'it names no program; write ["mail", "-s", "alert", "ops"]'
    found = {
        "clear": _clear_fault(table), "webhook": _url_fault(table.webhook or ""),
        "secrets": _secrets_fault(table.secrets or ()),
    }  # fmt: skip
    yield from ((field, fault) for field, fault in found.items() if fault)


def faults_of_all(given: AlertingSettings) -> Iterator[tuple[str, str]]:
    """The same of [alerting]."""
    found = {"webhook": _url_fault(given.webhook), "secrets": _secrets_fault(given.secrets)}
    yield from ((field, fault) for field, fault in found.items() if fault)


def clear_of(table: AlertTable) -> float:
    """The value at which a firing alert is well again."""
    return table.when.threshold if table.clear_at is None else parse_value(table.when.measure, table.clear_at)


def _clear_fault(table: AlertTable) -> str:
    try:
        clear = clear_of(table)
    except ValueError as error:
        return str(error)
    above = table.when.op[0] == ">"
    if (clear > table.when.threshold) if above else (clear < table.when.threshold):
        side = "above" if above else "below"
        return f'{table.clear_at} is {side} what "{table.when}" fires at; it would never be well'
    return ""


def _url_fault(url: str) -> str:
    """Why nothing can be sent there; "" if it can, or there is none. Without the URL, which may be a secret."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        bad = parts.scheme not in ("http", "https") or not parts.hostname or (parts.port == 0)
    except ValueError:
        bad = True
    return "it is no address; write https://host/path" if bad else ""


def _secrets_fault(secrets: Sequence[str]) -> str:
    """Why one of them cannot sign; "" if all can."""
    try:
        for one in secrets:
            secret_of(one)
    except FnrunError as error:
        return str(error)
    return ""
