"""Words for annotations: where a parameter comes from, what a result is.

Pure data, used by authors, read by parameters and by the HTTP answers.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from runtime.base.durations import Duration


class Source:
    """Where a parameter of an HTTP call is read: `Annotated[str, Header]` or `Annotated[str, Header("user-agent")]`.

    name: its name in the request; the parameter's own where left out (a header's with "-" for "_").
    """

    __slots__ = ("name",)

    def __init__(self, name: str | None = None) -> None:
        self.name = name


class Query(Source):
    """A query parameter; a list takes every value given."""


class Header(Source):
    """A header; a list takes every line of it."""


class Cookie(Source):
    """A cookie."""


class Body(Source):
    """The whole body: JSON of the parameter's type, or as it came where that is bytes or str."""


class ContentType:
    """Marks a str result as something other than JSON."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value


PlainText = Annotated[str, ContentType("text/plain; charset=utf-8")]
"""`-> PlainText`: a str, answered as text."""

Html = Annotated[str, ContentType("text/html; charset=utf-8")]
"""`-> Html`: a str, answered as a page."""


class Event(msgspec.Struct, frozen=True):
    """One server-sent event: a generator of these is answered as text/event-stream.

    data: text as it is, anything else as JSON. event: its type. id: sent back as Last-Event-ID when the client
    reconnects. retry: how long the client waits before that, "3s" or seconds. comment: a line no client sees.
    Source: HTML Living Standard, "Server-sent events".
    """

    data: Any = msgspec.UNSET
    event: str | None = None
    id: str | None = None
    retry: Duration | None = None
    comment: str | None = None


INJECTED: Final[Any] = type("Injected", (), {"__slots__": (), "__repr__": lambda _: "INJECTED"})()
"""Default of a Context, Tick or Request parameter that typed code does not pass: the runtime does."""


class Reply:
    """An answer with a status and headers of its own. body: encoded as a plain result would be."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, body: Any = None, status: int | None = None, headers: Mapping[str, str | int] | None = None
    ) -> None:
        self.body = body
        self.status: Any = status
        self.headers = dict(headers or {})
