"""/_/runs/{id}/logs: what a run has logged, once or as it comes.

Called by the admin API. For keys that may read all: lines have what authors write about their own affairs.
"""

from collections.abc import AsyncGenerator, Iterator
from typing import Annotated, Any

import anyio
import msgspec

from runtime.admin.children import Ask
from runtime.admin.queries import read_query
from runtime.admin.shown import rfc3339
from runtime.base.errors import InputError, Problem, StoreDown
from runtime.declare.markers import Event
from runtime.invoke.execute import Stream
from runtime.ledger.lines.calls import Lines, Numbered, read_lines
from runtime.triggers.http.answers import Answer, ResultPlan, answer_of, stream_answer
from runtime.triggers.http.core import Call, Endpoint, Site

SHOWN = 100
_MOST = 1000
_LOOK_SECONDS = 0.5
_OUTAGE_SECONDS = 1.0
_END = "finished"


class _Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    after: int = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=_MOST)] = _MOST
    follow: bool = False


def log_routes(site: Site) -> Iterator[tuple[str, str, Endpoint]]:
    """(method, path, endpoint) of it."""
    yield "GET", "/_/runs/{id}/logs", Endpoint(handle=_Logs(site).show, public=False, action="read")


class _Logs:
    """The handler of the route."""

    def __init__(self, site: Site) -> None:
        self._later = site.later
        self._access = site.access

    async def show(self, call: Call) -> Answer:
        """Lines of a run; with ?follow=true a stream of events, `line` for each and `finished` at the end."""
        query, run_id = read_query(call.request, _Query), call.request.path_params["id"]
        found = await self._read(run_id, query.after, query.limit)
        if found is None:
            raise Problem(404, detail=f"there is no run {run_id[:100]}: it is unknown, or no longer kept")
        if query.follow:
            last = call.request.header(b"last-event-id")
            events = self._events(call, run_id, _number(last) if last else query.after)
            return await stream_answer(Stream("runs.logs", events, None), ResultPlan(events=True))
        answer = answer_of(show_lines(found))
        answer.headers.append((b"cache-control", b"no-store"))
        return answer

    async def _read(self, run_id: str, after: int, limit: int) -> Lines | None:
        found: Lines | None = await self._later.ask(lambda ledger: read_lines(ledger, run_id, after=after, limit=limit))
        return found

    async def _more(self, call: Call, run_id: str, after: int) -> Lines | None:
        """The lines that follow; None if the run is no more, or the caller's key does not hold any more. StoreDown."""
        if self._access is not None:
            try:
                await self._access.admit(call.request, public=False, action="read", function="")
            except Problem:
                return None
        return await self._read(run_id, after, _MOST)

    async def _events(self, call: Call, run_id: str, after: int) -> AsyncGenerator[Event, None]:
        """Lines as they come, until the run is finished, the process stops, or the caller's key holds no more.

        An outage of the store is sat out.
        """
        while not self._later.stopping():
            try:
                found = await self._more(call, run_id, after)
            except StoreDown:
                await anyio.sleep(_OUTAGE_SECONDS)
                continue
            if found is None:
                return
            for one in found.lines:
                yield Event(_show(one), event="line", id=str(one.number))
            after = found.next
            if found.is_finished and after >= found.total:
                yield Event({"total": found.total, "dropped": found.dropped}, event=_END, id=str(after))
                return
            if len(found.lines) < _MOST:
                await self._later.finished(run_id, _LOOK_SECONDS)


async def last_lines(ask: Ask, run_id: str) -> Lines | None:
    """The last 100 lines of a run."""
    found: Lines | None = await ask(lambda ledger: read_lines(ledger, run_id, after=-SHOWN, limit=SHOWN))
    return found


def show_lines(found: Lines) -> dict[str, Any]:
    """Lines as JSON. next: what to give as ?after= for those that follow. dropped: of the oldest, how many are gone."""
    return {
        "lines": [_show(one) for one in found.lines],
        "next": found.next,
        "total": found.total,
        "dropped": found.dropped,
        "finished": found.is_finished,
    }


def _show(one: Numbered) -> dict[str, Any]:
    line = one.line
    shown = {
        "number": one.number,
        "at": rfc3339(line.time),
        "level": line.level,
        "text": line.text,
        "attempt": line.attempt if line.attempt > 1 else None,
        "fields": line.fields or None,
        "exception": line.exception or None,
    }
    return {name: value for name, value in shown.items() if value is not None}


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(422, f"Last-Event-ID: {text[:50]!r} is no number of a line") from None
