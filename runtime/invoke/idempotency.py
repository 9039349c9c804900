"""The keys that `@fn(...)` gives a call: idempotent=, by which calls mean the same; key=, by which limits are apart.

Compiled once at load by HTTP, the worker and the command line. Pure; where keys are held is the ledger's business.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import msgspec

from runtime.base.errors import FnrunError
from runtime.declare.registry import Function
from runtime.declare.signatures.keys import key_names
from runtime.invoke.results import encode_json

_LONGEST_TEXT = 200


class KeyFailed(FnrunError):  # noqa: N818 - an outcome
    """A function's idempotent= or key= raised, or gave something that is no key."""


class KeyPlan:
    """Makes a key of a call from its arguments: by `call`, which the function's `option` says."""

    def __init__(self, function: Function, option: str, call: str | Callable[..., Any]) -> None:
        self._where = f"{option}= of {function.name}"
        self._names = (call,) if isinstance(call, str) else key_names(option, call, function.parameters)
        self._call: Callable[..., Any] = (lambda **given: given[call]) if isinstance(call, str) else call
        self._defaults = {p.name: p.default for p in function.parameters if p.name in self._names and not p.required}

    def key_of(self, arguments: Mapping[str, Any]) -> bytes | None:
        """The key as JSON; None where it is None. KeyFailed."""
        given = {name: arguments[name] if name in arguments else self._defaults[name] for name in self._names}
        try:
            found = self._call(**given)
        except BaseException as error:  # the author's code, a SystemExit among it
            raise KeyFailed(f"{self._where} raised {type(error).__name__}{_said(error)}") from error
        if found is None:
            return None
        try:
            return encode_json(msgspec.to_builtins(found, str_keys=True, order="deterministic"))
        except BaseException as error:  # as above
            raise KeyFailed(f"{self._where} gave a {type(found).__name__} that is no JSON{_said(error)}") from error

    def text_of(self, arguments: Mapping[str, Any]) -> str:
        """The key as text, 200 bytes at most: JSON, or the SHA-256 of what is longer. KeyFailed."""
        found = self.key_of(arguments) or b"null"
        return found.decode() if len(found) <= _LONGEST_TEXT else sha256(found).hexdigest()


def _said(error: BaseException) -> str:
    try:
        return f": {error}"
    except BaseException:  # noqa: BLE001 - the author's code, too
        return ""


def plan_key(function: Function) -> KeyPlan | None:
    """How calls of a function get their keys; None for one that has no idempotent=, whose calls are all carried out."""
    call = function.policy.idempotent
    return None if call is None else KeyPlan(function, "idempotent", call)


def plan_limit_key(function: Function) -> KeyPlan | None:
    """How calls of a function get the keys by which its limits are apart; None for one without key=."""
    call = function.policy.key
    return None if call is None else KeyPlan(function, "key", call)
