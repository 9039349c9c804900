"""Read what a request prefers (RFC 7240): whether it wants its answer now, or a run that is answered later.

Called by the core and the admin API. Pure. What is malformed or unknown is passed over, as the RFC asks.
"""

import re
from collections.abc import Mapping

import msgspec

from runtime.declare.request import Request

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_WORD = rf'(?:{_NAME}|"(?:[^"\\]|\\.)*+")'
_VALUE = rf"(?:[ \t]*+=[ \t]*+({_WORD})?+)?+"
_PARAMETER = rf"[ \t]*+;[ \t]*+(?:{_NAME}{_VALUE.replace('(' + _WORD, '(?:' + _WORD)})?+"
_PREFERENCE = re.compile(rf"({_NAME}){_VALUE}(?:{_PARAMETER})*+[ \t]*+")
"""One preference with its parameters. Every quantifier is possessive: linear in what is sent."""

_LONGEST_NUMBER = 9

VARY = (b"vary", b"prefer")
"""Of every answer to a GET that depends on what is preferred, so that caches do not mistake one for another."""


class Preference(msgspec.Struct, frozen=True):
    """A run is wanted. wait_seconds: for its end, None: not at all. callback: a URL that is told of it."""

    wait_seconds: int | None = None
    callback: str = ""

    def applied(self) -> str:
        """What Preference-Applied says."""
        return "respond-async" if self.wait_seconds is None else f"respond-async, wait={self.wait_seconds}"


def preference_of(request: Request, longest_seconds: float) -> Preference | None:
    """What is preferred, its wait held to `longest_seconds`; None for an answer as usual."""
    if request.header(b"prefer") is None:
        return None
    found = preferences_of(request)
    if found.get("respond-async") != "":
        return None
    return Preference(wait_of(found, longest_seconds))


def preferences_of(request: Request) -> Mapping[str, str]:
    """Every preference by its name in lower case, with its value, "" for none; the first of several counts."""
    found: dict[str, str] = {}
    for item in request.header_items(b"prefer"):
        match = _PREFERENCE.fullmatch(item)
        if match is not None:
            found.setdefault(match[1].lower(), _unquoted(match[2] or ""))
    return found


def wait_of(preferences: Mapping[str, str], longest_seconds: float) -> int | None:
    """The seconds of `wait`, at most so many; None where it is not said, or makes no sense."""
    wait = preferences.get("wait", "")
    if not (wait.isascii() and wait.isdecimal()):
        return None
    return int(min(float(wait[:_LONGEST_NUMBER]) if len(wait) <= _LONGEST_NUMBER else longest_seconds, longest_seconds))


def _unquoted(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word[1:-1]) if word.startswith('"') else word
