"""The short way of a call: a plain handler in the one task of its request or in a thread, its answer written at once.

Made by core for the routes of such functions, asked by the shell for requests of the lane. Takes only what needs
nothing else: a whole body, no key of idempotency, no preference. What does not bind, fails or streams goes on as all
do.
"""

import asyncio
from collections.abc import Coroutine
from contextvars import Context as Variables
from contextvars import copy_context
from time import perf_counter
from typing import Any, Protocol

import msgspec
from typing_extensions import override

from runtime.base.errors import InputError
from runtime.base.ids import new_run_id, trace_of
from runtime.base.logs import get_logger
from runtime.declare.registry import Function
from runtime.declare.request import Request
from runtime.invoke.binding import BindingFailed, HttpPlan
from runtime.invoke.direct import Direct, Start, is_generator
from runtime.invoke.invocation import Outcome
from runtime.invoke.invoker import Invoker, may_be_direct
from runtime.invoke.tally import note_success
from runtime.invoke.threads.pool import Finished
from runtime.triggers.http.answers import Answer, answer_of, json_of
from runtime.triggers.http.outcomes import OutcomePlan
from runtime.triggers.http.prefer import VARY
from runtime.triggers.http.wire.exchange import Exchange

log = get_logger(__name__)

GIVEN_UP = "the drain time is over"
_OK, _SERVER_ERROR = 200, 500
_VARY_LINE = b"%b: %b\r\n" % VARY


class Shell(Protocol):
    """The shell, as a call of the short way sees it."""

    def go_on(self, call: "ShortCall", answering: Coroutine[Any, Any, Answer], variables: Variables) -> None:
        """Answer it as all are, in a task of its own, with these variables."""

    def drop(self, call: "ShortCall", status: int) -> None:
        """It is over, and was answered so; 0 if it was not."""


class Short(msgspec.Struct, kw_only=True, eq=False):
    """One method of one route. cancels: if the client leaves. varies: its answers, by what is preferred.

    start: known from the first call on.
    """

    function: Function
    plan: HttpPlan
    answers: OutcomePlan
    invoker: Invoker
    max_body: int
    cancels: bool
    timeout_seconds: float | None
    varies: bool
    start: Start | None = None

    def begin(self, request: Request, exchange: Exchange, shell: Shell, variables: Variables) -> "ShortCall | None":
        """Start a call; None, and nothing has happened, if it has to go the long way. Run in `variables`."""
        plan, start = self.plan, self.start or self._find_start()
        body = self._body_of(exchange) if plan.needs_body else b""
        if start is None or body is None:
            return None
        request.max_body = self.max_body
        run_id = new_run_id()
        trace = trace_of(run_id, exchange.lines.trace)
        context = start.context_of(run_id, trace)
        call = ShortCall(
            start, run_id, trace, context, variables, short=self, request=request, exchange=exchange, shell=shell
        )
        try:
            call.arguments = plan.bind(request, body)
        except (InputError, BindingFailed) as error:  # bound once: types of the author's may do things of their own
            call.refuse(error)
            return call
        if not start.begin(call):
            return None
        if exchange.lines.length and not plan.takes_request:
            exchange.drop_body()
        if self.cancels:
            exchange.on_gone = call.leave
        return call

    def _find_start(self) -> Start | None:
        self.start = self.invoker.start_of(self.function, "http", self.timeout_seconds)
        return self.start

    def _body_of(self, exchange: Exchange) -> bytes | None:
        """The body; None if not all of it is there, or it has to be read otherwise."""
        body = exchange.whole() if self.plan.takes_raw or exchange.lines.json else None
        return None if body is None or len(body) > self.max_body else body

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


class ShortCall(Direct, kw_only=True, eq=False):
    """One call on its way, and where its answer goes."""

    short: Short
    request: Request
    exchange: Exchange
    shell: Shell

    def refuse(self, error: InputError | BindingFailed) -> None:
        """Answer what cannot be bound."""
        self.skip()
        self.shell.go_on(self, _raise(error), Variables())

    def leave(self) -> None:
        """The client has gone away."""
        self.cancel("left")

    @override
    def succeeded(self, value: Any) -> None:
        note_success(self.start.cell, perf_counter() - self.began)
        try:
            content = json_of(value, self.short.answers.result)
            if content is None:
                status = self._write(value)
            else:
                status = _OK if self.exchange.write_json(self.run_id, self._lines(), content) else 0
        except Exception:  # noqa: BLE001 - said by the long way, which meets it again
            status = 0
        if status:
            self.shell.drop(self, status)
        else:
            self._go_on(Outcome(state="succeeded", value=value))

    def _lines(self) -> bytes:
        """What the head has besides, as it is sent."""
        lines = _VARY_LINE if self.short.varies else b""
        if self.exchange.lines.trace is not None:
            lines += b"traceparent: %b\r\n" % self.trace.traceparent.encode()
        return lines

    def _write(self, value: Any) -> int:
        """Send any other answer; its status, or 0 where it has to go the long way."""
        answer = answer_of(value, self.short.answers.result)
        if not isinstance(answer.body, bytes) or answer.status >= _SERVER_ERROR:
            return 0
        headers = answer.headers
        if self.short.varies:
            headers.append(VARY)
        headers.append((b"x-run-id", self.run_id.encode()))
        if self.exchange.lines.trace is not None:
            headers.append((b"traceparent", self.trace.traceparent.encode()))
        return answer.status if self.exchange.write_whole(answer.status, headers, answer.body) else 0

    @override
    def failed(self, finished: Finished | None, seconds: float) -> None:
        if finished is None and self.why == "left":
            log.info("client left, handler cancelled", function=self.start.name, run_id=self.run_id)
            self.shell.drop(self, 0)
        elif finished is None:
            self._go_on(None)
        elif is_generator(finished.value):
            self.shell.go_on(self, self.short.answer(self, finished, seconds), copy_context())
        else:
            try:
                outcome = self.short.invoker.judge(self, finished, seconds)
            except Exception as error:  # an error of the author's that cannot be put into words, say
                log.exception("handler failed, and how cannot be told", run_id=self.run_id)
                self.start.cell.done(seconds, "failed")
                outcome = Outcome(state="failed", reason="error", error=error)
            self._go_on(outcome)

    def _go_on(self, outcome: Outcome | None) -> None:
        self.shell.go_on(self, self.short.answer(self, outcome), Variables())
