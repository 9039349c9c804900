"""The functions of a project, as loaded: what every role, the CLI and the API look at.

Made by the loader. Holds data only; nothing here is looked up per request.
"""

from collections import abc
from collections.abc import Callable, Mapping
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, Literal, get_args, get_origin

import msgspec
from typing_extensions import override

from runtime.base.errors import DeclarationError, UnknownFunction, did_you_mean
from runtime.base.secrets.given import NO_SECRETS, Secrets
from runtime.declare.lifespan import Lifespan
from runtime.declare.markers import Event
from runtime.declare.policies import Policy
from runtime.declare.signatures.docstrings import Doc, read_doc
from runtime.declare.signatures.parameters import Parameter
from runtime.declare.triggers import Http, Trigger

Kind = Literal["async", "sync", "async stream", "sync stream"]

_STREAMS = (abc.AsyncIterator, abc.AsyncGenerator, abc.Iterator, abc.Generator)

DEFAULT_QUEUE = "default"

ON_FAILURE_ARGUMENTS = frozenset({"run_id", "function", "reason", "error", "arguments"})
"""What a function named by `on_failure=` is given of the run that failed; it takes those that it declares."""


class Function(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One deployable function.

    file: its path from the project's root. line: 1-based, of its first decorator. parameters: of its signature. queue:
    where its runs wait unless their submitter says otherwise. on_failure: the name of the function to run when one of
    its runs has failed for good. env: what `@fn(env=)` and `[functions."name"] env` say. secrets: those that it names.
    signing: secrets of signed calls, as `[functions."name"]` says.
    """

    name: str
    call: Callable[..., Any]
    file: str
    line: int
    triggers: tuple[Trigger, ...] = ()
    policy: Policy = Policy()
    parameters: tuple[Parameter, ...] = ()
    returns: Any = Any
    queue: str = DEFAULT_QUEUE
    on_failure: str | None = None
    env: Mapping[str, str] = {}
    secrets: Secrets = NO_SECRETS
    signing: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """How it runs."""
        if isasyncgenfunction(self.call):
            return "async stream"
        if isgeneratorfunction(self.call):
            return "sync stream"
        return "async" if iscoroutinefunction(self.call) else "sync"

    @property
    def items(self) -> Any:
        """The annotation of what it streams, Any where it does not say; None for a function that does not stream."""
        streams = self.kind in ("async stream", "sync stream") or get_origin(self.returns) in _STREAMS
        return next(iter(get_args(self.returns)), Any) if streams else None

    @property
    def yields_events(self) -> bool:
        """Whether its annotation says that it streams server-sent events."""
        return self.items is Event

    @property
    def place(self) -> str:
        """ "functions/orders.py:12"."""
        return f"{self.file}:{self.line}"

    @property
    def doc(self) -> Doc:
        """What its docstring says. The loader has checked its examples."""
        return read_doc(self.call.__doc__)

    @property
    def summary(self) -> str:
        """First line of its docstring."""
        return self.doc.summary

    def route(self, trigger: Http) -> str:
        """The path of one of its routes."""
        return trigger.path if trigger.path is not None else "/" + self.name.replace(".", "/")


def check_on_failure(function: Function, functions: Mapping[str, Function]) -> None:
    """Refuse an `on_failure=` that names no function, or one that cannot take the news. DeclarationError."""
    met, target = [function.name], function
    while target.on_failure is not None:
        where = f'@fn(on_failure="{function.on_failure}")'
        found = functions.get(target.on_failure)
        if found is None:
            if target is not function:
                return  # the fault of that one
            hint = (
                did_you_mean(target.on_failure, functions) or "; write the name of a function, or the function itself"
            )
            raise DeclarationError(f"{where}: there is no such function{hint}", line=function.line)
        if target is function:
            _check_takes_news(where, function, found)
        if found.name in met:
            raise DeclarationError(
                f"{where}: goes round in a circle, {' -> '.join([*met, found.name])}; let the last one fail alone",
                line=function.line,
            )
        met.append(found.name)
        target = found


def _check_takes_news(where: str, function: Function, target: Function) -> None:
    wrong = [p.name for p in target.parameters if p.required and p.injected not in ("context", "resource")]
    wrong = [name for name in wrong if name not in ON_FAILURE_ARGUMENTS]
    if wrong:
        raise DeclarationError(
            f"{where}: {target.name} requires {', '.join(wrong)}, and is given "
            f"{', '.join(sorted(ON_FAILURE_ARGUMENTS))}; give the others a default",
            line=function.line,
        )
    if target.items is not None:
        raise DeclarationError(f"{where}: {target.name} streams, and nobody would read it", line=function.line)


class LoadFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A file, or one setting, that does not load, and why.

    line: 1-based, None where there is none. serves_last: the version that last loaded goes on serving.
    """

    file: str
    line: int | None
    message: str
    traceback: str = ""
    serves_last: bool = False

    @property
    def place(self) -> str:
        """ "functions/orders.py:12"."""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    @override
    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class Registry(msgspec.Struct, frozen=True, kw_only=True):
    """Every function by its name, the names that functions.toml disables, and every file that failed.

    lifespan: None if _lifespan.py does not load: then nothing may be served, for its middleware may be a guard.
    """

    functions: Mapping[str, Function] = {}
    disabled: tuple[str, ...] = ()
    failures: tuple[LoadFailure, ...] = ()
    lifespan: Lifespan | None = Lifespan()

    def get(self, name: str) -> Function:
        """The function of that name. UnknownFunction that says what comes near."""
        try:
            return self.functions[name]
        except KeyError:
            raise UnknownFunction(name, self.functions) from None

    def whole(self) -> "Registry":
        """Itself: all functions there are."""
        return self
