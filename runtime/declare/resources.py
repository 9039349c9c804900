"""Resources, start-up and shutdown hooks: what authors declare in functions/_lifespan.py, as data.

Called by lifespan, which collects them, and by parameters, which asks what a parameter is given. Pure: what opens them
is invoke.resources. Every fault is a DeclarationError that names the function, the parameter and the fix.
"""

from collections import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from inspect import isasyncgenfunction, isfunction, isgeneratorfunction, unwrap
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec
from typing_extensions import override

from runtime.base.errors import DeclarationError, did_you_mean
from runtime.declare.markers import INJECTED
from runtime.declare.signatures.annotations import alternatives, annotated_parameters, hints_of

F = TypeVar("F", bound=Callable[..., Any])
What = Literal["resource", "startup", "shutdown"]

_ATTRIBUTE = "__fnrun_lifespan__"
_WORDS: Mapping[What, str] = {"resource": "resource", "startup": "start-up hook", "shutdown": "shutdown hook"}
_MANAGERS = (AbstractAsyncContextManager, AbstractContextManager)
_YIELDS = (
    *_MANAGERS, abc.AsyncIterator, abc.AsyncGenerator, abc.AsyncIterable, abc.Iterator, abc.Generator, abc.Iterable,
)  # fmt: skip
_PLAIN = frozenset({"builtins", "typing", "collections", "collections.abc", "datetime", "decimal", "uuid", "msgspec"})
"""Modules of types that are data: two strings have little in common, so one is a resource by its name only."""


def resource(function: F) -> F:
    """Open something once in every process that runs handlers: `function` yields it, and what follows closes it.

    A handler takes it by its type, which is what the annotation says is yielded, or by its name.
    """
    return _mark(function, "resource")


def startup(function: F) -> F:
    """Run `function`, sync or async, once the resources are open and before anything is served."""
    return _mark(function, "startup")


def shutdown(function: F) -> F:
    """Run `function`, sync or async, when the last handler has finished and before the resources are closed."""
    return _mark(function, "shutdown")


class Mark(msgspec.Struct, frozen=True, eq=False):
    """What a decorator leaves on a function."""

    what: What
    function: Callable[..., Any]

    @property
    def line(self) -> int:
        """1-based, of its first decorator."""
        return int(unwrap(self.function).__code__.co_firstlineno)


_marked: dict[str, list[Mark]] = {}


def _mark(function: F, what: What) -> F:
    if not isfunction(function):
        raise DeclarationError(f"@{what} decorates a function; {function!r} is a {type(function).__name__}")
    other = mark_of(function)
    mark = Mark(what, function)
    if other is not None:
        raise DeclarationError(f"{function.__name__} is declared twice: @{other.what} and @{what}", line=mark.line)
    setattr(function, _ATTRIBUTE, mark)
    _marked.setdefault(function.__module__, []).append(mark)
    return function


def mark_of(value: object) -> Mark | None:
    """What a decorator left on a function."""
    found = getattr(value, _ATTRIBUTE, None) if isfunction(value) else None
    return found if isinstance(found, Mark) else None


def forget_marked() -> None:
    """Forget what earlier loads left."""
    _marked.clear()


def take_marked(module: str) -> list[Mark]:
    """Every function a module has decorated since it was last asked, whether or not its name still leads to it."""
    return _marked.pop(module, [])


