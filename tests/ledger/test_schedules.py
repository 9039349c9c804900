"""Which ticks become runs: each once, by overlap, by the newest code; what is told of them."""

import time

import msgspec
import pytest
from redis.exceptions import ResponseError

from runtime.ledger.schedules.definitions import tick_id
from runtime.ledger.schedules.records import Fired, Firing, Skip, TickNote, tick_of
from tests.ledger.roster import OTHER, Roster, schedule
from tests.ledger.test_costs import commands_of
from tests.ledger.trial import Trial


@pytest.fixture
def roster(trial: Trial) -> Roster:
    return Roster(trial)


# --- a tick ---


def test_a_tick_becomes_a_run_that_carries_it(roster, trial):
    roster.begin(schedule(payload=msgspec.Raw(b'{"x":1}'), max_age_ms=60_000, timeout_ms=5000))
    run_id = roster.tick()
    view = trial.show(run_id)
    assert (view.state, view.function, view.trigger, view.priority) == ("queued", "f", "interval", 5)
    assert view.expires == trial.now + 60
    trial.now += 2
    claimed = trial.claim_one()
    assert (claimed.id, claimed.payload) == (run_id, b'{"x":1}')
    note = msgspec.json.decode(claimed.tick, type=TickNote)
    assert note == TickNote(schedule="s", planned=roster.ms - 2000, timeout=5000)
    tick = tick_of(claimed)
    assert tick is not None
    assert (tick.planned_at.timestamp(), tick.late_seconds, tick.last_success) == (trial.now - 2, 2, None)
    assert (tick.missed, claimed.parent, claimed.trace) == (0, "", "")


def test_other_runs_carry_no_tick(roster, trial):
    trial.accept(id="tick-by-hand")
    claimed = trial.claim_one()
    assert (claimed.tick, tick_of(claimed)) == (b"", None)
    assert trial.finish(claimed)


def test_of_two_who_fire_a_tick_one_does(roster):
    roster.begin(schedule())
    roster.begin(schedule(), name="b")
    roster.pass_seconds(1, "a", "b")
    firing = roster.firing()
    assert roster.fire(firing) == [Fired("fired", roster.ms, 1)]
    assert roster.fire(firing, by="b") == [Fired("stale", roster.ms, 0)]
    assert roster.runs() == [0]


def test_one_that_comes_back_after_hours_with_what_it_knew_fires_nothing(roster, trial):
    roster.begin(schedule())
    roster.trial.now += 1
    stale = roster.firing()
    for _ in range(3):
        roster.tick(seconds=3600)
        roster.finish()
    assert roster.fire(stale) == [Fired("stale", roster.ms, 0)]
    assert len(roster.runs()) == 3


def test_nothing_fires_early(roster):
    roster.begin(schedule())
    assert roster.fire(roster.firing("s", 1001)) == [Fired("early", roster.ms, 0)]
    assert roster.fire(roster.firing("s", 1000)) == [Fired("fired", roster.ms + 1000, 1)]
    assert roster.state(tick_id("s", roster.ms + 1000)) == "scheduled"  # until its time


def test_a_schedule_of_another_rule_does_not_fire(roster):
    roster.begin(schedule())
    firing = roster.firing("s", 1)
    assert roster.fire(msgspec.structs.replace(firing, definition=schedule(timing=OTHER)))[0].verdict == "gone"
    assert roster.fire(msgspec.structs.replace(firing, definition=schedule("other")))[0].verdict == "gone"


def test_jitter_puts_the_run_off_and_not_the_tick(roster, trial):
    roster.begin(schedule())
    trial.now += 1
    (fired,) = roster.fire(roster.firing(jitters_ms=(2500,)))
    run_id = tick_id("s", roster.ms)
    assert (fired.last_ms, roster.state(run_id), trial.show(run_id).due) == (roster.ms, "scheduled", trial.now + 2.5)
    trial.advance(2.6)
    assert roster.state(run_id) == "queued"


