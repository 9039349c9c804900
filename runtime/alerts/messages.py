"""What receivers are told: JSON with a sentence in it for people. Pure.

Called by the watch. The outside is that of Standard Webhooks: type, timestamp, data; and `text`, which chats show.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from runtime.alerts.book import Message
from runtime.alerts.judging import Subject, Telling
from runtime.alerts.rules import Rule
from runtime.base.tables.alerts import Unit

_MOST_NAMED = 50
_MOST_IN_TEXT = 10
_WORDS = {"fired": "fires", "reminded": "still fires", "resolved": "is over", "test": "is tried"}


def message_of(rule: Rule, telling: Telling, message_id: str, now: float, *, room: int = 1) -> Message:
    """One message. room: how many more there may be within the hour; 0 is said."""
    return _message(rule, telling.event, telling.subjects, message_id, now, room)


def trial_of(rule: Rule, message_id: str, now: float) -> Message:
    """One that tells nothing, to see whether it arrives."""
    return _message(rule, "test", {}, message_id, now, 1)


def _message(
    rule: Rule, event: str, subjects: Mapping[str, Subject], message_id: str, now: float, room: int
) -> Message:
    named = dict(sorted(subjects.items())[:_MOST_NAMED])
    data: dict[str, Any] = {"alert": rule.name, "when": str(rule.when), "id": message_id}
    data["firings"] = [_firing(rule, name, one) for name, one in named.items()]
    if len(subjects) > len(named):
        data["more"] = len(subjects) - len(named)
    if room <= 0:
        data["last_within_the_hour"] = True
    text = text_of(rule, event, subjects) + ("" if room > 0 else "; no more messages are sent for a while")
    body = {"type": f"alert.{event}", "timestamp": rfc3339(now), "text": text, "data": data}
    return Message(
        id=message_id, rule=rule.name, event=event, body=msgspec.json.encode(body), channels=rule.channels.names
    )


def text_of(rule: Rule, event: str, subjects: Mapping[str, Subject]) -> str:
    """In a sentence: "errors fires (failure_rate > 5%): orders.create 12% (of 40 calls)"."""
    told = [_phrase(rule, name, one) for name, one in sorted(subjects.items())[:_MOST_IN_TEXT]]
    more = f" and {len(subjects) - len(told)} more" if len(subjects) > len(told) else ""
    listed = f": {', '.join(told)}{more}" if told else ""
    return f"{rule.name} {_WORDS[event]} ({rule.when}){listed}"


def shown_value(unit: Unit, value: float | None) -> str:
    """A value as people read it: "12%", "2.5s", "7"; "-" where there is too little to tell."""
    if value is None:
        return "-"
    return f"{value * 100:.3g}%" if unit == "share" else f"{value:.4g}s" if unit == "seconds" else f"{value:g}"


def rfc3339(seconds: float) -> str:
    """A time for programs: "2026-11-22T10:00:00.000Z"."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _phrase(rule: Rule, name: str, one: Subject) -> str:
    value = "" if one.value is None else shown_value(rule.unit, one.value)
    return f"{name} {value}".strip() + (f" ({one.detail})" if one.detail else "")


def _firing(rule: Rule, name: str, one: Subject) -> dict[str, Any]:
    about = {} if rule.about == "system" else {rule.about: name}
    told = {"value": one.value, "detail": one.detail, "since": rfc3339(one.fired_at)}
    return {"id": one.id, **about, **{key: value for key, value in told.items() if value not in (None, "")}}
