"""Decide when a rule fires, when it is over, and what is to be told of it. Pure: no clock, no I/O.

Called by the watch, with what the store knows of the rule and what was found now.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from runtime.alerts.rules import Found, Rule

Phase = Literal["ok", "pending", "firing", "clearing"]
Event = Literal["fired", "reminded", "resolved"]

UNSEEN_SECONDS = 60.0
"""After a pause as long as this, what was pending begins anew: nobody saw whether it went on."""


class Subject(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a function, a queue, or the system, under one rule; nothing of one that is well.

    since: of the phase. id: of the firing, from fired to resolved. told: what the receivers know of it; told_at: since
    when.
    """

    phase: Phase = "ok"
    since: float = 0.0
    id: str = ""
    fired_at: float = 0.0
    value: float | None = None
    detail: str = ""
    told: Literal["", "fired"] = ""
    told_at: float = 0.0

    @property
    def is_firing(self) -> bool:
        """Whether it has fired, and is not over."""
        return self.phase in ("firing", "clearing")


class RuleState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a rule. seen: when it was last looked at."""

    subjects: dict[str, Subject] = {}
    seen: float = 0.0


class Telling(msgspec.Struct, frozen=True):
    """One message: what became of which subjects of a rule."""

    event: Event
    subjects: dict[str, Subject]


def judge(rule: Rule, state: RuleState, found: Mapping[str, Found], now: float, new_id: Callable[[], str]) -> RuleState:
    """What is known of the rule after this look. Who is well, and was never told of, is forgotten."""
    unseen = now - state.seen > UNSEEN_SECONDS
    subjects = {}
    for name in {**state.subjects, **found}:
        before = state.subjects.get(name, Subject(since=now))
        if unseen and before.phase in ("pending", "clearing"):
            before = msgspec.structs.replace(before, since=now)
        after = _step(rule, before, found.get(name, Found(None)), now, new_id)
        if after.phase != "ok" or after.told:
            subjects[name] = after
    return RuleState(subjects=subjects, seen=now)


def _step(rule: Rule, before: Subject, found: Found, now: float, new_id: Callable[[], str]) -> Subject:
    """The phase a subject goes on to, with what was found."""
    # Too little to tell: whatever made it fire is no more, and without calls nothing else would ever end it.
    bad = found.value is not None and rule.when.holds(found.value)
    well = found.value is None or rule.when.is_over(found.value, rule.clear_at)
    # A clock that was set back must not make it wait for longer than it should.
    lasted = now - min(before.since, now)
    phase: Phase = before.phase
    if phase == "ok" and bad:
        phase, lasted = "pending", 0.0
    if phase == "pending":
        phase = ("firing" if lasted >= rule.for_seconds else "pending") if bad else "ok"
    elif phase == "firing" and well:
        phase, lasted = "clearing", 0.0
    if phase == "clearing":
        phase = ("ok" if lasted >= rule.clear_seconds else "clearing") if well else "firing"
    fires = phase == "firing" and not before.is_firing
    # A firing that was over and was not told so yet, begins anew under the same id: to receivers it never ended.
    fresh = fires and not before.told
    # While it still fires the last value that was known is shown; of what is over, what there is now.
    known = found.value is not None or phase == "ok" or not before.is_firing
    return msgspec.structs.replace(
        before,
        phase=phase,
        since=min(before.since, now) if phase == before.phase else now,
        id=new_id() if fresh else before.id,
        fired_at=now if fresh else before.fired_at,
        value=found.value if known else before.value,
        detail=found.detail if known else before.detail,
    )


def tell(rule: Rule, state: RuleState, now: float, room: int) -> tuple[RuleState, list[Telling]]:
    """What is to be told now, at most so many messages; and the state once it is.

    What finds no room is told later, if it still holds then: nothing is told that is over, and nothing is told twice.
    """
    due: dict[Event, dict[str, Subject]] = {"resolved": {}, "fired": {}, "reminded": {}}
    for name, one in state.subjects.items():
        if event := _event_of(rule, one, now):
            due[event][name] = one
    subjects = dict(state.subjects)
    if not rule.resolve:
        for name in due.pop("resolved"):
            del subjects[name]
    tellings = [Telling(event, those) for event, those in due.items() if those][:room]
    for telling in tellings:
        for name, one in telling.subjects.items():
            if telling.event == "resolved":
                del subjects[name]
            else:
                subjects[name] = msgspec.structs.replace(one, told="fired", told_at=now)
    return msgspec.structs.replace(state, subjects=subjects), tellings


def _event_of(rule: Rule, one: Subject, now: float) -> Event | None:
    """What its receivers do not know yet."""
    if one.is_firing and not one.told:
        return "fired"
    if one.is_firing and 0 < rule.repeat_seconds <= now - one.told_at:
        return "reminded"
    return "resolved" if one.phase == "ok" and one.told else None
