"""Runs and queues as people and the API see them.

Made by Ledger of what the store returns; read by admin, the CLI and Run.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import msgspec

from runtime.ledger.callbacks.records import CallbackView
from runtime.ledger.records import DEFAULT_PRIORITY, FINISHED, Failure, Lost, Reason, State


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that is over, from began to finished (seconds since the epoch). state: "crashed", too.

    fell_back: why fallback= gave its result.
    """

    attempt: int
    state: str
    token: int = 0
    began: float = 0.0
    finished: float = 0.0
    worker: str = ""
    reason: str = ""
    message: str = ""
    fell_back: str = ""


class FlowCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many steps a flow has in total; those in no state that is named here have not begun. open: until they end."""

    total: int
    open: int
    succeeded: int
    failed: int
    cancelled: int


class RunView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run. Times in seconds since the epoch. attempts: of handlers that failed, and of processes that died.

    result, payload: JSON; a payload that is none is a string here. failure: of the last attempt. due: when it begins,
    or began, at the earliest. flow, step: of a step, its flow's id, and the number of its node. steps: of a flow.
    callback: who is told of its end, and what became of that.
    """

    id: str
    function: str
    queue: str
    state: State
    trigger: str
    accepted: float
    due: float
    reason: Reason | None = None
    priority: int = DEFAULT_PRIORITY
    failures: int = 0
    crashes: int = 0
    redriven: int = 0
    claimed: float | None = None
    finished: float | None = None
    expires: float | None = None
    worker: str = ""
    parent: str = ""
    trace: str = ""
    cancelling: bool = False
    attempts: tuple[Attempt, ...] = ()
    progress: msgspec.Raw | None = None
    payload: msgspec.Raw | None = None
    result: msgspec.Raw | None = None
    failure: Failure | None = None
    flow: str = ""
    step: int | None = None
    steps: FlowCounts | None = None
    callback: CallbackView | None = None

    @property
    def is_finished(self) -> bool:
        """Whether its state is the last one, unless it is redriven."""
        return self.state in FINISHED

    @property
    def fell_back(self) -> str:
        """Why its result is what fallback= gave: "error", "timeout", "crashed"; "" if it is the handler's."""
        return self.attempts[-1].fell_back if self.attempts and self.state == "succeeded" else ""

    @classmethod
    def of(cls, run_id: str, pairs: Sequence[bytes], **more: Any) -> Self:
        """The run of a hash's fields and values, as the store returns them."""
        found = {pairs[i].decode(): pairs[i + 1].decode(errors="replace") for i in range(0, len(pairs), 2)}
        step, _, flow = found.get("flow", "").partition(":")
        return cls(
            id=run_id,
            function=found["fn"],
            queue=found["q"],
            state=found["state"],  # type: ignore[arg-type]  # the scripts write no other
            trigger=found["trigger"],
            accepted=int(found["accepted"]) / 1000,
            due=int(found["due"]) / 1000,
            reason=found.get("reason") or None,  # type: ignore[arg-type]  # as above
            priority=int(found["prio"]),
            failures=int(found.get("failures", 0)),
            crashes=int(found.get("crashes", 0)),
            redriven=int(found.get("redriven", 0)),
            claimed=_seconds(found, "claimed"),
            finished=_seconds(found, "finished"),
            expires=_seconds(found, "expires"),
            worker=found.get("worker", ""),
            parent=found.get("parent", ""),
            trace=found.get("trace", ""),
            cancelling="cancel" in found,
            flow=flow,
            step=int(step) if flow else None,
            **more,
        )


