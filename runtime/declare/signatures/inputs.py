"""Decide where each parameter of a handler is read, under each of its triggers.

Called by the loader to check a function, and by binding and openapi to read and describe calls. Pure. Every fault is a
DeclarationError that names the trigger, the parameter and the fix.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NotRequired, TypedDict

import msgspec

from runtime.base.errors import DeclarationError, did_you_mean
from runtime.declare.markers import Body, Cookie, Header, Query, Source
from runtime.declare.paths import CONVERTERS, path_names
from runtime.declare.signatures.parameters import Parameter, know_name
from runtime.declare.triggers import Http, Schedule, Trigger

Origin = Literal[
    "path", "query", "header", "cookie", "body", "raw", "field", "argument", "context", "tick", "request", "file"
]

BODYLESS = frozenset({"GET", "HEAD", "OPTIONS"})
_QUERY_METHODS = BODYLESS | {"DELETE"}
_ORIGINS: dict[type[Source], Origin] = {Query: "query", Header: "header", Cookie: "cookie"}


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """Where one parameter is read under one trigger. wire: its name there."""

    parameter: Parameter
    origin: Origin
    wire: str

    @property
    def name(self) -> str:
        """The parameter's name in the function."""
        return self.parameter.name


def inputs_for(trigger: Trigger | None, parameters: Sequence[Parameter], method: str, path: str) -> tuple[Input, ...]:
    """Where each parameter comes from under `trigger`; None stands for a call by name (CLI, submit).

    method, path: for an Http trigger. Parameters that the trigger leaves to their default are not listed, nor are those
    that are given a resource: no trigger supplies them.
    """
    parameters, given = [p for p in parameters if p.injected != "resource"], parameters
    if isinstance(trigger, Http):
        for name in path_names(path).keys() & {p.name for p in given if p.injected == "resource"}:
            raise DeclarationError(f"@http {path}: parameter {name} is in the path and a resource; rename one")
        return _http_inputs(parameters, method, path)
    if isinstance(trigger, Schedule):
        return tuple(_schedule_inputs(parameters, trigger))
    return tuple(_payload_inputs(parameters, trigger))


def model_of(inputs: Sequence[Input]) -> Any:
    """A TypedDict of these parameters, so that one msgspec call reads them all; absent optional ones stay absent."""
    return _model({i.name: i.parameter.type if i.parameter.required else NotRequired[i.parameter.type] for i in inputs})


def _model(fields: Mapping[str, Any]) -> Any:
    for name in fields:
        know_name(name)
    return TypedDict("Arguments", dict(fields))  # type: ignore[operator]  # made from a function's own signature


def _http_inputs(parameters: Sequence[Parameter], method: str, path: str) -> tuple[Input, ...]:
    names = path_names(path)
    unknown = names.keys() - {p.name for p in parameters}
    if unknown and not any(p.injected == "request" for p in parameters):
        name = sorted(unknown)[0]
        hint = did_you_mean(name, [p.name for p in parameters]) or "; add a parameter of that name"
        raise DeclarationError(f"@http {path}: the function takes no parameter {name}{hint}")
    inputs: list[Input] = []
    unclaimed: list[Parameter] = []
    bodies: list[Parameter] = []
    for parameter in parameters:
        found = _direct_input(parameter, names, path)
        if found is not None:
            inputs.append(found)
        elif isinstance(parameter.source, Body) or parameter.structured:
            bodies.append(parameter)
        elif parameter.injected is None:
            unclaimed.append(parameter)
    files = [one for one in inputs if one.origin == "file"]
    if files and (method in BODYLESS or bodies):
        fault = f"a {method} has no body" if method in BODYLESS else f"{bodies[0].name} is read from the body, too"
        raise DeclarationError(
            f"@http {method} {path}: parameter {files[0].name} is a file of a form, but {fault}; "
            "use @http.post, with plain fields beside the file"
        )
    inputs += _body_inputs(bodies, method, path)
    origin: Origin = "query" if bodies or (method in _QUERY_METHODS and not files) else "field"
    return (*inputs, *(Input(parameter=p, origin=origin, wire=p.name) for p in unclaimed))


def _direct_input(parameter: Parameter, names: Mapping[str, str], path: str) -> Input | None:
    """The input of a parameter whose place does not depend on the others; None for one that does, or has none."""
    if parameter.injected == "tick":
        if parameter.required:
            raise _unobtainable(f"@http {path}", parameter, "give it a default of None")
        return None
    if parameter.injected is not None and parameter.injected != "resource":
        return Input(parameter=parameter, origin=parameter.injected, wire=parameter.name)
    if parameter.name in names:
        return _path_input(parameter, names[parameter.name], path)
    if parameter.source is None or isinstance(parameter.source, Body):
        return None
    origin = _ORIGINS[type(parameter.source)]
    if parameter.structured:
        raise DeclarationError(
            f"@http {path}: parameter {parameter.name}: a {origin} holds plain values and lists of them"
        )
    wire = parameter.source.name or parameter.name
    return Input(parameter=parameter, origin=origin, wire=_header_name(wire) if origin == "header" else wire)


