"""Limits as people and the API see them: what they are, who waits for them, and whether breakers are open.

Built here, run by a desk; read by admin and the command line.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from runtime.invoke.limits.rules import Limits
from runtime.ledger.calls import Call
from runtime.ledger.ledger import Ledger

_MOST_KEYS = 20


class KeyView(msgspec.Struct, frozen=True):
    """A key of which runs wait: how many do, and how many places are held."""

    key: str
    waiting: int
    held: int


class LimitsView(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a function's limits over all processes.

    limits: as a worker said them last; None for none. waiting: runs that were met and could not begin yet, or whose
    keys take turns; keys: how many keys they have; top: those of which most wait. callers: calls that wait; held:
    places that are held, by runs and by calls; both without those of keys. open_seconds: until an open breaker lets
    one try.
    """

    function: str
    limits: Limits | None
    waiting: int
    keys: int
    callers: int
    held: int
    breaker: Literal["closed", "open", "half-open"]
    open_seconds: float
    top: tuple[KeyView, ...]


def views(ledger: Ledger, functions: Sequence[str]) -> Call[list[LimitsView]]:
    """What is known of the limits of these functions, in their order."""

    def read(found: Sequence[Sequence[Any]]) -> list[LimitsView]:
        return [_view(name, *one) for name, one in zip(functions, found, strict=True)]

    return ledger.call("limits/show", (_MOST_KEYS, *functions), read)


def _view(name: str, text: bytes, *rest: Any) -> LimitsView:
    waiting, keys, callers, held, breaker, open_ms, top = rest
    return LimitsView(
        function=name,
        limits=msgspec.json.decode(text, type=Limits) if text else None,
        waiting=waiting,
        keys=keys,
        callers=callers,
        held=held,
        breaker=breaker.decode(),
        open_seconds=open_ms / 1000,
        top=tuple(KeyView(top[at].decode(), top[at + 1], top[at + 2]) for at in range(0, len(top), 3)),
    )
