"""`fnrun runs`, `queues` and `invoke --async`: on the project's own store, and on a running system, alike."""

import json
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.ledger.desk import Desk
from runtime.ledger.minutes import record
from tests.commands import Command, command, good
from tests.desks import Worker, refuse_message, submit, view_of
from tests.ledger.test_lines import keep
from tests.ledger.trees import group, step, submission

FILES = {
    "functions/shop.py": """
        from collections.abc import AsyncIterator
        from runtime import Breaker, Request, fn, http, queue

        @http.post("/sell")
        @queue("sales")
        async def sell(n: int) -> int: ...

        @http.get("/stream")
        async def stream() -> AsyncIterator[str]:
            yield "now"

        @fn(concurrency=3, key="n", rate="10/m", breaker=Breaker(2, reset="30s"))
        def buy(n: int) -> int: ...
        """
}


@pytest.fixture
def root(write_project, valkey: Path, desk: Desk) -> Path:
    namespace = desk.store.namespace
    return write_project(
        **FILES, **{"functions.toml": f'[store]\nurl = "unix://{valkey}"\nnamespace = "{namespace}"\n'}
    )


@pytest.fixture(params=["here", "there"])
def fnrun(request, root: Path, desk: Desk) -> Iterator[Command]:
    with command(root, desk, there=request.param == "there") as found:
        yield found


def test_list_prints_a_table_or_json(fnrun, desk: Desk):
    assert good(fnrun("runs", "list")).split() == [
        "ID",
        "STATE",
        "FUNCTION",
        "QUEUE",
        "TRIGGER",
        "ACCEPTED",
        "FINISHED",
    ]
    first, second = submit(desk, "shop.sell", queue="sales", trigger="http"), submit(desk, "shop.stream")
    worker = Worker(desk, "shop.sell", queues=("sales",))
    worker.end(worker.claim(), state="failed", reason="timeout")
    lines = good(fnrun("runs", "list")).splitlines()
    assert [line.split()[0] for line in lines[1:]] == [first, second]
    assert re.fullmatch(rf"{first}  failed \(timeout\)  shop.sell +sales +http +(\d{{4}}-\S+ \S+ *){{2}}", lines[1])
    assert [run["id"] for run in json.loads(good(fnrun("runs", "list", "--json")))] == [first, second]
    for chosen in (
        ["--state", "failed"], ["--function", "shop.sell"], ["--trigger", "http"], ["--limit", "1"],
        ["--state", "failed,succeeded", "--since", "1h"], ["--function", "shop.sell", "--function", "nobody"],
    ):  # fmt: skip
        assert [run["id"] for run in json.loads(good(fnrun("runs", "list", "--json", *chosen)))] == [first]


def test_list_goes_through_all_pages(fnrun, desk: Desk, monkeypatch):
    monkeypatch.setattr(sys.modules["runtime.cli.runs"], "_PAGE", 3)
    ids = {submit(desk, "shop.sell") for _ in range(8)}
    assert {run["id"] for run in json.loads(good(fnrun("runs", "list", "--json")))} == ids
    assert len(json.loads(good(fnrun("runs", "list", "--json", "--limit", "5")))) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "--state", "done"], '"done" is no state that can be asked for here; there are: scheduled, queued,'),
        (["list", "--since", "yesterday"], "is neither a duration"),
        (["show", "nobody"], "there is no run nobody"),
        (["redrive", "--state", "succeeded", "--yes", "--function", "f"], "no such runs"),
    ],
)
def test_what_is_asked_wrongly_is_said(fnrun, arguments: list[str], message: str):
    result = fnrun("runs", *arguments)
    assert (result.exit_code, message in result.output) == (0 if message == "no such runs" else 1, True)


def test_show_prints_all_of_a_run_and_nothing_that_steers_a_terminal(fnrun, desk: Desk):
    run_id = submit(desk, "shop.sell", payload=b'{"n":1}')
    worker = Worker(desk, "shop.sell")
    worker.fail(worker.claim(), message="red \x1b[31m\nalert", began=1.0, ended=2.0)
    text = good(fnrun("runs", "show", run_id))
    assert "state:        failed" in text
    assert 'payload:      {"n": 1}' in text
    assert "attempt 1:    failed, 1970-01-01 00:00:01 to 1970-01-01 00:00:02, error, " in text
    assert "failure:      ValueError: red \\x1b[31m\\nalert" in text
    assert "secret lines" in text
    assert "\x1b" not in text
    assert json.loads(good(fnrun("runs", "show", run_id, "--json")))["failure"]["type"] == "ValueError"


def test_acts_by_id_say_what_became_of_each(fnrun, desk: Desk):
    first, second = submit(desk, "shop.sell"), submit(desk, "shop.sell")
    worker = Worker(desk, "shop.sell")
    worker.fail(worker.claim())
    assert good(fnrun("runs", "redrive", first)) == f"{first}  queued\n"
    mixed = fnrun("runs", "redrive", first, second, "nobody")
    assert (mixed.exit_code, mixed.stdout) == (1, f"{first}  open\n{second}  open\nnobody  unknown\n")
    assert good(fnrun("runs", "cancel", first, second)) == f"{first}  cancelled\n{second}  cancelled\n"
    assert good(fnrun("runs", "purge", first)) == f"{first}  purged\n"


