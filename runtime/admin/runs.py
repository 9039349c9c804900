"""/_/runs: look at runs and act on them, one or many.

Called by the admin API. A run by its id is for whoever may call its function; all else needs a key with its scope.
"""

import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

import anyio
import msgspec

from runtime.admin.access.recording import note
from runtime.admin.children import page_of_children, some_children
from runtime.admin.logs import last_lines, show_lines
from runtime.admin.queries import (
    DONE,
    REFUSED_MESSAGE,
    STATES_OF,
    Chosen,
    RunQuery,
    Selection,
    Verb,
    fault,
    read_body,
    read_query,
    select,
)
from runtime.admin.shown import show_run
from runtime.base.errors import Problem, StoreDown
from runtime.declare.markers import Event
from runtime.declare.registry import Registry
from runtime.declare.triggers import Http
from runtime.invoke.execute import Stream
from runtime.ledger.calls import Call as LedgerCall
from runtime.ledger.ledger import Ledger
from runtime.ledger.trees import cancel_tree
from runtime.ledger.views import Page, RunView
from runtime.triggers.http.access import Access, Reach
from runtime.triggers.http.answers import Answer, ResultPlan, answer_of, stream_answer
from runtime.triggers.http.core import Call, Endpoint, Site
from runtime.triggers.http.prefer import VARY, preferences_of, wait_of

Words = dict[str, str]
"""What became of runs, by id: the ledger's words."""

_RANDOM_ID = re.compile(r"[0-9a-f]{32}")
_OF_NODE = re.compile(r"-\d+\Z")
_GUESSABLE = frozenset({"cron", "interval", "at", "celery"})
_BATCH = 100
_MOST_NOTED = 100
_LOOK_SECONDS = 0.5
_OUTAGE_SECONDS = 1.0
_END = "finished"
_RETRY_SECONDS = "5"

_REFUSED = {
    "finished": "the run is finished",
    "succeeded": "the run has succeeded; there is nothing to run again",
    "open": "the run is not finished; cancel it first",
    "refused": REFUSED_MESSAGE,
}


def run_routes(access: Access, registry: Registry, site: Site) -> Iterator[tuple[str, str, Endpoint]]:
    """(method, path, endpoint) of each. Who may see one run is decided when its function is known."""
    runs = _Runs(access, registry, site)
    yield "GET", "/_/runs", Endpoint(handle=runs.find, public=False, action="read")
    for verb in STATES_OF:
        yield "POST", f"/_/runs/{verb}", Endpoint(handle=partial(runs.act_on_many, verb), public=False, action="admin")
    yield "GET", "/_/runs/{id}", Endpoint(handle=runs.show, public=True, action="read")
    yield "GET", "/_/runs/{id}/events", Endpoint(handle=runs.events, public=True, action="read")
    yield "POST", "/_/runs/{id}/cancel", Endpoint(handle=runs.cancel, public=True, action="invoke")
    redrive, purge = partial(runs.act_on_one, "redrive"), partial(runs.act_on_one, "purge")
    yield "POST", "/_/runs/{id}/redrive", Endpoint(handle=redrive, public=False, action="admin")
    yield "DELETE", "/_/runs/{id}", Endpoint(handle=purge, public=False, action="admin")


class _CancelQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tree: bool = False


