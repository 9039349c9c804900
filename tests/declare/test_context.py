from datetime import UTC, datetime

import pytest

from runtime import Context, Tick
from runtime.base.ids import Trace, new_run_id, trace_of
from runtime.declare.context import current, log_fields

RUN_ID = new_run_id()


def context(**changes):
    values = {
        "run_id": RUN_ID,
        "function": "orders.create",
        "trigger": "http",
        "attempt": 1,
        "env": {"REGION": "eu"},
        "trace": trace_of(RUN_ID, None),
        "started_at": 1893456000.0,
        "timeout_seconds": 30.0,
    }
    return Context(**values | changes)


@pytest.fixture
def at_work():
    """Make a context the current one for this test."""
    tokens = []
    yield lambda **changes: tokens.append(current.set(context(**changes)))
    for token in reversed(tokens):
        current.reset(token)


def test_a_context_tells_about_its_invocation():
    found = context()
    assert (found.run_id, found.function, found.trigger, found.attempt) == (RUN_ID, "orders.create", "http", 1)
    assert found.env["REGION"] == "eu"
    assert found.cancelled is False
    assert found.traceparent == f"00-{RUN_ID}-{RUN_ID[16:]}-00"


def test_the_deadline_is_aware():
    assert context().deadline == datetime(2030, 1, 1, 0, 0, 30, tzinfo=UTC)


def test_a_stream_has_no_deadline():
    assert context(timeout_seconds=None).deadline is None


def test_a_misspelt_attribute_is_an_error():
    with pytest.raises(AttributeError):
        context().canceled = True


def test_the_current_context_is_the_one_at_work(at_work):
    at_work(function="a")
    assert Context.current().function == "a"


def test_there_is_no_current_context_outside_of_a_handler():
    with pytest.raises(
        LookupError, match=r"^no invocation is at work here; Context.current\(\) answers inside a handler"
    ):
        Context.current()


def test_log_lines_say_which_run(at_work):
    assert log_fields() == {}
    at_work()
    assert log_fields() == {
        "run_id": RUN_ID,
        "function": "orders.create",
        "trigger": "http",
        "attempt": 1,
        "trace_id": RUN_ID,
    }


def test_log_lines_say_more_of_a_later_attempt_in_a_callers_trace(at_work):
    at_work(attempt=2, trace=Trace("a" * 32, "b" * 16))
    assert log_fields() == {
        "run_id": RUN_ID,
        "function": "orders.create",
        "trigger": "http",
        "attempt": 2,
        "trace_id": "a" * 32,
    }


def test_a_handler_logs_under_the_name_of_its_function(log):
    context().log.info("made", sku="X")
    assert [(entry["event"], entry["sku"]) for entry in log.entries] == [("made", "X")]


def test_a_tick_made_by_hand_needs_only_its_date():
    tick = Tick(planned_at=datetime(2030, 1, 1, tzinfo=UTC))
    assert (tick.late_seconds, tick.last_success, tick.missed) == (0, None, 0)
