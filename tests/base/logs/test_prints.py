"""What handlers print is a line of the log; what others print is what it was."""

import io
import secrets
import subprocess
import sys

import msgspec
import pytest

from runtime.base.logs import catch_prints, configure, end_prints
from runtime.base.logs.prints import Printed, begun
from runtime.base.secrets.masking import hide


@pytest.fixture
def at_work(monkeypatch):
    """Fields of the handler at work, empty outside; `.lines()`, `.raw` on it."""

    class AtWork(dict):
        def begin(self):
            """In the test itself: pytest has streams of its own for its fixtures."""
            monkeypatch.setattr(sys, "stdout", self.raw)
            configure(style="json", level="error", stream=log, fields=lambda: self)
            catch_prints(lambda: self)

        def lines(self):
            return [(line["event"], line["printed"]) for line in map(msgspec.json.decode, log.getvalue().splitlines())]

    log, found = io.StringIO(), AtWork()
    found.raw = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    return found


def test_a_handlers_print_is_a_line_whatever_the_level(at_work):
    at_work.begin()
    at_work["run_id"] = "r1"
    print("one\ntwo", end="")
    print(" goes on", 3)
    print()
    print("oh", file=sys.stderr)
    assert at_work.lines() == [("one", "stdout"), ("two goes on 3", "stdout"), ("oh", "stderr")]
    assert at_work.raw.buffer.getvalue() == b""


def test_what_two_handlers_print_by_halves_does_not_mix(at_work):
    at_work.begin()
    at_work["run_id"] = "r1"
    print("first", end=" ")
    at_work["run_id"] = "r2"
    print("second", end=" ")
    at_work["run_id"] = "r1"
    print("one")
    at_work["run_id"] = "r2"
    end_prints("r2")
    assert at_work.lines() == [("first one", "stdout"), ("second ", "stdout")]
    assert not begun


def test_outside_of_a_handler_a_print_is_as_it_was_at_once(at_work):
    at_work.begin()
    print("plain é")
    sys.stdout.buffer.write(b"bytes\n")
    assert at_work.raw.buffer.getvalue() == "plain é\nbytes\n".encode()
    assert at_work.lines() == []


def test_the_stream_is_what_programs_expect_of_one(at_work):
    at_work.begin()
    stream = sys.stdout
    assert isinstance(stream, io.TextIOBase)
    assert (stream.encoding, stream.errors, stream.isatty(), stream.writable()) == ("utf-8", "strict", False, True)
    stream.close()
    assert not stream.closed
    stream.reconfigure(line_buffering=True)
    with pytest.raises(TypeError, match="must be str, not bytes"):
        stream.write(b"x")
    catch_prints(lambda: at_work)
    assert isinstance(sys.stdout, Printed)
    assert sys.stdout._stream is at_work.raw  # not one around the other


def test_a_program_that_a_handler_starts_has_our_own_stdout():
    code = (
        "import subprocess, sys; from runtime.base.logs import *; configure(style='json', level='info');"
        "catch_prints(lambda: {'run_id': 'r1'}); print('ours');"
        "subprocess.run([sys.executable, '-c', 'print(1)'], stdout=sys.stdout)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line[:10] for line in done.stdout.splitlines()] == ['{"event": ', "1"]


def test_a_fault_of_the_log_itself_ends_nowhere_else_than_on_stderr(at_work):
    at_work.begin()

    class Odd:
        def __repr__(self):
            raise ValueError("no words")

    at_work["run_id"], at_work["odd"] = "r1", Odd()
    print("line")  # must return
    assert at_work.lines() == [] or at_work.lines()[0][0] == "line"


def test_what_is_printed_outside_of_handlers_is_without_secrets(at_work):
    secret = secrets.token_hex(16)
    hide([secret])
    at_work.begin()
    assert sys.stdout.write(f"key {secret}\n") == len(secret) + 5
    assert at_work.raw.buffer.getvalue() == b"key ****\n"
