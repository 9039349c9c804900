"""Runs, queues and schedules as the API shows them: JSON objects whose times are RFC 3339 (UTC).

Called by the admin API. Pure. Who may not read all is not told all.
"""

from datetime import UTC, datetime
from typing import Any

from runtime.ledger.callbacks.records import CallbackView
from runtime.ledger.records import Failure
from runtime.ledger.schedules.views import Backfilled, ScheduleView
from runtime.ledger.views import Attempt, QueueView, RunView
from runtime.triggers.http.access import Reach

NONE: tuple[list[str], bool] = ([], False)
_HIDDEN = "its log has the run id"


def show_run(view: RunView, reach: Reach = "read", children: tuple[list[str], bool] = NONE) -> dict[str, Any]:
    """One run. What is not there is left out. children: some of their ids, and whether there are more.

    reach: "read" sees all of it; "invoke" not its payload, its workers and tracebacks; "open" no words of errors,
    as in the answer to a synchronous call.
    """
    shown = {
        "id": view.id,
        "function": view.function,
        "queue": view.queue or None,
        "state": view.state,
        "reason": view.reason,
        "fell_back": view.fell_back or None,
        "trigger": view.trigger,
        "priority": view.priority,
        "accepted_at": rfc3339(view.accepted),
        "due_at": rfc3339(view.due),
        "claimed_at": _time(view.claimed),
        "finished_at": _time(view.finished),
        "expires_at": _time(view.expires),
        "failures": view.failures,
        "crashes": view.crashes,
        "redriven": view.redriven or None,
        "cancelling": view.cancelling or None,
        "worker": view.worker or None if reach == "read" else None,
        "parent": view.parent or None if reach == "read" else None,
        "flow": view.flow or None if reach == "read" else None,
        "step": view.step,
        "steps": view.steps,
        "callback": None if view.callback is None else show_callback(view.callback, reach),
        "children": children[0] or None,
        "more_children": children[1] or None,
        "trace": view.trace or None,
        "attempts": [_attempt(one, reach) for one in view.attempts] or None,
        "progress": view.progress,
        "payload": view.payload if reach == "read" else None,
        "result": view.result,
        "failure": _failure(view.failure, reach) if view.failure is not None else None,
    }
    return {name: value for name, value in shown.items() if value is not None}


def show_callback(view: CallbackView, reach: Reach = "read") -> dict[str, Any]:
    """One callback. What its URL says behind "?" may be secret; whoever may not read all is told no host either."""
    address, query, _ = view.url.partition("?")
    shown = {
        "id": view.id or None,
        "url": address + ("?****" if query else "") if reach == "read" else None,
        "state": view.state,
        "tries": view.tries,
        "status": view.status,
        "error": view.error or None if reach == "read" else None,
        "tried_at": _time(view.tried),
        "next_at": _time(view.next),
        "run": view.run_id or None,
        "function": view.function or None,
        "outcome": view.outcome or None,
        "ended_at": _time(view.ended) if view.run_id else None,
    }
    return {name: value for name, value in shown.items() if value is not None}


def show_queue(view: QueueView) -> dict[str, Any]:
    """One queue."""
    return {
        "name": view.name,
        "ready": view.ready,
        "later": view.later,
        "running": view.running,
        "unknown": view.unknown,
        "limited": view.limited,
        "paused": view.paused,
        "age_seconds": round(view.age_seconds, 3),
    }


def show_schedule(view: ScheduleView, *, alone: bool = False) -> dict[str, Any]:
    """One schedule. alone: it was asked for by its id, so that what was skipped lately is known."""
    shown = {name: getattr(view, name) for name in view.__struct_fields__}
    shown |= {name: _instant(shown[name]) for name in ("last_planned_at", "last_success_at")}
    shown["next"] = [
        {"at": _instant(one.at), "local": _local(one.local), "shift": one.shift or None} for one in view.next
    ]
    del shown["skips"]
    if alone:
        shown["skips"] = [{"planned_at": _instant(s.planned_at), "count": s.count, "why": s.why} for s in view.skips]
    return shown


def show_backfill(found: Backfilled) -> dict[str, Any]:
    """What came of a backfill."""
    return {
        "id": found.id,
        "ticks": found.ticks,
        "new": found.new,
        "known": found.known,
        "first_planned_at": _instant(found.first),
        "last_planned_at": _instant(found.last),
    }


def rfc3339(seconds: float) -> str:
    """A time for people and programs: "2026-11-22T10:00:00.000Z"."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _instant(when: datetime | None) -> str | None:
    return None if when is None else rfc3339(when.timestamp())


def _local(when: datetime) -> str:
    """With the offset of that day: "2026-10-25T02:30:00+02:00"."""
    return when.isoformat(timespec="milliseconds" if when.microsecond else "seconds")


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)


def _attempt(one: Attempt, reach: Reach) -> dict[str, Any]:
    shown = {
        "attempt": one.attempt,
        "state": one.state,
        "began_at": _time(one.began or None),
        "finished_at": _time(one.finished or None),
        "reason": one.reason or None,
        "message": one.message or None if reach != "open" else None,
        "fell_back": one.fell_back or None,
        "worker": one.worker or None if reach == "read" else None,
    }
    return {name: value for name, value in shown.items() if value is not None}


def _failure(failure: Failure, reach: Reach) -> dict[str, str]:
    if reach == "open" and failure.type != "Problem":  # a Problem is meant for callers
        return {"type": failure.type, "message": _HIDDEN}
    shown = {"type": failure.type, "message": failure.message}
    return shown | ({"traceback": failure.traceback} if reach == "read" and failure.traceback else {})
