"""What `fallback=` gives in place of a failure: a value, or what a function makes of the error and the arguments.

Used by the guard. A fallback that fails itself is said in the log, and changes nothing.
"""

from collections.abc import Callable
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import Any

from runtime.base.logs import get_logger
from runtime.declare.context import Context, current
from runtime.declare.registry import Function
from runtime.declare.signatures.keys import fallback_names
from runtime.invoke.execute import run_async, run_in_thread
from runtime.invoke.invocation import Invocation, Outcome
from runtime.invoke.threads.pool import Finished, Threads

log = get_logger(__name__)

_LONGEST_SECONDS = 10.0
"""Its caller has waited for the handler already."""

Supply = Callable[[Invocation], tuple[Context, dict[str, Any]]]
"""The context of a call, and all that its handler is given."""


class Fallback:
    """A function's `fallback=`: a value, or a function of `error` and of what its handler takes."""

    def __init__(self, function: Function, threads: Threads, supply: Supply) -> None:
        self._function = function
        self._threads = threads
        self._supply = supply
        self._value = function.policy.fallback
        self._names = fallback_names(self._value, function.parameters) if callable(self._value) else None
        self._defaults = {p.name: p.default for p in function.parameters if not p.required}

    async def instead(self, invocation: Invocation, failed: Outcome) -> Outcome:
        """What is answered in place of a failure; the failure itself if that fails, too."""
        if self._names is None:
            return _instead_of(failed, self._value)
        context, given = self._supply(invocation)
        given = {**self._defaults, **given, "error": failed.error or _no_error(failed)}
        call = partial(self._value, **{name: given[name] for name in self._names})
        seconds = min(invocation.timeout_seconds or _LONGEST_SECONDS, _LONGEST_SECONDS)
        token = current.set(context)
        try:
            finished = await self._run(call, seconds)
        finally:
            current.reset(token)
        if finished.timed_out or finished.error is not None:
            log.error("fallback failed, and its call with what it failed with", exc_info=finished.error)
            return failed
        return _instead_of(failed, finished.value)

    async def _run(self, call: Callable[[], Any], seconds: float) -> Finished:
        name = self._function.name
        if iscoroutinefunction(self._value):
            return await run_async(name, call, seconds)
        finished = await run_in_thread(self._threads, call, seconds)
        if isawaitable(finished.value):  # a lambda around an async function
            return await run_async(name, lambda: finished.value, seconds)
        return finished


def _instead_of(failed: Outcome, value: Any) -> Outcome:
    return Outcome(state="succeeded", value=value, fell_back=failed.reason, breaker=failed.breaker)


def _no_error(failed: Outcome) -> Exception:
    """What to tell of a failure that nobody raised."""
    return TimeoutError("it took longer than its timeout") if failed.reason == "timeout" else RuntimeError("it crashed")
