"""Remote control: the commands of Celery's that mean something else where runs are in the ledger, or nothing.

Installed by the worker into Celery's own registry of them; called by Celery, in the hub's thread. A command that would
say "ok" and do nothing says what does it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from celery.worker.control import Panel, nok, ok

from runtime.base.errors import StoreDown

_MOST_IDS = 1000
_INSTEAD = {
    "rate_limit": "limits are the function's own: @fn(...) says them",
    "time_limit": "a run's time is the function's own: @fn(timeout=...), or [functions] in functions.toml",
    "pool_grow": "[queue] concurrency says how many runs a worker executes at once",
    "pool_shrink": "[queue] concurrency says how many runs a worker executes at once",
    "autoscale": "[queue] concurrency says how many runs a worker executes at once",
    "pool_restart": "`shutdown` ends a worker in order, and `fnrun serve` starts another",
}
_STAMPS = "stamps are not kept: revoke tasks by their ids"


def install() -> None:
    """Put our commands in the place of Celery's, in this process."""
    for name, command in {"revoke": _revoke, "terminate": _terminate}.items():
        Panel.data[name] = command
    for name, instead in _INSTEAD.items():
        Panel.data[name] = partial(_answer, nok, instead)
    # Celery's own client takes no error for an answer to this one.
    Panel.data["revoke_by_stamped_headers"] = partial(_answer, ok, _STAMPS)


def _revoke(state: Any, task_id: str | int | Sequence[str | int], **_: Any) -> dict[str, str]:
    """Cancel runs, waiting and running ones, and those whose messages will come."""
    named = [task_id] if isinstance(task_id, str | int) else task_id or ()
    ids = list(dict.fromkeys(str(one) for one in named))
    if len(ids) > _MOST_IDS:
        return _said(nok, f"at most {_MOST_IDS} ids at a time")
    revoke: Callable[[list[str]], dict[str, str]] = state.consumer.pool.crew.draining.revoke
    try:
        words = revoke(ids)
    except StoreDown as error:
        return _said(nok, f"nothing is revoked: {error}")
    return _said(ok, ", ".join(f"{run_id} {word}" for run_id, word in words.items()))


def _terminate(state: Any, signal: object, task_id: Any, **_: Any) -> dict[str, str]:  # noqa: ARG001 - Celery's
    return _revoke(state, task_id)


def _answer(how: Callable[[str], dict[str, str]], text: str, state: Any, **_: Any) -> dict[str, str]:  # noqa: ARG001 - as Celery calls it
    return how(text)


def _said(how: Callable[[str], dict[str, str]], text: str) -> dict[str, str]:
    return how(text)
