"""The harness that authors test with: schedules fire in the test's own time."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtime.declare.timing.calendar import Timing
from runtime.ledger.schedules.book import Book
from runtime.ledger.schedules.records import Definition, Override
from runtime.testing import Harness

FUNCTIONS = """
    from runtime import Context, Tick, cron, fn, interval, submit

    seen: list = []

    @cron("30 2 * * *", tz="Europe/Paris")
    def nightly(tick: Tick) -> None:
        seen.append(("nightly", tick.planned_at.isoformat(), tick.late_seconds, tick.missed))

    @interval("6h", name="often", payload={"word": "hey"})
    async def often(tick: Tick, word: str, ctx: Context) -> None:
        seen.append(("often", tick.planned_at.isoformat(), word, ctx.trigger))
        await submit.using(delay="90m")(later)

    @fn()
    def later() -> None:
        seen.append(("later",))

    @fn()
    def mine(n: int = 0) -> None:
        seen.append(("mine", n))
"""
BEFORE_SPRING = datetime(2026, 3, 28, 12, tzinfo=UTC)


@pytest.fixture
def project(write_project: Callable[..., Path]) -> Path:
    return write_project(**{"functions/jobs.py": FUNCTIONS})


@pytest.fixture
async def harness(project: Path):
    async with Harness(project, now=BEFORE_SPRING) as harness:
        from functions.jobs import seen

        seen.clear()
        yield harness


async def test_ticks_fire_in_their_order_with_what_they_lead_to_across_daylight_saving(harness: Harness):
    from functions.jobs import seen

    assert await harness.run_until_idle() == 0
    assert await harness.advance("23h") == 7
    assert [one[0] for one in seen] == ["often", "later", "often", "nightly", "later", "often", "later"]
    assert seen[0] == ("often", "2026-03-28T18:00:00+00:00", "hey", "interval")
    assert ("nightly", "2026-03-29T01:00:00+00:00", 0.0, 0) in seen  # 02:30 is not there: at the gap's end
    assert harness.now == datetime(2026, 3, 29, 11, tzinfo=UTC)


async def test_what_is_due_now_fires_without_the_clock_moving(project: Path):
    async with Harness(project, now=datetime(2026, 1, 1, 17, 59, 59, tzinfo=UTC)) as harness:
        assert await harness.run_until_idle() == 0
        assert await harness.advance("1s") == 1
        assert await harness.run_until_idle() == 0
        (run,) = harness.runs("jobs.often")
        assert (run.trigger, run.state, run.accepted) == ("interval", "succeeded", harness.now.timestamp())


async def test_a_schedule_that_a_test_adds_or_changes_fires_as_it_says(harness: Harness):
    from functions.jobs import mine, seen

    book = Book(harness.ledger)
    every = Definition(id="mine", function="jobs.mine", timing=Timing(every_ms=3_600_000), source="added")
    assert await harness.ask(book.add(every)) == "added"
    await harness.advance("2h")
    assert len(harness.runs(mine)) == 2
    await harness.ask(book.override("mine", Override(timing=Timing(every_ms=60_000))))
    await harness.advance("10m")
    assert len(harness.runs(mine)) == 12
    await harness.ask(book.pause("mine", paused=True))
    await harness.advance("1h")
    assert seen.count(("mine", 0)) == 12


async def test_two_months_of_nights_take_no_time(harness: Harness):
    await harness.ask(Book(harness.ledger).pause("jobs.often:often", paused=True))
    assert await harness.advance("60d") == 60
    assert {run.state for run in harness.runs("jobs.nightly")} == {"succeeded"}
