"""Which arguments the function of `@fn(idempotent=...)` takes.

Called by the loader, which refuses one that cannot be called, and at load by whoever calls it. Pure.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from runtime.base.errors import DeclarationError, did_you_mean
from runtime.declare.signatures.parameters import Parameter

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def key_names(call: Callable[..., Any], parameters: Sequence[Parameter]) -> tuple[str, ...]:
    """The names of the handler's parameters that it takes; all of them for `**arguments`. DeclarationError.

    A parameter with a default that is none of the handler's keeps that.
    """
    known = [p.name for p in parameters if not p.injected]
    if inspect.iscoroutinefunction(call) or inspect.isgeneratorfunction(call):
        raise DeclarationError("@fn(idempotent=...): a plain function makes the key at once; no async, no yield")
    try:
        taken = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        raise DeclarationError("@fn(idempotent=...): its parameters cannot be read; write a lambda") from None
    names: list[str] = []
    for one in taken:
        if one.kind is inspect.Parameter.VAR_KEYWORD:
            names += (name for name in known if name not in names)
        elif one.kind not in _BY_NAME:
            raise DeclarationError(f"@fn(idempotent=...): arguments come by name, and {one} does not take one")
        elif one.name in known:
            names.append(one.name)
        elif one.default is inspect.Parameter.empty:
            hint = did_you_mean(one.name, known) or f"; there are: {', '.join(known) or 'none'}"
            injected = any(p.name == one.name for p in parameters)
            what = "is supplied by the runtime, and no argument" if injected else "is no parameter of the function"
            raise DeclarationError(f"@fn(idempotent=...): {one.name} {what}{hint}")
    return tuple(names)
