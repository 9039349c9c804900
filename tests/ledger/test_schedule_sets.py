"""Which definitions are in force, and who fires them; what is changed at run time."""

import msgspec
import pytest

from runtime.ledger.schedules.records import Definition, Entry, Override, Registered
from tests.ledger.roster import EVERY, OTHER, Roster, schedule
from tests.ledger.trial import Trial


@pytest.fixture
def roster(trial: Trial) -> Roster:
    return Roster(trial)


# --- who fires ---


def test_a_set_is_uploaded_once(roster):
    roster.digests |= {"a": "d", "b": "d"}
    assert roster.register() == Registered(missing=True, firing=False, number=0)
    roster.upload("a", [schedule("x")], complete=False)
    assert roster.register("b").missing
    roster.upload("b", [schedule("x")], complete=False)
    roster.upload("b", [schedule("y")])
    roster.upload("a", [schedule("y")])  # later than the other
    assert roster.register("b") == Registered(missing=False, firing=True, number=1)
    assert roster.register() == Registered(missing=False, firing=True, number=1)
    assert roster.ids() == ["x", "y"]


def test_a_set_of_which_the_store_has_lost_a_part_is_missing_still(roster, trial):
    roster.digests["a"] = "d"
    roster.upload("a", [schedule("x"), schedule("y")], complete=False)
    trial.client.delete(trial.key("set:d"))
    roster.do(roster.book.upload("d", [schedule("z")], complete=True, before=2))
    assert roster.register().missing
    roster.upload("a", [schedule("x"), schedule("y")], complete=False)
    roster.do(roster.book.upload("d", [schedule("z")], complete=True, before=2))
    assert roster.register().firing
    assert roster.ids() == ["x", "y", "z"]


def test_a_set_may_be_empty(roster):
    assert roster.begin().firing
    assert roster.ids() == []


def test_all_replicas_of_a_set_may_fire(roster, trial):
    roster.begin(schedule())
    roster.begin(schedule(), name="b")
    for name in "ab":
        trial.now += 1
        assert roster.watch(name).firing
        assert roster.fire(roster.firing(), by=name)[0].verdict == "fired"


def test_new_code_takes_over_at_once_and_old_code_does_not_come_back(roster, trial):
    roster.begin(schedule())
    assert roster.begin(schedule(), schedule("t"), name="b") == Registered(missing=False, firing=True, number=2)
    assert roster.fire(roster.firing("s", 1)) is None
    assert not roster.watch().firing
    assert roster.register() == Registered(missing=False, firing=False, number=1)  # old code was restarted
    assert roster.fire(roster.firing("t", 1), by="b")[0].verdict == "fired"


def test_old_code_fires_again_when_the_new_is_gone(roster, trial):
    roster.begin(schedule())
    roster.begin(schedule(), schedule("t"), name="b")
    roster.pass_seconds(1, "a", "b")
    roster.leave("b")
    assert roster.watch().firing
    assert roster.ids() == ["s"]


def test_who_lacks_some_files_fires_only_if_nobody_has_all(roster, trial):
    roster.begin(schedule(), schedule("t"))
    roster.begin(name="b")  # to have a set
    roster.leave("b")
    roster.register()
    assert roster.register("b", 9, partial=True) == Registered(missing=False, firing=False, number=9)
    roster.register("a", partial=True)
    assert roster.watch("b").firing  # neither has: then the higher number
    roster.register("a")
    roster.leave("a")
    assert roster.watch("b").firing
    assert roster.register("b").firing  # they load now


def test_one_that_dies_counts_for_ten_seconds(roster, trial):
    roster.begin(schedule())
    roster.begin(schedule(), schedule("t"), name="b")
    roster.pass_seconds(9)
    assert not roster.watch().firing
    roster.pass_seconds(1)
    assert roster.watch().firing
    assert not roster.watch("b").known
    assert roster.fire(roster.firing("s", 1), by="b") is None
    assert roster.register("b") == Registered(missing=False, firing=True, number=2)


