"""Lines on their way out: nobody waits, nothing is lost in silence."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runtime.base.logs.writers import Stream, Writer

FULL = Path("/dev/full")


class Blocked:
    """A target that takes nothing until it may."""

    name = "blocked"

    def __init__(self):
        self.may, self.taken = threading.Event(), []

    def write(self, lines):
        assert self.may.wait(20)
        self.taken += lines


def told(count):
    return b"dropped %d\n" % count


def test_who_logs_waits_for_nobody_and_what_does_not_fit_is_counted_and_told():
    target = Blocked()
    writer = Writer(target, told, most_bytes=1000)
    began = time.monotonic()
    for n in range(500):
        writer.put(b"%04d line\n" % n)
    assert time.monotonic() - began < 15  # forever, else
    assert 300 < writer.dropped < 500
    target.may.set()
    assert writer.flush(20)
    writer.put(b"afterwards\n")
    assert writer.flush(20)
    notice = told(writer.dropped)
    assert target.taken.count(notice) == 1
    assert target.taken[-1] == b"afterwards\n"
    lines = [line for line in target.taken[:-1] if line != notice]
    assert len(lines) == 500 - writer.dropped
    assert lines == sorted(lines)


def test_a_pipe_whose_reader_is_stuck_holds_up_nobody(tmp_path):
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream, os.fdopen(reading, "rb") as reader:
        writer = Writer(Stream(stream), told)
        for n in range(3000):
            writer.put(b"%04d " % n + b"x" * 94 + b"\n")
        assert not writer.flush(0.05)
        found = reader.read(3000 * 100)
        assert writer.flush(20)
    assert [int(line[:4]) for line in found.splitlines()] == list(range(3000))
    assert writer.dropped == 0


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_full_disk_is_told_once_and_the_work_goes_on(capfd):
    with FULL.open("w") as full:
        writer = Writer(Stream(full), told)
        for _ in range(3):
            writer.put(b"line\n")
            assert writer.flush(20)
    assert writer.dropped == 3
    assert capfd.readouterr().err.count("log lines are lost: /dev/full cannot be written") == 1


AT_THE_END = """
import os, sys
from runtime.base.logs import configure, get_logger
configure(style="json", level="info", direct=False)
for n in range(2000):
    get_logger().info("line", n=n)
if sys.argv[1] == "fork":
    if os.fork() == 0:
        get_logger().info("child")
        os._exit(0)
    os.wait()
if sys.argv[1] == "raise":
    1 / 0
if sys.argv[1] == "exit":
    from runtime.projects import end_process
    end_process(0)
"""


@pytest.mark.parametrize("how", ["return", "raise", "exit", "fork"])
def test_all_lines_are_written_however_a_process_ends(how):
    done = subprocess.run([sys.executable, "-c", AT_THE_END, how], capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if '"n": ' in line]
    assert len(lines) == len(set(lines)) == 2000
    assert done.stdout.count('"event": "child"') == (how == "fork")  # Python itself warns of forks beside threads


FORKS = """
import os, threading
from runtime.base.logs import keep_with
from runtime.base.logs.lines import keep

lock = threading.Lock()

def keeper(run_id, line):
    with lock:
        pass

keep_with(keeper)
lock.acquire()  # as a thread might hold it that no fork has
pid = os.fork()
if pid == 0:
    keep("run", b"line")
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_who_is_forked_waits_for_nobody_that_keeps_lines():
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "7"
