"""/_/keys and /_/audit: make, list and revoke access keys; read what was done to the system.

Called by the admin API. All of it takes a key with `admin`.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated, Any

import msgspec

from runtime.admin.access.recording import note
from runtime.admin.queries import fault, read_body, read_query, seconds_since
from runtime.admin.shown import rfc3339
from runtime.base.durations import parse_duration
from runtime.base.errors import FnrunError, Problem
from runtime.base.keys import check_scope
from runtime.ledger.access.audit import Entry, read_audit
from runtime.ledger.access.keys import Known, create_key, list_keys, revoke_key
from runtime.triggers.http.answers import Answer, ResultPlan, answer_of
from runtime.triggers.http.core import Call, Endpoint
from runtime.triggers.http.durable import Later

_CREATED = ResultPlan(status=HTTPStatus.CREATED)
_NO_STORE = (b"cache-control", b"no-store")


class _New(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """expires: a duration, "30d" or seconds; for ever if left out."""

    name: Annotated[str, msgspec.Meta(max_length=200)] = ""
    scopes: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=100)] = ("invoke",)
    expires: str | float | None = None


class _Revoke(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    force: bool = False


class _AuditQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    since: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    cursor: str = ""


def access_routes(later: Later) -> Iterator[tuple[str, str, Endpoint]]:
    """(method, path, endpoint) of each."""

    async def find(_: Call) -> Answer:
        return answer_of({"keys": [_show(one) for one in await list_keys(later.at_hand())]})

    async def create(call: Call) -> Answer:
        asked = await read_body(call.request, _New)
        lifetime_seconds = _checked(asked)
        key, token = await create_key(later.at_hand(), asked.name, asked.scopes, lifetime_seconds)
        note(id=key.id, name=key.name, scopes=key.scopes)
        answer = answer_of({**_show(Known(key, None)), "key": token}, _CREATED)
        answer.headers.append(_NO_STORE)
        return answer

    async def revoke(call: Call) -> Answer:
        key_id = call.request.path_params["id"]
        forced = read_query(call.request, _Revoke).force
        word = await revoke_key(later.at_hand(), key_id, forced=forced)
        if word == "unknown":
            raise Problem(404, detail=f'no key has the id "{key_id[:100]}"; see `fnrun keys list`')
        if word == "last":
            raise Problem(
                409,
                detail=f"{key_id} is the last key with admin, and nobody could make another over HTTP; make one "
                "first, or force it (?force=true, --force)",
            )
        if forced:
            note(force=True)
        return Answer(HTTPStatus.NO_CONTENT, [], b"")

    async def read(call: Call) -> Answer:
        asked = read_query(call.request, _AuditQuery)
        since = seconds_since("query", asked.since)
        entries, cursor = await later.ask(
            lambda ledger: read_audit(ledger, since=since, cursor=asked.cursor, limit=asked.limit)
        )
        return answer_of({"entries": [_show_entry(one) for one in entries], "cursor": cursor})

    yield "GET", "/_/keys", Endpoint(handle=find, public=False, action="admin")
    yield "POST", "/_/keys", Endpoint(handle=create, public=False, action="admin")
    yield "DELETE", "/_/keys/{id}", Endpoint(handle=revoke, public=False, action="admin")
    yield "GET", "/_/audit", Endpoint(handle=read, public=False, action="admin")


def _checked(asked: _New) -> float | None:
    """The lifetime in seconds. InputError (422) under the name of what is wrong."""
    if not asked.name.isprintable():
        raise fault("body", "name", "one line of printable characters")
    for scope in asked.scopes:
        try:
            check_scope(scope)
        except FnrunError as error:
            raise fault("body", "scopes", str(error)) from None
    try:
        return None if asked.expires is None else parse_duration(asked.expires)
    except ValueError as error:
        raise fault("body", "expires", str(error)) from None


def _show(one: Known) -> dict[str, Any]:
    key = one.key
    return {
        "id": key.id,
        "name": key.name,
        "scopes": key.scopes,
        "created_at": rfc3339(key.created_at),
        "expires_at": None if key.expires_at is None else rfc3339(key.expires_at),
        "expired": key.expired,
        "used_at": None if one.used_at is None else rfc3339(one.used_at),
    }


def _show_entry(one: Entry) -> dict[str, Any]:
    return {
        "id": one.id,
        "at": rfc3339(one.at),
        "actor": one.actor,
        "action": one.action,
        "target": one.target,
        "details": one.details,
    }