def test_a_late_tick_is_due_now(roster, trial):
    roster.begin(schedule())
    roster.pass_seconds(5)
    roster.fire(roster.firing("s", -4000, jitters_ms=(1000,)))
    assert trial.show(tick_id("s", roster.ms - 4000)).due == trial.now


def test_a_full_queue_does_not_keep_a_tick(roster, trial):
    trial.accept()
    assert trial.offer(max_length=1).verdict == "full"
    roster.begin(schedule())
    assert roster.state(roster.tick()) == "queued"


def test_several_schedules_fire_in_one_call(roster):
    roster.begin(schedule("a"), schedule("b"), schedule("c", function="g", queue="other"))
    roster.trial.now += 1
    stale = msgspec.structs.replace(roster.firing("b"), last_ms=5)
    fired = roster.fire(roster.firing("a"), stale, roster.firing("c"))
    assert [one.verdict for one in fired] == ["fired", "stale", "fired"]
    assert (roster.runs("a"), roster.runs("b"), roster.runs("c")) == ([0], [], [0])


def test_what_is_wrong_with_one_schedule_takes_nothing_from_others_of_its_call(roster, trial):
    roster.begin(schedule("a"), schedule("b"), schedule("c"))
    trial.now += 1
    firings = [roster.firing(name) for name in "abc"]
    firings[1] = msgspec.structs.replace(firings[1], missed_after=1)
    trial.client.set(trial.key("skips:b"), "of another type")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        roster.fire(*firings)
    assert (roster.state(tick_id("a", roster.ms)), roster.state(tick_id("c", roster.ms))) == ("queued", "queued")
    trial.client.delete(trial.key("skips:b"))
    assert [one.verdict for one in roster.fire(*firings)] == ["stale", "fired", "stale"]
    assert len(trial.claim_ids()) == 3


def test_a_schedule_that_comes_twice_in_a_call_knows_its_own_open_runs(roster, trial):
    roster.begin(schedule())
    roster.tick()
    trial.now += 1
    firing = roster.firing()
    nothing = msgspec.structs.replace(firing, until_ms=firing.last_ms, planned=(), jitters_ms=(), missed_before=())
    fired = roster.fire(nothing, firing)
    assert [(one.verdict, one.runs) for one in fired] == [("fired", 0), ("fired", 0)]


def test_ids_of_runs_tell_the_tick(roster):
    roster.begin(schedule("orders.sweep:cron-3f9a11c2"))
    assert roster.tick("orders.sweep:cron-3f9a11c2") == tick_id("orders.sweep:cron-3f9a11c2", roster.ms)
    assert roster.entry("orders.sweep:cron-3f9a11c2").last_run == tick_id("orders.sweep:cron-3f9a11c2", roster.ms)


# --- how a tick's run ends ---


def test_a_success_is_told_to_the_ticks_after_it(roster, trial):
    roster.begin(schedule(overlap="allow"))
    first, second = roster.tick(), roster.tick()
    claimed = trial.claim(slots=2)
    assert [one.id for one in claimed] == [first, second]
    trial.finish(claimed[1])
    succeeded = roster.entry().success_ms
    trial.finish(claimed[0])
    assert roster.entry().success_ms == succeeded == roster.ms  # the latest, whichever ended last
    roster.tick()
    assert tick_of(trial.claim_one()).last_success.timestamp() * 1000 == succeeded


def test_a_failure_is_no_success(roster, trial):
    roster.begin(schedule())
    roster.tick()
    roster.finish("failed")
    assert (roster.entry().success_ms, roster.entry().open) == (0, 0)


def test_a_run_stays_open_through_retries(roster, trial):
    roster.begin(schedule())
    roster.tick()
    trial.finish(trial.claim_one(), "retrying", retry_seconds=0)
    assert roster.entry().open == 1
    roster.tick()
    trial.reap()
    roster.finish()
    assert (roster.entry().open, roster.entry().overlapped) == (0, 1)


