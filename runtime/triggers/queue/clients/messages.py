"""Read what Celery's own clients send: a message of kombu's Redis transport in, the run that it asks for out.

Used by draining and, for arguments by place, by the execution. Pure. Loads no pickle and no YAML, unpacks nothing: what
is not JSON is not read. The format: kombu/transport/virtual/base.py (basic_publish), celery/app/amqp.py (as_task_v2,
as_task_v1).
"""

import base64
import hashlib
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

from runtime.base.errors import InputError
from runtime.invoke.binding import BindingFailed, PayloadPlan
from runtime.ledger.options import RUN_ID
from runtime.ledger.records import DEFAULT_PRIORITY, Adoption, Failure, Foreign, Submission
from runtime.ledger.targets import limit_key_of
from runtime.triggers.queue.plans import RunPlan

TRIGGER = "celery"
"""What such a run says of where it came from."""
UNNAMED = "celery:message"
"""The function of a message that names none; a colon, so no function is called so."""

_MOST_URGENT = 9
_LONGEST_NAME = 200
_SHOWN = 100
_HEAD_BYTES = 20_000
"""Of a message beside its body: names, and the arguments once more, shortened, for people."""
_TEXT = {"utf-8", "utf8", "us-ascii", "ascii"}
_NOTHING = {b"null", b"[]", b"{}", b"false", b'""'}
_CELERYS_OWN = {
    "celery.accumulate", "celery.backend_cleanup", "celery.chain", "celery.chord", "celery.chord_unlock",
    "celery.chunks", "celery.group", "celery.map", "celery.starmap",
}  # fmt: skip
_INSTEAD = {
    "chain": "a chain of Celery's is not followed: have a function submit chain(step(...), ...) of runtime",
    "chord": "a chord of Celery's is not followed: have a function submit chord([step(...), ...], body) of runtime",
    "callbacks": "link= is not followed: have a function submit chain(step(...), ...) of runtime",
    "errbacks": "link_error= is not followed: write @fn(on_failure=...) above the function",
}

Args = tuple[list[msgspec.Raw], dict[str, msgspec.Raw]]
Planned = Callable[[str], RunPlan | None]
"""How runs of the function of that name are executed; None if it is not known here."""


class Refused(Exception):  # noqa: N818 - a verdict
    """A message that cannot be run, and why."""


class _Properties(msgspec.Struct):
    body_encoding: str | None = None
    correlation_id: Any = None
    priority: Any = None


class _Headers(msgspec.Struct):
    """Of protocol 2. What is not here is not used: a function says its own time limits and retries."""

    task: str | None = None
    id: str | int | None = None
    eta: str | None = None
    expires: str | None = None
    compression: str | None = None
    traceparent: Any = None


class _Message(msgspec.Struct, rename="kebab"):
    body: str
    content_encoding: str | None = None
    content_type: str | None = None
    headers: _Headers = msgspec.field(default_factory=_Headers)
    properties: _Properties = msgspec.field(default_factory=_Properties)


class _Embedded(msgspec.Struct):
    """What shall happen after a task; Raw, for it is only asked whether it is there."""

    callbacks: msgspec.Raw = msgspec.Raw(b"null")
    errbacks: msgspec.Raw = msgspec.Raw(b"null")
    chain: msgspec.Raw = msgspec.Raw(b"null")
    chord: msgspec.Raw = msgspec.Raw(b"null")


class _Old(_Embedded):
    """A body of protocol 1."""

    task: str | None = None
    id: str | int | None = None
    args: list[msgspec.Raw] | None = None
    kwargs: dict[str, msgspec.Raw] | None = None
    eta: str | None = None
    expires: str | None = None


class _Task(msgspec.Struct, frozen=True):
    """What a message asks for, whatever its protocol."""

    name: str | None
    id: str | int | None
    eta: str | None
    expires: str | None
    body: bytes
    arguments: Args
    after: _Embedded


