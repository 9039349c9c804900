"""From what authors declare to what the ledger keeps: definitions with every default resolved.

Called by the scheduler's role, the harness, admin and the author's API. Pure.
"""

from collections.abc import Sequence

from runtime.base.settings import Settings
from runtime.declare.registry import Registry
from runtime.ledger.schedules.records import Definition


def definitions_of(registry: Registry, settings: Settings) -> list[Definition]:
    """All schedules of the loaded functions, by id. max_age, queue, timeout: of the trigger or its function."""
    raise NotImplementedError


def digest_of(definitions: Sequence[Definition]) -> str:
    """What tells one set from another: SHA-256, in hex, of all that matters to a scheduler (`place` does not)."""
    raise NotImplementedError


def tick_id(schedule: str, planned_ms: int) -> str:
    """The id of a tick's run: "tick-" + 12 hex digits of the SHA-256 of the schedule's id + "-" + ms."""
    raise NotImplementedError
