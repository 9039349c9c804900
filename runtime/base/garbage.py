"""When Python looks for garbage: seldom, and not among what stays anyway.

Called by `__main__`, before all else is loaded, and by the roles. A look through all objects holds the interpreter, and
with it every request: 70 ms for the 100,000 of a server with 1,000 connections, several times a second under load. What
has no cycles is freed at once as ever.
"""

import gc

_YOUNG = 10_000
"""Objects more than there were before the youngest are looked through; Python's own is 700."""


def collect_seldom() -> None:
    """In this process, from now on. Modules make objects by the thousand when they are imported, and no garbage."""
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])


def keep_what_there_is() -> None:
    """Look no more through what there is by now: to be called when all is loaded and open."""
    gc.freeze()
