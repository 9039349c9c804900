"""Ask a server over HTTP, with what Python has of its own.

Called by the other commands.
"""

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import click
import msgspec
from typing_extensions import override


class Answered(msgspec.Struct, frozen=True):
    """An answer. headers: by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A key is for the address it was given for."""

    @override
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def fetch(
    url: str,
    *,
    headers: Mapping[str, str],
    method: str | None = None,
    data: bytes | None = None,
    timeout: float | None = None,
    verified: bool = True,
) -> Answered:
    """A successful answer; ClickException with the problem's own words otherwise. Asks no proxy.

    verified: False for this machine's own address, which no certificate names, and only where nothing secret is sent.
    """
    if not url.startswith(("http://", "https://")):
        raise click.ClickException(f"{url} is not an http:// or https:// address")
    context = ssl.create_default_context()
    if not verified:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirects()
    )
    try:
        request = urllib.request.Request(url, data=data, headers=dict(headers), method=method)  # noqa: S310 - the scheme was just checked
        with opener.open(request, timeout=timeout) as answer:
            return Answered(answer.status, {k.lower(): v for k, v in answer.headers.items()}, bytes(answer.read()))
    except urllib.error.HTTPError as error:
        raise click.ClickException(f"{error.code}: {problem_text(error.read())}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise click.ClickException(f"{url} does not answer: {getattr(error, 'reason', error)}") from None


def problem_text(body: bytes) -> str:
    """The words of a problem+json."""
    try:
        problem = json.loads(body)
        said = ": ".join(str(problem[field]) for field in ("title", "detail") if problem.get(field))
        faults = [": ".join(filter(None, (one["name"], one["detail"]))) for one in problem.get("errors", ())]
        return "; ".join([said, *faults])
    except (ValueError, AttributeError, KeyError, TypeError):
        return body.decode(errors="replace")[:200]
