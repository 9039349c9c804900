"""/_/background: what this process does beside its calls.

Called by the admin API. Each process answers for itself alone.
"""

import os
from collections.abc import Iterator

from runtime.tasks.api import background
from runtime.triggers.http.answers import Answer, answer_of
from runtime.triggers.http.core import Call, Endpoint

_MOST = 1000


def background_routes() -> Iterator[tuple[str, str, Endpoint]]:
    """(method, path, endpoint)."""

    async def look(_: Call) -> Answer:
        tasks = background.list()[-_MOST:]
        return answer_of({"process": os.getpid(), "statistics": background.statistics(), "tasks": tasks})

    yield "GET", "/_/background", Endpoint(handle=look, public=False, action="read")