def test_who_is_not_heard_of_does_not_fire(roster, trial):
    roster.begin(schedule())
    trial.now += 10
    assert roster.fire(roster.firing()) is None
    assert not roster.watch().known
    roster.register()
    assert roster.fire(roster.firing())[0].verdict == "fired"
    roster.digests["b"] = roster.digests["a"]
    assert roster.fire(roster.firing("s", 1), by="b") is None


def test_deployments_can_be_numbered(roster):
    assert roster.begin(schedule(), deployment=7).number == 7
    assert not roster.begin(schedule("t"), name="b", deployment=6).firing
    assert roster.begin(schedule("u"), name="c") == Registered(missing=False, firing=True, number=8)
    assert roster.begin(schedule("v"), name="d", deployment=8).firing  # the later of two
    assert not roster.register("c", 8).firing
    assert roster.register("b", 9).firing


def test_the_last_set_stays_to_be_read_when_nobody_lives(roster, trial):
    roster.begin(schedule())
    roster.leave()
    trial.now += 86_400
    assert roster.ids() == ["s"]
    assert roster.register() == Registered(missing=False, firing=True, number=1)


def test_a_set_goes_a_day_after_its_last_scheduler(roster, trial):
    roster.begin(schedule())
    roster.begin(schedule("t"), name="b")
    key = f"set:{roster.digests['a']}"
    assert 86_000 < trial.client.ttl(trial.key(key)) <= 86_400
    assert trial.client.ttl(trial.key(f"set:{roster.digests['b']}")) == -1
    trial.client.pexpire(trial.key(key), 5000)
    roster.watch()
    assert trial.client.ttl(trial.key(key)) > 86_000
    trial.client.delete(trial.key(key))
    assert roster.register().missing
    assert roster.begin(schedule()) == Registered(missing=False, firing=True, number=3)


# --- from when on ---


def test_a_schedule_begins_when_it_is_first_seen(roster, trial):
    roster.begin(schedule())
    seen = roster.ms
    roster.leave()
    trial.now += 3600
    roster.register()
    assert roster.entry() == Entry(definition=schedule(), last_ms=seen)  # what was planned since is missed


def test_another_rule_begins_anew_and_another_payload_does_not(roster, trial):
    roster.begin(schedule(), schedule("t"))
    seen = roster.ms
    trial.now += 5
    roster.begin(schedule(payload=msgspec.Raw(b'{"x":1}')), schedule("t", timing=OTHER), name="b")
    assert (roster.entry("s").last_ms, roster.entry("t").last_ms) == (seen, roster.ms)


def test_a_schedule_that_was_not_declared_meanwhile_begins_anew(roster, trial):
    roster.begin(schedule(), schedule("t"))
    roster.tick("t")
    roster.begin(schedule(), name="b")
    assert (roster.find("t"), roster.ids()) == (None, ["s"])
    assert 31 * 86_400 < trial.client.ttl(trial.key("schedule:t")) <= 32 * 86_400
    roster.pass_seconds(5)
    roster.leave("b")
    entry = roster.entry("t")
    assert (entry.last_ms, entry.runs, entry.open) == (roster.ms, 1, 1)
    assert not trial.client.exists(trial.key("schedule:t"))


def test_runs_of_a_schedule_that_is_gone_end_as_others_do(roster, trial):
    roster.begin(schedule(overlap="queue"))
    ids = [roster.tick() for _ in range(2)]
    roster.begin(name="b")
    assert [roster.finish().id for _ in ids] == ids


# --- reading ---


def test_entries_come_in_pages_by_id(roster):
    roster.begin(*(schedule(name) for name in "bdaC"))
    roster.add(schedule("c"))
    assert roster.ids() == ["C", "a", "b", "c", "d"]
    assert (roster.ids(limit=2), roster.ids("a", 2), roster.ids("d")) == (["C", "a"], ["b", "c"], [])


