"""Every error the product raises on purpose, in one tree.

    FnrunError
    |-- SettingsError       functions.toml or the environment says something that cannot hold
    |-- DeclarationError    a function file says something that cannot hold; knows file and line
    |-- StartError          a role cannot start: the port is in use, there is no functions/ folder
    |-- StoreDown           the store does not answer, or takes nothing in; later it may
    |-- UnknownFunction     no function has that name
    |-- UnknownRun          no run has that id, or it is no longer kept
    |-- SubmitError         a call of submit says something that cannot hold
    |-- ScheduleError       a call of schedules says something that cannot hold
    |   |-- UnknownSchedule     no schedule has that id, and no function of that name has one
    |   `-- ScheduleConflict    what there is does not allow it
    |-- QueueFull           a queue has as many open runs as [queue] max_length allows
    |-- LimitReached        a function is called as much as its limits allow
    |-- BreakerOpen         a function failed so often that it is not called for a while
    |-- BackgroundError     a call of background says something that cannot hold
    |   |-- UnknownTask         no background task has that id, or it is no longer kept
    |   |-- DuplicateTask       an open one has that id
    |   |-- BackgroundFull      as many wait as [background] queue allows
    |   |-- BackgroundClosed    the process is about to end
    |   |-- TaskCancelled       what is waited for was cancelled
    |   |-- TaskTimeout         what is waited for took longer than its timeout
    |   `-- ProcessDied         the process that it ran in has died
    |-- CellDied            a process that runs something alone ended without an answer
    |   |-- NoCell              there was none, and what it was wanted for did not begin
    |   `-- TookTooLong         it was killed, for the time was over
    |-- RunFailed           what Run.result raises of a run that failed or was cancelled
    |-- InputError          the arguments do not fit the function; knows each wrong one
    `-- Problem             an answer the handler means to give (RFC 9457)

A message names the thing, the fault and the fix. Raised everywhere; caught by cli, the loader and the invoker.
"""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

_LOWEST_ERROR, _HIGHEST_ERROR = 400, 599
_RENAMED = {413: "Content Too Large", 422: "Unprocessable Content"}
"""RFC 9110's names, which Python has from 3.13 on: an answer is the same on every Python."""

_MOST_LISTED = 10
_RESERVED = frozenset({"status", "title", "run_id"})


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'; did you mean "x"?' when something known looks like `name`, else ''."""
    from difflib import get_close_matches  # noqa: PLC0415 - where nothing is misspelt nobody needs it

    close = get_close_matches(name, list(known), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


class FnrunError(Exception):
    """Base of all errors raised on purpose."""


class SettingsError(FnrunError):
    """A setting is unknown or has a value that cannot hold; the message has its path and where it was read."""


class StartError(FnrunError):
    """A role cannot start."""


class StoreDown(FnrunError):  # noqa: N818 - a state of the world, not a mistake of the caller's
    """The store cannot be asked now: away, too slow, loading, full, read-only. Whether a write got there is open."""


class UnknownFunction(FnrunError):  # noqa: N818 - as the built-in LookupError's children say it
    """No function of that name is loaded."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        file, _, function = name.rpartition(".")
        same = file in known and file.rpartition(".")[2] == function  # of a file and a function of one name
        hint = (
            f'; did you mean "{file}"?'
            if same
            else did_you_mean(name, known) or f"; there are: {', '.join(known) or 'none'}"
        )
        super().__init__(f'no function "{name}"{hint}')


class UnknownRun(FnrunError):  # noqa: N818 - as above
    """No run of that id is known: it never was, or was kept for long enough."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f'no run "{run_id}"; finished runs are kept for as long as [queue] keep says')
        self.run_id = run_id


class SubmitError(FnrunError):
    """A call of submit says something that cannot hold; nothing was accepted."""


class ScheduleError(FnrunError):
    """A call of schedules says something that cannot hold; nothing was changed.

    option: which one, "" where it is none of them. detail: what is wrong with it, without its name.
    """

    def __init__(self, message: str, *, option: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.option = option
        self.detail = detail or message


class UnknownSchedule(ScheduleError):  # noqa: N818 - as UnknownRun
    """No schedule has that id, and no function of that name has one."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        listed = ", ".join(known[:_MOST_LISTED]) + (", ..." if len(known) > _MOST_LISTED else "")
        hint = did_you_mean(name, known) or f"; there are: {listed or 'none'}"
        super().__init__(f'no schedule "{name}"{hint}')


class ScheduleConflict(ScheduleError):  # noqa: N818 - a state, and not a wrong call
    """What there is does not allow it: the id is taken, the schedule is declared in code, a function has several."""


class LimitReached(FnrunError):  # noqa: N818 - a state, and not the caller's fault
    """A call could not begin in time: concurrency= or rate= of its function. Try again later.

    limit: which one, as it was said. retry_seconds: when it is worth a try.
    """

    def __init__(self, function: str, limit: str, retry_seconds: float) -> None:
        super().__init__(f"{function} is called as much as {limit} allows; try again in {retry_seconds:g} s")
        self.function = function
        self.limit = limit
        self.retry_seconds = retry_seconds


class BreakerOpen(FnrunError):  # noqa: N818 - as above
    """A function failed so often in a row that it is not called for a while. retry_seconds: until a call may try."""

    def __init__(self, function: str, retry_seconds: float) -> None:
        super().__init__(f"{function} failed too often in a row and is not called for {retry_seconds:g} s")
        self.function = function
        self.retry_seconds = retry_seconds


