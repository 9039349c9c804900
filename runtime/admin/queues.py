"""/_/queues: how long each queue is; pause and resume.

Called by the admin API.
"""

import re
from collections.abc import Awaitable, Callable, Iterator

from runtime.admin.queries import fault
from runtime.admin.shown import show_queue
from runtime.triggers.http.answers import Answer, answer_of
from runtime.triggers.http.core import Call, Endpoint
from runtime.triggers.http.durable import Later

_NAME = re.compile(r"\S{1,200}")


def queue_routes(later: Later) -> Iterator[tuple[str, str, Endpoint]]:
    """(method, path, endpoint) of each."""

    async def queues(_: Call) -> Answer:
        return answer_of({"queues": [show_queue(view) for view in await later.ask(lambda ledger: ledger.queues())]})

    def pause(*, paused: bool) -> Callable[[Call], Awaitable[Answer]]:
        async def handle(call: Call) -> Answer:
            name = call.request.path_params["name"]
            if not _NAME.fullmatch(name):
                raise fault("path", "name", "a queue's name has no spaces, and at most 200 characters")
            changed = await later.ask(lambda ledger: ledger.pause(name, paused=paused))
            return answer_of({"name": name, "paused": paused, "changed": changed})

        return handle

    yield "GET", "/_/queues", Endpoint(handle=queues, public=False, action="read")
    yield "POST", "/_/queues/{name}/pause", Endpoint(handle=pause(paused=True), public=False, action="admin")
    yield "POST", "/_/queues/{name}/resume", Endpoint(handle=pause(paused=False), public=False, action="admin")
