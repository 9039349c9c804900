"""What goes into the ledger and what comes out of it.

Made by triggers and workers; read by all. Times are seconds since the epoch (float), as the store's clock tells them.
"""

from typing import Literal, NamedTuple

import msgspec

from runtime.declare.registry import DEFAULT_QUEUE
from runtime.invoke.limits.rules import Verdict

State = Literal["scheduled", "queued", "running", "retrying", "succeeded", "failed", "cancelled"]
Reason = Literal[
    "error",
    "timeout",
    "crashed",
    "expired",
    "cancelled",
    "unknown function",
    "bad arguments",
    "bad result",
    "bad message",
]
FINISHED = frozenset({"succeeded", "failed", "cancelled"})
DEFAULT_PRIORITY = 5
MOST_CRASHES = 3
"""Of the process that a run has to itself: the last one. As in scripts/ends.lua."""


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A run to be accepted.

    payload: JSON object of arguments by name. due: not before then; None for now. delay_seconds: in place of due, not
    before so long after it is accepted. max_age_seconds: it expires if it has not begun so long after it was due; None
    for never. priority: 0 to 9, 9 the most urgent. dedupe: of several runs of a function that say the same, within
    dedupe_seconds, only the first is accepted. parent: the run that submitted it. max_length: refuse if the queue has
    so many open runs; 0 for no limit. trace: a W3C traceparent, or "". key: by which the function's limits are apart;
    None for one without key=, or if it is not known here. callback: a URL that is told of its end, "" for none.
    """

    id: str
    function: str
    queue: str = DEFAULT_QUEUE
    payload: bytes = b"{}"
    trigger: str = "submit"
    priority: int = DEFAULT_PRIORITY
    due: float | None = None
    delay_seconds: float = 0.0
    max_age_seconds: float | None = None
    dedupe: str = ""
    dedupe_seconds: float = 86_400.0
    parent: str = ""
    trace: str = ""
    max_length: int = 0
    key: str | None = None
    callback: str = ""


class Accepted(msgspec.Struct, frozen=True):
    """What became of a submission: known (there is such a run already: id is that one's) or full are refusals."""

    id: str
    verdict: Literal["accepted", "known", "full"] = "accepted"


class Foreign(msgspec.Struct, frozen=True):
    """A message of a Celery client's own, the oldest on its list or one of those behind it.

    content: as it came; of one that is too long, without its long strings, or b"". size: its bytes, as it came. digest:
    its SHA-1, in hex.
    """

    key: str
    content: bytes
    size: int
    digest: str


class Adoption(msgspec.Struct, frozen=True, kw_only=True):
    """What a foreign message is to become: a run, or a failed one that says why it cannot be run (refused).

    expires: it may not begin later. The payload of a refused one is the message as it came.
    """

    key: str
    digest: str
    run: Submission
    expires: float | None = None
    refused: "Failure | None" = None


Adopted = Literal["accepted", "known", "full", "refused", "gone"]


class Claimed(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A run to be executed, held by a lease.

    token: the fence, to be shown at each beat and at the end; no two claims have the same. failures: earlier attempts
    whose handler failed. crashes: earlier leases that were lost; above 0 it runs alone. crashes_alone: those of a
    process that it had to itself. due: when it first was, before all retries. expires: None for never. tick: of a
    tick's run, a TickNote as JSON. key: by which limits are apart; None for a run whose submitter did not know it.
    has_place: limits hold for it, and it has got a place. The order is that in which scripts/claim.lua writes them.
    """

    id: str
    function: str
    queue: str
    token: int
    failures: int = 0
    crashes: int = 0
    crashes_alone: int = 0
    trigger: str = "submit"
    priority: int = DEFAULT_PRIORITY
    accepted: float = 0.0
    due: float = 0.0
    claimed: float = 0.0
    expires: float | None = None
    parent: str = ""
    trace: str = ""
    key: str | None = None
    has_place: bool = False
    payload: bytes
    tick: bytes = b""

    @property
    def attempt(self) -> int:
        """1 for the first."""
        return self.failures + 1


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why an attempt failed, as the API shows it. traceback: for those who may read the log."""

    type: str
    message: str
    traceback: str = ""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended: the last state, or retrying, or crashed, after retry_seconds. result, progress: JSON.

    crashed: the process that it had to itself died. lost: its worker ends, for which this run is blamed.
    waiting: it was none, because another call has the key that idempotent= gave this one; look again after
    retry_seconds. began, ended: of the handler. verdict: for the function's breaker. stays: what goes on of the handler
    keeps its place under limits; the holder is then "{id}:{token}". fell_back: why fallback= gave the result.
    """

    id: str
    token: int
    state: Literal["succeeded", "failed", "cancelled", "retrying", "crashed", "lost", "waiting"]
    attempt: int = 1
    reason: Reason | None = None
    result: bytes = b""
    failure: Failure | None = None
    retry_seconds: float = 0.0
    progress: bytes = b""
    began: float = 0.0
    ended: float = 0.0
    worker: str = ""
    verdict: Verdict = "none"
    stays: bool = False
    fell_back: str = ""


class Held(msgspec.Struct, frozen=True):
    """A lease as its worker knows it. progress: JSON to be shown meanwhile, b"" for nothing new."""

    id: str
    token: int
    queue: str
    progress: bytes = b""


class Beat(msgspec.Struct, frozen=True):
    """What a beat brings back: ids of leases that are lost, and of runs that are to be cancelled."""

    lost: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()


class Lost(NamedTuple):
    """An attempt that ended with its worker, so many seconds after it was claimed. goes_on: its run has another."""

    function: str
    trigger: str
    seconds: float
    goes_on: bool
