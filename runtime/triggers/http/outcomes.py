"""The answer to how a call of a function ended, by an exception handler of the author's where there is one.

Used by the core and the admin API, whose routes each make a plan at load.
"""

import math
from collections.abc import Callable
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

import msgspec

from runtime.base.errors import BreakerOpen, CellDied, InputError, LimitReached, NoCell, Problem
from runtime.base.logs import get_logger
from runtime.declare.lifespan import ErrorHandler, Lifespan
from runtime.declare.registry import Function
from runtime.declare.request import Request
from runtime.invoke.execute import Stream, run_async
from runtime.invoke.invocation import Outcome
from runtime.invoke.results import Unencodable
from runtime.triggers.http.answers import Answer, ResultPlan, answer_of, problem_answer, stream_answer
from runtime.triggers.http.durable import REFUSALS

log = get_logger(__name__)

_NO_CELL_RETRY_SECONDS = "1"


class OutcomePlan(msgspec.Struct, frozen=True, kw_only=True):
    """How calls of a function are answered. timeout_seconds: for the author's exception handlers."""

    function: Function
    result: ResultPlan
    lifespan: Lifespan
    timeout_seconds: float

    async def answer(self, request: Request, run_id: str, outcome: Outcome) -> Answer:
        """The answer to an Outcome. Raises Problem; one of REFUSALS that the handler raised."""
        if outcome.fell_back is None and outcome.breaker is None:
            return await self._answer(request, run_id, outcome)
        try:
            answer = await self._answer(request, run_id, outcome)
        except Problem as error:
            answer = problem_answer(run_id, error)
        answer.headers += [(b"fnrun-fallback", outcome.fell_back.encode())] if outcome.fell_back else []
        answer.headers += [(b"fnrun-breaker", outcome.breaker.encode())] if outcome.breaker else []
        return answer

    async def _answer(self, request: Request, run_id: str, outcome: Outcome) -> Answer:
        if outcome.state == "failed":
            return await self._answer_failed(request, run_id, outcome)
        try:
            if isinstance(outcome.value, Stream):
                return await stream_answer(outcome.value, self.result)
            return answer_of(outcome.value, self.result)
        except Unencodable as error:
            log.error(  # noqa: TRY400 - it says all
                "result cannot be sent", function=self.function.name, run_id=run_id, reason=str(error)
            )
            raise Problem(500, detail="the function's result cannot be sent; its log has the run id") from None

    async def _answer_failed(self, request: Request, run_id: str, outcome: Outcome) -> Answer:
        if isinstance(outcome.error, LimitReached | BreakerOpen):  # the handler was not called
            raise _refusal_of(outcome.error)
        handler = self.lifespan.handler_of(outcome.error)
        if handler is not None:
            return await self._answer_by_handler(request, run_id, handler, outcome.error)
        if isinstance(outcome.error, Problem | InputError):
            return problem_answer(run_id, outcome.error)
        if isinstance(outcome.error, REFUSALS):  # of a submit, most likely
            raise outcome.error
        raise _problem_of(outcome)

    async def _answer_by_handler(
        self, request: Request, run_id: str, handler: ErrorHandler, error: BaseException | None
    ) -> Answer:
        """What an exception handler of the author's makes of an error. Raises Problem.

        One that takes too long is left: a thread ends by itself.
        """
        work: Callable[[], Any] = partial(handler, request, error)
        if not iscoroutinefunction(handler):
            import anyio.to_thread  # noqa: PLC0415 - nothing else of it is needed here

            work = partial(anyio.to_thread.run_sync, work, abandon_on_cancel=True)
        finished = await run_async("exception handler", work, self.timeout_seconds)
        if isinstance(finished.error, Problem | InputError):
            raise finished.error
        failure: BaseException | str | None = finished.error
        if finished.timed_out:
            failure = f"it took longer than {self.timeout_seconds:g} s"
        elif failure is None:
            try:
                return answer_of(finished.value)
            except Unencodable as bad:
                failure = bad
        traceback = failure if isinstance(failure, BaseException) else None
        log.error("exception handler failed", run_id=run_id, error=repr(error), reason=str(failure), exc_info=traceback)
        raise Problem(500, detail="the function failed; its log has the run id")


def _refusal_of(error: LimitReached | BreakerOpen) -> Problem:
    """How a caller is told to come back later."""
    again = {"Retry-After": str(max(1, math.ceil(error.retry_seconds)))}
    if isinstance(error, LimitReached):
        detail = f"{error.function} is called as much as its limit allows; try again later"
        return Problem(429, headers=again, detail=detail, limit=error.limit)
    return Problem(503, headers=again, detail=f"{error.function} failed too often, and is left alone for a while")


def _problem_of(outcome: Outcome) -> Problem:
    """What a caller is told of a failure that is none of its business."""
    if outcome.reason == "timeout":
        return Problem(504, detail="the function did not finish in time")
    if isinstance(outcome.error, NoCell):
        detail = "there is no process for the function at the moment"
        return Problem(503, headers={"Retry-After": _NO_CELL_RETRY_SECONDS}, detail=detail)
    if isinstance(outcome.error, CellDied):
        return Problem(500, detail=f"the process that ran it died ({outcome.error.how})")
    return Problem(500, detail="the function failed; its log has the run id")
