"""Count runs: how each attempt ended, after how long, and whether another follows.

Called by execution, on its loop. Those that are handed back are counted by whoever does them, those that are lost by
the worker that takes them back.
"""

from collections.abc import Iterable

from runtime.ledger.records import MOST_CRASHES, Claimed, Ending, Lost
from runtime.observe import counts
from runtime.observe.counts import Cell, Verdict
from runtime.triggers.queue.leases import Lease
from runtime.triggers.queue.outcomes.told import tell

_VERDICTS: dict[str, Verdict] = {"succeeded": "succeeded", "cancelled": "cancelled", "crashed": "crashed"}


class Tally:
    """Of one process. tells: each attempt has a line in the log, too, if that is asked for."""

    def __init__(self, *, tells: bool) -> None:
        self._tells = tells
        self._cells: dict[tuple[str, str], Cell] = {}

    def begin(self, run: Claimed) -> None:
        """A run has been begun."""
        self._cell(run).began()

    def end(self, lease: Lease, ending: Ending | None) -> None:
        """It has ended so; None: it is nobody's concern."""
        run = lease.run
        cell = self._cell(run)
        if self._tells:
            tell(lease, ending)
        if ending is None or ending.state == "waiting":  # another call does the same: this one does not count
            cell.ended()
            return
        verdict = _VERDICTS.get(ending.state) or ("timeout" if ending.reason == "timeout" else "failed")
        if ending.fell_back:
            counts.count("fallback", run.function)
        cell.done(max(0.0, ending.ended - ending.began), verdict)
        if ending.state == "retrying" or (ending.state == "crashed" and run.crashes_alone + 1 < MOST_CRASHES):
            cell.retried()

    def lose(self, attempts: Iterable[Lost]) -> None:
        """Their workers are gone, and count nothing any more."""
        for one in attempts:
            cell = self._cell(one)
            cell.began()
            cell.done(one.seconds, "crashed")
            if one.goes_on:
                cell.retried()

    def _cell(self, run: Claimed | Lost) -> Cell:
        key = (run.function, run.trigger)
        found = self._cells.get(key)
        if found is None:
            self._cells[key] = found = counts.of(*key)
        return found