class _Runs:
    """The handlers of all routes."""

    def __init__(self, access: Access, registry: Registry, site: Site) -> None:
        self._access = access
        self._later = site.later
        self._public = frozenset(
            function.name
            for function in registry.functions.values()
            for trigger in function.triggers
            if isinstance(trigger, Http) and (trigger.auth or site.settings.auth) == "public"
        )

    async def find(self, call: Call) -> Answer:
        """A page of runs, newest first; those of a parent in their order."""
        page = await self._page(select("query", read_query(call.request, RunQuery)))
        return answer_of({"runs": [show_run(view) for view in page.runs], "cursor": page.cursor})

    async def show(self, call: Call) -> Answer:
        """One run. `Prefer: wait=5` waits so long for its end."""
        view, reach = await self._seen(call)
        wait = wait_of(preferences_of(call.request), self._later.longest_wait_seconds)
        if wait is not None and not view.is_finished:
            view = await self._later.finished(view.id, wait) or (await self._views([view.id]))[0] or view
        children = await some_children(self._later.ask, view.id) if reach == "read" else ([], False)
        shown = show_run(view, reach, children)
        if reach == "read" and (said := await last_lines(self._later.ask, view.id)) is not None and said.total:
            shown["logs"] = show_lines(said)["lines"]
            shown["more_logs"] = said.total - len(said.lines)
        answer = answer_of(shown)
        answer.headers += [(b"cache-control", b"no-store"), VARY]
        if wait is not None:
            answer.headers.append((b"preference-applied", f"wait={wait}".encode()))
        return answer

    async def events(self, call: Call) -> Answer:
        """A stream of events: `state` at each change with the run, `progress`, and at its end `finished`.

        Of a flow, that its steps end is a change.
        """
        view, reach = await self._seen(call)
        if call.request.header(b"last-event-id") == _END and view.is_finished:
            return Answer(HTTPStatus.NO_CONTENT, [], b"")  # which tells a browser not to come back
        return await stream_answer(
            Stream("runs.events", self._changes(call, view, reach), None), ResultPlan(events=True)
        )

    async def cancel(self, call: Call) -> Answer:
        """Cancel a run; with ?tree=true what it has submitted, too."""
        query = read_query(call.request, _CancelQuery)
        view = await self._found(call)
        self._access.check(call.request, public=False, action="invoke", function=view.function)
        if not query.tree:
            return await self.act_on_one("cancel", call)
        found = await cancel_tree(self._later.at_hand(), view.id)
        word = found.pop(view.id)
        note(tree=True, descendants=len(found))
        return answer_of({"id": view.id, "state": word, "descendants": dict(Counter(found.values()))})

    async def act_on_one(self, verb: Verb, call: Call) -> Answer:
        """Redrive, purge or cancel one run: 409 where its state does not allow it."""
        run_id = call.request.path_params["id"]
        word = (await self._act(verb, [run_id]))[run_id]
        if word == "unknown":
            raise _unknown(run_id)
        if word not in DONE:
            again = {"Retry-After": _RETRY_SECONDS} if word == "open" else None
            raise Problem(409, headers=again, detail=_REFUSED[word])
        if verb == "purge":
            return Answer(HTTPStatus.NO_CONTENT, [], b"")
        return answer_of({"id": run_id, "state": word})

    async def act_on_many(self, verb: Verb, call: Call) -> Answer:
        """The runs that a body names, or selects: what became of them, counted; a cursor where there are more."""
        chosen = await read_body(call.request, Chosen)
        default, allowed = STATES_OF[verb]
        selection, cursor = select("body", chosen, default, allowed), ""
        ids: Sequence[str] = chosen.ids or ()
        selects = chosen.function or chosen.state or chosen.trigger or chosen.since
        if bool(ids) == bool(selects):
            raise fault("body", "ids", "say which runs: either ids, or function, state, trigger or since")
        if not ids:
            page = await self._page(selection)
            ids, cursor = [view.id for view in page.runs], page.cursor
        found = await self._act(verb, ids)
        counts = dict(Counter(found.values()))
        note(counts=counts, **({"ids": list(found)[:_MOST_NOTED]} if selects else {}))
        return answer_of({"counts": counts, "runs": found, "cursor": cursor})

    async def _changes(self, call: Call, view: RunView, reach: Reach) -> AsyncGenerator[Event, None]:
        """What happens to a run, until it is finished, the process stops, or the caller's key holds no more.

        An outage of the store is sat out.
        """
        told: Any = None
        progress = b""
        current: RunView | None = view
        while current is not None:
            if (state := (current.state, current.failures, current.crashes, current.cancelling, current.steps)) != told:
                told = state
                if not current.is_finished:
                    yield Event(show_run(current, reach), event="state")
            if current.progress is not None and bytes(current.progress) != progress:
                progress = bytes(current.progress)
                yield Event(current.progress, event="progress")
            if current.is_finished:
                yield Event(show_run(current, reach), event=_END, id=_END)
                return
            if self._later.stopping():
                return
            current = await self._next(call, current, reach)

    async def _next(self, call: Call, view: RunView, reach: Reach) -> RunView | None:
        """The run a moment later, at its end at once. None if it is no more, or no longer for this caller."""
        if await self._later.finished(view.id, _LOOK_SECONDS) is None and self._later.stopping():
            return view
        try:
            await self._access.learn(call.request)
            if self._reach(call, view) != reach:
                return None
            return (await self._views([view.id]))[0]
        except Problem:
            return None
        except StoreDown:
            await anyio.sleep(_OUTAGE_SECONDS)
            return view

    async def _seen(self, call: Call) -> tuple[RunView, Reach]:
        """The run that a path names, and how much of it the caller sees. Problem (401, 403, 404)."""
        view = await self._found(call)
        return view, self._reach(call, view)

    def _reach(self, call: Call, view: RunView) -> Reach:
        """How much of a run the caller sees, as far as keys are known. Problem (401, 403)."""
        # Ids that are not random could be guessed: of a tick, of one that its author has named.
        open_to_all = (
            view.function in self._public and view.trigger not in _GUESSABLE and bool(_RANDOM_ID.fullmatch(view.id))
        )
        return self._access.reach(call.request, public=open_to_all, function=view.function)

    async def _found(self, call: Call) -> RunView:
        await self._access.learn(call.request)  # its endpoints are public, as far as routing knows
        run_id = call.request.path_params["id"]
        view = (await self._views([run_id]))[0]
        if view is None:
            if not _RANDOM_ID.fullmatch(run_id):  # else whoever guesses would learn which there are
                self._access.check(call.request, public=False, action="read", function="")
            raise _unknown(run_id)
        return view

    async def _views(self, ids: Sequence[str]) -> Sequence[RunView | None]:
        return await self._later.ask(lambda ledger: ledger.show(ids))

    async def _page(self, asked: Selection) -> Page:
        if asked.parent:
            return await page_of_children(self._later.ask, asked)
        return await self._later.ask(
            lambda ledger: ledger.runs(
                asked.functions,
                states=asked.states,
                trigger=asked.trigger,
                since=asked.since,
                cursor=asked.cursor,
                limit=asked.limit,
            )
        )

    async def _act(self, verb: Verb, ids: Sequence[str]) -> Words:
        """Act on runs, a few at a time, so that others get at the store between them."""
        found: Words = {}
        ids = list(dict.fromkeys(ids))
        for at in range(0, len(ids), _BATCH):
            batch = ids[at : at + _BATCH]
            words = await self._later.ask(partial(_call_of, verb, batch))
            found |= dict(zip(batch, words, strict=True))
        return found


def _call_of(verb: Verb, ids: Sequence[str], ledger: Ledger) -> LedgerCall[list[str]]:
    acts: Mapping[Verb, Callable[[Sequence[str]], LedgerCall[list[str]]]] = {
        "cancel": ledger.cancel,
        "redrive": ledger.redrive,
        "purge": ledger.purge,
    }
    return acts[verb](ids)


def _unknown(run_id: str) -> Problem:
    within = ", or a chain or a group within a flow, which has none" if _OF_NODE.search(run_id) else ""
    return Problem(
        404,
        detail=f"there is no run {run_id[:100]}: it is unknown, no longer kept, or a synchronous call, not recorded"
        + within,
    )
