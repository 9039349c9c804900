"""The ledger's schedules: register, watch, fire, change, read; each one short script.

Builds Calls, as Ledger does. Who fires and what is lasting: scripts/schedules.lua.
"""

from collections.abc import Sequence

from runtime.ledger.calls import Call
from runtime.ledger.ledger import Ledger
from runtime.ledger.schedules.records import Definition, Entry, Fired, Firing, Override, Registered, Watched


class Book:
    """The schedules of a namespace."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    # --- for schedulers ---

    def register(self, scheduler: str, digest: str, deployment: int, info: bytes = b"{}") -> Call[Registered]:
        """A scheduler lives, with these definitions. deployment: 0 to be numbered by the store. It counts as alive for 10 s."""
        raise NotImplementedError

    def upload(self, digest: str, definitions: Sequence[Definition], *, complete: bool) -> Call[None]:
        """Give the store definitions, at most 500 a call; complete: these are the last of the set."""
        raise NotImplementedError

    def watch(self, scheduler: str, digest: str, seen: int) -> Call[Watched]:
        """Stay alive, and hear what changed after version `seen`."""
        raise NotImplementedError

    def fire(self, scheduler: str, digest: str, firings: Sequence[Firing]) -> Call[list[Fired] | None]:
        """Have ticks become runs, at most 200 firings a call. None: this scheduler is not (any more) one that fires."""
        raise NotImplementedError

    def leave(self, scheduler: str) -> Call[None]:
        """A scheduler ends in good order."""
        raise NotImplementedError

    # --- for all ---

    def entries(self, after: str = "", limit: int = 1000) -> Call[list[Entry]]:
        """Schedules by id, those after that one: of the newest deployment, and added ones."""
        raise NotImplementedError

    def show(self, ids: Sequence[str]) -> Call[list[Entry | None]]:
        """These schedules, with their skips; None for one that is not there."""
        raise NotImplementedError

    # --- changes at run time ---

    def add(self, definition: Definition, *, replace: bool = False) -> Call[str]:
        """Add a schedule: "added", "replaced", "known" (there is one, and replace is false), "declared" (in code or toml)."""
        raise NotImplementedError

    def remove(self, schedule: str) -> Call[str]:
        """Take an added one away, with what is known of it: "removed", "unknown", "declared"."""
        raise NotImplementedError

    def pause(self, schedule: str, *, paused: bool) -> Call[bool]:
        """Fire no more; or again: ticks that passed meanwhile are not made up for. Whether that is a change."""
        raise NotImplementedError

    def override(self, schedule: str, override: Override) -> Call[None]:
        """Change a schedule from now on: in place of all earlier overrides. An empty one: as declared again."""
        raise NotImplementedError

    def run_now(self, definition: Definition, run_id: str) -> Call[str]:
        """One run at once, whatever is paused or open: its id; trigger "manual", planned now."""
        raise NotImplementedError

    def backfill(self, definition: Definition, planned: Sequence[int]) -> Call[tuple[int, int]]:
        """Runs for past ticks, at most 100 a call: how many are new, how many there were (that tick has a run).

        Trigger "backfill", priority 3; at most overlap's number at once (1 for "skip" and "queue"), apart from live ticks.
        """
        raise NotImplementedError
