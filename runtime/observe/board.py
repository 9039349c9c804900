"""Where processes write what they count, so that whichever is asked can tell of all: a page of shared memory for each.

Made by a parent (processes), written by its children, each on a page of its own (counts), read by whoever is scraped.
The memory has no name and no file: it goes with the last process that has it. Never locks, and knows no store.
"""

import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator
from functools import cache
from typing import Self, TypeAlias

import msgspec
from typing_extensions import override

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
"""Upper bounds of a histogram's buckets, in seconds; one more has what is beyond."""

VERDICTS = ("succeeded", "failed", "timeout", "crashed", "refused", "cancelled")
RETRIED, BEGAN, SUM, BUCKETS = 6, 7, 8, 9
"""A row: how often each verdict, then these, then the buckets.

The first verdict is never written, but read as what the others leave of all: most calls end so.
In flight is what began and has no verdict.
"""

NUMBERS = 32
_KEY_BYTES = 256
_ROW_BYTES = _KEY_BYTES + NUMBERS * 8
_HEAD_BYTES = 4096
_PAGE_BYTES = 1 << 22
_MOST_ROWS = (_PAGE_BYTES - _HEAD_BYTES) // _ROW_BYTES
_MOST_PAGES = 128
_HEAD = struct.Struct("=dddd32s")
_ROLE_BYTES = 32
_SPARE_ROWS = 16
_END = b"\xff"
_ROWS_AT = 0
_MOST_TAKEN_AT = 1
"""On the page of changes: the highest place that was ever taken."""
_READY_AT = 3
_TRIES = 50
_PAUSE_SECONDS = 0.002
OTHER = "other"

Numbers: TypeAlias = "memoryview[float]"
"""The numbers of a row, in the memory itself."""

Key = tuple[str, str, str]
"""What a row counts: its kind, and two names."""


class Process(msgspec.Struct, frozen=True):
    """A process that counts. role: "http", "worker", ... place: a small number of its own. began: by the epoch.

    ready: it does what it is there for.
    """

    role: str
    pid: int
    place: int
    began: float
    ready: bool


class Reading(msgspec.Struct, frozen=True):
    """What all processes have counted. sums: those that have ended included. now: of those that live alone."""

    sums: dict[Key, list[float]]
    now: dict[Key, list[float]]
    processes: tuple[Process, ...]


class Page:
    """One process's numbers. A head (rows, process id, beginning, whether it is ready, role), and rows behind."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._numbers = memoryview(memory).cast("d")
        self._rows: dict[Key, Numbers] = {}
        self._adding = threading.Lock()

    @classmethod
    def private(cls) -> Self:
        """One that no other process sees."""
        return cls(mmap.mmap(-1, _PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))

    def sign(self, role: str, pid: int) -> None:
        """Say whose it is."""
        rows = self._numbers[_ROWS_AT]
        _HEAD.pack_into(self._memory, 0, rows, pid, time.time(), 0.0, role.encode()[:_ROLE_BYTES])

    def row(self, kind: str, one: str = "", other: str = "") -> Numbers:
        """The numbers of a row, which is begun if there is none; of "other" for a name too long, or one too many."""
        found = self._rows.get((kind, one, other))
        if found is None:
            with self._adding:
                found = self._rows.get((kind, one, other)) or self._add((kind, one, other))
        return found

    def _add(self, key: Key) -> Numbers:
        text, at = "\0".join(key).encode(), int(self._numbers[_ROWS_AT])
        if key[1] != OTHER and (len(text) >= _KEY_BYTES or at >= _MOST_ROWS - _SPARE_ROWS):
            other = (key[0], OTHER, "")
            self._rows[key] = found = self._rows.get(other) or self._add(other)
            return found
        start = _HEAD_BYTES + at * _ROW_BYTES
        self._memory[start : start + len(text) + 1] = text + _END
        self._rows[key] = found = self._numbers_at(at)
        self._numbers[_ROWS_AT] = at + 1  # last: who reads sees whole rows
        return found

    def _numbers_at(self, at: int) -> Numbers:
        start = (_HEAD_BYTES + at * _ROW_BYTES + _KEY_BYTES) // 8
        return self._numbers[start : start + NUMBERS]

    def rows(self) -> Iterator[tuple[Key, list[float]]]:
        """All of them, as they are now."""
        for at in range(int(self._numbers[_ROWS_AT])):
            start = _HEAD_BYTES + at * _ROW_BYTES
            text = self._memory[start : start + _KEY_BYTES].partition(_END)[0]
            kind, one, other = text.decode().split("\0")
            numbers = list(self._numbers_at(at))
            if kind == "call":
                numbers[0] = sum(numbers[BUCKETS:]) - sum(numbers[1 : len(VERDICTS)])
            yield (kind, one, other), numbers

    def note_ready(self) -> None:
        """It does from now on what it is there for."""
        self._numbers[_READY_AT] = 1.0

    def process(self, place: int) -> Process | None:
        """Whose it is; None if it is nobody's."""
        _, pid, began, ready, role = _HEAD.unpack_from(self._memory)
        return Process(role.rstrip(b"\0").decode(), int(pid), place, began, bool(ready)) if pid else None

    def clear(self) -> None:
        """Nobody has counted anything on it."""
        used = _HEAD_BYTES + int(self._numbers[_ROWS_AT]) * _ROW_BYTES
        self._memory[:used] = bytes(used)
        self._rows.clear()


