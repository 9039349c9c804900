"""What is kept of finished runs, and for how long; and what a failure starts."""

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from runtime.ledger.calls import do
from runtime.ledger.ledger import Keeping
from runtime.ledger.records import Failure
from tests.ledger.trial import START, Trial

DAY = 86_400.0
LONG = b"[%d]" % 10**70
"""So long that it has a key of its own."""


def finish_one(trial: Trial, state: str = "succeeded", function: str = "f") -> str:
    trial.accept(function, payload=LONG)
    one = trial.claim_one()
    said = {"result": LONG} if state == "succeeded" else {"failure": Failure(type="ValueError", message="no" * 50)}
    assert trial.finish(one, state, **said)
    return one.id


def keeping(trial: Trial, **options: Any) -> Trial:
    trial.keeping = Keeping(**options)
    trial.__post_init__()
    trial.works()
    return trial


def ttl_days(trial: Trial, run_id: str) -> list[float]:
    kinds = ("run", "in", "out", "log")
    return [round(trial.client.pttl(trial.key(f"{kind}:{run_id}")) / 1000 / DAY) for kind in kinds]


def test_a_good_run_is_kept_for_a_week_and_a_failed_one_for_a_month(trial: Trial):
    trial.works()
    good, bad = finish_one(trial), finish_one(trial, "failed")
    assert (ttl_days(trial, good), ttl_days(trial, bad)) == (
        [7, 7, 7, 0],
        [30] * 4,
    )  # no attempt of the good one failed


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_a_long_list_stays_as_long_as_the_youngest_in_it(trial: Trial, state: str):
    trial.works()
    kind, days = ("done", 7) if state == "succeeded" else ("dead", 30)
    for _ in range(110):  # it is trimmed now and then only
        finish_one(trial, state)
        trial.client.pexpire(trial.key(f"{kind}:f"), 1_000_000)
    finish_one(trial, state)
    assert round(trial.client.pttl(trial.key(f"{kind}:f")) / 1000 / DAY) == days


def test_what_is_short_is_kept_in_the_record(trial: Trial):
    trial.works()
    run_id = trial.accept(payload=b'{"n":1}')
    failed = trial.claim_one()
    trial.finish(failed, "failed")
    assert trial.show(run_id).failure == Failure(type="ValueError", message="no")
    trial.redrive(run_id)
    assert trial.show(run_id).failure is None
    one = trial.claim_one()
    assert one.payload == b'{"n":1}'
    trial.finish(one, "retrying")
    trial.advance(1.0)
    trial.reap()
    trial.finish(trial.claim_one(), result=b"2")
    shown = trial.show(run_id)
    assert (shown.payload, shown.result) == (msgspec.Raw(b'{"n":1}'), msgspec.Raw(b"2"))
    assert trial.client.exists(trial.key(f"in:{run_id}"), trial.key(f"out:{run_id}")) == 0


def test_a_run_of_an_earlier_release_has_its_payload_apart(trial: Trial):
    trial.works()
    run_id = trial.accept(payload=b'{"n":1}')
    trial.client.hdel(trial.key(f"run:{run_id}"), "in")
    trial.client.set(trial.key(f"in:{run_id}"), b'{"n":1}')
    one = trial.claim_one()
    assert one.payload == b'{"n":1}'
    trial.finish(one)
    assert trial.show(run_id).payload == msgspec.Raw(b'{"n":1}')


def test_an_open_run_has_no_end_and_neither_has_a_redriven_one(trial: Trial):
    trial.works()
    bad = finish_one(trial, "failed")
    trial.redrive(bad)
    keys = [trial.key(f"{kind}:{bad}") for kind in ("run", "in", "log")]
    assert [trial.client.ttl(key) for key in keys] == [-1, -1, -1]


def test_only_so_many_good_runs_of_a_function_are_kept(trial: Trial):
    keeping(trial, count=3)
    ids = [finish_one(trial) for _ in range(5)]
    other = finish_one(trial, function="g")
    assert trial.list_ids("f") == ids[:1:-1]
    assert trial.list_ids("g") == [other]
    assert trial.find(ids[0]) is None
    assert list(trial.client.scan_iter(match=f"*:{ids[0]}")) == []


