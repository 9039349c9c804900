"""Leases and workers: what is lost, handed back, and what waits for a worker that knows it."""

import pytest
from redis.exceptions import ResponseError

from runtime.ledger.calls import do
from runtime.ledger.records import Ending, Lost, Submission
from runtime.ledger.views import Contact
from tests.ledger.trial import START, Trial

PATIENCE_SECONDS = 600.0


def test_a_beat_keeps_a_lease(trial: Trial):
    trial.works()
    trial.accept()
    one = trial.claim_one()
    for _ in range(10):
        trial.now += 9
        assert trial.beat(one, progress=b"0.5").lost == ()
        assert trial.reap() == 0
    assert bytes(trial.show(one.id).progress or b"") == b"0.5"
    assert trial.finish(one)


def test_a_late_beat_keeps_a_lease_that_nobody_took(trial: Trial):
    trial.works()
    trial.accept()
    one = trial.claim_one()
    trial.now += 60
    assert trial.beat(one).lost == ()
    assert trial.reap() == 0
    assert trial.finish(one)


def test_a_lost_lease_is_a_crash_and_first_in_line_again(trial: Trial):
    trial.works()
    lost = trial.accept(priority=5)
    one = trial.claim_one()
    trial.accept(priority=5)
    urgent = trial.accept(priority=6)
    trial.lose(one)
    assert (trial.state(lost), trial.show(lost).crashes, trial.show(lost).failures) == ("queued", 1, 0)
    assert trial.beat(one).lost == (lost,)
    assert trial.claim_one().id == urgent
    again = trial.claim_one()
    assert (again.id, again.crashes, again.attempt) == (lost, 1, 1)
    (attempt,) = trial.show(lost).attempts
    assert (attempt.state, attempt.token, attempt.worker, attempt.began) == ("crashed", one.token, "w", START)


def test_who_takes_back_what_is_lost_is_told_of_each_attempt(trial: Trial):
    told: list[Lost] = []
    trial.works()
    goes_on, cancelled = trial.accept(trigger="cron"), trial.accept()
    assert {one.id for one in trial.claim(slots=2)} == {goes_on, cancelled}
    trial.cancel(cancelled)
    trial.now += 11
    assert [do(trial.client, trial.ledger.reap(told.extend)) for _ in range(2)] == [2, 0]
    assert sorted(told, key=lambda one: one.goes_on) == [
        Lost(function="f", trigger="submit", seconds=11.0, goes_on=False),
        Lost(function="f", trigger="cron", seconds=11.0, goes_on=True),
    ]


def test_who_was_not_answered_for_long_takes_no_leases(trial: Trial):
    """Its call may have been read before the beats of living workers, of the same time: the store stood still."""
    contact = Contact()

    def reap() -> int:
        return do(trial.client, trial.ledger.reap(contact=contact))

    trial.works()
    trial.accept()
    one, later = trial.claim_one(), trial.accept(due=START + 8)
    assert (reap(), contact.at) == (0, trial.now * 1000)
    trial.now += 11
    assert (reap(), contact.at) == (1, trial.now * 1000), "what is due is moved all the same"
    assert (trial.state(one.id), trial.state(later)) == ("running", "queued")
    trial.beat(one)
    trial.now += 4
    assert reap() == 0
    trial.now += 4
    assert reap() == 0
    trial.now += 4
    assert (reap(), trial.state(one.id)) == (1, "queued")


def test_thousands_may_be_lost_at_once_in_many_queues(trial: Trial):
    told: list[Lost] = []
    trial.works()
    queues = [f"q{number}" for number in range(21)]
    trial.accept_many(
        Submission(id=f"{queue}-{number}", function="f", queue=queue, payload=b"{}")
        for queue in queues
        for number in range(100)
    )
    assert len(trial.claim("w", *queues, slots=2100)) == 2100
    trial.now += 11
    assert do(trial.client, trial.ledger.reap(told.extend)) == len(told) == 2100


