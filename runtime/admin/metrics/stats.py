"""GET /_/stats: throughput, durations and failures of the last minutes, for pictures without Prometheus.

Called by the admin API; asked by `fnrun stats`. Of all processes that share the store; some seconds late.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec

from runtime.admin.queries import read_query
from runtime.admin.shown import rfc3339
from runtime.ledger.metrics.facts import facts
from runtime.ledger.minutes import KEPT_MINUTES, Row, bucket_of, read, spans
from runtime.observe.board import BOUNDS
from runtime.triggers.http.answers import Answer, answer_of
from runtime.triggers.http.core import Call, Endpoint
from runtime.triggers.http.durable import Later

_BAD = ("failed", "timeout", "crashed")
_OUTCOMES = ("succeeded", *_BAD, "refused", "cancelled")
_OTHERS = ("retried", "blocked", "missed")
_POINTS = 120


class StatsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of how many minutes up to now, of which functions (none: all), and how many minutes are one point; 0: as fits."""

    minutes: Annotated[int, msgspec.Meta(ge=1, le=KEPT_MINUTES)] = 60
    function: list[str] = []
    step: Annotated[int, msgspec.Meta(ge=0, le=KEPT_MINUTES)] = 0


def stats_route(later: Later) -> tuple[str, str, Endpoint]:
    """(method, path, endpoint)."""

    async def stats(call: Call) -> Answer:
        asked = read_query(call.request, StatsQuery)
        until = int(later.at_hand().ledger.now() // 60)
        since = until - asked.minutes + 1
        rows: list[Row] = []
        for first, last in spans(since, until):
            rows += await later.ask(
                lambda ledger, first=first, last=last: read(ledger, first, last, asked.function or None)
            )  # type: ignore[misc]  # mypy and defaults
        known = await later.ask(facts)
        opened = {one.function: one.open for one in known.functions}
        dead = {one.function: one.dead for one in known.functions}
        step = asked.step or -(-asked.minutes // _POINTS)
        shown = [
            {**_summed(name, found, asked.minutes), "open": opened.get(name, 0), "dead": dead.get(name, 0)}
            for name, found in _by(rows, lambda row: row.function)
        ]
        return answer_of(
            {
                "since": rfc3339(since * 60),
                "until": rfc3339(time.time()),
                "minutes": asked.minutes,
                "step": step,
                "functions": shown,
                "points": list(points(rows, since, step)),
            }
        )

    return "GET", "/_/stats", Endpoint(handle=stats, public=False, action="read")


def points(rows: Sequence[Row], since: int, step: int) -> Iterator[dict[str, Any]]:
    """One for each function, trigger and span of so many minutes in which there was something."""
    key = lambda row: (row.function, row.trigger, (row.minute - since) // step)  # noqa: E731
    for (function, trigger, at), found in _by(rows, key):
        numbers = _numbers(found)
        yield {"at": rfc3339((since + at * step) * 60), "function": function, "trigger": trigger, **_shown(numbers)}


def _summed(function: str, rows: Iterable[Row], minutes: int) -> dict[str, Any]:
    numbers = _numbers(rows)
    calls = sum(numbers[what] for what in _OUTCOMES)
    return {"function": function, "per_minute": round(calls / minutes, 3), **_shown(numbers)}


def _shown(numbers: Mapping[str, int]) -> dict[str, Any]:
    """Counts, and what follows from them; mean_ms, p95_ms and failure_rate are None where nothing has ended."""
    calls = sum(numbers.get(what, 0) for what in _OUTCOMES)
    bad = sum(numbers.get(what, 0) for what in _BAD)
    judged = bad + numbers.get("succeeded", 0)
    buckets = [numbers.get(bucket_of(at), 0) for at in range(len(BOUNDS) + 1)]
    return {
        "calls": calls,
        **{what: numbers.get(what, 0) for what in (*_OUTCOMES, *_OTHERS)},
        "failure_rate": round(bad / judged, 4) if judged else None,
        "mean_ms": round(numbers.get("ms", 0) / calls, 3) if calls else None,
        "p95_ms": quantile_ms(buckets, 0.95),
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


def _numbers(rows: Iterable[Row]) -> Counter[str]:
    found: Counter[str] = Counter()
    for row in rows:
        found[row.what] += row.number
    return found


def _by(rows: Iterable[Row], key: Any) -> list[tuple[Any, list[Row]]]:
    found: defaultdict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return sorted(found.items())
