"""What every line passes: secrets are hidden in it, and whoever keeps the lines of runs is given it.

keep_with is called by the worker, and in a cell for each job.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from runtime.base.secrets.masking import hides, mask

Keep = Callable[[str, bytes], None]
"""Told of each line that has a run id: that, and the line as a `Line` in JSON. From any thread; raises nothing."""

_LONGEST_TEXT = 16_000
_LONGEST_FIELDS = 16_000
_OWN = frozenset({"event", "level", "timestamp", "exception", "run_id", "function", "trigger", "attempt", "trace_id"})


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line as it is kept. time: seconds since the epoch. exception: a traceback."""

    time: float
    level: str
    text: str
    attempt: int = 1
    exception: str = ""
    fields: dict[str, Any] = {}


_encode = msgspec.json.Encoder(enc_hook=repr).encode

_keep: Keep | None = None


def masked(value: Any) -> Any:
    """A value of a line with no secret in any text of it.

    Once in JSON, a secret with a quote would not be known, and one of digits would be cut out of a number.
    """
    if not hides():
        return value
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {masked(name): masked(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [masked(one) for one in value]
    if value is None or isinstance(value, bool):
        return value
    text = mask(said := repr(value))
    return value if isinstance(value, int | float) and text == said else text


def keep_with(keep: Keep | None) -> None:
    """Have lines that belong to a run kept; by nobody: None."""
    global _keep  # noqa: PLW0603 - one a process
    _keep = keep


if hasattr(os, "register_at_fork"):  # a handler's own fork: who keeps lines is not there, and may hold a lock for ever
    os.register_at_fork(after_in_child=partial(keep_with, None))


def keeps() -> bool:
    """Whether somebody keeps lines here."""
    return _keep is not None


def keep(run_id: str, line: bytes) -> None:
    """Give a line to whoever keeps it."""
    if _keep is not None:
        _keep(run_id, line)


def line_of(time: float, event: Mapping[str, Any]) -> bytes:
    """What is kept of a line, as JSON. Long texts are cut; fields that are too long go."""
    fields = {name: value for name, value in event.items() if name not in _OWN and not name.startswith("_")}
    attempt = event.get("attempt", 1)
    line = Line(
        time=time,
        level=str(event.get("level", "info")),
        text=_cut(mask(str(event.get("event", "")))),
        attempt=attempt if isinstance(attempt, int) else 1,
        exception=_cut(mask(str(event.get("exception") or "")), from_end=True),
        fields=masked(fields),
    )
    try:
        if len(_encode(line.fields)) > _LONGEST_FIELDS:
            raise ValueError("too long")  # noqa: TRY301 - as what cannot be written
        return _encode(line)
    except (TypeError, ValueError, RecursionError):  # a key that is no text, a half of a surrogate pair
        names = ", ".join(map(str, line.fields))
        told = msgspec.structs.replace(line, text=_plain(line.text), exception=_plain(line.exception))
        return _encode(msgspec.structs.replace(told, fields={"left out": _cut(_plain(names))}))


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _cut(text: str, *, from_end: bool = False) -> str:
    """At most so much; of a traceback the end says what it was."""
    if len(text) <= _LONGEST_TEXT:
        return text
    left = len(text) - _LONGEST_TEXT
    return f"[{left} more] …{text[-_LONGEST_TEXT:]}" if from_end else f"{text[:_LONGEST_TEXT]}… [{left} more]"
