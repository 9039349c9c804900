"""What is told of the ends of runs: noted by the script that ends them, taken by leases, and given up some time."""

from collections import Counter
from typing import Any

import pytest

from runtime.base.errors import SubmitError
from runtime.base.sections import CallbackSettings
from runtime.ledger.callbacks.calls import MOST_PER_HOST, find, retry, take, tell
from runtime.ledger.callbacks.records import CallbackView, Message, Told
from runtime.ledger.calls import do
from runtime.ledger.records import Submission
from runtime.ledger.submit import submit_sync
from tests.ledger.trees import chain, step
from tests.ledger.trial import START, Trial
from tests.receivers import new_secret

URL = "https://example.com/hook"
LEASE = 15.0
MANY = 510
"""More than one look sees."""


def taken(trial: Trial, most: int = 10) -> list[Message]:
    return do(trial.client, take(trial.ledger, most, LEASE))


def took(trial: Trial) -> Message:
    (one,) = taken(trial)
    return one


def told(trial: Trial, message: Message, verdict: Any = "delivered", **said: Any) -> bool:
    return do(trial.client, tell(trial.ledger, [Told(id=message.id, token=message.token, verdict=verdict, **said)]))[0]


def callback(trial: Trial, run_id: str) -> CallbackView:
    found = trial.show(run_id).callback
    assert found is not None
    return found


def ended(trial: Trial, state: str = "succeeded", **fields: Any) -> str:
    run_id = trial.accept(callback=URL)
    trial.finish(trial.claim_one(), state, **fields)
    return run_id


@pytest.fixture(autouse=True)
def _works(trial: Trial) -> None:
    trial.works()


def test_of_runs_without_a_callback_nothing_is_told(trial: Trial):
    trial.accept()
    trial.finish(trial.claim_one())
    assert taken(trial) == []
    trial.accept(callback=URL)
    trial.accept()
    assert [trial.finish(one) for one in trial.claim(slots=2)] == [True, True]
    assert len(taken(trial)) == 1


def test_the_end_of_a_run_is_told_with_all_that_is_known_of_it(trial: Trial):
    run_id = trial.accept(callback=URL, trigger="http", trace="00-1-2-01")
    assert callback(trial, run_id) == CallbackView(id="", url=URL, state="open")
    trial.now += 1
    trial.finish(trial.claim_one(), "retrying")
    assert taken(trial) == []
    trial.advance(1)
    trial.finish(trial.claim_one(), result=b'{"a":1}')
    one = took(trial)
    assert (one.run_id, one.function, one.url, one.outcome, one.reason) == (run_id, "f", URL, "succeeded", "")
    assert (one.output, one.failures, one.trigger, one.trace) == (b'{"a":1}', 1, "http", "00-1-2-01")
    assert (one.accepted, one.claimed, one.ended) == (START, START + 2, START + 2)
    assert told(trial, one, status=200)
    view = callback(trial, run_id)
    assert (view.id, view.state, view.tries, view.status, view.tried) == (one.id, "delivered", 1, 200, START + 2)
    trial.advance(100)
    assert taken(trial) == []


def test_whatever_ends_a_run_is_told(trial: Trial):
    failed = ended(trial, "failed")
    waiting = trial.accept(callback=URL)
    trial.cancel(waiting)
    expired = trial.accept(callback=URL, max_age_seconds=1.0)
    trial.advance(2)
    assert trial.claim() == []
    crashed = trial.accept(callback=URL)
    for _ in range(3):
        trial.finish(trial.claim_one(), "crashed")
        trial.advance(1)
    unknown = trial.accept("h", callback=URL)
    trial.claim()
    for _ in range(70):
        trial.keep_alive()
        trial.advance(10)
    found = {one.run_id: (one.outcome, one.reason) for one in taken(trial)}
    assert found == {
        failed: ("failed", "error"),
        waiting: ("cancelled", "cancelled"),
        expired: ("failed", "expired"),
        crashed: ("failed", "crashed"),
        unknown: ("failed", "unknown function"),
    }


def test_a_flow_is_told_of_once_and_its_steps_are_not(trial: Trial):
    flow = trial.start(chain(step("f"), step("g")), callback=URL)
    trial.finish(trial.claim_one())
    assert taken(trial) == []
    trial.finish(trial.claim_one(), result=b"[2]")
    one = took(trial)
    assert (one.run_id, one.function, one.outcome, one.output) == (flow, "flow:chain", "succeeded", b"[2]")
    cancelled = trial.start(chain(step("f"), step("g")), callback=URL)
    trial.cancel(cancelled)
    assert took(trial).outcome == "cancelled"


def test_whoever_dies_with_a_message_leaves_it_to_others(trial: Trial):
    run_id = ended(trial)
    first = took(trial)
    assert taken(trial) == []
    trial.now += LEASE + 0.001
    second = took(trial)
    assert (second.id, second.token) == (first.id, first.token + 1)
    assert not told(trial, first, "waiting", pause_seconds=5.0)
    assert not told(trial, first, "dead")
    assert callback(trial, run_id).tries == 0
    assert told(trial, first)  # it was delivered, though late
    assert not told(trial, second, "waiting")
    assert callback(trial, run_id).state == "delivered"


