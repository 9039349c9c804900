"""Compile a handler's signature into a plan that reads arguments out of a request or a payload.

Compiled once at load by the HTTP core and the CLI; run once a call. A plan makes one msgspec call for all that comes as
text and one for the body. Faults in a call are InputErrors that name every wrong parameter.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import wraps
from typing import Any, ParamSpec

import msgspec
from msgspec import inspect as types

from runtime.base.errors import FnrunError, InputError
from runtime.declare.parameters import Input, inputs_for, model_of
from runtime.declare.registry import Function
from runtime.declare.request import Request
from runtime.declare.triggers import Http

_P = ParamSpec("_P")

Form = dict[str, list[Any]]
"""A form as the trigger read it: every value of each name, text or an uploaded file."""

_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class BindingFailed(FnrunError):  # noqa: N818 - an outcome, like the others
    """A type of the author's own (its `__post_init__`, say) raised what it should not."""


def _guarded(bind: Callable[_P, dict[str, Any]]) -> Callable[_P, dict[str, Any]]:
    """Let nothing out of `bind` that would end the server: authors' types run code of their own."""

    @wraps(bind)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> dict[str, Any]:
        try:
            return bind(*args, **kwargs)
        except InputError:
            raise
        except BaseException as error:  # a SystemExit among them
            raise BindingFailed(f"a type of the function's own raised {type(error).__name__}") from error

    return guarded


class HttpPlan:
    """Reads the arguments of one route and method.

    needs_body: whether `bind` wants a body; takes_raw: as it came; takes_files: only a form with files in it.
    content_type: what a body is that does not say.
    """

    def __init__(self, function: Function, trigger: Http, method: str) -> None:
        inputs = inputs_for(trigger, function.parameters, method, function.route(trigger))
        self.inputs = inputs
        self._texts = [i for i in inputs if i.origin in ("path", "query", "header", "cookie")]
        self._text_model = model_of(self._texts)
        self._path = [(i.name, i.wire) for i in self._texts if i.origin == "path"]
        self._query = [(i.name, i.wire, i.parameter.many) for i in self._texts if i.origin == "query"]
        self._headers = [(i.name, i.wire.encode(), i.parameter.many) for i in self._texts if i.origin == "header"]
        self._cookies = [(i.name, i.wire) for i in self._texts if i.origin == "cookie"]
        self._numbers = [i for i in self._texts if _may_be_infinite(i.parameter.info)]
        self._requests = [i.name for i in inputs if i.origin == "request"]
        self._files = [i for i in inputs if i.origin == "file"]
        self._read_body = _body_reader(inputs)
        self._read_form = _form_reader(inputs)
        self.takes_files = bool(self._files)
        self.takes_raw = any(i.origin == "raw" for i in inputs)
        self.needs_body = self._read_body is not None or self.takes_files
        self.content_type = "multipart/form-data" if self.takes_files else "application/json"

    @_guarded
    def bind(self, request: Request, body: bytes | Form) -> dict[str, Any]:
        """Arguments by name. InputError names each parameter that is missing or wrong.

        BindingFailed if code of the author's own types raises something else.
        """
        arguments, faults = self._read_texts(request) if self._texts else ({}, [])
        try:
            if isinstance(body, dict):
                arguments |= self._read_form(body)
            elif self._read_body is not None:
                arguments |= self._read_body(body)
        except InputError as error:
            if not error.errors:
                raise
            faults += error.errors
        if faults:
            raise InputError(422, _UNFIT, faults)
        for name in self._requests:
            arguments[name] = request
        return arguments

    def _read_texts(self, request: Request) -> tuple[dict[str, Any], list[Mapping[str, str]]]:
        """Arguments from path, query, headers and cookies; and what is wrong with them."""
        given = self._collect(request)
        try:
            arguments = msgspec.convert(given, self._text_model, strict=False)
        except msgspec.ValidationError:
            return {}, [*_faults(given, self._texts, strict=False)]
        return arguments, _infinite_faults(arguments, self._numbers)

    def _collect(self, request: Request) -> dict[str, str | list[str]]:
        """What the request has under our names, as text."""
        given: dict[str, str | list[str]] = {}
        for name, wire in self._path:
            given[name] = request.path_params[wire]
        if self._query and request.query_string:
            query = request.query
            for name, wire, many in self._query:
                if wire in query:
                    given[name] = query[wire] if many else query[wire][-1]
        for name, key, many in self._headers:
            found = request.header_lines(key) if many else request.header(key)
            if found:
                given[name] = found
        if self._cookies:
            cookies = request.cookies
            given |= {name: cookies[wire] for name, wire in self._cookies if wire in cookies}
        return given


