"""Triggers as data: what starts a function. Written by the decorators, read by the loader and every role.

Pure records, frozen. Knows nothing of servers, brokers or schedulers.
"""

from collections.abc import Callable
from datetime import datetime
from inspect import isfunction
from typing import Any, Literal

import msgspec
from typing_extensions import override

from runtime.base.schedules import Missed
from runtime.declare.policies import Policy

Auth = Literal["public", "key", "signed"]
OnDisconnect = Literal["cancel", "finish"]
Overlap = Literal["skip", "queue", "allow"] | int

ATTRIBUTE = "__fnrun__"
"""Where a decorated function carries its Declaration."""


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """What every trigger says. line: of its decorator, 1-based. timeout_seconds: overrides the function's."""

    line: int
    timeout_seconds: float | None = None

    @property
    def kind(self) -> str:
        """ "http", "cron", "interval", "at" or "queue"."""
        return type(self).__name__.lower()


class Http(Trigger, frozen=True, kw_only=True):
    """A route. path: None for the function's own name. status: of a success; None for 200, or 204 without a body.

    on_disconnect: what becomes of the handler when its client goes away; None: GET and HEAD are cancelled.
    """

    methods: tuple[str, ...]
    path: str | None = None
    status: int | None = None
    auth: Auth | None = None
    max_body_bytes: int | None = None
    on_disconnect: OnDisconnect | None = None

    @override
    def __str__(self) -> str:
        return f"{','.join(self.methods)} {self.path or ''}".strip()


class Schedule(Trigger, frozen=True, kw_only=True):
    """What cron, interval and at share; None: as [schedule] says.

    payload: arguments by name. name: what the id of a schedule declared in code ends with, if it is to be lasting.
    id: of one from a table [schedules.id] of functions.toml, where `line` is (0: not known).
    """

    payload: dict[str, Any] = {}
    name: str | None = None
    id: str = ""
    missed: Missed | None = None
    overlap: Overlap | None = None
    jitter_seconds: float | None = None
    window_seconds: float | None = None


class Cron(Schedule, frozen=True, kw_only=True):
    """A cron rule of five fields, or six with seconds first, in a time zone (None: the setting's)."""

    rule: str
    tz: str | None = None

    @override
    def __str__(self) -> str:
        return f'cron "{self.rule}"' + (f" {self.tz}" if self.tz else "")


class Interval(Schedule, frozen=True, kw_only=True):
    """Every so many seconds, counted from the epoch."""

    every_seconds: float

    @override
    def __str__(self) -> str:
        return f"every {self.every_seconds:g} s"


class At(Schedule, frozen=True, kw_only=True):
    """Once, at an instant (aware)."""

    when: datetime

    @override
    def __str__(self) -> str:
        return f"at {self.when.isoformat()}"


class Queue(Trigger, frozen=True, kw_only=True):
    """Runs that arrive on a queue."""

    name: str

    @override
    def __str__(self) -> str:
        return f'queue "{self.name}"'


class Declaration(msgspec.Struct):
    """All that the decorators of one function said. policy_line: of `@fn`, if there is one."""

    triggers: list[Trigger] = msgspec.field(default_factory=list)
    policy: Policy = Policy()
    policy_line: int | None = None


def declaration_of(function: object) -> Declaration | None:
    """What the decorators attached to `function`; None where there are none."""
    found = getattr(function, ATTRIBUTE, None) if isfunction(function) else None
    return found if isinstance(found, Declaration) else None


_declared: dict[str, list[tuple[Callable[..., Any], Declaration]]] = {}


def declare(function: Callable[..., Any]) -> Declaration:
    """The declaration of a function, attached now if it has none. Also kept until the loader has seen the module."""
    found = declaration_of(function)
    if found is None:
        found = Declaration()
        setattr(function, ATTRIBUTE, found)
        _declared.setdefault(function.__module__, []).append((function, found))
    return found


def forget_declared() -> None:
    """Forget what earlier loads left."""
    _declared.clear()


def take_declared(module: str) -> list[tuple[Callable[..., Any], Declaration]]:
    """Every function declared in a module since it was last asked, whether or not its name still leads to it."""
    return _declared.pop(module, [])