def test_a_message_is_tried_again_when_it_is_said(trial: Trial):
    run_id = ended(trial)
    assert told(trial, took(trial), "waiting", status=500, error="it answered 500", pause_seconds=60.0)
    view = callback(trial, run_id)
    assert (view.state, view.tries, view.status, view.error) == ("waiting", 1, 500, "it answered 500")
    assert view.next == START + 60
    trial.now += 59.999
    assert taken(trial) == []
    trial.now += 0.001
    assert took(trial).tries == 1


def test_messages_for_one_host_wait_where_it_has_enough_and_hold_up_no_other(trial: Trial):
    for url in [*["https://Slow.example.com:8443/a"] * 12, URL]:
        trial.accept(callback=url)
        trial.finish(trial.claim_one())
    found = do(trial.client, take(trial.ledger, 30, LEASE, {"slow.example.com:8443": 3}))
    assert Counter(one.url for one in found) == {"https://Slow.example.com:8443/a": MOST_PER_HOST - 3, URL: 1}
    assert do(trial.client, take(trial.ledger, 30, LEASE, {"slow.example.com:8443": MOST_PER_HOST})) == []
    assert len(taken(trial)) == 12 - (MOST_PER_HOST - 3), "as soon as it has enough no more"


def test_where_more_wait_for_one_host_than_a_look_sees_the_next_look_sees_others(trial: Trial):
    trial.accept_many(
        Submission(id=f"{n:04}", function="f", callback="https://slow.example.com/a" if n < MANY else URL)
        for n in range(MANY + 1)
    )
    while claimed := trial.claim(slots=100):
        for one in claimed:
            trial.finish(one)
    trial.now += 1
    looks = [do(trial.client, take(trial.ledger, 30, LEASE, {"slow.example.com": MOST_PER_HOST})) for _ in range(2)]
    assert [[one.url for one in found] for found in looks] == [[], [URL]]
    assert len(taken(trial)) == MOST_PER_HOST


def test_what_is_given_up_is_listed_and_can_be_tried_again(trial: Trial):
    run_id = ended(trial)
    first = took(trial)
    assert told(trial, first, "dead", error="no")
    assert callback(trial, run_id).state == "dead"
    count, (view,) = do(trial.client, find(trial.ledger, "dead", 10))
    assert (count, view.id, view.run_id, view.function, view.outcome) == (1, first.id, run_id, "f", "succeeded")
    assert do(trial.client, retry(trial.ledger, [first.id, "nobody"])) == ["waiting", "unknown"]
    again = took(trial)
    assert (again.id, again.tries, again.output) == (first.id, 0, b"1")
    assert told(trial, again)
    assert do(trial.client, retry(trial.ledger, [first.id])) == ["delivered"]
    assert do(trial.client, find(trial.ledger, "dead", 10)) == (0, [])


def test_one_that_waits_can_be_tried_at_once(trial: Trial):
    ended(trial)
    told(trial, took(trial), "waiting", pause_seconds=3600.0)
    count, (view,) = do(trial.client, find(trial.ledger, "waiting", 10))
    assert (count, view.next) == (1, START + 3600)
    assert do(trial.client, retry(trial.ledger, [view.id])) == ["waiting"]
    assert took(trial).id == view.id


def test_what_is_to_be_told_outlives_its_run(trial: Trial):
    run_id = ended(trial)
    assert trial.purge(run_id) == "purged"
    one = took(trial)
    assert (one.run_id, one.output) == (run_id, b"1")


def test_a_run_that_is_redriven_is_told_of_again_under_another_id(trial: Trial):
    run_id = ended(trial, "failed")
    assert trial.redrive(run_id) == "queued"
    assert callback(trial, run_id).state == "open"
    trial.now += 1
    trial.finish(trial.claim_one())
    first, second = taken(trial)
    assert [first.outcome, second.outcome] == ["failed", "succeeded"]
    assert first.id != second.id
    assert callback(trial, run_id).id == second.id


def test_a_long_result_is_not_told_but_that_there_is_one(trial: Trial):
    result = b'"' + b"x" * 300_000 + b'"'
    ended(trial, result=result)
    one = took(trial)
    assert (one.output, one.long) == (b"", len(result))


def test_given_up_ones_are_forgotten_with_their_time(trial: Trial):
    ended(trial)
    told(trial, took(trial), "dead")
    trial.now += trial.keeping.failures_seconds + 1
    ended(trial)
    told(trial, took(trial), "dead")
    assert do(trial.client, find(trial.ledger, "dead", 10))[0] == 1


def test_submit_says_at_once_what_cannot_be(trial: Trial, desk):
    secrets = (new_secret(),)
    for settings, url, words in (
        (CallbackSettings(), URL, r"\[callbacks\] secrets names none"),
        (CallbackSettings(secrets=secrets), "http://10.0.0.1/", "no public address"),
        (CallbackSettings(secrets=secrets), "ftp://example.com/", "begins with"),
        (CallbackSettings(secrets=secrets, allow=("*.example.com",)), "https://example.org/", "not among"),
    ):
        desk.settings = type(desk.settings)(callbacks=settings)
        with pytest.raises(SubmitError, match=words):
            submit_sync.using(callback=url)("f")
    desk.settings = type(desk.settings)(callbacks=CallbackSettings(secrets=secrets, allow=("*.EXAMPLE.com",)))
    run = submit_sync.using(callback="https://a.example.com/")("f")
    assert callback(trial, run.id).url == "https://a.example.com/"
