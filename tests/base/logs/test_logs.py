import io
import logging
import re
import secrets
import subprocess
import sys
import warnings
from datetime import datetime

import msgspec
import pytest

from runtime.base.logs import configure, get_logger, keep_with
from runtime.base.logs.lines import line_of
from runtime.base.secrets.masking import hide


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def lines():
    """Configure JSON lines; call it for what was written since, as records."""

    def lines():
        return [msgspec.json.decode(line) for line in stream.getvalue().splitlines()]

    stream = io.StringIO()
    configure(style="json", level="info", stream=stream, fields=lambda: {"run_id": "r1"})
    return lines


def console_of(stream, act, **options):
    configure(style=options.pop("style", "console"), level="info", stream=stream, **options)
    act()
    return stream.getvalue()


def fail():
    raise ValueError("no such article")


def test_a_json_line_has_the_event_its_values_and_the_runs_fields(lines):
    get_logger("orders").info("made %s", "X", qty=2, when=datetime(2030, 1, 1))  # noqa: DTZ001
    (line,) = lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("timestamp"))
    assert line == {
        "event": "made X",
        "level": "info",
        "qty": 2,
        "when": "datetime.datetime(2030, 1, 1, 0, 0)",
        "run_id": "r1",
    }


def test_a_line_of_another_library_carries_the_fields_too(lines):
    logging.getLogger("library").warning("slow: %d s", 3, extra={"host": "db"})
    (line,) = lines()
    assert (line["event"], line["level"], line["host"], line["run_id"]) == ("slow: 3 s", "warning", "db", "r1")


def test_what_a_line_says_itself_wins_over_the_fields(lines):
    get_logger().info("started", run_id="r2")
    assert [line["run_id"] for line in lines()] == ["r2"]


def test_fields_are_asked_for_when_the_line_is_written():
    stream, fields = io.StringIO(), {}
    configure(style="json", level="info", stream=stream, fields=lambda: fields)
    get_logger().info("one")
    fields["run_id"] = "r1"
    get_logger().info("two")
    assert [msgspec.json.decode(line).get("run_id") for line in stream.getvalue().splitlines()] == [None, "r1"]


@pytest.mark.parametrize("logger", [get_logger, logging.getLogger], ids=["ours", "standard"])
def test_an_exception_is_one_line_of_json(lines, logger):
    try:
        fail()
    except ValueError:
        logger("orders").exception("failed")
    (line,) = lines()
    assert (line["event"], line["level"]) == ("failed", "error")
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: no such article")
    assert "exc_info" not in line


@pytest.mark.parametrize("logger", [get_logger, logging.getLogger], ids=["ours", "standard"])
def test_lines_below_the_level_are_dropped(lines, logger):
    logger("orders").debug("hidden")
    logger("orders").info("shown")
    assert [line["event"] for line in lines()] == ["shown"]


def test_warnings_become_lines(lines):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old spelling", stacklevel=1)
    (line,) = lines()
    assert line["level"] == "warning"
    assert "UserWarning: old spelling" in line["event"]


def test_a_console_line_is_for_people():
    text = console_of(io.StringIO(), lambda: get_logger("orders").info("made", qty=2), fields=lambda: {"run_id": "r1"})
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d+ \[info +\] made +qty=2 run_id=r1\n", text)


def test_a_console_shows_a_plain_traceback():
    def act():
        try:
            fail()
        except ValueError:
            get_logger().exception("failed")

    text = console_of(io.StringIO(), act)
    assert "failed\nTraceback (most recent call last):\n" in text
    assert text.endswith("ValueError: no such article\n")


def test_a_console_shows_lines_of_other_libraries():
    text = console_of(io.StringIO(), lambda: logging.getLogger("library").error("gone"))
    assert re.search(r"\[error +\] gone", text)