def test_redrive_says_what_to_do_about_a_refused_message(fnrun, desk: Desk):
    run_id = refuse_message(desk)
    one = fnrun("runs", "redrive", run_id)
    assert (one.exit_code, one.stdout) == (1, f"{run_id}  refused\n")
    assert "purge it, and have it sent again" in one.stderr
    many = fnrun("runs", "redrive", "--function", "shop.sell", "--yes")
    assert (many.exit_code, many.stdout, "purge it" in many.stderr) == (0, "1 refused\n", True)


def test_cancel_takes_a_whole_tree(fnrun, desk: Desk):
    top = submit(desk, "shop.sell")
    child = submit(desk, "shop.sell", parent=top)
    assert good(fnrun("runs", "cancel", "--tree", top)) == f"{top}  cancelled\n  1 descendants  cancelled\n"
    assert view_of(desk, child).state == "cancelled"


def test_acts_on_many_ask_first_with_their_number(fnrun, desk: Desk, monkeypatch):
    monkeypatch.setattr(sys.modules["runtime.cli.runs"], "_PAGE", 2)
    ids = [submit(desk, "shop.sell") for _ in range(5)]
    worker = Worker(desk, "shop.sell")
    for _ in ids:
        worker.fail(worker.claim())
    refused = fnrun("runs", "redrive", "--function", "shop.sell", stdin="n\n")
    assert (refused.exit_code, "redrive 5 runs? [y/N]" in refused.stderr) == (1, True)
    assert view_of(desk, ids[0]).state == "failed"
    assert good(fnrun("runs", "redrive", "--function", "shop.sell", stdin="y\n")) == "5 queued\n"
    assert good(fnrun("runs", "cancel", "--state", "queued", "--limit", "1", "--yes")) == "1 cancelled\n"
    assert good(fnrun("runs", "purge", "--since", "1h", "--yes")) == "1 purged\n"
    assert good(fnrun("runs", "purge", "--since", "1h", "--yes")) == "no such runs\n"


@pytest.mark.parametrize("arguments", [[], ["x", "--function", "f"], ["--limit", "5", "--yes"]])
def test_acts_want_ids_or_a_selection(fnrun, arguments: list[str]):
    for verb in ("cancel", "redrive", "purge"):
        result = fnrun("runs", verb, *arguments)
        assert (result.exit_code, "say which runs" in result.stderr) == (2, True)


def test_queues_are_listed_paused_and_resumed(fnrun, desk: Desk):
    submit(desk, "shop.sell", queue="sales")
    lines = good(fnrun("queues", "list")).splitlines()
    assert lines[0].split() == ["QUEUE", "READY", "LATER", "RUNNING", "UNKNOWN", "LIMITED", "AGE"]
    assert lines[1].split()[:5] == ["sales", "1", "0", "0", "0"]
    assert good(fnrun("queues", "pause", "sales")) == "sales paused\n"
    assert good(fnrun("queues", "pause", "sales")) == "sales paused, as it was before\n"
    assert good(fnrun("queues", "list")).splitlines()[1].endswith("paused")
    assert json.loads(good(fnrun("queues", "list", "--json")))[0]["paused"] is True
    assert good(fnrun("queues", "resume", "sales")) == "sales resumed\n"


def test_invoke_async_prints_the_id_of_a_run(fnrun, desk: Desk):
    run_id = good(fnrun("invoke", "shop.sell", "--data", '{"n": 5}', "--async")).strip()
    view = view_of(desk, run_id)
    assert (view.function, view.queue, bytes(view.payload or b"")) == ("shop.sell", "sales", b'{"n":5}')
    assert view.trigger in ("cli", "api")


def works(desk: Desk, **said) -> threading.Thread:
    def work() -> None:
        worker = Worker(desk, "shop.sell", queues=("sales",))
        run = worker.wait_for_one()
        (worker.fail if "kind" in said else worker.end)(run, **said)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_invoke_async_waits_for_the_result_if_asked(fnrun, desk: Desk):
    thread = works(desk, state="succeeded", result=b'{"sold": "\\u00e9"}')
    result = fnrun("invoke", "shop.sell", "--data", '{"n": 5}', "--async", "--wait", "20s")
    thread.join()
    assert good(result) == '{"sold":"é"}\n'
    assert re.search(r"^[0-9a-f]{32}$", result.stderr, re.MULTILINE)


def test_invoke_async_exits_1_when_there_is_no_result(fnrun, desk: Desk):
    thread = works(desk, kind="ValueError", message="no more")
    failed = fnrun("invoke", "shop.sell", "--data", '{"n": 5}', "--async", "--wait", "20s")
    thread.join()
    assert (failed.exit_code, "shop.sell failed: ValueError: no more" in failed.stderr) == (1, True)
    late = fnrun("invoke", "shop.sell", "--data", '{"n": 5}', "--async", "--wait", "10ms")
    assert (late.exit_code, "has not finished after 10ms: it is queued" in late.stderr) == (1, True)
    desk.ask_sync(desk.ledger.cancel([run.id for run in desk.ask_sync(desk.ledger.runs(states=["queued"])).runs]))
    thread = works(desk, state="cancelled", reason="cancelled")
    ended = fnrun("invoke", "shop.sell", "--data", '{"n": 5}', "--async", "--wait", "20s")
    thread.join()
    assert ended.exit_code == 1


