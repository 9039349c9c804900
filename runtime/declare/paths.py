"""Route patterns: "/customers/{customer}/orders/{id:int}/{rest:path}".

Called by parameters (names), by the loader (faults, duplicates), by the route table and openapi. Pure.
"""

import re
from functools import cache
from typing import Any
from uuid import UUID

import msgspec

from runtime.base.errors import DeclarationError, did_you_mean

RESERVED = "_"
"""First segment of every path of the runtime's own; a route of an author's may not begin with it."""

CONVERTERS: dict[str, tuple[str, Any]] = {
    "int": (r"[0-9]+", int),
    "float": (r"[0-9]+(?:\.[0-9]+)?", float),
    "uuid": (r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", UUID),
    "str": (r".+", str),
    "path": (r".*", str),
}
"""Converter -> what a segment looks like, and the type of a parameter without annotation. Tried in this order."""

_PARAMETER = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")
_LITERAL = re.compile(r"[^{}?#%\s\x00-\x1f\x7f]*")


class Segment(msgspec.Struct, frozen=True):
    """One part between slashes: a literal `text`, or a parameter `name` with its `converter`."""

    text: str = ""
    name: str = ""
    converter: str = ""


@cache  # a route is looked at by the loader, the table and OpenAPI, and each time something is reloaded
def parse_path(path: str) -> tuple[Segment, ...]:
    """The segments of a pattern. DeclarationError that names the pattern, the part and the fix."""
    parts = path.removeprefix("/").split("/")
    segments = tuple(_parse_segment(path, part) for part in parts)
    names = [segment.name for segment in segments if segment.name]
    for name in names:
        if names.count(name) > 1:
            raise DeclarationError(f"@http {path}: the parameter {{{name}}} stands twice")
    if any(segment.converter == "path" for segment in segments[:-1]):
        raise DeclarationError(f"@http {path}: a {{name:path}} parameter takes all that follows; put it last")
    return segments


def check_path(path: str) -> None:
    """Refuse what no route of an author's may have: a malformed pattern, or a place under /_/."""
    if parse_path(path)[0].text == RESERVED:
        raise DeclarationError(f"@http {path}: paths under /_/ are the runtime's own; choose another")


def path_names(path: str) -> dict[str, str]:
    """Converter of each parameter in a pattern, by its name."""
    return {segment.name: segment.converter for segment in parse_path(path) if segment.name}


def shape_of(path: str) -> tuple[Segment, ...]:
    """The pattern without its parameters' names: two routes of the same shape answer the same requests."""
    return tuple(Segment(segment.text, "", segment.converter) for segment in parse_path(path))


def _parse_segment(path: str, part: str) -> Segment:
    if "{" not in part and "}" not in part:
        if not _LITERAL.fullmatch(part) or part in (".", ".."):
            raise DeclarationError(f"@http {path}: {part!r} cannot stand in a path; write it decoded, without ? # %")
        return Segment(part)
    match = _PARAMETER.fullmatch(part)
    if match is None:
        raise DeclarationError(f'@http {path}: {part!r}: a parameter fills a whole segment, "/{{name}}/" for instance')
    name, converter = match[1], match[2] or "str"
    if not name.isidentifier():
        raise DeclarationError(f"@http {path}: {part!r}: {name!r} is not the name of a parameter")
    if converter not in CONVERTERS:
        hint = did_you_mean(converter, CONVERTERS) or f"; there are {', '.join(CONVERTERS)}"
        raise DeclarationError(f"@http {path}: {part!r}: unknown converter {converter!r}{hint}")
    return Segment("", name, converter)
