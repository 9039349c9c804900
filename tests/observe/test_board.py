"""What processes count, each on its page: read by any of them, kept when one ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.observe.board import BEGAN, BUCKETS, SUM, Board, Page
from runtime.observe.counts import Cell

COUNTS = """
import sys
from runtime.observe import counts
counts.join(sys.argv[1], "http")
cell = counts.of("a.b", "http")
for _ in range(3):
    cell.began()
cell.done(0.3, "succeeded")
cell.done(2000.0, "timeout")
counts.gauge("threads", "", 7)
print("done", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def board():
    found = Board.make()
    yield found
    os.close(found.fd)


def _child(board: Board) -> tuple[subprocess.Popen, int]:
    place = board.take()
    assert place
    process = subprocess.Popen(
        [sys.executable, "-c", COUNTS, f"{board.fd}:{place}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[board.fd],
    )
    assert process.stdout
    process.stdout.readline()
    return process, place


def test_what_children_count_is_summed_and_kept_when_one_is_killed(board):
    one, place = _child(board)
    two, _ = _child(board)
    try:
        found = board.read()
        assert [process.role for process in found.processes] == ["parent", "http", "http"]
        numbers = found.sums[("call", "a.b", "http")]
        assert (numbers[0], numbers[2], numbers[BEGAN]) == (2, 2, 6)
        assert numbers[SUM] == pytest.approx(4000.6)
        assert (numbers[BUCKETS + 8], numbers[BUCKETS + 17]) == (2, 2)
        assert found.now[("gauge", "threads", "")][0] == 14
    finally:
        one.kill()
        one.communicate()
    board.free(place)
    found = board.read()
    numbers = found.sums[("call", "a.b", "http")]
    assert (numbers[0], numbers[2]) == (2, 2), "what it had counted stays"
    assert numbers[BEGAN] == 5, "what it had in flight does not"
    assert found.now[("gauge", "threads", "")][0] == 7
    assert [process.pid for process in found.processes] == [os.getpid(), two.pid]
    two.communicate()
    assert board.take() == place, "its place is another's"


def test_names_beyond_what_there_is_room_for_are_counted_as_others():
    page = Page.private()
    Cell(page.row("call", "x" * 300, "http")).done(1, "failed")
    for number in range(9000):
        Cell(page.row("call", f"f{number}", "http")).done(1, "succeeded")
    found = dict(page.rows())
    assert found[("call", "f0", "http")][0] == 1
    assert found[("call", "other", "")][1] == 1
    assert sum(numbers[0] for numbers in found.values()) == 9000


def test_there_is_an_end_to_places(board):
    taken = [board.take() for _ in range(127)]
    assert len(set(taken)) == 127
    assert board.take() is None


def test_who_reads_holds_a_descriptor_for_each_place_that_was_taken_not_for_each_there_could_be(board):
    board.take()
    board.read()
    assert sum(1 for fd in Path("/proc/self/fd").iterdir() if "counts" in _target(fd)) < 10


def _target(fd: Path) -> str:
    try:
        return str(fd.readlink())
    except OSError:  # the folder's own
        return ""