@pytest.mark.parametrize("how", ["cancelled", "cancelled at work", "expired", "died", "unknown", "crashed"])
def test_a_run_that_ends_in_any_way_is_open_no_more(roster, trial, how):
    roster.begin(schedule(max_age_ms=1000, function="nobody" if how == "unknown" else "f"))
    run_id = roster.tick()
    if how == "cancelled":
        trial.cancel(run_id)
    elif how == "cancelled at work":
        claimed = trial.claim_one()
        trial.cancel(run_id)
        trial.lose(claimed)
    elif how == "expired":
        trial.now += 2
        assert trial.claim() == []
    elif how == "died":
        trial.lose(trial.claim_one())
        roster.finish()
    elif how == "unknown":
        assert trial.claim() == []
        trial.now += 601
        trial.works()
        trial.reap()
    else:
        for _ in range(3):
            trial.finish(trial.claim_one(), "crashed")
            trial.advance(1)
    assert trial.find(run_id).is_finished
    assert roster.entry().open == 0


def test_a_redriven_run_is_open_again(roster, trial):
    roster.begin(schedule())
    run_id = roster.tick()
    roster.finish("failed")
    assert trial.redrive(run_id) == "queued"
    assert roster.entry().open == 1
    roster.tick()
    assert (roster.entry().overlapped, roster.finish().id) == (1, run_id)
    assert (roster.entry().open, roster.entry().success_ms) == (0, roster.ms - 1000)


def test_a_purged_run_leaves_nothing(roster, trial):
    roster.begin(schedule())
    run_id = roster.tick()
    roster.finish()
    assert trial.purge(run_id) == "purged"
    assert roster.runs() == []


# --- overlap ---


def test_skip_runs_one_at_a_time(roster):
    roster.begin(schedule())
    first = roster.tick()
    skipped = [roster.tick() for _ in range(3)]
    assert [roster.state(one) for one in (first, *skipped)] == ["queued", "none", "none", "none"]
    assert roster.entry().skips == tuple(Skip(roster.ms - 1000 * n, 1, "overlap") for n in range(3))
    roster.finish()
    assert roster.state(roster.tick()) == "queued"
    entry = roster.entry()
    assert (entry.runs, entry.overlapped, entry.missed, entry.open) == (2, 3, 0, 1)


def test_a_run_is_told_how_many_ticks_were_skipped_before_it(roster, trial):
    roster.begin(schedule())
    roster.tick()
    roster.tick()
    roster.finish()
    trial.now += 10
    roster.register()
    roster.fire(roster.firing("s", -3000, 0, missed_before=(4, 1)))
    assert tick_of(trial.claim_one()).missed == 5
    assert roster.entry().missed == 5
    assert roster.entry().overlapped == 2


def test_a_number_is_how_many_run_at_once(roster):
    roster.begin(schedule(overlap=2))
    states = [roster.state(roster.tick()) for _ in range(3)]
    assert states == ["queued", "queued", "none"]
    roster.finish()
    assert roster.state(roster.tick()) == "queued"


def test_allow_runs_all(roster):
    roster.begin(schedule(overlap="allow"))
    assert [roster.state(roster.tick()) for _ in range(5)] == ["queued"] * 5
    assert (roster.entry().open, roster.entry().waiting) == (5, 0)


def test_queue_holds_ticks_until_the_one_before_is_over(roster, trial):
    roster.begin(schedule(overlap="queue"))
    ids = [roster.tick() for _ in range(3)]
    assert [roster.state(one) for one in ids] == ["queued", "scheduled", "scheduled"]
    assert (roster.entry().open, roster.entry().waiting) == (3, 2)
    assert roster.finish().id == ids[0]
    assert [roster.state(one) for one in ids] == ["succeeded", "queued", "scheduled"]
    assert roster.finish("failed").id == ids[1]
    claimed = trial.claim_one()
    assert (claimed.id, claimed.due, trial.queue().ready) == (ids[2], trial.now, 0)
    trial.finish(claimed)
    assert (roster.entry().open, roster.entry().waiting, roster.entry().overlapped) == (0, 0, 0)


def test_a_held_run_can_be_cancelled(roster, trial):
    roster.begin(schedule(overlap="queue"))
    ids = [roster.tick() for _ in range(3)]
    assert trial.cancel(ids[1]) == "cancelled"
    assert (roster.entry().open, roster.entry().waiting) == (2, 1)
    roster.finish()
    assert roster.finish().id == ids[2]


