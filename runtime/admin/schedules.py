"""/_/schedules: look at schedules, add, change, pause, run and backfill them.

Called by the admin API. A path names a schedule by its id, or by its function's name if that has exactly one.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

import msgspec

from runtime.admin.queries import fault, read_body, read_query
from runtime.admin.shown import show_backfill, show_schedule
from runtime.base.errors import Problem, ScheduleConflict, ScheduleError, UnknownFunction, UnknownSchedule
from runtime.ledger.schedules.acts import Acts
from runtime.ledger.schedules.asked import Added
from runtime.ledger.schedules.views import Known
from runtime.triggers.http.answers import Answer, ResultPlan, answer_of
from runtime.triggers.http.core import Call, Endpoint
from runtime.triggers.http.durable import Later

_FIRES = 5
_MOST_FIRES = 100
_MOST_SCHEDULES = 1000
_CURSOR = re.compile(r"\S{1,300}")
_CREATED = ResultPlan(status=HTTPStatus.CREATED)
_ACCEPTED = ResultPlan(status=HTTPStatus.ACCEPTED)

_Next = Annotated[int, msgspec.Meta(ge=0, le=_MOST_FIRES)]


class _List(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which schedules. next: of how many fires to tell."""

    function: list[str] = []
    limit: Annotated[int, msgspec.Meta(ge=1, le=_MOST_SCHEDULES)] = 100
    cursor: str = ""
    next: _Next = 1


class _One(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    next: _Next = _FIRES


class _Changes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As schedules.set takes them; null is "not said"."""

    cron: str | None = None
    interval: str | float | None = None
    at: str | None = None
    tz: str | None = None
    payload: dict[str, Any] | None = None
    missed: str | None = None
    overlap: str | int | None = None
    jitter: str | float | None = None
    window: str | float | None = None

    def said(self) -> dict[str, Any]:
        """The options alone."""
        return {name: getattr(self, name) for name in Added.__annotations__ if hasattr(self, name)}


class _Added(_Changes, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    function: str
    timeout: str | float | None = None
    replace: bool = False


class _Range(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"start": "from", "end": "to"}
):
    start: str
    end: str | None = None
    dry_run: bool = False


def schedule_routes(later: Later) -> Iterator[tuple[str, str, Endpoint]]:
    """(method, path, endpoint) of each."""
    here = _Schedules(later)
    one = "/_/schedules/{id}"
    yield "GET", "/_/schedules", Endpoint(handle=here.find, public=False, action="read")
    yield "GET", one, Endpoint(handle=here.show, public=False, action="read")
    acts: tuple[tuple[str, str, Callable[[Call], Awaitable[Answer]]], ...] = (
        ("POST", "/_/schedules", here.add),
        ("PATCH", one, here.change),
        ("DELETE", one, here.remove),
        ("POST", f"{one}/reset", here.reset),
        ("POST", f"{one}/pause", partial(here.pause, paused=True)),
        ("POST", f"{one}/resume", partial(here.pause, paused=False)),
        ("POST", f"{one}/run", here.run),
        ("POST", f"{one}/backfill", here.backfill),
    )
    for method, path, handle in acts:
        yield method, path, Endpoint(handle=handle, public=False, action="admin")


class _Schedules:
    """The handlers of all routes."""

    def __init__(self, later: Later) -> None:
        self._later = later

    async def find(self, call: Call) -> Answer:
        """A page of schedules, by id."""
        asked = read_query(call.request, _List)
        if asked.cursor and not _CURSOR.fullmatch(asked.cursor):
            raise fault("query", "cursor", "it is not a cursor; send the one of the page before, as it came")
        acts = self._acts()
        names = [name for name in asked.function if name]
        page, cursor = await acts.page(names, asked.cursor, asked.limit)
        shown = [show_schedule(known.view(acts.now, asked.next)) for known in page]
        return answer_of({"schedules": shown, "cursor": cursor})

    async def show(self, call: Call) -> Answer:
        """One schedule."""
        fires = read_query(call.request, _One).next
        async with _told("path"):
            acts = self._acts()
            known = await acts.find(_id(call))
        return answer_of(show_schedule(known.view(acts.now, fires), alone=True))

    async def add(self, call: Call) -> Answer:
        """Add one: 201."""
        body = await read_body(call.request, _Added)
        async with _told("body"):
            known = await self._acts().add(body.id, body.function, body.said(), replace=body.replace)
        return self._shown(known, _CREATED)

    async def change(self, call: Call) -> Answer:
        """Change one from now on."""
        body = await read_body(call.request, _Changes)
        async with _told("body"):
            return self._shown(await self._acts().change(_id(call), body.said()))

    async def reset(self, call: Call) -> Answer:
        """Have it be as it is declared, or was added."""
        async with _told("path"):
            return self._shown(await self._acts().reset(_id(call)))

    async def pause(self, call: Call, *, paused: bool) -> Answer:
        """Pause one, or have it go on."""
        async with _told("path"):
            found, changed = await self._acts().pause(_id(call), paused=paused)
        return answer_of({"id": found, "paused": paused, "changed": changed})

    async def run(self, call: Call) -> Answer:
        """One run at once: 202, and where it is."""
        async with _told("path"):
            known = await self._acts().find(_id(call))
            run = await self._acts().run_now(known.id)
        now = known.entry.effective
        body = {"id": run.id, "state": "queued", "function": now.function, "queue": now.queue, "schedule": now.id}
        answer = answer_of(body, _ACCEPTED)
        answer.headers.append((b"location", f"/_/runs/{run.id}".encode()))
        return answer

    async def backfill(self, call: Call) -> Answer:
        """Runs for past ticks, or with dry_run their number."""
        body = await read_body(call.request, _Range)
        async with _told("body"):
            found = await self._acts().backfill(_id(call), body.start, body.end, dry_run=body.dry_run)
        return answer_of(show_backfill(found))

    async def remove(self, call: Call) -> Answer:
        """Take one away that was added."""
        async with _told("path"):
            await self._acts().remove(_id(call))
        return Answer(HTTPStatus.NO_CONTENT, [], b"")

    def _acts(self) -> Acts:
        return Acts(self._later.at_hand())

    def _shown(self, known: Known, plan: ResultPlan | None = None) -> Answer:
        shown = show_schedule(known.view(self._acts().now, _FIRES), alone=True)
        return answer_of(shown) if plan is None else answer_of(shown, plan)


def _id(call: Call) -> str:
    return str(call.request.path_params["id"])


@asynccontextmanager
async def _told(place: str) -> AsyncIterator[None]:
    """Faults of what was asked, as answers: 404, 409, or 422 under the name of what is wrong."""
    try:
        yield
    except UnknownSchedule as error:
        raise Problem(404, detail=str(error)) from None
    except ScheduleConflict as error:
        raise Problem(409, detail=str(error)) from None
    except UnknownFunction as error:
        raise fault(place, "function", str(error)) from None
    except ScheduleError as error:
        raise fault(place, error.option, error.detail) from None
