"""Describe one method of one route as an OpenAPI operation, above all what it takes.

Called by openapi. Pure. It says what binding, routes and bodies do, so it changes with them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import inspect as types

from runtime.base.sections import HttpSettings
from runtime.declare.paths import CONVERTERS, path_names
from runtime.declare.registry import Function
from runtime.declare.signatures.docstrings import Example
from runtime.declare.signatures.inputs import BODYLESS, Input, inputs_for
from runtime.declare.signatures.parameters import Parameter
from runtime.declare.triggers import Http
from runtime.triggers.http.openapi.responses import (
    KEY_HEADER,
    alternatives,
    describe_accepted,
    describe_errors,
    describe_successes,
    error_statuses,
    takes_keys,
)
from runtime.triggers.http.openapi.schemas import Json, Schemas, is_text, members

_JSON = "application/json"
_URLENCODED = "application/x-www-form-urlencoded"
_ANYTHING = "*/*"
_FORMS = (types.StructType, types.DataclassType, types.TypedDictType)
_PLACES = ("path", "query", "header", "cookie")
_SEGMENT = r"^[^\x00-\x1f\x7f\\]*$"
_PATHS: Mapping[str, Json] = {
    "int": {"minimum": 0},
    "float": {"minimum": 0, "description": "Digits, and a fraction if there is one; no exponent."},
    "uuid": {},
    "str": {"minLength": 1, "pattern": _SEGMENT, "not": {"enum": [".", ".."]}},
    "path": {"pattern": _SEGMENT, "description": "All that follows: it may hold slashes, and be empty."},
}
"""What the route table asks of a parameter of the path."""
_LEAST = ("minimum", "minLength")


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one route."""

    function: Function
    trigger: Http
    method: str
    settings: HttpSettings

    @property
    def path(self) -> str:
        """Its pattern."""
        return self.function.route(self.trigger)

    @property
    def auth(self) -> str:
        """Who may call it: "public", "key" or "signed"."""
        return self.trigger.auth or self.settings.auth

    @property
    def security(self) -> list[Json]:
        """What its caller shows, as OpenAPI says it."""
        return [] if self.auth == "public" else [{self.auth: []}]

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Where each parameter comes from."""
        return inputs_for(self.trigger, self.function.parameters, self.method, self.path)


def described_types(function: Function) -> Iterator[Any]:
    """Every type a function's operations need the schema of."""
    yield from (p.type for p in function.parameters if p.info is not None)
    yield from (kind for _, kind in CONVERTERS.values())
    yield function.returns
    yield from alternatives(function.returns)
    if function.items is not None:
        yield function.items


def describe_operation(route: Route, schemas: Schemas) -> Json:
    """The operation, without an id."""
    function, inputs = route.function, route.inputs
    examples = function.doc.examples
    operation: Json = {"summary": function.summary or function.name}
    deprecated = getattr(function.call, "__deprecated__", None)
    said = [text for text in (function.doc.description, deprecated and f"Deprecated: {deprecated}") if text]
    if said:
        operation["description"] = "\n\n".join(said)
    operation["tags"] = [function.name.partition(".")[0]]
    if deprecated is not None:
        operation["deprecated"] = True
    operation["parameters"] = _parameters(route, inputs, schemas, examples)
    own = {one["name"].lower() for one in operation["parameters"] if one["in"] == "header"}
    if takes_keys(function, route.method) and KEY_HEADER["name"].lower() not in own:
        operation["parameters"].append(dict(KEY_HEADER))
    if (body := _request_body(route, inputs, schemas, examples)) is not None:
        operation["requestBody"] = body
    errors = error_statuses(function, route.trigger, inputs, auth=route.auth, reads_itself=_reads_itself(route, inputs))
    successes = describe_successes(function, route.trigger.status, schemas)
    later = describe_accepted(function)
    operation["responses"] = {**successes, **later, **successes, **describe_errors(function, errors)}
    operation["security"] = route.security
    return operation


def _parameters(route: Route, inputs: Sequence[Input], schemas: Schemas, examples: Sequence[Example]) -> list[Json]:
    """Parameters of an operation; those of the path that only a Request sees, too."""
    converters = path_names(route.path)
    seen = [_parameter(i, schemas, examples) for i in inputs if i.origin in _PLACES]
    named = {one["name"] for one in seen if one["in"] == "path"}
    for name, converter in converters.items():
        if name not in named:
            schema = schemas.of(CONVERTERS[converter][1])
            seen.append({"name": name, "in": "path", "required": True, "schema": schema})
    for one in seen:
        if one["in"] == "path":
            _hold_to_converter(one, converters[one["name"]])
    order = list(converters)
    return sorted(seen, key=lambda one: order.index(one["name"]) if one["in"] == "path" else len(order))


