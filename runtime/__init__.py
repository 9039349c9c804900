"""fnrun: drop a file with a decorated function into functions/, and it is served, scheduled and queued.

The names an author needs. Importing this loads no server, broker or scheduler.
"""

from typing import TYPE_CHECKING, Any

from runtime.base.errors import (
    BackgroundClosed,
    BackgroundError,
    BackgroundFull,
    Problem,
    QueueFull,
    RunFailed,
    ScheduleError,
    StoreDown,
    SubmitError,
)
from runtime.declare.context import Context, Tick
from runtime.declare.decorators import at, cron, fn, http, interval, queue
from runtime.declare.markers import INJECTED, Body, Cookie, Event, Header, Html, PlainText, Query, Reply
from runtime.declare.policies import Breaker, GiveUp, Retry, RetryAfter
from runtime.declare.request import Request
from runtime.declare.resources import resource, shutdown, startup
from runtime.ledger.flows.steps import PREVIOUS, chain, chord, group, step
from runtime.ledger.run import Run, SyncRun
from runtime.ledger.schedules.api import schedules, schedules_sync
from runtime.ledger.schedules.views import ScheduleView
from runtime.ledger.submit import submit, submit_sync
from runtime.tasks.api import background
from runtime.tasks.records import TaskOutcome
from runtime.tasks.task import Task

if TYPE_CHECKING:
    from starlette.datastructures import UploadFile

__all__ = [
    "INJECTED",
    "PREVIOUS",
    "BackgroundClosed",
    "BackgroundError",
    "BackgroundFull",
    "Body",
    "Breaker",
    "Context",
    "Cookie",
    "Event",
    "GiveUp",
    "Header",
    "Html",
    "PlainText",
    "Problem",
    "Query",
    "QueueFull",
    "Reply",
    "Request",
    "Retry",
    "RetryAfter",
    "Run",
    "RunFailed",
    "ScheduleError",
    "ScheduleView",
    "StoreDown",
    "SubmitError",
    "SyncRun",
    "Task",
    "TaskOutcome",
    "Tick",
    "UploadFile",
    "at",
    "background",
    "chain",
    "chord",
    "cron",
    "fn",
    "group",
    "http",
    "interval",
    "queue",
    "resource",
    "schedules",
    "schedules_sync",
    "shutdown",
    "startup",
    "step",
    "submit",
    "submit_sync",
]


def __getattr__(name: str) -> Any:
    """UploadFile is Starlette's own, loaded when somebody asks for it."""
    if name == "UploadFile":
        from starlette.datastructures import UploadFile as Found  # noqa: PLC0415

        return Found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
