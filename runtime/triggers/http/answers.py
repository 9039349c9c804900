"""Turn results and errors into answers: status, headers, and bytes or a stream.

Called by the core; sent by a shell. JSON by msgspec; errors as application/problem+json (RFC 9457), never with a
traceback.
"""

import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeGuard, Union, get_args, get_origin

import msgspec

from runtime.base.durations import parse_duration
from runtime.base.errors import InputError, Problem, phrase
from runtime.base.logs import get_logger
from runtime.base.secrets.masking import mask_bytes
from runtime.declare.markers import ContentType, Event, Reply
from runtime.declare.registry import Function
from runtime.invoke.execute import Stream
from runtime.invoke.results import Unencodable, encode_json, may_hold_float
from runtime.invoke.threads.pool import Finished

if TYPE_CHECKING:  # 0.03 s and 2 MB that a function needs only if it makes Responses, and then has loaded itself
    from starlette.responses import Response

log = get_logger(__name__)

Headers = list[tuple[bytes, bytes]]
_JSON = b"application/json"
_PROBLEM = b"application/problem+json"
_LINES = b"application/x-ndjson"
_TEXT = b"text/plain; charset=utf-8"
_EVENTS = b"text/event-stream; charset=utf-8"
_OCTETS = b"application/octet-stream"
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_HEADERS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OURS = frozenset({"content-length", "transfer-encoding", "x-run-id"})
_KEEP_ALIVE_SECONDS = 15.0
_PLAIN = frozenset({dict, list, int, float, bool})
_SPECIAL = (Reply, NoneType, bytes, bytearray, memoryview)
"""What answer_of makes of a result: JSON, and, as of Responses, what may be something else."""
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class Answer(msgspec.Struct):
    """What a shell sends. body: bytes; the parts of a stream; or a Starlette Response, to be sent as it is."""

    status: int
    headers: Headers
    body: "bytes | Parts | Response"
    run_id: str = ""
    function: str = ""


class ResultPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How the results of one route are answered, decided at load.

    status: of a success, None for the usual. content_type: what the annotation asks for, None for JSON.
    events: it streams server-sent events. may_be_nan: a float may be in it, so NaN is looked for.
    """

    status: int | None = None
    content_type: bytes | None = None
    events: bool = False
    may_be_nan: bool = True


def plan_result(function: Function, status: int | None = None) -> ResultPlan:
    """The plan for a function's results."""
    return ResultPlan(
        status=status,
        content_type=_said_type(function),
        events=function.yields_events,
        may_be_nan=may_hold_float(function.returns),
    )


def _said_type(function: Function) -> bytes | None:
    """The content type that a function's annotation settles; of a stream, also by the type of its items."""
    return content_type_of(function.returns) if function.items is None else item_type_of(function.items)


def item_type_of(annotation: Any) -> bytes | None:
    """The content type of a stream of such items; None where the first item has to say."""
    if (said := content_type_of(annotation)) is not None:
        return said
    if get_origin(annotation) is Annotated:
        return item_type_of(get_args(annotation)[0])
    if annotation in (Event, bytes, str):
        return {Event: _EVENTS, bytes: _OCTETS, str: _TEXT}[annotation]
    return None if annotation is Any or get_origin(annotation) in (Union, UnionType) else _LINES


def answer_of(value: Any, plan: ResultPlan = ResultPlan()) -> Answer:  # noqa: B008 - frozen
    """The answer to a success, or Unencodable."""
    status, content_type = plan.status, plan.content_type
    if isinstance(value, Reply):
        if value.status is not None and not (isinstance(value.status, int) and 200 <= value.status <= 599):  # noqa: PLR2004
            raise Unencodable(f"Reply(status={value.status!r}): a status is a number from 200 to 599")
        answer = answer_of(value.body, msgspec.structs.replace(plan, status=value.status or status, may_be_nan=True))
        named = {name.lower() for name in value.headers}
        answer.headers = [h for h in answer.headers if h[0].decode() not in named] + encode_headers(value.headers)
        return answer
    if value is None:
        status = status or HTTPStatus.NO_CONTENT
        return Answer(status, [] if status in _BODILESS else [(b"content-length", b"0")], b"")
    if isinstance(value, bytes | bytearray | memoryview):
        return _whole(status, content_type or _OCTETS, bytes(value))
    if content_type is not None and isinstance(value, str):
        try:
            return _whole(status, content_type, value.encode())
        except UnicodeEncodeError as error:
            raise Unencodable(f"the result cannot be written as UTF-8: {error}") from None
    if is_response(value):
        return Answer(value.status_code, [], value)
    return _whole(status, _JSON, encode_json(value, may_be_nan=plan.may_be_nan))


