"""Cancel a run with all that comes from it.

Called by Run.cancel and the admin API.
"""

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it loads the store's client
    from runtime.ledger.desk import Desk

_BATCH = 100
"""So many at a time, so that others get at the store between them."""
_ROUNDS = 5
_MOST_DESCENDANTS = 100_000


async def cancel_tree(desk: "Desk", run_id: str) -> dict[str, str]:
    """What became of a run, and of each of its descendants, by id: the words of Ledger.cancel.

    They are looked for again, up to 5 times, as what still ran may have submitted more.
    """
    found: dict[str, str] = {}
    new = [run_id]
    for _ in range(_ROUNDS):
        for start in range(0, len(new), _BATCH):
            batch = new[start : start + _BATCH]
            words = await desk.ask(desk.ledger.cancel(batch))
            found |= zip(batch, words, strict=True)
        new = [one for one in await _descendants(desk, run_id) if one not in found]
        if not new:
            break
    return found


async def _descendants(desk: "Desk", run_id: str) -> list[str]:
    """The runs that a run has submitted, those that these have, and so on: breadth first."""
    found: dict[str, None] = {}
    places = deque([(run_id, "0")])
    while places and len(found) < _MOST_DESCENDANTS:
        batch = [places.popleft() for _ in range(min(len(places), _BATCH))]
        answers = await desk.ask(desk.ledger.children(batch))
        for (parent, _), (place, children) in zip(batch, answers, strict=True):
            places += [(child, "0") for child in children if child not in found]
            found |= dict.fromkeys(children)
            if place != "0":
                places.append((parent, place))
    return list(found)
