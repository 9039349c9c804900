"""fnrun: drop a file with a decorated function into functions/, and it is served, scheduled and queued.

The names an author needs, each loaded when somebody asks for it: a parent of processes needs none.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.datastructures import UploadFile

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

_NAMES = {
    "runtime.base.errors": (
        "BackgroundClosed BackgroundError BackgroundFull Problem QueueFull RunFailed ScheduleError StoreDown "
        "SubmitError"
    ),
    "runtime.declare.context": "Context Tick",
    "runtime.declare.decorators": "at cron fn http interval queue",
    "runtime.declare.markers": "Body Cookie Event Header Html INJECTED PlainText Query Reply",
    "runtime.declare.policies": "Breaker GiveUp Retry RetryAfter",
    "runtime.declare.request": "Request",
    "runtime.declare.resources": "resource shutdown startup",
    "runtime.ledger.flows.steps": "PREVIOUS chain chord group step",
    "runtime.ledger.run": "Run SyncRun",
    "runtime.ledger.schedules.api": "schedules schedules_sync",
    "runtime.ledger.schedules.views": "ScheduleView",
    "runtime.ledger.submit": "submit submit_sync",
    "runtime.tasks.api": "background",
    "runtime.tasks.records": "TaskOutcome",
    "runtime.tasks.task": "Task",
    "starlette.datastructures": "UploadFile",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """A name, from the module that has it; it is found here from then on."""
    from importlib import import_module  # noqa: PLC0415 - it is no public name

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found
