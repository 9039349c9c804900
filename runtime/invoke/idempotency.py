"""The key that `@fn(idempotent=...)` gives a call: by which calls are known to mean the same.

Compiled once at load by HTTP, the worker and the command line. Pure; where keys are held is the ledger's business.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from runtime.base.errors import FnrunError
from runtime.declare.registry import Function
from runtime.declare.signatures.keys import key_names
from runtime.invoke.results import encode_json


class KeyFailed(FnrunError):  # noqa: N818 - an outcome
    """A function's idempotent= raised, or gave something that is no key."""


class KeyPlan:
    """Makes the key of a call from its arguments."""

    def __init__(self, function: Function) -> None:
        assert function.policy.idempotent is not None  # noqa: S101 - see plan_key
        self._function = function.name
        self._call = function.policy.idempotent
        self._names = key_names(self._call, function.parameters)
        self._defaults = {p.name: p.default for p in function.parameters if p.name in self._names and not p.required}

    def key_of(self, arguments: Mapping[str, Any]) -> bytes | None:
        """The key as JSON; None for a call that is carried out in any case. KeyFailed."""
        where = f"idempotent= of {self._function}"
        given = {name: arguments[name] if name in arguments else self._defaults[name] for name in self._names}
        try:
            found = self._call(**given)
        except BaseException as error:  # the author's code, a SystemExit among it
            raise KeyFailed(f"{where} raised {type(error).__name__}{_said(error)}") from error
        if found is None:
            return None
        try:
            return encode_json(msgspec.to_builtins(found, str_keys=True, order="deterministic"))
        except BaseException as error:  # as above
            raise KeyFailed(f"{where} returned a {type(found).__name__} that is no JSON{_said(error)}") from error


def _said(error: BaseException) -> str:
    try:
        return f": {error}"
    except BaseException:  # noqa: BLE001 - the author's code, too
        return ""


def plan_key(function: Function) -> KeyPlan | None:
    """How calls of a function get their keys; None for one that has no idempotent=."""
    return None if function.policy.idempotent is None else KeyPlan(function)
