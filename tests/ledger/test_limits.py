"""Limits of functions over all of a store: how many at once, how often, whose turn; breakers. Of runs and of calls."""

from collections import Counter
from itertools import count
from typing import Any

import pytest

from runtime.invoke.limits.rules import Ask, Limits, Verdict
from runtime.ledger.calls import do, script
from runtime.ledger.limits.calls import Entered, Exit, assign, enter, give_up, keep, leave
from runtime.ledger.limits.views import KeyView, views
from runtime.ledger.records import MOST_CRASHES, Claimed, Submission
from tests.ledger.trial import Trial, held

names = count(1)


class Limited:
    """A trial whose function f has limits, in runs and in calls."""

    def __init__(self, trial: Trial, **limits: Any) -> None:
        self.trial = trial
        self.limits = Limits(**limits)
        trial.limits = {"f": self.limits}
        trial.works()

    def ask(self, key: str = "", holder: str = "") -> Ask:
        return Ask(function="f", limits=self.limits, holder=holder or f"c{next(names)}", key=key)

    def enter(self, ask: Ask, within_seconds: float = 0.0) -> Entered:
        return do(self.trial.client, enter(self.trial.ledger, [(ask, within_seconds)]))[0]

    def leave(self, ask: Ask, verdict: Verdict = "good", *, stays: bool = False) -> None:
        do(self.trial.client, leave(self.trial.ledger, [Exit(ask, verdict, stays)]))

    def keep(self, *asks: Ask) -> None:
        do(self.trial.client, keep(self.trial.ledger, asks))

    def give_up(self, *asks: Ask) -> None:
        do(self.trial.client, give_up(self.trial.ledger, asks))

    def assign(self, claimed: Claimed, key: str) -> int:
        return do(self.trial.client, assign(self.trial.ledger, [(held(claimed), key)]))

    def is_in(self, ask: Ask) -> bool:
        return self.enter(ask).verdict == "in"


def test_no_more_runs_than_places_are_claimed_and_the_end_of_one_lets_the_next_begin(trial: Trial):
    Limited(trial, concurrency=2)
    ids = [trial.accept() for _ in range(5)]
    first = trial.claim(slots=10)
    assert [one.id for one in first] == ids[:2]
    assert all(one.has_place and one.key == "" for one in first)
    assert trial.claim(slots=10) == []
    assert trial.queue().limited == 3
    trial.finish(first[0])
    assert trial.claim_ids() == [ids[2]]
    trial.finish(first[1])
    assert trial.claim_ids() == [ids[3]]


def test_other_functions_of_the_queue_go_on(trial: Trial):
    Limited(trial, concurrency=1)
    ids = [trial.accept(), trial.accept(), trial.accept("g"), trial.accept()]
    assert trial.claim_ids() == [ids[0], ids[2]]


def test_each_key_has_places_of_its_own(trial: Trial):
    Limited(trial, concurrency=1, keyed=True)
    ids = [trial.accept(key=key) for key in ("a", "a", "b", "a", "c")]
    claimed = trial.claim(slots=10)
    assert [(one.id, one.key) for one in claimed] == [(ids[0], "a"), (ids[2], "b"), (ids[4], "c")]
    trial.finish(claimed[1])
    assert trial.claim_ids() == []
    trial.finish(claimed[0])
    assert trial.claim_ids() == [ids[1]]


def test_keys_take_turns_in_the_places_of_the_function_in_the_queue(trial: Trial):
    Limited(trial, keyed=True)
    for _ in range(100):
        trial.accept(key="many")
    for key in ("one", "two"):
        trial.accept(key=key)
    assert Counter(one.key for one in trial.claim(slots=6)) == {"many": 4, "one": 1, "two": 1}


def test_one_run_of_a_tenant_waits_for_one_of_each_other_not_for_all_of_theirs(trial: Trial):
    Limited(trial, concurrency=1)
    trial.limits["f"] = Limits(concurrency=1, keyed=True)
    trial.works()
    for at in range(300):
        trial.accept(key=f"k{at % 3}")
    late = trial.accept(key="late")
    assert late in trial.claim_ids(slots=4)


