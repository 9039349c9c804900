"""Flows: chains, groups, and both in each other; what becomes of them as their steps end."""

import json
from typing import Any

import pytest

from runtime.ledger.calls import do
from runtime.ledger.ledger import Keeping
from runtime.ledger.records import Failure
from tests.ledger.trees import Tree, chain, chord, group, step
from tests.ledger.trial import START, Trial


def finish_next(trial: Trial, result: Any = 1) -> str:
    """The most urgent run succeeds."""
    one = trial.claim_one()
    assert trial.finish(one, result=json.dumps(result).encode())
    return one.id


def finish_all(trial: Trial) -> int:
    """Every step succeeds with its own number, until none is left. How many did."""
    count = 0
    while trial.reap() + len(ones := trial.claim(slots=100)):
        for one in ones:
            trial.finish(one, result=one.id.rpartition("-")[2].encode())
        count += len(ones)
    return count


def result_of(trial: Trial, run_id: str) -> Any:
    view = trial.show(run_id)
    assert (view.state, view.failure, view.reason) == ("succeeded", None, None)
    return json.loads(bytes(view.result or b"null"))


def why(trial: Trial, run_id: str) -> tuple[str, str | None, str]:
    """State, reason and message of a flow that is over."""
    view = trial.show(run_id)
    return view.state, view.reason, view.failure.message if view.failure else ""


def counts(trial: Trial, flow: str) -> tuple[int, ...]:
    """Of steps: all, open, succeeded, failed, cancelled."""
    found = trial.show(flow).steps
    assert found is not None
    return found.total, found.open, found.succeeded, found.failed, found.cancelled


# --- what begins when ---------------------------------------------------------------------------------------------


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


def test_parts_of_a_group_are_all_given_the_result_before_it_and_their_results_nest(trial: Trial):
    trial.works()
    last = step("g", '{"last": ', "}")
    flow = trial.start(chain(step(), group(last, chain(last, last), group(last, last)), last))
    finish_next(trial, "first")
    ones = trial.claim(slots=9)
    assert [one.payload for one in ones] == [b'{"last": "first"}'] * 4
    for number, one in enumerate(ones):
        trial.finish(one, result=str(number).encode())
    within = trial.claim_one()
    assert within.payload == b'{"last": 1}'
    trial.finish(within, result=b'"x"')
    body = trial.claim_one()
    assert body.payload == b'{"last": [0,"x",[2,3]]}'
    trial.finish(body, result=b"null")
    assert result_of(trial, flow) is None


@pytest.mark.parametrize(
    ("tree", "result"),
    [
        (group(), []),
        (chain(group(), group(group(), group())), [[], []]),
        (group(*[group()] * 3000), [[]] * 3000),
        (chain(*[group()] * 10_000), []),
    ],
    ids=["group", "nested", "many", "chain"],
)
def test_a_flow_without_a_step_is_over_at_once(trial: Trial, tree: Tree, result: Any):
    flow = trial.start(tree)
    trial.reap()
    assert result_of(trial, flow) == result
    assert counts(trial, flow) == (0, 0, 0, 0, 0)


def test_flows_nest_50_deep(trial: Trial):
    trial.works()
    tree = step()
    for depth in range(50):
        tree = chain(tree) if depth % 2 else group(tree)
    flow = trial.start(tree)
    finish_next(trial, "x")
    found = result_of(trial, flow)
    for _ in range(25):
        (found,) = found
    assert found == "x"


def test_a_step_is_a_run_like_others(trial: Trial):
    trial.works("w", "f")
    options = {"queue": "slow", "priority": 8, "max_age_seconds": 60.0}
    flow = trial.start(chain(step("f", **options)), trace="00-a-b-01", parent="caller")
    one = trial.claim_one("w", "slow")
    assert (one.priority, one.expires, one.trace, one.parent) == (8, START + 60, "00-a-b-01", flow)
    view = trial.show(one.id)
    assert (view.flow, view.step, view.steps) == (flow, 1, None)
    trial.finish(one, "retrying", retry_seconds=5.0)
    trial.advance(5)
    again = trial.claim_one("w", "slow")
    assert (again.id, again.attempt) == (one.id, 2)
    trial.finish(again, result=b"1")
    assert result_of(trial, flow) == 1
    assert do(trial.client, trial.ledger.children([(flow, "0"), ("caller", "0")])) == [("0", [one.id]), ("0", [flow])]


