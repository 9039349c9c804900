"""What the store knows of the whole system, asked once a scrape: by routes, for families and stats."""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from runtime.base.errors import StoreDown
from runtime.invoke.limits.rules import limits_of
from runtime.ledger.desk import Desk
from runtime.ledger.limits.views import LimitsView, views
from runtime.ledger.metrics.facts import Facts, facts
from runtime.ledger.views import QueueView

_PATIENCE_SECONDS = 2.0


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the store has told. seconds: how long that took."""

    seconds: float
    facts: Facts
    queues: Sequence[QueueView]
    limits: Sequence[LimitsView]


async def ask_store(desk: Desk) -> Told | None:
    """What the store tells in good time; None if it does not."""
    began = time.perf_counter()
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            known = await desk.ask(facts(desk.ledger))
            seconds = time.perf_counter() - began
            queues = await desk.ask(desk.ledger.queues())
            functions = {} if desk.registry is None else desk.registry().whole().functions
            limited = [name for name, one in functions.items() if limits_of(one) is not None]
            limits = await desk.ask(views(desk.ledger, limited)) if limited else []
    except (StoreDown, TimeoutError):
        return None
    return Told(seconds=seconds, facts=known, queues=queues, limits=limits)
