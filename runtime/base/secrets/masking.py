"""Keep secrets out of what is written: `mask(text)` replaces every value that somebody has called one.

Whoever learns of a secret calls `hide`: the settings, the vault, a cell that is given its function's own. Whatever
writes a line, a problem or a failure passes it through `mask`. Costs one comparison where there are no secrets.
"""

import re
import threading
from collections.abc import Iterable, Iterator
from typing import Self
from urllib.parse import quote, quote_plus, unquote

from typing_extensions import override

MASK = "****"
LEAST_LENGTH = 6
"""Of a shorter value nothing is replaced: it would be found in words that have nothing to do with it."""
_PASSWORD = re.compile(r"^[a-z][a-z0-9+.-]*://[^/@]*?:([^/]+)@", re.IGNORECASE)
"""Of a URL the password is hidden for itself, too: a driver's error may have it alone."""
_LEAST_LINE = 16
"""Of a value of several lines (a private key, say) each line of such a length is hidden for itself, too."""


class Secret(str):
    """The type of a setting that is a secret: shown nowhere. A str like any other to whoever uses it."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """The setting. ValueError for what is no text."""
        if not isinstance(text, str):
            raise ValueError("text is expected here")  # noqa: TRY004 - what settings are read with expects it
        return cls(text)

    @override
    def __repr__(self) -> str:
        return f"'{MASK}'" if self else "''"


_lock = threading.Lock()
_hidden: set[str] = set()
_pattern: "re.Pattern[str] | None" = None


def hide(values: Iterable[str]) -> None:
    """Have these values masked from now on, in this process, however they are written."""
    global _pattern  # noqa: PLW0603 - one process, one log
    with _lock:
        new = {form for value in values for form in _forms(value)} - _hidden
        if new:
            _hidden.update(new)
            longest_first = sorted(_hidden, key=len, reverse=True)
            _pattern = re.compile("|".join(re.escape(one) for one in longest_first))


def hides() -> bool:
    """Whether there are any."""
    return _pattern is not None


def mask(text: str) -> str:
    """The text with every secret replaced by `****`."""
    return text if _pattern is None else _pattern.sub(MASK, text)


def mask_bytes(content: bytes) -> bytes:
    """The same of UTF-8."""
    return (
        content
        if _pattern is None
        else mask(content.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    )


def _forms(value: str) -> Iterator[str]:
    """A value as it is, and as JSON, Python and URLs write it."""
    import json  # noqa: PLC0415 - a parent needs it only where there are secrets

    parts = [value.strip()]
    if "\n" in value:
        lines = (line.strip() for line in value.splitlines())
        parts += [line for line in lines if len(line) >= _LEAST_LINE and not line.startswith("-----")]
    if found := _PASSWORD.match(value):
        parts += [found[1], unquote(found[1])]
    for one in parts:
        if len(one) >= LEAST_LENGTH:
            yield one
            written = json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1], repr(one)[1:-1]
            yield from (*written, repr(one.encode("utf-8", "surrogatepass"))[2:-1])
            yield from (quote(one, errors="replace"), quote(one, safe="", errors="replace"))
            yield quote_plus(one, errors="replace")
