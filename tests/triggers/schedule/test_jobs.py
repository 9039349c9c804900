"""APScheduler under our rules: it wakes once a rule fires, whatever the machine's clock says. And canaries of it."""

import asyncio
import inspect
import re
from collections.abc import Callable
from datetime import datetime

import pytest
from apscheduler.executors.base import BaseExecutor
from apscheduler.job import Job
from apscheduler.schedulers import base
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import convert_to_datetime

from runtime.declare.timing.calendar import Timing
from runtime.triggers.schedule import jobs as ours
from runtime.triggers.schedule.clock import Clock
from runtime.triggers.schedule.jobs import Jobs

SECONDLY = Timing(every_ms=1000)


class Wakes:
    """When it was woken, in ms of the store's clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.at: list[float] = []
        self.woken = asyncio.Event()

    def __call__(self) -> None:
        self.at.append(self.clock.now_ms())
        self.woken.set()

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.at) < count:
                self.woken.clear()
                await self.woken.wait()


@pytest.fixture
async def clock() -> Clock:
    clock = Clock()
    clock.measure(clock.begin(), 1_900_000_000_000)
    return clock


@pytest.fixture
async def wakes(clock) -> Wakes:
    return Wakes(clock)


@pytest.fixture
async def jobs(clock, wakes):
    jobs = Jobs(clock, wakes)
    yield jobs
    if jobs.running:
        jobs.shutdown()
        await asyncio.sleep(0)


async def test_it_wakes_by_the_stores_clock_and_not_before(jobs, wakes):
    jobs.adopt([SECONDLY])
    jobs.start()
    await wakes.reach(3)
    seconds = [int(at // 1000) for at in wakes.at]
    assert sorted(set(seconds)) == seconds  # one that came too early would be of the second before, and come again
    assert min(at % 1000 for at in wakes.at) < 500


async def test_a_rule_is_one_job_and_those_that_are_not_wanted_go(jobs):
    minutely = Timing(cron="* * * * *")
    jobs.adopt([minutely, SECONDLY, minutely])
    jobs.start()
    assert len(jobs.get_jobs()) == 2
    kept = jobs.get_job(ours._id_of(minutely))
    jobs.adopt([minutely, Timing(cron="* * * * *", tz="Asia/Tokyo")])
    assert len(jobs.get_jobs()) == 2
    assert jobs.get_job(ours._id_of(minutely)) is kept
    jobs.adopt([])
    assert jobs.get_jobs() == []


async def test_one_date_wakes_once_and_then_never(jobs, wakes, clock):
    once = Timing(at_ms=int(clock.now_ms()) + 1500)
    past = Timing(at_ms=int(clock.now_ms()) - 200)
    jobs.adopt([once, past])
    jobs.start()
    await wakes.reach(1)
    assert wakes.at[0] >= once.at_ms
    jobs.adopt([])  # it has gone by itself
    assert jobs.get_jobs() == []


async def test_a_jump_of_the_clock_wakes_once_and_not_for_each_second(jobs, wakes, clock):
    jobs.adopt([SECONDLY])
    jobs.start()
    await wakes.reach(1)
    clock.measure(clock.begin(), int(clock.now_ms()) + 86_400_000)
    before = len(wakes.at)
    await wakes.reach(before + 2)
    assert wakes.at[-1] - wakes.at[before] < 5000


@pytest.mark.parametrize(
    ("seconds", "waits"), [(None, None), (0, 0), (0.0004, 0.001), (0.02, 0.02), (1, 0.99), (3600, 5.0)]
)
def test_a_long_wait_ends_a_little_early_and_is_taken_up_again(seconds, waits):
    assert ours._first_wait(seconds) == waits


# --- canaries: what of APScheduler's insides we stand on. The one that fails says which seam has moved. -----------


def parameters(function: Callable) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize(
    ("function", "takes"),
    [
        (AsyncIOScheduler._start_timer, ["wait_seconds"]),
        (BaseExecutor.submit_job, ["job", "run_times"]),
        (BaseExecutor._do_submit_job, ["job", "run_times"]),
        (BaseTrigger.get_next_fire_time, ["previous_fire_time", "now"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_what_we_override_is_called_as_it_was(function, takes):
    assert parameters(function) == takes


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (BaseScheduler._process_jobs, "now = datetime.now(self.timezone)"),
        (BaseScheduler._process_jobs, "executor.submit_job(job, run_times)"),
        (BaseScheduler._process_jobs, "next_wakeup_time = jobstore_next_run_time.astimezone(self.timezone)"),
        (BaseScheduler._process_jobs, "next_wakeup_time.timestamp() - now.timestamp()"),
        (BaseScheduler._process_jobs, "job.trigger.get_next_fire_time( run_times[-1], now )"),
        (BaseScheduler._real_add_job, "now = datetime.now(self.timezone)"),
        (BaseScheduler._real_add_job, "job.trigger.get_next_fire_time(None, now)"),
        (BaseScheduler._real_add_job, "if self.state == STATE_RUNNING: self.wakeup()"),
        (BaseScheduler.resume, "self.wakeup()"),
        (BaseScheduler._configure, 'self.timezone = astimezone(config.pop("timezone", None)) or get_localzone()'),
        (Job._get_run_times, "next_run_time.astimezone(UTC) <= now.astimezone(UTC)"),
        (Job._get_run_times, "next_run_time = self.trigger.get_next_fire_time(next_run_time, now)"),
        (AsyncIOScheduler.wakeup, "wait_seconds = self._process_jobs() self._start_timer(wait_seconds)"),
        (convert_to_datetime, "if isinstance(input, datetime): datetime_ = input"),
    ],
)
def test_what_we_count_on_is_still_said(function, says):
    source = " ".join(inspect.getsource(inspect.unwrap(function)).split())
    assert says in source


def test_nothing_else_of_the_scheduler_asks_the_machine_for_the_time():
    asked = re.findall(r"datetime\.now\(([^)]*)\)", inspect.getsource(base))
    assert set(asked) == {"self.timezone"}
    assert not re.search(r"\btime\.(time|monotonic)\(", inspect.getsource(base))
    assert base.datetime is datetime
