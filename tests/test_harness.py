"""The harness that authors test with: delays, retries, dead letters, on_failure, HTTP; and the plugin of pytest."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from runtime import PREVIOUS, chain, chord, step, submit
from runtime.base.errors import FnrunError, StartError, UnknownRun
from runtime.declare.policies import Retry
from runtime.ledger.desk import in_use
from runtime.ledger.views import FlowCounts
from runtime.projects import load_project
from runtime.testing import Harness
from tests.live_servers import until

ROOT = Path(__file__).parents[1]
ORDERS = """
    from runtime import Context, GiveUp, Retry, RetryAfter, fn, http, queue, submit, submit_sync

    seen: list = []

    @queue("orders")
    @fn(retries=Retry(attempts=4, wait="10s..60s", jitter=False))
    async def flaky(until: int, ctx: Context) -> str:
        seen.append(ctx.attempt)
        if ctx.attempt < until:
            raise OSError(f"attempt {ctx.attempt}")
        return f"attempt {ctx.attempt}"

    @fn()
    def tell(run_id: str, reason: str, error: str, arguments: dict) -> str:
        return f"{reason}: {error} of {arguments}"

    @fn(retries=Retry(attempts=2, wait="1s", jitter=False), on_failure=tell)
    async def broken(n: int) -> None:
        raise ValueError(f"no {n}")

    @http.post("/orders")
    async def create(n: int) -> str:
        run = await submit.using(delay="5m")(flaky, until=n)
        return run.id

    @fn()
    async def first(n: int) -> int:
        run = await submit(second, n=n)
        return await run.result() + 1

    @fn()
    def second(n: int) -> int:
        return n * 2

    @fn()
    def plain(n: int) -> str:
        return submit_sync(second, n=n).id

    @fn()
    async def endless(n: int = 0) -> None:
        await submit(endless, n=n + 1)

    @fn()
    def plenty(outcomes: list[dict]) -> list[str]:
        return [f"{one['state']}: {one['error']}" for one in outcomes]

    @fn()
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @fn()
    async def slow() -> None:
        import asyncio
        await asyncio.sleep(60)