def test_an_ending_that_cannot_be_written_holds_up_no_other(trial: Trial):
    trial.works()
    bad, good = trial.accept(), trial.accept()
    trial.client.set(trial.key(f"log:{bad}"), "no list")
    endings = [
        Ending(id=one.id, token=one.token, state="failed", attempt=1, reason="error", began=START, ended=START)
        for one in trial.claim(slots=2)
    ]
    with pytest.raises(ResponseError):
        do(trial.client, trial.ledger.finish(endings))
    assert trial.state(good) == "failed"
    trial.client.delete(trial.key(f"log:{bad}"))
    trial.advance(0.1)
    assert (trial.claim_one().id, trial.show(bad).crashes) == (bad, 1)


def test_three_crashes_alone_after_the_first_end_a_run(trial: Trial):
    trial.works()
    run_id = trial.accept()
    trial.works()
    trial.lose(trial.claim_one())
    for crashes in range(1, 4):
        trial.works()
        one = trial.claim_one()
        assert (one.crashes, one.crashes_alone) == (crashes, crashes - 1)
        assert trial.finish(one, "crashed", retry_seconds=5.0)
        assert crashes == 3 or (trial.state(run_id), trial.advance(4.9)) == ("retrying", None)
        trial.advance(0.2)
    view = trial.show(run_id)
    assert (view.state, view.reason, view.crashes, view.failures) == ("failed", "crashed", 4, 0)
    assert view.failure is not None
    assert (view.failure.type, view.failure.message) == ("Crashed", "the process that ran it died 4 times")
    assert trial.list_ids(states=["failed"]) == [run_id]
    assert trial.redrive(run_id) == "queued"
    trial.works()
    assert trial.claim_one().crashes == 0


def test_three_crashes_end_a_run_that_was_alone_from_the_first_on(trial: Trial):
    trial.works()
    run_id = trial.accept()
    for crashes in range(3):
        one = trial.claim_one()
        assert (one.crashes, one.crashes_alone) == (crashes, crashes)
        assert trial.finish(one, "crashed")
        trial.reap()
    view = trial.show(run_id)
    assert (view.state, view.reason, view.crashes, view.failures) == ("failed", "crashed", 3, 0)


def test_a_run_that_its_worker_blames_for_its_own_end_is_alone_from_then_on(trial: Trial):
    trial.works()
    run_id = trial.accept()
    assert trial.finish(trial.claim_one(), "lost")
    trial.reap()
    one = trial.claim_one()
    assert (one.crashes, one.crashes_alone) == (1, 0)
    assert [attempt.state for attempt in trial.show(run_id).attempts] == ["crashed"]


def test_a_run_that_was_alone_is_not_told_off_for_a_worker_that_died_unless_they_die_again_and_again(trial: Trial):
    trial.works()
    run_id = trial.accept()
    for _ in range(21):
        assert trial.state(run_id) == "queued"
        trial.works()
        trial.lose(trial.claim_one())
    assert (trial.state(run_id), trial.show(run_id).crashes) == ("queued", 1)
    trial.works()
    trial.lose(trial.claim_one())
    view = trial.show(run_id)
    assert (view.state, view.reason, view.crashes, view.failures) == ("failed", "crashed", 1, 0)
    assert view.failure is not None
    assert view.failure.message == "the process that ran it died 1 times, and its worker 21 times"
    trial.redrive(run_id)
    trial.works()
    trial.lose(trial.claim_one())
    assert (trial.state(run_id), trial.show(run_id).crashes) == ("queued", 1)


def test_what_a_worker_was_given_and_does_not_hold_is_handed_back(trial: Trial):
    trial.works()
    ids = [trial.accept() for _ in range(4)]
    trial.works(worker="another")
    mine = [trial.claim_one() for _ in range(3)]
    others = trial.claim_one(worker="another")
    trial.cancel(mine[2].id)
    assert trial.disown(mine[0]) == 1
    assert [trial.state(run_id) for run_id in ids] == ["running", "queued", "cancelled", "running"]
    assert not trial.finish(mine[1])
    again = trial.claim_one()
    assert (again.id, again.crashes, again.attempt) == (ids[1], 0, 1)
    assert trial.disown(mine[0], again) == 0
    assert all(trial.finish(one) for one in (mine[0], others, again))


