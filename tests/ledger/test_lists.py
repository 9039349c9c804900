"""Lists of runs, their pages, and what queues say of themselves."""

import pytest

from runtime.base.errors import InputError
from runtime.ledger.calls import do
from runtime.ledger.records import Submission
from tests.ledger.trial import START, Trial


def some_of_each(trial: Trial) -> dict[str, str]:
    """A run in each state, a second apart."""
    trial.works()
    made = {}
    for state in ("succeeded", "failed", "retrying", "running"):
        made[state] = trial.accept("g" if state == "failed" else "f")
        one = trial.claim_one()
        if state != "running":
            trial.finish(one, state, **({"retry_seconds": 500.0} if state == "retrying" else {}))
        trial.now += 1
    made["cancelled"] = trial.accept()
    trial.cancel(made["cancelled"])
    trial.now += 1
    made["queued"] = trial.accept(trigger="http")
    trial.now += 1
    made["scheduled"] = trial.accept(due=trial.now + 500)
    return made


def test_runs_are_listed_newest_first_in_every_state(trial: Trial):
    made = some_of_each(trial)
    assert trial.list_ids() == sorted(made.values(), reverse=True)
    for state, run_id in made.items():
        assert trial.list_ids(states=[state]) == [run_id]
    assert trial.list_ids(states=["failed", "running", "cancelled"]) == [
        made["cancelled"],
        made["running"],
        made["failed"],
    ]


def test_runs_are_listed_by_function_trigger_and_time(trial: Trial):
    made = some_of_each(trial)
    assert trial.list_ids("g") == [made["failed"]]
    assert trial.list_ids("f", "g", "f") == trial.list_ids()
    assert trial.list_ids("nobody") == []
    assert trial.list_ids(trigger="http") == [made["queued"]]
    assert trial.list_ids(since=START + 4) == [made["scheduled"], made["queued"], made["cancelled"]]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
def test_pages_together_are_the_whole_list(trial: Trial, limit: int):
    trial.works("w", "f", "g", "h")
    ids = []
    for n in range(20):
        ids.append(trial.accept("fgh"[n % 3]))
        trial.now += 0.25
    assert trial.list_ids(limit=limit) == ids[::-1]
    assert trial.list_ids("f", limit=limit) == ids[::3][::-1]


@pytest.mark.parametrize("limit", [1, 3, 5, 16, 17, 100])
def test_no_run_is_left_out_where_many_have_one_score(trial: Trial, limit: int):
    names = [f"{n % 10}-{n}" for n in range(60)]
    for name in names:
        trial.accept("f" if int(name[0]) % 2 else "g", id=name)
    for fn in "fg":
        for name in trial.client.zrange(trial.key(f"open:{fn}"), 0, -1):
            trial.client.zadd(trial.key(f"open:{fn}"), {name: trial.now * 1000})
    assert trial.list_ids(limit=limit) == sorted(names, reverse=True)


def test_a_page_holds_a_thousand_at_most_and_no_less_than_it_can(trial: Trial):
    trial.accept_many(Submission(id=f"{n:04}", function="f") for n in range(1100))
    first = trial.page(limit=5000)
    assert len(first.runs) == 1000
    assert len(trial.page(cursor=first.cursor, limit=5000).runs) == 100


def test_a_search_among_many_goes_on_from_its_cursor(trial: Trial):
    trial.accept(id="needle", trigger="http")
    trial.accept_many(Submission(id=f"{n:04}", function="f") for n in range(4500))
    page = trial.page(trigger="http")
    assert page.runs == ()
    assert page.cursor
    assert trial.list_ids(trigger="http") == ["needle"]


def test_the_last_page_has_no_cursor(trial: Trial):
    for _ in range(4):
        trial.accept()
    first = trial.page(limit=2)
    assert first.cursor
    assert trial.page(cursor=first.cursor, limit=2).cursor == ""
    assert trial.page(limit=4).cursor == ""
    assert trial.page("nobody").cursor == ""


def test_runs_that_come_meanwhile_do_not_disturb_the_pages(trial: Trial):
    ids = [trial.accept() for _ in range(6)]
    first = trial.page(limit=3)
    trial.accept()
    second = trial.page(limit=3, cursor=first.cursor)
    assert [run.id for run in (*first.runs, *second.runs)] == ids[::-1]


@pytest.mark.parametrize(
    "cursor", ["x", "x:y", "1", "1:", ":a", "inf:a", "nan:a", "1.2.3:a", "1e:a", "+inf:a", "\u0661:a"]
)
def test_what_is_no_cursor_is_an_input_error(trial: Trial, cursor: str):
    with pytest.raises(InputError, match="is no cursor"):
        trial.page(cursor=cursor)


def test_an_id_with_a_colon_is_a_good_cursor(trial: Trial):
    for name in ("a:1", "a:2", "a:3"):
        trial.accept(id=name)
    assert trial.list_ids(limit=1) == ["a:3", "a:2", "a:1"]


def test_a_view_says_what_is_known_of_a_run(trial: Trial):
    trial.works()
    run_id = trial.accept(payload=b'{"x": 1}', queue="q", priority=2, parent="p", trace="t", max_age_seconds=9.0)
    view = trial.show(run_id)
    assert (view.function, view.queue, view.state, view.trigger, view.priority) == ("f", "q", "queued", "submit", 2)
    assert (view.accepted, view.due, view.expires, view.claimed) == (START, START, START + 9, None)
    assert (view.parent, view.trace, bytes(view.payload or b"")) == ("p", "t", b'{"x": 1}')
    trial.now += 1
    trial.claim_one("w", "q")
    view = trial.show(run_id)
    assert (view.claimed, view.worker) == (START + 1, "w")


def test_several_are_shown_in_the_order_asked_and_none_where_there_is_none(trial: Trial):
    one, other = trial.accept(), trial.accept()
    views = do(trial.client, trial.ledger.show([other, "nobody", one]))
    assert [view and view.id for view in views] == [other, None, one]


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b"", None),
        (b'{"x": "\xff"}', b'"{\\"x\\": \\"\xef\xbf\xbd\\"}"'),
        (b"[", b'"["'),
        (b"[" * 9000, b'"' + b"[" * 9000 + b'"'),
    ],
)
def test_a_payload_that_is_no_json_is_shown_as_a_string(trial: Trial, payload: bytes, shown: bytes | None):
    view = trial.show(trial.accept(payload=payload))
    assert (view.payload and bytes(view.payload)) == shown


def test_a_queue_tells_how_long_it_is_and_how_long_its_oldest_run_waits(trial: Trial):
    trial.works()
    trial.accept(priority=9)
    trial.accept("nobody")
    trial.now += 2
    trial.accept(priority=1)
    trial.accept(due=trial.now + 60)
    one, *_ = trial.claim(slots=1)
    trial.now += 3
    trial.accept(priority=9)
    view = trial.queue()
    assert (view.ready, view.later, view.running, view.unknown, view.paused) == (3, 1, 1, 0, False)
    assert view.age_seconds == 5.0
    trial.claim(slots=1)
    trial.claim(slots=1)
    view = trial.queue()
    assert (view.ready, view.running, view.unknown, view.age_seconds) == (0, 3, 1, 0.0)
    trial.finish(one)
    assert trial.queue().running == 2


def test_queues_are_told_by_name(trial: Trial):
    for queue in ("b", "a", "é"):
        trial.accept(queue=queue)
    trial.pause("c")
    assert [view.name for view in do(trial.client, trial.ledger.queues())] == ["a", "b", "c", "é"]
