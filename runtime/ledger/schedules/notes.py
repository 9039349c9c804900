"""What a tick's run says of its tick: read by the worker, for the handler. Pure."""

from datetime import UTC, datetime

import msgspec

from runtime.declare.context import Tick
from runtime.ledger.records import Claimed
from runtime.ledger.schedules.records import TickNote

_decode = msgspec.json.Decoder(TickNote).decode


def note_of(run: Claimed) -> TickNote | None:
    """What a run carries of its tick; None for one that is no tick's."""
    return _decode(run.tick) if run.tick else None


def tick_of(run: Claimed) -> Tick | None:
    """The tick as its handler sees it. Late is how long after its time this attempt began.

    A success that is not before it, as those of today are to a backfill, ends no span that begins there.
    """
    note = note_of(run)
    if note is None:
        return None
    return Tick(
        planned_at=_at(note.planned),
        late_seconds=round(max(0.0, run.claimed - note.planned / 1000), 3),
        last_success=_at(note.success) if 0 < note.success < note.planned else None,
        missed=note.missed,
    )


def _at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
