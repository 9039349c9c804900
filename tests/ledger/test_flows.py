"""Flows: chains, groups, and both in each other; what becomes of them as their steps end."""

import json
from typing import Any

from tests.ledger.trees import chain, chord, group, step
from tests.ledger.trial import START, Trial


def finish_next(trial: Trial, result: Any = 1, **fields: Any) -> str:
    """The most urgent run succeeds, or ends as it is said."""
    one = trial.claim_one()
    assert trial.finish(one, **({"result": json.dumps(result).encode()} if not fields else fields))
    return one.id


def result_of(trial: Trial, run_id: str) -> Any:
    view = trial.show(run_id)
    assert (view.state, view.failure) == ("succeeded", None)
    return json.loads(bytes(view.result or b"null"))


def test_a_chain_runs_one_step_after_the_other_each_with_the_last_result(trial: Trial):
    trial.works()
    flow = trial.start(chain(step("f", '{"x": 1}'), step("g", '{"x": ', "}"), step("f", '{"y": [', ", ", "]}")))
    first = trial.claim_one()
    assert (first.id, first.function, first.payload, first.trigger) == (f"{flow}-1", "f", b'{"x": 1}', "flow")
    assert trial.claim() == []
    trial.finish(first, result=b'{"a": "b"}')
    second = trial.claim_one()
    assert (second.id, second.payload, second.parent) == (f"{flow}-2", b'{"x": {"a": "b"}}', flow)
    trial.finish(second, result=b"9007199254740993")
    third = trial.claim_one()
    assert third.payload == b'{"y": [9007199254740993, 9007199254740993]}'
    assert trial.state(flow) == "running"
    trial.finish(third, result=b'"end"')
    assert result_of(trial, flow) == "end"


def test_a_group_runs_its_steps_at_once_and_results_are_in_order(trial: Trial):
    trial.works()
    flow = trial.start(group(*[step() for _ in range(3)]))
    ones = trial.claim(slots=9)
    assert [one.id for one in ones] == [f"{flow}-{n}" for n in (1, 2, 3)]
    for one in reversed(ones):
        assert trial.state(flow) == "running"
        trial.finish(one, result=one.id[-1:].encode())
    assert result_of(trial, flow) == [1, 2, 3]


def test_the_body_of_a_chord_is_given_all_results(trial: Trial):
    trial.works()
    flow = trial.start(chord([step(), step()], step("g", '{"all": ', "}")), kind="chord")
    for result in (1, 2):
        finish_next(trial, result)
    one = trial.claim_one()
    assert (one.function, one.payload) == ("g", b'{"all": [1,2]}')
    trial.finish(one, result=b"3")
    assert result_of(trial, flow) == 3
    assert trial.show(flow).function == "flow:chord"
    assert trial.now == START


def test_a_failed_step_ends_the_flow(trial: Trial):
    trial.works()
    flow = trial.start(chain(group(step(), step("g")), step()))
    one, other = trial.claim(slots=2)
    trial.finish(one, "failed")
    assert (trial.state(flow), trial.beat(other).cancelled) == ("running", (other.id,))
    trial.finish(other)
    view = trial.show(flow)
    assert (view.state, view.reason, view.failure and view.failure.type) == ("failed", "error", "StepFailed")
    assert view.failure
    assert view.failure.message == f"step 3 of the flow (f, run {flow}-3) failed: no"


def test_10_000_steps_are_started_100_at_a_time(trial: Trial):
    trial.works()
    flow = trial.start(group(*[step() for _ in range(10_000)]))
    assert trial.queue().ready == 100
    assert trial.ledger is not None
    trial.reap()
    assert trial.queue().ready == 10_000
    assert trial.cancel(flow) == "cancelling"
    trial.reap()
    assert trial.state(flow) == "cancelled"