class Board:
    """The pages of a parent and its children. fd: of the memory. The first page has what the dead have counted.

    Only the parent takes and frees places. A place's page belongs to the child it was taken for.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._pages: dict[int, Page] = {}
        self._taken: set[int] = set()
        self._change = mmap.mmap(fd, mmap.PAGESIZE)
        self._changes = memoryview(self._change).cast("Q")

    @classmethod
    def make(cls) -> Self:
        """The parent's. OSError."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("counts")
        else:
            import tempfile  # noqa: PLC0415 - it loads much

            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, mmap.PAGESIZE + _PAGE_BYTES * _MOST_PAGES)  # only what is written takes memory
        board = cls(fd)
        board.page(0).sign("parent", os.getpid())
        return board

    def page(self, place: int) -> Page:
        """The page of a place."""
        found = self._pages.get(place)
        if found is None:
            offset = mmap.PAGESIZE + place * _PAGE_BYTES
            self._pages[place] = found = Page(mmap.mmap(self.fd, _PAGE_BYTES, offset=offset))
        return found

    def take(self) -> int | None:
        """A place for a child that is to be started; None if there is none left."""
        place = next((one for one in range(1, _MOST_PAGES) if one not in self._taken), None)
        if place is not None:
            self._taken.add(place)
            self._changes[_MOST_TAKEN_AT] = max(self._changes[_MOST_TAKEN_AT], place)
        return place

    def free(self, place: int) -> None:
        """A child has ended: what it has counted is kept, with that of the others that have."""
        page, kept = self.page(place), self.page(0)
        self._changes[0] += 1  # odd: who reads meanwhile reads again
        try:
            for key, numbers in page.rows():
                if key[0] == "gauge":
                    continue
                row = kept.row(*key)
                numbers[BEGAN] = sum(numbers[: len(VERDICTS)])  # of what was in flight nothing is
                for at, number in enumerate(numbers):
                    row[at] += number
            page.clear()
        finally:
            self._changes[0] += 1
        self._taken.discard(place)

    def read(self) -> Reading:
        """All pages, from any process that has the memory."""
        for _ in range(_TRIES):
            before = self._changes[0]
            found = self._read()
            if before == self._changes[0] and not before % 2:
                return found
            time.sleep(_PAUSE_SECONDS)
        return self._read()  # its parent was killed in between, perhaps

    def _read(self) -> Reading:
        # Only those that somebody has had: each costs whoever reads it a descriptor.
        return read_pages((place, self.page(place)) for place in range(self._changes[_MOST_TAKEN_AT] + 1))


def read_pages(pages: Iterator[tuple[int, Page]]) -> Reading:
    """What stands on pages that have somebody's name."""
    sums: dict[Key, list[float]] = {}
    now: dict[Key, list[float]] = {}
    processes = []
    for place, page in pages:
        process = page.process(place)
        if process is None:
            continue
        processes.append(process)
        for key, numbers in page.rows():
            target = now if key[0] == "gauge" else sums
            before = target.get(key)
            target[key] = numbers if before is None else [a + b for a, b in zip(before, numbers, strict=True)]
    return Reading(sums, now, tuple(processes))


class Place(msgspec.Struct, frozen=True):
    """A child's place. Where there is none left, or no memory for a board, it counts for itself alone."""

    board: Board | None = None
    number: int = 0

    @property
    def fds(self) -> tuple[int, ...]:
        """What the child inherits."""
        return () if self.board is None else (self.board.fd,)

    @override
    def __str__(self) -> str:
        """It as the child is told."""
        return "" if self.board is None else f"{self.board.fd}:{self.number}"

    def free(self) -> None:
        """The child has ended."""
        if self.board is not None:
            self.board.free(self.number)


@cache
def own_board() -> Board | None:
    """This process's, for its children; None where it cannot be had."""
    try:
        return Board.make()
    except OSError:
        return None


def note_replacement(role: str) -> None:
    """A child of this process has ended by itself, and another takes its place."""
    board = own_board()
    if board is not None:
        board.page(0).row("count", "replaced", role)[0] += 1.0


def take_place() -> Place:
    """A place for a child of this process."""
    board = own_board()
    number = board.take() if board is not None else None
    return Place() if board is None or number is None else Place(board, number)
