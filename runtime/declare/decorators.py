"""The decorators authors write: http, cron, interval, at, queue; and fn for what holds under all of them.

A decorator checks what it is given, attaches data to the function and returns the same function. It registers nothing.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from inspect import isfunction
from typing import Any, Literal, TypedDict, TypeVar, Unpack, cast, get_args, overload

import msgspec

from runtime.base.durations import Duration, parse_size
from runtime.base.errors import DeclarationError, did_you_mean
from runtime.base.schedules import SCHEDULE_ID, Jitter, Missed
from runtime.declare.policies import Breaker, Retry, checked, policy_of, seconds
from runtime.declare.timing.rules import check_instant, check_interval, check_queue, check_rule, check_zone
from runtime.declare.triggers import (
    At,
    Auth,
    Cron,
    Declaration,
    Http,
    Interval,
    OnDisconnect,
    Overlap,
    Queue,
    Trigger,
    declare,
)

F = TypeVar("F", bound=Callable[..., Any])

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _attach(function: F, line: int, what: str) -> Declaration:
    if not isfunction(function):
        raise DeclarationError(f"@{what} decorates a function; {function!r} is a {type(function).__name__}", line=line)
    return declare(function)


def _caller_line() -> int:
    """Line of the author's decorator: of the first frame outside this module."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return frame.f_lineno


def _decorator(what: str, line: int, trigger: Trigger) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        # Decorators run bottom up; authors read top down.
        _attach(function, line, what).triggers.insert(0, trigger)
        return function

    return decorate


class RouteOptions(TypedDict, total=False):
    """What a route may say.

    status: of a success. auth: "public", "key" or "signed" (the setting's where left out). timeout: of this trigger
    alone. max_body: "5MB" or bytes. on_disconnect: "cancel" or "finish" the handler of a client that goes away; GET,
    HEAD and streams are cancelled unless said.
    """

    status: int | None
    auth: Auth | None
    timeout: Duration | None
    max_body: str | int | None
    on_disconnect: OnDisconnect | None


class _Method:
    """`@http.get("/path")`, `@http.get`: a route of one method."""

    def __init__(self, method: str) -> None:
        self._method = method

    @overload
    def __call__(self, path: F, /) -> F: ...
    @overload
    def __call__(self, path: str | None = None, /, **options: Unpack[RouteOptions]) -> Callable[[F], F]: ...
    def __call__(self, path: Any = None, /, **options: Any) -> Any:
        """See RouteOptions. Without a path, or without parentheses, the route is the function's name."""
        if callable(path):
            return _route([self._method], None, {})(path)
        return _route([self._method], path, options)


class _Http:
    """`@http.get`, `.post`, `.put`, `.patch`, `.delete`; `@http("/path", methods=["GET", "POST"])`."""

    get = _Method("GET")
    post = _Method("POST")
    put = _Method("PUT")
    patch = _Method("PATCH")
    delete = _Method("DELETE")

    def __call__(
        self, path: str | None = None, *, methods: Sequence[str] = ("GET",), **options: Unpack[RouteOptions]
    ) -> Callable[[F], F]:
        """A route; see RouteOptions. path: None routes to "/" and the function's name with slashes.

        Raises DeclarationError.
        """
        return _route(methods, path, cast("Mapping[str, Any]", options))


http = _Http()


def _route(methods: Sequence[str], path: Any, options: Mapping[str, Any]) -> Callable[[F], F]:
    _refuse_unknown("http", options, tuple(RouteOptions.__annotations__))
    if not methods or isinstance(methods, str):
        raise DeclarationError(f'@http(methods={methods!r}): a list of methods, ["GET", "POST"] for instance')
    names = tuple(str(method).upper() for method in methods)
    for method in names:
        if method not in METHODS:
            raise DeclarationError(f"@http: unknown method {method!r}; there are {', '.join(METHODS)}")
    if path is not None and not (isinstance(path, str) and path.startswith("/")):
        raise DeclarationError(f'@http: path {path!r} does not start with "/"')
    line = _caller_line()
    return _decorator("http", line, Http(line=line, methods=names, path=path, **_route_fields(options)))


def _route_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """Checked options, under the names of the Http record."""
    given = {name: value for name, value in options.items() if value is not None}
    for name, words in (("auth", get_args(Auth)), ("on_disconnect", get_args(OnDisconnect))):
        if given.get(name, words[0]) not in words:
            raise DeclarationError(f"@http({name}={given[name]!r}): one of {', '.join(words)}")
    status = given.get("status", 200)
    if not (isinstance(status, int) and 200 <= status <= 299):  # noqa: PLR2004 - HTTP's 2xx
        raise DeclarationError(f"@http(status={status!r}): the status of a success, 200 to 299")
    if "timeout" in given:
        given["timeout_seconds"] = seconds("http", "timeout", given.pop("timeout"))
    if "max_body" in given:
        given["max_body_bytes"] = checked("http", "max_body", parse_size, given.pop("max_body"))
    return given


