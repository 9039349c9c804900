"""Describe the routes of a registry as OpenAPI 3.1.

Called by the admin API and, later, by `fnrun openapi`. Pure. Schemas are msgspec's own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runtime.base.settings import HttpSettings
from runtime.declare.parameters import Input, inputs_for
from runtime.declare.paths import CONVERTERS, parse_path, path_names
from runtime.declare.registry import Function, Registry
from runtime.declare.triggers import Http
from runtime.triggers.http.answers import content_type_of

_JSON = "application/json"
_URLENCODED = "application/x-www-form-urlencoded"
_REF = "#/components/schemas/{name}"
_PROBLEM_NAME = "fnrun.Problem"  # a name no class can have
_PROBLEM: Mapping[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "run_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "run_id": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}


def describe(registry: Registry, settings: HttpSettings, version: str) -> dict[str, Any]:
    """The OpenAPI document of all routes."""
    schemas = _Schemas(registry)
    paths: dict[str, dict[str, Any]] = {}
    for function in registry.functions.values():
        for trigger in function.triggers:
            if isinstance(trigger, Http):
                path = function.route(trigger)
                entry = paths.setdefault(_template(path), {})
                for method in trigger.methods:
                    # Patterns that differ in a converter alone are one path here; the first stands for them.
                    if method.lower() in entry:
                        continue
                    entry[method.lower()] = _operation(function, trigger, method, schemas, settings)
    return {
        "openapi": "3.1.0",
        "info": {"title": "fnrun functions", "version": version},
        "paths": paths,
        "components": {
            "schemas": {**schemas.components, _PROBLEM_NAME: _PROBLEM},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "responses": {
                "Problem": {
                    "description": "An error (RFC 9457).",
                    "content": {"application/problem+json": {"schema": {"$ref": _REF.format(name=_PROBLEM_NAME)}}},
                }
            },
        },
    }


class _Schemas:
    """JSON Schemas of all types in use, shared ones as components."""

    def __init__(self, registry: Registry) -> None:
        functions = registry.functions.values()
        found = [p.type for f in functions for p in f.parameters if p.info is not None] + [f.returns for f in functions]
        found += [kind for _, kind in CONVERTERS.values()]
        self._types = [one for one in found if _describable(one)]
        schemas, self.components = msgspec.json.schema_components(self._types, ref_template=_REF)
        self._schemas = list(schemas)

    def of(self, annotation: Any) -> dict[str, Any]:
        """The schema of a type; one that fits anything where JSON Schema has no word for it."""
        for known, schema in zip(self._types, self._schemas, strict=True):
            if known is annotation:
                return schema
        return {}


def _describable(annotation: Any) -> bool:
    try:
        msgspec.json.schema(annotation)
    except (TypeError, NameError):
        return False
    return True


def _template(path: str) -> str:
    return "/" + "/".join(f"{{{s.name}}}" if s.name else s.text for s in parse_path(path))


def _operation(
    function: Function, trigger: Http, method: str, schemas: _Schemas, settings: HttpSettings
) -> dict[str, Any]:
    inputs = inputs_for(trigger, function.parameters, method, function.route(trigger))
    single = len(trigger.methods) == 1 and sum(isinstance(t, Http) for t in function.triggers) == 1
    operation: dict[str, Any] = {
        "operationId": function.name if single else f"{function.name}:{method} {function.route(trigger)}",
        "summary": function.summary or function.name,
        "tags": [function.name.partition(".")[0]],
        "parameters": _parameters(function.route(trigger), inputs, schemas),
        "responses": _responses(function, trigger, schemas),
        "security": [] if (trigger.auth or settings.auth) == "public" else [{"key": []}],
    }
    content = _request_content(inputs, schemas)
    if content is not None:
        required = any(i.parameter.required for i in inputs if i.origin in ("body", "raw", "field", "file"))
        operation["requestBody"] = {"required": required, "content": content}
    return operation


def _parameters(path: str, inputs: Sequence[Input], schemas: _Schemas) -> list[dict[str, Any]]:
    """Parameters of an operation; those of the path that only a Request sees, too."""
    seen = {i.wire for i in inputs if i.origin == "path"}
    unseen = [name for name in path_names(path) if name not in seen]
    return [_parameter(i, schemas) for i in inputs if i.origin in ("path", "query", "header", "cookie")] + [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in unseen
    ]


def _parameter(one: Input, schemas: _Schemas) -> dict[str, Any]:
    required = one.origin == "path" or one.parameter.required
    return {"name": one.wire, "in": one.origin, "required": required, "schema": schemas.of(one.parameter.type)}


def _request_content(inputs: Sequence[Input], schemas: _Schemas) -> dict[str, Any] | None:
    fields = [i for i in inputs if i.origin in ("field", "file")]
    if fields:
        schema = {
            "type": "object",
            "properties": {i.wire: _field(i, schemas) for i in fields},
            "required": [i.wire for i in fields if i.parameter.required],
        }
        if any(i.origin == "file" for i in fields):
            return {"multipart/form-data": {"schema": schema}}
        return {_JSON: {"schema": schema}, _URLENCODED: {"schema": schema}}
    for one in inputs:
        if one.origin == "body":
            return {_JSON: {"schema": schemas.of(one.parameter.type)}}
        if one.origin == "raw":
            return {"*/*": {"schema": {"type": "string"}}}
    return None


def _field(one: Input, schemas: _Schemas) -> dict[str, Any]:
    if one.origin != "file":
        return schemas.of(one.parameter.type)
    file = {"type": "string", "format": "binary"}
    return {"type": "array", "items": file} if one.parameter.several else file


def _responses(function: Function, trigger: Http, schemas: _Schemas) -> dict[str, Any]:
    problem = {"$ref": "#/components/responses/Problem"}
    if function.returns is None or function.returns is type(None):
        return {str(trigger.status or 204): {"description": "Done."}, "default": problem}
    success: dict[str, Any] = {"description": "Success."}
    content_type = content_type_of(function.returns)
    if content_type is not None:
        success["content"] = {content_type.decode(): {"schema": {"type": "string"}}}
    elif function.yields_events:
        success["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    elif function.kind in ("async", "sync"):
        success["content"] = {_JSON: {"schema": schemas.of(function.returns)}}
    else:
        success["description"] = "A stream: text, bytes, or one JSON value a line."
    return {str(trigger.status or 200): success, "default": problem}
