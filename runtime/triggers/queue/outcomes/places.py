"""What becomes of a run's place under its function's limits, beyond what claim and finish do themselves.

Used by the execution, the crew and the harness.
"""

from runtime.invoke.limits.gate import Gate
from runtime.invoke.limits.rules import Ask, Limits
from runtime.ledger.records import Claimed
from runtime.triggers.queue.leases import Lease


def place_of(run: Claimed, limits: Limits) -> Ask:
    """The place that a run's handler has which goes on: its ending leaves it under that name."""
    return Ask(function=run.function, limits=limits, holder=f"{run.id}:{run.token}", key=run.key or "")


def hand_over(gate: Gate, lease: Lease | None) -> None:
    """A run is its worker's no longer: what goes on of its handler keeps its place."""
    if lease is not None and lease.stays is not None:
        gate.take_over(*lease.stays)