def test_a_flow_is_listed_as_a_run_of_its_own(trial: Trial):
    trial.works()
    flow = trial.start(chain(step(), step()))
    (view,) = trial.page("flow:chain").runs
    assert (view.id, view.state, view.queue, view.trigger, view.flow) == (flow, "running", "", "submit", "")
    assert trial.list_ids("flow:chain", states=["succeeded"]) == []
    finish_all(trial)
    assert trial.list_ids("flow:chain", states=["succeeded"]) == [flow]
    assert sorted(trial.list_ids()) == [flow, f"{flow}-1", f"{flow}-2"]
    assert [view.name for view in do(trial.client, trial.ledger.queues())] == ["default"]


def test_a_run_whose_function_is_called_as_a_flow_is_shown(trial: Trial):
    """Without a catalogue, submit takes any name."""
    run_id = trial.accept("flow:chain")
    assert (trial.show(run_id).function, trial.show(run_id).steps) == ("flow:chain", None)
    trial.cancel(run_id)
    trial.purge(run_id)


def test_a_delayed_flow_begins_when_it_is_due(trial: Trial):
    trial.works()
    flow = trial.start(chain(step()), delay_seconds=60.0)
    assert (trial.state(flow), trial.show(flow).due) == ("scheduled", START + 60)
    assert do(trial.client, trial.ledger.next_reap()) == START + 60
    trial.advance(59.999)
    assert trial.claim() == []
    trial.advance(0.001)
    assert trial.state(flow) == "running"
    finish_next(trial)
    assert result_of(trial, flow) == 1


def test_a_delayed_step_waits_from_when_it_could_begin(trial: Trial):
    trial.works()
    flow = trial.start(chain(step(), step(delay_seconds=30.0, max_age_seconds=10.0)))
    trial.now += 100
    trial.keep_alive()
    finish_next(trial)
    view = trial.show(f"{flow}-2")
    assert (view.state, view.due, view.expires) == ("scheduled", START + 130, START + 140)
    trial.advance(30)
    finish_next(trial)
    assert trial.state(flow) == "succeeded"


def test_10_000_steps_are_begun_and_stopped_100_at_a_time(trial: Trial):
    trial.works()
    flow = trial.start(group(*[step() for _ in range(10_000)]))
    assert trial.queue().ready == 100
    assert (do(trial.client, trial.ledger.next_reap()) or 0) <= trial.now
    assert do(trial.client, trial.ledger.reap()) == 1
    assert trial.queue().ready == 200
    trial.reap()
    assert (trial.queue().ready, counts(trial, flow)[:2]) == (10_000, (10_000, 10_000))
    assert do(trial.client, trial.ledger.next_reap()) is None
    assert trial.cancel(flow) == "cancelling"
    assert trial.queue().ready == 9_900
    trial.reap()
    assert (trial.state(flow), counts(trial, flow)) == ("cancelled", (10_000, 0, 0, 0, 10_000))


def test_steps_with_long_arguments_are_begun_fewer_at_a_time(trial: Trial):
    trial.works()
    flow = trial.start(chain(step(), group(*[step("g", '{"x": ', "}") for _ in range(30)])))
    finish_next(trial, "x" * 500_000)
    assert trial.queue().ready == 10
    assert do(trial.client, trial.ledger.reap()) == 1
    assert trial.queue().ready == 20
    trial.reap()
    assert counts(trial, flow)[:2] == (31, 30)


def test_what_is_left_of_flows_that_are_over_is_dropped_100_at_a_time(trial: Trial):
    flows = [trial.start(group(*[step() for _ in range(19)]), delay_seconds=9.0) for _ in range(210)]
    assert set(do(trial.client, trial.ledger.cancel(flows))) == {"cancelled"}
    assert trial.client.zcard(trial.key("flows")) > 100
    assert do(trial.client, trial.ledger.reap()) == 100
    trial.reap()
    assert trial.client.exists(trial.key("flows")) == 0


def test_the_results_of_thousands_of_steps_are_in_order(trial: Trial):
    trial.works()
    flow = trial.start(chord([step() for _ in range(3000)], step("g", '{"all":', "}")))
    while trial.reap() + len(ones := trial.claim(slots=500)):
        for one in ones:
            if one.function == "g":
                assert json.loads(one.payload)["all"] == list(range(3, 3003))
            trial.finish(one, result=one.id.rpartition("-")[2].encode())
    assert result_of(trial, flow) == 2


