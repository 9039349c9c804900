"""Turn a body, or a form, into arguments; and say all that is wrong with them.

Called by binding: a reader is compiled once at load. The fast path stops at the first fault; only then is each
parameter read by itself, so that the InputError names every wrong one.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import inspect as types

from runtime.base.errors import InputError
from runtime.declare.signatures.inputs import Input, model_of

Form = dict[str, list[Any]]
"""A form as the trigger read it: every value of each name, text or an uploaded file."""

_ANY = msgspec.json.Decoder()
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

UNFIT = "the input does not fit the function"
PLAIN_TEXT = types.StrType()
"""A str without constraints: all that comes as text is one already."""


def body_reader(inputs: Sequence[Input]) -> Callable[[bytes], dict[str, Any]] | None:
    """How the body becomes arguments; None where no parameter is read from it."""
    fields = [i for i in inputs if i.origin == "field"]
    if fields:
        return _fields_reader(fields)
    for one in inputs:
        if one.origin == "raw":
            return _raw_reader(one)
        if one.origin == "body":
            return _whole_reader(one)
    return None


def _fields_reader(fields: Sequence[Input]) -> Callable[[bytes], dict[str, Any]]:
    decoder = msgspec.json.Decoder(model_of(fields))

    def read(body: bytes) -> dict[str, Any]:
        try:
            return decoder.decode(body or b"{}")  # type: ignore[no-any-return]
        except _MALFORMED as error:
            given = decode_untyped(body or b"{}")
            if not isinstance(given, dict):
                raise InputError(422, f"the body is one JSON object with {', '.join(i.name for i in fields)}") from None
            raise unfit(faults_of(given, fields), error) from None

    return read


def _whole_reader(one: Input) -> Callable[[bytes], dict[str, Any]]:
    decoder = msgspec.json.Decoder(one.parameter.type)

    def read(body: bytes) -> dict[str, Any]:
        if not body and not one.parameter.required:
            return {}
        try:
            return {one.name: decode_json(body, decoder)}
        except msgspec.ValidationError as error:
            raise InputError(422, UNFIT, [_fault(one, error)]) from None

    return read


def form_reader(inputs: Sequence[Input]) -> Callable[[Form], dict[str, Any]]:
    """How a form becomes arguments: its text is read as the types say, as a query's is."""
    fields = [i for i in inputs if i.origin == "field"]
    files = [i for i in inputs if i.origin == "file"]
    model = model_of(fields)
    numbers = [i for i in fields if may_be_infinite(i.parameter.info)]
    whole = next((i for i in inputs if i.origin == "body"), None)
    lists = _list_fields(whole.parameter.info) if whole else frozenset()

    def read(form: Form) -> dict[str, Any]:
        if whole is not None:
            given = {name: values if name in lists else values[-1] for name, values in form.items()}
            return {whole.name: _whole(given, whole)}
        given = {i.name: _field(form[i.wire], many=i.parameter.many) for i in fields if i.wire in form}
        uploads = {i.name: _field(form[i.wire], many=i.parameter.several) for i in files if i.wire in form}
        faults: list[Mapping[str, str]] = [fault for i in files if (fault := _file_fault(i, uploads))]
        arguments: dict[str, Any] = {}
        try:
            arguments = msgspec.convert(given, model, strict=False)
        except msgspec.ValidationError as error:
            if not (found := faults_of(given, fields, strict=False)):
                raise unfit(faults, error) from None
            faults += found
        faults += infinite_faults(arguments, numbers)
        if faults:
            raise InputError(422, UNFIT, faults)
        return arguments | uploads

    return read


