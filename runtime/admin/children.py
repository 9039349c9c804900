"""The runs that a run has submitted, and the steps of a flow: some with the run itself, all of them page by page.

Called by the admin API. Their order is that of their ids, which is the one of a flow's steps.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from runtime.admin.queries import Selection
from runtime.ledger.calls import Call
from runtime.ledger.ledger import Ledger
from runtime.ledger.views import Page, RunView

Ask = Callable[[Callable[[Ledger], Call[Any]]], Awaitable[Any]]
"""Asks the ledger what a function makes of it."""

SHOWN = 100
_MOST = 100_000
_BATCH = 100


async def some_children(ask: Ask, run_id: str) -> tuple[list[str], bool]:
    """The first 100 ids, and whether there are more. One question: of very many, these are just some."""
    [(place, found)] = await ask(lambda ledger: ledger.children([(run_id, "0")]))
    ids = _in_order(found)
    return ids[:SHOWN], place != "0" or len(ids) > SHOWN


async def page_of_children(ask: Ask, asked: Selection) -> Page:
    """Those of asked.parent that are as asked; they are looked for in as many as a page has."""
    last = asked.cursor.partition(":")[2]
    ids = [one for one in _in_order(await _all(ask, asked.parent)) if not last or _place(one) > _place(last)]
    views: list[RunView | None] = []
    for at in range(0, min(asked.limit, len(ids)), _BATCH):
        batch = ids[at : min(at + _BATCH, asked.limit)]
        views += await ask(lambda ledger, batch=batch: ledger.show(batch))  # type: ignore[misc]  # mypy and defaults
    found = tuple(_brief(view) for view in views if view is not None and _is_asked(view, asked))
    return Page(found, f"0:{ids[asked.limit - 1]}" if len(ids) > asked.limit else "")


async def _all(ask: Ask, run_id: str) -> set[str]:
    found: set[str] = set()
    place = "0"
    while len(found) < _MOST:
        [(place, some)] = await ask(lambda ledger, place=place: ledger.children([(run_id, place)]))  # type: ignore[misc]
        found.update(some)
        if place == "0":
            break
    return found


def _in_order(ids: Sequence[str] | set[str]) -> list[str]:
    return sorted(set(ids), key=_place)


def _place(run_id: str) -> tuple[int, str]:
    """Of an id among others: step 10 comes after step 9."""
    return len(run_id), run_id


def _is_asked(view: RunView, asked: Selection) -> bool:
    return (
        (not asked.functions or view.function in asked.functions)
        and (not asked.states or view.state in asked.states)
        and (not asked.trigger or view.trigger == asked.trigger)
        and (view.finished or view.accepted) >= asked.since
    )


def _brief(view: RunView) -> RunView:
    """As any list shows a run."""
    return msgspec.structs.replace(view, attempts=(), progress=None, payload=None, result=None, failure=None)