def test_a_run_whose_key_nobody_knew_is_assigned_one_and_keeps_its_place_in_line(trial: Trial):
    limited = Limited(trial, concurrency=1, keyed=True)
    first, second = trial.accept(max_age_seconds=5.0), trial.accept(key="a")
    claimed = trial.claim_one()
    assert (claimed.id, claimed.key, claimed.has_place) == (first, None, False)
    assert limited.assign(claimed, "a") == 1
    assert not trial.finish(claimed)
    again = trial.claim_one()
    assert (again.id, again.key, again.has_place, again.failures) == (first, "a", True, 0)
    assert trial.claim_ids() == []
    trial.finish(again)
    assert trial.claim_ids() == [second]
    assert limited.assign(claimed, "a") == 0


def test_one_that_was_assigned_a_key_may_still_expire(trial: Trial):
    limited = Limited(trial, concurrency=1, keyed=True)
    trial.accept(key="a")
    first = trial.claim_one()
    late = trial.accept(max_age_seconds=5.0)
    limited.assign(trial.claim_one(), "a")
    assert trial.claim_ids() == []
    trial.now += 6
    trial.finish(first)
    assert trial.claim_ids() == []
    assert trial.show(late).reason == "expired"


def test_a_rate_lets_its_burst_begin_and_then_one_after_the_other(trial: Trial):
    Limited(trial, every_ms=100.0, burst=3)
    ids = [trial.accept() for _ in range(6)]
    assert trial.claim_ids() == ids[:3]
    trial.advance(0.099)
    assert trial.claim_ids() == []
    trial.advance(0.001)
    assert trial.claim_ids() == [ids[3]]
    assert do(trial.client, trial.ledger.next_reap()) == pytest.approx(trial.now + 0.1)
    trial.advance(0.25)
    assert trial.claim_ids() == ids[4:]


def test_calls_and_runs_share_places(trial: Trial):
    limited = Limited(trial, concurrency=2)
    ask, other = limited.ask(), limited.ask()
    run = trial.accept()
    assert limited.is_in(ask)
    assert limited.is_in(other)
    assert limited.is_in(other)  # asked again, for the answer was lost
    assert trial.claim_ids() == []
    limited.leave(ask)
    (claimed,) = trial.claim(slots=5)
    assert claimed.id == run
    assert limited.enter(limited.ask()) == Entered("wait")


def test_a_call_that_lost_its_place_unseen_has_to_ask_for_another(trial: Trial):
    limited = Limited(trial, concurrency=1)
    ask, other = limited.ask(), limited.ask()
    assert limited.is_in(ask)
    trial.now += 10
    assert limited.is_in(ask)
    assert not limited.is_in(other)


def test_calls_that_wait_go_before_runs_and_in_the_order_they_came(trial: Trial):
    limited = Limited(trial, concurrency=1)
    a, b, c = limited.ask(), limited.ask(), limited.ask()
    assert limited.is_in(a)
    assert [limited.enter(one).verdict for one in (b, c)] == ["wait", "wait"]
    run = trial.accept()
    assert trial.claim_ids() == []
    limited.leave(a)
    assert trial.claim_ids() == []
    assert limited.enter(c).verdict == "wait"
    assert limited.is_in(b)
    limited.give_up(c)
    limited.leave(b)
    assert trial.claim_ids() == [run]


def test_a_call_that_does_not_ask_again_loses_its_turn(trial: Trial):
    limited = Limited(trial, concurrency=1)
    a, b = limited.ask(), limited.ask()
    assert limited.is_in(a)
    limited.enter(b)
    run = trial.accept()
    limited.leave(a)
    assert trial.claim_ids() == []
    trial.advance(1.0)
    assert trial.claim_ids() == [run]


def test_a_call_that_gives_up_lets_runs_begin(trial: Trial):
    limited = Limited(trial, concurrency=1)
    a, b = limited.ask(), limited.ask()
    assert limited.is_in(a)
    limited.enter(b)
    run = trial.accept()
    limited.leave(a)
    assert trial.claim_ids() == []
    limited.give_up(b)
    assert trial.claim_ids() == [run]


