"""How Celery sees a run at work: a light stand-in for its Request, and the events that Flower draws its lists from.

Called by Celery for each message, and by the pool when runs have ended; always in the hub's thread, as Celery's state
has no locks. Events are sent only while somebody listens.
"""

import os
import time
from collections.abc import Callable
from typing import Any

from celery.app.task import Task
from celery.worker import state

from runtime.ledger.records import Ending
from runtime.triggers.queue.leases import Lease
from runtime.triggers.queue.transport import RunMessage

_LONGEST_SHOWN = 1024


class RunTask(Task):  # type: ignore[misc]  # Celery has no types
    """A function, as `celery inspect registered` and Flower list it. Celery never calls it."""

    Strategy = f"{__name__}:receive_runs"
    abstract = True
    acks_late = False
    ignore_result = True
    typing = False


class RunRequest:
    """A run at work. The names are Celery's own, for whoever asks it."""

    __slots__ = ("__weakref__", "acknowledged", "began", "eventer", "hostname", "lease", "task", "time_start")

    def __init__(self, lease: Lease, task: RunTask, hostname: str) -> None:
        self.lease = lease
        self.task = task
        self.hostname = hostname
        self.acknowledged = True
        self.eventer: Any = None  # Celery sets it when it has connected again
        self.time_start = time.time()
        self.began = time.monotonic()

    @property
    def id(self) -> str:
        """Of the run."""
        return self.lease.run.id

    @property
    def name(self) -> str:
        """Of the function."""
        return self.lease.run.function

    @property
    def shown_arguments(self) -> str:
        """The payload, for people."""
        return self.lease.run.payload[:_LONGEST_SHOWN].decode("utf-8", "replace")

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: ARG002 - as Celery calls it
        """It as `celery inspect active` shows it."""
        run = self.lease.run
        return {
            "id": run.id,
            "name": run.function,
            "type": run.function,
            "args": [],
            "kwargs": self.shown_arguments,
            "hostname": self.hostname,
            "time_start": self.time_start,
            "acknowledged": True,
            "delivery_info": {"exchange": "", "routing_key": run.queue, "priority": run.priority, "redelivered": False},
            "worker_pid": os.getpid(),
        }

    def terminate(self, pool: Any, signal: object = None) -> None:  # noqa: ARG002 - as Celery calls it
        """`celery control terminate`: cancel it, as the ledger's own cancel does."""
        pool.cancel(self.lease)


def receive_runs(task: RunTask, app: Any, consumer: Any, **_: Any) -> Callable[..., None]:  # noqa: ARG001 - Celery's seam
    """The consumer strategy of our tasks: note the run as active and hand it on."""
    put = consumer.pool.put
    hostname = consumer.hostname

    def receive(message: RunMessage, *_: Any) -> None:
        request = RunRequest(message.lease, task, hostname)
        _note_begin(request)
        events = listening(consumer)
        if events is not None:
            _send_begin(events, request)
        put(message.lease)

    return receive


def _note_begin(request: RunRequest) -> None:
    """What Celery's task_accepted does, whose Counter.update takes as long as all else here."""
    state.requests[request.lease.run.id] = request
    state.active_requests.add(request)
    state.total_count[request.lease.run.function] += 1
    state.all_total_count[0] += 1


def listening(consumer: Any) -> Any:
    """The event dispatcher, if somebody wants events of tasks; else None."""
    events = consumer.event_dispatcher
    if events is None or not events.enabled or (events.groups and "task" not in events.groups):
        return None
    return events


def _send_begin(events: Any, request: RunRequest) -> None:
    run = request.lease.run
    events.send(
        "task-received",
        uuid=run.id,
        name=run.function,
        args="()",
        kwargs=request.shown_arguments,
        root_id=run.id,
        parent_id=run.parent or None,
        retries=run.failures,
        eta=None,
        expires=None,
    )
    events.send("task-started", uuid=run.id)


def note_end(consumer: Any, lease: Lease, ending: Ending | None) -> None:
    """A run is active no longer; say how it ended to those who listen."""
    run_id = lease.run.id
    request = state.requests.get(run_id)
    if request is None or request.lease is not lease:
        return
    del state.requests[run_id]
    state.active_requests.discard(request)
    events = listening(consumer)
    if events is None or ending is None:
        return
    kind, fields = _end_event(request, ending)
    events.send(kind, uuid=lease.run.id, **fields)


def _end_event(request: RunRequest, ending: Ending) -> tuple[str, dict[str, Any]]:
    if ending.state == "succeeded":
        shown = ending.result[:_LONGEST_SHOWN].decode("utf-8", "replace")
        return "task-succeeded", {"result": shown, "runtime": time.monotonic() - request.began}
    if ending.state == "cancelled":
        return "task-revoked", {"terminated": True, "signum": None, "expired": False}
    failure = ending.failure
    fields = {
        "exception": f"{failure.type}: {failure.message}" if failure else str(ending.reason),
        "traceback": failure.traceback if failure else "",
    }
    return "task-retried" if ending.state in ("retrying", "crashed", "waiting") else "task-failed", fields
