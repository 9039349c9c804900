"""Read a function's signature: its parameters, their types, which of them the runtime itself supplies.

Called by the loader; inputs says where each parameter is read. Pure. Every fault is a DeclarationError that names the
parameter and the fix.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import inspect as types

from runtime.base.errors import DeclarationError
from runtime.declare.context import Context, Tick
from runtime.declare.markers import INJECTED, Source
from runtime.declare.request import Request
from runtime.declare.resources import Resource, find_resource
from runtime.declare.signatures.annotations import alternatives, annotated_parameters

Injected = Literal["context", "tick", "request", "file", "resource"]

_INJECTED: dict[type, Injected] = {Context: "context", Tick: "tick", Request: "request"}
_STRUCTURED = (
    types.StructType, types.DataclassType, types.TypedDictType, types.NamedTupleType, types.DictType, types.RawType,
)  # fmt: skip
_RAW = (types.BytesType, types.StrType, types.NoneType)
_COLLECTIONS = (types.CollectionType, types.TupleType)


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter as its function declares it.

    type: its annotation. several: a list of files. info: what msgspec makes of it; None for an injected one.
    resource: the name of the one it is given.
    default: INJECTED and `inspect.Parameter.empty` mean there is none.
    """

    name: str
    type: Any
    injected: Injected | None = None
    source: Source | None = None
    several: bool = False
    resource: str = ""
    info: types.Type | None = None
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        """Whether a trigger must supply it."""
        return self.default is inspect.Parameter.empty or self.default is INJECTED

    @property
    def many(self) -> bool:
        """Whether it takes several values, as a list or a set."""
        return any(isinstance(info, _COLLECTIONS) for info in _members(self.info))

    @property
    def structured(self) -> bool:
        """Whether it is an object, or a collection of objects: something only a body can hold."""
        return any(_is_structured(info) for info in _members(self.info))

    @property
    def raw(self) -> bool:
        """Whether it is bytes or text, which a body can be as it came."""
        return all(isinstance(info, _RAW) for info in _members(self.info))


def parameters_of(function: Callable[..., Any], resources: Sequence[Resource] = ()) -> tuple[Parameter, ...]:
    """A function's parameters, their annotations resolved and checked. DeclarationError if one cannot be read.

    resources: what they may be given.
    """
    return tuple(_parameter(found, annotation, resources) for found, annotation in annotated_parameters(function))


def _parameter(found: inspect.Parameter, annotation: Any, resources: Sequence[Resource]) -> Parameter:
    bare, source = _split(found.name, annotation)
    for kind, injected in _INJECTED.items():
        if kind in alternatives(bare):
            return Parameter(name=found.name, type=annotation, injected=injected, default=found.default)
    given = find_resource(found.name, annotation, resources) if source is None else None
    if given is not None:
        return Parameter(
            name=found.name, type=annotation, injected="resource", resource=given.name, default=found.default
        )
    for kind in alternatives(bare):
        if _is_file(kind) or (get_origin(kind) is list and _is_file(get_args(kind)[0])):
            several = get_origin(kind) is list
            return Parameter(name=found.name, type=annotation, injected="file", several=several, default=found.default)
    try:
        info = _inspect(found.name, annotation)
    except DeclarationError as error:
        hint = next((f'; the resource "{one.name}" is {_name(one)}' for one in resources if one.name == found.name), "")
        raise DeclarationError(f"{error}{hint}") from None
    return Parameter(name=found.name, type=annotation, source=source, info=info, default=found.default)


def _name(resource: Resource) -> str:
    return " | ".join(getattr(kind, "__name__", str(kind)) for kind in resource.kinds)


def _is_file(kind: object) -> bool:
    """Whether it is Starlette's UploadFile, seen by its name: nothing here imports a server."""
    return (
        getattr(kind, "__module__", "") == "starlette.datastructures" and getattr(kind, "__name__", "") == "UploadFile"
    )


def _split(name: str, annotation: Any) -> tuple[Any, Source | None]:
    """The annotation without Annotated, and our marker in it."""
    marked = [get_args(one) for one in alternatives(annotation) if get_origin(one) is Annotated]
    bare = marked[0][0] if get_origin(annotation) is Annotated else annotation
    extras = [extra for _, *more in marked for extra in more]
    found = [e() if isinstance(e, type) else e for e in extras if isinstance(e, Source) or _is_source(e)]
    if len(found) > 1:
        raise DeclarationError(f"parameter {name}: one of Query, Header, Cookie, Body; there are {len(found)}")
    return bare, found[0] if found else None


def _is_source(extra: object) -> bool:
    return isinstance(extra, type) and issubclass(extra, Source)


def _inspect(name: str, annotation: Any) -> types.Type:
    """What msgspec makes of an annotation. DeclarationError if it cannot read such values."""
    try:
        info = types.type_info(annotation)
        msgspec.json.Decoder(annotation)
    except (TypeError, NameError) as error:
        raise DeclarationError(f"parameter {name}: {error}") from None
    know_names(info)
    for found in walk_types(info):
        if isinstance(found, types.CustomType):
            if found.cls.__module__.startswith("starlette."):
                raise DeclarationError(f"parameter {name}: for the request, annotate it with runtime.Request")
            raise DeclarationError(
                f"parameter {name}: {found.cls.__qualname__} cannot be read from JSON; use a msgspec.Struct, a "
                "dataclass, a TypedDict or a plain type, or declare a @resource of that type in functions/_lifespan.py"
            )
    return info


def know_names(info: types.Type) -> None:
    """Have msgspec find the fields of a type whose names are not ASCII.

    msgspec 0.22 compares with the UTF-8 that a text keeps once it was encoded; until then, those of a dataclass or a
    TypedDict are "missing". Source: https://github.com/msgspec/msgspec/pull/1126.
    """
    for found in walk_types(info):
        for field in getattr(found, "fields", ()):
            know_name(field.encode_name)
        if isinstance(found, types.StructType) and found.tag_field is not None:
            know_name(found.tag_field)


def know_name(name: str) -> None:
    """The same for one name: of this very object, as msgspec holds it."""
    msgspec.json.encode(name)


def walk_types(info: types.Type) -> Iterator[types.Type]:
    """Every type inside a type, itself included; a class that holds itself once."""
    return _walk(info, set())


def _walk(info: Any, seen: set[int]) -> Iterator[types.Type]:
    if isinstance(info, types.Type):
        mark = id(getattr(info, "cls", info))
        if mark in seen:
            return
        seen.add(mark)
        yield info
        for field in info.__struct_fields__:
            yield from _walk(getattr(info, field), seen)
    elif isinstance(info, tuple):
        for one in info:
            yield from _walk(one, seen)
    elif isinstance(info, types.Field):
        yield from _walk(info.type, seen)


def _members(info: types.Type | None) -> Iterator[types.Type]:
    """The alternatives of a type, Annotated and Optional taken off."""
    if isinstance(info, types.Metadata):
        yield from _members(info.type)
    elif isinstance(info, types.UnionType):
        for one in info.types:
            yield from _members(one)
    elif info is not None:
        yield info


def _is_structured(info: types.Type) -> bool:
    if isinstance(info, types.CollectionType):
        return any(_is_structured(one) for one in _members(info.item_type))
    if isinstance(info, types.TupleType):
        return any(_is_structured(one) for item in info.item_types for one in _members(item))
    return isinstance(info, _STRUCTURED)
