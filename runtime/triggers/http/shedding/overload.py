"""Whom a process refuses when more comes than it can do, so that what it takes up is done in time.

Asked by the protocols for each request, and by connection before a request is even parsed. Knows no socket; what a
request costs is measured, never declared.

What has to be short is how long those wait who are ready to go on: CPU, memory and calls under way say less, as
thousands of calls may wait for a database at no cost. So the loop is timed while requests come, in rounds of a few
turns, and pace says how many may begin. When rounds get long, what is ready goes on in slices, each of them timed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Literal

from runtime.base.errors import Problem
from runtime.base.ids import new_run_id
from runtime.base.logs import get_logger
from runtime.observe import counts
from runtime.observe.board import Numbers
from runtime.triggers.http.answers import problem_answer
from runtime.triggers.http.shedding.pace import LONG_SECONDS, Pace
from runtime.triggers.http.shedding.slices import Slices

log = get_logger(__name__)

Work = Literal["none", "loop", "thread"]
"""What a request will hold: nothing worth a refusal (health, an operator's question), the event loop, or a thread."""
Cause = Literal["busy", "threads", "in_flight"]
App = Callable[[Any, Any, Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

STOCK_TURNS, LANE_TURNS = 4, 2
"""A request has begun after so many turns: its bytes are read, its task, its handler's task have had their first.

In the lane it has one task. In a round that is longer, clients that are answered ask again and count twice.
"""
_LATELY_SECONDS = 0.5
"""How long the loop is sliced after the last long turn."""
_BODY_BYTES, _BODY_SECONDS = 65_536, 1.0
"""Of a body that nobody will read: how much is let come, and how long, so that its connection can be used further."""
_CALM_SECONDS = 0.5
_QUIET_SECONDS = 5.0

_DETAILS: dict[Cause, str] = {
    "busy": "more requests come than this process can answer in time",
    "threads": "the threads for functions without async are all at work, and others wait for one",
    "in_flight": "as many requests are at work as http.max_in_flight allows",
}


class Overload:
    """Who is let in, in one process. Made in its loop.

    shed: whether to refuse by what is measured. max_in_flight: requests at work at most, streams not counted; 0 for no
    such bound. threads_full: whether who wants a thread would wait for long. work_of: by method and path.

    active: somebody was refused a moment ago. streams: answers that flow. refused: how often, by cause.
    """

    def __init__(
        self,
        *,
        shed: bool = False,
        max_in_flight: int = 0,
        threads_full: Callable[[], bool] = lambda: False,
        work_of: Callable[[str, str], Work] = lambda *_: "loop",
    ) -> None:
        self.active = False
        self.streams = 0
        self.refused: dict[Cause, int] = dict.fromkeys(_DETAILS, 0)
        self._shed = shed
        self._max = max_in_flight
        self._threads_full = threads_full
        self._work_of = work_of
        self._loop = asyncio.get_running_loop()
        self._pace = Pace()
        self._slices = Slices(self._loop, self._measure)
        self._at_work = self._ahead = self._ended = 0
        self._at = self._over_at = self._long_at = 0.0
        self._cells: dict[Cause, Numbers] = {}
        self._timed = self._next = False
        self._told_at = self._refused_at = 0.0
        self._refused_before = 0
        self._answers = {cause: _Prepared(detail) for cause, detail in _DETAILS.items()}

    def judge(self, method: str, target: bytes, *, later: bool = False, turns: int = STOCK_TURNS) -> Cause | None:
        """None if the request may begin. later: it asks for a run, which needs no thread here."""
        cause: Cause | None = None
        if self._max and self._at_work + self._ahead - self.streams >= self._max:
            cause = "in_flight"
        elif self._shed:
            self._time(turns)
            cause = self._judge_load(later=later)
        if cause is not None:
            work = self._work_of(method, target.partition(b"?")[0].decode("latin-1"))
            if work == "none" or (cause == "threads" and work != "thread"):
                return None
            if cause == "threads":
                self._pace.give_back()
            self._count(cause)
        return cause

    def _judge_load(self, *, later: bool) -> Cause | None:
        if not self._pace.take():
            return "busy"
        if not later and self._threads_full():
            return "threads"
        if self._pace.taken > self._pace.crowd:
            self._slices.begin()
        return None

    def await_passed(self) -> None:
        """One that was let in will be before `guard` when the next turn of the loop is over."""
        self._ahead += 1
        self._loop.call_soon(self._loop.call_soon, self._forget_passed)

    def _forget_passed(self) -> None:
        self._ahead -= 1

    def guard(self, app: App, method: str, target: bytes, headers: Headers, *, passed: bool = False) -> App:
        """Who answers a request: `app`, or what refuses it. passed: it was judged before."""
        cause = None
        if not passed:
            cause = self.judge(method, target, later=any(wants_a_run(name, value) for name, value in headers))
        if cause is not None:
            ours, body = self._answers[cause].parts(self._pause(cause))
            return partial(_turn_away, ours, body)
        if not self._max and not self._shed:
            return app
        self._at_work += 1
        return partial(self._work, app)

    async def _work(self, app: App, scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        finally:
            self.end()

    def begin(self) -> None:
        """One that was let in is at work, until `end`."""
        self._at_work += 1

    def end(self) -> None:
        """It is no more."""
        self._at_work -= 1
        self._ended += 1

    def answer(self, cause: Cause, date: bytes) -> bytes:
        """The refusal over HTTP/1.1."""
        return self._answers[cause].whole(self._pause(cause), date)

    def _pause(self, cause: Cause) -> int:
        """Seconds until the next try: not the same for all, or all would come back at once."""
        return 1 + self.refused[cause] % 3

    def _time(self, turns: int) -> None:
        """Time the loop, from now on if that is not so already."""
        if self._timed:
            return
        if not self._next:
            self._at = time.perf_counter()
        self._timed = True
        if not self._slices.on:
            self._loop.call_soon(self._turn, turns - 1)
        elif not self._slices.armed:
            self._slices.soon(self._measure)

    def _turn(self, left: int) -> None:
        if left:
            self._loop.call_soon(self._turn, left - 1)
            return
        self._measure()
        # What comes in this turn follows without a gap, in which other work could hide.
        self._next = True
        self._slices.soon(self._rest)

    def _measure(self) -> None:
        """A round, or a slice, is over."""
        now = time.perf_counter()
        slices = self._slices
        passed, worked, delay = now - self._over_at, slices.worked_seconds, slices.delay(now)
        busy = min(now - self._at, passed) if self._timed else worked
        if max(busy, delay) > LONG_SECONDS or self._pace.shedding:
            self._long_at = now
            slices.begin()
        elif slices.on and now - self._long_at > _LATELY_SECONDS:
            slices.end()
        self._pace.measure(passed, busy, worked if slices.on else busy, self._ended, delay, self._at_work)
        self._ended, slices.worked_seconds = 0, 0.0
        self._at = self._over_at = now
        self._timed = False

    def _rest(self) -> None:
        self._next = False

    def _count(self, cause: Cause) -> None:
        self.refused[cause] += 1
        if (cell := self._cells.get(cause)) is None:
            cell = self._cells[cause] = counts.numbers("overload", cause)
        cell[0] += 1.0
        if not self.active:
            self.active = True
            self._loop.call_later(_CALM_SECONDS, self._look, sum(self.refused.values()))
        if not self._told_at:
            self._told_at = self._loop.time()
            self._refused_before = sum(self.refused.values()) - 1
            log.warning("overload: requests are refused with 429", reason=_DETAILS[cause])
            self._loop.call_later(_QUIET_SECONDS, self._tell)
        self._refused_at = self._loop.time()

    def _look(self, before: int) -> None:
        """See whether it is over."""
        refused = sum(self.refused.values())
        if refused == before:
            self.active = False
            self._pace.relax()
        else:
            self._loop.call_later(_CALM_SECONDS, self._look, refused)

    def _tell(self) -> None:
        """Say so, once it is over for good."""
        if (left := self._refused_at + _QUIET_SECONDS - self._loop.time()) > 0:
            self._loop.call_later(left, self._tell)
            return
        refused = sum(self.refused.values()) - self._refused_before
        seconds = round(self._refused_at - self._told_at, 1)
        self._told_at = 0.0
        log.warning("the overload is over", refused=refused, seconds=seconds)


@contextmanager
def flowing(overload: Overload | None) -> Iterator[None]:
    """Within: an answer is under way that may have no end, and is no call at work."""
    if overload is None:
        yield
        return
    overload.streams += 1
    try:
        yield
    finally:
        overload.streams -= 1


class _Prepared:
    """A refusal, made but for its run id, its date and its Retry-After."""

    def __init__(self, detail: str) -> None:
        run_id = new_run_id()
        answer = problem_answer(run_id, Problem(429, detail=detail))
        body: Any = answer.body
        self._headers = answer.headers
        self._before, self._after = body.split(run_id.encode())
        lines = b"".join(b"%s: %s\r\n" % pair for pair in self._headers)
        self._head = b"HTTP/1.1 429 Too Many Requests\r\n" + lines

    def whole(self, pause_seconds: int, date: bytes) -> bytes:
        run_id = new_run_id().encode()
        return b"%sretry-after: %d\r\nx-run-id: %s\r\ndate: %s\r\n\r\n%s%s%s" % (
            self._head, pause_seconds, run_id, date, self._before, run_id, self._after,
        )  # fmt: skip

    def parts(self, pause_seconds: int) -> tuple[Headers, bytes]:
        run_id = new_run_id().encode()
        ours = [(b"retry-after", b"%d" % pause_seconds), (b"x-run-id", run_id)]
        return [*self._headers, *ours], self._before + run_id + self._after


def wants_a_run(name: bytes, value: bytes) -> bool:
    """Whether a header line asks for a run instead of an answer."""
    return name == b"prefer" and b"respond-async" in value.lower()


async def _turn_away(headers: Headers, body: bytes, scope: Any, receive: Any, send: Any) -> None:
    """An application that refuses. A short body is let come first, else HTTP/1.1 has to close the connection."""
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    expects = any(name == b"expect" for name, _ in scope["headers"])
    if scope["http_version"] == "1.1" and length != b"0" and int(length) <= _BODY_BYTES and not expects:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        body = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(_BODY_SECONDS):
                while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                    pass
    await send({"type": "http.response.body", "body": body, "more_body": False})
