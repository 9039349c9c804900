"""What `submit.using(...)` and `step.using(...)` take, checked before anything is accepted.

Used by submit and flows. Pure.
"""

import re
from datetime import datetime
from typing import Any, Literal, TypedDict

import msgspec

from runtime.base.durations import Duration, parse_duration
from runtime.base.errors import DeclarationError, SubmitError, did_you_mean
from runtime.base.web.places import Refused, check_url
from runtime.declare.timing.rules import check_queue

RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MOST_URGENT = 9
_LONGEST_DEDUPE = 512


class Using(TypedDict, total=False):
    """How a run is submitted. What is None, or not said, is as the function says.

    queue: its name. priority: 0 to 9, 9 the most urgent; 5 if not said. delay: a duration. at: a date with an offset,
    ISO 8601 or aware. id: of the run: 1 to 64 of A-Z a-z 0-9 _ -; if there is such a run, that one is returned. dedupe:
    of the runs of a function that say the same within 24 h, only the first is accepted. max_age: if it has not begun so
    long after it was due, it fails with "expired". callback: a URL that is told, signed, how it ended.
    """

    queue: str | None
    priority: int | None
    delay: Duration | None
    at: str | datetime | None
    id: str | None
    dedupe: str | None
    max_age: Duration | None
    callback: str | None


class StepUsing(TypedDict, total=False):
    """How a step of a flow is run. What is None, or not said, is as the submit of the flow says, else the function.

    queue: its name. priority: 0 to 9, 9 the most urgent. delay: a duration, from when it could begin. max_age: if it
    has not begun so long after that, it fails with "expired".
    """

    queue: str | None
    priority: int | None
    delay: Duration | None
    max_age: Duration | None


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The same, read. due: seconds since the epoch."""

    queue: str | None = None
    priority: int | None = None
    delay_seconds: float = 0.0
    due: float | None = None
    id: str | None = None
    dedupe: str = ""
    max_age_seconds: float | None = None
    callback: str = ""


def options_of(using: Using | StepUsing, what: Literal["submit", "step"] = "submit") -> Options:
    """The checked options of what is called. SubmitError names the option and the fix."""
    there_are = (Using if what == "submit" else StepUsing).__annotations__
    given: dict[str, Any] = {name: value for name, value in using.items() if value is not None}
    for name in given.keys() - there_are.keys():
        hint = did_you_mean(name, there_are) or f"; there are {', '.join(there_are)}"
        raise SubmitError(f"{what}.using: unknown option {name!r}{hint}")
    if "delay" in given and "at" in given:
        raise SubmitError("submit.using(delay=, at=): both say when; write one of them")
    read: dict[str, Any] = {}
    for name, value in given.items():
        field, reader = _READERS[name]
        try:
            read[field] = reader(value)
        except (ValueError, TypeError, OverflowError, DeclarationError) as error:
            raise SubmitError(f"{what}.using({name}={value!r}): {error}") from None
    return Options(**read)


def _priority(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_URGENT:
        raise ValueError("a whole number from 0 to 9, 9 the most urgent")
    return value


def _delay(value: Any) -> float:
    return 0.0 if value == 0 else parse_duration(value)


def _due(value: Any) -> float:
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:  # "Invalid isoformat string" names no way out
        when = None
    if not isinstance(when, datetime) or when.tzinfo is None:
        raise ValueError(
            'a date with an offset, "2030-01-01T02:00:00+00:00" or an aware datetime, so that it is one instant'
        )
    return when.timestamp()


def _id(value: Any) -> str:
    if not (isinstance(value, str) and RUN_ID.fullmatch(value)):
        raise ValueError("1 to 64 letters, digits, _ and -")
    return value


def _dedupe(value: Any) -> str:
    if not (isinstance(value, str) and 0 < len(value) <= _LONGEST_DEDUPE):
        raise ValueError(f"a text of 1 to {_LONGEST_DEDUPE} characters, what makes the run one of its kind")
    value.encode()  # a lone surrogate is a ValueError
    return value


def _callback(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError('a URL, "https://example.com/hook"')
    try:
        check_url(value)
    except Refused as refused:
        raise ValueError(str(refused)) from None
    return value


_READERS = {
    "queue": ("queue", check_queue),
    "priority": ("priority", _priority),
    "delay": ("delay_seconds", _delay),
    "at": ("due", _due),
    "id": ("id", _id),
    "dedupe": ("dedupe", _dedupe),
    "max_age": ("max_age_seconds", parse_duration),
    "callback": ("callback", _callback),
}
