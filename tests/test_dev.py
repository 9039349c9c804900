"""Places of `fnrun dev`: of several starts one child stays. What a user sees of it is in tests/live/test_dev.py."""

import asyncio
import os
import sys

from runtime.dev import Place

WAIT = (sys.executable, "-c", "import sys, time; time.sleep(60)")


async def test_of_two_starts_at_the_same_moment_one_child_stays():
    place = Place("worker", WAIT, os.environ)
    await asyncio.gather(place.start(), place.start(), place.start())
    children = {place._next, *place._leaving}
    assert len(children) == 3
    await asyncio.gather(*(child.wait() for child in list(place._leaving)))
    assert [child.ended for child in children].count(None) == 1
    await place.end()
    assert None not in [child.ended for child in children]