# --- what fails ---------------------------------------------------------------------------------------------------


def test_a_failed_step_ends_the_flow_once_what_runs_has_ended(trial: Trial):
    trial.works()
    flow = trial.start(chain(group(step(), step("g"), step(queue="other")), step()))
    one, other = trial.claim(slots=2)
    trial.finish(one, "failed", failure=Failure(type="ValueError", message='no "x" é'))
    assert counts(trial, flow) == (4, 1, 0, 1, 1)
    assert (trial.state(flow), trial.beat(other).cancelled, trial.state(f"{flow}-5")) == (
        "running",
        (other.id,),
        "cancelled",
    )
    trial.finish(other)
    assert why(trial, flow) == ("failed", "error", f'step 3 of the flow (f, run {flow}-3) failed: no "x" é')
    failure = trial.show(flow).failure
    assert failure is not None
    assert failure.type == "StepFailed"
    assert (trial.state(other.id), counts(trial, flow)) == ("cancelled", (4, 0, 0, 1, 2))
    assert trial.find(f"{flow}-2") is None
    assert trial.list_ids(states=["failed"]) == [flow, one.id]


def test_a_step_that_ends_before_it_heard_counts_as_it_ended(trial: Trial):
    trial.works()
    flow = trial.start(group(*[step() for _ in range(150)]))
    trial.reap()
    ones = trial.claim(slots=150)
    trial.finish(ones[0], "failed")
    assert trial.finish(ones[140])
    assert trial.finish(ones[149], "failed", reason="timeout")
    assert counts(trial, flow) == (150, 147, 1, 2, 0)
    trial.reap()
    for one in ones[1:]:
        trial.finish(one)
    assert counts(trial, flow) == (150, 0, 1, 2, 147)
    assert why(trial, flow)[:2] == ("failed", "error")


def test_a_step_of_a_flow_that_failed_is_not_given_to_a_worker(trial: Trial):
    trial.works()
    flow = trial.start(group(*[step(max_age_seconds=5.0) for _ in range(150)]))
    trial.reap()
    first = trial.claim_one()
    trial.finish(first, "failed")
    trial.now += 6  # which is no failure of its own
    assert (trial.queue().ready, trial.claim(slots=100)) == (49, [])
    assert counts(trial, flow) == (150, 0, 0, 1, 149)
    assert why(trial, flow)[:2] == ("failed", "error")
    trial.reap()


@pytest.mark.parametrize("end", ["crash", "expire", "unknown"])
def test_however_a_step_fails_for_good_its_flow_does(trial: Trial, end: str):
    trial.works("w", "f")
    flow = trial.start(chain(step("g" if end == "unknown" else "f", max_age_seconds=5.0 if end == "expire" else None)))
    if end == "crash":
        for _ in range(3):
            trial.finish(trial.claim_one(), "crashed")
            trial.reap()
    elif end == "expire":
        trial.now += 6
        assert trial.claim() == []
    else:
        assert trial.claim() == []
        trial.works("w", "f")
        trial.now += 600
        trial.works("w", "f")
        trial.reap()
    reasons = {"crash": "crashed", "expire": "expired", "unknown": "unknown function"}
    assert why(trial, flow)[:2] == ("failed", reasons[end])


def test_a_worker_that_dies_ends_no_flow(trial: Trial):
    trial.works()
    flow = trial.start(chain(step(), step()))
    trial.lose(trial.claim_one())
    finish_all(trial)
    assert result_of(trial, flow) == 2


def test_a_late_end_changes_nothing(trial: Trial):
    trial.works()
    flow = trial.start(chain(step(), step()))
    late = trial.claim_one()
    trial.lose(late)
    one = trial.claim_one()
    assert not trial.finish(late, "failed")
    trial.finish(one)
    assert not trial.finish(one)
    assert counts(trial, flow) == (2, 1, 1, 0, 0)


def test_a_chain_keeps_the_last_result_alone(trial: Trial):
    trial.works()
    flow = trial.start(chain(*[step("f", '{"x":', "}")] * 5))
    for number in range(3):
        finish_next(trial, "x" * number)
    kept = trial.client.hgetall(f"{trial.namespace}:flow:{flow}")
    assert {name: value for name, value in kept.items() if name.startswith((b"result:", b"bytes"))} == {
        b"result:3": b'"xx"',
        b"bytes": b"4",
    }


