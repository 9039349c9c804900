"""Background tasks in authors' tests: they run on the test's loop, are waited for, and end with the harness."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import BackgroundClosed, BackgroundFull, background
from runtime.testing import Harness

APP = """
    import asyncio
    from runtime import background, fn, http

    seen: list = []

    async def note(what: str, seconds: float = 0.0) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            seen.append(f"{what} cancelled")
            raise
        seen.append(what)

    @http.post("/notes")
    async def add(what: str, seconds: float = 0.0) -> str:
        return background.spawn(note, what, seconds).id

    @http.post("/sync-notes")
    def add_sync(what: str) -> str:
        return background.spawn(note, what).id

    @fn()
    def later(what: str) -> None:
        background.spawn(note, what)

    @http.get("/heavy")
    async def heavy(n: int) -> int:
        return await background.in_process(square, n)

    def square(n: int) -> int:
        return n * n
    """


@pytest.fixture
def root(write_project: Callable[..., Path]) -> Path:
    return write_project(**{"functions/notes.py": APP, "functions.toml": "[background]\nconcurrency = 2\nqueue = 1\n"})


async def test_tasks_of_calls_and_runs_are_waited_for(root):
    async with Harness(root) as harness:
        from functions.notes import seen

        first = await harness.http.post("/notes", json={"what": "a"})
        assert await background.result(first.json()) is None
        await harness.http.post("/sync-notes", json={"what": "b"})
        await harness.submit("notes.later", what="c")
        await harness.run_until_idle()
        assert await background.idle("5s")
        assert sorted(seen) == ["a", "b", "c"]
        assert background.list()[0].run_id == first.headers["x-run-id"]


async def test_the_projects_bounds_hold_and_its_api_tells(root, log):
    async with Harness(root) as harness:
        answers = [await harness.http.post("/notes", json={"what": "x", "seconds": 60}) for _ in range(4)]
        assert [one.status_code for one in answers] == [200, 200, 200, 429]
        assert answers[3].headers["retry-after"]
        told = (await harness.http.get("/_/background")).json()
        assert (told["statistics"]["running"], told["statistics"]["refused"]) == (2, 1)
        assert [one["function"] for one in told["tasks"]] == ["functions.notes.note"] * 3
        for one in background.list():
            background.cancel(one.id)
        assert await background.idle("5s")


async def test_a_function_of_the_project_runs_in_a_process(root):
    async with Harness(root) as harness:
        assert (await harness.http.get("/heavy?n=7")).json() == 49


async def test_what_is_open_at_the_end_is_cancelled(root, monkeypatch, log):
    monkeypatch.setattr("runtime.testing.harness._STOP_SECONDS", 0.05)
    async with Harness(root) as harness:
        from functions.notes import seen

        await harness.http.post("/notes", json={"what": "slow", "seconds": 60})
        task = background.list()[-1]
    assert seen[-1] == "slow cancelled"
    assert any(line["event"] == "background tasks are cancelled, for the process ends" for line in log.entries)
    assert task.id


def test_the_refusals_are_the_products_own_errors():
    assert issubclass(BackgroundFull, Exception)
    assert str(BackgroundClosed()).startswith("this process is about to end")
