"""Which function is meant: its name, its queue, and whether the arguments fit.

Used by submit, before anything is accepted; and by workers, which tell the ledger what runs on a failure.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, get_type_hints

import msgspec
from msgspec.inspect import type_info

from runtime.base.errors import InputError, SubmitError, UnknownFunction
from runtime.base.schedules import ScheduleTable
from runtime.base.sections import FunctionSettings
from runtime.declare.files import failure_of, functions_in
from runtime.declare.lifespan import load_lifespan
from runtime.declare.markers import INJECTED
from runtime.declare.modules import PACKAGE, function_name, open_package, open_root
from runtime.declare.registry import DEFAULT_QUEUE, Function, Registry
from runtime.declare.signatures.parameters import know_names
from runtime.declare.tables import Tables
from runtime.declare.triggers import Declaration, Queue, declaration_of
from runtime.invoke.binding import PayloadPlan
from runtime.invoke.idempotency import KeyFailed, KeyPlan, plan_limit_key
from runtime.invoke.limits.rules import Limits, limits_of
from runtime.invoke.results import Unencodable, encode_json
from runtime.ledger.flows.steps import no_argument

Named = Callable[..., Any] | str


class Catalogue(Protocol):
    """Where functions are found by name: a Registry, or the files themselves."""

    def get(self, name: str) -> Function:
        """The function of that name. UnknownFunction."""
        ...

    def whole(self) -> Registry:
        """All functions there are, as far as they load."""
        ...


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A function to be run. returns: its annotation, Any if that is not known. plan: reads its arguments, if known.

    key: by which its limits are apart; None without key=, or if that is not known.
    """

    name: str
    queue: str = DEFAULT_QUEUE
    max_age_seconds: float | None = None
    returns: Any = Any
    plan: PayloadPlan | None = None
    key: KeyPlan | None = None


_known: dict[str, tuple[Function, Target]] = {}


def target_of(function: Named, catalogue: Catalogue | None) -> Target:
    """What to submit. Without a catalogue, a name is taken as it is.

    SubmitError for what is no function of functions/, or streams; UnknownFunction; DeclarationError for one that cannot
    be called by name.
    """
    name = function if isinstance(function, str) else name_of(function)
    if catalogue is None:
        return Target(name=name) if isinstance(function, str) else _unchecked(name, function)
    found = catalogue.get(name)
    known = _known.get(name)
    if known is None or known[0] is not found:
        known = _known[name] = (found, _checked(found))
    return known[1]


def name_of(function: Callable[..., Any]) -> str:
    """The name of a function of functions/, as the loader gives it. SubmitError for any other."""
    declaration = declaration_of(function)
    module = str(getattr(function, "__module__", ""))
    package, _, path = module.partition(".")
    shown = getattr(function, "__qualname__", repr(function))
    if declaration is None:
        raise SubmitError(
            f"{shown} is no function of fnrun's: write a decorator above it, @fn or @queue, or give its name"
        )
    if package != PACKAGE or not path:
        raise SubmitError(
            f"{shown} stands in {module}, and workers find functions of {PACKAGE}/ only: put it there, and import it "
            "from there"
        )
    return function_name(path.split("."), function.__name__)


def _unchecked(name: str, function: Callable[..., Any]) -> Target:
    """What the function itself says, where nothing is loaded."""
    declared = declaration_of(function) or Declaration()
    queues = [trigger.name for trigger in declared.triggers if isinstance(trigger, Queue)]
    try:
        returns = get_type_hints(function, include_extras=True).get("return", Any)
    except (NameError, TypeError):  # for the loader to tell
        returns = Any
    return Target(
        name=name,
        queue=queues[0] if queues else DEFAULT_QUEUE,
        max_age_seconds=declared.policy.max_age_seconds,
        returns=_readable(returns),
    )


def _checked(function: Function) -> Target:
    if function.items is not None:
        raise SubmitError(f'"{function.name}" streams: it needs a caller that reads on, and a run has none')
    return Target(
        name=function.name,
        queue=function.queue,
        max_age_seconds=function.policy.max_age_seconds,
        returns=_readable(function.returns),
        plan=PayloadPlan(function),
        key=plan_limit_key(function),
    )


def _readable(returns: Any) -> Any:
    """An annotation, by which results will be read."""
    with suppress(TypeError, NameError):  # a class of the author's own
        know_names(type_info(returns))
    return returns


def payload_of(
    target: Target, function: Named, args: tuple[Any, ...], arguments: Mapping[str, Any]
) -> tuple[bytes, str | None]:
    """The arguments as JSON, and the key that they give the run, if that is known.

    InputError if they cannot be written so, or do not fit; BindingFailed as PayloadPlan.bind. Those that are INJECTED
    are left out: a typed caller has to write something.
    """
    payload = written(target, by_name(function, args, arguments))
    bound = None if target.plan is None else target.plan.bind(payload)
    return payload, None if bound is None else limit_key_of(target.key, bound)


def limit_key_of(plan: KeyPlan | None, arguments: Mapping[str, Any]) -> str | None:
    """The key of a run that is submitted; None if it has none, or cannot have one: its worker will say why."""
    try:
        return None if plan is None else plan.text_of(arguments)
    except KeyFailed:
        return None