_message_of = msgspec.json.Decoder(_Message).decode
_body_of = msgspec.json.Decoder(tuple[list[msgspec.Raw], dict[str, msgspec.Raw], _Embedded | None]).decode
_old_body_of = msgspec.json.Decoder(_Old).decode
_by_place_of = msgspec.json.Decoder(Args).decode
_encode = msgspec.json.Encoder().encode


class Reader:
    """Reads one worker's messages. payload_max: bytes of a body; 0: no limit. max_length: of the queue, as submit's."""

    def __init__(self, plan_of: Planned, *, payload_max: int, max_length: int) -> None:
        self._plan_of = plan_of
        self._payload_max = payload_max
        self._limit = (
            f"[queue] payload_max, which is {payload_max}; keep the data elsewhere and send where it is, or raise that"
        )
        self._max_length = max_length
        # A body comes as base64.
        self.longest = payload_max * 4 // 3 + _HEAD_BYTES if payload_max else 2**62

    def read(self, message: Foreign, queue: str) -> Adoption:
        """What is to become of a message of that queue. Whatever it holds, nothing is raised."""
        sent, why = _Message(""), ""
        try:
            sent = _message_of(message.content)
            if message.size <= self.longest:
                return self._adopt(message, queue, sent)
        except Refused as refused:
            why = str(refused)
        except msgspec.ValidationError as error:
            why = f"it is no task of Celery's: {error}"
        except Exception as error:  # noqa: BLE001 - one that cannot be read shall not hold up those behind it
            why = f"it cannot be read: {str(error) or type(error).__name__}"
        if message.size > self.longest:
            why = f"it has {message.size} bytes: its body is longer than {self._limit}"
        return self._refuse(message, queue, sent, why)

    def _adopt(self, message: Foreign, queue: str, sent: _Message) -> Adoption:
        task = self._task_of(sent)
        name = _name_of(task.name)
        for field, instead in _INSTEAD.items():
            if bytes(getattr(task.after, field)) not in _NOTHING:
                raise Refused(instead)
        eta, expires = _instant("eta", task.eta), _instant("expires", task.expires)
        plan = self._plan_of(name)
        traceparent = sent.headers.traceparent
        payload = _payload(plan, task)
        run = Submission(
            id=run_id_of(task.id, message.digest),
            function=name,
            queue=queue,
            payload=payload,
            trigger=TRIGGER,
            priority=_priority(sent.properties.priority),
            due=eta,
            max_age_seconds=plan.function.policy.max_age_seconds if plan and expires is None else None,
            trace=traceparent if isinstance(traceparent, str) and len(traceparent) <= _LONGEST_NAME else "",
            max_length=self._max_length,
            key=_limit_key(plan, payload),
        )
        return Adoption(key=message.key, digest=message.digest, run=run, expires=expires)

    def _task_of(self, sent: _Message) -> _Task:
        head = sent.headers
        if sent.content_type != "application/json" or (sent.content_encoding or "utf-8").lower() not in _TEXT:
            raise Refused(
                f"its content is {_shown(sent.content_type)}, {_shown(sent.content_encoding)}, and is not read: fnrun "
                'takes application/json in utf-8 alone; set task_serializer = "json"'
            )
        if head.compression:
            raise Refused(f"it is compressed, {_shown(head.compression)}, and is not read: set no task_compression")
        if sent.properties.body_encoding not in (None, "base64"):
            raise Refused(f"its body is encoded as {_shown(sent.properties.body_encoding)}; fnrun reads base64 alone")
        encoded = sent.properties.body_encoding == "base64"
        body = base64.b64decode(sent.body, validate=True) if encoded else sent.body.encode()
        if self._payload_max and len(body) > self._payload_max:
            raise Refused(f"its body has {len(body)} bytes, more than {self._limit}")
        body.decode()  # msgspec takes over what it does not read as it is
        if head.task is not None:
            args, kwargs, after = _body_of(body)
            return _Task(head.task, head.id, head.eta, head.expires, body, (args, kwargs), after or _Embedded())
        if body[:1] != b"{":
            raise Refused("it is no task of Celery's: neither its headers nor its body name one")
        old = _old_body_of(body)
        return _Task(old.task, old.id, old.eta, old.expires, body, (old.args or [], old.kwargs or {}), old)

    def _refuse(self, message: Foreign, queue: str, sent: _Message, why: str) -> Adoption:
        try:
            name = _name_of(sent.headers.task)
        except Refused:
            name = UNNAMED
        named = sent.properties.correlation_id  # of protocol 1, whose own is in the body
        task_id = sent.headers.id or (named if isinstance(named, str | int) else None)
        run = Submission(
            id=run_id_of(task_id, message.digest), function=name, queue=queue, trigger=TRIGGER, payload=b"",
        )  # fmt: skip
        failure = Failure(type="BadMessage", message=f"the message on {message.key!r} is refused: {why}")
        return Adoption(key=message.key, digest=message.digest, run=run, refused=failure)


