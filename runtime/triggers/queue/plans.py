"""What is known at load about each function as a run calls it: its arguments, its time, its retries.

Made by the execution when functions are taken up. Pure data; nothing is looked up per run but a plan by its name.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from runtime.base.errors import DeclarationError
from runtime.base.logs import get_logger
from runtime.declare.policies import Retry
from runtime.declare.registry import Function
from runtime.declare.triggers import Queue
from runtime.invoke.binding import PayloadPlan
from runtime.invoke.retry import DEFAULT_MAX_AGE_SECONDS, DEFAULT_RETRY
from runtime.ledger.records import DEFAULT_QUEUE

log = get_logger(__name__)

DEFAULT_TIMEOUT_SECONDS = 15 * 60.0


class RunPlan(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How a function's runs are executed. names: of the arguments it takes. on_failure: a function's name, or ""."""

    function: Function
    arguments: PayloadPlan
    names: frozenset[str]
    retry: Retry
    timeout_seconds: float
    queue_timeouts: Mapping[str, float]
    max_age_seconds: float
    queue: str
    on_failure: str = ""

    def timeout_on(self, queue: str) -> float:
        """How long a run from this queue may take."""
        return self.queue_timeouts.get(queue, self.timeout_seconds)


def plan_runs(functions: Iterable[Function]) -> dict[str, RunPlan]:
    """The plans of all that can run from a queue, by name; a function that wants a request cannot."""
    functions = list(functions)
    names = {function.call: function.name for function in functions}
    plans = {}
    for function in functions:
        try:
            arguments = PayloadPlan(function)
        except DeclarationError:
            continue
        plans[function.name] = _plan(function, arguments, _target(function, names))
    for plan in plans.values():
        if plan.on_failure and plan.on_failure not in plans:
            log.error("on_failure= names no function that can run from a queue", function=plan.function.name)
    return plans


def _plan(function: Function, arguments: PayloadPlan, on_failure: str) -> RunPlan:
    policy = function.policy
    queues = [trigger for trigger in function.triggers if isinstance(trigger, Queue)]
    return RunPlan(
        function=function,
        arguments=arguments,
        names=frozenset(p.name for p in function.parameters if not p.injected),
        retry=policy.retries or DEFAULT_RETRY,
        timeout_seconds=policy.timeout_seconds or DEFAULT_TIMEOUT_SECONDS,
        queue_timeouts={one.name: one.timeout_seconds for one in queues if one.timeout_seconds},
        max_age_seconds=policy.max_age_seconds or DEFAULT_MAX_AGE_SECONDS,
        queue=queues[0].name if queues else DEFAULT_QUEUE,
        on_failure=on_failure,
    )


def _target(function: Function, names: Mapping[Callable[..., Any], str]) -> str:
    wanted = function.policy.on_failure
    if wanted is None:
        return ""
    return wanted if isinstance(wanted, str) else names.get(wanted, getattr(wanted, "__qualname__", repr(wanted)))


def queues_of(plans: Iterable[RunPlan]) -> list[str]:
    """Every queue that a function declares, and the one for all others."""
    return sorted({DEFAULT_QUEUE, *(plan.queue for plan in plans), *(q for plan in plans for q in _declared(plan))})


def _declared(plan: RunPlan) -> list[str]:
    return [trigger.name for trigger in plan.function.triggers if isinstance(trigger, Queue)]
