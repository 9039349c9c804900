"""Describe what an operation answers: its successes, and the errors that can really happen to it.

Called by operations and openapi. Pure. It says what the core and answers do, so it changes with them.
"""

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from types import UnionType
from typing import Any, Union, get_args, get_origin

from msgspec import inspect as types
from starlette.responses import Response

from runtime.base.errors import phrase
from runtime.declare.markers import Event, Reply
from runtime.declare.paths import path_names
from runtime.declare.policies import Policy
from runtime.declare.registry import Function
from runtime.declare.signatures.inputs import Input
from runtime.declare.triggers import Http
from runtime.triggers.http.answers import can_be_kept, content_type_of, item_type_of
from runtime.triggers.http.once import KEYED
from runtime.triggers.http.openapi.schemas import REF, Json, Schemas, is_text, members

_JSON = "application/json"
_OCTETS = "application/octet-stream"
_ANYTHING = "*/*"
_EMPTY = (HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT)
_RUN_ID = {"X-Run-Id": {"$ref": "#/components/headers/X-Run-Id"}}
_ACCEPTED = "fnrun.Accepted"  # a name no class can have
_PROBLEM = "fnrun.Problem"
_UNFIT = "fnrun.Unfit"
_TEXT: Json = {"type": "string"}
_EVENT: Json = {
    "type": "object",
    "properties": {"event": _TEXT, "id": _TEXT, "data": _TEXT, "retry": {"type": "integer", "description": "In ms."}},
}
_ERRORS: Mapping[int, str] = {
    400: "The path, the query or the body is malformed.",
    401: "There is no key, or it is unknown, revoked or expired; or the call is not signed as it should be.",
    403: "The key's scopes do not reach this function.",
    404: "The path does not look as this route asks.",
    408: "The body stopped coming.",
    409: "A call that means the same is under way; ask again for its answer.",
    410: "A call that means the same was carried out, and its answer is not kept.",
    413: "The body is longer than this route's limit.",
    415: "The body is of a type, an encoding or a character set that is not read here.",
    422: "A value does not fit; `errors` names each wrong one.",
    429: "The function is called as much as its limits allow.",
    500: "The function failed, or its result cannot be sent.",
    503: "The server is shutting down, or the function cannot be called for a while.",
    504: "The function took longer than its timeout.",
}
_BY_AUTH: Mapping[str, tuple[int, ...]] = {"public": (), "key": (401, 403), "signed": (401, 408, 409, 413)}
_RETRY_AFTER: Json = {"Retry-After": {"description": "Seconds until it is worth another try.", "schema": _TEXT}}
_HEADERS: Mapping[int, Json] = {
    401: {"WWW-Authenticate": {"description": "How to send a key.", "schema": _TEXT}},
    409: _RETRY_AFTER,
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}
KEY_HEADER: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A new one for each request, the same for each attempt at it: then it is carried out once. For 24 h "
    "the others get the first one's answer; 409 while it is under way; 422 if they are another request.",
    "required": False,
    "schema": {
        "type": "string",
        "pattern": r'^([\x21\x23-\x7e][\x21-\x7e]{0,254}|"([\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255}")$',
    },
}


