"""Errors that were raised in a cell, as values that travel, and made errors again by its worker.

Used by calls and inside. Never by pickle: what a handler says shall run no code in another process. An error is one of
a class that the worker has loaded itself, made without its __init__, with such attributes as JSON can say.
"""

import sys
import traceback
from collections.abc import Hashable
from contextlib import suppress
from functools import lru_cache
from types import BuiltinFunctionType
from typing import Any, cast

import msgspec

from runtime.base.secrets.masking import mask

_LONGEST_MESSAGE = 4_000
_LONGEST_TRACEBACK = 20_000
_MOST_ATTRIBUTES = 64_000
_MOST_CLASSES = 256
_DEEPEST = 50


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error. classes: module and name of its class, and of those above it. args, attributes: in MessagePack."""

    classes: list[tuple[str, str]]
    message: str
    traceback: str
    args: bytes = b""
    attributes: bytes = b""


class CellTraceback(Exception):  # noqa: N818 - it stands for one
    """The cause of an error that was raised in a cell: what its traceback was there."""


def fault_of(error: BaseException) -> Fault:
    """An error as a value. Whatever its class does when it is asked, this raises nothing."""
    message, lines = said_of(error)
    kinds = [one for one in type(error).__mro__ if issubclass(one, BaseException)]
    args, attributes = b"", b""
    with suppress(Exception):
        args = _packed([_plain(one) for one in error.args])
        said = {name: _plain(value) for name, value in error.__dict__.items()}
        attributes = _packed({name: value for name, value in said.items() if value is not _NOT_PLAIN})
    return Fault(
        classes=[(str(one.__module__), str(one.__qualname__)) for one in kinds],
        message=message,
        traceback=lines,
        args=args,
        attributes=attributes,
    )


def error_of(fault: Fault) -> BaseException:
    """The error again. Its str is what it was, and so is the name of its class, where that is not loaded here, too."""
    name = fault.classes[0][1].rpartition(".")[2] if fault.classes else "Exception"
    kind, is_its_own = _known(fault)
    args = _unpacked(fault.args, [])
    error = _made(kind, args)
    for attribute, value in _unpacked(fault.attributes, {}).items():
        with suppress(Exception):
            error.__dict__[attribute] = value
    if not is_its_own or said_of(error)[0] != fault.message:
        error = _made(_named(cast("Hashable", kind), name), args, error.__dict__ | {"fnrun_message": fault.message})
    error.__cause__ = CellTraceback(fault.traceback)
    return error


def said_of(error: BaseException) -> tuple[str, str]:
    """The message and the traceback of an error, cut, without secrets. One whose `__str__` raises has no message."""
    try:
        message = str(error)
    except BaseException as another:  # noqa: BLE001 - an author's code, a SystemExit among it
        message = f"(its __str__ raised {type(another).__name__})"
    try:
        told = error.__cause__
        is_far = isinstance(told, CellTraceback)
        lines = str(told) if is_far else "".join(traceback.format_exception(error, limit=-_DEEPEST))
    except BaseException:  # noqa: BLE001 - as above
        lines = ""
    # Masked before they are cut: half a secret would be found by nobody.
    return mask(_writable(message))[:_LONGEST_MESSAGE], mask(_writable(lines))[-_LONGEST_TRACEBACK:]


def _writable(text: str) -> str:
    """Without lone surrogates, which have no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


_NOT_PLAIN = object()


def _plain(value: Any) -> Any:
    """A value as JSON has it; _NOT_PLAIN for one that JSON cannot say."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except Exception:  # noqa: BLE001 - types of the author's own
        return _NOT_PLAIN


def _packed(value: Any) -> bytes:
    try:
        packed = msgspec.msgpack.encode(value)
    except TypeError:  # something in it is not plain
        return b""
    return packed if len(packed) <= _MOST_ATTRIBUTES else b""


def _unpacked(packed: bytes, default: Any) -> Any:
    try:
        return msgspec.msgpack.decode(packed, type=type(default)) if packed else default
    except msgspec.DecodeError:
        return default


def _known(fault: Fault) -> tuple[type[BaseException], bool]:
    """The nearest of its classes that is loaded here and made as exceptions are; whether it is the error's own."""
    for place, (module, name) in enumerate(fault.classes):
        found: Any = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if isinstance(found, type) and issubclass(found, BaseException) and _is_plain(found):
            return found, place == 0
    return Exception, False


def _is_plain(kind: type[BaseException]) -> bool:
    """Whether no code of its author's runs when one is made; a group's would want its errors."""
    return isinstance(kind.__new__, BuiltinFunctionType) and not issubclass(kind, BaseExceptionGroup)


def _made(kind: type[BaseException], args: list[Any], attributes: dict[str, Any] | None = None) -> BaseException:
    try:
        error = kind.__new__(kind, *args)
    except Exception:  # noqa: BLE001 - OSError, for one, looks at them
        error = kind.__new__(kind)
    error.__dict__.update(attributes or {})
    return error


@lru_cache(_MOST_CLASSES)
def _named(kind: Hashable, name: str) -> type[BaseException]:
    """A class below `kind` of that name, which says what it is told to."""
    try:
        return type(
            name,
            (cast("type[BaseException]", kind),),
            {"__str__": lambda self: self.__dict__["fnrun_message"], "__slots__": ()},
        )
    except Exception:  # noqa: BLE001 - a metaclass, or __init_subclass__, of the author's own
        return type(name, (Exception,), {"__str__": lambda self: self.__dict__["fnrun_message"]})
