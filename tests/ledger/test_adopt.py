"""Messages of Celery's own clients become runs, each in one step with its leaving the client's list."""

from hashlib import sha1

import pytest

from runtime.ledger.calls import do
from runtime.ledger.records import Adoption, Failure, Foreign, Submission
from tests.ledger.trial import START, Trial

BAD = Failure(type="BadMessage", message="no")


def push(trial: Trial, *messages: bytes, key: str = "orders") -> None:
    """As kombu does it: the oldest is the last of the list."""
    for message in messages:
        trial.client.lpush(key, message)


def waits(trial: Trial, key: str = "orders") -> list[bytes]:
    """Oldest first."""
    return trial.client.lrange(key, 0, -1)[::-1]


def peek(trial: Trial, *keys: str, longest: int = 1000) -> list[Foreign]:
    return do(trial.client, trial.ledger.peek(keys or ("orders",), longest))


def adoption(message: bytes, run_id: str, *, key: str = "orders", **fields) -> Adoption:
    said = {name: fields.pop(name) for name in ("expires", "refused") if name in fields}
    run = Submission(id=run_id, function="f", queue="orders", trigger="celery", **fields)
    return Adoption(key=key, digest=sha1(message).hexdigest(), run=run, **said)


def adopt(trial: Trial, *messages: Adoption) -> list[str]:
    return do(trial.client, trial.ledger.adopt(messages))


@pytest.fixture(autouse=True)
def nothing_is_left(trial: Trial):
    trial.works()
    yield
    for key in ("orders", "others"):
        trial.client.delete(key)


def test_a_look_takes_nothing_and_shows_the_oldest_first(trial):
    push(trial, b"1", b"2", b"3")
    assert [one.content for one in peek(trial)] == [b"1", b"2", b"3"]
    assert waits(trial) == [b"1", b"2", b"3"]
    assert peek(trial)[0] == Foreign("orders", b"1", 1, sha1(b"1").hexdigest())


def test_a_look_shows_some_of_each_list(trial):
    push(trial, *(b"%d" % n for n in range(300)))
    push(trial, *(b"%d" % n for n in range(300)), key="others")
    found = peek(trial, "orders", "others", "none")
    assert [one.key for one in found] == ["orders"] * 50 + ["others"] * 50


def test_a_look_leaves_out_what_is_too_long_and_what_is_no_list(trial):
    push(trial, b"x" * 3000, b"1")
    trial.client.hset("others", "a", 1)
    long, short = peek(trial, "others", "orders")
    assert (long.content, long.size, long.digest) == (b'"', 3000, sha1(b"x" * 3000).hexdigest())
    assert short.content == b"1"


def test_of_a_message_that_is_too_long_its_short_strings_are_shown(trial):
    long = b'{"body": "' + b"x" * 30_000 + b'", "headers": {"id": "a", "note": "' + b"y" * 1000 + b'"}}'
    text = b'"x" ' * 10_000
    open_end = b'{"body": "' + b"x" * 30_000
    push(trial, long, text, open_end)
    found = peek(trial)
    assert [one.size for one in found] == [len(long), len(text), len(open_end)]
    assert [one.content for one in found] == [long.replace(b"x", b""), b"", b'{"body": ""']


def test_a_look_at_much_is_short(trial):
    push(trial, *(b"x" * 900_000 for _ in range(20)))
    assert 4 <= len(peek(trial, longest=1_000_000)) < 7


def test_a_look_at_thousands_of_lists(trial):
    push(trial, b"1")
    assert len(peek(trial, *(f"none{n}" for n in range(9000)), "orders")) == 1


def test_a_message_becomes_a_run(trial):
    push(trial, b"1", b"2")
    assert adopt(trial, adoption(b"1", "a", payload=b'{"x":1}', priority=9), adoption(b"2", "b")) == ["accepted"] * 2
    assert waits(trial) == []
    view = trial.show("a")
    assert (view.function, view.queue, view.trigger, view.priority) == ("f", "orders", "celery", 9)
    assert trial.claim_one("w", "orders").payload == b'{"x":1}'


def test_a_message_that_another_worker_took_becomes_no_second_run(trial):
    push(trial, b"1", b"2")
    first, second = adoption(b"1", "a"), adoption(b"2", "b")
    assert adopt(trial, first) == ["accepted"]
    assert adopt(trial, first, second) == ["gone", "gone"]
    assert waits(trial) == [b"2"]
    assert adopt(trial, second) == ["accepted"]
    assert trial.list_ids("f") == ["b", "a"]


