"""An HTTP request, as the core reads it and as a handler may ask for it.

Made by a shell (Starlette's, later the lane) from what came over the wire; needs no ASGI scope. Parts are parsed when
first asked for. The body is read from the connection no sooner than somebody wants it, and never past its limit.
"""

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import parse_qsl

import msgspec

from runtime.base.errors import InputError, Problem

_LONGEST_NUMBER = 18
"""Digits of a content-length that is worth reading: Python refuses to read thousands of them."""

_ITEM = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.?)*"?)+')
"""An item of a header that is a list (RFC 9110, 5.6.1). Every alternative always ends: linear in what is sent."""

Headers = Sequence[tuple[bytes, bytes]]


def is_plain(query: bytes) -> bool:
    """Whether a query string says nothing otherwise than as it is meant."""
    return b"%" not in query and b"+" not in query and query.isascii()


class ClientGone(ConnectionResetError):  # noqa: N818 - says what happened, as its base does
    """The client closed the connection before its body was complete."""


class Wire(Protocol):
    """The connection a request came over, as a shell gives it. done: whether the whole body has been read."""

    done: bool

    async def next(self) -> bytes | None:
        """The next part of the body; None at its end. ClientGone if the client left before."""


class Request:
    """method, path (raw, percent-encoded), query_string, headers (names in lower case), client, scheme.

    path_params: decoded values of the route's parameters, as str.
    """

    __slots__ = (
        "_body", "_started", "_wire", "client", "headers_raw", "max_body", "method", "path", "path_params",
        "query_string", "scheme",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913, PLR0917 - one for each part of a request; as Context
        self,
        method: str,
        path: str,
        query_string: bytes = b"",
        headers: Headers = (),
        wire: Wire | None = None,
        client: str | None = None,
        scheme: str = "http",
    ) -> None:
        self.method = method
        self.path = path
        self.query_string = query_string
        self.headers_raw = headers
        self.client = client
        self.scheme = scheme
        self.path_params: Mapping[str, str] = {}
        self.max_body = 1_000_000
        self._wire = wire
        self._body: bytes | None = None if wire else b""
        self._started = False

    def header(self, name: bytes) -> str | None:
        """The value of a header, by its name in lower case; several lines joined by ", "; None if absent."""
        found = None
        for key, value in self.headers_raw:
            if key == name:
                text = value.decode("latin-1")
                found = text if found is None else f"{found}, {text}"
        return found

    def header_lines(self, name: bytes) -> list[str]:
        """Each line of a header, in order."""
        return [value.decode("latin-1") for key, value in self.headers_raw if key == name]

    def header_items(self, name: bytes) -> list[str]:
        """Each item of a header that is a list: its lines, split at commas outside of quotation marks."""
        found = [item.strip() for line in self.header_lines(name) for item in _ITEM.findall(line)]
        return [item for item in found if item]

    @property
    def headers(self) -> dict[str, str]:
        """Every header by its name in lower case; several lines joined by ", "."""
        found: dict[str, str] = {}
        for key, value in self.headers_raw:
            name, text = key.decode("latin-1"), value.decode("latin-1")
            found[name] = f"{found[name]}, {text}" if name in found else text
        return found

    @property
    def query(self) -> dict[str, list[str]]:
        """Every query parameter with all its values. InputError (400) for bytes that are not UTF-8."""
        found: dict[str, list[str]] = {}
        try:
            text = self.query_string.decode("ascii")
            if is_plain(self.query_string):
                for name, _, value in [one.partition("=") for one in text.split("&") if one]:
                    found.setdefault(name, []).append(value)
                return found
            pairs = parse_qsl(text, keep_blank_values=True, errors="strict")
        except ValueError:
            raise InputError(400, "the query string is not percent-encoded UTF-8") from None
        for key, value in pairs:
            found.setdefault(key, []).append(value)
        return found

    @property
    def cookies(self) -> dict[str, str]:
        """Every cookie by its name; the first where a name stands twice."""
        found: dict[str, str] = {}
        for part in "; ".join(self.header_lines(b"cookie")).split(";"):  # HTTP/2 may send a line for each
            name, equals, value = part.strip().partition("=")
            if equals:
                found.setdefault(name, value.strip('"'))
        return found

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives, once. Problem (413) as soon as it is longer than the route's `max_body`."""
        if self._body is not None:
            yield self._body
            return
        if self._started or self._wire is None:
            raise RuntimeError("the body was already streamed; use `await request.body()` to read it more than once")
        length = self.header(b"content-length")
        if length is not None and length.isdecimal() and (len(length) > _LONGEST_NUMBER or int(length) > self.max_body):
            raise too_large(self.max_body)
        self._started = True
        size = 0
        while (part := await self._wire.next()) is not None:
            size += len(part)
            if size > self.max_body:
                raise too_large(self.max_body)
            yield part

    async def body(self) -> bytes:
        """The whole body. Problem (413) if longer than the route's `max_body`."""
        if self._body is None:
            self._body = b"".join([part async for part in self.stream()])
        return self._body

    async def json(self) -> Any:
        """The body as JSON. InputError (400) if it is none."""
        try:
            return msgspec.json.decode(await self.body())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(400, f"the body is not JSON: {error}") from None


def too_large(limit: int) -> Problem:
    """The answer to a body past its limit, in bytes."""
    return Problem(413, detail=f"the body is longer than this route's limit of {int(limit)} bytes")
