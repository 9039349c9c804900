"""What goes into the invoker and what comes out."""

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from runtime.base.ids import Trace
from runtime.declare.context import Tick
from runtime.declare.registry import Function
from runtime.invoke.execute import Left

Reason = Literal["error", "timeout", "crashed", "limit", "open"]


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a function.

    trigger: "http", "cli", "api", "submit", ... arguments: by name, typed, injected ones apart. timeout_seconds: None
    for no limit. attempt: 1 for the first. report: takes what the handler says of its progress, JSON, from any thread.
    tick: of a schedule; in any other call a handler that must have one is given one of now. has_place: its limits are
    seen to: by claim, for a run. falls_back: at once, if it fails; a run does once it is not tried again.
    counted: by the invoker; a run is by whoever writes its ending, which knows more.
    """

    function: Function
    trigger: str
    arguments: dict[str, Any]
    run_id: str
    trace: Trace
    timeout_seconds: float | None
    attempt: int = 1
    report: Callable[[bytes], None] | None = None
    tick: Tick | None = None
    has_place: bool = False
    falls_back: bool = True
    counted: bool = True


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended. value: the result, an execute.Stream for a generator. error, reason: of a failed one.

    crashed: the process it had to itself died. limit, open: it was not called. left: what goes on of its handler.
    fell_back: why fallback= gave the value. breaker: of the function, where it was not closed when the call came.
    """

    state: Literal["succeeded", "failed"]
    value: Any = None
    error: BaseException | None = None
    reason: Reason | None = None
    left: tuple[Left, ...] = ()
    fell_back: Reason | None = None
    breaker: Literal["open", "half-open"] | None = None