def test_lists_do_not_hold_each_other_up(trial):
    push(trial, b"1")
    push(trial, b"1", key="others")
    found = adopt(trial, adoption(b"0", "a"), adoption(b"1", "b", key="others"), adoption(b"1", "c"))
    assert found == ["gone", "accepted", "gone"]


def test_what_was_published_twice_runs_once(trial):
    push(trial, b"1", b"1 again")
    assert adopt(trial, adoption(b"1", "a"), adoption(b"1 again", "a")) == ["accepted", "known"]
    assert waits(trial) == []
    assert trial.claim_ids("w", "orders") == ["a"]


def test_a_full_queue_leaves_messages_where_they_are(trial):
    push(trial, b"1", b"2", b"3")
    runs = [adoption(b"%d" % n, f"r{n}", max_length=2) for n in (1, 2, 3)]
    assert adopt(trial, *runs) == ["accepted", "accepted", "full"]
    assert waits(trial) == [b"3"]
    trial.finish(trial.claim_one("w", "orders"))
    assert adopt(trial, runs[2]) == ["accepted"]


def test_what_cannot_be_run_is_a_dead_letter_with_the_message_as_it_came(trial):
    push(trial, b'{"body": 1}')
    assert adopt(trial, adoption(b'{"body": 1}', "a", refused=BAD)) == ["refused"]
    view = trial.show("a")
    assert (view.state, view.reason, view.failure.message) == ("failed", "bad message", "no")
    assert bytes(view.payload) == b'{"body": 1}'
    assert trial.claim_ids("w", "orders") == []


def test_a_refused_message_is_not_run_again(trial):
    push(trial, b'{"body": 1}')
    adopt(trial, adoption(b'{"body": 1}', "a", refused=BAD))
    assert trial.redrive("a") == "refused"
    view = trial.show("a")
    assert (view.state, view.reason, view.failure.message) == ("failed", "bad message", "no")
    assert trial.claim_ids("w", "orders") == []


def test_a_bad_message_is_refused_though_its_queue_is_full(trial):
    trial.accept(queue="orders")
    push(trial, b"1")
    assert adopt(trial, adoption(b"1", "a", refused=BAD)) == ["refused"]


def test_a_time_to_begin_and_a_time_to_begin_by(trial):
    push(trial, b"1", b"2")
    adopt(
        trial,
        adoption(b"1", "later", due=START + 60, expires=START + 90),
        adoption(b"2", "past", expires=START - 1),
    )
    assert trial.claim_ids("w", "orders") == []
    assert (trial.show("past").state, trial.show("past").reason) == ("failed", "expired")
    assert trial.show("later").state == "scheduled"
    trial.advance(61)
    assert trial.claim_ids("w", "orders") == ["later"]


def test_a_function_nobody_knows_waits_for_one_who_does(trial):
    push(trial, b"1")
    run = Submission(id="a", function="nobody", queue="orders", trigger="celery")
    adopt(trial, Adoption(key="orders", digest=sha1(b"1").hexdigest(), run=run))
    assert trial.claim_ids("w", "orders") == []
    trial.keep_alive()
    for _ in range(31):
        trial.advance(20)
        trial.keep_alive()
    assert (trial.show("a").state, trial.show("a").reason) == ("failed", "unknown function")


def test_whoever_is_told_of_failures_is_told_of_a_bad_message(trial):
    trial.works("w", "f", "told", f=("told", "default"))
    push(trial, b'{"body": 1}')
    adopt(trial, adoption(b'{"body": 1}', "a", refused=BAD))
    told = trial.claim_one()
    assert (told.id, told.function, told.trigger) == ("a-failed", "told", "on_failure")
    assert b'"reason":"bad message"' in told.payload
    assert b'"arguments":{"body": 1}' in told.payload


def test_whoever_is_told_of_failures_is_not_told_what_is_very_long(trial):
    trial.works("w", "f", "told", f=("told", "default"))
    message = b'{"body": "%s"}' % (b"x" * 2_500_000)
    push(trial, message)
    adopt(trial, adoption(message, "a", refused=BAD))
    assert b'"arguments":null' in trial.claim_one().payload
    assert bytes(trial.show("a").payload) == message
    assert trial.client.pttl(trial.key("in:a")) > 0
