"""What all processes have counted, by the minute, for a day: pictures and alerts that need no other system.

Builds calls; written by metrics.flushing in each process that runs handlers, read by the admin API and by alerts.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, cast

from runtime.ledger.calls import Argument, Call
from runtime.ledger.ledger import Ledger

What = Literal[
    "succeeded", "failed", "timeout", "crashed", "refused", "cancelled", "retried", "blocked", "missed", "ms"
]

"""And "b0", "b1", ...: how many took as long as that bucket of observe.board.BOUNDS says."""

KEPT_MINUTES = 24 * 60
_HOUR = 60


def bucket_of(at: int) -> What:
    """What a bucket's number is called."""
    return cast(What, f"b{at}")


class Row(NamedTuple):
    """So many of something in a minute (whole minutes since the epoch). what: "ms" is the sum of durations.

    trigger: "" for what has none: "blocked", "missed".
    """

    minute: int
    function: str
    trigger: str
    what: What
    number: int


def record(
    ledger: Ledger, rows: Iterable[tuple[int, str, str, What, int]], *, source: str = "", number: int = 0
) -> Call[None]:
    """Add these to what all processes have counted. What is older than a day is passed over.

    source, number: of two calls of a source that follow each other with one number, the second adds nothing.
    """
    arguments: list[Argument] = [source, number, *(part for row in rows for part in row)]
    return ledger.call("minutes/record", arguments, _read_nothing)


def read(
    ledger: Ledger, since_minute: int, until_minute: int, functions: Sequence[str] | None = None
) -> Call[list[Row]]:
    """What was counted in these minutes, both included, in their order; of all functions unless some are named.

    The store does nothing else meanwhile: of more than some hours, ask `spans` one after the other.
    """
    if functions is not None and not functions:
        until_minute = since_minute - _HOUR * 2  # nobody's: none, and not all

    def rows(found: Sequence[Any]) -> list[Row]:
        read = (row for at in range(0, len(found), 3) for row in _rows(*found[at : at + 3]))
        return sorted(row for row in read if since_minute <= row.minute <= until_minute)

    return ledger.call("minutes/read", (since_minute, until_minute, *(functions or ())), rows)


def spans(since_minute: int, until_minute: int) -> Iterator[tuple[int, int]]:
    """These minutes, an hour at a time."""
    first = since_minute
    while first <= until_minute:
        last = min(first - first % _HOUR + _HOUR - 1, until_minute)
        yield first, last
        first = last + 1


def _rows(hour: int, function: bytes, fields: Sequence[bytes]) -> Iterator[Row]:
    for name, count in zip(fields[::2], fields[1::2], strict=True):
        minute, what, trigger = name.decode().split(":", 2)
        yield Row(hour + int(minute), function.decode(), trigger, what, int(count))  # type: ignore[arg-type]  # ours


def _read_nothing(_: Any) -> None:
    return None