"""


@pytest.fixture
def project(write_project: Callable[..., Path]) -> Path:
    return write_project(**{"functions/orders.py": ORDERS})


@pytest.fixture
async def harness(project: Path):
    async with Harness(project) as harness:
        yield harness


def result(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


async def test_what_is_submitted_runs_when_the_test_says_so(harness: Harness):
    run = await harness.submit("orders.second", n=4)
    assert harness.run(run.id).state == "queued"
    assert await harness.run_until_idle() == 1
    assert harness.run(run.id).result == result(8)
    assert await run.result() == 8
    assert await harness.run_until_idle() == 0


async def test_functions_are_submitted_themselves_too(harness: Harness):
    from functions.orders import second

    await harness.submit(second, n=1)
    await submit(second, n=2)
    await harness.run_until_idle()
    assert [run.result for run in harness.runs(second)] == [result(2), result(4)]
    assert [run.id for run in harness.runs()] == [run.id for run in harness.runs("orders.second")]


async def test_a_delay_is_over_when_the_clock_says_so(harness: Harness):
    run = await harness.submit.using(delay="1d")("orders.second", n=1)
    began = harness.now
    assert await harness.advance("23h") == 0
    assert harness.run(run.id).state == "scheduled"
    assert await harness.advance(timedelta(hours=1)) == 1
    assert harness.run(run.id).state == "succeeded"
    assert harness.now - began == timedelta(days=1)


async def test_retries_follow_in_their_time_without_sleeping(harness: Harness):
    from functions.orders import flaky, seen

    seen.clear()
    run = await harness.submit(flaky, until=4)
    await harness.run_until_idle()
    assert (harness.run(run.id).state, seen) == ("retrying", [1])
    await harness.advance("9s")
    assert seen == [1]
    await harness.advance("1s")
    assert seen == [1, 2]
    await harness.advance("1h")
    view = harness.run(run.id)
    assert (view.state, view.result, seen) == ("succeeded", result("attempt 4"), [1, 2, 3, 4])
    assert [a.state for a in view.attempts] == ["retrying", "retrying", "retrying", "succeeded"]
    assert view.finished == pytest.approx(view.accepted + 10 + 20 + 40)


async def test_a_flow_goes_on_from_step_to_step(harness: Harness):
    from functions.orders import second, total

    doubled = [step(second, n=n) for n in range(3)]
    body = chain(step(total, PREVIOUS), step.using(delay="1d")(second, n=PREVIOUS))
    run = await harness.submit(chord(doubled, body))
    assert await harness.run_until_idle() == 4
    assert harness.run(run.id).steps == FlowCounts(total=5, open=1, succeeded=4, failed=0, cancelled=0)
    assert await harness.advance("1d") == 1
    assert await run.result() == 12
    assert harness.run(f"{run.id}-4").parent == run.id


async def test_a_flow_that_failed_goes_on_when_it_is_redriven(harness: Harness):
    from functions.orders import broken, second, seen, tell, total

    seen.clear()
    run = await harness.submit(chain(step(second, n=1), step("orders.flaky", until=5), step(broken, n=PREVIOUS)))
    await harness.advance("1h")
    assert (harness.run(run.id).state, seen) == ("failed", [1, 2, 3, 4])
    assert await run.redrive() == "queued"
    await harness.advance("1h")
    assert [view.state for view in harness.runs(second)] == ["succeeded"]
    assert seen == [1, 2, 3, 4, 1, 2, 3, 4]
    collected = await harness.submit(chord([step(broken, n=7)], step("orders.plenty", outcomes=PREVIOUS), collect=True))
    await harness.advance("1h")
    assert [view.state for view in harness.runs(tell)] == ["succeeded"]
    assert await collected.result() == ["failed: no 7"]
    assert harness.runs(total) == []


async def test_what_is_due_runs_in_the_order_of_its_time(harness: Harness):
    for n, delay in [(3, "3h"), (1, "1h"), (2, "2h")]:
        await harness.submit.using(delay=delay)("orders.second", n=n)
    await harness.advance("1d")
    ran = sorted(harness.runs(), key=lambda run: run.claimed or 0)
    assert [run.result for run in ran] == [result(2), result(4), result(6)]
    assert [run.claimed and round(run.claimed - run.accepted) for run in ran] == [3600, 7200, 10800]


async def test_a_dead_letter_starts_on_failure_and_can_be_redriven(harness: Harness):
    run = await harness.submit("orders.broken", n=7)
    await harness.advance("1m")
    view = harness.run(run.id)
    assert (view.state, view.reason, view.failures) == ("failed", "error", 2)
    (told,) = harness.runs("orders.tell")
    assert told.result == result("error: no 7 of {'n': 7}")
    assert (told.trigger, told.parent) == ("on_failure", run.id)
    assert await harness.ask(harness.ledger.redrive([run.id])) == ["queued"]
    await harness.advance("1m")
    assert len(harness.runs("orders.tell")) == 2


async def test_bad_arguments_and_unknown_functions_are_failures_of_their_runs(harness: Harness):
    from runtime.ledger.records import Submission

    runs = [Submission(id="bad", function="orders.second", payload=b"["), Submission(id="strange", function="nobody")]
    await harness.ask(harness.ledger.accept(runs))
    await harness.run_until_idle()
    assert harness.run("bad").reason == "bad arguments"
    await harness.advance("10m")
    assert harness.run("strange").reason == "unknown function"


async def test_http_and_runs_are_of_one_project(harness: Harness):
    answer = await harness.http.post("/orders", json={"n": 1})
    assert answer.status_code == 200
    (run,) = harness.runs("orders.flaky")
    assert run.id == answer.json()
    await harness.advance("5m")
    assert harness.run(run.id).state == "succeeded"


async def test_a_request_may_become_a_run(harness: Harness):
    answer = await harness.http.post("/orders", json={"n": 1}, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    await harness.advance("5m")
    shown = await harness.http.get(answer.headers["location"])
    assert shown.json()["state"] == "succeeded"
    assert [run.result for run in harness.runs("orders.flaky")] == [result("attempt 1")]


async def test_a_handler_may_wait_for_a_run_it_submits(harness: Harness):
    run = await harness.submit("orders.first", n=3)
    await harness.run_until_idle()
    assert await run.result() == 7
    (child,) = harness.runs("orders.second")
    assert child.parent == run.id


async def test_sync_handlers_submit_too(harness: Harness):
    await harness.submit("orders.plain", n=3)
    await harness.run_until_idle()
    assert [run.result for run in harness.runs("orders.second")] == [result(6)]


async def test_a_run_at_work_can_be_cancelled(harness: Harness):
    import asyncio

    run = await harness.submit("orders.slow")
    running = asyncio.create_task(harness.run_until_idle())
    await asyncio.to_thread(until, lambda: harness.run(run.id).state == "running")
    await run.cancel()
    await running
    assert harness.run(run.id).state == "cancelled"


async def test_a_function_that_never_comes_to_an_end_is_noticed(harness: Harness, monkeypatch):
    monkeypatch.setattr("runtime.testing.harness._MOST_ATTEMPTS", 20)
    await harness.submit("orders.endless")
    with pytest.raises(FnrunError, match=r"there is still one: orders\.endless"):
        await harness.run_until_idle()


async def test_what_is_at_work_when_a_test_ends_is_stopped(project: Path):
    import asyncio

    async with Harness(project) as harness:
        await harness.submit("orders.slow")
        running = asyncio.create_task(harness.run_until_idle())
        await asyncio.to_thread(until, lambda: harness.runs("orders.slow")[0].state == "running")
        running.cancel()
    assert in_use() is None


async def test_a_harness_can_be_opened_again_but_not_twice(project: Path):
    harness = Harness(project)
    for _ in range(2):
        async with harness:
            assert harness.runs() == []
            await harness.submit("orders.second", n=1)
            assert (await harness.http.get("/_/health")).status_code == 200
            with pytest.raises(FnrunError, match="open already"):
                async with harness:
                    pass
    assert in_use() is None


@pytest.mark.parametrize(
    "use",
    [
        lambda harness: harness.runs(),
        lambda harness: harness.run("one"),
        lambda harness: harness.http,
        lambda harness: harness.ledger,
        lambda harness: asyncio.run(harness.advance("1h")),
    ],
)
def test_one_that_is_not_open_says_how_it_is_opened(project: Path, use: Callable[[Harness], object]):
    with pytest.raises(FnrunError, match="the fixture is opened for an `async def` test"):
        use(Harness(project))


async def test_a_clock_may_begin_anywhere(project: Path):
    start = datetime(2030, 3, 31, 0, 30, tzinfo=UTC)
    async with Harness(load_project(project), now=start) as harness:
        run = await harness.submit.using(at=start + timedelta(hours=2))("orders.second", n=1)
        assert harness.now == start
        await harness.advance("3h")
        assert harness.run(run.id).claimed == (start + timedelta(hours=2)).timestamp()


async def test_a_run_that_is_not_there_is_named(harness: Harness):
    with pytest.raises(UnknownRun, match="nobody"):
        harness.run("nobody")


async def test_a_project_that_does_not_load_is_not_tested(write_project):
    with pytest.raises(StartError, match=r"functions/bad.py does not load"):
        async with Harness(write_project(**{"functions/bad.py": "import nothing_at_all"})):
            pass
    assert in_use() is None


def test_retries_of_the_sample_are_what_the_tests_take_them_for():
    assert Retry(wait="10s..60s").first_seconds == 10


TEST = """
    from runtime.testing import Harness

    async def test_without_any_marker(harness):
        run = await harness.submit("orders.second", n=2)
        await harness.advance("1h")
        assert harness.run(run.id).state == "succeeded"

    async def test_a_failing_one(harness):
        assert harness.runs() == ["something"]

    def test_a_sync_one():
        assert Harness
"""


OTHERS = {"plain": [], "alone": ["-p", "no:anyio"], "anyio": ["-o", "anyio_mode=auto"]}


@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS)
def test_an_authors_async_test_needs_no_marker_and_no_configuration(project: Path, options: list[str]):
    file = project / "tests" / "test_orders.py"
    file.parent.mkdir()
    file.write_text("\n".join(line[4:] for line in TEST.splitlines()))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-p", "runtime.testing.plugin", "-q", *options, str(file)],
        check=False,
        cwd=project,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
    )
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "assert [] == ['something']" in done.stdout
