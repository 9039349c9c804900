"""One line of the log for an attempt of a run, as there is one for a request: of those with a problem, or of all.

Called by the execution; a cell's worker tells of what the cell does.
"""

from runtime.base.ids import trace_of
from runtime.base.logs import get_logger, tells_all
from runtime.ledger.records import Ending
from runtime.triggers.queue.leases import Lease

log = get_logger(__name__)

_GOOD = frozenset({"succeeded", "waiting"})


def tell(lease: Lease, ending: Ending | None) -> None:
    """Say how it went, if [log] requests asks for that. wait_ms: from when it was due until it was claimed."""
    if ending is None or not (tells_all() or ending.state not in _GOOD):
        return
    run = lease.run
    log.info(
        "run",
        function=run.function,
        trigger=run.trigger,
        run_id=run.id,
        attempt=run.attempt,
        trace_id=trace_of(run.id, run.trace or None).trace_id,
        state=ending.state,
        **({"reason": ending.reason} if ending.reason else {}),
        ms=round((ending.ended - lease.began) * 1000, 1),
        wait_ms=round(max(0.0, run.claimed - (run.due or run.accepted)) * 1000, 1),
    )
