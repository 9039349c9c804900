"""Keys that calls and runs have in common, in the store: who goes on, what the others are told, what a kill leaves."""

import msgspec
import pytest

from runtime.ledger.calls import do
from runtime.ledger.ledger import packed
from runtime.ledger.once import WINDOW_SECONDS, Found, _read_found, take_by_run
from runtime.ledger.records import Claimed, Submission
from tests.ledger.trial import Trial

KEY = "d" * 64
LEASE_SECONDS = 10.0


@pytest.fixture
def keys(trial: Trial) -> "Keys":
    trial.works()
    return Keys(trial)


class Keys:
    """What calls and workers ask of the ledger about KEY."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def ask(self, name: str, *arguments) -> Found:
        return do(self.trial.client, self.trial.ledger.call(name, arguments, _read_found))

    def take(self, call_id: str, request: str = "a") -> Found:
        return self.ask("once_take", KEY, request, "call", call_id, round(LEASE_SECONDS * 1000))

    def take_by_run(self, run: Claimed) -> Found:
        return do(self.trial.client, take_by_run(self.trial.ledger, KEY, run))

    def beat(self, call_id: str) -> bool:
        call = self.trial.ledger.call("once_beat", (round(LEASE_SECONDS * 1000), KEY, call_id), list)
        return do(self.trial.client, call) == [1]

    def end(self, call_id: str, **kept: str) -> bool:
        seconds = WINDOW_SECONDS if kept else 0
        arguments = [part for pair in kept.items() for part in pair]
        call = self.trial.ledger.call("once_end", (KEY, call_id, round(seconds * 1000), *arguments), bool)
        return do(self.trial.client, call)

    def accept(self, run_id: str, request: str = "a", **said) -> Found:
        run = Submission(id=run_id, function="f", **said)
        return self.ask("once_accept", KEY, request, round(WINDOW_SECONDS * 1000), packed(run))

    def claimed(self, **said) -> Claimed:
        self.trial.accept(**said)
        return self.trial.claim_one()


def test_one_call_goes_on_and_the_others_hear_how_it_ended(keys: Keys):
    assert keys.take("one").verdict == "mine"
    assert keys.take("two").verdict == "held"
    assert keys.take("two", "b").verdict == "other"
    assert keys.end("one", answer="201")
    assert keys.take("two") == Found(verdict="kept", answer=b"201")
    assert keys.take("two", "b").verdict == "other"


def test_an_answer_that_was_lost_may_be_asked_for_again(keys: Keys):
    assert [keys.take("one").verdict for _ in range(2)] == ["mine", "mine"]
    assert [keys.end("one", answer="201") for _ in range(2)] == [True, True]
    assert keys.take("two").answer == b"201"


def test_a_call_that_is_released_lets_the_next_one_go_on(keys: Keys):
    assert keys.take("one").verdict == "mine"
    assert keys.end("one")
    assert keys.take("two", "b").verdict == "mine"


def test_a_call_whose_process_is_killed_is_carried_out_by_the_next(keys: Keys):
    assert keys.take("one").verdict == "mine"
    keys.trial.now += LEASE_SECONDS - 1
    assert keys.beat("one")
    keys.trial.now += LEASE_SECONDS - 1
    assert keys.take("two").verdict == "held"
    keys.trial.now += 2
    assert keys.take("two").verdict == "mine"
    assert not keys.beat("one")
    assert not keys.end("one", answer="late")
    assert not keys.end("one")
    assert keys.end("two", answer="first")
    assert keys.take("three").answer == b"first"


def test_a_lease_that_is_over_is_renewed_if_nobody_has_come(keys: Keys):
    keys.take("one")
    keys.trial.now += LEASE_SECONDS * 5
    assert keys.beat("one")
    assert keys.take("two").verdict == "held"
    assert keys.end("one", answer="201")


def test_an_outcome_is_kept_for_a_day(keys: Keys):
    keys.take("one")
    keys.end("one", answer="201")
    keys.trial.now += WINDOW_SECONDS - 1
    assert keys.take("two", "a").verdict == "kept"
    keys.trial.now += 1
    assert keys.take("two", "b").verdict == "mine"


def test_a_run_holds_its_key_until_it_has_ended(keys: Keys):
    first, second = keys.claimed(), keys.claimed()
    assert keys.take_by_run(first).verdict == "mine"
    assert [keys.take_by_run(second).waits for _ in range(3)] == [1, 2, 3]
    assert keys.take("call", "").verdict == "held"
    assert keys.trial.finish(second, "waiting", retry_seconds=2)
    waiting = keys.trial.show(second.id)
    assert (waiting.state, waiting.failures, waiting.attempts) == ("scheduled", 0, ())
    assert keys.trial.finish(first, result=b"[1]")
    assert keys.take("call", "") == Found(verdict="kept", result=b"[1]")
    keys.trial.advance(2)
    assert keys.take_by_run(keys.trial.claim_one()) == Found(verdict="kept", result=b"[1]")


def test_a_run_keeps_its_key_over_retries_crashes_and_hand_backs(keys: Keys):
    run = keys.claimed()
    assert keys.take_by_run(run).verdict == "mine"
    keys.trial.finish(run, "retrying", retry_seconds=1)
    assert keys.take("call", "").verdict == "held"
    keys.trial.advance(1)
    again = keys.trial.claim_one()
    assert keys.take_by_run(run).verdict == "lost"
    assert keys.take_by_run(again).verdict == "mine"
    keys.trial.lose(again)
    assert keys.take("call", "").verdict == "held"
    again = keys.trial.claim_one()
    assert keys.take_by_run(again).verdict == "mine"
    keys.trial.release(again)
    assert keys.take("call", "").verdict == "held"
    assert keys.trial.finish(keys.trial.claim_one())
    assert keys.take("call", "").result == b"1"


@pytest.mark.parametrize("end", ["failed", "cancelled", "given up", "purged"])
def test_the_next_one_goes_on_when_a_run_failed_for_good(keys: Keys, end: str):
    run = keys.claimed()
    keys.take_by_run(run)
    if end == "cancelled":
        keys.trial.cancel(run.id)
        assert keys.take("call", "").verdict == "held"
    if end == "given up":
        for _ in range(30):
            keys.trial.lose(run)
            if keys.trial.state(run.id) == "failed":
                break
            run = keys.trial.claim_one()
    else:
        keys.trial.finish(run, "failed")
    if end == "purged":
        keys.trial.purge(run.id)
    assert keys.take_by_run(keys.claimed()).verdict == "mine"


def test_a_run_that_is_redriven_asks_again(keys: Keys):
    run = keys.claimed()
    keys.take_by_run(run)
    keys.trial.finish(run, "failed")
    other = keys.claimed()
    assert keys.take_by_run(other).verdict == "mine"
    keys.trial.redrive(run.id)
    again = keys.trial.claim_one()
    assert keys.take_by_run(again).verdict == "held"
    keys.trial.finish(again, result=b"7")
    assert keys.take_by_run(keys.claimed()).verdict == "held"
    keys.trial.finish(other, result=b"8")
    assert keys.take("call", "").result == b"8"


def test_a_run_that_waits_may_be_cancelled(keys: Keys):
    assert keys.take("call", "").verdict == "mine"
    run = keys.claimed()
    assert keys.take_by_run(run).verdict == "held"
    keys.trial.finish(run, "waiting", retry_seconds=1)
    assert keys.trial.cancel(run.id) == "cancelled"


def test_a_call_that_is_a_run_is_accepted_once(keys: Keys):
    assert keys.accept("r1") == Found(verdict="accepted", run_id="r1")
    assert keys.accept("r2") == Found(verdict="run", run_id="r1")
    assert keys.accept("r2", "b").verdict == "other"
    assert keys.take("call") == Found(verdict="run", run_id="r1")
    assert keys.trial.list_ids() == ["r1"]
    keys.trial.finish(keys.trial.claim_one())
    assert keys.accept("r3") == Found(verdict="run", run_id="r1")
    keys.trial.now += WINDOW_SECONDS
    assert keys.accept("r3").verdict == "accepted"


def test_a_full_queue_leaves_the_key_free(keys: Keys):
    keys.trial.accept()
    assert keys.accept("r1", max_length=1).verdict == "full"
    assert keys.take("call").verdict == "mine"


def test_what_a_call_kept_is_told_to_who_wants_a_run(keys: Keys):
    keys.take("call")
    assert keys.accept("r1").verdict == "held"
    keys.end("call", answer="201", result="1")
    assert keys.accept("r1") == Found(verdict="kept", answer=b"201", result=b"1")
    assert keys.trial.list_ids() == []


def test_a_plain_run_does_not_touch_keys(keys: Keys):
    run = keys.claimed(payload=msgspec.json.encode({}))
    keys.trial.finish(run)
    assert list(keys.trial.client.scan_iter(f"{keys.trial.namespace}:once:*")) == []