class PayloadPlan:
    """Reads one object of arguments by name: CLI, API, later queues. DeclarationError if a function takes none."""

    def __init__(self, function: Function) -> None:
        self._inputs = [i for i in inputs_for(None, function.parameters, "", "") if i.origin == "argument"]
        self._model = model_of(self._inputs)

    @_guarded
    def bind(self, payload: bytes) -> dict[str, Any]:
        """Arguments by name, from a JSON object. InputError and BindingFailed as for HttpPlan.bind."""
        given = _decode(payload or b"{}", msgspec.json.Decoder())
        if not isinstance(given, dict):
            raise InputError(422, "the payload is one JSON object of arguments by name")
        faults = [
            {"in": "payload", "name": name, "path": "$", "detail": "unknown argument"}
            for name in sorted(given.keys() - {i.name for i in self._inputs})[:_MOST_NAMED]
        ]
        if not faults:
            try:
                return dict(msgspec.convert(given, self._model, str_keys=True))
            except msgspec.ValidationError:
                faults = _faults(given, self._inputs)
        raise InputError(422, _UNFIT, faults)


_MOST_NAMED = 20
_UNFIT = "the input does not fit the function"


def _body_reader(inputs: Sequence[Input]) -> Callable[[bytes], dict[str, Any]] | None:
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
    loose = msgspec.json.Decoder()

    def read(body: bytes) -> dict[str, Any]:
        try:
            return decoder.decode(body or b"{}")  # type: ignore[no-any-return]
        except _MALFORMED:
            given = _decode(body or b"{}", loose)
            if not isinstance(given, dict):
                raise InputError(422, f"the body is one JSON object with {', '.join(i.name for i in fields)}") from None
            raise InputError(422, _UNFIT, _faults(given, fields)) from None

    return read


def _whole_reader(one: Input) -> Callable[[bytes], dict[str, Any]]:
    decoder = msgspec.json.Decoder(one.parameter.type)

    def read(body: bytes) -> dict[str, Any]:
        if not body and not one.parameter.required:
            return {}
        try:
            return {one.name: _decode(body, decoder)}
        except msgspec.ValidationError as error:
            raise InputError(422, _UNFIT, [_fault(one, error)]) from None

    return read


def _form_reader(inputs: Sequence[Input]) -> Callable[[Form], dict[str, Any]]:
    """How a form becomes arguments: its text is read as the types say, as a query's is."""
    fields = [i for i in inputs if i.origin == "field"]
    files = [i for i in inputs if i.origin == "file"]
    model = model_of(fields)
    numbers = [i for i in fields if _may_be_infinite(i.parameter.info)]
    whole = next((i for i in inputs if i.origin == "body"), None)
    lists = _list_fields(whole.parameter.info) if whole else frozenset()

    def read(form: Form) -> dict[str, Any]:
        if whole is not None:
            given = {name: values if name in lists else values[-1] for name, values in form.items()}
            try:
                return {whole.name: msgspec.convert(given, whole.parameter.type, strict=False)}
            except msgspec.ValidationError as error:
                raise InputError(422, _UNFIT, [_fault(whole, error)]) from None
        given = {i.name: _field(form[i.wire], many=i.parameter.many) for i in fields if i.wire in form}
        uploads = {i.name: _field(form[i.wire], many=i.parameter.several) for i in files if i.wire in form}
        faults: list[Mapping[str, str]] = [fault for i in files if (fault := _file_fault(i, uploads))]
        arguments: dict[str, Any] = {}
        try:
            arguments = msgspec.convert(given, model, strict=False)
        except msgspec.ValidationError:
            faults += _faults(given, fields, strict=False)
        faults += _infinite_faults(arguments, numbers)
        if faults:
            raise InputError(422, _UNFIT, faults)
        return arguments | uploads

    return read


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
            raise InputError(422, _UNFIT, [_fault(one, error)]) from None
        except UnicodeDecodeError:
            raise InputError(400, "the body is not UTF-8 text") from None
        return {one.name: value}

    as_bytes = any(isinstance(found, types.BytesType) for found in _scalars(one.parameter.info))
    return read


def _decode(body: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
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


def _faults(given: Mapping[str, Any], inputs: Sequence[Input], *, strict: bool = True) -> list[dict[str, str]]:
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


def _fault(one: Input, error: msgspec.ValidationError) -> dict[str, str]:
    detail, _, path = str(error).partition(" - at `")
    return {"in": _place(one), "name": one.wire, "path": path.removesuffix("`") or "$", "detail": detail}


def _place(one: Input) -> str:
    return {"field": "body", "argument": "payload", "raw": "body"}.get(one.origin, one.origin)


def _may_be_infinite(info: types.Type | None) -> bool:
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


def _infinite_faults(arguments: Mapping[str, Any], numbers: Sequence[Input]) -> list[Mapping[str, str]]:
    """Text may say nan and inf, which are read as numbers, but which JSON could not answer."""
    return [
        {"in": _place(one), "name": one.wire, "path": "$", "detail": "Expected a finite number"}
        for one in numbers
        if any(isinstance(n, float | Decimal) and not math.isfinite(n) for n in _each(arguments.get(one.name)))
    ]


def _each(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | set | frozenset | tuple) else (value,)