def test_the_place_of_a_call_whose_process_died_is_free_after_a_lease(trial: Trial):
    limited = Limited(trial, concurrency=1)
    ask, run = limited.ask(), trial.accept()
    assert limited.is_in(ask)
    assert trial.claim_ids() == []
    trial.advance(6)
    limited.keep(ask)
    trial.advance(9.9)
    assert trial.claim_ids() == []
    trial.advance(0.2)
    assert trial.claim_ids() == [run]


def test_the_place_of_a_run_whose_worker_died_is_free_with_its_lease(trial: Trial):
    Limited(trial, concurrency=1)
    first, second = trial.accept(), trial.accept()
    trial.claim_one()
    assert trial.claim_ids() == []
    trial.advance(10.1)
    assert trial.claim_ids(slots=2) == [first]
    trial.cancel(first)
    trial.advance(10.1)
    assert trial.claim_ids(slots=2) == [second]


@pytest.mark.parametrize("end", ["succeeded", "failed", "retrying", "crashed", "waiting", "release", "disown"])
def test_however_a_run_ends_its_place_is_free(trial: Trial, end: str):
    Limited(trial, concurrency=1)
    trial.accept()
    other = trial.accept()
    claimed = trial.claim_one()
    trial.claim_ids()
    if end == "release":
        trial.release(claimed)
    elif end == "disown":
        trial.disown()
    else:
        trial.finish(claimed, end, retry_seconds=60.0)
    again = trial.claim_ids(slots=1)
    assert again == [claimed.id if end in {"release", "disown"} else other]


def test_what_goes_on_of_a_run_keeps_its_place(trial: Trial):
    limited = Limited(trial, concurrency=1)
    trial.accept()
    other = trial.accept()
    claimed = trial.claim_one()
    trial.finish(claimed, "failed", stays=True)
    assert trial.claim_ids() == []
    left = limited.ask(holder=f"{claimed.id}:{claimed.token}")
    trial.advance(8)
    limited.keep(left)
    trial.advance(8)
    assert trial.claim_ids() == []
    limited.leave(left, "none")
    assert trial.claim_ids() == [other]


def test_what_goes_on_of_a_call_keeps_its_place(trial: Trial):
    limited = Limited(trial, concurrency=1)
    ask = limited.ask()
    limited.enter(ask)
    limited.leave(ask, "bad", stays=True)
    assert not limited.is_in(limited.ask())
    limited.leave(ask, "none")
    trial.advance(1.0)
    assert limited.is_in(limited.ask())


def test_a_call_reserves_the_time_it_waits_for_and_one_that_waits_too_long_takes_none(trial: Trial):
    limited = Limited(trial, every_ms=1000.0, burst=1)
    found = [limited.enter(limited.ask(), within) for within in (0.0, 5.0, 5.0, 1.0, 5.0)]
    assert found == [Entered("in"), Entered("in", 1.0), Entered("in", 2.0), Entered("late", 3.0), Entered("in", 3.0)]


def test_a_breaker_opens_after_so_many_failures_in_a_row_and_lets_one_try(trial: Trial):
    limited = Limited(trial, failures=2, reset_ms=30_000)
    ids = [trial.accept() for _ in range(6)]
    for verdict in ("bad", "good", "bad", "bad"):
        trial.finish(trial.claim_one(), "failed", verdict=verdict)
    assert limited.enter(limited.ask()) == Entered("open", 30.0)
    assert trial.claim_ids() == []
    trial.advance(30)
    (one,) = trial.claim(slots=5)
    assert one.id == ids[4]
    assert limited.enter(limited.ask()).verdict == "open"
    trial.finish(one, "failed", verdict="bad")
    assert trial.claim_ids() == []
    trial.advance(29.9)
    assert trial.claim_ids() == []
    trial.advance(0.1)
    (one,) = trial.claim(slots=5)
    trial.finish(one, verdict="good")
    assert limited.is_in(limited.ask())


