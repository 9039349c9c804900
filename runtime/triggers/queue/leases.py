"""The leases this worker holds.

Used by the crew and by the threads that keep them (upkeep).
"""

from typing import Literal

from runtime.invoke.execute import Left
from runtime.invoke.limits.rules import Ask
from runtime.ledger.records import Claimed, Held

Fate = Literal["", "lost", "cancelled", "handed back", "assigned"]


class Lease:
    """One run that this worker holds.

    began: when its handler did, 0.0 before. progress: the latest, JSON. fate: why its handler is ended from outside, ""
    while it is not. ended: the handler is at work no longer. key: that it was found to have, if its fate is "assigned".
    left: what goes on of the handler; stays: the place that this keeps.
    """

    __slots__ = ("_told", "began", "ended", "fate", "key", "left", "progress", "run", "stays")

    def __init__(self, run: Claimed) -> None:
        self.run = run
        self.began = 0.0
        self.progress = b""
        self.fate: Fate = ""
        self.ended = False
        self.key = ""
        self.left: list[Left] = []
        self.stays: tuple[Ask, list[Left]] | None = None
        self._told = b""

    def report(self, progress: bytes) -> None:
        """Take what the handler says of its progress; from any thread."""
        self.progress = progress

    def held(self) -> Held:
        """It as a beat tells of it: progress only where it is news."""
        news = self.progress if self.progress != self._told else b""
        self._told = self.progress
        return Held(self.run.id, self.run.token, self.run.queue, news)

    def holding(self) -> Held:
        """It alone."""
        return Held(self.run.id, self.run.token, self.run.queue)


class Leases:
    """All of them, by the id of the run. Each method is one step of the interpreter's, so threads need no lock."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def take(self, run: Claimed) -> Lease:
        """Hold a run that was claimed."""
        lease = self._leases[run.id] = Lease(run)
        return lease

    def holds(self, run_id: str) -> bool:
        """Whether a run is held."""
        return run_id in self._leases

    def drop(self, run_id: str, token: int) -> Lease | None:
        """Hold it no longer, and return it; a later lease of the same run stays."""
        lease = self._leases.get(run_id)
        if lease is None or lease.run.token != token:
            return None
        del self._leases[run_id]
        return lease

    def all(self) -> list[Lease]:
        """Each lease held now."""
        return list(self._leases.values())
