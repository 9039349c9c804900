"""The runtime's pages for browsers: the docs at /_/docs.

Called by the admin API. A page is one static answer: its style and its script are inside, and its policy allows these
two alone, by their hashes, so a route of a function can never be loaded as a script of it. It holds no data: its script
fetches what there is to show. So who has no key may be given it too, to type the key into.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Self

import msgspec

from runtime.base.errors import Problem
from runtime.base.sections import HttpSettings
from runtime.declare.request import Request
from runtime.triggers.http.answers import Answer, Headers, encode_headers
from runtime.triggers.http.core import Call, Endpoint


def docs_route(settings: HttpSettings) -> tuple[str, str, Endpoint]:
    """The docs page, routed; who may see it is who may see the document it shows."""
    page = _read("docs")
    public = settings.auth == "public"
    return "GET", "/_/docs", Endpoint(handle=page.handle, public=public, action="read", ask_key=page.ask_key)


class Page(msgspec.Struct, frozen=True):
    """One page, ready to be sent. headers: but for what caching and the status ask for."""

    content: bytes
    headers: Headers
    etag: str

    @classmethod
    def read(cls, name: str) -> Self:
        """The page of static/NAME.html; where it says /*FILE*/, that file of static/ is put in."""
        styles: list[str] = []
        scripts: list[str] = []

        def put_in(match: re.Match[str]) -> str:
            text = _text(match[1])
            (styles if match[1].endswith(".css") else scripts).append(_hash(text))
            return text

        content = re.sub(r"/\*(\w+\.(?:css|js))\*/", put_in, _text(f"{name}.html")).encode()
        headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-security-policy", _policy(styles, scripts).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"vary", b"accept"),
        ]
        return cls(content, headers, f'"{hashlib.sha256(content).hexdigest()[:32]}"')

    async def handle(self, call: Call) -> Answer:
        """The page; 304 to a browser that has it. It asks each time, since an upgrade may bring another."""
        fresh = [(b"cache-control", b"private, no-cache"), (b"etag", self.etag.encode())]
        if self.etag in (call.request.header(b"if-none-match") or ""):
            return Answer(304, [*self.headers, *fresh], b"")
        return self._answer(200, fresh)

    def ask_key(self, request: Request, refusal: Problem) -> Answer:
        """The page as a 401, for a browser. Raises the refusal for any other client."""
        if not accepts_html(request.header(b"accept") or ""):
            raise refusal
        return self._answer(refusal.status, [(b"cache-control", b"no-store"), *encode_headers(refusal.headers)])

    def _answer(self, status: int, more: Headers) -> Answer:
        length = (b"content-length", str(len(self.content)).encode())
        return Answer(status, [*self.headers, *more, length], self.content)


def accepts_html(accept: str) -> bool:
    """Whether an Accept header names text/html, as every browser's does; "anything" is what tools send."""
    for one in accept.split(","):
        kind, *parameters = (part.strip().lower().replace(" ", "") for part in one.split(";"))
        if kind == "text/html":
            return not any(p.startswith("q=") and not p[2:].strip("0.") for p in parameters)
    return False


@cache
def _read(name: str) -> Page:
    return Page.read(name)


def _text(name: str) -> str:
    return (files("runtime.admin") / "static" / name).read_text(encoding="utf-8")


def _policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src {' '.join(styles)}",
            f"script-src {' '.join(scripts)}",
            "connect-src 'self'",
            "img-src data:",  # its icon
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            # Text can then never become markup or script, whatever a docstring says.
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