class Page(msgspec.Struct, frozen=True):
    """Some runs, newest first. cursor: where the next page begins; "" after the last."""

    runs: tuple[RunView, ...]
    cursor: str = ""


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """A queue. ready: wait for a worker. later: for their time. unknown: for a worker that knows their function.

    limited: for their function's limits. age_seconds: for how long the oldest ready run has waited.
    """

    name: str
    ready: int
    later: int
    running: int
    unknown: int
    limited: int
    paused: bool
    age_seconds: float


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process. name: what Celery calls it, too. queues: "*" for all."""

    name: str = ""
    host: str = ""
    pid: int = 0
    concurrency: int = 0
    queues: tuple[str, ...] = ()


def read_workers(found: Sequence[bytes]) -> list[WorkerView]:
    """What the script `workers` returns."""
    return [
        msgspec.structs.replace(msgspec.json.decode(found[i + 1], type=WorkerView), name=found[i].decode())
        for i in range(0, len(found), 2)
    ]


def read_show(found: Sequence[Any]) -> list[RunView | None]:
    """What the script `show` returns."""
    return [None if one is None else _whole(*one) for one in found]


def read_page(found: Sequence[Any]) -> Page:
    """What the script `list` returns."""
    after, last, *rows = found
    runs = tuple(RunView.of(rows[i].decode(), rows[i + 1]) for i in range(0, len(rows), 2))
    return Page(runs, f"{after.decode()}:{last.decode()}" if last else "")


def read_queues(found: Sequence[Sequence[Any]]) -> list[QueueView]:
    """What the script `queues` returns, by name."""
    views = [
        QueueView(
            name=name.decode(),
            ready=ready,
            later=later,
            running=running,
            unknown=unknown,
            limited=limited,
            paused=bool(paused),
            age_seconds=age / 1000,
        )
        for name, ready, later, running, unknown, limited, paused, age in found
    ]
    return sorted(views, key=lambda view: view.name)


def _whole(run_id: bytes, pairs: Sequence[bytes], log: Sequence[bytes], output: bytes | None, *rest: Any) -> RunView:
    progress, payload, steps, callback = rest
    view = RunView.of(
        run_id.decode(),
        pairs,
        attempts=tuple(msgspec.json.decode(entry, type=Attempt) for entry in log),
        progress=_raw(progress),
        payload=_as_json(payload),
        steps=FlowCounts(**dict(zip(FlowCounts.__struct_fields__, map(int, steps), strict=True))) if steps else None,
        callback=CallbackView.of(callback) if callback else None,
    )
    if view.state == "succeeded":
        attempts = () if view.steps else view.attempts
        if not (view.steps or view.fell_back):
            attempts += (_last_attempt(view, pairs),)
        return msgspec.structs.replace(view, result=_raw(output), attempts=attempts)
    return msgspec.structs.replace(view, failure=msgspec.json.decode(output, type=Failure) if output else None)


def _last_attempt(view: RunView, pairs: Sequence[bytes]) -> Attempt:
    """The attempt that succeeded, of which the ledger keeps no more than the run itself says."""
    return Attempt(
        attempt=view.failures + 1,
        state="succeeded",
        token=int(pairs[pairs[::2].index(b"token") * 2 + 1]),
        began=view.claimed or 0.0,
        finished=view.finished or 0.0,
        worker=view.worker,
    )


def _raw(text: bytes | None) -> msgspec.Raw | None:
    return msgspec.Raw(text) if text else None


def _as_json(text: bytes | None) -> msgspec.Raw | None:
    """A payload; what is no JSON (a run may have failed for that) as a string."""
    try:
        msgspec.json.decode(text or b"null")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.Raw(msgspec.json.encode((text or b"").decode(errors="replace")))
    return _raw(text)


def _seconds(found: Mapping[str, str], name: str) -> float | None:
    return int(found[name]) / 1000 if name in found else None


class Contact(msgspec.Struct):
    """at: when the store last answered whoever asks it again and again, ms by its clock; 0 before."""

    at: int = 0


def read_reaped(on_lost: Callable[[list[Lost]], object], contact: Contact) -> Callable[[Sequence[Any]], int]:
    """How many were moved; on_lost: told of the attempts whose worker was lost, if there are any."""

    def read(found: Sequence[Any]) -> int:
        moved, contact.at, *rest = found
        parts = (rest[at : at + 4] for at in range(0, len(rest), 4))
        if lost := [Lost(fn.decode(), trigger.decode(), ms / 1000, bool(on)) for fn, trigger, ms, on in parts]:
            on_lost(lost)
        return int(moved)

    return read
