"""Runs from their acceptance to their end: order, time, retries, cancelling, deduplication, limits."""

import pytest

from runtime.ledger.records import Accepted, Submission
from tests.ledger.trial import START, Trial


def test_a_run_is_claimed_with_all_that_was_said_of_it(trial: Trial):
    trial.works()
    run_id = trial.accept(
        queue="orders",
        payload=b'{"x": 1}',
        trigger="http",
        priority=7,
        max_age_seconds=60.0,
        parent="p",
        trace="00-1-2-01",
    )
    one = trial.claim_one("w", "orders")
    assert (one.id, one.function, one.queue, one.payload) == (run_id, "f", "orders", b'{"x": 1}')
    assert (one.trigger, one.priority, one.parent, one.trace) == ("http", 7, "p", "00-1-2-01")
    assert (one.attempt, one.crashes) == (1, 0)
    assert (one.accepted, one.due, one.claimed, one.expires) == (START, START, START, START + 60)


def test_runs_go_by_priority_then_in_the_order_they_came(trial: Trial):
    trial.works()
    for run_id, priority in [("a", 5), ("b", 0), ("c", 9), ("d", 5), ("e", 9), ("f", 4)]:
        trial.accept(id=run_id, priority=priority)
    assert trial.claim_ids() == ["c", "e", "a", "d", "f", "b"]


def test_the_order_holds_over_many_claims_of_one(trial: Trial):
    trial.works()
    ids = [trial.accept(id=f"{n % 7}-{n}") for n in range(30)]
    assert [trial.claim_one().id for _ in ids] == ids


def test_no_more_are_claimed_than_there_are_slots(trial: Trial):
    trial.works()
    for _ in range(5):
        trial.accept()
    assert len(trial.claim(slots=0)) == 0
    assert len(trial.claim(slots=3)) == 3
    assert len(trial.claim(slots=3)) == 2


def test_queues_are_served_in_the_order_they_are_named_and_no_others(trial: Trial):
    trial.works()
    for queue in ("a", "b", "c"):
        trial.accept(id=queue, queue=queue)
    assert trial.claim_ids("w", "b", "a") == ["b", "a"]


def test_a_delayed_run_waits_for_its_time_and_is_scheduled_meanwhile(trial: Trial):
    trial.works()
    run_id = trial.accept(due=START + 60)
    trial.advance(59.999)
    assert (trial.claim(), trial.state(run_id), trial.queue().later) == ([], "scheduled", 1)
    trial.advance(0.001)
    assert trial.state(run_id) == "queued"
    assert trial.claim_one().due == START + 60


def test_a_delay_is_counted_from_the_acceptance_by_the_ledgers_clock(trial: Trial):
    trial.works()
    run_id = trial.accept(delay_seconds=60.0, max_age_seconds=5.0)
    view = trial.show(run_id)
    assert (view.state, view.due, view.expires) == ("scheduled", START + 60, START + 65)
    trial.advance(60)
    assert trial.claim_ids() == [run_id]


def test_a_run_due_in_years_waits_for_years(trial: Trial):
    trial.works()
    trial.accept(due=START + 50 * 365 * 86_400)
    trial.advance(49 * 365 * 86_400)
    trial.works()
    assert trial.claim() == []
    trial.advance(366 * 86_400 * 2)
    trial.works()
    assert len(trial.claim()) == 1


def test_a_date_in_the_past_is_now(trial: Trial):
    trial.works()
    trial.accept(due=START - 1000)
    assert trial.claim_one().due == START


def test_due_runs_become_ready_in_the_order_of_their_time_and_by_priority(trial: Trial):
    trial.works()
    for run_id, after, priority in [("late", 30, 5), ("early", 10, 5), ("urgent", 40, 9)]:
        trial.accept(id=run_id, due=START + after, priority=priority)
    trial.advance(60)
    assert trial.claim_ids() == ["urgent", "early", "late"]


def test_a_finished_run_shows_its_result(trial: Trial):
    trial.works()
    run_id = trial.accept()
    one = trial.claim_one()
    trial.now += 2
    assert trial.finish(one, result=b'{"n": 12345678901234567890}', progress=b'{"done": 1}')
    view = trial.show(run_id)
    assert (view.state, view.reason, view.finished, view.is_finished) == ("succeeded", None, START + 2, True)
    assert bytes(view.result or b"") == b'{"n": 12345678901234567890}'
    assert bytes(view.progress or b"") == b'{"done": 1}'
    assert [(a.attempt, a.state, a.worker) for a in view.attempts] == [(1, "succeeded", "w")]
    assert trial.claim() == []


