"""APScheduler, which wakes us when a rule fires: one job for each rule, however many schedules have it.

Used by the scheduler. Decides nothing about what is due: a job that wakes too often, too late or for nothing does no
harm.
"""

import logging
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime

from apscheduler.executors.base import BaseExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from typing_extensions import override

from runtime.declare.timing.calendar import Due, Timing, calendar_of
from runtime.triggers.schedule.clock import Clock, StoreZone

_LONGEST_WAIT_SECONDS = 5.0
"""The clocks' difference is measured anew meanwhile."""
_SHORT_WAIT_SECONDS = 0.02
_SLACK = 0.01
"""A wait may be late by 0.1% of its length (the kernel's slack): so we wake a little before, and wait once more."""
_NEVER = Due(1 << 62)


class _Rule(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """When a timing fires next. APScheduler's own triggers have other ideas of weekdays and of daylight saving time."""

    __slots__ = ("_calendar", "_found", "_zone")

    def __init__(self, timing: Timing, zone: StoreZone) -> None:
        self._calendar = calendar_of(timing)
        self._zone = zone
        self._found: tuple[int, Due | None] | None = None
        """The first fire after that instant. APScheduler asks twice."""

    @override
    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        # After now, not after the previous one: who wakes late wakes once.
        now_ms = math.floor(self._zone.ms_of(now))
        if self._found is None or not self._found[0] <= now_ms < (self._found[1] or _NEVER).at_ms:
            self._found = (now_ms, self._calendar.after(now_ms))
        due = self._found[1]
        return None if due is None else self._zone.at(due.at_ms)


class _HandOver(BaseExecutor):  # type: ignore[misc]  # APScheduler has no types
    """Calls what is to be called, here and now, where APScheduler's own would swallow all that it raises."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__()
        self._wake = wake

    @override
    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        self._wake()

    @override
    def submit_job(self, job: Job, run_times: list[datetime]) -> None:
        self._do_submit_job(job, run_times)  # without a count of instances: they end at once


class Jobs(AsyncIOScheduler):  # type: ignore[misc]  # APScheduler has no types
    """A job for each rule. wake: called on the loop when a rule fires, once for all that fire together, or more often.

    `start` and `shutdown` are APScheduler's own.
    """

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        for name in ("apscheduler.scheduler", "apscheduler.executors"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._zone = StoreZone(clock)
        self._rules: set[Timing] = set()
        super().__init__(
            timezone=self._zone,
            executors={"default": _HandOver(wake)},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )

    def adopt(self, timings: Iterable[Timing]) -> None:
        """Have jobs for these rules, and no others. Those that are there already stay as they are."""
        wanted = set(timings)
        if wanted == self._rules:
            return
        running = self.running
        if running:
            self.pause()  # else each one would have it look through all of them
        for timing in self._rules - wanted:
            with suppress(JobLookupError):  # it has fired for the last time
                self.remove_job(_id_of(timing))
        for timing in wanted - self._rules:
            self.add_job(_nothing, _Rule(timing, self._zone), id=_id_of(timing), name=_id_of(timing))
        self._rules = wanted
        if running:
            self.resume()

    @override
    def _start_timer(self, wait_seconds: float | None) -> None:
        super()._start_timer(_first_wait(wait_seconds))


def _first_wait(seconds: float | None) -> float | None:
    """How long to wait before it is seen how much is left. None stays so: nothing is due, ever."""
    if seconds is None or seconds <= _SHORT_WAIT_SECONDS:
        # A loop's timer counts whole ms: without this it would come too early, and again and again.
        return seconds if seconds is None else math.ceil(seconds * 1000) / 1000
    return min(seconds * (1 - _SLACK), _LONGEST_WAIT_SECONDS)


def _id_of(timing: Timing) -> str:
    return f"{timing.kind} {timing.cron or timing.every_ms or timing.at_ms} {timing.tz}"


def _nothing() -> None:
    """What a job would do. Never called."""