def json_of(value: Any, plan: ResultPlan) -> bytes | None:
    """The JSON of a success that is answered with a 200 and nothing but that; None for all others, or Unencodable."""
    if type(value) not in _PLAIN and (
        isinstance(value, _SPECIAL) or is_response(value) or (plan.content_type and isinstance(value, str))
    ):
        return None
    return encode_json(value, may_be_nan=plan.may_be_nan) if plan.status is None else None


async def stream_answer(stream: Stream, plan: ResultPlan) -> Answer:
    """The answer to a generator. Where its annotation does not say, what its first item is decides.

    Event: server-sent events. bytes and text: as they are. Anything else: a JSON line an item.
    """
    first = None if plan.events else (await stream.peek() or Finished()).value
    if plan.events or isinstance(first, Event):
        headers = [(b"content-type", _EVENTS), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]
        return Answer(plan.status or 200, headers, Parts(stream, encode_event, _KEEP_ALIVE_SECONDS))
    kind = _OCTETS if isinstance(first, bytes) else _TEXT if isinstance(first, str) else _LINES
    encode: Callable[[Any], bytes] = _as_line if kind is _LINES else _as_bytes
    return Answer(plan.status or 200, [(b"content-type", plan.content_type or kind)], Parts(stream, encode))


class Parts:
    """The bytes of a stream, part by part. `aclose` ends its handler, read or not, and then awaits `on_close`.

    keep_alive_seconds: send a comment when nothing else came for so long, so that nobody takes the line for dead.
    """

    def __init__(self, stream: Stream, encode: Callable[[Any], bytes], keep_alive_seconds: float | None = None) -> None:
        self._stream = stream
        self._encode = encode
        self._keep_alive_seconds = keep_alive_seconds
        self.on_close: Callable[[], Awaitable[None]] | None = None

    @property
    def error(self) -> BaseException | None:
        """What the handler raised midway."""
        return self._stream.error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._keep_alive_seconds is not None and await self._stream.peek(self._keep_alive_seconds) is None:
            return b": keep-alive\n\n"
        return self._encode(await anext(self._stream))

    async def aclose(self) -> None:
        """See Stream.aclose."""
        try:
            await self._stream.aclose()
        finally:
            if self.on_close is not None:
                await self.on_close()


def encode_event(item: Any) -> bytes:
    """One event on the wire; what is no Event is the data of one. Unencodable for an id or a type of several lines."""
    event = item if isinstance(item, Event) else Event(item)
    lines = [] if event.comment is None else [f": {line}" for line in _lines(event.comment)]
    for name, value in (("event", event.event), ("id", event.id)):
        if value is not None:
            if set(value) & set("\r\n\0"):
                raise Unencodable(f"the {name} of an Event is one line; {value!r} is not")
            lines.append(f"{name}: {value}")
    if event.retry is not None:
        lines.append(f"retry: {parse_duration(event.retry) * 1000:.0f}")
    if event.data is not msgspec.UNSET:
        text = event.data if isinstance(event.data, str) else encode_json(event.data).decode()
        lines += [f"data: {line}" for line in _lines(text)]
    return ("\n".join(lines) + "\n\n").encode()