def _path_input(parameter: Parameter, converter: str, path: str) -> Input:
    if parameter.source is not None:
        what = type(parameter.source).__name__
        raise DeclarationError(
            f"@http {path}: parameter {parameter.name} is in the path; take {what} off, or rename one"
        )
    if parameter.structured or parameter.many:
        raise DeclarationError(f"@http {path}: path parameter {parameter.name} takes one plain value")
    if parameter.type is Any:
        parameter = msgspec.structs.replace(parameter, type=CONVERTERS[converter][1])
    return Input(parameter=parameter, origin="path", wire=parameter.name)


def _header_name(name: str) -> str:
    return name.replace("_", "-").lower()


def _body_inputs(bodies: Sequence[Parameter], method: str, path: str) -> Iterator[Input]:
    if bodies and method in BODYLESS:
        raise DeclarationError(
            f"@http {method} {path}: parameter {bodies[0].name} is read from the body, and a {method} has none; "
            "use @http.post, or take plain values from the query"
        )
    whole = [p for p in bodies if isinstance(p.source, Body)]
    if whole and len(bodies) > 1:
        other = next(p for p in bodies if p is not whole[0])
        raise DeclarationError(
            f"@http {path}: parameter {whole[0].name} is the whole body; {other.name} cannot be read from it too"
        )
    for parameter in bodies:
        origin: Origin = "body" if len(bodies) == 1 else "field"
        if whole and parameter.raw:
            origin = "raw"
        yield Input(parameter=parameter, origin=origin, wire=parameter.name)


def _payload_inputs(parameters: Sequence[Parameter], trigger: Trigger | None) -> Iterator[Input]:
    """A queue, the CLI, the API: one object of all arguments by name. A call by name is a tick where one must be."""
    where = f"@{trigger.kind}" if trigger else "a call by name"
    for parameter in parameters:
        if parameter.injected is None:
            yield Input(parameter=parameter, origin="argument", wire=parameter.name)
        elif parameter.injected == "context":
            yield Input(parameter=parameter, origin="context", wire=parameter.name)
        elif parameter.required and parameter.injected == "tick" and trigger is None:
            yield Input(parameter=parameter, origin="tick", wire=parameter.name)
        elif parameter.required:
            raise _unobtainable(where, parameter, "give it a default of None")


def _schedule_inputs(parameters: Sequence[Parameter], trigger: Schedule) -> Iterator[Input]:
    """A tick: its own Tick and Context, and what its payload names."""
    names = [p.name for p in parameters if p.injected is None]
    for name in trigger.payload.keys() - set(names):
        hint = did_you_mean(name, names)
        raise DeclarationError(f"@{trigger.kind}: payload has {name!r}, which the function does not take{hint}")
    for parameter in parameters:
        if parameter.injected in ("context", "tick"):
            yield Input(parameter=parameter, origin=parameter.injected, wire=parameter.name)
        elif parameter.name in trigger.payload:
            yield Input(parameter=parameter, origin="argument", wire=parameter.name)
        elif parameter.required:
            fix = f"give it a default, or write payload={{{parameter.name!r}: ...}}"
            raise _unobtainable(
                f"@{trigger.kind}", parameter, "give it a default of None" if parameter.injected else fix
            )


def _unobtainable(where: str, parameter: Parameter, fix: str) -> DeclarationError:
    what = f" ({parameter.injected})" if parameter.injected else ""
    return DeclarationError(f"{where} cannot supply parameter {parameter.name}{what}; {fix}")


def _payload_model(inputs: Sequence[Input]) -> Any:
    """As model_of, and the same one again for the same parameters: thousands of schedules may have one function."""
    fields = tuple((i.name, i.parameter.type, i.parameter.required) for i in inputs if i.origin == "argument")
    try:
        return _kept_model(fields)
    except TypeError:  # an annotation that cannot be hashed
        return model_of([i for i in inputs if i.origin == "argument"])


@lru_cache(maxsize=128)
def _kept_model(fields: tuple[tuple[str, Any, bool], ...]) -> Any:
    return _model({name: kind if required else NotRequired[kind] for name, kind, required in fields})


def check_payload(trigger: Schedule, inputs: Sequence[Input]) -> None:
    """Refuse a schedule's payload whose values do not fit the parameters' types, or have no JSON."""
    if not trigger.payload:
        return  # what must be supplied has been looked for
    try:
        msgspec.convert(trigger.payload, _payload_model(inputs))
    except msgspec.ValidationError as error:
        raise DeclarationError(f"@{trigger.kind}: payload does not fit the function: {error}") from None
    try:
        json.dumps(msgspec.to_builtins(trigger.payload, str_keys=True), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise DeclarationError(f"@{trigger.kind}: payload is kept as JSON, and this cannot be: {error}") from None
