"""GET /_/metrics: what all processes of this machine's `serve` have counted, and what the store knows, for Prometheus.

Called by the admin API, and by the process that serves [ops] bind. What the store knows is left out while it is away.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

from typing_extensions import override

from runtime.admin.metrics.machine import usage_of
from runtime.admin.metrics.told import Told, ask_store
from runtime.ledger.desk import Desk
from runtime.observe import counts
from runtime.triggers.http.answers import Answer
from runtime.triggers.http.core import Call, Endpoint


def metrics_routes(desk: Desk | None, version: str) -> Iterator[tuple[str, str, Endpoint]]:
    """(method, path, endpoint)."""

    async def metrics(call: Call) -> Answer:
        accept = call.request.header(b"accept") or ""
        told = None if desk is None else await ask_store(desk)
        # In a thread: of a thousand functions it takes a while to write.
        kind, body = await asyncio.to_thread(write, version, told, accept, has_store=desk is not None)
        return Answer(200, [(b"content-type", kind.encode())], body)

    yield "GET", "/_/metrics", Endpoint(handle=metrics, public=False, action="read")


def write(version: str, told: Told | None, accept: str, *, has_store: bool) -> tuple[str, bytes]:
    """The whole text, in the form that is asked for, and what it is called."""
    # Imported late: it loads a server of its own, and a start needs no metrics.
    from prometheus_client import CollectorRegistry  # noqa: PLC0415
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

    from runtime.admin.metrics.families import families  # noqa: PLC0415

    class Found(CollectorRegistry):
        """What was found, once."""

        @override
        def collect(self) -> Iterator[Any]:
            return families(version, reading, usages, told, has_store=has_store)

    reading = counts.read()
    usages = {one: usage for one in reading.processes if (usage := usage_of(one.pid)) is not None}
    encode, kind = choose_encoder(accept)
    return kind, encode(Found(auto_describe=False))
