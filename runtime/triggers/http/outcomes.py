"""The answer to how a call of a function ended, by an exception handler of the author's where there is one.

Used by the core and the admin API, whose routes each make a plan at load.
"""

from collections.abc import Callable
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

import anyio.to_thread
import msgspec

from runtime.base.errors import InputError, Problem
from runtime.base.logs import get_logger
from runtime.declare.lifespan import ErrorHandler, Lifespan
from runtime.declare.registry import Function
from runtime.declare.request import Request
from runtime.invoke.execute import Stream, run_async
from runtime.invoke.invocation import Outcome
from runtime.invoke.isolation.zygote_client import CellDied, NoCell
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
        if outcome.state == "failed":
            handler = self.lifespan.handler_of(outcome.error)
            if handler is not None:
                return await self._answer_by_handler(request, run_id, handler, outcome.error)
            if isinstance(outcome.error, Problem | InputError):
                return problem_answer(run_id, outcome.error)
            if isinstance(outcome.error, REFUSALS):  # of a submit, most likely
                raise outcome.error
            raise _problem_of(outcome)
        try:
            if isinstance(outcome.value, Stream):
                return await stream_answer(outcome.value, self.result)
            return answer_of(outcome.value, self.result)
        except Unencodable as error:
            log.error(  # noqa: TRY400 - it says all
                "result cannot be sent", function=self.function.name, run_id=run_id, reason=str(error)
            )
            raise Problem(500, detail="the function's result cannot be sent; its log has the run id") from None

    async def _answer_by_handler(
        self, request: Request, run_id: str, handler: ErrorHandler, error: BaseException | None
    ) -> Answer:
        """What an exception handler of the author's makes of an error. Raises Problem.

        One that takes too long is left: a thread ends by itself.
        """
        work: Callable[[], Any] = partial(handler, request, error)
        if not iscoroutinefunction(handler):
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
