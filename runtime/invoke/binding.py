"""Compile a handler's signature into a plan that reads arguments out of a request or a payload.

Compiled once at load by the HTTP core and the CLI; run once a call. A plan makes one msgspec call for all that comes as
text and one for the body. Faults in a call are InputErrors that name every wrong parameter.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from functools import wraps
from inspect import Parameter, signature
from typing import Any, ParamSpec, TypeVar

import msgspec

from runtime.base.errors import FnrunError, InputError
from runtime.declare.registry import Function
from runtime.declare.request import Request, is_plain
from runtime.declare.signatures.inputs import inputs_for, model_of
from runtime.declare.triggers import Http
from runtime.invoke.readers import (
    PLAIN_TEXT,
    UNFIT,
    Form,
    body_reader,
    decode_untyped,
    faults_of,
    form_reader,
    infinite_faults,
    may_be_infinite,
    unfit,
)

_P = ParamSpec("_P")
_R = TypeVar("_R")


_MOST_NAMED = 20
"""Unknown arguments that an error names: a caller may send any number."""


class BindingFailed(FnrunError):  # noqa: N818 - an outcome, like the others
    """A type of the author's own (its `__post_init__`, say) raised what it should not."""


def _guarded(bind: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let nothing out of `bind` that would end the server: authors' types run code of their own."""

    @wraps(bind)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return bind(*args, **kwargs)
        except InputError:
            raise
        except BaseException as error:  # a SystemExit among them
            raise _failed(error) from error

    return guarded


def _failed(error: BaseException) -> BindingFailed:
    return BindingFailed(f"a type of the function's own raised {type(error).__name__}")


class HttpPlan:
    """Reads the arguments of one route and method.

    needs_body: whether `bind` wants a body; takes_raw: as it came; takes_files: only a form with files in it.
    takes_request: the handler gets the Request, and may read its body. content_type: what a body is that does not say.
    """

    def __init__(self, function: Function, trigger: Http, method: str) -> None:
        inputs = inputs_for(trigger, function.parameters, method, function.route(trigger))
        self.inputs = inputs
        self._texts = [i for i in inputs if i.origin in ("path", "query", "header", "cookie")]
        self._text_model = model_of(self._texts)
        self._path = [(i.name, i.wire) for i in self._texts if i.origin == "path"]
        self._query = [(i.name, i.wire, i.parameter.many) for i in self._texts if i.origin == "query"]
        self._plain_query = {wire: name for name, wire, many in self._query if not many}
        """Names by what they are called in the query; not used where one may be there several times."""
        if len(self._plain_query) != len(self._query):
            self._plain_query = {}
        self._headers = [(i.name, i.wire.encode(), i.parameter.many) for i in self._texts if i.origin == "header"]
        self._cookies = [(i.name, i.wire) for i in self._texts if i.origin == "cookie"]
        self._numbers = [i for i in self._texts if may_be_infinite(i.parameter.info)]
        self._are_text = all(i.parameter.info == PLAIN_TEXT for i in self._texts)
        self._required = frozenset(i.name for i in self._texts if i.parameter.required)
        self._requests = [i.name for i in inputs if i.origin == "request"]
        self._files = [i for i in inputs if i.origin == "file"]
        self._read_body = body_reader(inputs)
        self._read_form = form_reader(inputs)
        self.takes_files = bool(self._files)
        self.takes_request = bool(self._requests)
        self.takes_raw = any(i.origin == "raw" for i in inputs)
        self.needs_body = self._read_body is not None or self.takes_files
        self.content_type = "multipart/form-data" if self.takes_files else "application/json"

    def bind(self, request: Request, body: bytes | Form) -> dict[str, Any]:
        """Arguments by name. InputError names each parameter that is missing or wrong.

        BindingFailed if code of the author's own types raises something else.
        """
        try:
            return self._bind(request, body)
        except InputError:
            raise
        except BaseException as error:  # a SystemExit among them
            raise _failed(error) from error

    def _bind(self, request: Request, body: bytes | Form) -> dict[str, Any]:
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
            raise InputError(422, UNFIT, faults)
        for name in self._requests:
            arguments[name] = request
        return arguments

    def _read_texts(self, request: Request) -> tuple[dict[str, Any], list[Mapping[str, str]]]:
        """Arguments from path, query, headers and cookies; and what is wrong with them."""
        given = self._collect(request)
        if self._are_text and self._required <= given.keys():
            return given, []
        try:
            arguments = msgspec.convert(given, self._text_model, strict=False)
        except msgspec.ValidationError as error:
            faults: list[Mapping[str, str]] = [*faults_of(given, self._texts, strict=False)]
            if not faults:
                raise unfit(faults, error) from None
            return {}, faults
        return arguments, infinite_faults(arguments, self._numbers) if self._numbers else []

    def _collect(self, request: Request) -> dict[str, str | list[str]]:
        """What the request has under our names, as text."""
        given: dict[str, str | list[str]] = {}
        for name, wire in self._path:
            given[name] = request.path_params[wire]
        query_string = request.query_string
        if self._plain_query and is_plain(query_string):
            _collect_plain(given, query_string, self._plain_query)
        elif self._query and query_string:
            query = request.query
            for name, wire, many in self._query:
                if wire in query:
                    given[name] = query[wire] if many else query[wire][-1]
        if self._headers or self._cookies:
            self._collect_headers(given, request)
        return given

    def _collect_headers(self, given: dict[str, str | list[str]], request: Request) -> None:
        for name, key, many in self._headers:
            found = request.header(key)
            if found is not None:
                given[name] = request.header_items(key) if many else found
        if self._cookies:
            cookies = request.cookies
            given |= {name: cookies[wire] for name, wire in self._cookies if wire in cookies}


def _collect_plain(given: dict[str, str | list[str]], query: bytes, names: Mapping[str, str]) -> None:
    """As Request.query does, of what may be there once; the last counts."""
    for one in query.decode().split("&"):
        wire, _, value = one.partition("=")
        if wire in names:
            given[names[wire]] = value


class PayloadPlan:
    """Reads one object of arguments by name: CLI, API, later queues. DeclarationError if a function takes none."""

    def __init__(self, function: Function) -> None:
        self._inputs = [i for i in inputs_for(None, function.parameters, "", "") if i.origin == "argument"]
        self._model = model_of(self._inputs)
        self._function = function

    @_guarded
    def bind(self, payload: bytes) -> dict[str, Any]:
        """Arguments by name, from a JSON object. InputError and BindingFailed as for HttpPlan.bind."""
        given = decode_untyped(payload or b"{}")
        if not isinstance(given, dict):
            raise InputError(422, "the payload is one JSON object of arguments by name")
        faults = self._unknown(given.keys())
        if faults:
            raise InputError(422, UNFIT, faults)
        try:
            return dict(msgspec.convert(given, self._model, str_keys=True))
        except msgspec.ValidationError as error:
            raise unfit(faults_of(given, self._inputs), error) from None

    def by_name(self, args: Sequence[msgspec.Raw], kwargs: Mapping[str, msgspec.Raw]) -> bytes:
        """The payload of arguments of which some come by place: injected parameters have none. InputError."""
        kinds = signature(self._function.call).parameters
        places = [i.name for i in self._inputs if kinds[i.name].kind is not Parameter.KEYWORD_ONLY]
        faults = []
        if len(args) > len(places):
            detail = (
                f"{len(args)} arguments by place, and there is room for {len(places)}: {', '.join(places) or 'none'}"
            )
            faults.append({"in": "payload", "name": "args", "path": "$[0]", "detail": detail})
        given = dict(zip(places, args, strict=False))
        faults += [
            {"in": "payload", "name": name, "path": "$[1]", "detail": "given by place, and by name"}
            for name in sorted(given.keys() & kwargs.keys())
        ]
        if faults:
            raise InputError(422, UNFIT, faults)
        return msgspec.json.encode(given | dict(kwargs))

    @_guarded
    def check(self, payload: bytes, later: Set[str]) -> None:
        """As bind, of arguments some of which are not known yet, which are not in the payload. later: their names."""
        given = decode_untyped(payload)
        faults = self._unknown(given.keys() | later)
        faults += faults_of(given, [i for i in self._inputs if i.name not in later])
        if faults:
            raise InputError(422, UNFIT, faults)

    def _unknown(self, names: Set[str]) -> list[dict[str, str]]:
        """What is wrong with names of arguments."""
        return [
            {"in": "payload", "name": name, "path": "$", "detail": "unknown argument"}
            for name in sorted(names - {i.name for i in self._inputs})[:_MOST_NAMED]
        ]

    def write(self, arguments: Mapping[str, Any]) -> bytes:
        """The payload that `bind` reads these arguments from; injected ones are left out.

        BindingFailed if there is none: JSON cannot say them, or their types do not take back what they gave.
        """
        try:
            payload = msgspec.json.encode({i.name: arguments[i.name] for i in self._inputs if i.name in arguments})
        except BaseException as error:  # authors' types run code of their own, a SystemExit among it
            raise BindingFailed(f"the arguments cannot be written as JSON: {type(error).__name__}") from error
        try:
            self.bind(payload)
        except InputError as error:
            raise BindingFailed(f"the arguments do not survive being written as JSON: {error}") from error
        return payload
