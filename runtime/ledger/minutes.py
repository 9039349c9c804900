"""What all processes have counted, by the minute, for a day: pictures and alerts that need no other system.

Builds calls; written by metrics.flushing in each process that runs handlers, read by the admin API and by alerts.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, cast

from runtime.ledger.calls import Argument, Call
from runtime.ledger.ledger import Ledger
from runtime.observe.board import BOUNDS

What = Literal[
    "succeeded", "failed", "timeout", "crashed", "refused", "cancelled", "retried", "blocked", "missed", "ms"
]

"""And "b0", "b1", ...: how many took as long as that bucket of observe.board.BOUNDS says."""

KEPT_MINUTES = 24 * 60
HOUR = 60


def bucket_of(at: int) -> What:
    """What a bucket's number is called."""
    return cast(What, f"b{at}")


WHATS: tuple[What, ...] = (
    "succeeded", "failed", "timeout", "crashed", "refused", "cancelled", "retried", "blocked", "missed", "ms",
    *map(bucket_of, range(len(BOUNDS) + 1)),
)  # fmt: skip
"""Each by the number it has in the store, where there is room for 32."""
_NUMBER_OF = {what: at for at, what in enumerate(WHATS)}
_WIDTH_BITS, _WHAT_MASK = 5, 31


class Row(NamedTuple):
    """So many of something in a minute (whole minutes since the epoch). what: "ms" is the sum of durations.

    trigger: "" for what has none: "blocked", "missed".
    """

    minute: int
    function: str
    trigger: str
    what: What
    number: int


class Counted(NamedTuple):
    """All that was counted of a function and a trigger in a minute, or in an hour that begins with it. For `add`."""

    minute: int
    function: str
    trigger: str
    numbers: bytes


def record(
    ledger: Ledger, rows: Iterable[tuple[int, str, str, What, int]], *, source: str = "", number: int = 0
) -> Call[None]:
    """Add these to what all processes have counted. What is older than a day is passed over.

    source, number: of two calls of a source that follow each other with one number, the second adds nothing.
    """
    packed: dict[tuple[int, str, str], bytes] = {}
    for minute, function, trigger, what, count in rows:
        key = (minute, function, trigger)
        packed[key] = packed.get(key, b"") + _packed(what, count)
    arguments: list[Argument] = [source, number]
    for key, numbers in packed.items():
        arguments += (*key, numbers)
    return ledger.call("minutes/record", arguments, _read_nothing)


def _packed(what: What, count: int) -> bytes:
    """A number as scripts/minutes/record.lua has it."""
    width = max(1, (count.bit_length() + 7) // 8)
    return bytes((width << _WIDTH_BITS | _NUMBER_OF[what],)) + count.to_bytes(width)


def add(counted: bytes, sums: list[int]) -> None:
    """Add what was counted to sums, of which there is one for each of WHATS, in their order."""
    at, end = 0, len(counted)
    while at < end:
        head = counted[at]
        after = at + 1 + (head >> _WIDTH_BITS)
        sums[head & _WHAT_MASK] += int.from_bytes(counted[at + 1 : after])
        at = after


def read(
    ledger: Ledger, since_minute: int, until_minute: int, functions: Sequence[str] | None = None
) -> Call[list[Row]]:
    """What was counted in these minutes, both included, in their order; of all functions unless some are named.

    The store does nothing else meanwhile: of more than some hours, ask `spans` one after the other.
    """
    call = read_packed(ledger, since_minute, until_minute, functions)
    return Call(call.script, call.arguments, lambda found: sorted(_rows(call.read(found))))


def read_packed(
    ledger: Ledger, since_minute: int, until_minute: int, functions: Sequence[str] | None = None
) -> Call[Iterable[Counted]]:
    """The same as it is kept, in no order, to be read where there is time: of many functions it is much."""
    if functions is not None and not functions:
        until_minute = since_minute - HOUR * 2  # nobody's: none, and not all
    return ledger.call("minutes/read", (since_minute, until_minute, *(functions or ())), _of_minutes)


def read_hours(ledger: Ledger, since_hour: int, until_hour: int) -> Call[Iterable[Counted]]:
    """What was counted in these hours (since the epoch), both included, of all functions, in no order."""
    return ledger.call("minutes/hours", (since_hour, until_hour), _of_hours)


def spans(since_minute: int, until_minute: int) -> Iterator[tuple[int, int]]:
    """These minutes, an hour at a time."""
    first = since_minute
    while first <= until_minute:
        last = min(first - first % HOUR + HOUR - 1, until_minute)
        yield first, last
        first = last + 1


def _of_minutes(found: Sequence[Any]) -> Iterator[Counted]:
    for at in range(0, len(found), 3):
        hour, function, fields = found[at : at + 3]
        name = function.decode()
        for field, numbers in zip(fields[::2], fields[1::2], strict=True):
            yield Counted(hour + field[0], name, field[1:].decode(), numbers)


def _of_hours(found: Sequence[Any]) -> Iterator[Counted]:
    for hour, fields in zip(found[::2], found[1::2], strict=True):
        for whose, numbers in zip(fields[::2], fields[1::2], strict=True):
            function, trigger = whose.decode().split("\0")
            yield Counted(hour, function, trigger, numbers)


def _rows(counted: Iterable[Counted]) -> Iterator[Row]:
    for one in counted:
        sums = [0] * len(WHATS)
        add(one.numbers, sums)
        for at, number in enumerate(sums):
            if number:
                yield Row(one.minute, one.function, one.trigger, WHATS[at], number)


def _read_nothing(_: Any) -> None:
    return None
