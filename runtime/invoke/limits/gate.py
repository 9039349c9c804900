"""Who lets calls begin: one for this process alone (local), one for all of a store (ledger.limits).

Wired by roles; asked by the guard in the invoker.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from runtime.invoke.execute import Left
from runtime.invoke.limits.rules import Ask, Verdict


class Entry(msgspec.Struct, frozen=True):
    """A call that may begin. trial: the one by which an open breaker is tried. waited: it was not let in at once."""

    trial: bool = False
    waited: bool = False


class Gate(Protocol):
    """Each `enter` that returns is followed by one `leave`."""

    async def enter(self, ask: Ask, within_seconds: float) -> Entry:
        """Return once the call may begin. LimitReached if that is not so in time; BreakerOpen."""
        ...

    def leave(self, ask: Ask, verdict: Verdict, left: Sequence[Left] = ()) -> None:
        """The call has ended. Its place is free once `left`, what goes on of its handler, has ended, too."""
        ...

    def take_over(self, ask: Ask, left: Sequence[Left]) -> None:
        """Hold the place of a run, which its ending left under `ask.holder`, until `left` have ended."""
        ...


def when_ended(left: Sequence[Left], call: Callable[[], object]) -> bool:
    """Call once all of them have ended, in whichever thread the last one does; False, and no call, if they all have."""
    going = {one for one in left if not one.done()}
    if not going:
        return False

    def ended(one: Left) -> None:
        going.discard(one)
        if not going and not told:
            told.append(True)  # of two that end at once in two threads, one tells
            call()

    told: list[bool] = []
    for one in list(going):
        one.add_done_callback(ended)
    return True
