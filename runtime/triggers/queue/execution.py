"""Execute runs: a Claimed in, an Ending out, whatever the handler does.

Called by the crew, on its loop. Knows neither Celery nor the store.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec

from runtime.base.errors import FnrunError, InputError
from runtime.base.ids import new_run_id, trace_of
from runtime.base.logs import get_logger
from runtime.declare.markers import Reply
from runtime.declare.registry import Function
from runtime.invoke.binding import BindingFailed
from runtime.invoke.execute import Stream
from runtime.invoke.idempotency import KeyFailed, KeyPlan
from runtime.invoke.invocation import Invocation
from runtime.invoke.invoker import Invoker
from runtime.invoke.isolation.faults import said_of
from runtime.invoke.isolation.zygote_client import CellDied, NoCell
from runtime.invoke.results import Unencodable, encode_json, may_hold_float
from runtime.invoke.retry import next_delay
from runtime.ledger.once import Found, TakesKeys, key_of_function, pause_seconds, take_patiently
from runtime.ledger.records import Claimed, Ending, Failure
from runtime.ledger.schedules.records import tick_of
from runtime.triggers.queue.clients.messages import TRIGGER, by_name
from runtime.triggers.queue.leases import Fate, Lease
from runtime.triggers.queue.plans import RunPlan, plan_runs

log = get_logger(__name__)

_ID_DIGITS = 32
_STUCK_SECONDS = 2.0
_CRASH_SECONDS = 1.0
"""The first pause after a crash alone; each further one is twice as long."""

Ended = Callable[[Lease, Ending | None], None]


class BadResult(FnrunError):  # noqa: N818 - a verdict on what a handler returned
    """A result that cannot be kept, and why."""


Alone = Callable[[Lease], Awaitable[Ending]]
"""Execute a run in a process of its own. CellDied, NoCell."""


class _TooLong(Exception):  # noqa: N818 - a verdict
    """A generator took longer than its run may."""


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
        self._keys = keys
        self._alone = alone
        self._invoker = invoker
        self._ended = ended
        self._worker = worker
        self._result_max = result_max
        self._tasks: dict[Lease, asyncio.Task[Ending]] = {}
        self._plain: dict[Function, bool] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self.plans: Mapping[str, RunPlan] = {}

    def adopt(self, functions: Iterable[Function]) -> None:
        """Run these functions from now on; runs at work go on with what they began with."""
        functions = list(functions)
        self._invoker.adopt(functions)
        self.plans = plan_runs(functions)
        self._plain = {function: not may_hold_float(function.returns) for function in functions}

    def start(self, lease: Lease) -> None:
        """Begin a run."""
        plan = self.plans.get(lease.run.function)
        if plan is None:  # it was taken away a moment ago
            lease.fate = "handed back"
            self._ended(lease, None)
            return
        lease.began = time.time()
        alone = self._alone if lease.run.crashes and not plan.function.policy.isolation else None
        work = self._run(lease, plan) if alone is None else self._run_alone(alone, lease, plan)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[lease] = task
        self._idle.clear()
        task.add_done_callback(partial(self._end, lease))

    def stop(self, leases: Iterable[Lease], fate: Fate) -> None:
        """End the handlers of runs, for that reason."""
        for lease in leases:
            task = self._tasks.get(lease)
            if task is not None and not lease.fate:
                lease.fate = fate
                task.cancel()

    @property
    def at_work(self) -> list[Lease]:
        """The runs whose handlers are at work."""
        return list(self._tasks)

    async def idle(self, within_seconds: float) -> bool:
        """Wait until no handler is at work; whether that is so."""
        try:
            async with asyncio.timeout(within_seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def _end(self, lease: Lease, task: asyncio.Task[Ending]) -> None:
        del self._tasks[lease]
        lease.ended = True
        if not self._tasks:
            self._idle.set()
        self._ended(lease, self._ending_of(lease, task))

    def _ending_of(self, lease: Lease, task: asyncio.Task[Ending]) -> Ending | None:
        if lease.fate == "cancelled":
            return self._ending(lease, state="cancelled", reason="cancelled")
        if task.cancelled() or lease.fate:
            if not task.cancelled():
                task.exception()  # else asyncio would say that nobody asked
            return None
        if (error := task.exception()) is not None:
            log.error("a run could not be executed", run_id=lease.run.id, exc_info=error)
            return self._ending(lease, state="failed", reason="error", failure=failure_of(error))
        return task.result()

    async def _run(self, lease: Lease, plan: RunPlan) -> Ending:
        run = lease.run
        try:
            arguments = plan.arguments.bind(_payload_of(run, plan))
        except (InputError, BindingFailed) as error:
            return self._ending(lease, state="failed", reason="bad arguments", failure=failure_of(error))
        if plan.key is not None and self._keys is not None:
            instead = await self._instead(lease, plan, plan.key, self._keys, arguments)
            if instead is not None:
                return instead
            lease.began = time.time()
        invocation = Invocation(
            function=plan.function,
            trigger=run.trigger,
            arguments=arguments,
            run_id=run.id,
            trace=trace_of(run.id if len(run.id) == _ID_DIGITS else new_run_id(), run.trace or None),
            timeout_seconds=plan.timeout_of(run),
            attempt=run.attempt,
            report=lease.report,
            tick=tick_of(run),
        )
        outcome = await self._invoker.invoke(invocation)
        if outcome.state == "failed":
            return self._ending_of_failed(lease, plan, outcome.error)
        try:
            result = await self._result(outcome.value, plan, plan.timeout_of(run) - (time.time() - lease.began))
        except BadResult as bad:
            reason = str(bad)
            log.error("a result cannot be kept", run_id=run.id, function=run.function, reason=reason)  # noqa: TRY400 - it says all
            return self._ending(lease, state="failed", reason="bad result", failure=failure_of(bad))
        except Exception as raised:  # noqa: BLE001 - by the author's generator
            return self._failed(lease, plan, raised)
        return self._ending(lease, state="succeeded", result=result)

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
            return self._failed(lease, plan, None)
        except CellDied as died:
            return self._died(lease, died)
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
        return self._ending(lease, state="crashed", failure=said, retry_seconds=pause)

    def _ending_of_failed(self, lease: Lease, plan: RunPlan, error: BaseException | None) -> Ending:
        return self._died(lease, error) if isinstance(error, CellDied) else self._failed(lease, plan, error)

    def _failed(self, lease: Lease, plan: RunPlan, error: BaseException | None) -> Ending:
        """The ending of an attempt that raised; error: None, or _TooLong, for one that took too long."""
        run, reason = lease.run, "error"
        if error is None or isinstance(error, _TooLong):
            error, reason = TimeoutError(f"it took longer than its {plan.timeout_of(run):g} s"), "timeout"
        left_seconds = plan.max_age_seconds - self._age_seconds(lease)
        delay = next_delay(plan.retry, run.attempt, error, left_seconds, random.random)
        ending = partial(self._ending, lease, reason=reason, failure=failure_of(error))
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

    async def _result(self, value: Any, plan: RunPlan, left_seconds: float) -> bytes:
        """What a handler returned, as JSON: a Reply's body, a generator's items as a list. BadResult if it is none."""
        if isinstance(value, Stream):
            limit = asyncio.timeout(left_seconds)
            try:
                async with limit:
                    return await self._collect(value)
            except TimeoutError:
                if limit.expired():
                    raise _TooLong from None
                raise
        if isinstance(value, Reply):
            value = value.body
        return self._encode(value, may_be_nan=not self._plain.get(plan.function, False))

    async def _collect(self, stream: Stream) -> bytes:
        items, size = [], 2
        async with aclosing(stream):
            async for item in stream:
                items.append(self._encode(item, may_be_nan=True))
                size += len(items[-1]) + 1
                self._check_size(size)
        return b"[" + b",".join(items) + b"]"

    def _encode(self, value: Any, *, may_be_nan: bool) -> bytes:
        try:
            content = encode_json(value, may_be_nan=may_be_nan)
        except Unencodable as error:
            raise BadResult(str(error)) from None
        except BaseException as error:  # an author's type has code of its own; SystemExit would end the loop
            raise BadResult(f"the result cannot be written as JSON: {type(error).__name__}") from error
        self._check_size(len(content))
        return content

    def _check_size(self, size: int) -> None:
        if size > self._result_max:
            raise BadResult(
                f"the result is larger than {self._result_max} bytes; keep it elsewhere and return where it is, or "
                "raise [queue] result_max"
            )


def _payload_of(run: Claimed, plan: RunPlan) -> bytes:
    """The arguments. A function that was named by on_failure= takes what it wants of what it is told. InputError."""
    if run.trigger == TRIGGER:
        return by_name(run.payload, plan.arguments)
    if run.trigger != "on_failure":
        return run.payload
    try:
        told = msgspec.json.decode(run.payload, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return run.payload
    return msgspec.json.encode({name: value for name, value in told.items() if name in plan.names})


def failure_of(error: BaseException) -> Failure:
    """An error as the ledger keeps it."""
    message, lines = said_of(error)
    return Failure(type=type(error).__name__, message=message, traceback=lines)