@pytest.mark.parametrize(
    ("style", "kind", "begin"),
    [
        ("auto", io.StringIO, r"{"),
        ("auto", Terminal, r"\x1b\["),
        ("json", Terminal, r"{"),
        ("console", io.StringIO, r"\d\d:"),
        ("console", Terminal, r"\x1b\["),
    ],
)
def test_auto_is_console_on_a_terminal_and_json_elsewhere(style, kind, begin):
    assert re.match(begin, console_of(kind(), lambda: get_logger().info("made"), style=style))


def test_configuring_again_replaces_what_was_there():
    first, second = io.StringIO(), io.StringIO()
    configure(style="json", level="info", stream=first)
    configure(style="json", level="error", stream=second)
    get_logger().warning("hidden")
    get_logger().error("shown")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_a_logger_has_the_level_that_is_said_for_it():
    stream = io.StringIO()
    configure(style="json", level="info", stream=stream, levels={"noisy.part": "error", "shy": "debug"})
    logging.getLogger("noisy.part.deep").warning("hidden")
    get_logger("shy").debug("shown")
    assert [msgspec.json.decode(line)["event"] for line in stream.getvalue().splitlines()] == ["shown"]


def test_a_secret_is_hidden_wherever_a_line_has_it(lines):
    secret, kept = f'{secrets.token_hex(8)}"\n', []
    hide([secret])
    keep_with(lambda _, line: kept.append(line.decode()))
    try:
        fail_with(secret)
    except ValueError:
        get_logger("x").exception(f"with {secret}", url={"deep": [secret]}, odd=ValueError(secret))
    logging.getLogger("library").warning("got %s", secret)
    assert len(lines()) == len(kept) == 2
    assert secret[:16] not in repr(lines()) + repr(kept)
    assert lines()[0]["url"] == {"deep": ["****\n"]}


def test_a_secret_of_digits_is_hidden_and_a_line_stays_json(lines):
    secret, kept = 10**11 + secrets.randbelow(10**11), []
    hide([str(secret)])
    keep_with(lambda _, line: kept.append(msgspec.json.decode(line)))
    get_logger("x").info("paid", account=secret, ms=float(f"1.{secret}"), least=secret * 10)
    logging.getLogger("x").info("of %d", secret)
    assert [line["event"] for line in lines()] == ["paid", "of ****"]
    assert lines()[0]["account"] == kept[0]["fields"]["account"] == "****"
    assert msgspec.json.decode(line_of(float(secret), {"event": "at a time"}))["time"] == secret


def fail_with(secret):
    raise ValueError(f"cannot call {secret}")


def test_lines_of_a_run_are_given_to_who_keeps_them():
    kept = []
    keep_with(lambda run_id, line: kept.append((run_id, msgspec.json.decode(line))))
    fields = {"run_id": "r1", "function": "f", "trigger": "http", "attempt": 2, "trace_id": "t"}
    configure(style="console", level="info", stream=io.StringIO(), fields=lambda: fields)
    get_logger().info("made", qty=2, odd={1, 2})
    logging.getLogger("library").warning("x" * 20_000)
    get_logger().info("large", data="y" * 20_000)
    fields.clear()
    get_logger().info("of nobody")
    (one, first), (_, second), (_, third) = kept
    assert (one, first.pop("time") > 0) == ("r1", True)
    assert first == {"level": "info", "text": "made", "attempt": 2, "fields": {"qty": 2, "odd": [1, 2]}}
    assert second["text"].endswith("x… [4000 more]")
    assert third["fields"] == {"left out": "data"}


def test_a_script_that_configures_nothing_sees_plain_tracebacks_and_no_chatter():
    code = (
        "from runtime.base.logs import get_logger\n"
        "log = get_logger('ours')\n"
        "log.info('chatter')\n"
        "try:\n    password = 'hunter2'; 1 / 0\n"
        "except ZeroDivisionError:\n    log.exception('failed at 100%', step=3)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr.startswith("failed at 100% step=3\nTraceback (most recent call last):\n")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert "hunter2" not in done.stderr.replace("password = 'hunter2'; 1 / 0", "")