class Hook(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A function of _lifespan.py. file, line: where it is. needs: the name of a resource, by parameter."""

    what: What
    name: str
    call: Callable[..., Any]
    file: str
    line: int
    needs: Mapping[str, str] = {}

    @property
    def place(self) -> str:
        """ "functions/_lifespan.py:12"."""
        return f"{self.file}:{self.line}"

    @override
    def __str__(self) -> str:
        return f'{_WORDS[self.what]} "{self.name}"'


class Resource(Hook, frozen=True, kw_only=True, eq=False):
    """What is opened once a process. call: gives a generator, or a context manager. type: what that yields."""

    type: Any = Any

    @property
    def kinds(self) -> tuple[Any, ...]:
        """Its types; (Any,) where it does not say."""
        return kinds_of(self.type)


def kinds_of(annotation: Any) -> tuple[Any, ...]:
    """The types of an annotation, without Annotated and None."""
    bare = [_bare(one) for one in alternatives(_bare(annotation))]
    return tuple(one for one in bare if one not in (None, type(None)))


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def find_resource(name: str, annotation: Any, known: Sequence[Resource]) -> Resource | None:
    """What a parameter is given: the resource of its name if the type fits, else the one of its type; None for neither.

    DeclarationError if several have its type.
    """
    kinds = kinds_of(annotation)
    for one in known:
        if one.name == name and (Any in (*kinds, *one.kinds) or _fits(one.kinds, kinds)):
            return one
    typed = [one for one in known if any(kind in one.kinds and _is_telling(kind) for kind in kinds)]
    if len(typed) > 1:
        names = " and ".join(f'"{one.name}"' for one in typed)
        raise DeclarationError(f"parameter {name}: resources {names} have its type; name it as one of them")
    return typed[0] if typed else None


def _fits(offered: Sequence[Any], wanted: Sequence[Any]) -> bool:
    """Whether one of the types is the other, its base class, or a protocol, which is not looked into."""
    return any(
        want == offer or want in getattr(offer, "__mro__", ()) or getattr(want, "_is_protocol", False)
        for offer in offered
        for want in wanted
    )


def _is_telling(kind: Any) -> bool:
    """Whether a type says of itself what is meant; str and list do not, nor does Any."""
    return getattr(get_origin(kind) or kind, "__module__", "builtins") not in _PLAIN


def resource_of(found: Hook) -> Resource:
    """The resource a function declares; what it needs is not looked for yet."""
    with _naming(found):
        returns = hints_of(found.call).get("return", Any)
        origin = get_origin(returns) or returns
        inner = unwrap(found.call)
        if not (isasyncgenfunction(inner) or isgeneratorfunction(inner) or origin in _MANAGERS):
            raise DeclarationError("it returns its value; yield it: what stands after the yield closes it")
        if origin is not Any and origin not in _YIELDS:
            kind = "AsyncIterator" if isasyncgenfunction(inner) else "Iterator"
            name = getattr(returns, "__name__", returns)
            raise DeclarationError(f"its annotation is {name}; a generator returns {kind}[{name}]")
    fields = {name: getattr(found, name) for name in Hook.__struct_fields__}
    return Resource(type=next(iter(get_args(returns)), Any), **fields)


def in_order(found: Sequence[Resource]) -> tuple[Resource, ...]:
    """Resources that know what they need, which is before them. DeclarationError if that cannot be."""
    needs = {one.name: _needs(one, found) for one in found}
    earlier: set[str] = set()
    for one in found:
        with _naming(one):
            for needed in needs[one.name].values():
                if needed not in earlier:
                    raise DeclarationError(_misplaced(one.name, needed, needs))
        earlier.add(one.name)
    return tuple(msgspec.structs.replace(one, needs=needs[one.name]) for one in found)


def _misplaced(name: str, needed: str, needs: Mapping[str, Mapping[str, str]]) -> str:
    if name == needed:
        return "it needs itself"
    reached, fresh = set[str](), {needed}
    while fresh:
        reached |= fresh
        fresh = {one for before in fresh for one in needs[before].values()} - reached
    if name in reached:
        return f'it and "{needed}" need each other'
    return f'it needs "{needed}", which is declared after it; move that up'


def hook_of(found: Hook, known: Sequence[Resource]) -> Hook:
    """A hook that knows what it needs. DeclarationError for one that needs what there is not."""
    with _naming(found):
        if isasyncgenfunction(found.call) or isgeneratorfunction(found.call):
            raise DeclarationError("it yields; a @resource does that")
    return msgspec.structs.replace(found, needs=_needs(found, known))


def _needs(hook: Hook, known: Sequence[Resource]) -> dict[str, str]:
    """The name of a resource, by parameter. One by its type is looked for among those before, and then those after."""
    names = [one.name for one in known]
    own = names.index(hook.name) if hook.name in names else len(names)
    needs: dict[str, str] = {}
    with _naming(hook):
        for parameter, annotation in annotated_parameters(hook.call):
            name = parameter.name
            ahead = [one for one in known if one.name == name] + [*known[:own]]
            found = find_resource(name, annotation, ahead) or find_resource(name, annotation, known[own + 1 :])
            if found is not None:
                needs[name] = found.name
            elif parameter.default in (parameter.empty, INJECTED):
                hint = did_you_mean(name, names)
                raise DeclarationError(f"no resource has the name or the type of parameter {name}{hint}")
    return needs


@contextmanager
def _naming(hook: Hook) -> Iterator[None]:
    """Name it in what is wrong with it, and where it is."""
    try:
        yield
    except DeclarationError as error:
        own = hook.file.endswith("/_lifespan.py")
        where = "" if own else f" ({hook.place})"
        raise DeclarationError(f"{hook}{where}: {error}", line=hook.line if own else None) from None


class Opened(Mapping[str, Any]):
    """The open resources: `resources["db"]`, or `resources.db` where no method of a mapping has that name."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    @override
    def __getitem__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise KeyError(self._missing(name)) from None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what looks for those (copy, pickle) may come before there are values
            raise AttributeError(name)
        if name not in self._values:
            raise AttributeError(self._missing(name))
        return self._values[name]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    @override
    def __len__(self) -> int:
        return len(self._values)

    @override
    def __repr__(self) -> str:
        return f"Opened({', '.join(self._values)})"

    def _missing(self, name: str) -> str:
        return f'no resource "{name}" is open{did_you_mean(name, self._values)}'


NONE_OPENED = Opened({})
