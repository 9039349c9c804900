"""A callback's body: the end of a run, in the form that Standard Webhooks advise. Pure."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from runtime.ledger.callbacks.records import Message
from runtime.ledger.records import Failure


def body_of(message: Message) -> bytes:
    """The same bytes at each try. What is not there is left out; no traceback is told."""
    outcome = message.outcome
    data: dict[str, Any] = {
        "id": message.run_id,
        "function": message.function,
        "state": outcome,
        "reason": message.reason or None,
        "trigger": message.trigger,
        "attempts": message.failures + (outcome == "succeeded"),
        "crashes": message.crashes or None,
        "accepted_at": _time(message.accepted),
        "claimed_at": None if message.claimed is None else _time(message.claimed),
        "finished_at": _time(message.ended),
        "trace": message.trace or None,
    }
    shown = {name: value for name, value in data.items() if value is not None}
    if message.long:
        shown["omitted_bytes"] = message.long
    elif outcome == "succeeded":
        shown["result"] = msgspec.Raw(message.output or b"null")
    elif message.output:
        failure = msgspec.json.decode(message.output, type=Failure)
        shown["failure"] = {"type": failure.type, "message": failure.message}
    told = {"type": f"run.{outcome}", "timestamp": _time(message.ended), "data": shown}
    return msgspec.json.encode(told)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