class QueueFull(FnrunError):  # noqa: N818 - a state, and not the caller's fault
    """A queue has as many open runs as it may have: try again later. accepted: ids of those that were, of many.

    steps: of a flow, which is accepted as a whole or not at all; queue then names all that they go to.
    """

    def __init__(self, queue: str, max_length: int, accepted: Sequence[str] = (), *, steps: int = 0) -> None:
        count = f"; {len(accepted)} were accepted before that" if accepted else ""
        fault = f"is full: it has {max_length} open runs{count}"
        if steps:
            fault = f"has no room for {steps} steps of a flow: it may have {max_length} open runs"
        super().__init__(f'queue "{queue}" {fault}; try again later, or raise [queue] max_length')
        self.queue = queue
        self.accepted = tuple(accepted)


class BackgroundError(FnrunError):
    """A call of background says something that cannot hold; nothing was begun."""


class UnknownTask(BackgroundError):  # noqa: N818 - as UnknownRun
    """No background task of this process has that id."""

    def __init__(self, task_id: str, why: str) -> None:
        super().__init__(f'no background task "{task_id}" in this process; {why}')


class DuplicateTask(BackgroundError):  # noqa: N818 - a state
    """An open background task has that id. id: which; state: "queued" or "running"."""

    def __init__(self, task_id: str, state: str) -> None:
        super().__init__(f'a background task "{task_id}" is {state}; choose another id, or wait for its end')
        self.id = task_id
        self.state = state


class BackgroundFull(BackgroundError):  # noqa: N818 - a state, and not the caller's fault
    """As many background tasks wait as may: try again later. retry_seconds: when it is worth a try."""

    retry_seconds = 1.0

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} background tasks wait already; try again later, or raise [background] queue")
        self.limit = limit


class BackgroundClosed(BackgroundError):  # noqa: N818 - a state
    """The process is about to end, and takes no further background tasks."""

    def __init__(self) -> None:
        super().__init__("this process is about to end and takes no further background tasks; try again")


class TaskCancelled(BackgroundError):  # noqa: N818 - an outcome
    """What is waited for was cancelled: by `cancel`, by the end of the process, or by itself."""


class TaskTimeout(BackgroundError, TimeoutError):  # noqa: N818 - an outcome
    """What is waited for took longer than its timeout, and was ended."""


class ProcessDied(BackgroundError):  # noqa: N818 - an outcome
    """The process that a function ran in has died: killed, out of memory, a fault in C code."""


class CellDied(FnrunError):  # noqa: N818 - it says what happened
    """A cell ended without an answer. how: "signal SIGSEGV", "exit code 3", "killed: ..."."""

    def __init__(self, how: str) -> None:
        super().__init__(f"the process that ran it ended without an answer ({how})")
        self.how = how


class NoCell(CellDied):
    """There was no process for the job, which did not begin: nothing is known against it."""


class TookTooLong(CellDied):
    """A cell was killed because its job's time was over."""


class RunFailed(FnrunError):  # noqa: N818 - an outcome
    """A run failed, or was cancelled.

    reason: "error", "timeout", "cancelled", ... type, message: of what its handler raised, "" where it did not.
    """

    def __init__(self, run_id: str, function: str, reason: str, *, type: str = "", message: str = "") -> None:  # noqa: A002
        what = ": ".join(part for part in (type, message) if part)
        super().__init__(f"run {run_id} of {function} ended with {reason}" + (f": {what}" if what else ""))
        self.run_id = run_id
        self.function = function
        self.reason = reason
        self.type = type
        self.message = message


class DeclarationError(FnrunError):
    """A function, a trigger or a parameter that cannot work.

    line: 1-based line in the function's file; None until the loader finds it.
    """

    def __init__(self, message: str, *, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class InputError(FnrunError):
    """Arguments that do not fit a function.

    status: 400 when the bytes are not JSON at all, 415 for a wrong content type, 422 when a value does not fit.
    errors: one mapping for each wrong parameter: `in`, `name`, `path` (msgspec's, from `$`), `detail`.
    """

    def __init__(self, status: int, detail: str, errors: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__("; ".join([detail, *(f"{e['name']}: {e['detail']} (at {e['path']})" for e in errors)]))
        self.status = status
        self.detail = detail
        self.errors = tuple(errors)


class Problem(FnrunError):  # noqa: N818 - RFC 9457's own word, and what authors write: `raise Problem(404, ...)`
    """An error the caller is meant to see, answered as application/problem+json.

    status: 400 to 599. title: a short sentence; the status's own phrase if left out.
    headers: extra answer headers. fields: further members (`detail`, `type`, anything JSON).
    Source: RFC 9457.
    """

    def __init__(
        self, status: int, title: str | None = None, /, *, headers: Mapping[str, str | int] | None = None, **fields: Any
    ) -> None:
        if not _LOWEST_ERROR <= status <= _HIGHEST_ERROR:
            raise ValueError(f"Problem({status}): a problem has a status from 400 to 599; return a Reply for others")
        if taken := _RESERVED & fields.keys():
            raise ValueError(f"Problem field {sorted(taken)[0]!r} is set by the runtime; choose another name")
        self.status = status
        self.title = title or phrase(status)
        self.headers = dict(headers or {})
        self.fields = fields
        super().__init__(f"{status} {self.title}")


def phrase(status: int) -> str:
    """The standard reason phrase of a status, or its class where it has none."""
    if status in _RENAMED:
        return _RENAMED[status]
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "Server Error"
