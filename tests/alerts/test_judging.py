"""When rules fire, when they are over, what is told."""

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.alerts.judging import RuleState, Subject, judge, tell
from runtime.alerts.messages import text_of
from runtime.alerts.rules import Found
from tests.alerts.conditions import Course, rule


def told(course: Course, room: int = 9) -> list[str]:
    course.state, tellings = tell(course.rule, course.state, course.now, room)
    return [one.event for one in tellings]


def test_a_rule_fires_at_the_first_look_that_finds_it():
    course = Course(rule("failures > 10"))
    assert [course.see(10), course.see(11)] == ["ok", "firing"]


def test_for_holds_it_back_until_it_has_lasted():
    course = Course(rule("failures > 10", for_seconds=20))
    assert [course.see(11), course.see(11, after=19), course.see(11, after=1)] == ["pending", "pending", "firing"]


def test_what_is_well_again_in_time_never_fires():
    course = Course(rule("failures > 10", for_seconds=20))
    assert [course.see(11), course.see(0, after=19), course.see(11, after=1)] == ["pending", "ok", "pending"]


def test_between_fire_and_clear_it_stays_as_it_is():
    course = Course(rule("failures > 10", clear="5"))
    assert [course.see(6), course.see(11), course.see(6), course.see(5)] == ["ok", "firing", "firing", "ok"]


def test_a_rule_below_clears_above():
    course = Course(rule("workers < 2", clear="3"))
    assert [course.see(2), course.see(1), course.see(2), course.see(3)] == ["ok", "firing", "firing", "ok"]


def test_it_is_over_when_it_has_been_well_for_long_enough():
    course = Course(rule("failures > 10", clear_seconds=60))
    course.see(11)
    first = course.id
    assert [course.see(0), course.see(0, after=59), course.see(11), course.see(0)] == [
        "clearing", "clearing", "firing", "clearing",
    ]  # fmt: skip
    assert course.id == first
    assert course.see(0, after=60) == "ok"


def test_too_little_to_tell_neither_fires_nor_keeps_firing():
    course = Course(rule("failure_rate > 5%"))
    assert [course.see(None), course.see(0.06), course.see(None)] == ["ok", "firing", "ok"]


def test_what_is_over_is_told_with_what_there_is_now():
    failing = rule("failure_rate > 5%", clear_seconds=60)
    state = judge(failing, RuleState(), {"a": Found(1.0, "of 40 calls")}, 0, lambda: "id")
    few = {"a": Found(None, "2 calls, fewer than 20")}
    for now, phase, value in ((10, "clearing", 1.0), (70, "ok", None)):
        state, _ = tell(failing, state, now, 9)
        state = judge(failing, state, few, now, lambda: "id")
        assert (state.subjects["a"].phase, state.subjects["a"].value) == (phase, value)
    said = text_of(failing, "resolved", state.subjects)
    assert said == f"{failing.name} is over (failure_rate > 5%): a (2 calls, fewer than 20)"


def test_what_nobody_saw_does_not_count_as_lasting():
    course = Course(rule("failures > 10", for_seconds=20))
    assert [course.see(11), course.see(11, after=3600), course.see(11, after=20)] == ["pending", "pending", "firing"]


def test_a_clock_that_is_set_back_holds_nothing_up():
    course = Course(rule("failures > 10", for_seconds=20))
    assert [course.see(11), course.see(11, after=-3600), course.see(11, after=20)] == ["pending", "pending", "firing"]


def test_each_firing_is_told_once_with_its_end():
    course = Course(rule("failures > 10"))
    seen = []
    for value in (0, 11, 12, 0, 0, 11):
        course.see(value)
        seen.append(told(course))
    assert seen == [[], ["fired"], [], ["resolved"], [], ["fired"]]


def test_it_reminds_while_it_lasts():
    course = Course(rule("failures > 10", repeat_seconds=100))
    course.see(11)
    assert told(course) == ["fired"]
    course.see(11, after=50)
    assert told(course) == []
    course.see(11, after=50)
    assert told(course) == ["reminded"]


def test_many_functions_are_one_message():
    subjects = {f"f{n}": Subject(phase="firing", id=str(n)) for n in range(300)}
    state, tellings = tell(rule(), RuleState(subjects=subjects), 5.0, 1)
    assert [(one.event, len(one.subjects)) for one in tellings] == [("fired", 300)]
    assert all(one.told == "fired" for one in state.subjects.values())


def test_what_finds_no_room_is_told_later_if_it_still_holds():
    course = Course(rule("failures > 10"))
    course.see(11)
    assert told(course, room=0) == []
    assert told(course) == ["fired"]
    course.see(0)
    assert told(course, room=0) == []
    course.see(11)
    assert told(course) == [], "to the receiver it never ended"


def test_what_came_and_went_untold_is_never_told():
    course = Course(rule("failures > 10"))
    course.see(11)
    assert told(course, room=0) == []
    course.see(0)
    assert told(course) == []
    assert course.state.subjects == {}


def test_a_rule_may_keep_its_end_to_itself():
    course = Course(rule("failures > 10", resolve=False))
    seen = []
    for value in (11, 0, 11):
        course.see(value)
        seen.append(told(course))
    assert seen == [["fired"], [], ["fired"]]


_LOOKS = st.lists(
    st.tuples(st.one_of(st.none(), st.floats(0, 20)), st.floats(0, 40), st.integers(0, 2)), min_size=1, max_size=60
)


@settings(max_examples=300, deadline=None)
@given(
    looks=_LOOKS, held=st.sampled_from([0, 10, 60]), calm=st.sampled_from([0, 10, 60]), clear=st.sampled_from(["", "3"])
)
def test_what_is_told_alternates_and_never_flaps(looks, held, calm, clear):
    """Whatever is found, and however much room there is: fired and resolved take turns, one id each."""
    course = Course(rule("failures > 10", clear=clear, for_seconds=held, clear_seconds=calm))
    heard: list[tuple[str, str, float]] = []
    for value, after, room in looks:
        course.see(value, after=after)
        course.state, tellings = tell(course.rule, course.state, course.now, room)
        heard += [(one.event, one.subjects["f"].id, course.now) for one in tellings]
        if value is not None and clear and 3 < value <= 10:
            assert course.phase not in ("pending", "clearing"), "in the dead band nothing goes on"
    events = [event for event, _, _ in heard]
    assert events == (["fired", "resolved"] * len(events))[: len(events)]
    for (_, first, began), (_, last, ended) in zip(heard[::2], heard[1::2], strict=False):
        assert first == last
        assert began <= ended
    assert len({one for _, one, _ in heard}) == len(heard[::2])