def test_a_trial_that_is_lost_lets_another_one_try(trial: Trial):
    limited = Limited(trial, failures=1, reset_ms=1_000)
    ids = [trial.accept() for _ in range(3)]
    trial.finish(trial.claim_one(), "failed", verdict="bad")
    trial.advance(1)
    (one,) = trial.claim(slots=5)
    trial.release(one)
    assert trial.claim_ids() == [ids[1]]
    trial.advance(10.1)
    assert trial.claim_ids() == [ids[1]]
    trial.advance(10.1)
    ask = limited.ask()
    assert limited.is_in(ask)
    assert trial.claim_ids() == []
    trial.advance(9)
    limited.keep(ask)
    trial.advance(9)
    assert trial.claim_ids() == []
    trial.advance(2)
    assert trial.claim_ids(slots=1) == [ids[1]]


def test_all_wait_for_a_breaker_and_all_go_on_once_it_is_closed(trial: Trial):
    Limited(trial, concurrency=100, keyed=True, failures=1, reset_ms=1_000)
    for at in range(20):
        trial.accept(key=f"k{at % 7}")
    trial.finish(trial.claim_one(), "failed", verdict="bad")
    assert trial.claim_ids() == []
    trial.advance(1)
    trial.finish(trial.claim_one(), verdict="good")
    assert len(trial.claim_ids()) == 18


def test_a_cancelled_run_waits_no_more_and_holds_up_no_other(trial: Trial):
    Limited(trial, concurrency=1)
    ids = [trial.accept() for _ in range(4)]
    claimed = trial.claim_one()
    assert trial.claim_ids() == []
    assert trial.cancel(ids[1]) == "cancelled"
    trial.finish(claimed)
    assert trial.cancel(ids[2]) == "cancelled"
    assert trial.claim_ids() == [ids[3]]


def test_retries_and_redriven_runs_wait_like_others(trial: Trial):
    Limited(trial, concurrency=1, keyed=True)
    first, second = trial.accept(key="a"), trial.accept(key="a")
    trial.finish(trial.claim_one(), "retrying", retry_seconds=1.0)
    (claimed,) = trial.claim(slots=5)
    assert claimed.id == second
    trial.advance(2)
    assert trial.claim_ids() == []
    trial.finish(claimed, "failed")
    (claimed,) = trial.claim(slots=5)
    assert (claimed.id, claimed.key) == (first, "a")
    assert trial.redrive(second) == "queued"
    assert trial.claim_ids() == []
    trial.finish(claimed)
    assert trial.claim_ids() == [second]


def test_a_worker_of_old_code_bounds_nothing_and_leaves_the_others_whole(trial: Trial):
    Limited(trial, concurrency=1, keyed=True)
    for _ in range(4):
        trial.accept(key="a")
    trial.works("old", "f")
    trial.limits = {}
    trial.works("old", "f")
    assert len(trial.claim_ids()) == 1
    trial.accept(key="b")
    assert len(trial.claim_ids("old", slots=1)) == 1


def test_runs_of_a_function_nobody_knows_any_more_end(trial: Trial):
    Limited(trial, concurrency=1)
    ids = [trial.accept() for _ in range(3)]
    claimed = trial.claim_one()
    assert trial.claim_ids() == []
    trial.finish(claimed)
    trial.limits = {}
    for _ in range(3):
        trial.works("w", "other")
        trial.claim_ids()
        trial.now += 600
        trial.works("w", "other")
        trial.reap()
    assert [trial.show(one).reason for one in ids[1:]] == ["unknown function"] * 2


def test_what_is_known_of_limits_is_shown(trial: Trial):
    limited = Limited(trial, concurrency=2, keyed=True, failures=1, reset_ms=5_000)
    for _ in range(5):
        trial.accept(key="a")
    trial.accept(key="b")
    (first, *_) = trial.claim(slots=3)
    assert limited.is_in(limited.ask("b"))
    (view,) = do(trial.client, views(trial.ledger, ["f"]))
    assert (view.limits, view.waiting, view.keys, view.breaker) == (limited.limits, 3, 1, "closed")
    assert view.top == (KeyView("a", 3, 2),)
    trial.finish(first, "failed", verdict="bad")
    shown = do(trial.client, views(trial.ledger, ["f", "g"]))
    assert [(one.breaker, one.open_seconds, one.keys) for one in shown] == [("open", 5.0, 1), ("closed", 0.0, 0)]
    trial.now += 5
    assert do(trial.client, views(trial.ledger, ["f"]))[0].breaker == "half-open"


