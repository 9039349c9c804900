"""What can be told of a request from its bytes alone, without a parser's price.

Asked by connection while requests are refused: only what is beyond doubt is told, all else is the parser's to judge.
"""

from typing import Final

import msgspec

_METHODS: Final = {name.encode(): name for name in ("GET", "POST", "PUT", "PATCH", "DELETE")}  # HEAD has no body
_LONGEST: Final = 16_000
_LONGEST_BODY: Final = 65_536
_IN_HEAD: Final = bytes(range(0x20, 0x7F)) + b"\t\r\n"
_DOUBTS: Final = (b"transfer-encoding", b"\nexpect", b"\nupgrade", b"close")
"""Other framing, 100 Continue, other protocols, the end of the connection; in a cookie by chance as well."""
_LENGTH: Final = b"\r\ncontent-length:"
_DIGITS: Final = 5


class Plain(msgspec.Struct, frozen=True):
    """One request whose head is complete. missing: bytes of its body that are still to come. later: wants a run."""

    method: str
    target: bytes
    missing: int
    later: bool


def read_plain(data: bytes) -> Plain | None:
    """The one request that these bytes are, or begin; None where there is any doubt."""
    if len(data) > _LONGEST + _LONGEST_BODY:
        return None
    head, end, body = data.partition(b"\r\n\r\n")
    if not end or len(head) > _LONGEST or head.translate(None, _IN_HEAD):
        return None
    ends = head.count(b"\r\n")
    if head.count(b"\n") != ends or head.count(b"\r") != ends:
        return None
    line, _, _ = head.partition(b"\r\n")
    words = line.split(b" ")
    if len(words) != 3 or words[2] != b"HTTP/1.1" or words[0] not in _METHODS or words[1][:1] != b"/":
        return None
    lower = head[len(line) :].lower()
    if any(doubt in lower for doubt in _DOUBTS) or b"\n " in lower or b"\n\t" in lower:
        return None
    length = _length(lower)
    if length is None or len(body) > length:
        return None
    return Plain(_METHODS[words[0]], words[1], length - len(body), b"respond-async" in lower)


def _length(lines: bytes) -> int | None:
    """Of the body; None if it is long, or said in any but the one usual way."""
    count = lines.count(b"content-length")
    if not count:
        return 0
    at = lines.find(_LENGTH)
    if count > 1 or at < 0:
        return None
    digits = lines[at + len(_LENGTH) :].partition(b"\r\n")[0].strip(b" \t")
    if not digits.isdigit() or len(digits) > _DIGITS or int(digits) > _LONGEST_BODY:
        return None
    return int(digits)
