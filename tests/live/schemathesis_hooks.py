"""What schemathesis cannot know of JSON and of forms. Loaded by its command, through schemathesis.toml."""

from typing import Any

import schemathesis


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
    """Leave out forms that are meant to be wrong, and are not once they are on the wire.

    A single value in place of a list is one pair, as a list of one is. Any JSON in place of a file is sent as a file.
    """
    if not isinstance(case.body, dict):
        return True
    given = [(schema, case.body[name]) for name, schema in _form_fields(case).items() if name in case.body]
    return all(_is_told_right(schema, value) for schema, value in given)


def _is_told_right(schema: dict[str, Any], value: Any) -> bool:
    if "contentMediaType" in schema:
        return not (value is None or isinstance(value, int | float | dict | list))
    if "array" not in str(schema.get("type", schema.get("anyOf"))):
        return True
    return isinstance(value, list) and all(_is_told_right(schema.get("items", {}), one) for one in value)


def _form_fields(case: Any) -> dict[str, Any]:
    """The fields of a form's schema; none for another body."""
    document = case.operation.schema.raw_schema
    body = document["paths"][case.operation.path][case.operation.method].get("requestBody", {"content": {}})
    schema = body["content"].get(case.media_type, {}).get("schema", {})
    if "form" not in str(case.media_type):
        return {}
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    fields: dict[str, Any] = schema.get("properties", {})
    return fields
