"""/_/callbacks: what others are still to be told, and what was given up; try it again.

Called by the admin API.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated, Literal

import msgspec

from runtime.admin.queries import fault, read_body, read_query
from runtime.admin.shown import show_callback
from runtime.base.errors import Problem
from runtime.ledger.callbacks.calls import find, retry
from runtime.triggers.http.answers import Answer, answer_of
from runtime.triggers.http.core import Call, Endpoint
from runtime.triggers.http.durable import Later

_MOST = 1000


class _Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    state: Literal["waiting", "dead"] = "dead"
    limit: Annotated[int, msgspec.Meta(ge=1, le=_MOST)] = 50


class _Chosen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ids: Annotated[tuple[str, ...], msgspec.Meta(max_length=_MOST)] = ()


def callback_routes(later: Later) -> Iterator[tuple[str, str, Endpoint]]:
    """(method, path, endpoint) of each."""

    async def callbacks(call: Call) -> Answer:
        asked = read_query(call.request, _Query)
        count, found = await later.ask(lambda ledger: find(ledger, asked.state, asked.limit))
        return answer_of({"count": count, "callbacks": [show_callback(view) for view in found]})

    async def retry_one(call: Call) -> Answer:
        message = call.request.path_params["id"]
        [word] = await later.ask(lambda ledger: retry(ledger, [message]))
        if word == "unknown":
            raise Problem(404, detail=f"there is no callback {message[:100]}: it is unknown, or no longer kept")
        if word == "delivered":
            raise Problem(HTTPStatus.CONFLICT, detail="it has been delivered; there is nothing to send again")
        return answer_of({"id": message, "state": word})

    async def retry_many(call: Call) -> Answer:
        chosen = await read_body(call.request, _Chosen)
        if not chosen.ids:
            raise fault("body", "ids", "say which callbacks: their ids, as GET /_/callbacks lists them")
        words = await later.ask(lambda ledger: retry(ledger, chosen.ids))
        return answer_of({"callbacks": dict(zip(chosen.ids, words, strict=True))})

    yield "GET", "/_/callbacks", Endpoint(handle=callbacks, public=False, action="read")
    yield "POST", "/_/callbacks/retry", Endpoint(handle=retry_many, public=False, action="admin")
    yield "POST", "/_/callbacks/{id}/retry", Endpoint(handle=retry_one, public=False, action="admin")