def shared_parts() -> Json:
    """The components that responses refer to."""
    problem = {
        "type": "object",
        "description": "An error (RFC 9457). A function may add members of its own.",
        "required": ["type", "title", "status", "run_id"],
        "properties": {
            "type": _TEXT,
            "title": _TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": _TEXT,
            "run_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        },
    }
    fault = {
        "type": "object",
        "required": ["in", "name", "path", "detail"],
        "properties": {
            "in": {"enum": ["path", "query", "header", "cookie", "body"]},
            "name": {"type": "string", "description": "The parameter."},
            "path": {"type": "string", "description": "Where in its value, from `$`."},
            "detail": _TEXT,
        },
    }
    unfit = {
        "allOf": [{"$ref": REF.format(name=_PROBLEM)}],
        "properties": {"errors": {"type": "array", "items": fault}},
    }
    run_id = {
        "description": "The id of this call, also in the log.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    }
    accepted = {
        "type": "object",
        "required": ["id", "state", "function", "queue"],
        "properties": {"id": _TEXT, "state": {"const": "queued"}, "function": _TEXT, "queue": _TEXT},
    }
    errors = {f"Problem{status}": _problem(status, text) for status, text in _ERRORS.items()}
    any_problem = _problem(0, "Any other error the function means to give.")
    own = {**any_problem, "description": "Any other answer of the function.", "content": {_ANYTHING: {}}}
    return {
        "schemas": {_ACCEPTED: accepted, _PROBLEM: problem, _UNFIT: unfit},
        "headers": {"X-Run-Id": run_id},
        "responses": {"Accepted": _accepted(), **errors, "Problem": any_problem, "Own": own},
    }


def _accepted() -> Json:
    return {
        "description": "Accepted: it was asked for with `Prefer: respond-async`, and is a run now.",
        "headers": _RUN_ID
        | {
            "Location": {"description": "Where the run is.", "schema": _TEXT},
            "Preference-Applied": {"description": "What was preferred, and is granted.", "schema": _TEXT},
        },
        "content": {_JSON: {"schema": {"$ref": REF.format(name=_ACCEPTED)}}},
    }


def _problem(status: int, description: str) -> Json:
    schema = {"$ref": REF.format(name=_UNFIT if status == HTTPStatus.UNPROCESSABLE_ENTITY else _PROBLEM)}
    return {
        "description": f"{phrase(status)}. {description}" if status else description,
        "headers": _RUN_ID | _HEADERS.get(status, {}),
        "content": {"application/problem+json": {"schema": schema}},
    }


def describe_accepted(function: Function) -> Json:
    """The response to who prefers to be answered later, where that can be."""
    return {"202": {"$ref": "#/components/responses/Accepted"}} if can_be_kept(function) else {}


def takes_keys(function: Function, method: str) -> bool:
    """Whether calls may say Idempotency-Key."""
    return method in KEYED and function.items is None


def describe_errors(function: Function, statuses: Sequence[int]) -> Json:
    """Responses of these statuses, and of all that a function may answer besides."""
    names = {str(status): f"Problem{status}" for status in statuses}
    names["default"] = "Own" if _may_answer_itself(function) else "Problem"
    return {status: {"$ref": f"#/components/responses/{name}"} for status, name in names.items()}


def error_statuses(
    function: Function, trigger: Http, inputs: Sequence[Input], *, auth: str, reads_itself: bool
) -> list[int]:
    """What the runtime itself may answer in place of the function.

    auth: "public", "key" or "signed". reads_itself: whether the function may read a body of its own accord.
    """
    found = {500, 503, *_said_by_policy(function.policy), *_BY_AUTH[auth]}
    converters = path_names(function.route(trigger)).values()
    body = [i for i in inputs if i.origin in ("field", "file", "body", "raw")]
    raw = any(i.origin == "raw" for i in body)
    if converters or any(i.origin == "query" for i in inputs) or any(not raw or is_text(i) for i in body):
        found.add(400)
    if set(converters) - {"path"}:
        found.add(404)
    if body or reads_itself:
        found |= {408, 413}
    if body and not raw:
        found.add(415)
    if any(_may_not_fit(i) for i in inputs):
        found.add(422)
    if trigger.timeout_seconds or function.policy.timeout_seconds or not function.yields_events:
        found.add(504)
    return sorted(found)


def _said_by_policy(policy: Policy) -> Iterator[int]:
    if policy.idempotent is not None:
        yield from (409, 410)
    if policy.concurrency or policy.rate:
        yield 429


def _may_not_fit(one: Input) -> bool:
    """Whether there is input that this parameter refuses."""
    if one.origin in ("field", "file", "body"):
        return True
    if one.origin not in ("path", "query", "header", "cookie", "raw"):
        return False
    if one.parameter.required and one.origin not in ("path", "raw"):
        return True
    plain = (types.BytesType,) if one.origin == "raw" else ()
    return any(not isinstance(i, (types.StrType, *plain)) or _is_bounded(i) for i in members(one.parameter.info))


def _is_bounded(info: Any) -> bool:
    return any(getattr(info, name, None) is not None for name in ("min_length", "max_length", "pattern"))


def describe_successes(function: Function, said: int | None, schemas: Schemas) -> Json:
    """Responses of a success, by status. said: the status that the trigger names."""
    if said in _EMPTY:
        return {str(int(said)): {"description": "Done.", "headers": _RUN_ID}}
    if function.items is not None:
        content = _stream(function.items, schemas)
        return {str(said or 200): {"description": "A stream.", "headers": _RUN_ID, "content": content}}
    found: Json = {}
    content = _whole(function.returns, schemas)
    kinds = list(alternatives(function.returns))
    if any(_is_own(kind) for kind in kinds):
        found["2XX"] = {"description": "What the function answers.", "headers": _RUN_ID, "content": {_ANYTHING: {}}}
        found["204"] = {"description": "Done, without a result.", "headers": _RUN_ID}
    if content:
        found[str(said or 200)] = {"description": "Success.", "headers": _RUN_ID, "content": content}
    if any(kind in (None, type(None), Any) for kind in kinds):
        found.setdefault(str(said or 204), {"description": "Done, without a result.", "headers": _RUN_ID})
    return found


def _whole(returns: Any, schemas: Schemas) -> Json:
    """Media types of results that are no streams: what answers.answer_of makes of each alternative."""
    content: Json = {}
    text = content_type_of(returns)
    as_json = []
    for kind in alternatives(returns):
        bare = _bare(kind)
        if kind is None or bare is type(None) or _is_own(kind):
            continue
        if bare is Any or bare is object:
            content[_ANYTHING] = {}
        elif bare in (bytes, bytearray, memoryview):
            content[text.decode() if text else _OCTETS] = {}
        elif bare is str and text:
            content[text.decode()] = {"schema": {"type": "string"}}
        else:
            as_json.append(kind)
    if as_json:
        content[_JSON] = {"schema": _any_of([schemas.of(kind) for kind in as_json])}
    return content


def _any_of(schemas: list[Json]) -> Json:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _stream(items: Any, schemas: Schemas) -> Json:
    """A stream's media type. x-itemSchema is what OpenAPI 3.2 calls itemSchema: the schema of each item."""
    if item_type_of(items) is None:
        return {_ANYTHING: {}}
    kind = (item_type_of(items) or b"").decode()
    if kind == _OCTETS:
        return {kind: {}}
    if items is Event:
        return {
            kind: {"schema": {"description": "Server-sent events; x-itemSchema is of each."}, "x-itemSchema": _EVENT}
        }
    if "text/" in kind:
        return {kind: {"schema": {"type": "string"}}}
    schema = {"type": "string", "description": "One JSON value a line, each as x-itemSchema says."}
    return {kind: {"schema": schema, "x-itemSchema": schemas.of(items)}}


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; of another annotation, itself."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _bare(annotation: Any) -> Any:
    return getattr(annotation, "__origin__", annotation) if hasattr(annotation, "__metadata__") else annotation


def _is_own(annotation: Any) -> bool:
    """Whether it is an answer whose status and headers are the function's own."""
    bare = _bare(annotation)
    return isinstance(bare, type) and issubclass(bare, Reply | Response)


def _may_answer_itself(function: Function) -> bool:
    return function.items is None and any(
        _is_own(k) or _bare(k) in (Any, object) for k in alternatives(function.returns)
    )
