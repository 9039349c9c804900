"""GET /_/stats: throughput, durations and failures of the last minutes, for pictures without Prometheus.

Called by the admin API; asked by `fnrun stats`. Of all processes that share the store; some seconds late.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec

from runtime.admin.queries import read_query
from runtime.admin.shown import rfc3339
from runtime.ledger.desk import Desk
from runtime.ledger.metrics.facts import Kept, facts
from runtime.ledger.minutes import HOUR, KEPT_MINUTES, WHATS, Counted, add, read_hours, read_packed, spans
from runtime.observe.board import BOUNDS
from runtime.triggers.http.answers import Answer, answer_of
from runtime.triggers.http.core import Call, Endpoint
from runtime.triggers.http.durable import Later

_BAD = ("failed", "timeout", "crashed")
_OUTCOMES = ("succeeded", *_BAD, "refused", "cancelled")
_OTHERS = ("retried", "blocked", "missed")
_BUCKETS_AT = WHATS.index("b0")
_POINTS = 120
_MOST_POINTS = 10_000
"""Of all functions: some 4 MB."""


class StatsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of how many minutes up to now, of which functions (none: all), and how many minutes are one point; 0: as fits."""

    minutes: Annotated[int, msgspec.Meta(ge=1, le=KEPT_MINUTES)] = 60
    function: list[str] = []
    step: Annotated[int, msgspec.Meta(ge=0, le=KEPT_MINUTES)] = 0


def stats_route(later: Later) -> tuple[str, str, Endpoint]:
    """(method, path, endpoint)."""

    async def stats(call: Call) -> Answer:
        asked = read_query(call.request, StatsQuery)
        desk = later.at_hand()
        known = {one.function: one for one in (await later.ask(facts)).functions}
        until = int(desk.ledger.now() // 60)
        sums = Sums(until - asked.minutes + 1, asked, len(asked.function or known))
        async for some in sums.ask(desk, until):
            # In a thread: of a thousand functions it takes a while to add up.
            await asyncio.to_thread(sums.add, some)
        shown = await asyncio.to_thread(sums.shown, known)
        return answer_of({"since": rfc3339(sums.since * 60), "until": rfc3339(time.time()), **shown})

    return "GET", "/_/stats", Endpoint(handle=stats, public=False, action="read")


class Sums:
    """What was counted since a minute, of each function, trigger and point. functions: how many there are."""

    def __init__(self, since: int, asked: StatsQuery, functions: int) -> None:
        self.since = since
        self._asked = asked
        self._by_hour = False
        """Of many functions and a long time, whole hours are read and shown."""
        self.step = asked.step or max(-(-asked.minutes // _POINTS), -(-asked.minutes * functions // _MOST_POINTS))
        if not asked.step and self.step >= HOUR:
            self._by_hour = True
            self.step += -self.step % HOUR
        self._first = since - since % HOUR if self._by_hour else since
        self._points: dict[tuple[str, str, int], list[int]] = {}

    async def ask(self, desk: Desk, until: int) -> AsyncIterator[Iterable[Counted]]:
        """All of it, some at a time."""
        for first, last in spans(self.since, until):
            if self._by_hour and first > self.since:
                yield await desk.ask(read_hours(desk.ledger, first // HOUR, last // HOUR))
            else:
                yield await desk.ask(read_packed(desk.ledger, first, last, self._asked.function or None))

    def add(self, counted: Iterable[Counted]) -> None:
        """These, too. Takes time."""
        wanted = frozenset(self._asked.function)
        for one in counted:
            if wanted and one.function not in wanted:
                continue
            key = (one.function, one.trigger, (one.minute - self._first) // self.step)
            sums = self._points.get(key)
            if sums is None:
                sums = self._points[key] = [0] * len(WHATS)
            add(one.numbers, sums)

    def shown(self, known: Mapping[str, Kept]) -> dict[str, Any]:
        """As it is answered. known: what the store knows of functions. Takes time."""
        of_functions: dict[str, list[int]] = {}
        for (function, _, _), sums in self._points.items():
            before = of_functions.get(function)
            of_functions[function] = sums if before is None else [a + b for a, b in zip(before, sums, strict=True)]
        return {
            "minutes": self._asked.minutes,
            "step": self.step,
            "functions": [self._summed(name, sums, known.get(name)) for name, sums in sorted(of_functions.items())],
            "points": [self._point(*key, sums) for key, sums in sorted(self._points.items())],
        }

    def _summed(self, function: str, sums: Sequence[int], kept: Kept | None) -> dict[str, Any]:
        shown = _shown(sums)
        return {
            "function": function,
            "per_minute": round(shown["calls"] / self._asked.minutes, 3),
            **shown,
            "open": kept.open if kept else 0,
            "dead": kept.dead if kept else 0,
        }

    def _point(self, function: str, trigger: str, at: int, sums: Sequence[int]) -> dict[str, Any]:
        began = max(self.since, self._first + at * self.step)
        return {"at": rfc3339(began * 60), "function": function, "trigger": trigger, **_shown(sums)}


def _shown(sums: Sequence[int]) -> dict[str, Any]:
    """Counts, and what follows from them; mean_ms, p95_ms and failure_rate are None where nothing has ended."""
    numbers: dict[str, int] = dict(zip(WHATS[:_BUCKETS_AT], sums, strict=False))
    calls = sum(numbers[what] for what in _OUTCOMES)
    bad = sum(numbers[what] for what in _BAD)
    judged = bad + numbers["succeeded"]
    return {
        "calls": calls,
        **{what: numbers[what] for what in (*_OUTCOMES, *_OTHERS)},
        "failure_rate": round(bad / judged, 4) if judged else None,
        "mean_ms": round(numbers["ms"] / calls, 3) if calls else None,
        "p95_ms": quantile_ms(sums[_BUCKETS_AT:], 0.95),
    }


def quantile_ms(buckets: Sequence[int], part: float) -> float | None:
    """About how long all but a part took at most, as Prometheus' histogram_quantile reckons; None for nothing.

    Within a bucket durations are taken to be spread evenly; beyond the last bound all that is known is that bound.
    """
    wanted, below = sum(buckets) * part, 0
    if not wanted:
        return None
    for at, number in enumerate(buckets[: len(BOUNDS)]):
        if below + number >= wanted:
            low = BOUNDS[at - 1] if at else 0.0
            return round((low + (BOUNDS[at] - low) * (wanted - below) / number) * 1000, 3)
        below += number
    return BOUNDS[-1] * 1000
