"""/_/health and /_/ready: whether the process is well, and whether the store answers it.

Called by the admin API. A store that is away makes neither fail: plain calls go on without it, and a load balancer that
took every replica out at once would make an outage of it.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

from runtime.base import __version__
from runtime.base.errors import Problem, StoreDown
from runtime.base.logs import get_logger
from runtime.ledger.desk import Desk
from runtime.triggers.http.answers import Answer, answer_of
from runtime.triggers.http.core import Call, Endpoint, HttpCore

log = get_logger(__name__)

_FRESH_SECONDS = 1.0
_PATIENCE_SECONDS = 1.0


class Pulse:
    """Whether the store answers. Asked at most once a second, however many want to know."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._asking: asyncio.Task[bool] | None = None
        self._known: bool | None = None
        self._fresh_until = 0.0

    async def beats(self) -> bool:
        """The answer, within a second."""
        now = asyncio.get_running_loop().time()
        if self._known is not None and now < self._fresh_until:
            return self._known
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        asked = self._asking
        done, _ = await asyncio.wait((asked,), timeout=_PATIENCE_SECONDS)
        self._known = bool(done) and asked.result()
        self._fresh_until = asyncio.get_running_loop().time() + _FRESH_SECONDS
        if done and self._asking is asked:
            self._asking = None
        return self._known

    async def _ask(self) -> bool:
        try:
            await self._desk.ask(self._desk.ledger.show(()))
        except StoreDown as error:
            if self._known is not False:
                log.warning("the store does not answer", reason=str(error))
            return False
        except Exception:
            log.exception("the store cannot be asked whether it is well")
            return False
        return True


def health_routes(core: HttpCore, desk: Desk | None) -> Iterator[tuple[str, str, Endpoint]]:
    """Both, routed; open to all."""
    pulse = Pulse(desk) if desk is not None else None

    async def store() -> dict[str, Any]:
        if desk is None or pulse is None:
            return {}
        if await pulse.beats():
            return {"store": desk.store.durability}
        return {"store": "down", "detail": "plain calls are served; queues and runs wait for the store"}

    async def health(_: Call) -> Answer:
        return answer_of({"status": "ok", "version": __version__, **await store()})

    async def ready(_: Call) -> Answer:
        if core.draining:
            raise Problem(503, headers={"Retry-After": "2"}, detail="the server is shutting down")
        return answer_of({"status": "ready", **await store()})

    yield "GET", "/_/health", Endpoint(handle=health, public=True, action="read", open=True)
    yield "GET", "/_/ready", Endpoint(handle=ready, public=True, action="read", open=True)
