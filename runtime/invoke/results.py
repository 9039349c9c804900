"""Write results as JSON, strictly: what JSON cannot say is refused, and never written as something else.

Called by the HTTP answers, the CLI and the queue's worker.
"""

import json
from collections.abc import Callable
from typing import Any

import msgspec

from runtime.base.errors import FnrunError
from runtime.declare.signatures.parameters import walk_types

_encode = msgspec.json.Encoder().encode
_Hook = Callable[[Any], Any]
_MAY_BE_FLOAT = (
    msgspec.inspect.FloatType,
    msgspec.inspect.AnyType,
    msgspec.inspect.CustomType,
    msgspec.inspect.RawType,
)


class Unencodable(FnrunError):  # noqa: N818 - a verdict on a result, caught by the triggers
    """A result that cannot be written, and why."""


class Unwritten(msgspec.Struct, frozen=True):
    """A result that another process could not write, and why."""

    why: str


def encode_json(value: Any, *, may_be_nan: bool = True, hook: _Hook | None = None) -> bytes:
    """JSON. Unencodable for what has no JSON: NaN and infinities too, which msgspec would write as null.

    hook: what to write in place of an object that msgspec does not know; TypeError if there is nothing.
    """
    if type(value) is Unwritten:
        raise Unencodable(value.why)
    try:
        content = _encode(value) if hook is None else msgspec.json.encode(value, enc_hook=hook)
    except RecursionError:
        raise Unencodable("the result contains itself, or is nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise Unencodable(f"the result cannot be written as JSON: {error}") from None
    if may_be_nan and b"null" in content:  # NaN, or a plain None: only then is a slower, stricter encoder asked
        try:
            json.dumps(msgspec.to_builtins(value, str_keys=True, enc_hook=hook), allow_nan=False)
        except ValueError:
            raise Unencodable("the result holds NaN or infinity, which JSON cannot say; return None or a str") from None
        except TypeError:
            pass  # msgspec.Raw, which is JSON already
    return content


def may_hold_float(annotation: Any) -> bool:
    """Whether a value of this type may hold a float: true unless msgspec knows that it cannot."""
    try:
        info = msgspec.inspect.type_info(annotation)
    except (TypeError, NameError):
        return True
    return any(isinstance(one, _MAY_BE_FLOAT) for one in walk_types(info))
