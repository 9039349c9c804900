"""What can be told of a request from its bytes alone, for a hundredth of what a parser takes.

Asked by connection while requests are refused: only what is beyond doubt is told, all else is the parser's to judge.
"""

import re

_LONGEST = 16_000
_LONGEST_BODY = 65_536
_PLAIN = re.compile(
    rb"(GET|POST|PUT|PATCH|DELETE) (/[!\"$-~]*) HTTP/1\.1\r\n"  # HEAD is answered without a body
    rb"(?:"
    rb"(?i:content-length):[ \t]*([0-9]{1,5})[ \t]*\r\n"
    rb"|(?i:connection):[ \t]*(?i:keep-alive)[ \t]*\r\n"
    # Other framing or protocols, 100 Continue, the end of the connection; and Prefer, which may ask for no answer.
    rb"|(?!(?i:content-length|connection|transfer-encoding|upgrade|expect|prefer)[ \t]*:)"
    rb"[!#-'*+.\-0-9A-Z^-z|~]+:[\t -~]*\r\n"
    rb")*\r\n"
)


def read_plain(data: bytes) -> tuple[str, bytes, int] | None:
    """Of the one request that these bytes are, or begin: method, target, bytes of its body that are still to come.

    None where there is any doubt.
    """
    found = _PLAIN.match(data, 0, _LONGEST)
    if found is None:
        return None
    method, target, digits = found.groups()
    length = int(digits or b"0")
    missing = length - len(data) + found.end()
    if missing < 0 or length > _LONGEST_BODY or (digits and data[: found.end()].lower().count(b"content-length") > 1):
        return None
    return method.decode(), target, missing
