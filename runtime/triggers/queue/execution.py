"""Execute runs: a Claimed in, an Ending out, whatever the handler does.

Called by the crew, on its loop. Knows neither Celery nor the store.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import Context as Variables
from contextvars import copy_context
from functools import partial
from typing import Any

import msgspec

from runtime.base.errors import CellDied, FnrunError, InputError, NoCell
from runtime.base.logs import get_logger
from runtime.declare.registry import Function
from runtime.invoke.binding import BindingFailed
from runtime.invoke.execute import noting_what_is_left
from runtime.invoke.idempotency import KeyFailed, KeyPlan
from runtime.invoke.invocation import Outcome
from runtime.invoke.invoker import Invoker
from runtime.invoke.limits.guard import verdict_of
from runtime.invoke.retry import next_delay
from runtime.invoke.threads.pool import Finished
from runtime.ledger.once import Found, TakesKeys, key_of_function, pause_seconds, take_patiently
from runtime.ledger.records import MOST_CRASHES, Ending, Failure
from runtime.observe import traces
from runtime.triggers.queue.leases import Fate, Lease
from runtime.triggers.queue.outcomes.calls import Short, ShortRun, invocation_of, payload_of
from runtime.triggers.queue.outcomes.places import place_of
from runtime.triggers.queue.outcomes.results import BadResult, Results, TooLong, failure_of
from runtime.triggers.queue.outcomes.spans import run_in_span
from runtime.triggers.queue.outcomes.tally import Tally
from runtime.triggers.queue.plans import RunPlan, plan_runs

log = get_logger(__name__)

_STUCK_SECONDS = 2.0
_CRASH_SECONDS = 1.0
"""The first pause after a crash alone; each further one is twice as long."""

Ended = Callable[[Lease, Ending | None], None]


class Assigned(FnrunError):  # noqa: N818 - a state
    """A run has got the key by which it waits for its turn."""


Alone = Callable[[Lease], Awaitable[Ending]]
"""Execute a run in a process of its own. CellDied, NoCell."""


class Execution:
    """Runs handlers on the loop it is used on. ended: told of each run once; None if its outcome is nobody's concern.

    result_max: bytes of a result. worker: its name, for the record. keys: asks for those that idempotent= gives; None:
    every run goes on. alone: for runs that shall have a process to themselves; None where this is such a process.
    """

    def __init__(
        self,
        invoker: Invoker,
        ended: Ended,
        *,
        worker: str,
        result_max: int,
        keys: TakesKeys | None = None,
        alone: Alone | None = None,
    ) -> None:
        self._keys, self._alone = keys, alone
        self._invoker = invoker
        self._ended = ended
        self._worker = worker
        self._results = Results(result_max)
        self.tally = Tally(tells=bool(worker))  # else this is a cell
        self._stops: dict[Lease, Callable[[], object]] = {}
        self._short = Short(invoker)
        self._idle = asyncio.Event()
        self._idle.set()
        self.plans: Mapping[str, RunPlan] = {}

    def adopt(self, functions: Iterable[Function]) -> None:
        """Run these functions from now on; runs at work go on with what they began with."""
        functions = list(functions)
        self._invoker.adopt(functions)
        self.plans = plan_runs(functions)
        self._short.forget()
        self._results.adopt(functions)

    def start(self, lease: Lease) -> None:
        """Begin a run."""
        plan = self.plans.get(lease.run.function)
        if plan is None:  # it was taken away a moment ago
            lease.fate = "handed back"
            self._ended(lease, None)
            return
        lease.began = time.time()
        self.tally.begin(lease.run)
        self._idle.clear()
        alone = self._alone if lease.run.crashes and not plan.function.policy.isolation else None
        is_plain = plan.is_plain and alone is None and traces.active is None and not (lease.fate or lease.run.tick)
        if is_plain and (stop := self._begin_short(lease, plan)) is not None:
            self._stops[lease] = stop
        else:
            self._begin(lease, plan, alone)

    def _begin_short(self, lease: Lease, plan: RunPlan) -> Callable[[], object] | None:
        try:
            return self._short.begin(lease, plan, self)
        except (InputError, BindingFailed) as error:  # bound once: types of the author's may do things of their own
            ending = self._unfit(lease, error)
        except Exception as error:  # noqa: BLE001 - nobody else would end it
            ending = self._unable(lease, error)
        asyncio.get_running_loop().call_soon(self.end, lease, ending)
        return bool  # there is nothing to stop

    def _begin(self, lease: Lease, plan: RunPlan, alone: Alone | None) -> None:
        if plan.limit_key is not None and lease.run.key is None:
            work = self._assign(lease, plan, plan.limit_key)
        else:
            work = self._run(lease, plan) if alone is None else self._run_alone(alone, lease, plan)
        if traces.active is not None:
            work = run_in_span(traces.active, lease, self._worker, work)
        task = asyncio.get_running_loop().create_task(work)
        self.await_ending(lease, task, copy_context())
        if lease.fate:
            task.cancel()

    def await_ending(self, lease: Lease, ending: asyncio.Task[Ending], variables: Variables) -> None:
        """As for calls.Ends."""
        self._stops[lease] = ending.cancel
        ending.add_done_callback(partial(self._take_ending, lease), context=variables)

    def stop(self, leases: Iterable[Lease], fate: Fate) -> None:
        """End the handlers of runs, for that reason; those that wait to begin end then."""
        for lease in leases:
            if not (lease.fate or lease.ended):
                lease.fate = fate
                if (stop := self._stops.get(lease)) is not None:
                    stop()

    @property
    def busy(self) -> int:
        """How many handlers are at work."""
        return len(self._stops)

    @property
    def at_work(self) -> list[Lease]:
        """The runs whose handlers are at work."""
        return list(self._stops)

    async def idle(self, within_seconds: float) -> bool:
        """Wait until no handler is at work; whether that is so."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self._idle.wait()
        return self._idle.is_set()

    def _take_ending(self, lease: Lease, task: asyncio.Task[Ending]) -> None:
        ending = None
        if not task.cancelled():
            if (error := task.exception()) is None:
                ending = task.result()
            elif not lease.fate:
                ending = self._unable(lease, error)
        self.end(lease, ending)

    def end(self, lease: Lease, ending: Ending | None) -> None:
        """Its handler is at work no longer, and came to this; to nothing if it was ended from outside."""
        if self._stops.pop(lease, None) is None:
            return  # it has ended before
        lease.ended = True
        if not self._stops:
            self._idle.set()
        if lease.fate:
            is_cancelled = lease.fate == "cancelled"
            ending = self._ending(lease, state="cancelled", reason="cancelled") if is_cancelled else None
        self.tally.end(lease, ending)
        left = [one for one in lease.left if not one.done()]
        plan = self.plans.get(lease.run.function)
        if left and lease.run.has_place and plan is not None and plan.limits is not None:
            lease.stays = (place_of(lease.run, plan.limits), left)
            ending = ending and msgspec.structs.replace(ending, stays=True)
        self._ended(lease, ending)

    async def _run(self, lease: Lease, plan: RunPlan) -> Ending:
        run = lease.run
        try:
            arguments = plan.arguments.bind(payload_of(run, plan))
        except (InputError, BindingFailed) as error:
            return self._unfit(lease, error)
        if plan.key is not None and self._keys is not None:
            instead = await self._instead(lease, plan, plan.key, self._keys, arguments)
            if instead is not None:
                return instead
            lease.began = time.time()
        with noting_what_is_left() as lease.left:
            return await self._judge(lease, plan, await self._invoker.invoke(invocation_of(lease, plan, arguments)))

    def _unable(self, lease: Lease, error: BaseException) -> Ending:
        log.error("a run could not be executed", run_id=lease.run.id, exc_info=error)
        return self._ending(lease, state="failed", reason="error", failure=failure_of(error))

    def _unfit(self, lease: Lease, error: InputError | BindingFailed) -> Ending:
        return self._ending(lease, state="failed", reason="bad arguments", failure=failure_of(error))

    async def conclude(self, call: ShortRun, finished: Finished, seconds: float) -> Ending:
        """As for calls.Ends."""
        return await self._judge(call.lease, call.plan, await self._invoker.finish(call, finished, seconds))

    async def _judge(self, lease: Lease, plan: RunPlan, outcome: Outcome) -> Ending:
        if outcome.state == "failed":
            return await self._failed(lease, plan, outcome)
        try:
            left_seconds = plan.timeout_of(lease.run) - (time.time() - lease.began)
            result = await self._results.write(outcome.value, plan.function, left_seconds)
        except BadResult as bad:
            return self._bad_result(lease, bad)
        except TooLong:
            return await self._failed(lease, plan, Outcome(state="failed", reason="timeout"))
        except Exception as raised:  # noqa: BLE001 - by the author's generator
            return await self._failed(lease, plan, Outcome(state="failed", reason="error", error=raised))
        return self._ending(lease, state="succeeded", result=result, verdict="good")

    def write(self, lease: Lease, plan: RunPlan, value: Any) -> Ending:
        """As for calls.Ends."""
        try:
            result = self._results.write_plain(value, plan.function)
        except BadResult as bad:
            return self._bad_result(lease, bad)
        return self._ending(lease, state="succeeded", result=result, verdict="good")

    async def _assign(self, lease: Lease, plan: RunPlan, key: KeyPlan) -> Ending:
        """Find the key by which a run waits for its turn, whose submitter did not know it. Raises once it is found."""
        try:
            lease.key = key.text_of(plan.arguments.bind(payload_of(lease.run, plan)))
        except (InputError, BindingFailed) as error:
            return self._unfit(lease, error)
        except KeyFailed as error:
            return self._ending(lease, state="failed", reason="error", failure=failure_of(error))
        lease.fate = "assigned"
        raise Assigned

    def _bad_result(self, lease: Lease, bad: BadResult) -> Ending:
        log.error("a result cannot be kept", run_id=lease.run.id, function=lease.run.function, reason=str(bad))
        return self._ending(lease, state="failed", reason="bad result", failure=failure_of(bad))

    async def _instead(
        self, lease: Lease, plan: RunPlan, key: KeyPlan, keys: TakesKeys, arguments: Mapping[str, Any]
    ) -> Ending | None:
        """The ending of a run that another call has done, or is about to do; None for one that is to go on."""
        run = lease.run
        try:
            said = key.key_of(arguments)
        except KeyFailed as error:
            return self._ending(lease, state="failed", reason="error", failure=failure_of(error))
        if said is None:
            return None
        found = await take_patiently(keys, key_of_function(run.function, said), run)
        return None if found.verdict == "mine" else self._ending_of_another(lease, plan, found)

    def _ending_of_another(self, lease: Lease, plan: RunPlan, found: Found) -> Ending:
        """What a run comes to whose key another call has, or had."""
        if found.verdict == "kept" and found.result is not None:
            return self._ending(lease, state="succeeded", result=found.result)
        if found.verdict == "kept":
            bad = BadResult("a call by HTTP has done this, and what it answered is no result that is kept")
            return self._ending(lease, state="failed", reason="bad result", failure=failure_of(bad))
        pause = pause_seconds(found.waits)
        if self._age_seconds(lease) + pause > plan.max_age_seconds:
            late = TimeoutError("another call with its key was under way for all of its max_age")
            return self._ending(lease, state="failed", reason="expired", failure=failure_of(late))
        return self._ending(lease, state="waiting", retry_seconds=pause)

    async def _run_alone(self, alone: Alone, lease: Lease, plan: RunPlan) -> Ending:
        """Have it run in a process of its own, which keeps the time itself, unless it is stuck."""
        try:
            async with asyncio.timeout(plan.timeout_of(lease.run) + _STUCK_SECONDS):
                ending = await alone(lease)
        except TimeoutError:
            return await self._failed(lease, plan, Outcome(state="failed", reason="timeout"))
        except CellDied as died:
            return await self._failed(lease, plan, Outcome(state="failed", reason="crashed", error=died))
        return msgspec.structs.replace(ending, worker=self._worker)

    def _died(self, lease: Lease, died: CellDied) -> Ending:
        """The ending of a run whose own process has died. One that had none is handed back: raises."""
        if isinstance(died, NoCell):
            log.error("a run has no process to be alone in and is handed back", run_id=lease.run.id, reason=died.how)
            lease.fate = "handed back"
            raise died
        log.error("a run ended the process that it had to itself", run_id=lease.run.id, how=died.how)
        pause = _CRASH_SECONDS * 2**lease.run.crashes
        said = Failure(type="Crashed", message=str(died))
        return self._ending(lease, state="crashed", failure=said, retry_seconds=pause, verdict="bad")

    async def _failed(self, lease: Lease, plan: RunPlan, outcome: Outcome) -> Ending:
        """The ending of an attempt that failed. If there is no other after it, fallback= may give its result."""
        error = outcome.error
        is_last = lease.run.crashes_alone + 1 >= MOST_CRASHES
        if isinstance(error, CellDied):
            ending = self._died(lease, error)
        else:
            ending = self._ending_of_failure(lease, plan, outcome)
            is_last = ending.state == "failed"
        if not (is_last and plan.function.policy.has_fallback):
            return ending
        invocation = invocation_of(lease, plan, plan.arguments.bind(payload_of(lease.run, plan)))
        found = await self._invoker.fall_back(invocation, outcome)
        if found.fell_back is None:
            return ending
        try:
            result = await self._results.write(found.value, plan.function, 0)
        except BadResult as bad:
            log.error("what a fallback gave cannot be kept", run_id=lease.run.id, reason=str(bad))  # noqa: TRY400 - it says all
            return ending
        said = {"failure": ending.failure, "fell_back": found.fell_back, "verdict": ending.verdict}
        return self._ending(lease, state="succeeded", result=result, **said)

    def _ending_of_failure(self, lease: Lease, plan: RunPlan, outcome: Outcome) -> Ending:
        run = lease.run
        error = outcome.error or TimeoutError(f"it took longer than its {plan.timeout_of(run):g} s")
        reason = "timeout" if outcome.reason == "timeout" else "error"
        left_seconds = plan.max_age_seconds - self._age_seconds(lease)
        delay = next_delay(plan.retry, run.attempt, error, left_seconds, random.random)
        ending = partial(self._ending, lease, reason=reason, failure=failure_of(error), verdict=verdict_of(outcome))
        return ending(state="failed") if delay is None else ending(state="retrying", retry_seconds=delay)

    @staticmethod
    def _age_seconds(lease: Lease) -> float:
        """By the server's times where there are: the run's age when it was claimed, and by our clock since then."""
        run = lease.run
        return max(0.0, run.claimed - (run.due or run.accepted)) + (time.time() - lease.began)

    def _ending(self, lease: Lease, **said: Any) -> Ending:
        run = lease.run
        return Ending(
            id=run.id,
            token=run.token,
            attempt=run.attempt,
            progress=lease.progress,
            worker=self._worker,
            began=lease.began,
            ended=time.time(),
            **said,
        )
