"""`.env` and `.secrets`: NAME=value a line, as python-dotenv reads it, without interpolation. Read, and rewritten.

Read by the settings; rewritten by `fnrun secrets`, which keeps comments and order, and never leaves half a file.
"""

import fcntl
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from typing_extensions import override

from runtime.base.errors import SettingsError
from runtime.base.secrets.masking import MASK
from runtime.base.secrets.sealing import name_of

if TYPE_CHECKING:
    from dotenv.parser import Binding

ENV_FILE, SECRETS_FILE = ".env", ".secrets"
_OTHERS = stat.S_IRGRP | stat.S_IROTH


class Entry(msgspec.Struct, frozen=True):
    """One value of a file. place: ".secrets:3"."""

    name: str
    value: str
    place: str

    @override
    def __repr__(self) -> str:
        return f"Entry({self.name!r}, {MASK}, {self.place!r})"


def read_entries(path: Path) -> dict[str, Entry]:
    """What a file says, by name; nothing if it is not there. SettingsError with the line, never with the value."""
    text = _read(path)
    found: dict[str, Entry] = {}
    for line, binding in _bindings(text):
        place = f"{path.name}:{line}"
        if binding.error or (binding.key is not None and binding.value is None):
            raise SettingsError(f"{place}: NAME=value is expected, a # before a comment; quotes must be closed")
        if binding.key is None or binding.value is None:
            continue
        if binding.key in found:
            raise SettingsError(f"{place}: {binding.key} stands at {found[binding.key].place} already; keep one")
        found[binding.key] = Entry(binding.key, binding.value, place)
    return found


def is_readable_by_others(path: Path) -> bool:
    """Whether group or world may read a file."""
    try:
        return bool(path.stat().st_mode & _OTHERS)
    except OSError:
        return False


def rewrite(path: Path, change: Callable[[Entry], str], added: Iterable[tuple[str, str]] = ()) -> None:
    """Write a file anew, with the values that `change` gives; all at once or not at all.

    added: names and values that are written at its end, unless the name, or its setting, stands there already.

    Values must be such as need no quotes. A new file is its owner's alone. SettingsError.
    """
    with _alone(path):
        text, entries = _read(path), read_entries(path)
        parts = []
        for _, binding in _bindings(text):
            written = binding.original.string
            if binding.key is not None:
                old = entries[binding.key]
                new = change(old)
                written = written if new == old.value else _replaced(written, old, new)
            parts.append(written)
        whole = "".join(parts)
        known = {name_of(name) for name in entries}
        for name, value in added:
            if name_of(name) in known:
                continue
            whole += ("" if not whole or whole.endswith("\n") else "\n") + f"{name}={value}\n"
        _write(path, whole)


def _replaced(written: str, old: Entry, new: str) -> str:
    if written.count(old.value) == 1:  # it stands there as it is: what is around it stays, too
        return written.replace(old.value, new)
    space = written[: len(written) - len(written.lstrip())]
    export = "export " if written.lstrip().startswith("export ") else ""
    return f"{space}{export}{old.name}={new}\n"


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise SettingsError(f"{path.name} is not UTF-8 text; write it as that") from None
    except OSError as error:
        raise SettingsError(f"{path.name} cannot be read: {error.strerror}") from None


def _bindings(text: str) -> "Iterator[tuple[int, Binding]]":
    """What stands in a file, in order, comments too, each with its line."""
    if not text:
        return
    from dotenv.parser import parse_stream  # noqa: PLC0415 - most projects have no such file

    for binding in parse_stream(io.StringIO(text)):
        written = binding.original.string
        before = written[: len(written) - len(written.lstrip())]
        yield binding.original.line + before.count("\n"), binding


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let no other command write files of this folder in the meantime."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: Path, text: str) -> None:
    target = path.resolve()  # a link stays one
    draft = target.with_name(f"{target.name}.new")  # of one writer at a time; what a killed one left is written over
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o600
        with os.fdopen(
            os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w", encoding="utf-8"
        ) as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise SettingsError(f"{path.name} cannot be written: {error.strerror}; make its folder writable") from error
