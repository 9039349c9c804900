"""A handler's Tick: of its schedule, or made up in a call by name; and the time that a schedule gives its runs."""

import json
import time
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from runtime.base.ids import new_run_id, trace_of
from runtime.invoke.binding import PayloadPlan
from runtime.invoke.invocation import Invocation
from runtime.invoke.invoker import Invoker
from runtime.ledger.records import Ending
from runtime.ledger.schedules.records import TickNote
from runtime.projects import Project, load_project
from tests.triggers.queue.test_execution import Box, box_of

PLANNED = 1_900_000_000_000

FUNCTIONS = """
    import time
    from runtime import INJECTED, Tick, cron, fn, interval, queue

    @interval("1m")
    async def told(tick: Tick, n: int = 0):
        last = tick.last_success and tick.last_success.timestamp()
        return [tick.planned_at.timestamp(), tick.planned_at.tzname(), tick.late_seconds, tick.missed, last, n]

    @cron("@daily")
    def threaded(tick: Tick = INJECTED):
        return tick.planned_at.timestamp()

    @interval("1m")
    @queue("mails")
    async def either(tick: Tick | None = None):
        return tick and tick.missed

    @interval("1m")
    @queue("default", timeout="30ms")
    @fn(timeout="10s", retries=1)
    def slow(tick: Tick | None = None):
        time.sleep(0.2)
        return "done"
"""


@pytest.fixture
def project(write_project: Callable) -> Project:
    return load_project(write_project(**{"functions/jobs.py": FUNCTIONS}))


@pytest.fixture
async def box(project: Project) -> AsyncIterator[Box]:
    with box_of(project, 1000) as box:
        yield box


def note(**said) -> bytes:
    return msgspec.json.encode(TickNote(schedule="s", planned=PLANNED, **said))


async def result(box: Box, function: str, payload: bytes = b"{}", **said):
    ending: Ending = await box.run(function, payload, **said)
    assert ending.state == "succeeded", ending.failure
    return json.loads(ending.result)


@pytest.mark.parametrize("success", [PLANNED, PLANNED + 60_000])
async def test_a_success_that_is_not_before_a_tick_is_none_of_its(box, success):
    """A backfill's: "since the last success, until this tick" would end before it begins."""
    said = {"tick": note(success=success), "claimed": PLANNED / 1000 + 0.0021}
    assert await result(box, "told", **said) == [PLANNED / 1000, "UTC", 0.002, 0, None, 0]


async def test_a_tick_says_what_its_schedule_knows(box):
    said = {"tick": note(missed=3, success=PLANNED - 60_000), "claimed": PLANNED / 1000 + 2.5}
    assert await result(box, "told", b'{"n": 1}', **said) == [1.9e9, "UTC", 2.5, 3, 1.9e9 - 60, 1]


async def test_a_tick_before_any_success_says_none(box):
    assert (await result(box, "told", tick=note()))[4] is None


async def test_a_tick_is_never_early(box):
    assert (await result(box, "told", tick=note(), claimed=PLANNED / 1000 - 1))[2] == 0


async def test_sync_handlers_get_it_too(box):
    assert await result(box, "threaded", tick=note()) == 1.9e9


async def test_a_run_that_is_no_tick_has_one_only_where_it_must(box):
    before = time.time()
    planned, _, *rest = await result(box, "told")
    assert before - 0.001 <= planned <= time.time()
    assert rest == [0, 0, None, 0]
    assert await result(box, "either") is None
    assert await result(box, "either", tick=note(missed=2)) == 2


async def test_a_schedule_gives_its_runs_their_time(box):
    ending = await box.run("slow", tick=note(timeout=50))
    assert (ending.state, ending.reason) == ("failed", "timeout")
    assert "0.05 s" in ending.failure.message
    ending = await box.run("slow")
    assert (ending.state, ending.reason) == ("failed", "timeout")  # of its queue
    assert await result(box, "slow", tick=note()) == "done"  # of its function: a tick comes from no queue


async def test_a_call_by_name_makes_a_tick_up(project):
    """As the API and the command line call it."""
    function, run_id = project.registry.functions["jobs.told"], new_run_id()
    invocation = Invocation(
        function=function,
        trigger="api",
        arguments=PayloadPlan(function).bind(b'{"n": 2}'),
        run_id=run_id,
        trace=trace_of(run_id, None),
        timeout_seconds=5,
    )
    outcome = await Invoker(threads=1).invoke(invocation)
    assert outcome.state == "succeeded"
    assert outcome.value[1:] == ["UTC", 0, 0, None, 2]