def test_a_redriven_held_run_does_not_wait_again(roster, trial):
    roster.begin(schedule(overlap="queue"))
    ids = [roster.tick() for _ in range(3)]
    trial.cancel(ids[1])
    assert trial.redrive(ids[1]) == "queued"
    assert (roster.entry().open, roster.entry().waiting) == (3, 1)
    roster.finish()
    assert roster.state(ids[2]) == "scheduled"  # one is at work still
    roster.finish()
    assert roster.state(ids[2]) == "queued"


def test_a_held_run_that_begins_later_waits_for_that_too(roster, trial):
    roster.begin(schedule(overlap="queue"))
    roster.tick()
    trial.now += 1
    roster.fire(roster.firing(jitters_ms=(5000,)))
    run_id = tick_id("s", roster.ms)
    roster.finish()
    assert (roster.state(run_id), roster.entry().waiting) == ("scheduled", 0)
    trial.advance(5)
    assert roster.finish().id == run_id


def test_at_most_a_hundred_are_held(roster, trial):
    roster.begin(schedule(overlap="queue"))
    trial.now += 8
    planned = tuple(range(-102, 0))
    (fired,) = roster.fire(roster.firing("s", *planned))
    assert (fired.runs, roster.entry().waiting, roster.entry().overlapped) == (101, 100, 1)


def test_a_catch_up_is_one_tick_after_the_other(roster, trial):
    """overlap holds for the ticks of one firing, too."""
    roster.begin(schedule())
    roster.pass_seconds(9)
    (fired,) = roster.fire(roster.firing("s", -2000, -1000, 0, missed_before=(3, 0, 0)))
    assert (fired.runs, roster.runs()) == (1, [-2000])
    assert roster.entry().skips == (
        Skip(roster.ms, 2, "overlap"),
        Skip(roster.ms - 2000, 3, "missed"),
    )


# --- what is missed ---


def test_what_was_missed_is_counted(roster):
    roster.begin(schedule())
    roster.pass_seconds(9)
    assert roster.fire(roster.firing(planned=(), missed_after=9)) == [Fired("fired", roster.ms, 0)]
    entry = roster.entry()
    assert (entry.missed, entry.runs, entry.last_ms) == (9, 0, roster.ms)
    assert entry.skips == (Skip(roster.ms, 9, "missed"),)


def test_the_latest_skips_are_kept(roster):
    roster.begin(schedule())
    roster.tick()
    for _ in range(25):
        roster.tick()
    skips = roster.entry().skips
    assert ([one.planned_ms for one in skips], roster.entry().overlapped) == (
        [roster.ms - 1000 * n for n in range(20)],
        25,
    )


# --- run now, backfill ---


def test_run_now_runs_whatever_is_open_or_paused(roster, trial):
    roster.begin(schedule())
    roster.tick()
    roster.pause()
    assert roster.do(roster.book.run_now(schedule(), "now1")) == "now1"
    assert roster.do(roster.book.run_now(schedule(), "now1")) == "now1"  # asked again, its answer was lost
    view = trial.show("now1")
    assert (view.state, view.trigger, view.due) == ("queued", "manual", trial.now)
    claimed = {one.id: one for one in trial.claim(slots=2)}
    assert tick_of(claimed["now1"]).planned_at.timestamp() == trial.now
    trial.finish(claimed["now1"])
    entry = roster.entry()
    assert (entry.open, entry.runs, entry.success_ms, entry.last_run) == (1, 1, 0, tick_id("s", roster.ms))


