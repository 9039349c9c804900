"""Run ids and W3C trace contexts.

Called once for each invocation, so it is short of everything. Reads the clock and the system's random source.
"""

import os
import re
import time
from collections.abc import Iterator

import msgspec

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


_AT_ONCE = 256

_stamp = (0, "")
"""The millisecond of the last id, and how an id says it: under load many have the same."""

_random: Iterator[str] = iter(())
"""Of the system's random source, which takes longer to ask than all else here: for the next ids, 20 digits each."""


def new_run_id() -> str:
    """32 hex digits, time-ordered: 48 bits of milliseconds, then 80 random bits nobody can guess."""
    global _random, _stamp  # noqa: PLW0603 - one a process
    while (digits := next(_random, None)) is None:  # a step of an iterator is one: no two threads have the same
        fresh = os.urandom(10 * _AT_ONCE).hex()
        _random = iter([fresh[at : at + 20] for at in range(0, len(fresh), 20)])
    now = time.time_ns() // 1_000_000
    stamp = _stamp
    if stamp[0] != now:
        stamp = _stamp = (now, f"{now:012x}")
    return stamp[1] + digits


def _after_fork() -> None:
    global _random  # noqa: PLW0603 - the parent's are the parent's
    _random = iter(())


os.register_at_fork(after_in_child=_after_fork)


class Trace(msgspec.Struct, frozen=True):
    """Where an invocation stands in a distributed trace (W3C Trace Context).

    trace_id: 32 hex digits. span_id: this invocation's own, 16. parent_id: the caller's span, or None. flags: 2.
    """

    trace_id: str
    span_id: str
    parent_id: str | None = None
    flags: str = "00"

    @property
    def traceparent(self) -> str:
        """The header value to send with calls made on behalf of this invocation."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def trace_of(run_id: str, traceparent: str | None) -> Trace:
    """The trace of a run: a child of the caller's when its header is well-formed, else one that begins here.

    The last 64 bits of a run id are random, so they serve as the span, and the whole id as a new trace's.
    """
    if not traceparent:
        return Trace(run_id, run_id[16:])
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or (traceparent[:2] == "00" and match[4]):
        return Trace(run_id, run_id[16:])
    return Trace(match[1], run_id[16:], match[2], match[3])