def test_entries_are_what_was_declared(roster):
    said: Definition = schedule(
        payload=msgspec.Raw(b'{"a": "\\n"}'), missed="all", overlap=3, jitter_ms=5, place="functions/f.py:1", queue="q"
    )
    roster.begin(said)
    found = roster.entry().definition
    assert bytes(found.payload) == bytes(said.payload)
    assert msgspec.structs.replace(found, payload=said.payload) == said


# --- changes at run time ---


def test_an_added_one_fires_like_a_declared_one(roster, trial):
    added = schedule("t", source="added")
    assert roster.add(added) == "added"
    assert roster.entry("t") == Entry(definition=added, last_ms=roster.ms)  # before any scheduler was there
    roster.begin(schedule())
    assert roster.state(roster.tick("t")) == "queued"
    roster.begin(schedule("u"), name="b")
    assert roster.ids() == ["t", "u"]


def test_adding_says_what_is_there(roster, trial):
    roster.begin(schedule())
    assert roster.add(schedule(timing=OTHER), replace=True) == "declared"
    assert roster.add(schedule("t")) == "added"
    trial.now += 1
    assert roster.add(schedule("t", timing=OTHER)) == "known"
    assert roster.add(schedule("t", jitter_ms=1), replace=True) == "replaced"
    assert (roster.entry("t").last_ms, roster.entry("t").definition.jitter_ms) == (roster.ms - 1000, 1)
    assert roster.add(schedule("t", timing=OTHER), replace=True) == "replaced"
    assert roster.entry("t").last_ms == roster.ms


def test_removing_takes_what_is_known_along(roster, trial):
    roster.begin(schedule())
    assert (roster.remove(), roster.remove("t")) == ("declared", "unknown")
    roster.add(schedule("t"))
    roster.tick("t")
    firing = roster.firing("t", 1)
    roster.pause("t")
    roster.override("t", jitter_ms=5)
    assert roster.remove("t") == "removed"
    assert (roster.find("t"), roster.fire(firing)[0].verdict) == (None, "gone")
    roster.add(schedule("t"))
    assert roster.entry("t") == Entry(definition=schedule("t"), last_ms=roster.ms, open=1)  # that run goes on


def test_what_code_declares_stands_before_what_was_added(roster):
    roster.add(schedule(timing=OTHER, source="added"))
    roster.begin(schedule())
    assert roster.entry().definition == schedule()
    assert roster.ids() == ["s"]
    roster.begin(name="b")
    assert roster.entry().definition == schedule(timing=OTHER, source="added")


def test_what_is_paused_does_not_fire_and_is_not_made_up_for(roster, trial):
    roster.begin(schedule())
    assert (roster.pause(), roster.pause()) == (True, False)
    assert roster.entry().paused
    roster.pass_seconds(5)
    assert roster.fire(roster.firing())[0].verdict == "paused"
    assert (roster.pause(paused=False), roster.pause(paused=False)) == (True, False)
    assert (roster.entry().last_ms, roster.entry().paused) == (roster.ms, False)
    assert roster.state(roster.tick()) == "queued"


def test_a_pause_may_come_before_its_schedule(roster, trial):
    roster.pause()
    roster.begin(schedule())
    assert roster.entry().paused
    roster.begin(name="b")
    roster.begin(schedule(), schedule("t"), name="c")
    assert roster.entry().paused  # deployments do not end it


def test_overrides_outlive_deployments(roster, trial):
    roster.override("s", overlap="queue", timing=OTHER)
    roster.begin(schedule())
    entry = roster.entry()
    assert entry.override == Override(overlap="queue", timing=OTHER)
    assert (entry.effective.timing, entry.effective.overlap, entry.definition.timing) == (OTHER, "queue", EVERY)
    seen = roster.ms
    trial.now += 1
    roster.begin(schedule(timing=msgspec.structs.replace(EVERY, every_ms=9000)), name="b")
    assert roster.entry().last_ms == seen  # its rule is the overriding one, as before
    assert roster.fire(roster.firing("s", 1), by="b")[0].verdict == "fired"