def test_invoke_async_is_checked_before_anything_is_accepted(fnrun, desk: Desk):
    wrong = fnrun("invoke", "shop.sell", "--data", '{"n": "5"}', "--async")
    assert (wrong.exit_code, "the input does not fit the function" in wrong.stderr) == (1, True)
    streams = fnrun("invoke", "shop.stream", "--async")
    assert (streams.exit_code, "shop.stream cannot run later" in streams.stderr) == (1, True)
    assert "Traceback" not in streams.stderr
    assert fnrun("invoke", "shop.sell", "--wait", "5s").exit_code == 2
    assert fnrun("invoke", "shop.sell", "--async", "--wait", "soon").exit_code == 1
    assert fnrun("invoke", "nobody", "--async").exit_code == 1
    assert desk.ask_sync(desk.ledger.runs()).runs == ()


def test_a_flow_is_shown_and_its_steps_are_listed(fnrun, desk: Desk):
    flow = submission(group(step("shop.sell"), step("shop.sell"), collect=True), id="mine")
    desk.ask_sync(desk.ledger.accept_flow(flow))
    worker = Worker(desk, "shop.sell")
    worker.fail(worker.claim())
    text = good(fnrun("runs", "show", "mine"))
    assert 'steps:        {"total": 2, "open": 1, "succeeded": 0, "failed": 1, "cancelled": 0}' in text
    assert 'children:     ["mine-1", "mine-2"]' in text
    assert "flow:         mine\nstep:         2" in good(fnrun("runs", "show", "mine-2"))
    assert [run["id"] for run in json.loads(good(fnrun("runs", "list", "--json", "--parent", "mine")))] == [
        "mine-1",
        "mine-2",
    ]
    assert good(fnrun("runs", "cancel", "--parent", "mine", "--yes")) == "1 cancelled\n"
    assert fnrun("runs", "redrive", "mine-1", "mine").stdout == "mine-1  succeeded\nmine  succeeded\n"


def test_limits_are_listed(fnrun):
    lines = good(fnrun("limits")).splitlines()
    assert lines[0].split() == [
        "FUNCTION", "CONCURRENCY", "RATE", "KEYED", "HELD", "CALLERS", "WAITING", "KEYS", "BREAKER"
    ]  # fmt: skip
    assert lines[1].split() == ["shop.buy", "3", "10", "in", "60s,", "10", "at", "once", "yes", *"0000", "closed"]
    (found,) = json.loads(good(fnrun("limits", "--json")))
    assert found["rate"] == {"count": 10, "seconds": 60, "burst": 10}
    assert found["breaker"] == {"state": "closed", "failures": 2, "reset_seconds": 30, "open_seconds": 0}


def test_what_a_run_has_logged_is_printed_and_followed_to_its_end(fnrun, desk: Desk):
    run_id, worker = submit(desk, "shop.sell", queue="sales"), Worker(desk, "shop.sell", queues=("sales",))
    run = worker.claim()
    keep(desk, run_id, range(1200), most=1100)
    ending = threading.Timer(0.3, lambda: (keep(desk, run_id, ["\x1b[31mlast"], most=2000), worker.finish(run)))
    ending.start()
    found = fnrun("runs", "logs", "-f", run_id)
    ending.join()
    lines = good(found).splitlines()
    assert (len(lines), lines[0], lines[-1]) == (
        1101,
        "1970-01-01T00:00:01.000Z [info] 100",
        "1970-01-01T00:00:01.000Z [info] \\x1b[31mlast",
    )
    assert "100 older lines are not kept" in found.stderr
    assert json.loads(good(fnrun("runs", "logs", run_id, "--json")).splitlines()[-1])["number"] == 1201
    shown = good(fnrun("runs", "show", run_id))
    assert f"(1101 more: `fnrun runs logs {run_id}`)" in shown
    assert shown.count("[info]") == 100
    assert "there is no run" in fnrun("runs", "logs", "nobody").stderr


def test_stats_prints_what_was_counted(fnrun, desk: Desk):
    now = int(desk.ledger.now() // 60)
    rows = [(now, "shop.sell", "http", what, n) for what, n in (("succeeded", 3), ("failed", 1), ("ms", 50), ("b3", 4))]
    desk.ask_sync(record(desk.ledger, rows))
    submit(desk, "shop.sell", queue="sales")
    line = good(fnrun("stats", "--minutes", "5")).splitlines()[1].split()
    assert line == ["shop.sell", "4", "0.8", "12.5ms", "9.8ms", "1", "25.0%", "0", "1", "0"]
    assert json.loads(good(fnrun("stats", "shop.buy", "--json")))["functions"] == []
