"""JSON Schemas of the types that functions take and give.

Called by openapi and operations. Pure. The schemas are msgspec's own, made exact where msgspec says less than it
checks; what JSON Schema has no word for fits anything.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import inspect as types

from runtime.declare.signatures.inputs import Input
from runtime.declare.signatures.parameters import walk_types

Json = dict[str, Any]

REF = "#/components/schemas/{name}"
_OBJECTS = (types.StructType, types.DataclassType, types.TypedDictType, types.NamedTupleType)
_NUMBER = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,9})?$"


class Schemas:
    """The schema of each type in use; `components` has those that are shared."""

    def __init__(self, annotations: Iterable[Any]) -> None:
        self._schemas: dict[Any, Mapping[str, Any]] = {}
        # An annotation may be unhashable; it is kept here, so that its id stays its own.
        self._kept = [one for one in annotations if _describable(one)]
        infos = types.multi_type_info(self._kept)
        classes = {inner.cls: inner for info in infos for inner in walk_types(info) if isinstance(inner, _OBJECTS)}
        found, self.components = msgspec.json.schema_components(
            [*self._kept, *classes], schema_hook=_anything, ref_template=REF
        )
        for annotation, info, schema in zip(self._kept, infos, found, strict=False):
            _mend(info, schema)
            self._schemas[_key(annotation)] = schema
        for info, reference in zip(classes.values(), found[len(self._kept) :], strict=True):
            component = self.components[reference["$ref"].removeprefix(REF.format(name=""))]
            _mend_fields(info, component)

    def of(self, annotation: Any) -> Json:
        """The schema of a type, to be added to; one that fits anything where there is none."""
        return dict(self._schemas.get(_key(annotation), {}))


def _anything(_: type) -> Json:
    return {}


def _key(annotation: Any) -> Any:
    try:
        hash(annotation)
    except TypeError:
        return id(annotation)
    return annotation


def _describable(annotation: Any) -> bool:
    try:
        msgspec.json.schema(annotation, schema_hook=_anything)
    except (TypeError, NameError):
        return False
    return True


def _mend(info: types.Type, schema: Json) -> None:
    """Say in the schema of a type what msgspec checks, but leaves out."""
    while isinstance(info, types.Metadata):
        info = info.type
    if "$ref" in schema:
        return
    if (mend := _MENDED.get(type(info))) is not None:
        mend(info, schema)
    elif isinstance(info, types.CollectionType):
        _mend_all([info.item_type], [schema.get("items")])
    elif isinstance(info, types.DictType):
        _mend_all([info.value_type], [schema.get("additionalProperties")])
    elif isinstance(info, types.TupleType):
        _mend_all(info.item_types, schema.get("prefixItems", ()))
    elif isinstance(info, types.UnionType):
        # msgspec writes the plain members first, in their order; objects and null need no mending.
        plain = [one for one in info.types if not isinstance(_bare(one), types.StructType | types.NoneType)]
        _mend_all(plain, schema.get("anyOf", ()))


def _mend_all(infos: Iterable[types.Type], schemas: Iterable[Any]) -> None:
    for info, schema in zip(infos, schemas, strict=False):
        if isinstance(schema, dict):
            _mend(info, schema)


def _mend_fields(info: Any, schema: Json) -> None:
    if "properties" in schema:
        _mend_all((f.type for f in info.fields), (schema["properties"][f.encode_name] for f in info.fields))
    else:
        items = schema.get("prefixItems", ())
        _mend_all((f.type for f in info.fields), items[len(items) - len(info.fields) :])


def _bare(info: types.Type) -> types.Type:
    return _bare(info.type) if isinstance(info, types.Metadata) else info


def _mend_datetime(info: Any, schema: Json) -> None:
    if info.tz is not False:
        schema.setdefault("format", "date-time")


def _mend_time(info: Any, schema: Json) -> None:
    if info.tz is not False:
        schema.setdefault("format", "time")


def _mend_duration(_: Any, schema: Json) -> None:
    schema.setdefault("pattern", r"^[+-]?P([0-9]+D)?(T([0-9]+H)?([0-9]+M)?([0-9]+(\.[0-9]+)?S)?)?$")


def _mend_decimal(_: Any, schema: Json) -> None:
    text = {"type": schema.pop("type"), "format": schema.pop("format"), "pattern": _NUMBER}
    schema["anyOf"] = [text, {"type": "number"}]


_MENDED: Mapping[type, Callable[[Any, Json], None]] = {
    types.DateTimeType: _mend_datetime,
    types.TimeType: _mend_time,
    types.TimeDeltaType: _mend_duration,
    types.DecimalType: _mend_decimal,
}


def members(info: types.Type | None) -> Iterator[types.Type]:
    """The alternatives of a type, Annotated taken off."""
    if isinstance(info, types.Metadata):
        yield from members(info.type)
    elif isinstance(info, types.UnionType):
        for one in info.types:
            yield from members(one)
    elif info is not None:
        yield info


def is_text(one: Input) -> bool:
    """Whether a body that is taken as it came is taken as text."""
    return not any(isinstance(info, types.BytesType) for info in members(one.parameter.info))