def test_a_changed_rule_begins_anew(roster, trial):
    roster.begin(schedule())
    before = roster.firing("s", 1)
    trial.now += 1
    roster.override("s", jitter_ms=5)
    assert roster.entry().last_ms == roster.ms - 1000
    roster.override("s", timing=OTHER)
    assert roster.entry().last_ms == roster.ms
    assert roster.fire(before)[0].verdict == "gone"
    trial.now += 1
    roster.override("s")
    assert roster.entry() == Entry(definition=schedule(), last_ms=roster.ms)


# --- what schedulers hear of it ---


def test_schedulers_hear_what_changed(roster, trial):
    roster.begin(schedule(), schedule("t"))
    assert roster.watch().changed is None  # all is new
    seen = roster.watch().version
    assert roster.watch(seen=seen).changed == ()
    roster.add(schedule("u"))
    roster.pause("s")
    roster.override("t", jitter_ms=5)
    roster.pause("s", paused=False)
    heard = roster.watch(seen=seen)
    assert (heard.now_ms, heard.known, heard.firing) == (roster.ms, True, True)
    assert sorted(heard.changed) == ["s", "t", "u"]
    roster.remove("u")
    roster.remove("never")
    assert roster.watch(seen=heard.version).changed == ("u",)
    assert roster.watch(seen=10**9).changed is None  # of a store that was emptied since


def test_after_many_changes_all_is_to_be_read(roster):
    roster.begin()
    seen = roster.watch().version
    for n in range(501):
        roster.pause(f"s{n}")
    assert roster.watch(seen=seen).changed is None
    assert len(roster.watch(seen=seen + 1).changed) == 500
    for n in range(1001):
        roster.pause(f"t{n}")
    assert roster.watch(seen=seen + 501).changed is None
    assert roster.watch(seen=seen + 501 + 1000).changed == ("t1000",)


def test_another_set_is_a_change_of_all(roster):
    roster.begin(schedule())
    seen = roster.watch().version
    roster.begin(schedule("t"), name="b")
    assert roster.watch(seen=seen).changed is None


# --- the store's clock ---


def test_ticks_that_a_clock_was_ahead_of_are_due_when_their_time_has_come(roster, trial):
    roster.begin(schedule(overlap="allow"), schedule("t"))
    early = roster.tick(seconds=3600)
    claimed = roster.finish()
    assert (claimed.id, roster.entry().success_ms) == (early, roster.ms)
    seen = roster.watch().version
    trial.now -= 3600
    told = roster.watch(seen=seen)
    assert (told.known, told.firing, told.changed) == (True, True, None)  # all is to be read again
    assert [(one.last_ms, one.success_ms) for one in (roster.entry(), roster.entry("t"))] == [(roster.ms, 0)] * 2
    assert roster.watch(seen=told.version).changed == ()
    roster.tick(seconds=1)
    assert len(roster.runs()) == 2
    assert roster.tick(seconds=3599) == early  # it has its run
    assert len(roster.runs()) == 2


def test_a_dead_scheduler_does_not_live_on_because_the_clock_was_ahead(roster, trial):
    roster.begin(schedule())
    trial.now += 3600
    roster.register()
    roster.begin(schedule(), schedule("t"), name="b")
    roster.watch()
    trial.now -= 3600
    assert not roster.watch().firing
    roster.pass_seconds(10)
    assert roster.watch().firing


def test_a_clock_that_goes_back_a_little_changes_nothing(roster, trial):
    roster.begin(schedule())
    roster.tick(seconds=30)
    last, version = roster.entry().last_ms, roster.watch().version
    trial.now -= 20
    assert roster.watch(seen=version).changed == ()
    assert roster.entry().last_ms == last


def test_what_is_resumed_begins_now_even_if_the_clock_was_years_ahead(roster, trial):
    roster.begin(schedule())
    roster.tick(seconds=1e9)
    roster.pause()
    trial.now -= 1e9  # nobody has watched since
    roster.pause(paused=False)
    assert roster.entry().last_ms == roster.ms