def test_results_that_are_too_large_together_fail_the_flow(trial: Trial):
    trial.works()
    flow = trial.start(group(*[step()] * 70))
    for one in trial.claim(slots=70):
        assert trial.finish(one, result=b'"' + b"x" * 1_000_000 + b'"')
    state, reason, message = why(trial, flow)
    assert (state, reason) == ("failed", "bad result")
    assert message.startswith("the results of its steps are more than 64000000 bytes, with step 64 (f, run ")
    assert counts(trial, flow) == (70, 0, 64, 0, 6)


def test_arguments_too_large_with_the_last_result_fail_the_step(trial: Trial):
    trial.works()
    flow = trial.start(chain(step(), step("g", '{"x":', "}")), payload_max=100)
    finish_next(trial, "x" * 200)
    assert trial.claim() == []
    view = trial.show(f"{flow}-2")
    assert (view.state, view.reason, view.payload) == ("failed", "bad arguments", None)
    assert view.failure
    assert (
        view.failure.message == "the arguments of g are 208 bytes with the last result in them, more than 100; "
        "keep that elsewhere and return where it is, or raise [queue] payload_max, for flows submitted from then on"
    )
    assert why(trial, flow)[:2] == ("failed", "bad arguments")
    assert trial.redrive(flow) == "queued"
    assert (trial.state(flow), trial.show(f"{flow}-2").redriven) == ("failed", 1)


def test_results_of_a_group_that_are_too_much_for_a_script_fail_it(trial: Trial):
    trial.works()
    flow = trial.start(group(chord([step() for _ in range(17)], step()), step("g", priority=9), collect=True))
    finish_next(trial)
    for _ in range(17):
        finish_next(trial, "x" * 1_000_000)
    (outcome, good) = result_of(trial, flow)
    assert good == {"state": "succeeded", "result": 1}
    message = "the results of its parts are more than 16000000 bytes; keep them elsewhere and return where they are"
    assert outcome == {"state": "failed", "reason": "bad result", "error": message, "run_id": flow}
    assert counts(trial, flow) == (19, 0, 18, 0, 0)
    assert trial.claim() == []


def test_a_flow_that_is_such_a_group_fails_again_when_it_is_redriven(trial: Trial):
    trial.works()
    flow = trial.start(group(*[step() for _ in range(17)]))
    for _ in range(17):
        finish_next(trial, "x" * 1_000_000)
    state, reason, message = why(trial, flow)
    assert (state, reason) == ("failed", "bad result")
    assert message.startswith("group 0 of the flow failed: the results of its parts are more than 16000000 bytes; ")
    assert (trial.redrive(flow), trial.state(flow), counts(trial, flow)) == ("queued", "failed", (17, 0, 17, 0, 0))


def test_a_step_whose_id_another_run_has_fails(trial: Trial):
    trial.works()
    other = trial.accept(id="taken-1", queue="other")
    flow = trial.start(chain(step()), id="taken")
    assert why(trial, flow) == (
        "failed",
        "error",
        "step 1 of the flow (f, run taken-1) failed: there is another run taken-1, which is an id of this flow: give "
        "the flow another id; or purge that run once it is over, and redrive the flow",
    )
    assert trial.state(other) == "queued"


def test_on_failure_of_a_step_runs_as_for_any_run(trial: Trial):
    trial.works("w", "f", "tell", f=("tell", "alarms"))
    flow = trial.start(chain(step("f", '{"x": 1}')))
    trial.finish(trial.claim_one(), "failed")
    told = trial.claim_one("w", "alarms")
    assert (told.parent, json.loads(told.payload)["arguments"]) == (f"{flow}-1", {"x": 1})
    trial.finish(told)
    assert trial.state(flow) == "failed"


# --- collect ------------------------------------------------------------------------------------------------------


def test_a_collecting_group_takes_failures_as_outcomes(trial: Trial):
    trial.works()
    flow = trial.start(chord([step(), step(), step()], step("g", '{"all": ', "}"), collect=True))
    good, bad, gone = trial.claim(slots=3)
    trial.finish(good, result=b"[1]")
    trial.finish(bad, "failed", reason="timeout")
    trial.finish(gone, "cancelled")
    body = trial.claim_one()
    assert json.loads(body.payload)["all"] == [
        {"state": "succeeded", "result": [1]},
        {"state": "failed", "reason": "timeout", "error": "no", "run_id": bad.id},
        {"state": "cancelled", "reason": "cancelled", "error": "cancelled", "run_id": gone.id},
    ]
    trial.finish(body)
    assert result_of(trial, flow) == 1
    assert counts(trial, flow) == (4, 0, 2, 1, 1)


