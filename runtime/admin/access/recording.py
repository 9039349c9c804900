"""Have acts written down in the audit log: of each of the runtime's own endpoints that changes anything.

Put around the endpoints by the admin API and the command line, so that none can be forgotten. What was refused is no
act.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import msgspec

from runtime.base.errors import InputError, Problem, StoreDown
from runtime.base.logs import get_logger
from runtime.ledger.access.audit import Actor, audit
from runtime.triggers.http.access import Access
from runtime.triggers.http.answers import Answer
from runtime.triggers.http.core import Call, Endpoint
from runtime.triggers.http.durable import Later

log = get_logger(__name__)

_LOOKS = frozenset({"GET", "HEAD", "OPTIONS"})
_WORDS: Mapping[str, str] = {"POST": "add", "PATCH": "change", "DELETE": "remove"}
_OWN_WORDS: Mapping[tuple[str, str], str] = {
    ("POST", "keys"): "create",
    ("DELETE", "keys"): "revoke",
    ("DELETE", "runs"): "purge",
}
"""What an act is called where the path has no verb of its own."""

_noted: ContextVar[dict[str, Any] | None] = ContextVar("noted", default=None)


def note(**details: Any) -> None:
    """Say what is to be told of the act at work, from within its handler. id: its target, where the path names none."""
    noted = _noted.get()
    if noted is not None:
        noted.update(details)


def recorded(
    routes: Iterator[tuple[str, str, Endpoint]], access: Access, later: Later
) -> Iterator[tuple[str, str, Endpoint]]:
    """The same routes, whose acts are written down."""
    for method, path, endpoint in routes:
        if method not in _LOOKS:
            handle = _Recorded(endpoint.handle, _action_of(method, path), access, later).handle
            yield method, path, msgspec.structs.replace(endpoint, handle=handle)
        else:
            yield method, path, endpoint


def _action_of(method: str, path: str) -> str:
    """ "runs.cancel" of POST /_/runs/{id}/cancel."""
    kind, *rest = path.removeprefix("/_/").split("/")
    verb = rest[-1] if rest and not rest[-1].startswith("{") else ""
    return f"{kind}.{verb or _OWN_WORDS.get((method, kind)) or _WORDS[method]}"


class _Recorded:
    def __init__(self, handle: Callable[[Call], Awaitable[Answer]], action: str, access: Access, later: Later) -> None:
        self._handle = handle
        self._action = action
        self._access = access
        self._later = later

    async def handle(self, call: Call) -> Answer:
        """What the endpoint does, and a line about it. One that broke off may have been carried out, so it gets one."""
        details: dict[str, Any] = {}
        actor = self._actor_of(call)  # now: the act may be that its own key is revoked
        token = _noted.set(details)
        try:
            answer = await self._handle(call)
        except (InputError, Problem):
            raise
        except BaseException as error:
            await self._write(call, actor, {**details, "broke_off": type(error).__name__})
            raise
        finally:
            _noted.reset(token)
        await self._write(call, actor, details)
        return answer

    def _actor_of(self, call: Call) -> Actor | None:
        """Who acts; None while that is not known: some endpoints look at the key themselves."""
        try:
            return self._access.actor_of(call.request)
        except Problem:
            return None

    async def _write(self, call: Call, actor: Actor | None, details: dict[str, Any]) -> None:
        target = next(iter(call.request.path_params.values()), None) or str(details.pop("id", ""))
        try:
            actor = actor or self._access.actor_of(call.request)
            await audit(self._later.at_hand(), actor, self._action, target, **details)
        except (Problem, StoreDown) as error:  # it was done, and its caller is to know that
            log.error("an act is not in the audit log", action=self._action, target=target, reason=str(error))  # noqa: TRY400
