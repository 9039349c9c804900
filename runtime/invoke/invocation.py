"""What goes into the invoker and what comes out."""

from typing import Any, Literal

import msgspec

from runtime.base.ids import Trace
from runtime.declare.registry import Function

TriggerKind = Literal["http", "cli", "api"]
Reason = Literal["error", "timeout"]


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a function.

    arguments: by name, typed, injected ones apart. timeout_seconds: None for no limit. attempt: 1 for the first.
    """

    function: Function
    trigger: TriggerKind
    arguments: dict[str, Any]
    run_id: str
    trace: Trace
    timeout_seconds: float | None
    attempt: int = 1


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended. value: the result, an execute.Stream for a generator. error, reason: of a failed one."""

    state: Literal["succeeded", "failed"]
    value: Any = None
    error: BaseException | None = None
    reason: Reason | None = None