def _whole(given: Mapping[str, Any], one: Input) -> Any:
    """A form as one object. InputError for what does not fit, a number that JSON could not answer included."""
    try:
        found = msgspec.convert(given, one.parameter.type, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(422, UNFIT, [_fault(one, error)]) from None
    values = msgspec.to_builtins(found)
    for name in given:
        if not all(_is_finite(value) for value in _each(values.get(name))):
            fault = {"in": "body", "name": one.wire, "path": f"$.{name}", "detail": "Expected a finite number"}
            raise InputError(422, UNFIT, [fault])
    return found


def _field(values: list[Any], *, many: bool) -> Any:
    return values if many else values[-1]


def _file_fault(one: Input, uploads: Mapping[str, Any]) -> Mapping[str, str] | None:
    found = uploads.get(one.name)
    if found is None:
        detail = "required, but missing" if one.parameter.required else ""
    else:
        detail = (
            "Expected a file, got text"
            if any(isinstance(v, str) for v in (found if one.parameter.several else [found]))
            else ""
        )
    return {"in": "body", "name": one.wire, "path": "$", "detail": detail} if detail else None


def _list_fields(info: types.Type | None) -> frozenset[str]:
    """The fields of an object that take several values."""
    fields = getattr(info, "fields", ())
    return frozenset(f.encode_name for f in fields if isinstance(f, types.Field) and _takes_many(f.type))


def _takes_many(info: types.Type) -> bool:
    members = info.types if isinstance(info, types.UnionType) else (info,)
    return any(isinstance(one, types.CollectionType | types.TupleType) for one in members)


def _raw_reader(one: Input) -> Callable[[bytes], dict[str, Any]]:
    def read(body: bytes) -> dict[str, Any]:
        if not body and not one.parameter.required:
            return {}
        try:
            value = (
                msgspec.convert(body, one.parameter.type)
                if as_bytes
                else msgspec.convert(body.decode(), one.parameter.type)
            )
        except msgspec.ValidationError as error:
            raise InputError(422, UNFIT, [_fault(one, error)]) from None
        except UnicodeDecodeError:
            raise InputError(400, "the body is not UTF-8 text") from None
        return {one.name: value}

    as_bytes = any(isinstance(found, types.BytesType) for found in _scalars(one.parameter.info))
    return read


def decode_json(body: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    """One JSON value. InputError (400) for what is not JSON; ValidationError goes on for what does not fit."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        raise
    except RecursionError:
        raise InputError(400, "the JSON is nested too deeply") from None
    except _MALFORMED as error:
        detail = "it is empty" if not body else f"{error}"
        raise InputError(400, f"the body is not JSON: {detail}") from None


def decode_untyped(body: bytes) -> Any:
    """One JSON value of any kind. InputError (400, 422)."""
    try:
        return decode_json(body, _ANY)
    except msgspec.ValidationError as error:  # the one fault there is without a type: 1e400
        detail, _, _ = str(error).partition(" - at `")
        raise InputError(422, f"the JSON holds what cannot be read: {detail}") from None


def faults_of(given: Mapping[str, Any], inputs: Sequence[Input], *, strict: bool = True) -> list[dict[str, str]]:
    """The first wrong place of each wrong parameter. Only on the way to an error: reads each one by itself."""
    faults = []
    for one in inputs:
        if one.name not in given:
            if one.parameter.required:
                faults.append({"in": _place(one), "name": one.wire, "path": "$", "detail": "required, but missing"})
            continue
        try:
            msgspec.convert(given[one.name], one.parameter.type, strict=strict, str_keys=True)
        except msgspec.ValidationError as error:
            faults.append(_fault(one, error))
    return faults


def unfit(faults: Sequence[Mapping[str, str]], error: Exception) -> InputError:
    """What does not fit. error: what reading all at once failed with; told where no parameter by itself is wrong."""
    return InputError(422, UNFIT if faults else f"{UNFIT}: {error}", faults)


def _fault(one: Input, error: msgspec.ValidationError) -> dict[str, str]:
    detail, _, path = str(error).partition(" - at `")
    return {"in": _place(one), "name": one.wire, "path": path.removesuffix("`") or "$", "detail": detail}


def _place(one: Input) -> str:
    return {"field": "body", "argument": "payload", "raw": "body"}.get(one.origin, one.origin)


def may_be_infinite(info: types.Type | None) -> bool:
    """Whether text read as this type may come out as NaN or an infinity."""
    return any(isinstance(found, types.FloatType | types.DecimalType) for found in _scalars(info))


def _scalars(info: Any) -> list[types.Type]:
    """The plain types in a parameter's: Annotated, Optional and lists taken off."""
    if isinstance(info, types.Metadata):
        return _scalars(info.type)
    if isinstance(info, types.UnionType):
        return [found for one in info.types for found in _scalars(one)]
    if isinstance(info, types.CollectionType):
        return _scalars(info.item_type)
    return [info] if info is not None else []


def infinite_faults(arguments: Mapping[str, Any], numbers: Sequence[Input]) -> list[Mapping[str, str]]:
    """Text may say nan and inf, which are read as numbers, but which JSON could not answer."""
    return [
        {"in": _place(one), "name": one.wire, "path": "$", "detail": "Expected a finite number"}
        for one in numbers
        if not all(_is_finite(n) for n in _each(arguments.get(one.name)))
    ]


def _is_finite(value: Any) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite()  # math.isfinite would make a float of it, which 1e400 is too large for
    return not isinstance(value, float) or math.isfinite(value)


def _each(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | set | frozenset | tuple) else (value,)
