"""Functions with isolation="process", as the process sees them whose calls they are.

Used by the invoker; put together by roles, the worker and the command line. What becomes of a call in its process is
`inside`; between them go records of MessagePack, whose results are JSON already.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from runtime.base.errors import CellDied, TookTooLong
from runtime.base.ids import Trace
from runtime.base.logs import get_logger
from runtime.declare.context import Tick
from runtime.declare.markers import Reply
from runtime.declare.registry import Function
from runtime.invoke.binding import BindingFailed, PayloadPlan
from runtime.invoke.invocation import Invocation
from runtime.invoke.isolation.faults import Fault, error_of
from runtime.invoke.results import Unwritten
from runtime.invoke.threads.pool import Finished

if TYPE_CHECKING:  # who has no isolated function needs none
    from runtime.invoke.isolation.cells import Cells

log = get_logger(__name__)

_GRACE_SECONDS = 1.25
"""How long after a call's time its process is killed: it keeps the time itself, and lets async handlers clean up."""


class Call(msgspec.Struct, frozen=True, kw_only=True, tag="call"):
    """A call of a function, by name. payload: its arguments, JSON. is_run: the ledger knows it.

    env, secrets: the function's own; its process can open neither.
    """

    function: str
    payload: bytes
    trigger: str
    run_id: str
    trace: Trace
    timeout_seconds: float | None
    attempt: int
    tick: Tick | None
    is_run: bool
    env: Mapping[str, str] = {}
    secrets: dict[str, str] = {}


class Head(msgspec.Struct, frozen=True):
    """Of a Reply, all but its body."""

    status: int | None
    headers: dict[str, str | int]


class Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a call ended. kind: what `body` is; "unwritten": why the result cannot be. fault: of "error".

    head: its result was a Reply.
    """

    kind: Literal["none", "json", "text", "bytes", "unwritten", "error", "timeout"]
    body: bytes = b""
    fault: Fault | None = None
    head: Head | None = None


encode = msgspec.msgpack.Encoder().encode
decode_call = msgspec.msgpack.Decoder(Call).decode
_told_of = msgspec.msgpack.Decoder(Told).decode


class Isolates(Protocol):
    """What runs calls elsewhere."""

    def adopt(self, functions: Iterable[Function]) -> None:
        """Be ready for calls of these."""
        ...

    async def run(self, invocation: Invocation) -> Finished:
        """How it ended: an error that is CellDied if its process did, NoCell if there was none."""
        ...


class Isolated:
    """Runs calls in cells, those of one function one after the other in the same. Used on one event loop."""

    def __init__(self, make: "Callable[[], Cells]") -> None:
        self._make = make
        self._cells: Cells | None = None
        self._plans: dict[Function, PayloadPlan] = {}
        self._is_open = False

    def adopt(self, functions: Iterable[Function]) -> None:
        """Take calls of these, from now on with the code that is in their files now."""
        self._plans = {one: PayloadPlan(one) for one in functions if one.policy.isolation}
        if self._cells is not None:
            self._cells.renew()
        if self._is_open:
            self.open()

    def open(self) -> None:
        """Have what the first call needs started now, if there are such functions. On the loop."""
        self._is_open = True
        if self._plans:
            self._have_cells().warm()

    async def run(self, invocation: Invocation) -> Finished:
        """See Isolates. Cancelled, it kills the process."""
        function, seconds = invocation.function, invocation.timeout_seconds
        try:
            payload = (self._plans.get(function) or PayloadPlan(function)).write(invocation.arguments)
        except BindingFailed as error:
            return Finished(error=error)
        is_run = invocation.report is not None
        call = Call(
            function=function.name,
            payload=payload,
            trigger=invocation.trigger,
            run_id=invocation.run_id,
            trace=invocation.trace,
            timeout_seconds=seconds,
            attempt=invocation.attempt,
            tick=invocation.tick,
            is_run=is_run,
            env=function.env,
            secrets=dict(function.secrets),
        )
        limit = None if seconds is None else seconds + _GRACE_SECONDS
        # A run may wait for a process as long as it takes: that is not its time.
        begun = self._have_cells().start(
            encode(call), invocation.report, kind=function.name, seconds=limit, patient=is_run
        )
        try:
            return _finished(_told_of(await begun.answer()))
        except TookTooLong:
            return Finished(timed_out=True)
        except CellDied as died:
            return Finished(error=died)

    async def aclose(self) -> None:
        """Return when no process of it is left."""
        if self._cells is not None:
            await self._cells.close()

    def _have_cells(self) -> "Cells":
        if self._cells is None:
            self._cells = self._make()
        return self._cells


def _finished(told: Told) -> Finished:
    if told.kind == "timeout":
        return Finished(timed_out=True, is_logged=True)
    if told.kind == "error":
        assert told.fault is not None  # noqa: S101 - inside has set it
        return Finished(error=error_of(told.fault), is_logged=True)
    value: object = None
    if told.kind == "json":
        value = msgspec.Raw(told.body)
    elif told.kind == "text":
        value = told.body.decode("utf-8", "surrogatepass")
    elif told.kind == "bytes":
        value = told.body
    elif told.kind == "unwritten":
        value = Unwritten(told.body.decode())
    return Finished(value=value if told.head is None else Reply(value, told.head.status, told.head.headers))
