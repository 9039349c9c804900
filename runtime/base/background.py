"""[background] of functions.toml: what a process does beside its calls, and how much of it.

A record alone; settings reads it, and runtime.tasks goes by it.
"""

from typing import Annotated

import msgspec

from runtime.base.durations import Seconds

_Count = Annotated[int, msgspec.Meta(ge=1)]


class BackgroundSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[background], of each process for itself.

    queue: how many tasks may wait. concurrency, threads, processes: how many run at once, of async ones, of sync ones,
    of in_process. keep, keep_count: for how long, and how many, that have ended are known.
    """

    queue: _Count = 1000
    concurrency: _Count = 100
    threads: _Count = 20
    processes: _Count = 2
    keep: Seconds = Seconds(600)
    keep_count: _Count = 1000