def test_what_fails_within_a_part_of_a_collecting_group_ends_that_part(trial: Trial):
    trial.works()
    inner = chain(group(step(), step(queue="other"), step()), step())
    flow = trial.start(group(inner, chain(step(), step()), collect=True))
    bad, running, next_one = trial.claim(slots=3)
    assert next_one.id == f"{flow}-5"
    trial.finish(bad, "failed")
    assert (trial.state(f"{flow}-8"), trial.beat(running).cancelled) == ("cancelled", (running.id,))
    trial.finish(next_one)
    assert finish_next(trial) == f"{flow}-6"
    assert trial.state(flow) == "running"
    trial.finish(running)
    found = result_of(trial, flow)
    assert [one["state"] for one in found] == ["failed", "succeeded"]
    assert found[0]["run_id"] == bad.id
    assert trial.claim() == []


def test_collecting_groups_nest(trial: Trial):
    trial.works()
    flow = trial.start(group(group(step(), step(), collect=True), step(), collect=True))
    first, second, outer = trial.claim(slots=3)
    trial.finish(first, "failed")
    trial.finish(second)
    trial.finish(outer, "failed")
    inner, other = result_of(trial, flow)
    assert (inner["state"], [one["state"] for one in inner["result"]]) == ("succeeded", ["failed", "succeeded"])
    assert (other["state"], other["run_id"]) == ("failed", outer.id)


# --- cancel -------------------------------------------------------------------------------------------------------


def test_a_cancelled_flow_ends_with_what_runs(trial: Trial):
    trial.works()
    flow = trial.start(chain(group(step(), step()), step()))
    one = trial.claim_one()
    assert (trial.cancel(flow), trial.show(flow).cancelling) == ("cancelling", True)
    assert (trial.cancel(flow), trial.state(flow)) == ("cancelling", "running")
    assert trial.beat(one).cancelled == (one.id,)
    trial.finish(one)
    assert (*why(trial, flow), trial.show(flow).cancelling) == ("cancelled", "cancelled", "", False)
    assert trial.cancel(flow) == "finished"
    assert trial.claim() == []


def test_a_flow_of_which_nothing_runs_is_cancelled_at_once(trial: Trial):
    trial.works()
    flow = trial.start(group(step(), step(delay_seconds=9.0)))
    retried = trial.claim_one()
    trial.finish(retried, "retrying", retry_seconds=9.0)
    assert (trial.cancel(flow), trial.state(retried.id), trial.state(f"{flow}-2")) == ("cancelled",) * 3
    later = trial.start(chain(step()), due=START + 60)
    assert (trial.cancel(later), trial.state(later)) == ("cancelled", "cancelled")
    assert do(trial.client, trial.ledger.next_reap()) is None


def test_a_cancelled_step_cancels_its_flow(trial: Trial):
    trial.works()
    flow = trial.start(chain(step(), step()))
    assert trial.cancel(f"{flow}-1") == "cancelled"
    message = f"step 1 of the flow (f, run {flow}-1) was cancelled"
    assert why(trial, flow) == ("cancelled", "cancelled", message)


def test_a_handler_that_is_cancelled_with_its_flow_starts_nothing(trial: Trial):
    trial.works()
    flow = trial.start(chain(step(), step()))
    one = trial.claim_one()
    trial.cancel(flow)
    assert trial.release(one) == 0
    assert (trial.state(flow), trial.find(f"{flow}-2")) == ("cancelled", None)


# --- again --------------------------------------------------------------------------------------------------------


def test_a_redriven_flow_goes_on_from_where_it_stopped(trial: Trial):
    trial.works()
    flow = trial.start(chain(step(), group(step(), step()), step("g", '{"x": ', "}")))
    assert trial.redrive(flow) == "open"
    finish_next(trial)
    good, bad = trial.claim(slots=2)
    trial.finish(good, result=b'"kept"')
    trial.finish(bad, "failed")
    assert (trial.state(flow), trial.redrive(flow), trial.state(flow)) == ("failed", "queued", "running")
    view = trial.show(flow)
    assert (view.reason, view.redriven, view.failure, view.finished) == (None, 1, None, None)
    assert counts(trial, flow) == (4, 1, 2, 0, 0)
    again = trial.claim_one()
    assert (again.id, again.attempt, trial.show(again.id).redriven) == (bad.id, 1, 1)
    trial.finish(again, result=b'"new"')
    last = trial.claim_one()
    assert last.payload == b'{"x": ["kept","new"]}'
    trial.finish(last, result=b"2")
    assert result_of(trial, flow) == 2
    assert (trial.redrive(flow), trial.redrive(bad.id)) == ("succeeded", "succeeded")


