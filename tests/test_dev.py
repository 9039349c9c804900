"""Places of `fnrun dev`: of several starts one child stays. What a user sees of it is in tests/live/test_dev.py."""

import asyncio
import os
import sys

from runtime.dev import Place

WAIT = (sys.executable, "-c", "import sys, time; time.sleep(60)")
_READY = """import socket, sys, time
line = socket.socket(fileno=int(sys.argv[sys.argv.index("--line") + 1]))
line.sendall(b'{"kind":"ready"}\\n')
time.sleep(60)"""
DEAF = (sys.executable, "-c", _READY)


async def test_of_two_starts_at_the_same_moment_one_child_stays():
    place = Place("worker", WAIT, os.environ)
    await asyncio.gather(place.start(), place.start(), place.start())
    children = {place._next, *place._leaving}
    assert len(children) == 3
    await asyncio.gather(*(child.wait() for child in list(place._leaving)))
    assert [child.ended for child in children].count(None) == 1
    await place.end()
    assert None not in [child.ended for child in children]


async def test_a_child_that_has_come_meanwhile_is_not_killed_for_the_old_ones_silence():
    place = Place("worker", DEAF, os.environ)
    await place.start()
    async with asyncio.timeout(30):
        while (old := place._child) is None:  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0.01)
    # As when the old one says "worn" at a save.
    await asyncio.gather(place.start(), place.take_up(["functions/new.py"]))
    child = place._child
    assert child is not old
    assert (child.ended, place._next) == (None, None)
    await place.end()
