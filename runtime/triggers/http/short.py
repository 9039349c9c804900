"""The short way of a call: a plain handler in the one task of its request or in a thread, its answer written at once.

Made by core for the routes of such functions, asked by the shell for requests of the lane. Takes only what needs
nothing else: a whole body, no key of idempotency, no preference. What does not bind, fails or streams goes on as all
do.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context as Variables
from contextvars import copy_context
from functools import partial
from typing import Any, Protocol

import msgspec
from typing_extensions import override

from runtime.base.errors import InputError
from runtime.base.ids import Trace, new_run_id, trace_of
from runtime.base.logs import get_logger
from runtime.declare.registry import Function
from runtime.declare.request import Request
from runtime.invoke.binding import BindingFailed, HttpPlan
from runtime.invoke.direct import GENERATORS, Direct
from runtime.invoke.execute import Finished
from runtime.invoke.invocation import Invocation, Outcome
from runtime.invoke.invoker import Invoker, may_be_direct
from runtime.invoke.tally import note_success
from runtime.triggers.http.answers import Answer, answer_of
from runtime.triggers.http.outcomes import OutcomePlan
from runtime.triggers.http.prefer import VARY
from runtime.triggers.http.wire.exchange import Exchange

log = get_logger(__name__)

GIVEN_UP = "the drain time is over"
_SERVER_ERROR = 500


class Shell(Protocol):
    """The shell, as a call of the short way sees it."""

    def go_on(self, call: "ShortCall", answering: Coroutine[Any, Any, Answer], variables: Variables) -> None:
        """Answer it as all are, in a task of its own, with these variables."""

    def drop(self, call: "ShortCall", status: int) -> None:
        """It is over, and was answered so; 0 if it was not."""


class Short(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one route. cancels: if the client leaves. varies: its answers, by what is preferred."""

    function: Function
    plan: HttpPlan
    answers: OutcomePlan
    invoker: Invoker
    max_body: int
    cancels: bool
    timeout_seconds: float | None
    varies: bool

    def begin(self, call: "ShortCall", variables: Variables) -> bool:
        """Start a call; False, and nothing has happened, if it has to go the long way. Run in `variables`."""
        request, exchange, plan = call.request, call.exchange, self.plan
        body = b""
        if plan.needs_body:
            whole = exchange.whole() if plan.takes_raw or exchange.lines.json else None
            if whole is None or len(whole) > self.max_body:
                return False
            body = whole
        request.max_body = self.max_body
        call.run_id = run_id = new_run_id()
        call.trace = trace_of(run_id, exchange.lines.trace)
        try:
            arguments = plan.bind(request, body)
        except (InputError, BindingFailed) as error:  # bound once: types of the author's may do things of their own
            call.refuse(error)
            return True
        invocation = Invocation(
            function=self.function,
            trigger="http",
            arguments=arguments,
            run_id=run_id,
            trace=call.trace,
            timeout_seconds=self.timeout_seconds,
        )
        if not self.invoker.begin(call, invocation, variables):
            return False
        if not plan.takes_request:
            exchange.drop_body()
        if self.cancels:
            exchange.watch(partial(call.cancel, "left"))
        return True

    async def answer(self, call: "ShortCall", finished: Finished | Outcome | None, seconds: float = 0.0) -> Answer:
        """The answer to a call that has ended so; GivenUp's 503 for None."""
        if finished is None:
            raise asyncio.CancelledError(GIVEN_UP)
        outcome = finished if isinstance(finished, Outcome) else await self.invoker.finish(call, finished, seconds)
        answer = await self.answers.answer(call.request, call.run_id, outcome)
        if self.varies:
            answer.headers.append(VARY)
        return answer


def short_of(invoker: object, **settings: Any) -> Short | None:
    """The short way with these settings; None where its function takes what that does not."""
    if not isinstance(invoker, Invoker):
        return None
    short = Short(invoker=invoker, **settings)
    plan = short.plan
    takes_both = plan.takes_request and (plan.needs_body or short.function.kind == "sync")
    return short if may_be_direct(short.function) and not plan.takes_files and not takes_both else None


async def _raise(error: Exception) -> Answer:
    raise error


class ShortCall(Direct):
    """One call on its way, and where its answer goes. over: called once nothing of it is left to do."""

    __slots__ = ("_shell", "exchange", "release", "request", "run_id", "short", "trace")

    run_id: str
    trace: Trace

    def __init__(
        self, short: Short, request: Request, exchange: Exchange, shell: Shell, release: Callable[[], None]
    ) -> None:
        self.short = short
        self.request = request
        self.exchange = exchange
        self._shell = shell
        self.release = release

    def refuse(self, error: InputError | BindingFailed) -> None:
        """Answer what cannot be bound."""
        self.skip()
        self._shell.go_on(self, _raise(error), Variables())

    @override
    def succeeded(self, value: Any) -> None:
        note_success(self.cell, self.seconds)
        try:
            answer = answer_of(value, self.short.answers.result)
        except Exception:  # noqa: BLE001 - said by the long way, which meets it again
            answer = None
        if answer is None or not isinstance(answer.body, bytes) or answer.status >= _SERVER_ERROR:
            self._go_on(Outcome(state="succeeded", value=value))
            return
        headers = answer.headers
        if self.short.varies:
            headers.append(VARY)
        headers.append((b"x-run-id", self.run_id.encode()))
        if self.exchange.lines.trace is not None:
            headers.append((b"traceparent", self.trace.traceparent.encode()))
        if self.exchange.write_whole(answer.status, headers, answer.body):
            self._shell.drop(self, answer.status)
        else:
            self._go_on(Outcome(state="succeeded", value=value))

    @override
    def failed(self, finished: Finished | None, seconds: float) -> None:
        if finished is None and self.why == "left":
            log.info("client left, handler cancelled", function=self.short.function.name, run_id=self.run_id)
            self._shell.drop(self, 0)
        elif finished is None:
            self._go_on(None)
        elif isinstance(finished.value, GENERATORS):
            self._shell.go_on(self, self.short.answer(self, finished, seconds), copy_context())
        else:
            try:
                outcome = self.short.invoker.judge(self, finished, seconds)
            except Exception as error:  # an error of the author's that cannot be put into words, say
                log.exception("handler failed, and how cannot be told", run_id=self.run_id)
                self.cell.done(seconds, "failed")
                outcome = Outcome(state="failed", reason="error", error=error)
            self._go_on(outcome)

    def _go_on(self, outcome: Outcome | None) -> None:
        self._shell.go_on(self, self.short.answer(self, outcome), Variables())
