"""Lines of runs in the store: calls that keep them and read them, and what is read.

Used by the keeper, which a worker has, and by whoever shows runs.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from runtime.base.logs.lines import Line
from runtime.ledger.calls import Argument, Call
from runtime.ledger.ledger import Ledger
from runtime.ledger.records import FINISHED

_CALL_LINES = 2000
_CALL_BYTES = 1_000_000


class Numbered(msgspec.Struct, frozen=True):
    """A line, and its number: the first that a run has logged is 1."""

    number: int
    line: Line


class Lines(msgspec.Struct, frozen=True, kw_only=True):
    """Some lines of a run, in order. total: how many it has logged. kept: of them, the newest. next: to go on after."""

    lines: tuple[Numbered, ...]
    total: int
    kept: int
    next: int
    is_finished: bool

    @property
    def dropped(self) -> int:
        """How many of the oldest are not kept."""
        return self.total - self.kept


def keep_lines(
    ledger: Ledger, lines: Mapping[str, Sequence[bytes]], *, most: int, most_bytes: int, again: Container[str] = ()
) -> Iterator[Call[None]]:
    """Keep lines, by the ids of their runs; in several calls, if there are many.

    again: runs of which some of these lines may be there already, as an answer was lost; those are not kept twice.
    """
    arguments: list[Argument] = []
    count = size = 0
    for run_id, own in lines.items():
        at = 0
        while at < len(own):
            piece: list[bytes] = []
            while at < len(own) and count < _CALL_LINES and size < _CALL_BYTES:
                piece.append(own[at])
                count, size, at = count + 1, size + len(own[at]), at + 1
            arguments += (run_id, int(run_id in again), len(piece), *piece)
            if count >= _CALL_LINES or size >= _CALL_BYTES:
                yield _keep(ledger, most, most_bytes, arguments)
                arguments, count, size = [], 0, 0
    if arguments:
        yield _keep(ledger, most, most_bytes, arguments)


def _keep(ledger: Ledger, most: int, most_bytes: int, arguments: Sequence[Argument]) -> Call[None]:
    return ledger.call("keep_lines", (most, most_bytes, *arguments), lambda _: None)


def read_lines(ledger: Ledger, run_id: str, *, after: int = 0, limit: int = 1000) -> Call[Lines | None]:
    """Lines of a run, from the one behind number `after`; below 0: so many of the last. None: no such run."""
    return ledger.call("read_lines", (run_id, after, limit), _read)


def _read(found: Sequence[Any] | None) -> Lines | None:
    if not found:
        return None
    state, total, kept, first, texts = found
    lines = tuple(
        Numbered(number, msgspec.json.decode(text, type=Line)) for number, text in enumerate(texts, start=first)
    )
    return Lines(
        lines=lines,
        total=total,
        kept=kept,
        next=first + len(lines) - 1 if lines else total,
        is_finished=state.decode() in FINISHED,
    )
