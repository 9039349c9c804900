"""What a handler may ask for about its own invocation: Context, and Tick under a schedule.

Made by the invoker for each invocation. Cheap to make: what costs is computed when asked for.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from runtime.base.ids import Trace
from runtime.base.logs import Logger, get_logger
from runtime.base.secrets.given import NO_SECRETS, Secrets
from runtime.declare.resources import NONE_OPENED, Opened

_LONGEST_PROGRESS = 64_000


class Context:
    """One invocation, seen from its handler.

    run_id: 32 hex digits, time-ordered. function: its name. trigger: "http", "cli", ... attempt: 1 for the first.
    env: the function's environment, what it and functions.toml say on top of the process's. secrets: those that the
    function names, `secrets["STRIPE_KEY"]`.
    resources: what functions/_lifespan.py opens, `resources["db"]` or `resources.db`.
    """

    __slots__ = (
        "_report",
        "_started_at",
        "_timeout_seconds",
        "attempt",
        "cancelled",
        "env",
        "function",
        "resources",
        "run_id",
        "secrets",
        "trace",
        "trigger",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - made for each invocation: by place, that costs half
        self,
        run_id: str,
        function: str,
        trigger: str,
        attempt: int,
        env: Mapping[str, str],
        trace: Trace,
        started_at: float,
        timeout_seconds: float | None,
        report: Callable[[bytes], None] | None = None,
        resources: Opened = NONE_OPENED,
        secrets: Secrets = NO_SECRETS,
    ) -> None:
        self.run_id = run_id
        self.function = function
        self.trigger = trigger
        self.attempt = attempt
        self.env = env
        self.trace = trace
        self.resources = resources
        self.secrets = secrets
        self.cancelled = False
        """True once the caller no longer waits: sync code looks at it between steps, async code is cancelled."""
        self._report = report
        self._started_at = started_at
        self._timeout_seconds = timeout_seconds

    @staticmethod
    def current() -> "Context":
        """The invocation at work here. LookupError outside of one."""
        try:
            return current.get()
        except LookupError:
            raise LookupError("no invocation is at work here; Context.current() answers inside a handler") from None

    def progress(self, value: Any) -> None:
        """Say how far this run has come: anything JSON can say, up to 64 kB. The latest is shown beside its state.

        Nothing happens where nobody looks: in a synchronous call. Raises TypeError or ValueError for what does not fit.
        """
        said = msgspec.json.encode(value)
        if len(said) > _LONGEST_PROGRESS:
            raise ValueError(f"progress of {len(said)} bytes; it is a short note of at most {_LONGEST_PROGRESS}")
        if self._report is not None:
            self._report(said)

    @property
    def deadline(self) -> datetime | None:
        """When its time is over (aware, UTC); None for a stream, which has a limit for each item."""
        if self._timeout_seconds is None:
            return None
        return datetime.fromtimestamp(self._started_at, UTC) + timedelta(seconds=self._timeout_seconds)

    @property
    def is_run(self) -> bool:
        """Whether the ledger knows it: a synchronous call is not recorded there."""
        return self._report is not None

    @property
    def traceparent(self) -> str:
        """W3C header to send with calls made on behalf of this invocation."""
        return self.trace.traceparent

    @property
    def log(self) -> Logger:
        """A structlog logger; every line carries run_id, function, trigger and attempt."""
        return get_logger(self.function)


current: ContextVar[Context] = ContextVar("fnrun_context")


def log_fields() -> dict[str, Any]:
    """What each log line of a handler carries; nothing outside of one."""
    context = current.get(None)
    if context is None:
        return {}
    return {
        "run_id": context.run_id,
        "function": context.function,
        "trigger": context.trigger,
        "attempt": context.attempt,
        "trace_id": context.trace.trace_id,
    }


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """One tick of a schedule. planned_at, last_success: aware, UTC. missed: ticks skipped since the last one."""

    planned_at: datetime
    late_seconds: float = 0.0
    last_success: datetime | None = None
    missed: int = 0