def test_a_backfill_runs_one_at_a_time_beside_live_ticks(roster, trial):
    roster.begin(schedule())
    planned = [roster.ms - ms for ms in (30_000, 20_000, 10_000)]
    roster.tick()
    assert roster.backfill("s", *planned) == (3, 0)
    ids = [tick_id("s", ms) for ms in planned]
    assert [roster.state(one) for one in ids] == ["queued", "scheduled", "scheduled"]
    view = trial.show(ids[0])
    assert (view.trigger, view.priority, roster.entry().open) == ("backfill", 3, 1)
    assert roster.finish().id == tick_id("s", roster.ms)  # more urgent
    assert [roster.finish().id for _ in ids] == ids
    assert roster.backfill("s", *planned, roster.ms) == (0, 4)


@pytest.mark.parametrize(("overlap", "count"), [("queue", 1), (2, 2), ("allow", 4)])
def test_a_backfill_runs_as_many_as_overlap_says(roster, trial, overlap, count):
    roster.begin(schedule(overlap=overlap))
    roster.backfill("s", *range(roster.ms - 4000, roster.ms, 1000))
    assert trial.queue().ready == count
    claimed = trial.claim(slots=4)
    trial.finish(claimed[0])
    assert trial.queue().ready == min(1, 4 - count)
    for _ in range(3):
        trial.reap()
        trial.advance(11)  # the others' leases are lost, they run again
        roster.finish()


def test_a_tick_that_was_backfilled_before_is_not_run_again(roster, trial):
    roster.begin(schedule())
    trial.now += 1
    roster.backfill("s", roster.ms)
    assert roster.fire(roster.firing()) == [Fired("fired", roster.ms, 1)]
    assert (roster.runs(), roster.entry().runs) == ([0], 1)
    assert roster.finish().id == roster.entry().last_run
    assert roster.entry().success_ms == roster.ms


# --- many at once ---


def test_of_many_that_fire_together_each_is_judged_by_itself(roster, trial):
    names = ["one", "known", "busy", "paused", "stale", "later", "two"]
    roster.begin(*(schedule(name) for name in names))
    roster.tick("busy")
    trial.now += 1
    roster.backfill("known", roster.ms)
    firings = {name: roster.firing(name) for name in names}
    roster.pause("paused")
    before = {name: firing.last_ms for name, firing in firings.items()}
    firings["stale"] = msgspec.structs.replace(firings["stale"], last_ms=1)
    firings["later"] = msgspec.structs.replace(firings["later"], jitters_ms=(500,))
    found = dict(zip(names, roster.fire(*firings.values()), strict=True))
    assert found == dict.fromkeys(names, Fired("fired", roster.ms, 1)) | {
        "busy": Fired("fired", roster.ms, 0),
        "paused": Fired("paused", before["paused"]),
        "stale": Fired("stale", before["stale"]),
    }
    assert [roster.runs(name) for name in names] == [[0], [0], [-1000], [], [], [0], [0]]
    assert {name: roster.entry(name).runs for name in names} == {name: int(bool(roster.runs(name))) for name in names}
    assert roster.state(tick_id("later", roster.ms)) == "scheduled"
    assert roster.fire(firings["one"], firings["two"]) == [Fired("stale", roster.ms), Fired("stale", roster.ms)]


def test_of_many_that_fire_together_each_has_a_run_as_if_it_were_alone(roster, trial):
    said = {"payload": msgspec.Raw(b'{"x":1}'), "max_age_ms": 60_000, "timeout_ms": 5000}
    names = ["alone", "one", "two"]
    roster.begin(*(schedule(name, **said) for name in names))
    trial.now += 1
    roster.fire(roster.firing("alone", missed_after=0, until_ms=roster.ms + 1))  # not as plain as others
    roster.fire(roster.firing("one"), roster.firing("two"))
    runs = {name: trial.client.hgetall(trial.key(f"run:{tick_id(name, roster.ms)}")) for name in names}
    notes = {name: msgspec.json.decode(run.pop(b"tick")) for name, run in runs.items()}
    assert runs["alone"] == runs["one"] == runs["two"]
    assert notes == {name: {"schedule": name, "planned": roster.ms, "timeout": 5000} for name in names}
    assert {(run.id, run.payload) for run in trial.claim(slots=3)} == {
        (tick_id(name, roster.ms), b'{"x":1}') for name in names
    }


