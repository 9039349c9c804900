"""Answer now, work later: a request becomes a run that is accepted durably before its caller is told so.

Called by the core and the admin API. What wants the store and does not get it raises StoreDown, which
is answered with 503. How soon is the desk's business.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

import msgspec

from runtime.base.errors import BackgroundClosed, BackgroundFull, FnrunError, Problem, QueueFull, StoreDown
from runtime.base.ids import Trace
from runtime.base.logs import get_logger
from runtime.base.web.places import Refused
from runtime.declare.registry import Function
from runtime.declare.request import Request
from runtime.invoke.binding import PayloadPlan
from runtime.invoke.idempotency import plan_limit_key
from runtime.ledger.callbacks.policy import check_callback
from runtime.ledger.calls import Call
from runtime.ledger.desk import Desk
from runtime.ledger.ledger import Ledger
from runtime.ledger.records import Submission
from runtime.ledger.targets import limit_key_of
from runtime.ledger.views import RunView
from runtime.triggers.http.answers import Answer, ResultPlan, answer_of, can_be_kept, types_of
from runtime.triggers.http.prefer import VARY, Preference, preference_of

log = get_logger(__name__)

T = TypeVar("T")

_CALLBACK = b"x-callback-url"
_LOOK_SECONDS = 0.5
_STORE_RETRY_SECONDS = "5"
_FULL_RETRY_SECONDS = "10"
_PROBLEM = re.compile(r"([45]\d\d) (.+)", re.DOTALL)
_BYTES = (bytes, bytearray, memoryview)


class MayCallBack(Protocol):
    """Whether the caller of a function may have others told of the end of its run."""

    async def __call__(self, request: Request, *, function: str) -> None:
        """Problem (401, 403) if not."""


class Later(msgspec.Struct, frozen=True, kw_only=True):
    """What a process does later, or not itself. desk: None where there is no store.

    longest_wait_seconds: of a `wait=`. stopping: whether the process is. may_call_back: asked where a caller wants a
    callback.
    """

    desk: Desk | None = None
    longest_wait_seconds: float = 30.0
    stopping: Callable[[], bool] = lambda: False
    may_call_back: "MayCallBack | None" = None

    def at_hand(self) -> Desk:
        """The desk. StoreDown if there is none."""
        if self.desk is None:
            raise StoreDown("this process has no store")
        return self.desk

    async def ask(self, make: Callable[[Ledger], Call[T]]) -> T:
        """Ask the ledger. StoreDown."""
        desk = self.at_hand()
        return await desk.ask(make(desk.ledger))

    async def finished(self, run_id: str, seconds: float) -> RunView | None:
        """A run once it is finished; None if it is not in time, or the process stops, or nobody can say."""
        if seconds <= 0:
            return None
        waiting = asyncio.ensure_future(self.at_hand().finished(run_id, seconds))
        try:
            while not self.stopping():
                done, _ = await asyncio.wait((waiting,), timeout=_LOOK_SECONDS)
                if done:
                    return waiting.result()
        except FnrunError as error:
            log.info("a run is not waited for", run_id=run_id, reason=str(error))
        finally:
            waiting.cancel()
        return None


Refusal = StoreDown | QueueFull | BackgroundFull | BackgroundClosed
REFUSALS = (StoreDown, QueueFull, BackgroundFull, BackgroundClosed)
"""What says, wherever it is raised, that a call is worth another try later."""


def refusal_of(error: Refusal) -> Problem:
    """How a caller is told that a run was not accepted, or not found. Why the store is away is for the log alone."""
    if isinstance(error, BackgroundFull):
        detail = "as many background tasks wait here as may; try again later"
        return Problem(429, headers={"Retry-After": _FULL_RETRY_SECONDS}, detail=detail)
    if isinstance(error, BackgroundClosed):
        return Problem(503, headers={"Retry-After": _STORE_RETRY_SECONDS}, detail="the server is shutting down")
    if isinstance(error, QueueFull):
        detail = f"queue {error.queue} holds as many open runs as it may; try again later"
        return Problem(429, headers={"Retry-After": _FULL_RETRY_SECONDS}, detail=detail)
    log.warning("a call needs the store, which does not answer", reason=str(error))
    return Problem(
        503,
        headers={"Retry-After": _STORE_RETRY_SECONDS},
        detail="the store does not answer; what needs it, queues and runs, does not work until it does",
    )


class LaterRoute:
    """One route of a function, for those who prefer to be answered later. Raises StoreDown and Problem."""

    def __init__(self, function: Function, plan: PayloadPlan, result: ResultPlan, later: Later, trigger: str) -> None:
        self._function = function
        self._plan = plan
        self._result = result
        self._later = later
        self._trigger = trigger
        self._key = plan_limit_key(function)
        self._gives_bytes = bool(types := types_of(function.returns)) and all(
            one in (*_BYTES, type(None), None) for one in types
        )

    def preference_of(self, request: Request) -> Preference | None:
        """What a request prefers; None for an answer as usual. Problem if it may not have it."""
        found = preference_of(request, self._later.longest_wait_seconds)
        url = None if found is None else request.header(_CALLBACK)
        if found is None or url is None:
            return found
        try:
            check_callback(url, self._later.at_hand().settings.callbacks)
        except Refused as refused:
            raise Problem(422, detail=f"{_CALLBACK.decode().title()}: {refused}") from None
        return msgspec.structs.replace(found, callback=url)

    async def admit(self, request: Request, preference: Preference) -> None:
        """Problem (401, 403) if the request may not have what it prefers. Only a callback takes a right of its own."""
        if preference.callback and self._later.may_call_back is not None:
            await self._later.may_call_back(request, function=self._function.name)

    async def answer(self, run_id: str, trace: Trace, arguments: dict[str, Any], preference: Preference) -> Answer:
        """Accept a run; then its result, if it comes in time, or else 202."""
        run = self.submission(run_id, trace, arguments, preference)
        accepted = await self._later.at_hand().accept(run)
        if accepted.verdict == "full":
            raise QueueFull(run.queue, run.max_length)
        return await self.answer_accepted(accepted.id, preference)

    async def answer_accepted(self, run_id: str, preference: Preference) -> Answer:
        """The result of a run, if it comes in time, or else 202."""
        applied = (b"preference-applied", preference.applied().encode())
        view = await self._later.finished(run_id, preference.wait_seconds or 0)
        if view is not None:
            answer = self.answer_finished(view, [applied, VARY])
        else:
            body = {
                "id": run_id,
                "state": "queued",
                "function": self._function.name,
                "queue": self._function.queue,
            }
            answer = answer_of(body, ResultPlan(status=HTTPStatus.ACCEPTED))
            answer.headers.append((b"location", f"/_/runs/{run_id}".encode()))
        answer.headers.append(applied)
        return answer

    def submission(self, run_id: str, trace: Trace, arguments: dict[str, Any], preference: Preference) -> Submission:
        """The run that a call is, for those who want to be answered later."""
        return Submission(
            id=run_id,
            function=self._function.name,
            queue=self._function.queue,
            payload=self._plan.write(arguments),
            trigger=self._trigger,
            max_age_seconds=self._function.policy.max_age_seconds,
            # Of its caller: the run itself has the span that this call would have had.
            trace=f"00-{trace.trace_id}-{trace.parent_id}-{trace.flags}" if trace.parent_id else "",
            max_length=self._later.at_hand().max_length,
            key=limit_key_of(self._key, arguments),
            callback=preference.callback,
        )

    def answer_finished(self, view: RunView, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
        """What the function's own synchronous answer would be. Raises Problem, with these headers."""
        applied = {name.decode(): value.decode() for name, value in headers}
        if view.state == "cancelled":
            raise Problem(409, headers=applied, detail="the run was cancelled")
        if view.state == "failed":
            raise _problem_of(view, applied)
        return self.answer_of_json(bytes(view.result or b"null"))

    def answer_of_json(self, raw: bytes) -> Answer:
        """What the function's own answer would be to the result of a run."""
        if raw == b"null":
            return answer_of(None, self._result)
        if self._gives_bytes:
            return answer_of(msgspec.json.decode(raw, type=bytes), self._result)
        if self._result.content_type is not None and raw.startswith(b'"'):
            return answer_of(msgspec.json.decode(raw, type=str), self._result)
        return answer_of(msgspec.Raw(raw), msgspec.structs.replace(self._result, content_type=None, may_be_nan=False))


def plan_later(function: Function, result: ResultPlan, later: Later, trigger: str) -> LaterRoute | None:
    """How a function is called later; None for one that cannot be."""
    return LaterRoute(function, PayloadPlan(function), result, later, trigger) if can_be_kept(function) else None


def _problem_of(view: RunView, headers: dict[str, str]) -> Problem:
    """The error of a failed run, as the function's own answer would have it."""
    failure = view.failure
    meant = _PROBLEM.fullmatch(failure.message) if failure is not None and failure.type == "Problem" else None
    if meant is not None:
        return Problem(int(meant[1]), meant[2], headers=headers)
    if view.reason == "timeout":
        return Problem(504, headers=headers, detail="the function did not finish in time")
    if view.reason == "expired":
        return Problem(504, headers=headers, detail="no worker began the run in time")
    return Problem(500, headers=headers, detail="the function failed; its log has the run id")
