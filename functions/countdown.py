"""Stream: each line is sent as soon as it is made."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec

from runtime import http

Seconds = Annotated[int, msgspec.Meta(ge=0, le=60)]


@http.get("/countdown")
async def countdown(
    start: Seconds = 3, pause: Annotated[float, msgspec.Meta(ge=0, le=5)] = 1
) -> AsyncIterator[dict[str, int]]:
    """Count down, one JSON line at a time."""
    for left in range(start, -1, -1):
        yield {"left": left}
        if left:
            await asyncio.sleep(pause)