def test_places_and_callers_without_a_key_are_shown(trial: Trial):
    limited = Limited(trial, concurrency=1)
    trial.accept()
    trial.claim_one()
    limited.enter(limited.ask())
    (view,) = do(trial.client, views(trial.ledger, ["f"]))
    assert (view.held, view.callers, view.waiting) == (1, 1, 0)


def test_other_limits_hold_at_once_for_what_waits(trial: Trial):
    Limited(trial, every_ms=3_600_000.0)
    ids = [trial.accept() for _ in range(3)]
    trial.finish(trial.claim_one())
    assert trial.claim_ids() == []
    Limited(trial, every_ms=1.0, burst=10)
    trial.reap()
    assert trial.claim_ids() == []  # some calls may have reserved what is next
    trial.advance(60.01)
    assert trial.claim_ids() == ids[1:]


def test_without_limits_all_that_waits_begins(trial: Trial):
    Limited(trial, every_ms=3_600_000.0)
    ids = [trial.accept() for _ in range(3)]
    assert trial.claim_ids() == ids[:1]
    trial.limits = {}
    trial.works()
    trial.reap()
    assert trial.claim_ids() == ids[1:]


def test_a_more_urgent_run_that_waited_apart_begins_before_others_in_line(trial: Trial):
    Limited(trial, every_ms=100.0, burst=5)
    held_back = [trial.accept(priority=9) for _ in range(15)]
    assert trial.claim_ids() == held_back[:5]
    others = [trial.accept("g") for _ in range(10)]
    trial.advance(0.5)
    assert trial.claim_ids(slots=8) == held_back[5:10] + others[:3]


def test_a_thousand_keys_that_may_not_begin_hold_up_no_others(trial: Trial):
    Limited(trial, concurrency=1, keyed=True)
    for at in range(3):
        trial.accept_many(Submission(id=f"{at}-{key}", function="f", key=f"k{key}") for key in range(1200))
    assert len(trial.claim_ids(slots=1200)) == 1200
    last = trial.accept("g")
    claims, found = 0, []
    while not found:
        found = trial.claim_ids(slots=5)
        claims += 1
    assert found == [last]
    assert claims < 10


def test_a_rate_is_reached_by_runs_that_wait_though_the_reaper_looks_seldom(trial: Trial):
    Limited(trial, every_ms=10.0)
    ids = [trial.accept() for _ in range(100)]
    assert trial.claim_ids() == ids[:1]
    begun, began = 1, trial.now
    for ms in (100, 110, 190, 205):
        trial.advance(ms / 1000)
        begun += len(trial.claim_ids())
        assert begun == 1 + round((trial.now - began) * 100)


def test_a_rate_that_nobody_waits_for_lets_no_more_begin_than_its_burst(trial: Trial):
    Limited(trial, every_ms=10.0, burst=2)
    trial.accept()
    trial.finish(trial.claim_one())
    trial.advance(5)
    ids = [trial.accept() for _ in range(10)]
    assert trial.claim_ids() == ids[:2]


def test_what_waits_for_long_is_late_by_a_moment_at_most_and_never_early_where_the_rate_is_slow(trial: Trial):
    Limited(trial, every_ms=100.0)
    for _ in range(20):
        trial.accept()
    trial.advance(60)
    assert len(trial.claim_ids()) == 3
    trial.limits["f"] = Limits(every_ms=1_000.0)
    trial.works()
    trial.advance(60)
    assert len(trial.claim_ids()) == 1
    trial.advance(0.999)
    assert trial.claim_ids() == []