def _payload(plan: RunPlan | None, task: _Task) -> bytes:
    """An object of arguments by name; [args, kwargs] where some come by place and it is not known whose."""
    args, kwargs = task.arguments
    if b'"__type__"' in task.body:
        args, kwargs = _by_place_of(_encode(_plain(msgspec.json.decode(_encode((args, kwargs))))))
    if not args:
        return _encode(kwargs)
    with suppress(InputError):  # for the run to say
        if plan is not None:
            return plan.arguments.by_name(args, kwargs)
    return _encode((args, kwargs))


def _limit_key(plan: RunPlan | None, payload: bytes) -> str | None:
    if plan is not None and plan.limit_key is not None:
        with suppress(InputError, BindingFailed):  # for the run to say
            return limit_key_of(plan.limit_key, plan.arguments.bind(by_name(payload, plan.arguments)))
    return None


def by_name(payload: bytes, plan: PayloadPlan) -> bytes:
    """The payload as an object of arguments by name. InputError if those that come by place do not fit."""
    if payload[:1] != b"[":
        return payload
    try:
        args, kwargs = _by_place_of(payload)
    except msgspec.DecodeError:
        return payload  # a list of another kind: binding says what is wrong with it
    return plan.by_name(args, kwargs)


def run_id_of(task_id: str | int | None, digest: str) -> str:
    """The id of a task's run: the task's own if a run can have it. Else one that is always the same for that task."""
    task_id = "" if task_id is None else str(task_id)
    if RUN_ID.fullmatch(task_id):
        return task_id
    if not task_id:
        return digest[:32]
    return hashlib.sha256(task_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _name_of(name: str | None) -> str:
    if not name:
        raise Refused("it is no task of Celery's: neither its headers nor its body name one")
    if len(name) > _LONGEST_NAME or ":" in name or not name.isprintable():
        raise Refused(f"no function can be called {_shown(name)}")
    if name in _CELERYS_OWN:
        raise Refused(f"{name} is Celery's own task: send the tasks themselves, or have a function submit a group")
    return name


def _instant(field: str, text: str | None) -> float | None:
    """Seconds since the epoch. A date without an offset is UTC, as Celery has it."""
    if not text:
        return None
    try:
        when = datetime.fromisoformat(text)
        return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise Refused(f"its {field}, {_shown(text)}, is no date") from None


def _priority(said: object) -> int:
    """1 to 9 as they are; 0 is what kombu writes where nothing is said."""
    if not isinstance(said, int) or isinstance(said, bool) or said <= 0:
        return DEFAULT_PRIORITY
    return min(said, _MOST_URGENT)


def _plain(value: Any) -> Any:
    """JSON without the wrapping that kombu gives to what JSON does not have (kombu/utils/json.py)."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != {"__type__", "__value__"}:
        return {name: _plain(one) for name, one in value.items()}
    kind, held = value["__type__"], value["__value__"]
    if kind in ("datetime", "date", "time", "decimal", "base64") and isinstance(held, str):
        return held
    if kind == "bytes" and isinstance(held, str):
        return base64.b64encode(held.encode()).decode()
    if kind == "uuid" and isinstance(held, dict) and isinstance(held.get("hex"), str):
        return str(uuid.UUID(hex=held["hex"]))
    raise Refused(f"it holds a value of Celery's type {_shown(kind)}, which only Celery reads")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