def test_numbers_keep_all_their_digits(trial: Trial):
    trial.works()
    payload = b'{"n": 9007199254740993, "x": 1e400, "y": 0.1000000000000000055511151231257827}'
    trial.accept(payload=payload)
    one = trial.claim_one()
    assert one.payload == payload
    trial.finish(one, result=b"9007199254740993")
    assert bytes(trial.show(one.id).result or b"") == b"9007199254740993"


def test_a_retry_waits_counts_a_failure_and_keeps_what_failed(trial: Trial):
    trial.works()
    run_id = trial.accept()
    trial.finish(trial.claim_one(), "retrying", retry_seconds=30.0)
    view = trial.show(run_id)
    assert (view.state, view.failures, view.due, view.reason) == ("retrying", 1, START + 30, None)
    assert view.failure is not None
    assert view.failure.message == "no"
    trial.advance(29.9)
    assert trial.claim() == []
    trial.advance(0.1)
    again = trial.claim_one()
    assert (again.attempt, again.failures) == (2, 1)
    trial.finish(again, "failed")
    view = trial.show(run_id)
    assert (view.state, view.reason, view.failures) == ("failed", "error", 2)
    assert [(a.attempt, a.state) for a in view.attempts] == [(1, "retrying"), (2, "failed")]


def test_each_attempt_knows_when_the_run_was_first_due(trial: Trial):
    trial.works()
    run_id = trial.accept(due=START + 10)
    trial.advance(10)
    for _ in range(3):
        one = trial.claim_one()
        assert one.due == START + 10
        trial.finish(one, "retrying", retry_seconds=100.0)
        assert trial.show(run_id).due == trial.now + 100
        trial.advance(100)
    trial.finish(trial.claim_one(), "failed")
    trial.redrive(run_id)
    assert trial.claim_one().due == trial.now


def test_a_retry_without_a_pause_comes_with_the_next_look_of_the_reaper(trial: Trial):
    trial.works()
    trial.accept()
    trial.finish(trial.claim_one(), "retrying")
    trial.reap()
    assert trial.claim_one().attempt == 2


def test_a_run_that_succeeds_after_a_retry_shows_no_failure(trial: Trial):
    trial.works()
    run_id = trial.accept()
    trial.finish(trial.claim_one(), "retrying")
    trial.reap()
    trial.finish(trial.claim_one(), result=b"")
    view = trial.show(run_id)
    assert (view.state, view.result, view.failure) == ("succeeded", None, None)


def test_the_attempt_that_succeeded_shows_its_token(trial: Trial):
    trial.works("w", "token")
    trial.accept("token")
    claimed = trial.claim_one()
    trial.finish(claimed)
    assert [one.token for one in trial.show(claimed.id).attempts] == [claimed.token]


def test_the_last_twenty_attempts_are_shown(trial: Trial):
    trial.works()
    run_id = trial.accept()
    for _ in range(25):
        trial.finish(trial.claim_one(), "retrying")
        trial.reap()
    assert [a.attempt for a in trial.show(run_id).attempts] == list(range(6, 26))


def test_an_end_without_the_runs_token_is_refused(trial: Trial):
    trial.works()
    run_id = trial.accept()
    first = trial.claim_one()
    trial.lose(first)
    trial.works()
    second = trial.claim_one()
    assert not trial.finish(first, result=b"1")
    assert trial.state(run_id) == "running"
    assert trial.finish(second, result=b"2")
    assert not trial.finish(second, result=b"3")
    assert not trial.finish(first, "failed")
    assert bytes(trial.show(run_id).result or b"") == b"2"


def test_a_token_of_a_former_run_of_that_id_is_refused(trial: Trial):
    trial.works()
    for _ in range(3):
        trial.accept(id="again")
        old = trial.claim_one()
        trial.cancel("again")
        trial.finish(old)
        trial.purge("again")
    trial.accept(id="again")
    new = trial.claim_one()
    assert not trial.finish(old)
    assert trial.beat(old).lost == ("again",)
    assert trial.release(old) == 0
    assert trial.finish(new)


def test_of_several_ends_in_one_call_each_is_judged_by_itself(trial: Trial):
    from runtime.ledger.calls import do
    from runtime.ledger.records import Ending

    trial.works()
    for _ in range(2):
        trial.accept()
    one, other = trial.claim(slots=2)
    ends = [
        Ending(id=one.id, token=one.token + 1, state="succeeded"),
        Ending(id="nobody", token=1, state="succeeded"),
        Ending(id=other.id, token=other.token, state="succeeded", result=b"1"),
        Ending(id=other.id, token=other.token, state="succeeded", result=b"2"),
    ]
    assert do(trial.client, trial.ledger.finish(ends)) == [False, False, True, False]
    assert trial.state(one.id) == "running"


