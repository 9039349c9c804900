"""Callbacks as others see them, and as those who deliver them take them.

Made of what the store returns; read by the views of runs, the API, and by outgoing. Times in seconds since the epoch.
"""

from collections.abc import Sequence
from typing import Any, Literal, Self

import msgspec

CallbackState = Literal["open", "waiting", "delivered", "dead"]
"""open: its run is not over. waiting: for its first try, or the next. dead: given up."""

Verdict = Literal["delivered", "waiting", "dead"]


class CallbackView(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a callback. id: of its message, the same at each try. status, error: of the last try.

    next: when it is tried again. run_id, function, outcome: where it is looked at without its run.
    """

    id: str
    url: str
    state: CallbackState
    tries: int = 0
    status: int | None = None
    error: str = ""
    tried: float | None = None
    next: float | None = None
    ended: float | None = None
    run_id: str = ""
    function: str = ""
    outcome: str = ""

    @classmethod
    def of(cls, found: Sequence[bytes | None]) -> Self:
        """What a script returns: message, URL, state, tries, status, error, three times; run, function, outcome."""
        message, url, state, tries, status, error, tried, due, ended, *more = [(one or b"").decode() for one in found]
        run_id, function, outcome = more or ("", "", "")
        return cls(
            id=message,
            url=url,
            state=state or "open",  # type: ignore[arg-type]  # the scripts write no other
            tries=int(tries or 0),
            status=int(status) if status else None,
            error=error,
            tried=_seconds(tried),
            next=_seconds(due) if state == "waiting" else None,
            ended=_seconds(ended),
            run_id=run_id,
            function=function,
            outcome=outcome,
        )


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message to be delivered, held by a lease. token: its fence. tries: earlier ones.

    output: the result, or the failure, as JSON; b"" for none, or for one that is too long (long: its bytes).
    """

    id: str
    token: int
    tries: int
    run_id: str
    function: str
    url: str
    outcome: Literal["succeeded", "failed", "cancelled"]
    reason: str
    output: bytes
    long: int
    accepted: float
    claimed: float | None
    ended: float
    failures: int
    crashes: int
    trigger: str
    trace: str = ""

    @classmethod
    def of(cls, message: bytes, pairs: Sequence[bytes]) -> Self:
        """Of a hash's fields and values, as the store returns them."""
        raw = {pairs[i].decode(): pairs[i + 1] for i in range(0, len(pairs), 2)}
        output = raw.pop("output", b"")
        found: dict[str, Any] = {name: value.decode() for name, value in raw.items()}
        return cls(
            id=message.decode(),
            token=int(found["token"]),
            tries=int(found["tries"]),
            run_id=found["run"],
            function=found["fn"],
            url=found["url"],
            outcome=found["outcome"],
            reason=found["reason"],
            output=output,
            long=int(found["long"]),
            accepted=int(found["accepted"]) / 1000,
            claimed=_seconds(found["claimed"]),
            ended=int(found["ended"]) / 1000,
            failures=int(found["failures"]),
            crashes=int(found["crashes"]),
            trigger=found["trigger"],
            trace=found["trace"],
        )


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a try. pause_seconds: until the next one, for "waiting"."""

    id: str
    token: int
    verdict: Verdict
    status: int | None = None
    error: str = ""
    pause_seconds: float = 0.0


def _seconds(text: str) -> float | None:
    return int(text) / 1000 if text else None