def _lines(text: str) -> list[str]:
    """Lines as the event stream's format sees them: it ends them at CR, LF or both, and nowhere else."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _as_line(item: Any) -> bytes:
    return encode_json(item) + b"\n"


def _as_bytes(item: Any) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, bytes):
        return item
    raise Unencodable(f"the stream began with text or bytes, then gave a {type(item).__name__}")


def problem_answer(run_id: str, error: Problem | InputError) -> Answer:
    """An error as its caller sees it."""
    if isinstance(error, InputError):
        title, headers = phrase(error.status), {}
        fields: Mapping[str, Any] = {"detail": error.detail} | ({"errors": error.errors} if error.errors else {})
    else:
        title, headers, fields = error.title, error.headers, error.fields
    body = {"type": "about:blank", "title": title, "status": error.status, "run_id": run_id, **fields}
    try:
        content = encode_json(body)
    except Unencodable as bad:
        log.error(  # noqa: TRY400 - the reason is all there is to say
            "a problem's fields cannot be sent", problem=str(error), reason=str(bad)
        )
        content = encode_json(
            {k: body[k] for k in ("type", "title", "status", "run_id") if isinstance(body[k], str | int)}
        )
    answer = _whole(error.status, _PROBLEM, mask_bytes(content))
    try:
        answer.headers += encode_headers(headers)
    except Unencodable as bad:
        log.error("a problem's headers cannot be sent", problem=str(error), reason=str(bad))  # noqa: TRY400 - as above
    return answer


def content_type_of(annotation: Any) -> bytes | None:
    """The content type that a return annotation asks for (`PlainText`, `Html`, also `... | None`); None for JSON."""
    if get_origin(annotation) is Annotated:
        return next((e.value.encode() for e in get_args(annotation)[1:] if isinstance(e, ContentType)), None)
    if get_origin(annotation) in (Union, UnionType):
        return next((found for one in get_args(annotation) if (found := content_type_of(one))), None)
    return None


def can_be_kept(function: Function) -> bool:
    """Whether a call of a function can wait for a worker, and its result for its caller: as JSON, both.

    A Request, files, streams and Starlette's Responses cannot.
    """
    if function.items is not None or any(p.injected in ("request", "file") for p in function.parameters):
        return False
    return not returns_any(function, "Response")


def returns_any(function: Function, *names: str) -> bool:
    """Whether a function is annotated to return one of Starlette's Responses of these names."""
    kinds = tuple(filter(None, map(_response_class, names)))
    return any(isinstance(one, type) and issubclass(one, kinds) for one in types_of(function.returns))


def is_response(value: object) -> "TypeGuard[Response]":
    """Whether a value is a Starlette Response. Nobody can have made one where that is not loaded."""
    kind = _response_class("Response")
    return kind is not None and isinstance(value, kind)


def _response_class(name: str) -> type | None:
    """One of Starlette's; None while it is not loaded, or not yet to its end."""
    return getattr(sys.modules.get("starlette.responses"), name, None)


def types_of(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of an annotation, Annotated taken off."""
    if get_origin(annotation) is Annotated:
        return types_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(found for one in get_args(annotation) for found in types_of(one))
    return (annotation,)


def encode_headers(headers: Mapping[str, Any]) -> Headers:
    """Headers as bytes. Unencodable for a name or a value that would break the answer, or one the runtime sets."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _OURS or _NOT_IN_HEADERS.search(str(value)):
            raise Unencodable(f"{name!r}: {value!r} cannot be a header")
    return [(name.lower().encode(), str(value).encode("latin-1", "replace")) for name, value in headers.items()]


def check_headers(headers: Headers) -> None:
    """Unencodable for one that would break the answer: of a Starlette Response, which takes any."""
    for name, value in headers:
        if not _HEADER_NAME.fullmatch(name.decode("latin-1")) or _NOT_IN_HEADERS.search(value.decode("latin-1")):
            raise Unencodable(f"{name!r}: {value!r} cannot be a header")


def _whole(status: int | None, content_type: bytes, body: bytes) -> Answer:
    if status in _BODILESS:
        return Answer(status, [], b"")
    if status == HTTPStatus.RESET_CONTENT:  # its number alone does not say that there is no body: a client would wait
        return Answer(status, [(b"content-length", b"0")], b"")
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    return Answer(status or 200, headers, body)