def test_a_run_that_has_not_begun_in_time_expires(trial: Trial):
    trial.works()
    run_id = trial.accept(due=START + 10, max_age_seconds=5.0)
    other = trial.accept()
    trial.advance(15.001)
    assert trial.claim_ids() == [other]
    view = trial.show(run_id)
    assert (view.state, view.reason) == ("failed", "expired")


def test_a_run_that_begins_at_the_last_moment_does_not_expire_later(trial: Trial):
    trial.works()
    trial.accept(max_age_seconds=5.0)
    trial.advance(5)
    trial.finish(trial.claim_one(), "retrying", retry_seconds=60.0)
    trial.advance(60)
    trial.works()
    assert trial.claim_one().attempt == 2


def test_expired_runs_do_not_take_the_slots_of_others(trial: Trial):
    trial.works()
    for _ in range(30):
        trial.accept(max_age_seconds=1.0)
    fresh = [trial.accept() for _ in range(3)]
    trial.advance(2)
    assert trial.claim_ids(slots=2) == fresh[:2]


@pytest.mark.parametrize("where", ["scheduled", "queued", "retrying", "parked"])
def test_a_waiting_run_is_cancelled_at_once(trial: Trial, where: str):
    trial.works()
    run_id = trial.accept("other" if where == "parked" else "f", due=START + 9 if where == "scheduled" else None)
    if where == "retrying":
        trial.finish(trial.claim_one(), "retrying", retry_seconds=9.0)
    if where == "parked":
        assert trial.claim() == []
        assert trial.queue().unknown == 1
    assert trial.cancel(run_id) == "cancelled"
    assert (trial.state(run_id), trial.show(run_id).reason) == ("cancelled", "cancelled")
    trial.works("all", "f", "g", "other")
    trial.advance(20)
    assert trial.claim("all") == []
    assert trial.cancel(run_id) == "finished"


def test_a_running_run_hears_of_its_cancelling_at_its_next_beat(trial: Trial):
    trial.works()
    run_id = trial.accept()
    one = trial.claim_one()
    assert trial.beat(one).cancelled == ()
    assert trial.cancel(run_id) == "cancelling"
    assert (trial.state(run_id), trial.show(run_id).cancelling) == ("running", True)
    assert trial.beat(one).cancelled == (run_id,)


@pytest.mark.parametrize("state", ["succeeded", "failed", "retrying", "cancelled"])
def test_whatever_a_cancelled_run_ends_with_it_is_cancelled(trial: Trial, state: str):
    trial.works()
    run_id = trial.accept()
    one = trial.claim_one()
    trial.cancel(run_id)
    assert trial.finish(one, state)
    view = trial.show(run_id)
    assert (view.state, view.reason, view.cancelling, view.result) == ("cancelled", "cancelled", False, None)
    assert trial.reap() == 0


def test_a_cancelled_run_whose_worker_dies_or_hands_it_back_is_cancelled(trial: Trial):
    trial.works()
    for _ in range(2):
        trial.accept()
    one, other = trial.claim(slots=2)
    trial.cancel(one.id)
    trial.cancel(other.id)
    assert trial.release(one) == 0
    trial.lose(other)
    assert (trial.state(one.id), trial.state(other.id)) == ("cancelled", "cancelled")


def test_nobody_cancels_what_is_not_there(trial: Trial):
    assert trial.cancel("nobody") == "unknown"


def test_an_id_is_accepted_once(trial: Trial):
    trial.works()
    assert trial.offer(id="x", payload=b'{"n": 1}') == Accepted("x")
    assert trial.offer(id="x", payload=b'{"n": 2}') == Accepted("x", "known")
    one = trial.claim_one()
    assert one.payload == b'{"n": 1}'
    trial.finish(one)
    assert trial.offer(id="x") == Accepted("x", "known")
    assert trial.claim() == []


def test_in_one_call_an_id_is_accepted_once_too(trial: Trial):
    found = trial.accept_many([Submission(id=name, function="f") for name in ("a", "b", "a")])
    assert [one.verdict for one in found] == ["accepted", "accepted", "known"]


def test_of_runs_that_say_the_same_the_first_is_accepted_within_the_window(trial: Trial):
    trial.works()
    first = trial.accept(dedupe="order 1", dedupe_seconds=60.0)
    assert trial.offer(dedupe="order 1", dedupe_seconds=60.0) == Accepted(first, "known")
    trial.finish(trial.claim_one())
    trial.now += 59.999
    assert trial.offer(dedupe="order 1", dedupe_seconds=60.0) == Accepted(first, "known")
    trial.now += 0.001
    second = trial.accept(dedupe="order 1", dedupe_seconds=60.0)
    assert trial.offer(dedupe="order 1", dedupe_seconds=60.0) == Accepted(second, "known")


