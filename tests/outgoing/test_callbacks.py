"""What is said of the end of a run, and when it is said again."""

import msgspec
import pytest

from runtime.base.durations import Seconds
from runtime.base.sections import CallbackSettings
from runtime.ledger.callbacks.records import Message
from runtime.ledger.records import Failure
from runtime.outgoing.callbacks import judge, pause_of
from runtime.outgoing.messages import body_of
from runtime.outgoing.sender import Sent

SETTINGS = CallbackSettings()
DAY = 86_400
ENDED = Message(
    id="r_1", token=1, tries=0, run_id="r", function="f", url="https://example.com/", outcome="succeeded", reason="",
    output=b'{"a": 1}', long=0, accepted=1_900_000_000.0, claimed=1_900_000_001.5, ended=1_900_000_002.0, failures=1,
    crashes=0, trigger="http",
)  # fmt: skip


def data_of(**changes) -> dict:
    return msgspec.json.decode(body_of(msgspec.structs.replace(ENDED, **changes)))["data"]


def test_what_is_told_has_the_form_that_standard_webhooks_advise():
    assert msgspec.json.decode(body_of(ENDED)) == {
        "type": "run.succeeded",
        "timestamp": "2030-03-17T17:46:42.000Z",
        "data": {
            "id": "r",
            "function": "f",
            "state": "succeeded",
            "trigger": "http",
            "attempts": 2,
            "accepted_at": "2030-03-17T17:46:40.000Z",
            "claimed_at": "2030-03-17T17:46:41.500Z",
            "finished_at": "2030-03-17T17:46:42.000Z",
            "result": {"a": 1},
        },
    }


def test_a_failure_is_told_without_its_traceback_and_a_long_result_by_its_size():
    failure = msgspec.json.encode(Failure(type="ValueError", message="no", traceback="a secret line"))
    failed = data_of(outcome="failed", reason="error", output=failure)
    assert (failed["reason"], failed["failure"]) == ("error", {"type": "ValueError", "message": "no"})
    assert "result" not in failed
    cancelled = data_of(outcome="cancelled", reason="cancelled", output=b"", claimed=None)
    assert {"result", "failure", "claimed_at"}.isdisjoint(cancelled)
    assert data_of(output=b"", long=300_000)["omitted_bytes"] == 300_000
    assert data_of(output=b"")["result"] is None


def test_it_is_tried_for_about_a_day():
    pauses = [pause_of(tries, None, SETTINGS, lambda: 0.0) for tries in range(1, SETTINGS.attempts)]
    assert pauses[:4] == [5, 15, 45, 135]
    assert max(pauses) == float(SETTINGS.retry_longest)
    assert DAY * 0.9 < sum(pauses) < DAY * 1.1
    assert pause_of(10_000, None, SETTINGS, lambda: 0.0) == max(pauses)


def test_a_receiver_that_asks_for_more_time_gets_it_within_reason():
    assert pause_of(1, 60.0, SETTINGS, lambda: 0.5) == 60.0
    assert pause_of(1, 1.0, SETTINGS, lambda: 0.5) == pytest.approx(5.5)
    assert pause_of(1, 1e12, SETTINGS, lambda: 0.5) == float(SETTINGS.retry_longest)


@pytest.mark.parametrize(
    ("sent", "tries", "verdict"),
    [
        (Sent(status=200), 0, "delivered"),
        (Sent(status=202), 13, "delivered"),
        (Sent(status=307), 0, "waiting"),
        (Sent(status=404), 0, "waiting"),
        (Sent(status=500), 12, "waiting"),
        (Sent(status=500), 13, "dead"),
        (Sent(status=410), 0, "dead"),
        (Sent(error="no answer"), 0, "waiting"),
        (Sent(error="it is private", refused=True), 0, "dead"),
    ],
)
def test_what_becomes_of_it(sent: Sent, tries: int, verdict: str):
    message = msgspec.structs.replace(ENDED, tries=tries)
    told = judge(message, sent, CallbackSettings(retry_first=Seconds(5)), lambda: 0.0)
    assert told.verdict == verdict
    assert bool(told.pause_seconds) == (verdict == "waiting")