def test_failed_runs_are_bounded_by_age_alone(trial: Trial):
    keeping(trial, count=1, failures_seconds=10 * DAY)
    bad = [finish_one(trial, "failed") for _ in range(4)]
    assert trial.list_ids(states=["failed"]) == bad[::-1]
    trial.advance(10 * DAY - 1)
    assert trial.list_ids(states=["failed"]) == bad[::-1]
    trial.advance(1)
    last = finish_one(trial, "failed")
    assert trial.list_ids(states=["failed"]) == [last]
    assert trial.find(bad[0]) is None


def test_old_good_runs_go_by_age(trial: Trial):
    keeping(trial, seconds=7 * DAY)
    old = finish_one(trial)
    trial.advance(7 * DAY)
    new = finish_one(trial)
    assert trial.list_ids() == [new]
    assert trial.find(old) is None


def test_a_lowered_bound_is_reached_in_small_steps(trial: Trial):
    trial.works()
    for _ in range(150):
        finish_one(trial)
    keeping(trial, count=5)
    finish_one(trial)
    assert len(trial.list_ids()) == 51
    finish_one(trial)
    finish_one(trial)
    assert len(trial.list_ids()) == 5


def test_an_id_that_came_back_is_not_forgotten_for_its_former_self(trial: Trial):
    keeping(trial, seconds=DAY)
    old = finish_one(trial)
    for kind in ("run", "in", "out", "log"):
        trial.client.delete(trial.key(f"{kind}:{old}"))  # as their time to live does
    trial.advance(DAY * 2)
    trial.accept(id=old)
    assert trial.list_ids() == [old]
    finish_one(trial, function="f")
    assert trial.show(old).state in {"queued", "succeeded"}
    assert len(trial.list_ids()) == 2


# --- on_failure ---------------------------------------------------------------------------------------------------


def told(trial: Trial, worker: str, queue: str = "alarms") -> dict:
    one = trial.claim_one(worker, queue)
    assert one.trigger == "on_failure"
    trial.finish(one)
    return {"target": one.function, "parent": one.parent, "trace": one.trace, **json.loads(one.payload)}


def test_a_failed_run_starts_what_its_function_names(trial: Trial):
    trial.works("w", "f", "tell", f=("tell", "alarms"))
    run_id = trial.accept(payload=b'{"n": 9007199254740993}', trace="00-aa-bb-01")
    failure = Failure(type="ValueError", message='no "such" \u2028 thing\n/é')
    trial.finish(trial.claim_one(), "failed", failure=failure)
    assert do(trial.client, trial.ledger.children([(run_id, "0")])) == [("0", [f"{run_id}-failed"])]
    one = trial.claim_one("w", "alarms")
    assert b'"arguments":{"n": 9007199254740993}' in one.payload
    found = json.loads(one.payload)
    assert (one.parent, one.trace, one.function) == (run_id, "00-aa-bb-01", "tell")
    assert (found["run_id"], found["function"], found["reason"]) == (run_id, "f", "error")
    assert found["error"] == 'no "such" \u2028 thing\n/é'


@pytest.mark.parametrize("state", ["succeeded", "retrying", "cancelled"])
def test_what_did_not_fail_for_good_starts_nothing(trial: Trial, state: str):
    trial.works("w", "f", "tell", f=("tell", "alarms"))
    trial.accept()
    trial.finish(trial.claim_one(), state)
    assert trial.claim("w", "alarms") == []


def test_expired_crashed_and_unknown_runs_start_it_too(trial: Trial):
    trial.works("w", "f", f=("tell", "alarms"))
    trial.accept(max_age_seconds=1.0)
    trial.now += 2
    assert trial.claim() == []
    trial.works("tell", "tell")
    found = told(trial, "tell")
    assert (found["reason"], found["error"]) == ("expired", "expired")
    crashing = trial.accept()
    trial.lose(trial.claim_one())
    for _ in range(3):
        trial.finish(trial.claim_one(), "crashed")
        trial.reap()
    found = told(trial, "tell")
    assert (found["run_id"], found["reason"]) == (crashing, "crashed")
    assert "died 4 times" in found["error"]


