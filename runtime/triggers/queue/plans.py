"""What is known at load about each function as a run calls it: its arguments, its time, its retries.

Made by the execution when functions are taken up. Pure data; nothing is looked up per run but a plan by its name.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from runtime.base.errors import DeclarationError
from runtime.declare.policies import Retry
from runtime.declare.registry import DEFAULT_QUEUE, Function
from runtime.declare.triggers import Queue
from runtime.invoke.binding import PayloadPlan
from runtime.invoke.idempotency import KeyPlan, plan_key, plan_limit_key
from runtime.invoke.invoker import may_be_direct
from runtime.invoke.limits.rules import Limits, limits_of
from runtime.invoke.retry import DEFAULT_MAX_AGE_SECONDS, DEFAULT_RETRY
from runtime.ledger.records import Claimed
from runtime.ledger.schedules.records import note_of

DEFAULT_TIMEOUT_SECONDS = 15 * 60.0


class RunPlan(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How a function's runs are executed. names: of the arguments it takes. key: None without idempotent=.

    limits: None without any; limit_key: what they are apart by, None without key=.
    is_plain: nothing but the handler has to be waited for.
    """

    function: Function
    arguments: PayloadPlan
    names: frozenset[str]
    retry: Retry
    timeout_seconds: float
    queue_timeouts: Mapping[str, float]
    max_age_seconds: float
    key: KeyPlan | None
    limits: Limits | None
    limit_key: KeyPlan | None
    is_plain: bool

    def timeout_of(self, run: Claimed) -> float:
        """How long a run may take: what its schedule says, or its queue, or its function."""
        note = note_of(run)
        if note is not None:
            return note.timeout / 1000 or self.timeout_seconds
        return self.queue_timeouts.get(run.queue, self.timeout_seconds)


def plan_runs(functions: Iterable[Function]) -> dict[str, RunPlan]:
    """The plans of all that can run from a queue, by name; a function that wants a request cannot."""
    plans = {}
    for function in functions:
        try:
            plans[function.name] = _plan(function, PayloadPlan(function))
        except DeclarationError:
            continue
    return plans


def _plan(function: Function, arguments: PayloadPlan) -> RunPlan:
    policy, key = function.policy, plan_key(function)
    takes_tick = any(one.injected == "tick" for one in function.parameters)
    return RunPlan(
        function=function,
        arguments=arguments,
        names=frozenset(p.name for p in function.parameters if not p.injected),
        retry=policy.retries or DEFAULT_RETRY,
        timeout_seconds=policy.timeout_seconds or DEFAULT_TIMEOUT_SECONDS,
        queue_timeouts={one.name: one.timeout_seconds for one in _queues(function) if one.timeout_seconds},
        max_age_seconds=policy.max_age_seconds or DEFAULT_MAX_AGE_SECONDS,
        key=key,
        limits=limits_of(function),
        limit_key=plan_limit_key(function),
        is_plain=key is None and not takes_tick and may_be_direct(function),
    )


class Served:
    """The queues a worker claims from. said: those it is told; "*": all that functions declare, and all it meets."""

    def __init__(self, said: Sequence[str]) -> None:
        self._said = said
        self._met: frozenset[str] = frozenset()

    def names(self, functions: Iterable[Function]) -> list[str]:
        """Of the queues; functions: all that run here."""
        return sorted(queues_of(functions) | self._met) if "*" in self._said else list(self._said)

    def meets(self, look: Callable[[], Iterable[str]]) -> bool:
        """Whether somebody has submitted to others. look: asks which there are."""
        new = frozenset(look()) - self._met if "*" in self._said else None
        self._met |= new or frozenset()
        return bool(new)


def queues_of(functions: Iterable[Function]) -> set[str]:
    """Every queue that a function declares, or is given by the settings, and the one for all others."""
    return {DEFAULT_QUEUE}.union(*({one.queue, *(q.name for q in _queues(one))} for one in functions))


def declared_queues(functions: Iterable[Function]) -> set[str]:
    """Every queue that a function declares with @queue, or is given by the settings."""
    found = set()
    for one in functions:
        found |= {q.name for q in _queues(one)} | ({one.queue} - {DEFAULT_QUEUE})
    return found


def _queues(function: Function) -> list[Queue]:
    return [trigger for trigger in function.triggers if isinstance(trigger, Queue)]