def test_to_redrive_a_step_is_to_redrive_its_flow(trial: Trial):
    trial.works()
    flow = trial.start(group(step(), step(), step()))
    trial.finish(trial.claim_one())
    bad, running = trial.claim(slots=2)
    trial.finish(bad, "failed")
    assert trial.redrive(bad.id) == "open"
    trial.finish(running)
    assert trial.redrive(f"{flow}-1") == "succeeded"
    assert trial.redrive(running.id) == "queued"
    assert [one.id for one in trial.claim(slots=9)] == [bad.id, running.id]


def test_a_step_that_is_no_longer_kept_is_made_anew(trial: Trial):
    trial.works("w", "f", "tell", f=("tell", "alarms"))
    flow = trial.start(chain(step(), step("f", '{"x": ', "}")))
    finish_next(trial, "first")
    bad = trial.claim_one()
    trial.finish(bad, "failed")
    trial.purge(bad.id)
    trial.purge(f"{flow}-1")
    trial.redrive(flow)
    again = trial.claim_one()
    assert (again.id, again.payload) == (bad.id, b'{"x": "first"}')
    trial.finish(again, "failed")
    assert trial.claim_ids("w", "alarms") == [f"{bad.id}-failed", f"{bad.id}-failed1"]


def test_outcomes_of_a_collecting_group_that_is_complete_stand(trial: Trial):
    trial.works()
    flow = trial.start(chord([step(), step()], step("g", '{"all": ', "}"), collect=True))
    first, second = trial.claim(slots=2)
    trial.finish(first, "failed")
    trial.finish(second)
    body = trial.claim_one()
    trial.finish(body, "failed")
    trial.redrive(flow)
    assert counts(trial, flow) == (3, 1, 1, 1, 0)
    again = trial.claim_one()
    assert (again.id, again.payload) == (body.id, body.payload)


def test_those_of_one_that_is_not_are_run_again(trial: Trial):
    trial.works()
    flow = trial.start(group(chain(step(), step()), step(), step(), collect=True))
    good, bad, first = trial.claim(slots=3)
    trial.finish(good)
    trial.finish(bad, "failed")
    trial.cancel(flow)
    trial.finish(first)
    assert trial.state(flow) == "cancelled"
    trial.redrive(flow)
    assert counts(trial, flow) == (4, 3, 1, 0, 0)
    assert finish_all(trial) == 3
    assert result_of(trial, flow) == [{"state": "succeeded", "result": result} for result in (5, 2, 3)]


def test_what_was_left_of_an_earlier_time_is_not_done_after_a_redrive(trial: Trial):
    trial.works()
    flow = trial.start(group(*[step() for _ in range(150)]))
    trial.reap()
    trial.finish(trial.claim_one(), "failed")
    assert trial.claim() == []  # the last 49 are found to be stopped
    assert trial.state(flow) == "failed"
    assert trial.client.zcard(trial.key("flows")) == 1
    trial.redrive(flow)
    trial.reap()
    assert (trial.queue().ready, counts(trial, flow)) == (150, (150, 150, 0, 0, 0))
    assert finish_all(trial) == 150
    assert result_of(trial, flow) == list(range(1, 151))


def test_an_outcome_that_came_too_late_is_one_after_a_redrive(trial: Trial):
    trial.works()
    flow = trial.start(group(group(*[step() for _ in range(120)], collect=True), step("g", priority=9)))
    trial.reap()
    bad, *ones = trial.claim(slots=200)
    trial.finish(bad, "failed")
    assert trial.finish(ones[119], result=b'"late"')  # before its turn to be cancelled came
    trial.reap()
    for one in ones[:119]:
        trial.finish(one)
    assert counts(trial, flow) == (121, 0, 1, 1, 119)
    trial.redrive(flow)
    assert finish_all(trial) == 120
    assert result_of(trial, flow)[0][119] == {"state": "succeeded", "result": "late"}


