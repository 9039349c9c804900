"""What stands around a function's handler in every trigger: fall back, break, limit, and then run.

Made by the invoker for functions that say concurrency=, key=, rate=, breaker= or fallback=. Raises nothing itself, but
for the cancellation of its caller.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from runtime.base.errors import BreakerOpen, InputError, LimitReached, Problem
from runtime.base.ids import new_run_id
from runtime.base.logs import get_logger
from runtime.declare.registry import Function
from runtime.declare.request import ClientGone
from runtime.invoke.execute import Left, Stream, noting_what_is_left
from runtime.invoke.idempotency import KeyFailed, plan_limit_key
from runtime.invoke.invocation import Invocation, Outcome
from runtime.invoke.limits.fallback import Fallback, Supply
from runtime.invoke.limits.gate import Gate
from runtime.invoke.limits.rules import Ask, Limits, Verdict, limits_of
from runtime.invoke.threads.pool import Threads

log = get_logger(__name__)

_SERVER_ERROR = 500

Work = Callable[[Invocation], Awaitable[Outcome]]


class Counts(msgspec.Struct):
    """Of one function's calls in this process. waited: at all. refused: by a limit. open: by its breaker."""

    calls: int = 0
    waited: int = 0
    refused: int = 0
    open: int = 0
    fell_back: int = 0


def verdict_of(outcome: Outcome) -> Verdict:
    """What the end of a call says of its function's health."""
    if outcome.state == "succeeded":
        return "good"
    return "bad" if outcome.reason in ("timeout", "crashed") else _verdict_on(outcome.error)


def _verdict_on(error: BaseException | None) -> Verdict:
    if isinstance(error, (InputError, ClientGone, KeyFailed)):
        return "none"
    return "none" if isinstance(error, Problem) and error.status < _SERVER_ERROR else "bad"


def is_guarded(function: Function) -> bool:
    """Whether a function needs a guard."""
    return limits_of(function) is not None or function.policy.has_fallback


class Guard:
    """Around one function. wait_seconds: how long a call waits for its limits. threads: of plain fallback functions."""

    def __init__(self, function: Function, gate: Gate, wait_seconds: float, threads: Threads, supply: Supply) -> None:
        self._function = function
        self._gate = gate
        self._wait_seconds = wait_seconds
        self._limits = _bounding(limits_of(function))
        self._key = plan_limit_key(function)
        self._fallback = Fallback(function, threads, supply) if function.policy.has_fallback else None
        self.counts = Counts()

    @classmethod
    def of(
        cls, function: Function, gate: Gate, wait_seconds: float, threads: Threads, supply: Supply
    ) -> "Guard | None":
        """The guard of a function; None for one that needs none."""
        return cls(function, gate, wait_seconds, threads, supply) if is_guarded(function) else None

    async def call(self, invocation: Invocation, work: Work) -> Outcome:
        """How a call ended that was kept within limits, and fell back if it failed for good."""
        self.counts.calls += 1
        if self._limits is None or invocation.has_place:
            outcome = await work(invocation)
        else:
            outcome = await self._within(self._limits, invocation, work)
        return await self.fall_back(invocation, outcome) if invocation.falls_back else outcome

    async def fall_back(self, invocation: Invocation, outcome: Outcome) -> Outcome:
        """What `fallback=` makes of a failure; the outcome itself where it has no say in that."""
        if self._fallback is None or outcome.state == "succeeded" or verdict_of(outcome) != "bad":
            return outcome
        found = await self._fallback.instead(invocation, outcome)
        self.counts.fell_back += found.state == "succeeded"
        return found

    async def _within(self, limits: Limits, invocation: Invocation, work: Work) -> Outcome:
        try:
            key = "" if self._key is None else self._key.text_of(invocation.arguments)
        except KeyFailed as error:
            log.exception("a call has no key for its limits")
            return Outcome(state="failed", reason="error", error=error)
        # The id of a run may be its submitter's choice, and is no call's.
        ask = Ask(function=self._function.name, limits=limits, holder=f"call:{new_run_id()}", key=key)
        try:
            entry = await self._gate.enter(ask, self._wait_seconds)
        except LimitReached as error:
            self.counts.refused += 1
            return Outcome(state="failed", reason="limit", error=error)
        except BreakerOpen as error:
            self.counts.open += 1
            return Outcome(state="failed", reason="open", error=error, breaker="open")
        self.counts.waited += entry.waited
        with noting_what_is_left() as left:
            outcome = await self._inside(ask, left, invocation, work)
        return msgspec.structs.replace(outcome, breaker="half-open") if entry.trial else outcome

    async def _inside(self, ask: Ask, left: list[Left], invocation: Invocation, work: Work) -> Outcome:
        verdict: Verdict | None = "none"
        try:
            outcome = await work(invocation)
            if isinstance(outcome.value, Stream):
                verdict = None
                outcome.value.on_end(partial(self._end_stream, ask, left, outcome.value))
            else:
                verdict = verdict_of(outcome)
            return outcome
        finally:
            if verdict is not None:
                self._gate.leave(ask, verdict, left)

    def _end_stream(self, ask: Ask, left: list[Left], stream: Stream) -> None:
        """A stream has its place until it is closed; left early, it says nothing."""
        verdict: Verdict = "good" if stream.complete else "none"
        self._gate.leave(ask, verdict if stream.error is None else _verdict_on(stream.error), left)


def _bounding(limits: Limits | None) -> Limits | None:
    """None where they bound no calls: a key alone makes runs take turns."""
    return limits if limits and (limits.concurrency or limits.every_ms or limits.failures) else None