class _ScheduleOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What cron, interval and at take besides their rule, as authors write it."""

    payload: Mapping[str, Any] = {}
    name: str | None = None
    missed: Missed | None = None
    overlap: Overlap | None = None
    jitter: Duration | None = None
    window: Duration | None = None
    timeout: Duration | None = None


def _schedule(what: str, options: dict[str, Any]) -> dict[str, Any]:
    """Checked options, under the names of the Schedule record."""
    _refuse_unknown(what, options, _ScheduleOptions.__struct_fields__)
    missed, overlap, payload = (options.get(name) for name in ("missed", "overlap", "payload"))
    if missed is not None and missed not in get_args(Missed):
        raise DeclarationError(f"@{what}(missed={missed!r}): one of {', '.join(get_args(Missed))}")
    number = isinstance(overlap, int) and not isinstance(overlap, bool) and overlap >= 1
    if overlap not in (None, "skip", "queue", "allow") and not number:
        raise DeclarationError(f'@{what}(overlap={overlap!r}): "skip", "queue", "allow" or a number of at least 1')
    if "payload" in options and not isinstance(payload, Mapping):
        raise DeclarationError(f'@{what}(payload={payload!r}): arguments by name, {{"name": value}}')
    try:
        given = msgspec.convert(options, _ScheduleOptions)
    except msgspec.ValidationError as error:
        raise DeclarationError(f"@{what}: {error}") from None
    if given.name is not None and not SCHEDULE_ID.fullmatch(given.name):
        raise DeclarationError(f"@{what}(name={given.name!r}): 1 to 100 letters, digits and any of _ . : -")
    return {
        "payload": dict(given.payload),
        "name": given.name,
        "missed": given.missed,
        "overlap": given.overlap,
        "jitter_seconds": None if given.jitter is None else checked(what, "jitter", Jitter.parse, given.jitter),
        "window_seconds": None if given.window is None else seconds(what, "window", given.window),
        "timeout_seconds": None if given.timeout is None else seconds(what, "timeout", given.timeout),
    }


def cron(rule: str, *, tz: str | None = None, **options: Any) -> Callable[[F], F]:
    """A cron schedule: "0 6 * * mon-fri", "@daily", or six fields with seconds first.

    tz: an IANA zone. options: payload, name, missed ("skip", "latest", "all"), overlap ("skip", "queue", "allow" or a
    number), jitter, window, timeout. Raises DeclarationError.
    """
    line = _caller_line()
    _refuse_bare("cron", rule, '"0 6 * * *"')
    trigger = Cron(
        line=line, rule=check_rule(rule), tz=tz if tz is None else check_zone(tz), **_schedule("cron", options)
    )
    return _decorator("cron", line, trigger)


def interval(every: Duration, **options: Any) -> Callable[[F], F]:
    """A schedule every "15m", aligned to the epoch. options: as for cron. Raises DeclarationError."""
    line = _caller_line()
    _refuse_bare("interval", every, '"15m"')
    return _decorator(
        "interval", line, Interval(line=line, every_seconds=check_interval(every), **_schedule("interval", options))
    )


def at(when: str | datetime, **options: Any) -> Callable[[F], F]:
    """Once, at an ISO 8601 date with an offset, or an aware datetime. options: as for cron. Raises DeclarationError."""
    line = _caller_line()
    _refuse_bare("at", when, '"2030-01-01T02:00:00+00:00"')
    return _decorator("at", line, At(line=line, when=check_instant(when), **_schedule("at", options)))


def _refuse_bare(what: str, when: object, example: str) -> None:
    if callable(when):
        raise DeclarationError(f"@{what} does not say when; write @{what}({example}) for instance")


def _refuse_unknown(what: str, options: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in options.keys() - set(known):
        hint = did_you_mean(name, known) or f"; there are {', '.join(known)}"
        raise DeclarationError(f"@{what}: unknown option {name!r}{hint}")


def queue(name: str = "default", *, timeout: Duration | None = None, **others: Any) -> Callable[[F], F]:
    """Take runs from a queue. timeout: of this trigger alone. Raises DeclarationError."""
    _refuse_unknown("queue", others, ("timeout",))
    line = _caller_line()
    check_queue(name)
    limit = None if timeout is None else seconds("queue", "timeout", timeout)
    return _decorator("queue", line, Queue(line=line, name=name, timeout_seconds=limit))


def fn(  # noqa: PLR0913 - the options authors may say
    *,
    timeout: Duration | None = None,
    retries: Retry | int | None = None,
    concurrency: int | None = None,
    key: str | Callable[..., Any] | None = None,
    rate: str | None = None,
    idempotent: Callable[..., Any] | None = None,
    isolation: Literal["process"] | None = None,
    memory: str | int | None = None,
    breaker: Breaker | None = None,
    on_failure: str | Callable[..., Any] | None = None,
    max_age: Duration | None = None,
    env: Mapping[str, str] | None = None,
    secrets: Sequence[str] | None = None,
    **others: Any,
) -> Callable[[F], F]:
    """What holds for a function under every trigger. See docs/reference.md. Raises DeclarationError."""
    options = {
        "timeout": timeout,
        "retries": retries,
        "concurrency": concurrency,
        "key": key,
        "rate": rate,
        "idempotent": idempotent,
        "isolation": isolation,
        "memory": memory,
        "breaker": breaker,
        "on_failure": on_failure,
        "max_age": max_age,
        "env": env,
        "secrets": secrets,
    }
    _refuse_unknown("fn", others, (*options, "fallback"))
    line = _caller_line()
    policy = policy_of(options | others)

    def decorate(function: F) -> F:
        declaration = _attach(function, line, "fn")
        if declaration.policy_line is not None:
            raise DeclarationError(f"@fn stands twice, also on line {declaration.policy_line}; write one", line=line)
        declaration.policy, declaration.policy_line = policy, line
        return function

    return decorate
