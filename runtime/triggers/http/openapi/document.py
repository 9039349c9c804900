"""Describe the routes of a registry as an OpenAPI 3.1 document.

Called by the admin API and by `fnrun openapi`. Pure, and in a fixed order. The runtime's own paths are left out: the
document is of what the functions offer.
"""

from collections.abc import Sequence
from typing import Any

from runtime.base.sections import HttpSettings
from runtime.declare.paths import CONVERTERS, parse_path
from runtime.declare.registry import Registry
from runtime.declare.triggers import Http
from runtime.triggers.http.openapi.operations import Route, describe_operation, described_types
from runtime.triggers.http.openapi.responses import shared_parts
from runtime.triggers.http.openapi.schemas import Json, Schemas

_EXACTNESS = list(CONVERTERS)
_SCHEMES = {
    "key": {"type": "http", "scheme": "bearer", "description": "A key of `fnrun keys create`."},
    "signed": {
        "type": "apiKey",
        "in": "header",
        "name": "webhook-signature",
        "description": "Standard Webhooks: HMAC-SHA256 of `id.timestamp.body`, with the headers of these.",
    },
}


def describe(registry: Registry, settings: HttpSettings, version: str) -> dict[str, Any]:
    """The OpenAPI document of all routes."""
    functions = registry.functions.values()
    schemas = Schemas(one for function in functions for one in described_types(function))
    groups: dict[tuple[str, ...], list[Route]] = {}
    for function in functions:
        for trigger in function.triggers:
            if isinstance(trigger, Http):
                for method in trigger.methods:
                    route = Route(function=function, trigger=trigger, method=method, settings=settings)
                    groups.setdefault(_shape(route.path), []).append(route)
    parts = shared_parts()
    return {
        "openapi": "3.1.0",
        "info": {"title": "fnrun functions", "version": version},
        "paths": dict(_path_item(routes, schemas) for routes in groups.values()),
        "components": {
            **parts,
            "schemas": schemas.components | parts["schemas"],
            "securitySchemes": _SCHEMES,
        },
    }


def _shape(path: str) -> tuple[str, ...]:
    """What makes two patterns one path to OpenAPI: names and converters of parameters do not count."""
    return tuple("{}" if segment.name else segment.text for segment in parse_path(path))


def _path_item(routes: Sequence[Route], schemas: Schemas) -> tuple[str, Json]:
    """One path, and what it answers by method; its parameters have the names of the first route."""
    first = parse_path(routes[0].path)
    path = "/" + "/".join(f"{{{segment.name}}}" if segment.name else segment.text for segment in first)
    by_method: dict[str, list[Route]] = {}
    for route in sorted(routes, key=_exactness):
        by_method.setdefault(route.method, []).append(route)
    return path, {method.lower(): _operation(by_method[method], path, schemas) for method in sorted(by_method)}


def _exactness(route: Route) -> list[int]:
    """Sorts patterns as the route table tries them."""
    return [_EXACTNESS.index(segment.converter) for segment in parse_path(route.path) if segment.name]


def _operation(routes: Sequence[Route], path: str, schemas: Schemas) -> Json:
    """The operation of one method: of one route, or of several that OpenAPI cannot tell apart."""
    described = [_renamed(route, path, describe_operation(route, schemas)) for route in routes]
    return described[0] if len(described) == 1 else _merged(routes, described)


def _renamed(route: Route, path: str, operation: Json) -> Json:
    """The operation with an id, and the path's parameters under the names that `path` gives them."""
    names = [segment.name for segment in parse_path(path)]
    new = {old.name: name for old, name in zip(parse_path(route.path), names, strict=True) if name}
    for one in operation["parameters"]:
        if one["in"] == "path":
            one["name"] = new[one["name"]]
    return {"operationId": _id_of(route), **operation}


def _id_of(route: Route) -> str:
    """The function's name; with the method, and the path, where that is not enough. No name has a colon in it."""
    all_routes = [
        (method, trigger)
        for trigger in route.function.triggers
        if isinstance(trigger, Http)
        for method in trigger.methods
    ]
    if len(all_routes) == 1:
        return route.function.name
    found = f"{route.function.name}:{route.method.lower()}"
    return found if [method for method, _ in all_routes].count(route.method) == 1 else f"{found}:{route.path}"


def _merged(routes: Sequence[Route], operations: Sequence[Json]) -> Json:
    """One operation that stands for several: it takes and answers what any of them does."""
    listed = [f"- `{r.path}`: `{r.function.name}`. {o['summary']}" for r, o in zip(routes, operations, strict=True)]
    bodies = [one["requestBody"] for one in operations if "requestBody" in one]
    merged: Json = {
        "operationId": " or ".join(one["operationId"] for one in operations),
        "summary": " / ".join(dict.fromkeys(one["summary"] for one in operations)),
        "description": "\n".join(["The first pattern that fits the path answers:", "", *listed]),
        "tags": list(dict.fromkeys(tag for one in operations for tag in one["tags"])),
        "parameters": _merge_parameters([one["parameters"] for one in operations]),
    }
    if bodies:
        required = len(bodies) == len(operations) and all(one["required"] for one in bodies)
        merged["requestBody"] = {"required": required, "content": _merge_content([one["content"] for one in bodies])}
    merged["responses"] = _merge_responses([one["responses"] for one in operations])
    merged["security"] = _either_of([one["security"] for one in operations])
    return merged


def _either_of(securities: Sequence[list[Json]]) -> list[Json]:
    different = [one for n, one in enumerate(securities) if one not in securities[:n]]
    if len(different) == 1:
        return different[0]
    return sorted((way for one in different for way in (one or [{}])), key=len)


def _merge_parameters(lists: Sequence[list[Json]]) -> list[Json]:
    found: dict[tuple[str, str], list[Json]] = {}
    for parameters in lists:
        for one in parameters:
            found.setdefault((one["in"], one["name"]), []).append(one)
    merged = []
    for same in found.values():
        required = same[0]["in"] == "path" or (len(same) == len(lists) and all(one["required"] for one in same))
        schema = _either([one["schema"] for one in same])
        merged.append({**same[0], "required": required, "schema": schema})
    return merged


def _merge_content(contents: Sequence[Json]) -> Json:
    kinds = dict.fromkeys(kind for content in contents for kind in content)
    return {kind: {"schema": _either([c[kind].get("schema", {}) for c in contents if kind in c])} for kind in kinds}


def _merge_responses(responses: Sequence[Json]) -> Json:
    merged: Json = {}
    for status in sorted({status for one in responses for status in one}):
        same = [one[status] for one in responses if status in one]
        merged[status] = same[0]
        if any(one != same[0] for one in same):
            merged[status] = {
                **same[0],
                "content": _merge_content([one["content"] for one in same if "content" in one]),
            }
    return merged


def _either(schemas: Sequence[Json]) -> Json:
    different = [one for n, one in enumerate(schemas) if one not in schemas[:n]]
    return different[0] if len(different) == 1 else {"anyOf": different}
