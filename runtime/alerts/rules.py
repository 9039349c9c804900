"""What a rule is about, and what it finds: pure, of facts that were gathered.

Made of the settings; used by the watch, by the admin API and by the judge. Knows no store and no time of its own.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from runtime.base.errors import UnknownFunction
from runtime.base.sections import Settings
from runtime.base.tables.alerts import MEASURES, AlertTable, Condition, Unit, clear_of
from runtime.base.webhooks import secret_of
from runtime.ledger.minutes import Row
from runtime.ledger.views import QueueView

_MINUTE = 60
_BAD = ("failed", "timeout", "crashed")
_CALLS = ("succeeded", *_BAD)


class Channels(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told. Nothing of it is in the store: a webhook may be a secret."""

    webhook: str = ""
    secrets: tuple[bytes, ...] = ()
    command: tuple[str, ...] = ()
    run: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Those there are."""
        return tuple(name for name in ("webhook", "command", "run") if getattr(self, name))


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule. pattern: which functions, or queues, it is about. Seconds, all of them; repeat_seconds: 0 for never."""

    name: str
    when: Condition
    pattern: str = "*"
    clear_at: float = 0.0
    window_seconds: float = 300.0
    for_seconds: float = 0.0
    clear_seconds: float = 60.0
    repeat_seconds: float = 0.0
    least: int = 20
    resolve: bool = True
    channels: Channels = Channels()

    @property
    def about(self) -> str:
        """What its subjects are: "function", "queue" or "system"."""
        return MEASURES[self.when.measure].about

    @property
    def unit(self) -> Unit:
        """Of its values."""
        return MEASURES[self.when.measure].unit


class Found(msgspec.Struct, frozen=True):
    """What a rule measured of a subject. value: None where there is too little to tell. detail: for people."""

    value: float | None
    detail: str = ""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a system at a moment (seconds since the epoch, by the store's clock).

    rows: what was counted by the minute. functions: those that are known. dead: dead letters of each function within
    so many seconds. lost: workers that went without a word, and when. away: processes and queues are not known.
    """

    now: float
    functions: frozenset[str] = frozenset()
    rows: Sequence[Row] = ()
    dead: Mapping[float, Mapping[str, int]] = {}
    queues: Sequence[QueueView] = ()
    workers: int = 0
    schedulers: int = 0
    lost: Sequence[tuple[str, float]] = ()


def rules_of(settings: Settings) -> dict[str, Rule]:
    """The rules that are switched on, by name."""
    return {name: _rule(name, table, settings) for name, table in settings.alerts.items() if table.enabled}


def _rule(name: str, table: AlertTable, settings: Settings) -> Rule:
    secrets = settings.alerting.secrets if table.secrets is None else table.secrets
    return Rule(
        name=name,
        when=table.when,
        pattern=table.function or table.queue or "*",
        clear_at=clear_of(table),
        window_seconds=float(table.window),
        for_seconds=MEASURES[table.when.measure].for_seconds if table.for_seconds is None else float(table.for_seconds),
        clear_seconds=float(table.clear_for),
        repeat_seconds=float(table.repeat),
        least=table.least,
        resolve=table.resolve,
        channels=Channels(
            webhook=settings.alerting.webhook if table.webhook is None else table.webhook,
            secrets=tuple(secret_of(one) for one in secrets),
            command=table.command,
            run=table.run,
        ),
    )


def unknown_runs(settings: Settings, names: Collection[str]) -> list[str]:
    """What is wrong with the functions that rules would have run, in sentences. names: those that there are."""
    return [
        f'functions.toml: alerts."{name}".run: {UnknownFunction(table.run, names)}'
        for name, table in settings.alerts.items()
        if table.enabled and table.run and table.run not in names
    ]


def first_minute(now: float, window_seconds: float) -> int:
    """The oldest minute that a window touches: it is looked at whole, so a window is up to a minute longer."""
    return int((now - window_seconds) // _MINUTE)


def measure(rule: Rule, facts: Facts) -> dict[str, Found]:
    """What a rule finds, by function or queue; "" where it is about the system."""
    if rule.about == "function":
        return _of_functions(rule, facts)
    if rule.about == "queue":
        return _of_queues(rule, facts)
    return {"": _of_system(rule, facts)}


def _of_functions(rule: Rule, facts: Facts) -> dict[str, Found]:
    if rule.when.measure == "dead_letters":
        dead = facts.dead.get(rule.window_seconds, {})
        names = facts.functions | dead.keys()
        return {name: Found(float(dead.get(name, 0))) for name in matching(rule, names)}
    since = first_minute(facts.now, rule.window_seconds)
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in facts.rows:
        if row.minute >= since:
            counts[row.function][row.what] += row.number
    return {name: _count(rule, counts[name]) for name in matching(rule, facts.functions | counts.keys())}


def _count(rule: Rule, counts: Counter[str]) -> Found:
    value, calls = _COUNTED[rule.when.measure](counts), _sum(counts, _CALLS)
    if not MEASURES[rule.when.measure].shared:
        return Found(float(value))
    if calls < rule.least:
        return Found(None, f"{calls} calls, fewer than {rule.least}")
    return Found(value / calls, f"of {calls} calls")


def _sum(counts: Counter[str], names: Iterable[str]) -> int:
    return sum(counts[name] for name in names)


_COUNTED: Mapping[str, Callable[[Counter[str]], float]] = {
    "failure_rate": lambda counts: _sum(counts, _BAD),
    "failures": lambda counts: _sum(counts, _BAD),
    "timeouts": lambda counts: counts["timeout"],
    "retries": lambda counts: counts["retried"],
    "calls": lambda counts: _sum(counts, _CALLS),
    "mean_duration": lambda counts: counts["ms"] / 1000,
    "loop_blocked": lambda counts: counts["blocked"],
    "missed_ticks": lambda counts: counts["missed"],
}


def _of_queues(rule: Rule, facts: Facts) -> dict[str, Found]:
    views = {view.name: view for view in facts.queues}
    named = {rule.pattern} if "*" not in rule.pattern else set()
    found = {}
    for name in matching(rule, views.keys() | named):
        view = views.get(name)
        if rule.when.measure == "backlog_age":
            found[name] = Found(view.age_seconds if view else 0.0, f"{view.ready} wait" if view else "")
        else:
            found[name] = Found(float(view.ready + view.limited + view.unknown) if view else 0.0)
    return found


def _of_system(rule: Rule, facts: Facts) -> Found:
    if rule.when.measure != "lost_workers":
        return Found(float(facts.workers if rule.when.measure == "workers" else facts.schedulers))
    lost = [name for name, at in facts.lost if at >= facts.now - rule.window_seconds]
    return Found(float(len(lost)), ", ".join(lost[:5]))


def matching(rule: Rule, names: Iterable[str]) -> list[str]:
    """Those of them that a rule is about, in order."""
    return sorted(name for name in names if fnmatchcase(name, rule.pattern))
