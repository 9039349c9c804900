"""What can be asked of schedules, and done with them: by authors, by the admin API, by the command line.

On the store itself, so that no scheduler has to run. What is known: the schedules in the store, and those that the
functions of this process declare and no scheduler has registered yet.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from runtime.base.errors import (
    DeclarationError,
    InputError,
    ScheduleConflict,
    ScheduleError,
    SubmitError,
    UnknownFunction,
    UnknownSchedule,
)
from runtime.base.ids import new_run_id
from runtime.declare.registry import Registry
from runtime.declare.timing.calendar import Timing, calendar_of, instant_of, is_known
from runtime.ledger.desk import Desk
from runtime.ledger.run import Run
from runtime.ledger.schedules.asked import Added, Asked, check_id, instant_ms
from runtime.ledger.schedules.book import Book
from runtime.ledger.schedules.definitions import definitions_of
from runtime.ledger.schedules.records import Definition, Entry, Override
from runtime.ledger.schedules.views import Backfilled, Known
from runtime.ledger.targets import Named, Target, check_size, name_of, payload_of, target_of

_PAGE = 1000
_BATCH = 100
MOST_BACKFILLED = 10_000
"""Ticks that one backfill may ask for."""


class Acts:
    """All of it, on the desk of a process. Raises ScheduleError and its children, and StoreDown."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._book = Book(desk.ledger)

    @property
    def now(self) -> float:
        """Seconds since the epoch, for what is shown."""
        return self._desk.ledger.now()

    # --- looking ---

    async def page(self, functions: Sequence[str] = (), after: str = "", limit: int = _PAGE) -> tuple[list[Known], str]:
        """Schedules by id, those after that one; and where the next page begins, "" after the last."""
        found: list[Known] = []
        async for known in self._all(after):
            if not functions or known.entry.definition.function in functions:
                if len(found) == limit:
                    return found, found[-1].id
                found.append(known)
        return found, ""

    async def find(self, schedule: Named) -> Known:
        """One by its id, or by its function if that has exactly one. UnknownSchedule, ScheduleConflict."""
        name = function_named(schedule)
        known = await self._by_id(name)
        if known is None:
            known = await self._by_id(await self._only_one_of(name))
        if known is None:  # it was removed that moment
            raise UnknownSchedule(name, ())
        return known

    async def _by_id(self, schedule: str) -> Known | None:
        [entry] = await self._desk.ask(self._book.show([schedule]))
        if entry is not None:
            return Known(entry)
        own = self._own().get(schedule)
        return None if own is None else (await self._unregistered([own]))[0]

    async def _only_one_of(self, function: str) -> str:
        everything = [known async for known in self._all()]
        ids = [known.id for known in everything if known.entry.definition.function == function]
        if not ids:
            raise UnknownSchedule(function, [known.id for known in everything])
        if len(ids) > 1:
            raise ScheduleConflict(f"{function} has {len(ids)} schedules; say which, by its id: {', '.join(ids)}")
        return ids[0]

    async def _all(self, after: str = "") -> AsyncIterator[Known]:
        """Schedules by id, those after that one."""
        own = sorted((one for one in self._own().values() if one.id > after), key=lambda one: one.id)
        more = True
        while more:
            entries = await self._desk.ask(self._book.entries(after, _PAGE))
            more = len(entries) == _PAGE
            after = entries[-1].definition.id if more else ""
            near = [one for one in own if not more or one.id <= after]
            own = own[len(near) :]
            there = {entry.definition.id for entry in entries}
            page = [Known(entry) for entry in entries]
            page += await self._unregistered([one for one in near if one.id not in there])
            for known in sorted(page, key=lambda known: known.id):
                yield known

    async def _unregistered(self, definitions: Sequence[Definition]) -> list[Known]:
        """Schedules that only this process knows, with what was changed of them already."""
        if not definitions:
            return []
        marks = await self._desk.ask(self._book.marks([one.id for one in definitions]))
        pairs = zip(definitions, marks, strict=True)
        return [Known(Entry(definition=one, override=mark[0], paused=mark[1]), registered=False) for one, mark in pairs]

    def _own(self) -> Mapping[str, Definition]:
        """What the functions of this process declare, by id."""
        registry = None if self._desk.registry is None else self._desk.registry().whole()
        return {} if registry is None else _declared_in(registry, self._desk)

    # --- adding, changing, removing ---

    async def add(self, schedule: str, function: Named, said: Mapping[str, Any], *, replace: bool) -> Known:
        """Add a schedule; with replace also in place of one that was added before. UnknownFunction."""
        asked, settings = Asked("add", said, Added), self._desk.settings.schedule
        check_id("add", schedule)
        target = self._target(function)
        timing = asked.timing(None, str(settings.timezone))
        if timing is None:
            raise asked.wrong("cron", "say when it fires: cron=, interval= or at=")
        self._check_to_come(asked, timing, f"submit({target.name}, ...)")
        definition = Definition(
            id=schedule,
            function=target.name,
            timing=timing,
            queue=target.queue,
            payload=self._payload(asked, target),
            max_age_ms=round(1000 * (target.max_age_seconds or 0)),
            source="added",
            **{
                "missed": settings.missed,
                "overlap": settings.overlap.value,
                "jitter_ms": round(1000 * settings.jitter),
                "window_ms": round(1000 * settings.window),
                **asked.plain(),
            },
        )
        own = self._own().get(schedule)
        word = "declared" if own is not None else await self._desk.ask(self._book.add(definition, replace=replace))
        if word == "known":
            raise ScheduleConflict(f'there is a schedule "{schedule}" already; say replace=True, or take another id')
        if word == "declared":
            place = (own or (await self.find(schedule)).entry.definition).place
            raise ScheduleConflict(f'schedule "{schedule}" is declared in {place}; take another id')
        return await self._again(schedule)

    async def change(self, schedule: Named, said: Mapping[str, Any]) -> Known:
        """Change a schedule from now on. What is put back to what is declared is no override any more."""
        asked = Asked("set", said)
        if not asked.said:
            raise ScheduleError("schedules.set: say what to change: cron=, interval=, at=, tz=, payload=, missed=, ...")
        known = await self.find(schedule)
        declared, now = known.entry.definition, known.entry.effective
        changes = asked.plain()
        timing = asked.timing(now.timing, str(self._desk.settings.schedule.timezone))
        if timing is not None:
            self._check_to_come(asked, timing, "schedules.run(...)")
            changes["timing"] = timing
        changes = {name: None if value == getattr(declared, name) else value for name, value in changes.items()}
        if "payload" in asked.said:
            payload = msgspec.json.decode(self._payload(asked, self._target(now.function)))
            changes["payload"] = None if payload == msgspec.json.decode(declared.payload) else payload
        await self._desk.ask(self._book.override(known.id, msgspec.structs.replace(known.entry.override, **changes)))
        return await self._again(known.id)

    def _check_to_come(self, asked: Asked, timing: Timing, fix: str) -> None:
        """A date in the past would never fire, and nobody would be told."""
        if timing.at_ms and timing.at_ms <= self.now * 1000:
            raise asked.wrong("at", f"it is past; {fix} runs it now")

    async def reset(self, schedule: Named) -> Known:
        """Have it be as it is declared, or was added."""
        known = await self.find(schedule)
        await self._desk.ask(self._book.override(known.id, Override()))
        return await self._again(known.id)

    async def pause(self, schedule: Named, *, paused: bool) -> tuple[str, bool]:
        """Have it fire no more, or again; its id, and whether that is a change."""
        known = await self.find(schedule)
        return known.id, await self._desk.ask(self._book.pause(known.id, paused=paused))

    async def remove(self, schedule: Named) -> str:
        """Take one away that was added; its id. ScheduleConflict for one that is declared."""
        known = await self.find(schedule)
        word = "declared" if not known.registered else await self._desk.ask(self._book.remove(known.id))
        if word == "declared":
            place = known.entry.definition.place
            raise ScheduleConflict(f'schedule "{known.id}" is declared in {place}: take it out there, or pause it')
        if word == "unknown":
            raise UnknownSchedule(known.id, ())
        return known.id

    async def _again(self, schedule: str) -> Known:
        known = await self._by_id(schedule)
        if known is None:
            raise UnknownSchedule(schedule, ())
        return known

    # --- running ---

    async def run_now(self, schedule: Named) -> Run[Any]:
        """One run of it at once."""
        definition = (await self.find(schedule)).entry.effective
        run_id = await self._desk.ask(self._book.run_now(definition, new_run_id()))
        try:
            returns = self._target(definition.function).returns
        except (UnknownFunction, ScheduleError):  # only its workers know it
            returns = Any
        return Run(run_id, returns=returns)

    async def backfill(self, schedule: Named, start: Any, end: Any = None, *, dry_run: bool = False) -> Backfilled:
        """Runs for the ticks from start on, and before end (now, if it is None)."""
        definition = (await self.find(schedule)).entry.effective
        if not is_known(definition.timing):
            raise ScheduleError(
                f"schedules.backfill: {definition.id}: {definition.timing.tz}, or its rule, is unknown here"
            )
        now_ms = round(self.now * 1000)
        first = instant_ms("from", start, definition)
        until = now_ms if end is None else instant_ms("to", end, definition)
        if until > now_ms:
            detail = "it is in the future; leave it out for all until now"
            raise ScheduleError(f"schedules.backfill(to={end!r}): {detail}", option="to", detail=detail)
        if until <= first:
            detail = "it is not before the end" if end is not None else "it is in the future"
            raise ScheduleError(f"schedules.backfill(from={start!r}): {detail}", option="from", detail=detail)
        planned = calendar_of(definition.timing).latest(first - 1, until - 1, MOST_BACKFILLED + 1)
        if len(planned) > MOST_BACKFILLED:
            detail = f"more than {MOST_BACKFILLED} ticks are between that and the end; ask for a part of them at a time"
            raise ScheduleError(f"schedules.backfill(from={start!r}): {detail}", option="from", detail=detail)
        new = known = 0
        for at in range(0, 0 if dry_run else len(planned), _BATCH):
            some = await self._desk.ask(self._book.backfill(definition, planned[at : at + _BATCH]))
            new, known = new + some[0], known + some[1]
        return Backfilled(
            id=definition.id,
            ticks=len(planned),
            new=new,
            known=known,
            first=instant_of(planned[0]) if planned else None,
            last=instant_of(planned[-1]) if planned else None,
        )

    # --- functions ---

    def _target(self, function: Named) -> Target:
        try:
            return target_of(function, None if self._desk.registry is None else self._desk.registry())
        except (SubmitError, DeclarationError) as error:
            raise ScheduleError(str(error), option="function") from None

    def _payload(self, asked: Asked, target: Target) -> msgspec.Raw:
        """The arguments as JSON; all that the function requires must be among them."""
        given = asked.said.get("payload", {})
        try:
            payload, _ = payload_of(target, target.name, (), given)
            check_size(target, len(payload), self._desk.payload_max)
        except (InputError, SubmitError) as error:
            raise asked.wrong("payload", f"{target.name}: {error}") from None
        return msgspec.Raw(payload)


def function_named(function: Named) -> str:
    """The name of a function, given so or itself. ScheduleError for what is no function of functions/."""
    try:
        return function if isinstance(function, str) else name_of(function)
    except SubmitError as error:
        raise ScheduleError(str(error)) from None


_last: list[tuple[Registry, Any, Mapping[str, Definition]]] = []


def _declared_in(registry: Registry, desk: Desk) -> Mapping[str, Definition]:
    """What functions declare, worked out once for as long as they are the same."""
    if not (_last and _last[0][0] is registry and _last[0][1] is desk.settings):
        found = {one.id: one for one in definitions_of(registry, desk.settings)}
        _last[:] = [(registry, desk.settings, found)]
    return _last[0][2]