def check_size(target: Target, size: int, most: int) -> None:
    """SubmitError if arguments are longer than they may be, in bytes as JSON; 0 for no limit."""
    if 0 < most < size:
        raise SubmitError(
            f"the arguments of {target.name} are {size} bytes as JSON, more than {most}; keep them elsewhere and "
            "submit where they are, or raise [queue] payload_max"
        )


def by_name(function: Named, args: tuple[Any, ...], arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """All arguments by name, but for those that are INJECTED. InputError, SubmitError."""
    if not isinstance(arguments, Mapping):  # of many: a type checker says so, where there is one
        raise InputError(422, f'{arguments!r} is no mapping of arguments by name; write {{"name": value}}')
    if args:
        arguments = _with_names(function, args, arguments)
    return {name: value for name, value in arguments.items() if value is not INJECTED}


def written(target: Target, given: Mapping[str, Any], hook: Callable[[Any], Any] = no_argument) -> bytes:
    """Arguments as JSON, as encode_json. InputError if they cannot be written so."""
    try:
        return encode_json(given, hook=hook)
    except Unencodable as error:
        reason = error.__context__ or "they contain themselves, or are nested too deeply"
        raise InputError(422, f"arguments of {target.name} are sent as JSON, and these cannot be: {reason}") from None


def _with_names(function: Named, args: tuple[Any, ...], arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(function, str):
        raise SubmitError(f'"{function}": with a name, arguments come by name, too')
    try:
        return signature(function).bind_partial(*args, **arguments).arguments
    except TypeError as error:
        raise InputError(422, f"the arguments do not fit {function.__qualname__}: {error}") from None


class FolderCatalogue:
    """Functions of a project read file by file, each when it is first asked for: what a plain script needs.

    A file that the script has imported is not imported again; others are not run at all, but for _lifespan.py, whose
    resources parameters may name. tables, zone: as the loader's.
    """

    def __init__(
        self,
        root: Path,
        overrides: Mapping[str, FunctionSettings],
        tables: Mapping[str, ScheduleTable] = MappingProxyType({}),
        zone: str = "UTC",
    ) -> None:
        self._root = root
        self._overrides = overrides
        self._tables = Tables(root, tables, zone)
        self._whole: Registry | None = None
        self._files: dict[Path, Mapping[str, Function]] = {}
        self._found: dict[str, Function] = {}

    def get(self, name: str) -> Function:
        """The function of that name. UnknownFunction; SubmitError if its file does not load."""
        known = self._found.get(name)
        if known is not None:  # to look for its file again would cost more than all else of a submit
            return known
        for path in self._places(name):
            found = self._read(path).get(name)
            if found is not None:
                self._found[name] = found
                return found
        raise UnknownFunction(name, self._names())

    def whole(self) -> Registry:
        """All functions with their schedules, each file read that was not yet; what does not load is left out."""
        if self._whole is None:
            functions: dict[str, Function] = {}
            for path in self._paths():
                with suppress(SubmitError):
                    functions |= self._read(path)
            failures = tuple(self._tables.attach(functions, lambda _: True))
            self._whole = Registry(functions=functions, failures=failures)
        return self._whole

    def _paths(self) -> Iterator[Path]:
        """The files that may hold functions, in their order."""
        for path in sorted((self._root / PACKAGE).rglob("*.py")):
            if not any(part[0] in "_." for part in path.relative_to(self._root / PACKAGE).with_suffix("").parts):
                yield path

    def _places(self, name: str) -> Iterator[Path]:
        parts = name.split(".")
        for some in (parts, parts[:-1]):
            if some and all(part and part[0] not in "_." and "/" not in part for part in some):
                path = self._root.joinpath(PACKAGE, *some).with_name(f"{some[-1]}.py")
                if path.is_file():
                    yield path

    def _read(self, path: Path) -> Mapping[str, Function]:
        if path not in self._files:
            if open_root() is None:
                open_package(self._root)
            try:
                found = functions_in(self._root, path, self._overrides, load_lifespan(self._root).resources)
            except Exception as error:
                failure = failure_of(path.relative_to(self._root).as_posix(), error)
                raise SubmitError(f"it does not load: {failure}") from error
            self._files[path] = {one.name: one for one in found if self._enabled(one.name)}
        return self._files[path]

    def _enabled(self, name: str) -> bool:
        return self._overrides.get(name, FunctionSettings()).enabled

    def _names(self) -> Iterator[str]:
        """Names of the files that were read, and of all others: what is in those is not known."""
        for functions in self._files.values():
            yield from functions
        for path in self._paths():
            if path not in self._files:
                yield ".".join(path.relative_to(self._root / PACKAGE).with_suffix("").parts)


def on_failure_map(functions: Mapping[str, Function]) -> dict[str, tuple[str, str]]:
    """For Ledger.register: of each function that names one by `on_failure=`, that one's name and queue."""
    found: dict[str, tuple[str, str]] = {}
    for function in functions.values():
        target = functions.get(function.on_failure or "")
        if target is not None:
            found[function.name] = (target.name, target.queue)
    return found


def limits_map(functions: Mapping[str, Function]) -> dict[str, Limits | None]:
    """For Ledger.register: what bounds each function."""
    return {name: limits_of(function) for name, function in functions.items()}
