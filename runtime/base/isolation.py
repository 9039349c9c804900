"""[isolation] of functions.toml: the processes that functions with isolation="process" run in.

A record alone; settings reads it.
"""

from typing import Annotated

import msgspec

from runtime.base.durations import Seconds

_Count = Annotated[int, msgspec.Meta(ge=1)]
_Variable = Annotated[str, msgspec.Meta(pattern=r"^[^=\s]+$")]


class IsolationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[isolation]: how many processes each of ours may have for such functions, how long they last, what they see."""

    processes: _Count = 8
    max_calls: _Count = 100
    idle: Seconds = Seconds(60)
    env: tuple[_Variable, ...] = ()
