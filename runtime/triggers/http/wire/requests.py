"""What the protocols and the lane share: limits, what a request's target and host may be, who answers it.

Called by all in this folder. Knows no socket and no state of a protocol, and loads none.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from runtime.base.errors import Problem
from runtime.base.ids import new_run_id
from runtime.base.logs import get_logger
from runtime.triggers.http.answers import problem_answer
from runtime.triggers.http.shedding.overload import App, Headers, Overload

if TYPE_CHECKING:  # its package loads 0.8 MB that only its protocols need
    from hypercorn.config import Config

log = get_logger(__name__)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[Any], Awaitable[None]]

OF_THE_CONNECTION = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
"""What HTTP/2 and 3 say otherwise: RFC 9113, 8.2.2."""

GONE = "fnrun.gone"
"""The extension of a scope that holds the event of its client's leaving: seen also by who reads no message."""

BODY_ROOM = 65_536
"""Bytes of a body that wait for the application; past it the client waits."""

_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=%]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_NOT_IN_TARGET = re.compile(rb"[^\x21\x22\x24-\x7e]")  # what is not printable ASCII, and "#"
_ALLOW = b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one client may cost. Three are settings; the others are about what reverse proxies have."""

    connections: int = 10_000
    head_bytes: int = 16_000
    idle_seconds: float = 75.0
    target_bytes: int = 8_192  # what RFC 9112 asks to support is 8,000
    header_lines: int = 100
    head_seconds: float = 15.0  # from the first byte of a head to its last: one byte a second does not prolong it
    handshake_seconds: float = 10.0
    body_silence_seconds: float = 20.0  # in the middle of a body; below the 30 s that a handler has, so that it is told
    body_seconds: float = 20.0  # that may be waited for a body, and one more for each `body_bytes_a_second` that came
    body_bytes_a_second: int = 500  # a tenth of the slowest modem
    write_seconds: float = 30.0  # to take at least `write_bytes` of an answer that waits
    write_bytes: int = 15_000
    linger_seconds: float = 1.0  # after our end, so that unread bytes do not reset what the client still reads
    close_seconds: float = 1.0  # at the end of the drain, for answers under way
    streams: int = 100  # at once on a connection of HTTP/2
    resets_burst: int = 200  # streams that a client begins and resets: CVE-2023-44487
    resets_a_second: float = 20.0
    control_burst: int = 1_000  # pings, settings, priorities, empty data
    control_a_second: float = 50.0
    tick_seconds: float = 0.5  # how often deadlines are looked at


class Refused(Exception):  # noqa: N818 - a verdict on a request
    """A request that reaches no function, and the answer to it. close: the connection cannot be used further."""

    def __init__(self, status: int, detail: str, *, close: bool = True) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.close = close


def judge_target(method: str, target: bytes) -> tuple[bytes, bytes | None]:
    """Path with query, and the host that an absolute target names, or None. Refused (400, 501) for what is no path."""
    if method == "CONNECT":
        raise Refused(501, "CONNECT is for proxies")
    if _NOT_IN_TARGET.search(target):
        raise Refused(400, "the target has bytes that do not belong into a path")
    if target[:1] == b"/" or (target == b"*" and method == "OPTIONS"):
        return target, None
    if (absolute := _ABSOLUTE.fullmatch(target)) is None:
        raise Refused(400, "the target is neither a path nor an http:// address")
    path = absolute[2]
    return path if path[:1] == b"/" else b"/" + path, absolute[1]


def judge_host(host: bytes | None) -> None:
    """Refused (400) for a host that is empty or none: RFC 9112, 3.2; RFC 9110, 4.2.1."""
    if host is None or not _HOST.fullmatch(host):
        raise Refused(400, "the host is missing, empty or malformed")


def judge_pseudo(pairs: Iterable[tuple[bytes, bytes]], method: str, headers: Headers, *, ended: bool) -> bytes:
    """The path to answer, of a request of HTTP/2 or 3. Refused for what no function gets.

    headers: the same with the authority as host, first. ended: whether no body follows.
    """
    pairs = list(pairs)
    target, host = judge_target(method, next((value for name, value in pairs if name == b":path"), b""))
    if host is not None:
        raise Refused(400, "the target is no path")
    if len({value for name, value in pairs if name in (b":authority", b"host")}) > 1:
        raise Refused(400, "the authority and the host differ")
    judge_host(headers[0][1])
    if ended and any(name == b"content-length" and value != b"0" for name, value in pairs):
        raise Refused(400, "the body is missing")  # h2 compares lengths only where there is data
    judge_expected(headers)
    return target


def judge_expected(headers: Headers) -> None:
    """Refused (417) for an Expect of anything but 100-continue: RFC 9110, 10.1.1."""
    expected = [value.lower() for name, value in headers if name == b"expect"]
    if expected not in ([], [b"100-continue"]):
        raise Refused(417, "the one thing that can be expected is 100-continue")


def with_ours(headers: Headers, alt_svc: bytes) -> Headers:
    """An answer's headers with what the server adds: exactly one Date, and where HTTP/3 is, if it is anywhere."""
    if not any(name.lower() == b"date" for name, _ in headers):
        headers = [*headers, (b"date", date_now())]
    return [*headers, (b"alt-svc", alt_svc)] if alt_svc else headers


