"""What schedules are in the ledger. Times are milliseconds since the epoch (int), as the scripts have them.

Made by definitions, by authors' `schedules.add` and by the scripts' answers; read by all that deals with schedules.
"""

from typing import Any, Literal

import msgspec

from runtime.base.schedules import Missed
from runtime.declare.context import Tick
from runtime.declare.registry import DEFAULT_QUEUE
from runtime.declare.timing.calendar import Timing, instant_of
from runtime.declare.triggers import Overlap
from runtime.ledger.records import Claimed

Source = Literal["code", "functions.toml", "added"]

NO_ARGUMENTS = msgspec.Raw(b"{}")


class Definition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A schedule, with all defaults resolved. As JSON it is what the store keeps.

    payload: a JSON object of arguments by name. queue: where its runs wait. timeout_ms: of its runs; 0 for the
    function's own. max_age_ms: as that of a submission; 0 for never. place: where it is declared,
    "functions/orders.py:12".
    """

    id: str
    function: str
    timing: Timing
    queue: str = DEFAULT_QUEUE
    payload: msgspec.Raw = NO_ARGUMENTS
    missed: Missed = "latest"
    overlap: Overlap = "skip"
    jitter_ms: int = 0
    window_ms: int = 3_600_000
    timeout_ms: int = 0
    max_age_ms: int = 0
    source: Source = "code"
    place: str = ""


class Override(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was changed at run time; None is as defined. It outlives restarts and deployments. payload: by name."""

    timing: Timing | None = None
    payload: dict[str, Any] | None = None
    missed: Missed | None = None
    overlap: Overlap | None = None
    jitter_ms: int | None = None
    window_ms: int | None = None


_UNCHANGED = Override()


class Skip(msgspec.Struct, frozen=True):
    """Ticks that were not run. why: they were too late (missed), or others still ran (overlap).

    planned_ms: of the last of them; of missed ones, of the tick after them, or until when they were looked for.
    """

    planned_ms: int
    count: int
    why: Literal["missed", "overlap"]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it is now. definition: as declared or added.

    last_ms: the latest tick that was decided, or when the schedule was first seen, or resumed, or its rule changed: all
    ticks up to then are dealt with. open: of its runs (live ones, no backfill). waiting: of these, held by
    overlap="queue". runs, missed, overlapped: how many ticks were run and skipped so far. last_run: of the latest tick.
    success_ms: planned time of the latest tick that succeeded; 0 for none. skips: the latest, newest first (at most 20;
    only where one schedule is asked for).
    """

    definition: Definition
    override: Override = _UNCHANGED
    paused: bool = False
    last_ms: int = 0
    open: int = 0
    waiting: int = 0
    runs: int = 0
    missed: int = 0
    overlapped: int = 0
    last_run: str = ""
    success_ms: int = 0
    skips: tuple[Skip, ...] = ()

    @property
    def effective(self) -> Definition:
        """The definition with what was changed at run time."""
        if self.override == _UNCHANGED:
            return self.definition
        said = {name: getattr(self.override, name) for name in Override.__struct_fields__}
        changes = {name: value for name, value in said.items() if value is not None}
        if "payload" in changes:
            changes["payload"] = msgspec.Raw(msgspec.json.encode(changes["payload"]))
        return msgspec.structs.replace(self.definition, **changes)


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    """Ticks of a schedule that its scheduler wants fired: all that is due after last_ms, up to until_ms.

    last_ms: what the scheduler knows; another value in the store makes it stale. planned: ticks to be run, oldest
    first; jitters_ms: how much later each begins. missed_before: for each, how many ticks before it (after the one
    before) are skipped as missed; missed_after: how many after the last of them.
    until_ms: the new last_ms.
    """

    definition: Definition
    last_ms: int
    until_ms: int
    planned: tuple[int, ...] = ()
    jitters_ms: tuple[int, ...] = ()
    missed_before: tuple[int, ...] = ()
    missed_after: int = 0

    @property
    def is_plain(self) -> bool:
        """It is one tick, at once, and none is missed."""
        is_one = self.planned == (self.until_ms,) and not self.missed_after
        return is_one and self.jitters_ms == self.missed_before == (0,)


class Fired(msgspec.Struct, frozen=True):
    """What became of one Firing: last_ms is what the store has now.

    stale: last_ms was another; compute anew. early: until_ms is more than 1 s in the future. paused: it is, meanwhile.
    gone: it was removed, or has another rule; the next watch tells.
    """

    verdict: Literal["fired", "stale", "early", "paused", "gone"]
    last_ms: int
    runs: int = 0


class Registered(msgspec.Struct, frozen=True):
    """What a scheduler's registration came to. missing: the store lacks these definitions: upload, then register again.

    firing: its definitions are the newest of all living schedulers'. number: of its deployment.
    """

    missing: bool
    firing: bool
    number: int


class Watched(msgspec.Struct, frozen=True):
    """What a scheduler is told each second. now_ms: the store's clock. known: it is registered; else: do so again.

    version: of all that can change at run time; changed: ids that did after `seen`, None for "too many, read all".
    """

    now_ms: int
    known: bool
    firing: bool
    version: int
    changed: tuple[str, ...] | None = ()


class TickNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a tick's run carries in the ledger, in the field `tick` of its hash, as JSON, for the handler's own Tick.

    planned: ms. missed: ticks skipped since the last one that was run. success: planned time (ms) of the latest tick
    that had succeeded when this one was fired. timeout: ms; 0 for the function's own.
    """

    schedule: str
    planned: int
    missed: int = 0
    success: int = 0
    timeout: int = 0


_note = msgspec.json.Decoder(TickNote).decode


def note_of(run: Claimed) -> TickNote | None:
    """What a run carries of its tick; None for one that is no tick's."""
    return _note(run.tick) if run.tick else None


def tick_of(run: Claimed) -> Tick | None:
    """The tick as its handler sees it. Late is how long after its time this attempt began.

    A success that is not before it, as those of today are to a backfill, ends no span that begins there.
    """
    note = note_of(run)
    if note is None:
        return None
    return Tick(
        planned_at=instant_of(note.planned),
        late_seconds=round(max(0.0, run.claimed - note.planned / 1000), 3),
        last_success=instant_of(note.success) if 0 < note.success < note.planned else None,
        missed=note.missed,
    )
