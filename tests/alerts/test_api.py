"""/_/alerts and `fnrun alerts`: what fires, what waits, and a message on trial."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.alerts.book import Book
from runtime.base.settings import load_settings
from runtime.ledger.desk import Desk
from runtime.ledger.minutes import record
from runtime.projects import load_project
from tests.alerts.test_watch import Looker
from tests.commands import Command, command, good
from tests.conftest import client_of
from tests.ledger.trial import Trial

pytestmark = pytest.mark.usefixtures("log")


@pytest.fixture
def root(write_project, valkey: Path, desk: Desk) -> Path:
    toml = f"""
        [store]
        url = "unix://{valkey}"
        namespace = "{desk.store.namespace}"

        [alerts.errors]
        when = "failures > 0"
        function = "f*"
        command = ["true"]
        run = "ops.page"

        [alerts.lost]
        when = "workers < 1"
        for = "1h"
        """
    root = write_project(**{"functions.toml": toml, "functions/f.py": "def f(): ...\n"})
    desk.settings = load_settings(root).settings
    return root


@pytest.fixture
async def looker(desk: Desk, root: Path, trial: Trial) -> Looker:
    """Some failures were seen."""
    settings = desk.settings
    looker = Looker.of_settings(desk, settings)
    await desk.ask(record(desk.ledger, [(int(trial.now // 60), "f", "http", "failed", 3)]))
    await looker.look()
    return looker


async def test_what_fires_is_shown_with_what_waits_to_be_told(root, desk, looker):
    async with client_of(load_project(root), desk=desk, open_locally=True) as client:
        found = (await client.get("/_/alerts")).json()
    errors, lost = found["alerts"]
    firing = errors["firings"][0]
    assert (errors["state"], errors["tells"], errors["function"]) == ("firing", ["command", "run"], "f*")
    assert (firing["function"], firing["value"], firing["since"]) == ("f", 3.0, "2030-03-17T17:46:40.000Z")
    assert (lost["state"], lost["tells"], lost["firings"]) == ("pending", [], [])
    assert [(one["alert"], one["channel"], one["tries"]) for one in found["waiting"]] == [
        ("errors", "command", 0), ("errors", "run", 0),
    ]  # fmt: skip
    assert found["looked_at_by"] == "me"


async def test_a_trial_is_sent_like_any_other(root, desk, looker):
    await looker.parcels()
    async with client_of(load_project(root), desk=desk, open_locally=True) as client:
        answer = await client.post("/_/alerts/errors/test")
        assert answer.status_code == 202
        assert await looker.parcels() == [
            (f"command:errors:{answer.json()['id']}", "test"), (f"run:errors:{answer.json()['id']}", "test"),
        ]  # fmt: skip
        found = (await client.get("/_/alerts")).json()
        assert [(one["event"], one["outcome"]) for one in found["recent"][:2]] == [("test", "sent")] * 2


async def test_there_is_no_trial_of_what_tells_nobody(root, desk):
    async with client_of(load_project(root), desk=desk, open_locally=True) as client:
        nobody = await client.post("/_/alerts/lost/test")
        unknown = await client.post("/_/alerts/errrors/test")
    assert (nobody.status_code, unknown.status_code) == (409, 404)
    assert 'did you mean "errors"' in unknown.json()["detail"]


async def test_only_who_may_read_sees_them_and_only_who_may_do_all_tries_them(root, desk):
    async with client_of(load_project(root), desk=desk) as client:
        assert (await client.get("/_/alerts")).status_code == 401
        assert (await client.post("/_/alerts/errors/test")).status_code == 401


@pytest.fixture(params=[False, True], ids=["here", "there"])
def fnrun(root: Path, desk: Desk, request: pytest.FixtureRequest) -> Iterator[Command]:
    with command(root, desk, "alerts", there=request.param) as run:
        yield run


def test_the_command_lists_them(fnrun):
    result = fnrun("list")
    lines = good(result).splitlines()
    assert lines[0].split() == ["ALERT", "WHEN", "STATE", "TELLS", "FIRING"]
    assert lines[1].split() == ["errors", "failures", ">", "0", "ok", "command,run"]
    assert lines[2].split() == ["lost", "workers", "<", "1", "ok", "the", "log"]
    assert "Nobody looks at them" in result.stderr
    assert json.loads(good(fnrun("list", "--json")))["alerts"][0]["name"] == "errors"


def test_the_command_says_what_came_of_a_trial(fnrun, desk, monkeypatch):
    """Whoever looks is stood in for: it says that one arrived, and that one did not."""
    book = Book(desk.ledger)

    def answer(_: float) -> None:
        for one in desk.ask_sync(book.due(())):
            outcome, error = ("sent", "") if one.channel == "command" else ("again", "the queue is full")
            desk.ask_sync(book.sent(one, outcome, 0.0, error, 60.0))

    monkeypatch.setattr("runtime.cli.observing.alerts.time.sleep", answer)
    result = fnrun("test", "errors")
    assert result.exit_code == 1
    assert "command: told" in result.stdout
    assert "run: the queue is full" in result.stderr


def test_a_trial_that_nobody_sends_says_so(fnrun, monkeypatch):
    monkeypatch.setattr("runtime.cli.observing.alerts._PATIENCE_SECONDS", 0.0)
    assert "no process of this system runs" in fnrun("test", "errors").stderr


async def test_a_trial_that_waits_behind_another_message_says_so(root, desk, looker, monkeypatch):
    """Whose receiver would not take it: what is mended meanwhile is tried again only then."""
    book = Book(desk.ledger)
    for one in await desk.ask(book.due(())):
        await desk.ask(book.sent(one, "again", 0.0, "no such program", 600.0))
    monkeypatch.setattr("runtime.cli.observing.alerts._PATIENCE_SECONDS", 0.0)
    with command(root, desk, "alerts", there=False) as fnrun:
        said = (await asyncio.to_thread(fnrun, "test", "errors")).stderr
    assert re.search(r"command: it was not sent .*; it waits behind one .* tried 1 times, .*: no such program", said)