def test_a_trial_that_is_lost_where_no_worker_is_left_lets_a_call_try(trial: Trial):
    limited = Limited(trial, failures=1, reset_ms=1_000)
    for _ in range(2):
        trial.accept()
    trial.finish(trial.claim_one(), "failed", verdict="bad")
    trial.advance(1)
    lost = trial.claim_one()
    assert limited.enter(limited.ask()).verdict == "open"
    trial.now += 9.9
    assert limited.enter(limited.ask()).verdict == "open"
    trial.now += 0.2
    ask = limited.ask()
    assert limited.enter(ask) == Entered("in", 0.0, trial=True)
    trial.reap()
    assert limited.enter(limited.ask()).verdict == "open"
    assert not trial.finish(lost)
    limited.leave(ask)
    assert limited.is_in(limited.ask())


def test_a_call_may_begin_in_the_place_of_a_run_that_is_lost_where_no_worker_is_left(trial: Trial):
    limited = Limited(trial, concurrency=1)
    trial.accept()
    trial.claim_one()
    ask = limited.ask()
    trial.now += 9.9
    assert limited.enter(ask).verdict == "wait"
    assert limited.enter(ask).verdict == "wait"
    trial.now += 0.2
    assert limited.is_in(ask)


def test_a_place_that_lapsed_is_had_by_a_run_though_a_call_that_took_none_asked_in_between(trial: Trial):
    limited = Limited(trial, concurrency=2, every_ms=30_000.0, burst=2)
    began, gone, stays = trial.now, limited.ask(), limited.ask()
    assert limited.is_in(gone)
    assert limited.is_in(stays)
    run = trial.accept()
    assert trial.claim_ids() == []
    trial.advance(6)
    limited.keep(stays)
    trial.now += 4.1
    assert limited.enter(limited.ask()).verdict == "late"
    for _ in range(4):
        trial.advance(5)
        limited.keep(stays)
        assert trial.claim_ids() == ([run] if trial.now - began >= 30 else [])


def of_old_code(trial: Trial, worker: str, *functions: str) -> None:
    """Register a worker as it was done before there were limits."""
    trial.client.sadd(trial.key(f"worker:{worker}"), "", *functions)
    trial.client.expire(trial.key(f"worker:{worker}"), 3600)
    trial.client.zadd(trial.key("workers"), {worker: trial.now * 1000 + 3_600_000})


def test_reapers_of_old_and_of_new_code_see_what_workers_of_both_know(trial: Trial):
    trial.works("new", "f")
    of_old_code(trial, "old", "g")
    unknown = [trial.accept(function) for function in ("f", "g", "h")]
    trial.works("other", "i")
    assert trial.claim_ids("other") == []
    trial.now += 600
    trial.works("new", "f")
    of_old_code(trial, "old", "g")
    trial.reap()
    assert [trial.show(one).state for one in unknown] == ["queued", "queued", "failed"]
    assert trial.client.sismember(trial.key("worker:new"), "f")


def test_a_run_that_a_worker_of_old_code_took_is_not_begun_again(trial: Trial):
    Limited(trial, concurrency=1, keyed=True)
    ids = [trial.accept(key="a") for _ in range(3)]
    trial.client.zrem(trial.key("ready:default"), ids[0])
    trial.client.hset(trial.key(f"run:{ids[0]}"), mapping={"state": "succeeded", "token": 99})
    claimed = trial.claim_one()
    assert claimed.id == ids[1]
    trial.finish(claimed)
    assert trial.claim_ids() == [ids[2]]
    trial.client.hset(trial.key(f"run:{ids[0]}"), "state", "queued")
    trial.cancel(ids[0])


def test_a_run_that_a_reaper_of_old_code_put_in_line_waits_for_its_turn(trial: Trial):
    limited = Limited(trial, concurrency=1, keyed=True)
    ask, run = limited.ask("a"), trial.accept(key="a")
    assert limited.is_in(ask)
    for key in trial.client.scan_iter(f"{trial.namespace}:*"):
        if key.decode().removeprefix(f"{trial.namespace}:").split(":")[0] in {"keyed", "keys", "turn"}:
            trial.client.delete(key)
    assert trial.claim_ids() == []
    limited.leave(ask)
    assert trial.claim_ids() == [run]