def test_crashes_spend_no_retries_and_retries_no_crashes(trial: Trial):
    trial.works()
    run_id = trial.accept()
    trial.lose(trial.claim_one())
    trial.works()
    trial.finish(trial.claim_one(), "retrying")
    trial.reap()
    one = trial.claim_one()
    assert (one.crashes, one.failures, one.attempt) == (1, 1, 2)
    trial.finish(one)
    assert [a.state for a in trial.show(run_id).attempts] == ["crashed", "retrying", "succeeded"]


def test_what_is_handed_back_counts_nothing_and_is_first_in_line(trial: Trial):
    trial.works()
    run_id = trial.accept()
    one = trial.claim_one()
    trial.accept()
    assert trial.release(one) == 1
    view = trial.show(run_id)
    assert (view.state, view.failures, view.crashes, view.attempts) == ("queued", 0, 0, ())
    assert trial.beat(one).lost == (run_id,)
    assert not trial.finish(one)
    assert trial.release(one) == 0
    again = trial.claim_one()
    assert (again.id, again.attempt, again.crashes) == (run_id, 1, 0)
    assert again.token > one.token
    assert not trial.finish(one)
    assert trial.release(one) == 0
    assert trial.finish(again)


def test_a_run_that_was_handed_back_after_it_began_does_not_expire(trial: Trial):
    trial.works()
    run_id = trial.accept(max_age_seconds=5.0)
    one = trial.claim_one()
    trial.now += 6
    trial.release(one)
    assert trial.claim_ids() == [run_id]


def test_a_worker_that_is_not_registered_is_told_so(trial: Trial):
    claim = trial.ledger.claim("w", ["default"], 1)
    assert do(trial.client, claim) is None
    trial.works()
    assert do(trial.client, claim) == []
    trial.now += trial.ledger.stays_seconds
    assert do(trial.client, trial.ledger.claim("w", ["default"], 1)) is None
    trial.works()
    do(trial.client, trial.ledger.leave("w"))
    assert do(trial.client, trial.ledger.claim("w", ["default"], 1)) is None
    trial.keep_alive()
    assert do(trial.client, trial.ledger.claim("w", ["default"], 1)) is None


def test_a_worker_without_functions_is_a_worker(trial: Trial):
    do(trial.client, trial.ledger.register("w", {}, {}))
    trial.accept()
    assert trial.claim() == []
    assert trial.queue().unknown == 1


def test_beats_keep_a_worker_registered(trial: Trial):
    trial.works()
    for _ in range(5):
        trial.advance(trial.ledger.stays_seconds - 1)
        trial.keep_alive()
    assert trial.claim() == []
    info = trial.key("info:w")
    assert trial.client.pttl(info) > trial.ledger.stays_seconds * 1000


def test_a_worker_that_was_frozen_has_to_register_again(trial: Trial):
    trial.works()
    trial.advance(trial.ledger.stays_seconds * 2)
    trial.keep_alive()
    assert do(trial.client, trial.ledger.claim("w", ["default"], 1)) is None


def test_a_run_that_a_worker_does_not_know_waits_for_one_that_does(trial: Trial):
    trial.works("g", "g")
    run_id = trial.accept("f")
    assert trial.claim("g") == []
    assert (trial.state(run_id), trial.queue().unknown, trial.queue().ready) == ("queued", 1, 0)
    trial.works("f", "f")
    one = trial.claim_one("f")
    assert one.id == run_id
    assert trial.queue().unknown == 0


def test_parked_runs_keep_their_place_among_the_others(trial: Trial):
    trial.works("g", "g")
    trial.works("fg", "f", "g")
    for run_id, function, priority in [("1", "f", 5), ("2", "f", 9), ("3", "g", 5), ("4", "f", 5)]:
        trial.accept(function, id=run_id, priority=priority)
    assert trial.claim_ids("g", slots=1) == ["3"]
    trial.accept("g", id="5")
    trial.accept("f", id="6")
    trial.accept("g", id="7", priority=6)
    assert trial.claim_ids("fg") == ["2", "7", "1", "4", "5", "6"]


