"""idempotent= on runs: one of those that mean the same is executed, and its result is that of all."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from runtime.ledger.once import pause_seconds
from runtime.projects import load_project
from runtime.testing import Harness
from tests.live_servers import until

FUNCTIONS = """
    import asyncio
    from runtime import Context, Problem, Reply, Retry, fn, http, queue

    calls: list = []
    go = asyncio.Event()

    @http.post("/work", status=201)
    @queue("default")
    @fn(idempotent=lambda key: key, retries=Retry(attempts=3, wait="10s", jitter=False), max_age="30m")
    async def work(key: str, note: str = "", fails: int = 0) -> Reply:
        calls.append(note)
        if note == "wait":
            await go.wait()
        if len(calls) <= fails:
            raise OSError("no")
        return Reply([len(calls), note])

    @fn(idempotent=lambda n: 1 / n)
    def broken(n: int) -> int:
        return n

    @http.post("/opaque")
    @queue("default")
    @fn(idempotent=lambda: 1)
    async def opaque():
        from starlette.responses import PlainTextResponse

        return PlainTextResponse("x")
"""


@pytest.fixture
async def harness(write_project: Callable) -> AsyncIterator[Harness]:
    project = load_project(write_project(**{"functions/jobs.py": FUNCTIONS}))
    async with Harness(project) as harness:
        yield harness


@pytest.fixture
def jobs(harness: Harness) -> dict[str, Any]:
    """What is in the function file."""
    return harness._registered.registry.functions["jobs.work"].call.__globals__


def result(harness: Harness, run_id: str) -> Any:
    view = harness.run(run_id)
    assert (view.state, view.failures) == ("succeeded", 0)
    return msgspec.json.decode(view.result or b"null")


async def reach(harness: Harness, run_id: str, state: str) -> None:
    await asyncio.to_thread(until, lambda: harness.run(run_id).state == state, 15)


async def test_of_runs_that_mean_the_same_one_is_executed(harness, jobs):
    runs = [await harness.submit("jobs.work", key="k", note=str(n)) for n in range(100)]
    assert await harness.run_until_idle() == 100
    assert jobs["calls"] == ["0"]
    assert [result(harness, run.id) for run in runs] == [[1, "0"]] * 100
    other = await harness.submit("jobs.work", key="other")
    await harness.run_until_idle()
    assert result(harness, other.id) == [2, ""]


async def test_those_that_come_while_it_is_at_work_wait_and_spend_no_attempt(harness, jobs):
    first = await harness.submit("jobs.work", key="k", note="wait")
    second = await harness.submit("jobs.work", key="k")
    idle = asyncio.create_task(harness.run_until_idle())
    await reach(harness, second.id, "scheduled")
    early = await harness.http.post("/work", json={"key": "k"})
    assert (early.status_code, early.headers["retry-after"]) == (409, "1")
    waiting = harness.run(second.id)
    assert (waiting.failures, waiting.crashes, waiting.attempts) == (0, 0, ())
    jobs["go"].set()
    await idle
    await harness.advance("5m")
    assert [result(harness, run.id) for run in (first, second)] == [[1, "wait"]] * 2


async def test_it_keeps_its_key_over_its_retries(harness, jobs):
    first = await harness.submit("jobs.work", key="k", fails=2)
    await harness.run_until_idle()
    second = await harness.submit("jobs.work", key="k", note="second")
    await harness.advance("10s")
    assert (harness.run(first.id).state, harness.run(second.id).failures) == ("retrying", 0)
    await harness.advance("5m")
    assert harness.run(first.id).state == "succeeded"
    assert result(harness, second.id) == [3, ""]


async def test_the_next_one_is_executed_when_it_failed_for_good(harness, jobs):
    first = await harness.submit("jobs.work", key="k", fails=3)
    await harness.run_until_idle()
    second = await harness.submit("jobs.work", key="k", note="second")
    await harness.advance("10m")
    assert harness.run(first.id).state == "failed"
    assert result(harness, second.id) == [4, "second"]
    redriven = await harness.ask(harness.ledger.redrive([first.id]))
    await harness.run_until_idle()
    assert redriven == ["queued"]
    assert result(harness, first.id) == [4, "second"]


async def test_a_result_is_that_of_all_for_a_day(harness, jobs):
    for _ in range(2):
        await harness.submit("jobs.work", key="k")
        await harness.advance("23h59m")
    assert jobs["calls"] == [""]
    await harness.advance("2m")
    await harness.submit("jobs.work", key="k")
    await harness.run_until_idle()
    assert jobs["calls"] == ["", ""]


async def test_calls_by_http_and_runs_share_what_was_done(harness, jobs):
    answer = await harness.http.post("/work", json={"key": "k", "note": "http"})
    run = await harness.submit("jobs.work", key="k")
    await harness.run_until_idle()
    assert (answer.status_code, answer.json()) == (201, [1, "http"])
    assert result(harness, run.id) == [1, "http"]
    await harness.submit("jobs.work", key="l", note="run")
    await harness.run_until_idle()
    answer = await harness.http.post("/work", json={"key": "l"})
    assert (answer.status_code, answer.json()) == (201, [2, "run"])


async def test_who_waits_for_longer_than_its_age_fails(harness, jobs):
    await harness.submit("jobs.work", key="k", note="wait")
    second = await harness.submit("jobs.work", key="k")
    idle = asyncio.create_task(harness.run_until_idle())
    await reach(harness, second.id, "scheduled")
    harness._seconds += 3600
    await reach(harness, second.id, "failed")
    assert harness.run(second.id).reason == "expired"
    jobs["go"].set()
    await idle


async def test_a_key_that_cannot_be_made_fails_the_run_by_name(harness):
    run = await harness.submit("jobs.broken", n=0)
    await harness.run_until_idle()
    view = harness.run(run.id)
    assert (view.state, view.reason, view.failures) == ("failed", "error", 1)
    assert view.failure.message == "idempotent= of jobs.broken raised ZeroDivisionError: division by zero"


async def test_what_was_answered_by_http_and_is_no_json_is_no_result(harness):
    assert (await harness.http.post("/opaque")).text == "x"
    run = await harness.submit("jobs.opaque")
    await harness.run_until_idle()
    assert (harness.run(run.id).state, harness.run(run.id).reason) == ("failed", "bad result")


def test_pauses_grow_and_do_not_come_at_once():
    pauses = [[pause_seconds(waits) for _ in range(50)] for waits in (1, 3, 5000)]
    assert all(1 <= pause <= 15 for some in pauses for pause in some)
    assert max(pauses[0]) <= 2 < max(pauses[1]) <= 8 < max(pauses[2])
    assert len(set(pauses[2])) > 1