def test_a_run_that_waited_where_its_function_is_known_is_assigned_a_key_in_its_exact_place(trial: Trial):
    limited = Limited(trial, concurrency=1, keyed=True)
    trial.limits = {}
    trial.works("other", "other")
    for _ in range(150):
        trial.accept("g")
    first, second = trial.accept(id="z"), trial.accept(id="y")
    assert trial.claim_ids("other") == []
    trial.limits = {"f": limited.limits}
    trial.works()
    found = trial.claim(slots=200)
    assert [one.id for one in found][150:] == [first, second]
    limited.assign(found[151], "a")
    limited.assign(found[150], "a")
    assert trial.claim_ids() == [first]


def test_python_and_the_scripts_agree_after_how_many_crashes_a_run_is_given_up():
    assert f"local ALONE = {MOST_CRASHES} " in script("finish").text


def test_a_run_gives_its_place_to_one_that_waits_for_a_worker_that_knows_it(trial: Trial):
    Limited(trial, keyed=True)
    mine = trial.accept(key="a")
    claimed = trial.claim_one()
    other = trial.accept(key="b")
    trial.limits = {}
    trial.works("other", "other")
    assert trial.claim_ids("other") == []
    trial.release(claimed)
    assert trial.claim_ids(slots=1) == [other]
    assert trial.claim_ids(slots=1) == [mine]


def test_a_key_that_could_not_begin_for_a_while_is_still_the_one_served_longest_ago(trial: Trial):
    Limited(trial, concurrency=1, keyed=True)
    ids = [trial.accept(key=key) for key in "aabb"]
    first, second = trial.claim(slots=10)
    trial.finish(second)
    trial.finish(first)
    assert trial.claim_ids(slots=1) == [ids[1]]


def test_a_trial_that_says_nothing_lets_another_one_try(trial: Trial):
    Limited(trial, failures=1, reset_ms=1_000)
    ids = [trial.accept() for _ in range(3)]
    trial.finish(trial.claim_one(), "failed", verdict="bad")
    trial.advance(1)
    (one,) = trial.claim(slots=5)
    trial.finish(one, "failed", verdict="none")
    assert trial.claim_ids() == [ids[2]]


def taken_back_by_old_code(trial: Trial, claimed: Claimed) -> None:
    """As its reaper did before there were limits."""
    trial.client.zrem(trial.key("leases:default"), claimed.id)
    trial.client.hset(trial.key(f"run:{claimed.id}"), mapping={"state": "queued", "crashes": 1})
    trial.client.zadd(trial.key("ready:default"), {claimed.id: 1})


@pytest.mark.parametrize("who", ["run", "call"])
def test_a_place_that_a_reaper_of_old_code_did_not_free_is_found_out(trial: Trial, who: str):
    limited = Limited(trial, concurrency=1)
    ids = [trial.accept(), trial.accept()]
    claimed = trial.claim_one()
    taken_back_by_old_code(trial, claimed)
    if who == "call":
        ask = limited.ask()
        assert limited.is_in(ask)
        limited.leave(ask)
    for run_id in ids:
        (one,) = trial.claim(slots=5)
        assert one.id == run_id
        trial.finish(one)


def test_a_trial_that_a_reaper_of_old_code_took_back_lets_another_one_try(trial: Trial):
    Limited(trial, failures=1, reset_ms=1_000)
    for _ in range(3):
        trial.accept()
    trial.finish(trial.claim_one(), "failed", verdict="bad")
    trial.advance(1)
    taken_back_by_old_code(trial, trial.claim_one())
    trial.finish(trial.claim_one(), verdict="good")
    assert len(trial.claim_ids()) == 1


def test_a_run_that_is_assigned_a_key_begins_after_those_that_came_before(trial: Trial):
    limited = Limited(trial, concurrency=1, keyed=True)
    ask = limited.ask("a")
    assert limited.is_in(ask)
    before, run = trial.accept(key="a"), trial.accept()
    (claimed,) = trial.claim(slots=5)
    assert claimed.id == run
    limited.assign(claimed, "a")
    limited.leave(ask)
    assert trial.claim_ids() == [before]
