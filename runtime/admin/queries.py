"""Read what callers of the runtime's own endpoints ask for: queries and JSON bodies, each fault under its name.

Called by the admin API. Unknown names are refused: one misspelt would select more than was meant.
"""

import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import msgspec

from runtime.admin.access.recording import note
from runtime.base.durations import parse_duration
from runtime.base.errors import InputError, did_you_mean
from runtime.declare.request import Request
from runtime.ledger.records import State

Q = TypeVar("Q", bound=msgspec.Struct)

MOST_RUNS = 1000
_MOST_TOLD = 20
STATES: tuple[State, ...] = get_args(State)
Verb = Literal["cancel", "redrive", "purge"]
STATES_OF: Mapping[Verb, tuple[tuple[State, ...], tuple[State, ...]]] = {
    "cancel": (("scheduled", "queued", "running", "retrying"),) * 2,
    "redrive": (("failed",), ("failed", "cancelled")),
    "purge": (("succeeded", "failed", "cancelled"),) * 2,
}
"""Which states an act on many runs is for if none is said, and which may be said."""
DONE = frozenset({"cancelled", "cancelling", "queued", "purged"})
"""What the ledger says of a run that was acted on as was wished."""
REFUSED_MESSAGE = "a refused message cannot be run: purge it, and have it sent again"
"""What is said of a run that is `refused`."""

_Limit = Annotated[int, msgspec.Meta(ge=1, le=MOST_RUNS)]
_CURSOR = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?:\S.{0,499}")
_DATE = re.compile(r"[0-9]{4}-")
_UNESCAPED_PLUS = re.compile(r"(T.*) (\d\d:\d\d)")
_PARTS = re.compile(r"\$\.?([^.\[]*)")


class RunQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which runs. state: each may be several, with commas. since: a duration or a date-time. parent: a run's id."""

    function: list[str] = []
    state: list[str] = []
    trigger: str = ""
    parent: str = ""
    since: str = ""
    limit: _Limit = 50
    cursor: str = ""


class Chosen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Runs to act on: by their ids, or as a RunQuery says."""

    ids: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MOST_RUNS)] | None = None
    function: str | list[str] = []
    state: str | list[str] = []
    trigger: str = ""
    since: str | float = ""
    limit: _Limit = MOST_RUNS
    cursor: str = ""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """A RunQuery, checked. since: seconds since the epoch, 0 for all."""

    functions: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    trigger: str = ""
    parent: str = ""
    since: float = 0.0
    limit: int = MOST_RUNS
    cursor: str = ""


def read_query(request: Request, kind: type[Q]) -> Q:
    """The query string as a record: lists take every value, the last of others counts. InputError (422)."""
    hints = get_type_hints(kind)
    given: dict[str, Any] = {}
    for name, values in request.query.items():
        if name not in hints:
            raise fault("query", name, f"there is no such parameter{_hint(name, hints)}")
        given[name] = values if hints[name] == list[str] else values[-1]
    return _convert("query", given, kind, strict=False)


async def read_body(request: Request, kind: type[Q]) -> Q:
    """A JSON object as a record. InputError (400, 422)."""
    given = await request.json() if await request.body() else {}
    if not isinstance(given, dict):
        raise InputError(422, "the body is one JSON object")
    for name in given:
        if name not in kind.__struct_encode_fields__:
            raise fault("body", name, f"there is no such field{_hint(name, kind.__struct_encode_fields__)}")
    said = _convert("body", given, kind, strict=True)
    note(**{name: value for name, value in given.items() if isinstance(value, str | int | float)}, **_chosen(given))
    return said


def _chosen(given: dict[str, Any]) -> dict[str, Any]:
    """What an act on many was told to act on, for the audit log, which need not hold a thousand ids."""
    ids, state = given.get("ids") or [], given.get("state")
    told: dict[str, Any] = {"state": state} if isinstance(state, list) else {}
    if len(ids) == 1:
        return {**told, "id": ids[0]}
    if ids:
        told |= {"ids": ids[:_MOST_TOLD], "count": len(ids)}
    return told


def select(
    place: str, asked: RunQuery | Chosen, default: Sequence[State] = (), allowed: Sequence[State] = STATES
) -> Selection:
    """What is asked for, checked. InputError (422). default, allowed: states. place: "query" or "body"."""
    said = [part.strip() for one in _listed(asked.state) for part in one.split(",") if part.strip()]
    states: list[State] = []
    for name in said:
        found = next((state for state in allowed if state == name), None)
        if found is None:
            raise fault(place, "state", f'"{name}" is no state that can be asked for here{_hint(name, allowed)}')
        states.append(found)
    if asked.cursor and not _CURSOR.fullmatch(asked.cursor):
        raise fault(place, "cursor", "it is not a cursor; send the one of the page before, as it came")
    return Selection(
        functions=tuple(name for name in _listed(asked.function) if name),
        states=tuple(states or default),
        trigger=asked.trigger,
        parent=asked.parent if isinstance(asked, RunQuery) else "",
        since=seconds_since(place, asked.since),
        limit=asked.limit,
        cursor=asked.cursor,
    )


def fault(place: str, name: str, detail: str, path: str = "$") -> InputError:
    """One wrong parameter."""
    return InputError(422, "what is asked for cannot be", [{"in": place, "name": name, "path": path, "detail": detail}])


def seconds_since(place: str, text: str | float) -> float:
    """Since when, in seconds since 1970: of a duration or a date-time; 0 for "". InputError (422)."""
    if text == "":
        return 0.0
    if isinstance(text, str) and _DATE.match(text):
        try:
            # A + that was not escaped in a query is a space.
            when = msgspec.convert(_UNESCAPED_PLUS.sub(r"\1+\2", text), datetime)
        except msgspec.ValidationError:
            when = None
        if when is None or when.tzinfo is None:
            raise fault(place, "since", f'"{text}" is no date-time with an offset, as "2026-11-22T10:00:00Z" is')
        return max(0.0, when.timestamp())
    try:
        return max(0.0, time.time() - parse_duration(text))
    except ValueError:
        raise fault(
            place, "since", f'"{text}" is neither a duration ("30m", "2d") nor a date-time ("2026-11-22T10:00:00Z")'
        ) from None


def _convert(place: str, given: Mapping[str, Any], kind: type[Q], *, strict: bool) -> Q:
    try:
        return msgspec.convert(given, kind, strict=strict)
    except msgspec.ValidationError as error:
        detail, _, path = str(error).partition(" - at `")
        path = path.removesuffix("`") or "$"
        match = _PARTS.match(path)
        raise fault(place, match[1] if match else "", detail, path) from None


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _hint(name: str, known: Any) -> str:
    return did_you_mean(name, known) or f"; there are: {', '.join(known)}"
