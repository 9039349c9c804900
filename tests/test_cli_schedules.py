"""`fnrun schedules`: on the project's own store, and on a running system, alike."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from runtime.cli import main
from runtime.ledger.desk import Desk
from runtime.projects import load_project
from tests.commands import Command, command, good
from tests.desks import view_of
from tests.schedulers import Scheduler

FILES = {
    "functions/shop.py": """
        from runtime import cron, fn, interval, queue

        @cron("30 2 * * *", tz="Europe/Paris", name="night", payload={"n": 1})
        @queue("sales")
        def count(n: int = 0) -> int: ...

        @interval("1h", name="poll")
        async def poll(): ...

        @fn()
        async def remind(user: int): ...
        """
}
NIGHT = "shop.count:night"


@pytest.fixture
def root(write_project, valkey: Path, desk: Desk) -> Path:
    toml = f"""
        [store]
        url = "unix://{valkey}"
        namespace = "{desk.store.namespace}"

        [schedules.toml]
        function = "shop.poll"
        at = "2099-01-01T00:00:00+00:00"
        """
    return write_project(**FILES, **{"functions.toml": toml})


@pytest.fixture(params=["here", "there"])
def fnrun(request, root: Path, desk: Desk) -> Iterator[Command]:
    with command(root, desk, "schedules", there=request.param == "there") as found:
        yield found


def test_list_prints_a_table_or_fires_or_json(fnrun):
    head, *lines = good(fnrun("list")).splitlines()
    assert head.split() == ["ID", "FUNCTION", "RULE", "NEXT", "LAST"]
    assert [line.split()[0] for line in lines] == [NIGHT, "shop.poll:poll", "toml"]
    assert "30 2 * * * Europe/Paris" in lines[0]
    assert "every 1h" in lines[1]
    assert "at 2099-01-01T00:00:00+00:00  2099-01-01 00:00:00+00:00  -" in lines[2]
    assert [one["id"] for one in json.loads(good(fnrun("list", "--json")))] == [NIGHT, "shop.poll:poll", "toml"]
    of_poll = json.loads(good(fnrun("list", "--json", "--function", "shop.poll")))
    assert [one["source"] for one in of_poll] == ["code", "functions.toml"]


def test_more_fires_are_lines_that_say_where_the_clocks_change(fnrun):
    lines = good(fnrun("list", "--next", "100", "--function", "shop.count")).splitlines()
    good(fnrun("add", "long", "shop.count", "--cron", "30 2 28-31 3 0", "--tz", "Europe/Paris"))
    assert lines[0] == f"{NIGHT}  30 2 * * * Europe/Paris"
    assert len(lines) == 101
    year = json.loads(good(fnrun("show", NIGHT, "--next", "100", "--json")))["next"]
    shifted = [(line, fire) for line, fire in zip(lines[1:], year, strict=True) if fire["shift"]]
    for line, fire in shifted:
        word = "the clocks skip the time it names" if fire["shift"] == "gap" else "the clocks show this time twice"
        assert word in line
    gap = json.loads(good(fnrun("show", "long", "--next", "30", "--json")))["next"]
    assert "gap" in {fire["shift"] for fire in gap}
    assert "the clocks skip the time it names" in good(fnrun("show", "long", "--next", "30"))


def test_list_goes_through_all_pages(fnrun, monkeypatch):
    monkeypatch.setattr(sys.modules["runtime.cli.schedules"], "_PAGE", 2)
    assert len(json.loads(good(fnrun("list", "--json")))) == 3


def test_one_is_changed_shown_and_reset(fnrun):
    text = good(fnrun("set", NIGHT, "--cron", "0 3 * * *", "--overlap", "2", "--jitter", "0", "--payload", '{"n": 5}'))
    assert "rule:             0 3 * * *\n" in text
    assert 'changed:          rule: "0 3 * * *", declared as "30 2 * * *"\n' in text
    assert 'changed:          payload: {"n": 5}, declared as {"n": 1}\n' in text
    assert "changed:          overlap: 2, declared as " in text
    assert text.count("next:") == 5
    assert good(fnrun("list")).splitlines()[1].endswith("changed")
    assert "changed:" not in good(fnrun("reset", "shop.count"))


def test_one_is_paused_and_resumed(fnrun):
    assert good(fnrun("pause", "shop.count")) == f"{NIGHT} paused\n"
    assert good(fnrun("pause", NIGHT)) == f"{NIGHT} paused, as it was before\n"
    assert "next:             paused" in good(fnrun("show", NIGHT))
    assert "paused" in good(fnrun("list")).splitlines()[1]
    assert good(fnrun("resume", NIGHT)) == f"{NIGHT} resumed\n"


def test_one_runs_now_and_its_run_is_printed(fnrun, desk: Desk):
    run_id = good(fnrun("run", "shop.count")).strip()
    view = view_of(desk, run_id)
    assert (view.function, view.queue, view.trigger, bytes(view.payload or b"")) == (
        "shop.count", "sales", "manual", b'{"n":1}',
    )  # fmt: skip


def test_one_is_added_replaced_and_removed(fnrun):
    text = good(fnrun("add", "u:1", "shop.remind", "--interval", "15m", "--payload", '{"user": 1}', "--timeout", "1m"))
    assert "source:           added\n" in text
    assert "timeout_seconds:  60.0\n" in text
    again = fnrun("add", "u:1", "shop.remind", "--interval", "15m", "--payload", '{"user": 1}')
    assert (again.exit_code, "already; say replace" in again.output) == (1, True)
    good(fnrun("add", "u:1", "shop.remind", "--at", "2099-01-01T00:00:00Z", "--payload", '{"user": 1}', "--replace"))
    assert good(fnrun("remove", "u:1")) == "u:1 removed\n"
    assert "no schedule" in fnrun("remove", "u:1").output


def test_a_backfill_says_how_many_and_asks(fnrun, desk: Desk):
    span = ["--from", "2024-10-26", "--to", "2024-10-29"]
    refused = fnrun("backfill", NIGHT, *span, stdin="n\n")
    asks = f"run 3 ticks of {NIGHT}, from 2024-10-26 00:30:00 to 2024-10-28 01:30:00 (UTC)? [y/N]"
    assert (refused.exit_code, asks in refused.stderr) == (1, True)
    assert good(fnrun("backfill", NIGHT, *span, stdin="y\n")) == "3 queued, 0 had run already\n"
    assert good(fnrun("backfill", NIGHT, *span, "--yes")) == "0 queued, 3 had run already\n"
    none = ["--from", "2024-10-26T03:00", "--to", "2024-10-26T04:00"]
    assert good(fnrun("backfill", NIGHT, *none)) == "no ticks are in that range\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "shop.cuont"], 'no schedule "shop.cuont"; did you mean "shop.count:night"'),
        (["set", NIGHT], "say what to change"),
        (["set", NIGHT, "--missed", "sometimes"], "missed: one of skip, latest, all"),
        (["set", NIGHT, "--payload", "{"], "--payload is not JSON"),
        (["add", "x", "shop.nobody", "--cron", "@daily"], 'no function "shop.nobody"'),
        (["add", "x", "shop.count", "--cron", "61 * * * *"], "cron: "),
        (["remove", NIGHT], "is declared in functions/shop.py:4: take it out there, or pause it"),
        (["remove", "toml"], "is declared in functions.toml:6"),
        (["backfill", NIGHT, "--from", "x"], "from: a date"),
    ],
)
def test_what_is_asked_wrongly_is_said(fnrun, arguments: list[str], message: str):
    result = fnrun(*arguments)
    assert (result.exit_code, message in result.output) == (1, True), result.output
    assert "; : " not in result.output


def test_here_and_what_a_scheduler_registered_are_one_list(fnrun, root: Path, desk: Desk):
    registry = load_project(root).registry
    desk.registry = lambda: registry
    scheduler = Scheduler(desk)
    [run_id] = scheduler.fire(NIGHT, scheduler.entry(NIGHT).last_ms + 1, missed=3)
    text = good(fnrun("show", NIGHT))
    assert f"last_run:         {run_id}\n" in text
    assert "registered:       true\n" in text
    assert "skipped:          3 up to " in text


def test_a_file_that_does_not_load_is_told_beside(root: Path, write_project):
    write_project(**{"functions/broken.py": "import nothing_of_that_name"})
    result = CliRunner().invoke(main, ["--dir", str(root), "schedules", "list"])
    assert "functions/broken.py:1: ModuleNotFoundError" in result.stderr
    assert NIGHT in good(result)
