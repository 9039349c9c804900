"""What can be told of a request's head from its bytes alone, for a part of what a parser takes.

Asked by lane: only what is beyond doubt is told. All else, and all that is refused, is the parser's to judge: so what
two servers could read as two things is never read here.
"""

import re

import msgspec

from runtime.triggers.http.shedding.overload import wants_a_run
from runtime.triggers.http.wire.requests import Limits, Refused, judge_host

_LINE = re.compile(rb"(GET|POST|PUT|PATCH|DELETE) (/[!\"$-~]*) HTTP/1\.1\r\n")  # HEAD is answered without a body
_LINES = re.compile(rb"(?:[!#-'*+.\-0-9A-Z^-z|~]+:[\t -~]*\r\n)+")
_DIGITS = re.compile(rb"[0-9]{1,15}")
_DOUBTFUL = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"http2-settings"})
"""Other framing or protocols, and 100 Continue."""
_ASKING = frozenset({b"prefer", b"idempotency-key"})
_JSON: tuple[list[bytes], ...] = ([], [b"application/json"])
_TOLD = _DOUBTFUL | {b"host", b"connection", b"content-length"}
_METHODS = {one.encode(): one for one in ("GET", "POST", "PUT", "PATCH", "DELETE")}
_KEPT_BYTES, _KEPT = 1_024, 512
"""Of header lines that are read already: most clients send the same ones over and over."""
_END = b"\r\n\r\n"


class Lines(msgspec.Struct, frozen=True):
    """Header lines. length: of the body. keep: another request may follow. later: it may ask for a run.

    bare: nothing in them asks for more than an answer. json: the body is that, if any, and not coded. trace: its
    traceparent.
    """

    headers: tuple[tuple[bytes, bytes], ...]
    length: int = 0
    keep: bool = True
    later: bool = False
    bare: bool = True
    json: bool = True
    trace: str | None = None


class Head(msgspec.Struct, frozen=True):
    """Of one request. size: its bytes, with the empty line at its end."""

    method: str
    target: bytes
    lines: Lines
    size: int


class Reader:
    """Reads heads, and keeps what it has read of header lines."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kept: dict[bytes, Lines | None] = {}

    def read(self, data: bytes) -> Head | None:
        """The head that these bytes begin with; None where there is any doubt, or not all of it is there."""
        line = _LINE.match(data)
        if line is None:
            return None
        start, end = line.end(), data.find(_END, line.end())
        if end < 0 or start > self._limits.target_bytes or end + len(_END) > self._limits.head_bytes:
            return None
        block = data[start : end + 2]
        try:
            lines = self._kept[block]
        except KeyError:
            lines = self._read_lines(block)
            if len(block) <= _KEPT_BYTES:
                if len(self._kept) >= _KEPT:
                    self._kept.clear()
                self._kept[block] = lines
        if lines is None:
            return None
        method, target = line.groups()
        return Head(_METHODS[method], target, lines, end + len(_END))

    def _read_lines(self, block: bytes) -> Lines | None:
        if block.count(b"\r\n") > self._limits.header_lines or not _LINES.fullmatch(block):
            return None
        found: list[tuple[bytes, bytes]] = []
        said: dict[bytes, bytes] = {}
        for line in block[:-2].split(b"\r\n"):
            name, _, value = line.partition(b":")
            name, value = name.lower(), value.strip(b" \t")
            found.append((name, value))
            if name in _TOLD:
                if name in said or name in _DOUBTFUL:
                    return None
                said[name] = value
        length, connection = said.get(b"content-length", b"0"), said.get(b"connection", b"keep-alive").lower()
        if not _DIGITS.fullmatch(length) or connection not in (b"keep-alive", b"close"):
            return None
        try:
            judge_host(said.get(b"host"))
        except Refused:
            return None
        names = {name for name, _ in found}
        traces = [value for name, value in found if name == b"traceparent"]
        kinds = [value for name, value in found if name == b"content-type"]
        return Lines(
            tuple(found),
            int(length),
            keep=connection == b"keep-alive",
            later=any(wants_a_run(name, value) for name, value in found),
            bare=names.isdisjoint(_ASKING) and len(traces) <= 1,
            json=kinds in _JSON and b"content-encoding" not in names,
            trace=traces[0].decode() if traces else None,
        )