def _hold_to_converter(parameter: Json, converter: str) -> None:
    """Add to a path parameter what its route asks of it."""
    asked = dict(_PATHS[converter])
    if (description := asked.pop("description", None)) and "description" not in parameter:
        parameter["description"] = description
    schema = parameter["schema"]
    is_text, asks_text = schema.get("type") == "string", converter in ("str", "path")
    if asks_text and (not is_text or schema.keys() & {"format", "pattern"}):
        return  # its own type says more
    if is_text and not asks_text:
        asked = {"pattern": f"^{CONVERTERS[converter][0]}$"}
    elif not is_text and schema.get("type") not in ("integer", "number"):
        return
    schema |= asked | {name: max(asked[name], schema[name]) for name in _LEAST if name in schema and name in asked}


def _parameter(one: Input, schemas: Schemas, examples: Sequence[Example]) -> Json:
    schema = _with_default(one, schemas.of(one.parameter.type))
    found: Json = {"name": one.wire, "in": one.origin}
    if "description" in schema:
        found["description"] = schema.pop("description")
    found |= {"required": one.origin == "path" or one.parameter.required, "schema": schema}
    values = {e.title: {"value": e.arguments[one.name]} for e in examples if one.name in e.arguments}
    return found | ({"examples": values} if values else {})


def _with_default(one: Input, schema: Json) -> Json:
    default = one.parameter.default
    if one.parameter.required or default is None:
        return schema
    try:
        return schema | {"default": msgspec.to_builtins(default, str_keys=True)}
    except (TypeError, ValueError):
        return schema  # a default that only Python can hold


def _request_body(route: Route, inputs: Sequence[Input], schemas: Schemas, examples: Sequence[Example]) -> Json | None:
    read = [i for i in inputs if i.origin in ("field", "file", "body", "raw")]
    if not read:
        if _reads_itself(route, inputs):
            return {"description": "Read by the function itself.", "required": False, "content": {_ANYTHING: {}}}
        return None
    values = {e.title: {"value": value} for e in examples if (value := _body_value(e, read)) is not None}
    content = _content(read, schemas)
    for one in content.values():
        if values:
            one["examples"] = values
    # What is taken as it came may be empty.
    return {"required": any(i.parameter.required and i.origin != "raw" for i in read), "content": content}


def _body_value(example: Example, read: Sequence[Input]) -> Any:
    """What an example has for the body; None where it has nothing, or nothing that JSON can show."""
    given = {i.wire: example.arguments[i.name] for i in read if i.name in example.arguments}
    if read[0].origin == "body":
        return given.get(read[0].wire)
    if read[0].origin == "raw":
        value = msgspec.convert(given.get(read[0].wire), read[0].parameter.type | None)
        return _text(value) if isinstance(value, bytes) else value
    return None if any(i.origin == "file" for i in read) else given or None


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _content(read: Sequence[Input], schemas: Schemas) -> Json:
    """The media types of a body, with their schemas."""
    first = read[0]
    if first.origin == "raw":  # of any type; what is read as text is best sent as such
        return {"text/plain": {"schema": schemas.of(first.parameter.type)}} if is_text(first) else {_ANYTHING: {}}
    if first.origin == "body":
        schema = schemas.of(first.parameter.type)
        return {kind: {"schema": schema} for kind in ([_JSON, _URLENCODED] if _fits_form(first) else [_JSON])}
    schema = {
        "type": "object",
        "properties": {i.wire: _field(i, schemas) for i in read},
        "required": [i.wire for i in read if i.parameter.required],
    }
    if any(i.origin == "file" for i in read):
        return {"multipart/form-data": {"schema": schema}}
    plain = not any(i.parameter.structured for i in read)
    return {kind: {"schema": schema} for kind in ([_JSON, _URLENCODED] if plain else [_JSON])}


def _field(one: Input, schemas: Schemas) -> Json:
    if one.origin != "file":
        return _with_default(one, schemas.of(one.parameter.type))
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    return {"type": "array", "items": file} if one.parameter.several else file


def _fits_form(one: Input) -> bool:
    """Whether a whole body may come as a form: an object of plain values and lists of them."""
    objects = [info for info in members(one.parameter.info) if not isinstance(info, types.NoneType)]
    return all(
        isinstance(info, _FORMS)
        and not getattr(info, "array_like", False)
        and not any(map(_is_structured, info.fields))
        for info in objects
    )


def _is_structured(field: types.Field) -> bool:
    return Parameter(name=field.name, type=Any, info=field.type).structured


def _reads_itself(route: Route, inputs: Sequence[Input]) -> bool:
    """Whether the function may read a body through its Request."""
    return route.method not in BODYLESS and any(i.origin == "request" for i in inputs)
