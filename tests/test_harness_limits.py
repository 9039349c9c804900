"""Limits in authors' tests: HTTP calls and runs on one ledger, rates and breakers by the clock that the test moves."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import msgspec
import pytest

from runtime import submit
from runtime.testing import Harness

FUNCTIONS = """
    import asyncio
    from runtime import Breaker, Retry, fn, http, queue

    began: list = []
    at_work = most = 0
    go = asyncio.Event()

    @http.post("/one")
    @queue("default")
    @fn(concurrency=1, key="customer")
    async def one(customer: str, n: int = 0) -> int:
        global at_work, most
        at_work += 1
        most = max(most, at_work)
        began.append(f"{customer}{n}")
        await go.wait()
        at_work -= 1
        return n

    @queue("default")
    @fn(rate="2/m", key=lambda customer: customer.lower())
    async def rated(customer: str, n: int) -> None:
        began.append(f"{customer}{n}")

    @http.post("/shaky")
    @queue("default")
    @fn(breaker=Breaker(2, reset="1m"), retries=1)
    async def shaky(bad: bool = False) -> str:
        began.append(bad)
        if bad:
            raise OSError("no")
        return "fine"

    @queue("default")
    @fn(fallback=lambda error, n: [type(error).__name__, n], retries=Retry(3, wait="1s"))
    async def falls(n: int) -> list:
        began.append(n)
        raise OSError("no")

    @queue("default")
    @fn(key=lambda n: 1 / n, concurrency=1)
    async def odd(n: int) -> int:
        return n
"""


@pytest.fixture
async def harness(write_project: Callable[..., Path]):
    root = write_project(**{"functions/jobs.py": FUNCTIONS, "functions.toml": '[http]\nlimit_wait = "50ms"\n'})
    async with Harness(root) as harness:
        yield harness


def jobs() -> dict:
    from functions import jobs

    return vars(jobs)


async def soon(condition: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def test_calls_and_runs_share_a_limit(harness):
    first = asyncio.create_task(harness.http.post("/one", json={"customer": "a", "n": 1}))
    await soon(lambda: jobs()["began"])
    runs = [await submit("jobs.one", customer=name, n=2) for name in ("a", "b")]
    working = asyncio.create_task(harness.run_until_idle())
    await soon(lambda: len(jobs()["began"]) == 2)
    assert jobs()["began"] == ["a1", "b2"]  # a's run waits, and holds up nobody
    assert harness.run(runs[0].id).state == "queued"
    assert (await harness.http.post("/one", json={"customer": "a", "n": 3})).status_code == 429
    jobs()["go"].set()
    assert (await first).json() == 1
    await working
    await harness.run_until_idle()
    assert [harness.run(run.id).state for run in runs] == ["succeeded", "succeeded"]
    assert harness.run(runs[0].id).failures == 0
    shown = (await harness.http.get("/_/limits/jobs.one")).json()
    assert (shown["concurrency"], shown["held"], shown["waiting"]) == (1, 0, 0)
    assert shown["process"] == {"calls": 4, "waited": 0, "refused": 1, "open": 0, "fell_back": 0}


async def test_keys_take_turns_and_a_rate_goes_by_the_clock(harness):
    for n in range(4):
        await submit("jobs.rated", customer="A", n=n)
    await submit("jobs.rated", customer="b", n=0)
    await harness.run_until_idle()
    assert sorted(jobs()["began"]) == ["A0", "A1", "b0"]
    assert jobs()["began"].index("b0") < 2
    await harness.advance("30s")
    assert jobs()["began"][3:] == ["A2"]
    await harness.advance("1m")
    assert jobs()["began"][4:] == ["A3"]


async def test_an_open_breaker_keeps_runs_back_until_the_clock_lets_one_try(harness):
    for _ in range(2):
        await submit("jobs.shaky", bad=True)
        await harness.run_until_idle()
    run = await submit("jobs.shaky")
    await harness.run_until_idle()
    assert (await run.state(), jobs()["began"]) == ("queued", [True, True])
    refused = await harness.http.post("/shaky")
    assert (refused.status_code, refused.headers["fnrun-breaker"]) == (503, "open")
    shown = (await harness.http.get("/_/limits")).json()["limits"]
    assert [one["breaker"] for one in shown if "breaker" in one] == [
        {"state": "open", "failures": 2, "reset_seconds": 60, "open_seconds": 60}
    ]
    await harness.advance("1m")
    assert await run.result() == "fine"
    assert "fnrun-breaker" not in (await harness.http.post("/shaky")).headers


async def test_a_run_falls_back_when_its_retries_are_used_up(harness):
    run = await submit("jobs.falls", n=7)
    await harness.run_until_idle()
    assert await run.state() == "retrying"
    await harness.advance("1m")
    view = harness.run(run.id)
    assert (view.state, view.result, view.fell_back) == ("succeeded", msgspec.Raw(b'["OSError",7]'), "error")
    assert [one.fell_back for one in view.attempts] == ["", "", "error"]
    assert (await harness.http.get(f"/_/runs/{run.id}")).json()["fell_back"] == "error"


async def test_a_key_its_submitter_could_not_make_is_its_worker_s_to_make(harness):
    good, bad = await submit("jobs.odd", n=1), await submit("jobs.odd", n=0)
    assert await harness.run_until_idle() == 2
    assert await good.result() == 1
    view = harness.run(bad.id)
    assert (view.state, view.failure.message) == (
        "failed",
        "key= of jobs.odd raised ZeroDivisionError: division by zero",
    )


async def test_a_run_that_nobody_gave_a_key_gets_one_and_its_turn(harness):
    from runtime.ledger.records import Submission

    runs = [Submission(id=f"r{n}", function="jobs.rated", payload=b'{"customer":"c","n":%d}' % n) for n in range(3)]
    await harness.ask(harness.ledger.accept(runs))
    assert await harness.run_until_idle() == 2
    assert jobs()["began"] == ["c0", "c1"]
    await harness.advance("1m")
    assert jobs()["began"] == ["c0", "c1", "c2"]
    assert [harness.run(f"r{n}").failures for n in range(3)] == [0, 0, 0]