def test_of_many_kinds_in_one_call_all_are_recorded_in_their_order_though_two_fail(roster, trial):
    queued, other = {"overlap": "queue"}, {"function": "g", "payload": msgspec.Raw(b'"%s"' % (b"x" * 100))}
    kinds = {"a1": {}, "a2": {}, "late": {}, "a3": {}, "l1": {"overlap": "allow"}, "l2": {"overlap": "allow"}}
    kinds |= {"q1": queued, "full": queued, "q2": queued, "held": queued, "b1": {}, "torn": {}, "b2": {}}
    kinds |= {"o1": other, "o2": other}
    roster.begin(*(schedule(name, **said) for name, said in kinds.items()))
    before = [roster.tick(name, seconds) for name, seconds in (("q1", 1), ("q2", 0), ("full", 0), ("held", 0))]
    for claimed in trial.claim(slots=4)[:2]:
        trial.finish(claimed)
    trial.now += 1
    firings = {name: roster.firing(name) for name in kinds}
    firings["late"] = msgspec.structs.replace(firings["late"], jitters_ms=(1,))  # not as plain as its neighbours
    states, known = trial.key("schedule_states"), trial.client.hget(trial.key("schedule_states"), "torn")
    trial.client.set(trial.key("held:held"), "of another type")
    trial.client.hset(states, "torn", "too short")
    with pytest.raises(ResponseError):
        roster.fire(*firings.values())
    trial.client.delete(trial.key("held:held"))
    trial.client.hset(states, "torn", known)
    again = dict(zip(kinds, roster.fire(*firings.values()), strict=True))
    missing = ["held", "torn", "b2"]  # what is behind the torn one, and alike, is not tried
    assert [name for name in kinds if again[name].verdict == "fired"] == missing
    in_order = [tick_id(name, roster.ms) for name in [*(name for name in kinds if name not in missing), *missing]]
    assert [run_id for run_id in reversed(trial.list_ids("f", "g")) if run_id not in before] == in_order
    claimed = trial.claim(slots=20)
    apart = {tick_id(name, roster.ms) for name in ("late", "full", "held")}
    assert [run.id for run in claimed] == [run_id for run_id in in_order if run_id not in apart]
    assert [run.function for run in claimed if len(run.payload) > 100] == ["g", "g"]
    assert {roster.state(run_id) for run_id in apart} == {"scheduled"}


# --- cost ---


def firings_of(definitions, last_ms, planned_ms):
    """Their first tick."""
    return [
        Firing(
            definition=one, last_ms=last_ms, until_ms=planned_ms, planned=(planned_ms,), jitters_ms=(0,),
            missed_before=(0,),
        )
        for one in definitions
    ]  # fmt: skip


@pytest.mark.parametrize(("overlap", "each"), [("allow", 2), ("skip", 3)])
def test_ticks_that_fire_together_take_few_commands_each(roster, trial, overlap, each):
    definitions = [schedule(f"s{n:03}", overlap=overlap) for n in range(200)]
    roster.begin(*definitions)
    trial.now += 1
    firings = firings_of(definitions, roster.ms - 1000, roster.ms)
    count = commands_of(trial.client, lambda: roster.fire(*firings))
    assert 200 * each <= count <= 200 * each + 20
    assert len(trial.claim(slots=200)) == 200


def test_ten_thousand_at_once_are_cheap(roster, trial):
    definitions = [schedule(f"jobs.f{n:05}:cron-3f9a11c2") for n in range(10_000)]
    roster.digests["a"] = "many"
    for at in range(0, 10_000, 500):
        roster.upload("a", definitions[at : at + 500], complete=at == 9500)
    assert roster.register().firing
    firings = firings_of(definitions, roster.ms, roster.ms + 900)
    took: list[float] = []
    for at in range(0, 10_000, 200):
        began = time.perf_counter()
        fired = roster.fire(*firings[at : at + 200])
        took.append(time.perf_counter() - began)
        assert {one.verdict for one in fired} == {"fired"}
    assert trial.queue().later == 10_000
    assert min(took) < 0.5
    trial.client.flushdb()  # to audit so many takes seconds