_dates: dict[int, tuple[bytes, bytes]] = {}


def date_now() -> bytes:
    """The value of Date."""
    return _dated()[0]


def date_line() -> bytes:
    """Date, as HTTP/1.1 says it."""
    return _dated()[1]


def _dated() -> tuple[bytes, bytes]:
    second = int(time.time())
    found = _dates.get(second)
    if found is None:
        _dates.clear()
        value = formatdate(second, usegmt=True).encode()
        found = _dates[second] = (value, b"date: %b\r\n" % value)
    return found


def refusal(status: int, detail: str, *, close: bool) -> tuple[Headers, bytes]:
    """Headers and body of an answer that is not a function's: problem+json with a run id of its own."""
    run_id = new_run_id()
    answer = problem_answer(run_id, Problem(status, detail=detail))
    headers = [*answer.headers, (b"x-run-id", run_id.encode())] + ([(b"connection", b"close")] if close else [])
    return headers, answer.body if isinstance(answer.body, bytes) else b""


def refuse(refused: Refused) -> App:
    """An application that answers so, whatever it is asked."""

    async def app(_scope: Any, _receive: Receive, send: Send) -> None:
        headers, body = refusal(refused.status, refused.detail, close=refused.close)
        await send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return app


async def answer_options(_scope: Any, _receive: Receive, send: Send) -> None:
    """`OPTIONS *`: what the server as a whole does. RFC 9110, 9.3.7."""
    headers = [(b"allow", _ALLOW), (b"x-run-id", new_run_id().encode())]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def whom_to_ask(app: App, judge: Callable[[], bytes], *, close: bool) -> tuple[App, bytes]:
    """Who answers a request, and the target to answer: `app`, or in its place what refuses what `judge` refuses.

    close: whether a refusal ends the connection; where it has other streams, those have done nothing.
    """
    try:
        target = judge()
    except Refused as refused:
        refused.close = refused.close and close
        return refuse(refused), b"/"
    return (answer_options if target == b"*" else app), target


class Ends(msgspec.Struct, frozen=True):
    """Both ends of a connection. client, server: address and port, None where there is none. secured: over TLS.

    host: the client's address alone.
    """

    secured: bool
    client: tuple[str, int] | None
    server: tuple[str, int] | None
    host: str | None
    scheme: Literal["http", "https"]


class Host(Protocol):
    """What a protocol needs of its server. ending: connections are closed once they are answered; as `context` says.

    alt_svc: the header that tells where HTTP/3 is; b"" where it is not.
    """

    app: App
    alt_svc: bytes
    context: "Surroundings"
    limits: Limits
    tasks: "Tasks"
    overload: Overload
    ending: bool

    @property
    def config(self) -> "Config":
        """What Hypercorn's protocols ask for."""
        ...


class Signal:
    """An event as Hypercorn's protocols want it: theirs are not always asyncio's."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    async def set(self) -> None:
        """It has happened."""
        self._event.set()

    async def clear(self) -> None:
        """It has not."""
        self._event.clear()

    async def wait(self) -> None:
        """Wait until it has."""
        await self._event.wait()

    def is_set(self) -> bool:
        """Whether it has."""
        return self._event.is_set()


class Surroundings:
    """What Hypercorn's protocols want of the process around them. Its own class comes with all of its server.

    terminated: nobody is served any longer than what is under way.
    """

    event_class = Signal

    def __init__(self) -> None:
        self.terminated = Signal()

    async def mark_request(self) -> None:
        """Hypercorn counts requests, to end its process after so many."""


class Tasks:
    """The tasks of a server. In Hypercorn's group of one connection a fault of one request would cancel the others."""

    def __init__(self) -> None:
        self.running: set[asyncio.Task[None]] = set()

    def spawn(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Task[None]:
        """Run a coroutine function beside the caller."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(function(*arguments))
        self.running.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection failed inside the runtime", exc_info=error)
