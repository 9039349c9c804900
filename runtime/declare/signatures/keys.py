"""Which arguments the functions take that `@fn(...)` names: of idempotent=, key= and fallback=.

Called by the loader, which refuses one that cannot be called, and at load by whoever calls it. Pure.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from runtime.base.errors import DeclarationError, did_you_mean
from runtime.declare.signatures.parameters import Parameter

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def key_names(option: str, call: Callable[..., Any], parameters: Sequence[Parameter]) -> tuple[str, ...]:
    """The names of the handler's parameters that it takes; all of them for `**arguments`. DeclarationError.

    option: by which the handler names it. A parameter with a default that is none of the handler's keeps that.
    """
    where = f"@fn({option}=...)"
    if inspect.iscoroutinefunction(call) or _yields(call):
        raise DeclarationError(f"{where}: a plain function makes the key at once; no async, no yield")
    known = [p.name for p in parameters if not p.injected]
    return _names(where, call, known, [p.name for p in parameters if p.injected])


def fallback_names(call: Callable[..., Any], parameters: Sequence[Parameter]) -> tuple[str, ...]:
    """What the function of `fallback=` takes, of `error` and the handler's own parameters. DeclarationError."""
    where = "@fn(fallback=...)"
    if _yields(call):
        raise DeclarationError(f"{where}: a function that yields gives no one value; return it")
    known = [p.name for p in parameters]
    return _names(where, call, known if "error" in known else [*known, "error"], ())


def _yields(call: Callable[..., Any]) -> bool:
    return inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call)


def _names(where: str, call: Callable[..., Any], known: Sequence[str], injected: Sequence[str]) -> tuple[str, ...]:
    try:
        taken = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        raise DeclarationError(f"{where}: its parameters cannot be read; write a lambda") from None
    names: list[str] = []
    for one in taken:
        if one.kind is inspect.Parameter.VAR_KEYWORD:
            names += (name for name in known if name not in names)
        elif one.kind not in _BY_NAME:
            raise DeclarationError(f"{where}: arguments come by name, and {one} does not take one")
        elif one.name in known:
            names.append(one.name)
        elif one.default is inspect.Parameter.empty:
            hint = did_you_mean(one.name, known) or f"; there are: {', '.join(known) or 'none'}"
            what = (
                "is supplied by the runtime, and no argument"
                if one.name in injected
                else "is no parameter of the function"
            )
            raise DeclarationError(f"{where}: {one.name} {what}{hint}")
    return tuple(names)


def check_key_name(name: str, parameters: Sequence[Parameter]) -> None:
    """Refuse a `key=` that names no argument of the handler. DeclarationError."""
    known = [p.name for p in parameters if not p.injected]
    if name not in known:
        hint = did_you_mean(name, known) or f"; there are: {', '.join(known) or 'none'}"
        what = "is no argument" if any(p.name == name for p in parameters) else "is no parameter of the function"
        raise DeclarationError(f'@fn(key="{name}"): {name} {what}{hint}')
