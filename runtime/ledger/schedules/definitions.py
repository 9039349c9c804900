"""From what authors declare to what the ledger keeps: definitions with every default resolved.

Called by the scheduler's role, the harness, admin and the author's API. Pure.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256

import msgspec

from runtime.base.sections import Settings
from runtime.base.settings import FILE_NAME
from runtime.declare.registry import Function, Registry
from runtime.declare.timing.schedules import schedule_id, timing_of
from runtime.declare.triggers import Schedule
from runtime.invoke.results import encode_json
from runtime.ledger.schedules.records import Definition

_encode = msgspec.json.Encoder().encode


def definitions_of(registry: Registry, settings: Settings) -> list[Definition]:
    """All schedules of the loaded functions, by id. max_age, queue, timeout: of the trigger or its function."""
    found = [one for function in registry.functions.values() for one in _of(function, settings)]
    return sorted(found, key=lambda one: one.id)


def _of(function: Function, settings: Settings) -> Iterator[Definition]:
    given, timezone = settings.schedule, str(settings.schedule.timezone)
    for trigger in function.triggers:
        if isinstance(trigger, Schedule):
            jitter = given.jitter if trigger.jitter_seconds is None else trigger.jitter_seconds
            yield Definition(
                id=schedule_id(function.name, trigger, timezone),
                function=function.name,
                timing=timing_of(trigger, timezone),
                queue=function.queue,
                payload=msgspec.Raw(encode_json(trigger.payload)),
                missed=trigger.missed or given.missed,
                overlap=given.overlap.value if trigger.overlap is None else trigger.overlap,
                jitter_ms=_ms(jitter),
                window_ms=_ms(given.window if trigger.window_seconds is None else trigger.window_seconds),
                timeout_ms=_ms(trigger.timeout_seconds or 0.0),
                max_age_ms=_ms(function.policy.max_age_seconds or 0.0),
                source="functions.toml" if trigger.id else "code",
                place=_place(function, trigger),
            )


def _place(function: Function, trigger: Schedule) -> str:
    file = FILE_NAME if trigger.id else function.file
    return f"{file}:{trigger.line}" if trigger.line else file


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def digest_of(definitions: Sequence[Definition]) -> str:
    """What tells one set from another: SHA-256, in hex, of all that matters to a scheduler (`place` does not)."""
    whole = sha256()
    for one in sorted(definitions, key=lambda one: one.id):
        whole.update(_encode(msgspec.structs.replace(one, place="")))
    return whole.hexdigest()


def tick_id(schedule: str, planned_ms: int) -> str:
    """The id of a tick's run: "tick-" + 12 hex digits of the SHA-256 of the schedule's id + "-" + ms."""
    return f"tick-{sha256(schedule.encode()).hexdigest()[:12]}-{planned_ms}"
