"""What functions/_lifespan.py says for the whole project: middleware and exception handlers.

Called by the loader. Knows no server: what a middleware is, the HTTP trigger decides.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from inspect import isclass, signature
from pathlib import Path
from typing import Any

import msgspec

from runtime.base.errors import DeclarationError, FnrunError, did_you_mean
from runtime.declare.modules import PACKAGE

LIFESPAN = f"{PACKAGE}._lifespan"
_NAMES = ("middleware", "exception_handlers")
ErrorHandler = Callable[[Any, Any], Any]


class Lifespan(msgspec.Struct, frozen=True, kw_only=True):
    """middleware: outermost first. exception_handlers: `(request, error)`, by the class of what a function raises."""

    middleware: tuple[Any, ...] = ()
    exception_handlers: Mapping[type[Exception], ErrorHandler] = {}

    def handler_of(self, error: BaseException | None) -> ErrorHandler | None:
        """The handler of the nearest class of `error`. A Problem is an answer already, unless it has its own."""
        intended = isinstance(error, FnrunError)
        for kind in type(error).__mro__ if self.exception_handlers else ():
            if kind in self.exception_handlers and (issubclass(kind, FnrunError) or not intended):
                return self.exception_handlers[kind]
        return None


def load_lifespan(root: Path) -> Lifespan:
    """Import functions/_lifespan.py, if there is one. Raises DeclarationError, or whatever the file itself raises."""
    if not (root / PACKAGE / "_lifespan.py").exists():
        return Lifespan()
    module = sys.modules.get(LIFESPAN) or importlib.import_module(LIFESPAN)
    middleware = getattr(module, "middleware", [])
    handlers = getattr(module, "exception_handlers", {})
    for name, value in vars(module).items():
        if isinstance(value, list | dict) and name not in _NAMES and (hint := did_you_mean(name, _NAMES)):
            raise DeclarationError(f"{name!r} means nothing here{hint}")
    _check_middleware(middleware)
    _check_handlers(handlers)
    return Lifespan(middleware=tuple(middleware), exception_handlers=dict(handlers))


def _check_middleware(middleware: Any) -> None:
    if not isinstance(middleware, list | tuple):
        raise DeclarationError("`middleware` is a list here, of ASGI middleware, outermost first")
    for one in middleware:
        if not (callable(one) or hasattr(one, "cls")):
            raise DeclarationError(f"{one!r} is no middleware: give its class, or starlette.middleware.Middleware(...)")


def _check_handlers(handlers: Any) -> None:
    if not isinstance(handlers, Mapping):
        raise DeclarationError("`exception_handlers` is a mapping here, from an exception's class to a function")
    for kind, handler in handlers.items():
        if not (isclass(kind) and issubclass(kind, Exception)):
            raise DeclarationError(f"exception_handlers: {kind!r} is no class of exceptions")
        try:
            signature(handler).bind(None, None)
        except (TypeError, ValueError):
            raise DeclarationError(
                f"exception_handlers: {handler!r} does not take (request, error); write a function that does"
            ) from None
