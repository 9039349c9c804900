"""What schemathesis cannot know of JSON and of forms. Loaded by its command, through schemathesis.toml."""

from typing import Any

import schemathesis


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Leave Idempotency-Key to tests of its own: one is for one request alone, and here they would be used again."""
    for item in raw_schema["paths"].values():
        for operation in item.values():
            operation["parameters"] = [one for one in operation["parameters"] if one["name"] != "Idempotency-Key"]


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Write 8790.0 as 8790: JSON Schema takes both for integers, msgspec only the second, and the reference says so."""
    return _whole(body)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    return [_whole(one) for one in value] if isinstance(value, list) else value


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Leave out queries and forms that are meant to be wrong, and are not once they are on the wire.

    A single value in place of a list is one pair, as a list of one is. Of a list in place of a single value the last
    counts, as the reference says. Any JSON in place of a file is sent as a file.
    """
    given = [(schema, case.query[name]) for name, schema in _query_fields(case).items() if name in (case.query or {})]
    if isinstance(case.body, dict):
        given += [(schema, case.body[name]) for name, schema in _form_fields(case).items() if name in case.body]
    return all(_is_told_right(schema, value) for schema, value in given)


def _is_told_right(schema: dict[str, Any], value: Any) -> bool:
    if "contentMediaType" in schema:
        return not (value is None or isinstance(value, int | float | dict | list))
    kinds = str(schema.get("type", schema.get("anyOf")))
    if "array" in kinds:
        return isinstance(value, list) and all(_is_told_right(schema.get("items", {}), one) for one in value)
    return kinds == "None" or not isinstance(value, list)


def _operation(case: Any) -> dict[str, Any]:
    found: dict[str, Any] = case.operation.schema.raw_schema["paths"][case.operation.path][case.operation.method]
    return found


def _query_fields(case: Any) -> dict[str, Any]:
    return {one["name"]: one["schema"] for one in _operation(case)["parameters"] if one["in"] == "query"}


def _form_fields(case: Any) -> dict[str, Any]:
    """The fields of a form's schema; none for another body."""
    if "form" not in str(case.media_type):
        return {}
    content = _operation(case).get("requestBody", {"content": {}})["content"]
    schema = content.get(case.media_type, {}).get("schema", {})
    if "$ref" in schema:
        schema = case.operation.schema.raw_schema["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    fields: dict[str, Any] = schema.get("properties", {})
    return fields
