"""When Python looks for garbage: seldom, and not among what stays anyway.

Called by `__main__`, before all else is loaded, and by children once they serve. A look through all objects holds the
interpreter, and with it every request: 70 ms for the 100,000 of a server with 1,000 connections, several times a second
under load. What has no cycles is freed at once as ever.
"""

import gc

_YOUNG = 10_000
"""Objects more than there were before the youngest are looked through; Python's own is 700."""
_YOUNG_WHILE_LOADING = 100_000


def collect_seldom() -> None:
    """In this process, from now on. Modules make objects by the thousand when they are imported, and no garbage."""
    _look_after(_YOUNG)


def load_in_peace() -> None:
    """Look hardly at all, until `keep_what_there_is`: a child makes 60,000 objects before it serves."""
    _look_after(_YOUNG_WHILE_LOADING)


def keep_what_there_is() -> None:
    """Look no more through what there is by now, and seldom from now on: to be called when all is loaded and open."""
    gc.freeze()
    collect_seldom()


def _look_after(objects: int) -> None:
    gc.set_threshold(objects, *gc.get_threshold()[1:])
