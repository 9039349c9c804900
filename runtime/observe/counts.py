"""What this process counts: how calls end and how long they take, by function and trigger.

Called on the hot path by whatever runs handlers, which keeps its Cells; read by the admin API and by what writes
minutes to the store. Never locks there: each number has one thread that writes it.
"""

import os
from array import array
from bisect import bisect_left
from typing import Literal

from runtime.observe.board import (
    BEGAN,
    BOUNDS,
    BUCKETS,
    NUMBERS,
    RETRIED,
    SUM,
    VERDICTS,
    Board,
    Numbers,
    Page,
    Reading,
    read_pages,
)

Verdict = Literal["succeeded", "failed", "timeout", "crashed", "refused", "cancelled"]

_AT = {verdict: at for at, verdict in enumerate(VERDICTS)}


class Cell:
    """Calls of one function by one trigger. Kept by whoever makes them; for one thread. numbers: its row."""

    __slots__ = ("numbers",)

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers

    def began(self) -> None:
        """One more is in flight, until it is done."""
        self.numbers[BEGAN] += 1.0

    def done(self, seconds: float, verdict: Verdict) -> None:
        """One that began has ended so, after so long."""
        numbers = self.numbers
        if verdict != "succeeded":  # how many have is what the others leave of all: a number less to write
            numbers[_AT[verdict]] += 1.0
        numbers[SUM] += seconds
        numbers[bisect_left(BOUNDS, seconds) + BUCKETS] += 1.0

    def ended(self) -> None:
        """One that began is no more in flight, and nothing is said of it: another process will do it."""
        self.numbers[BEGAN] -= 1.0

    def retried(self) -> None:
        """It will be tried again."""
        self.numbers[RETRIED] += 1.0


class _Here:
    """This process's page, and the board it is on, if it is on one."""

    def __init__(self) -> None:
        self.board: Board | None = None
        self.page: Page = Page.private()
        self.page.sign("process", os.getpid())


_here = _Here()


def join(place: str, role: str) -> None:
    """Count where a parent and its other children see it; before anything is counted. place: as the parent says it."""
    fd, _, number = place.partition(":")
    _here.board = Board(int(fd))
    os.set_inheritable(int(fd), False)
    _here.page = _here.board.page(int(number))
    _here.page.sign(role, os.getpid())


def note_ready() -> None:
    """This process does from now on what it is there for."""
    _here.page.note_ready()


def of(function: str, trigger: str) -> Cell:
    """Where calls of a function by a trigger are counted. Found once, and kept."""
    return Cell(_here.page.row("call", function, trigger))


def nowhere() -> Cell:
    """What is counted there is read by nobody: somebody else counts it."""
    return Cell(memoryview(array("d", bytes(8 * NUMBERS))))


class Cells(dict[str, Cell]):
    """A function's, by trigger."""

    def __init__(self, function: str) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, trigger: str) -> Cell:
        self[trigger] = found = of(self._function, trigger)
        return found


def blocked(function: str) -> None:
    """A handler has held the event loop; "" if it is not known whose."""
    _here.page.row("blocked", function)[0] += 1.0


def late(function: str, seconds: float) -> None:
    """A tick of a function's was fired so long after its time."""
    numbers = _here.page.row("late", function)
    numbers[0] += 1.0
    numbers[SUM] += seconds
    numbers[BUCKETS + bisect_left(BOUNDS, seconds)] += 1.0


def missed(function: str, ticks: int) -> None:
    """So many ticks of a function's have not been fired, and will not be."""
    _here.page.row("missed", function)[0] += float(ticks)


def count(name: str, label: str = "", amount: float = 1.0) -> None:
    """Add to a number that has a name of its own."""
    _here.page.row("count", name, label)[0] += amount


def numbers(name: str, label: str = "") -> Numbers:
    """What `count` adds to, in its first place: for whoever counts so often that to find it would cost more."""
    return _here.page.row("count", name, label)


def gauge(name: str, label: str, value: float) -> None:
    """Say how many there are of something in this process now."""
    _here.page.row("gauge", name, label)[0] = value


def sample(threads: int, background: tuple[int, int]) -> None:
    """Say how many threads are busy here, and how many background tasks wait and run."""
    gauge("threads", "", threads)
    gauge("background", "queued", background[0])
    gauge("background", "running", background[1])


def read() -> Reading:
    """What this process has counted, and the others of its parent."""
    if _here.board is not None:
        return _here.board.read()
    return read_here()


def read_here() -> Reading:
    """What this process alone has counted."""
    return read_pages(iter([(0, _here.page)]))