def test_a_step_that_is_left_of_a_purged_flow_is_a_run_of_its_own(trial: Trial):
    trial.works()
    flow = trial.start(chain(step()))
    trial.finish(trial.claim_one(), "failed")
    assert (trial.purge(flow), trial.find(flow)) == ("purged", None)
    assert trial.client.exists(trial.key(f"flow:{flow}")) == 0
    assert trial.redrive(f"{flow}-1") == "queued"
    finish_next(trial)
    assert (trial.state(f"{flow}-1"), trial.find(flow)) == ("succeeded", None)


def test_so_is_one_whose_flow_s_id_a_run_has_now(trial: Trial):
    trial.works()
    trial.start(chain(step()), id="again")
    trial.finish(trial.claim_one(), "failed")
    trial.purge("again")
    trial.accept(id="again")
    trial.finish(trial.claim_one(), "failed")
    assert trial.redrive("again-1") == "queued"
    assert (finish_next(trial), trial.state("again")) == ("again-1", "failed")


def test_a_flow_of_an_id_that_was_there_before_has_steps_of_its_own(trial: Trial):
    trial.works()
    for payload in ('{"x": 1}', '{"x": 2}'):
        flow = trial.start(chain(step("f", payload)), id="again")
        one = trial.claim_one()
        assert (one.id, one.payload) == ("again-1", payload.encode())
        trial.finish(one, "failed")
        trial.purge(flow)


def test_an_open_flow_is_not_purged(trial: Trial):
    trial.works()
    flow = trial.start(chain(step(), step()))
    assert trial.purge(flow) == "open"
    first = finish_next(trial)
    assert trial.purge(first) == "purged"
    finish_next(trial)
    assert result_of(trial, flow) == 1


# --- what is accepted, what is kept -------------------------------------------------------------------------------


def test_a_flow_is_accepted_once(trial: Trial):
    trial.works()
    flow = trial.start(chain(step()), id="one", dedupe="x")
    assert trial.offer_flow(chain(step()), id="one").verdict == "known"
    other = trial.offer_flow(chain(step()), id="two", dedupe="x")
    assert (other.verdict, other.id) == ("known", flow)
    assert trial.offer(id="one").verdict == "known"
    assert trial.offer_flow(chord([step()], step()), id="three", kind="chord", dedupe="x").verdict == "accepted"


def test_a_queue_too_full_for_all_steps_takes_none(trial: Trial):
    trial.works()
    tree = chain(step(), step(), step(queue="other"))
    trial.accept()
    assert trial.offer_flow(tree, max_length=2).verdict == "full"
    assert trial.queue().ready == 1
    assert trial.offer_flow(tree, max_length=3).verdict == "accepted"


def test_the_steps_of_an_open_flow_are_kept_though_others_come(trial: Trial):
    trial.keeping = Keeping(count=2)
    trial.__post_init__()
    trial.works()
    flow = trial.start(chain(group(*[step() for _ in range(5)]), step("g", '{"all": ', "}")))
    ids = [finish_next(trial, number) for number in range(5)]
    assert [trial.state(one) for one in ids] == ["succeeded"] * 5
    assert trial.list_ids("f") == ids[:2:-1]
    body = trial.claim_one()
    assert body.payload == b'{"all": [0,1,2,3,4]}'
    trial.finish(body, "failed")
    assert trial.state(flow) == "failed"
    for _ in range(2):
        trial.accept()
        finish_next(trial)
    assert trial.find(ids[-1]) is None


def test_the_end_of_a_flow_is_told_on_its_channel(trial: Trial):
    trial.works()
    flow = trial.start(group(step(), step()))
    with trial.client.pubsub() as pubsub:
        pubsub.subscribe(trial.ledger.done(flow))
        assert pubsub.get_message(timeout=5)["type"] == "subscribe"
        finish_all(trial)
        assert pubsub.get_message(timeout=5)["data"] == b"succeeded"


def test_flows_do_not_hold_each_other_up(trial: Trial):
    trial.works()
    large = trial.start(group(*[step() for _ in range(2000)]))
    small = trial.start(group(*[step("g", queue="other") for _ in range(150)]))
    for _ in range(4):
        do(trial.client, trial.ledger.reap())
    assert counts(trial, small)[1] == 150
    assert counts(trial, large)[1] < 2000
    trial.reap()