def test_what_is_deduplicated_is_a_functions_own(trial: Trial):
    trial.accept("a", dedupe="b:c")
    trial.accept("a:b", dedupe="c")
    trial.accept("a", dedupe="c")
    assert trial.offer("a:b", dedupe="c").verdict == "known"


def test_a_window_ends_by_the_ledgers_clock_and_not_sooner(trial: Trial):
    trial.accept(dedupe="x", dedupe_seconds=0.001)
    key = next(trial.client.scan_iter(match=trial.key("dedupe:*")))
    assert trial.client.pttl(key) > 60_000


def test_a_refused_run_does_not_deduplicate(trial: Trial):
    trial.accept(max_length=1)
    assert trial.offer(max_length=1, dedupe="x").verdict == "full"
    trial.accept(max_length=2, dedupe="x")


def test_a_full_queue_refuses_and_counts_every_open_run(trial: Trial):
    trial.works()
    trial.accept("unknown", id="parked")
    trial.accept(id="running")
    trial.accept(id="retrying")
    one, other = trial.claim(slots=2)
    trial.finish(other, "retrying", retry_seconds=99.0)
    trial.accept(id="later", due=START + 99)
    trial.accept(id="ready")
    assert trial.offer(id="refused", max_length=5) == Accepted("refused", "full")
    assert trial.find("refused") is None
    trial.accept(queue="another", max_length=5)
    trial.finish(one)
    trial.accept(max_length=5)


def test_a_paused_queue_keeps_what_it_has_until_it_is_resumed(trial: Trial):
    trial.works()
    run_id = trial.accept()
    assert trial.pause()
    assert not trial.pause()
    assert trial.queue().paused
    assert trial.claim() == []
    trial.accept(queue="other")
    assert len(trial.claim("w", "default", "other", slots=5)) == 1
    assert trial.pause(paused=False)
    assert not trial.pause(paused=False)
    assert trial.claim_ids() == [run_id]


def test_parked_runs_of_a_paused_queue_wait_too(trial: Trial):
    trial.works("g", "g")
    trial.accept("f")
    trial.claim("g")
    trial.pause()
    trial.works("f", "f")
    assert trial.claim("f") == []
    trial.pause(paused=False)
    assert len(trial.claim("f")) == 1


@pytest.mark.parametrize("payload", [b'{"x": "\xff\xfe"}', b"", b"\x00\x01\r\n", b'{"x": 1, "x": 1e999}'])
def test_a_redriven_run_has_the_bytes_it_had(trial: Trial, payload: bytes):
    trial.works()
    run_id = trial.accept(payload=payload, priority=8, max_age_seconds=5.0)
    one = trial.claim_one()
    assert one.payload == payload
    trial.finish(one, "failed", reason="bad arguments", progress=b"1")
    trial.now += 1000
    assert trial.redrive(run_id) == "queued"
    view = trial.show(run_id)
    assert (view.state, view.reason, view.failures, view.redriven, view.failure) == ("queued", None, 0, 1, None)
    assert (view.due, view.expires, view.progress) == (trial.now, None, None)
    trial.works()
    again = trial.claim_one()
    assert (again.payload, again.attempt, again.priority) == (payload, 1, 8)
    assert not trial.finish(one)
    assert trial.finish(again)


def test_only_what_ended_badly_is_redriven(trial: Trial):
    trial.works()
    run_id = trial.accept()
    assert trial.redrive("nobody") == "unknown"
    assert trial.redrive(run_id) == "open"
    one = trial.claim_one()
    assert trial.redrive(run_id) == "open"
    trial.finish(one)
    assert trial.redrive(run_id) == "succeeded"
    other = trial.accept()
    trial.cancel(other)
    assert trial.redrive(other) == "queued"
    assert trial.claim_ids() == [other]


def test_finished_runs_are_purged_and_leave_nothing(trial: Trial):
    trial.works()
    runs = [trial.accept(payload=b'{"x": 1}') for _ in range(3)]
    assert trial.purge(runs[0]) == "open"
    one, other, _ = trial.claim(slots=3)
    assert trial.purge(runs[0]) == "open"
    trial.finish(one, progress=b"1")
    trial.finish(other, "failed")
    assert [trial.purge(run_id) for run_id in runs] == ["purged", "purged", "open"]
    assert trial.purge(runs[0]) == "unknown"
    assert trial.list_ids() == runs[2:]
    assert list(trial.client.scan_iter(match=f"*{runs[0]}")) == []
    trial.accept(id=runs[0])