def test_what_is_started_by_a_failure_may_fail_and_start_another_up_to_ten_times(trial: Trial):
    names = [f"f{n}" for n in range(14)]
    trial.works("w", *names, **{name: (after, "default") for name, after in pairwise(names)})
    run_id = trial.accept("f0", payload=b'{"x": 1}')
    seen = []
    while found := trial.claim():
        seen.append(found[0])
        trial.finish(found[0], "failed", failure=Failure(type="ValueError", message=found[0].function))
    assert [one.function for one in seen] == names[:11]
    assert [one.parent for one in seen[1:]] == [one.id for one in seen[:-1]]
    third = json.loads(seen[2].payload)
    assert (third["run_id"], third["function"], third["error"]) == (f"{run_id}-failed", "f1", "f1")
    assert third["arguments"] == json.loads(seen[1].payload)


@pytest.mark.parametrize(
    ("payload", "arguments"),
    [
        (b"", None),
        (b'{"x": "\xff"}', None),
        (b"{", None),
        (b"\x00", None),
        (b"[1]", [1]),
        ('{"é": "\U0001f600"}'.encode(), {"é": "\U0001f600"}),
    ],
)
def test_a_payload_that_is_no_json_is_told_as_null(trial: Trial, payload: bytes, arguments: object):
    trial.works("w", "f", "tell", f=("tell", "alarms"))
    run_id = trial.accept(payload=payload)
    trial.finish(trial.claim_one(), "failed", reason="bad arguments")
    assert told(trial, "w")["arguments"] == arguments
    assert trial.show(run_id).state == "failed"


def test_each_time_a_redriven_run_fails_it_is_told_again(trial: Trial):
    trial.works("w", "f", "tell", f=("tell", "alarms"))
    run_id = trial.accept()
    for _ in range(3):
        trial.finish(trial.claim_one(), "failed")
        trial.redrive(run_id)
    assert trial.claim_ids("w", "alarms") == [f"{run_id}-failed", f"{run_id}-failed1", f"{run_id}-failed2"]


def test_a_run_that_has_the_id_of_an_earlier_one_is_told_of_too(trial: Trial):
    trial.works("w", "f", "tell", f=("tell", "alarms"))
    for _ in range(2):
        trial.accept(id="again")
        trial.finish(trial.claim_one(), "failed")
        trial.purge("again")
        trial.now += 1
    assert trial.claim_ids("w", "alarms") == ["again-failed", f"again-failed-{round(START * 1000) + 1000}"]


def test_names_with_spaces_are_told_of_too(trial: Trial):
    trial.works("w", "f", "tell all", f=("tell all", "big alarms"))
    trial.accept()
    trial.finish(trial.claim_one(), "failed")
    assert told(trial, "w", "big alarms")["target"] == "tell all"


def test_functions_that_name_each_other_come_to_an_end(trial: Trial):
    trial.works("w", "f", "g", f=("g", "default"), g=("f", "default"))
    trial.accept()
    count = 0
    while found := trial.claim():
        trial.finish(found[0], "failed")
        count += 1
    assert count == 11


def test_a_function_that_no_longer_names_one_starts_none(trial: Trial):
    trial.works("w", "f", "tell", f=("tell", "alarms"))
    trial.works("w", "f", "tell")
    trial.accept()
    trial.finish(trial.claim_one(), "failed")
    assert trial.claim("w", "alarms") == []


def test_the_end_of_a_run_is_told_on_its_channel(trial: Trial):
    trial.works()
    run_id = trial.accept()
    with trial.client.pubsub() as pubsub:
        pubsub.subscribe(trial.ledger.done(run_id))
        assert pubsub.get_message(timeout=5)["type"] == "subscribe"
        trial.finish(trial.claim_one(), "failed")
        assert pubsub.get_message(timeout=5)["data"] == b"failed"
    assert trial.now == START
