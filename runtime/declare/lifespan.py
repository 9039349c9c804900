"""What functions/_lifespan.py says for the whole project: middleware, exception handlers, resources, hooks.

Called by the loader. Knows no server: what a middleware is, the HTTP trigger decides.
"""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from inspect import isclass, signature, unwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from runtime.base.errors import DeclarationError, FnrunError, SettingsError, did_you_mean
from runtime.base.secrets.given import NO_SECRETS, NoSecret, SecretOf, Secrets
from runtime.declare.modules import PACKAGE
from runtime.declare.resources import Hook, Resource, hook_of, in_order, mark_of, resource_of, take_marked

LIFESPAN = f"{PACKAGE}._lifespan"
_NAMES = ("middleware", "exception_handlers", "secrets")
ErrorHandler = Callable[[Any, Any], Any]


class Lifespan(msgspec.Struct, frozen=True, kw_only=True):
    """middleware: outermost first. exception_handlers: `(request, error)`, by the class of what a function raises.

    resources: in the order they are opened in. startup, shutdown: in the order they run in. secrets: those that
    `secrets = [...]` names, for resources and hooks that have a parameter of that name, and for no handler.
    """

    middleware: tuple[Any, ...] = ()
    exception_handlers: Mapping[type[Exception], ErrorHandler] = {}
    resources: tuple[Resource, ...] = ()
    secrets: Secrets = NO_SECRETS
    startup: tuple[Hook, ...] = ()
    shutdown: tuple[Hook, ...] = ()

    def handler_of(self, error: BaseException | None) -> ErrorHandler | None:
        """The handler of the nearest class of `error`. A Problem is an answer already, unless it has its own."""
        intended = isinstance(error, FnrunError)
        for kind in type(error).__mro__ if self.exception_handlers else ():
            if kind in self.exception_handlers and (issubclass(kind, FnrunError) or not intended):
                return self.exception_handlers[kind]
        return None


def load_lifespan(root: Path, secret_of: SecretOf | None = None) -> Lifespan:
    """Import functions/_lifespan.py, if there is one. Raises DeclarationError, or whatever the file itself raises.

    secret_of: finds a secret by its name; None where nothing will be opened.
    """
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
    found = _hooks(module, root)
    named = _secret_names(module)
    given = [_SECRETS] if named is not None else []
    known = in_order([*given, *(resource_of(one) for one in found if one.what == "resource")])
    resources = tuple(one for one in known if one.call is not _no_call)
    return Lifespan(
        middleware=tuple(middleware),
        exception_handlers=dict(handlers),
        resources=resources,
        secrets=_secrets(named or (), secret_of),
        startup=tuple(hook_of(one, known) for one in found if one.what == "startup"),
        shutdown=tuple(hook_of(one, known) for one in found if one.what == "shutdown"),
    )


def _no_call() -> None:
    """Of what is given, and not opened."""


_SECRETS = Resource(what="resource", name="secrets", call=_no_call, file="", line=0, type=Secrets)


def _secret_names(module: ModuleType) -> tuple[str, ...] | None:
    """What `secrets = ["DATABASE_URL"]` says in the file; None where it says nothing of the kind."""
    said = vars(module).get("secrets")
    if not isinstance(said, list | tuple):
        return None
    if not all(isinstance(name, str) for name in said):
        raise DeclarationError('`secrets` is a list of names here: secrets = ["DATABASE_URL"]')
    return tuple(said)


def _secrets(names: Sequence[str], secret_of: SecretOf | None) -> Secrets:
    if secret_of is None:
        return NO_SECRETS
    try:
        return Secrets({name: secret_of(name) for name in names})
    except (NoSecret, SettingsError) as error:
        raise DeclarationError(f"`secrets` names one: {error}") from None


def _hooks(module: ModuleType, root: Path) -> list[Hook]:
    """What the file decorates, and what it imports of that, in the order of their names in it."""
    found: dict[int, Hook] = {}
    for name, value in vars(module).items():
        mark = mark_of(value)
        if mark is None:
            continue
        if id(mark) in found:
            raise DeclarationError(f'"{found[id(mark)].name}" and "{name}" are one {mark.what}; keep one name')
        path = Path(unwrap(value).__code__.co_filename)
        file = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        found[id(mark)] = Hook(what=mark.what, name=name, call=value, file=file, line=mark.line)
    lines = {hook.name: hook.line for hook in found.values()}
    for mark in take_marked(module.__name__):
        name = mark.function.__name__
        if id(mark) in found:
            continue
        if name in lines:
            raise DeclarationError(
                f'two resources or hooks are named "{name}", here and on line {lines[name]}; rename one', line=mark.line
            )
        raise DeclarationError(
            f"{name} is declared here, but cannot be found by that name: it was defined again, or a decorator above "
            "hides it (write @functools.wraps in that)",
            line=mark.line,
        )
    return list(found.values())


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
