"""Find the endpoint of a method and a path.

Built once at load by the core. Paths without parameters are one dictionary look-up; the others walk a tree of
segments, literals before converters before free text. What access checks is the endpoint found here, so both see
the same path.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from runtime.base.errors import InputError
from runtime.declare.paths import CONVERTERS, RESERVED, Segment, parse_path

E = TypeVar("E")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PATTERNS = {name: re.compile(pattern) for name, (pattern, _) in CONVERTERS.items()}
_ORDER = list(CONVERTERS)


class Match(msgspec.Struct, Generic[E], frozen=True):
    """What answers a path: an endpoint for each method, and the names of the path's parameters with their values."""

    endpoints: dict[str, E]
    values: tuple[str, ...] = ()
    names: dict[str, tuple[str, ...]] = {}

    def params(self, method: str) -> dict[str, str]:
        """Path parameters under the names that this method's route gives them."""
        return dict(zip(self.names[method], self.values, strict=True)) if self.values else {}


class _Node(Generic[E]):
    def __init__(self) -> None:
        self.literals: dict[str, _Node[E]] = {}
        self.converters: dict[str, _Node[E]] = {}
        self.endpoints: dict[str, E] = {}
        self.names: dict[str, tuple[str, ...]] = {}


class RouteTable(Generic[E]):
    """Patterns and methods to endpoints.

    reserved: more of them, all below RESERVED. They are made when a path there is first looked for that is not known.
    """

    def __init__(self, reserved: Callable[[], Iterable[tuple[str, str, E]]] | None = None) -> None:
        self._reserved = reserved
        self._root: _Node[E] = _Node()
        self._static: dict[str, Match[E]] = {}

    def add(self, method: str, path: str, endpoint: E) -> None:
        """Route a method and a pattern. The loader has refused duplicates."""
        node = self._root
        segments = parse_path(path)
        for segment in segments:
            node = _child(node, segment)
        node.endpoints[method] = endpoint
        node.names[method] = tuple(segment.name for segment in segments if segment.name)
        if not any(segment.name for segment in segments):
            self._static[path] = Match(node.endpoints)

    def at(self, path: str, method: str) -> Match[E] | None:
        """As find, of a path that a request may well have; None also where that raises."""
        static = self._static.get(path)
        if static is not None and method in static.endpoints:
            return static
        try:
            return self.find(path, method)
        except Exception:  # noqa: BLE001 - whoever then answers the request has it again, and says it to the client
            return None

    def find(self, path: str, method: str) -> Match[E] | None:
        """What answers a raw (percent-encoded) path; None if nothing does. InputError (400) for a malformed one.

        The most exact pattern that has the method. Where none has: all that fit, as one Match without the method.
        """
        static = self._static.get(path)
        if static is not None and _answers(static.endpoints, method):
            return static
        segments = _segments(path)
        if segments[0] == RESERVED and self._reserved is not None:
            for route in self._reserved():
                self.add(*route)
            self._reserved = None
        others: list[Match[E]] = []
        found = _walk(self._root, segments, 0, (), method, others)
        if found is None and others:
            return Match({name: endpoint for one in others for name, endpoint in one.endpoints.items()})
        return found


def _answers(endpoints: Mapping[str, object], method: str) -> bool:
    return method in endpoints or (method == "HEAD" and "GET" in endpoints)


def _child(node: _Node[E], segment: Segment) -> _Node[E]:
    if not segment.name:
        return node.literals.setdefault(segment.text, _Node())
    child = node.converters.setdefault(segment.converter, _Node())
    node.converters = {name: node.converters[name] for name in _ORDER if name in node.converters}
    return child


def _segments(path: str) -> list[str]:
    """Decoded segments. A dot segment, a control character or bytes that are not UTF-8 are refused, however written."""
    if not path.startswith("/"):
        raise InputError(400, "the path does not start with /")
    parts = path[1:].split("/")
    if "%" in path:
        try:
            parts = [unquote_to_bytes(part).decode() if "%" in part else part for part in parts]
        except UnicodeDecodeError:
            raise InputError(400, "the path is not percent-encoded UTF-8") from None
    for part in parts:
        if part in (".", "..") or "\\" in part or _CONTROL.search(part):
            raise InputError(400, "the path has a segment of dots, a backslash or a control character")
    return parts


def _walk(
    node: _Node[E], parts: list[str], depth: int, values: tuple[str, ...], method: str, others: list[Match[E]]
) -> Match[E] | None:
    """The first leaf that has the method, the most exact first; leaves that have not are put into `others`."""
    if depth == len(parts):
        return _leaf(node, values, method, others)
    part = parts[depth]
    literal = node.literals.get(part)
    if literal is not None and (found := _walk(literal, parts, depth + 1, values, method, others)) is not None:
        return found
    if depth == 0 and part == RESERVED:
        return None  # whatever else a pattern of an author's would take
    for converter, child in node.converters.items():
        if converter == "path":
            found = _leaf(child, (*values, "/".join(parts[depth:])), method, others)
        elif _PATTERNS[converter].fullmatch(part):
            found = _walk(child, parts, depth + 1, (*values, part), method, others)
        else:
            continue
        if found is not None:
            return found
    return None


def _leaf(node: _Node[E], values: tuple[str, ...], method: str, others: list[Match[E]]) -> Match[E] | None:
    if not node.endpoints:
        return None
    match = Match(node.endpoints, values, node.names)
    if _answers(node.endpoints, method):
        return match
    others.append(match)
    return None
