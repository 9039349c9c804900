"""[schedules.ID] of functions.toml, given to the functions they name, as triggers like those that code declares.

Called by the loader. A table that cannot be is left out alone, and told as a failure; its function is served.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from runtime.base.errors import DeclarationError, did_you_mean
from runtime.base.schedules import ScheduleTable
from runtime.base.settings import FILE_NAME
from runtime.declare.files import check_trigger
from runtime.declare.registry import Function, LoadFailure
from runtime.declare.timing.rules import check_instant, check_interval, check_rule, check_zone
from runtime.declare.timing.schedules import schedule_id
from runtime.declare.triggers import At, Cron, Interval, Schedule

_Attached = tuple[Function, tuple[LoadFailure, ...]]

_HEAD = re.compile(r"""\s*\[\s*schedules\s*\.\s*(["']?)(?P<key>[^"'\]]+?)\1\s*\]""")


class Tables:
    """The tables of a project. zone: of rules that say none."""

    def __init__(self, root: Path, tables: Mapping[str, ScheduleTable], zone: str) -> None:
        self._root = root
        self._tables = tables
        self._zone = zone
        # What came of a function before, so that one that is not changed by a reload stays the same object.
        self._known: dict[str, tuple[Function, tuple[str, ...], _Attached]] = {}

    def attach(self, functions: dict[str, Function], may_be: Callable[[str], bool]) -> Iterator[LoadFailure]:
        """Put functions with their schedules in place of those without; what cannot be.

        may_be: whether there may be a function of that name, though it is not served.
        """
        declared = {one: place for function in functions.values() for one, place in self._ids_of(function)}
        wanted: dict[str, list[str]] = {}
        for key, table in self._tables.items():
            if table.function in functions and key not in declared:
                wanted.setdefault(table.function, []).append(key)
            elif key in declared:
                yield self._failure(key, f"a schedule at {declared[key]} has this id; choose another")
            elif not may_be(table.function):
                hint = did_you_mean(table.function, functions)
                yield self._failure(key, f'no function "{table.function}" is loaded{hint}')
        for name, keys in wanted.items():
            function, failures = self._attached(functions[name], tuple(keys))
            functions[name] = function
            yield from failures

    def _ids_of(self, function: Function) -> Iterator[tuple[str, str]]:
        for trigger in function.triggers:
            if isinstance(trigger, Schedule):
                yield schedule_id(function.name, trigger, self._zone), f"{function.file}:{trigger.line}"

    def _attached(self, function: Function, keys: tuple[str, ...]) -> _Attached:
        known = self._known.get(function.name)
        if known is not None and known[0] is function and known[1] == keys:
            return known[2]
        triggers = list(function.triggers)
        failures: list[LoadFailure] = []
        for key in keys:
            try:
                trigger = _trigger(key, self._tables[key], self._lines.get(key, 0))
                check_trigger(function, trigger)
                triggers.append(trigger)
            except DeclarationError as error:
                failures.append(self._failure(key, str(error)))
        found = msgspec.structs.replace(function, triggers=tuple(triggers)), tuple(failures)
        self._known[function.name] = function, keys, found
        return found

    def _failure(self, key: str, message: str) -> LoadFailure:
        return LoadFailure(file=FILE_NAME, line=self._lines.get(key), message=f"[schedules.{_shown(key)}]: {message}")

    @cached_property
    def _lines(self) -> dict[str, int]:
        """Where each table begins; without those that are written in another way than with a head of their own."""
        try:
            lines = (self._root / FILE_NAME).read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError):  # it was there when the settings were read
            return {}
        found = ((number, _HEAD.match(line)) for number, line in enumerate(lines, 1))
        return {head["key"]: number for number, head in found if head is not None}


def _shown(key: str) -> str:
    """A key as TOML has it."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"'


def _trigger(key: str, table: ScheduleTable, line: int) -> Schedule:
    said = [kind for kind in ("cron", "interval", "at") if getattr(table, kind) is not None]
    if len(said) != 1:
        raise DeclarationError(f"it says {' and '.join(said) or 'not when'}; write one of cron, interval and at")
    if table.tz is not None and table.cron is None:
        raise DeclarationError(f"tz is for cron, and this has {said[0]}; leave tz out")
    shared: dict[str, Any] = {
        "line": line,
        "id": key,
        "payload": table.payload,
        "missed": table.missed,
        "overlap": None if table.overlap is None else table.overlap.value,
        "jitter_seconds": _float(table.jitter),
        "window_seconds": _float(table.window),
        "timeout_seconds": _float(table.timeout),
    }
    if table.cron is not None:
        return Cron(rule=check_rule(table.cron), tz=table.tz if table.tz is None else check_zone(table.tz), **shared)
    if table.interval is not None:
        return Interval(every_seconds=check_interval(table.interval), **shared)
    return At(when=check_instant(table.at), **shared)


def _float(seconds: float | None) -> float | None:
    return None if seconds is None else float(seconds)
