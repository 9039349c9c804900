"""`schedules` and `schedules_sync`: look at schedules, add some, change them, run them, at run time.

Called by authors, in handlers and in scripts. They act on the store itself, so no scheduler has to run; those that run
hear of it within a second. All that can be wrong is said before anything is changed.
"""

from collections.abc import AsyncIterator, Callable
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Unpack

from runtime.ledger.portal import wait_for
from runtime.ledger.run import Run, SyncRun, desk_at_work
from runtime.ledger.schedules.asked import Added, Changes
from runtime.ledger.schedules.views import Backfilled, ScheduleView

if TYPE_CHECKING:  # it loads the store's client, which a file that only names schedules does not need
    from runtime.ledger.schedules.acts import Acts

Named = Callable[..., Any] | str
When = str | datetime | date
Views = list[ScheduleView]

_FIRES = 5


async def _acts() -> "Acts":
    from runtime.ledger.schedules.acts import Acts as Made  # noqa: PLC0415 - as above

    return Made(await desk_at_work())


class Schedules:
    """`await schedules.add(...)` and the rest.

    A schedule is named by its id, or by its function (a name or the function itself) if that has exactly one. All raise
    StoreDown within 5 s, ScheduleError for a call that cannot hold, UnknownSchedule, and ScheduleConflict where what
    there is does not allow it.
    """

    async def add(
        self,
        function: Named,
        /,
        *,
        id: str,  # noqa: A002 - as in submit.using
        replace: bool = False,
        **options: Unpack[Added],
    ) -> ScheduleView:
        """Add a schedule, which lasts until it is removed.

        id: 1 to 100 of A-Z a-z 0-9 _ . : -. options: see Added; one of cron, interval and at. replace: also in place of
        one that was added with that id; else that is a ScheduleConflict. UnknownFunction.
        """
        acts = await _acts()
        return (await acts.add(id, function, options, replace=replace)).view(acts.now, _FIRES)

    async def get(self, schedule: Named, /, *, fires: int = _FIRES) -> ScheduleView:
        """A schedule as it is now, with so many of its next fires."""
        acts = await _acts()
        return (await acts.find(schedule)).view(acts.now, fires)

    async def list(self, function: Named | None = None, /, *, fires: int = 1) -> Views:
        """All schedules, or those of a function, by id."""
        return [view async for view in self._listed(function, fires)]

    async def _listed(self, function: Named | None, fires: int) -> AsyncIterator[ScheduleView]:
        from runtime.ledger.schedules.acts import function_named  # noqa: PLC0415 - as above

        acts, cursor, more = await _acts(), "", True
        names = () if function is None else (function_named(function),)
        while more:
            page, cursor = await acts.page(names, cursor)
            for known in page:
                yield known.view(acts.now, fires)
            more = bool(cursor)

    async def set(self, schedule: Named, /, **changes: Unpack[Changes]) -> ScheduleView:
        """Change a schedule from now on, until it is reset: over restarts and deployments. See Changes.

        What is not said stays. A new rule counts from now: nothing is made up for.
        """
        acts = await _acts()
        return (await acts.change(schedule, changes)).view(acts.now, _FIRES)

    async def reset(self, schedule: Named, /) -> ScheduleView:
        """Have it be again as it is declared, or was added. Paused it stays."""
        acts = await _acts()
        return (await acts.reset(schedule)).view(acts.now, _FIRES)

    async def pause(self, schedule: Named, /) -> bool:
        """Have it fire no more, over restarts too; what runs goes on. Whether that is a change."""
        return (await (await _acts()).pause(schedule, paused=True))[1]

    async def resume(self, schedule: Named, /) -> bool:
        """Have it fire again. Ticks that passed meanwhile are not made up for. Whether that is a change."""
        return (await (await _acts()).pause(schedule, paused=False))[1]

    async def run(self, schedule: Named, /) -> Run[Any]:
        """One run of it at once, with its payload, even if it is paused or another is at work."""
        return await (await _acts()).run_now(schedule)

    async def backfill(
        self, schedule: Named, /, start: When, end: When | None = None, *, dry_run: bool = False
    ) -> Backfilled:
        """Runs for its ticks from start on and before end (now, if left out), at most 10,000; none twice.

        Without an offset they are times in the schedule's zone. dry_run: only count.
        """
        return await (await _acts()).backfill(schedule, start, end, dry_run=dry_run)

    async def remove(self, schedule: Named, /) -> None:
        """Take away one that was added. Its runs go on. ScheduleConflict for one that is declared."""
        await (await _acts()).remove(schedule)


class SchedulesSync:
    """schedules for code without a loop: each method blocks its thread; in that of a loop, all of the loop."""

    def add(
        self,
        function: Named,
        /,
        *,
        id: str,  # noqa: A002 - as in submit.using
        replace: bool = False,
        **options: Unpack[Added],
    ) -> ScheduleView:
        """See Schedules.add."""
        return wait_for(schedules.add(function, id=id, replace=replace, **options))

    def get(self, schedule: Named, /, *, fires: int = _FIRES) -> ScheduleView:
        """See Schedules.get."""
        return wait_for(schedules.get(schedule, fires=fires))

    def list(self, function: Named | None = None, /, *, fires: int = 1) -> Views:
        """See Schedules.list."""
        return wait_for(schedules.list(function, fires=fires))

    def set(self, schedule: Named, /, **changes: Unpack[Changes]) -> ScheduleView:
        """See Schedules.set."""
        return wait_for(schedules.set(schedule, **changes))

    def reset(self, schedule: Named, /) -> ScheduleView:
        """See Schedules.reset."""
        return wait_for(schedules.reset(schedule))

    def pause(self, schedule: Named, /) -> bool:
        """See Schedules.pause."""
        return wait_for(schedules.pause(schedule))

    def resume(self, schedule: Named, /) -> bool:
        """See Schedules.resume."""
        return wait_for(schedules.resume(schedule))

    def run(self, schedule: Named, /) -> SyncRun[Any]:
        """See Schedules.run."""
        return SyncRun(wait_for(schedules.run(schedule)))

    def backfill(
        self, schedule: Named, /, start: When, end: When | None = None, *, dry_run: bool = False
    ) -> Backfilled:
        """See Schedules.backfill."""
        return wait_for(schedules.backfill(schedule, start, end, dry_run=dry_run))

    def remove(self, schedule: Named, /) -> None:
        """See Schedules.remove."""
        wait_for(schedules.remove(schedule))


schedules = Schedules()
schedules_sync = SchedulesSync()
