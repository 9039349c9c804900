"""Who lets calls begin: one for this process alone (local), one for all of a store (ledger.limits).

Wired by roles; asked by the guard in the invoker.
"""

from collections.abc import Sequence
from typing import Protocol

from runtime.invoke.execute import Left
from runtime.invoke.limits.rules import Ask, Verdict


class Gate(Protocol):
    """Each `enter` that returns is followed by one `leave`."""

    async def enter(self, ask: Ask, within_seconds: float) -> None:
        """Return once the call may begin. LimitReached if that is not so in time; BreakerOpen."""
        ...

    def leave(self, ask: Ask, verdict: Verdict, left: Sequence[Left] = ()) -> None:
        """The call has ended. Its place is free once `left`, what goes on of its handler, has ended, too."""
        ...

    def take_over(self, ask: Ask, left: Sequence[Left]) -> None:
        """Hold the place of a run, which its ending left under `ask.holder`, until `left` have ended."""
        ...