def test_parked_runs_expire_when_somebody_comes_for_them(trial: Trial):
    trial.works("g", "g")
    run_id = trial.accept("f", max_age_seconds=10.0)
    trial.claim("g")
    trial.advance(11)
    trial.works("f", "f")
    assert trial.claim("f") == []
    assert trial.show(run_id).reason == "expired"


def test_workers_of_different_functions_do_not_starve_each_other(trial: Trial):
    trial.works("f", "f")
    trial.works("g", "g")
    for n in range(3000):
        trial.accept("f", id=f"f{n:04}")
    for n in range(3):
        trial.accept("g", id=f"g{n}")
    claims = 0
    found: list[str] = []
    while len(found) < 3:
        found += trial.claim_ids("g", slots=3)
        claims += 1
    assert found == ["g0", "g1", "g2"]
    assert claims <= 5
    assert trial.claim_ids("f", slots=2) == ["f0000", "f0001"]
    assert trial.claim_ids("f", slots=5000)[-1] == "f2999"


def test_a_run_that_nobody_knows_ends_after_ten_minutes(trial: Trial):
    trial.works()
    run_id = trial.accept("nobody")
    trial.claim()
    trial.advance(PATIENCE_SECONDS - 1)
    assert trial.state(run_id) == "queued"
    trial.works()
    trial.advance(1)
    view = trial.show(run_id)
    assert (view.state, view.reason) == ("failed", "unknown function")
    assert view.failure is not None
    assert view.failure.message == "no worker knows the function nobody"
    trial.works("late", "nobody")
    assert trial.claim("late") == []
    assert trial.redrive(run_id) == "queued"
    assert trial.claim_ids("late") == [run_id]


def test_where_no_worker_lives_nobody_is_unknown(trial: Trial):
    trial.works()
    run_id = trial.accept("nobody")
    trial.claim()
    trial.advance(PATIENCE_SECONDS * 3)
    assert trial.state(run_id) == "queued"
    trial.works()
    trial.advance(1)
    assert trial.state(run_id) == "queued"
    for _ in range(30):
        trial.advance(20)
        trial.keep_alive()
    assert trial.state(run_id) == "failed"


def test_what_a_living_worker_knows_is_known_however_long_it_takes(trial: Trial):
    trial.works("busy", "f")
    trial.works("other", "g")
    run_id = trial.accept("f")
    trial.claim("other")
    for _ in range(100):
        trial.advance(20)
        trial.keep_alive("busy")
        trial.keep_alive("other")
    assert trial.state(run_id) == "queued"
    do(trial.client, trial.ledger.leave("busy"))
    for _ in range(31):
        trial.advance(20)
        trial.keep_alive("other")
    assert trial.show(run_id).reason == "unknown function"


def test_the_ledger_knows_when_the_reaper_has_something_to_do(trial: Trial):
    def next_reap() -> float | None:
        return do(trial.client, trial.ledger.next_reap())

    trial.works()
    assert next_reap() is None
    trial.accept("nobody")
    assert next_reap() is None
    trial.claim()
    assert next_reap() == START + PATIENCE_SECONDS
    trial.accept("f", due=START + 60, queue="later")
    assert next_reap() == START + 60
    trial.accept("f")
    trial.claim()
    assert next_reap() == START + trial.lease_seconds
    trial.now += 0.5
    assert trial.reap() == 0
    trial.now = next_reap() or 0
    assert trial.reap() == 1


def test_functions_a_worker_has_lost_are_no_longer_its_own(trial: Trial):
    trial.works("w", "f", "g")
    trial.works("w", "g")
    trial.accept("f")
    assert trial.claim() == []


@pytest.mark.parametrize("count", [10_000])
def test_ten_thousand_runs_due_at_once_become_ready_in_order(trial: Trial, count: int):
    from runtime.ledger.records import Submission

    trial.works()
    runs = [Submission(id=f"{n:05}", function="f", due=START + 10) for n in range(count)]
    for at in range(0, count, 1000):
        trial.accept_many(runs[at : at + 1000])
    trial.now += 10
    assert trial.reap() == count
    assert trial.claim_ids(slots=count) == [run.id for run in runs]
    trial.now += 10.001
    assert trial.reap() == count
    assert trial.queue().ready == count
