"""Send signed requests to others: POST a body to a URL that somebody else chose.

Used by callbacks and alerts. It goes to public addresses alone, unless told otherwise: a name is looked up once, each
of its addresses is checked, and it is one of those that is connected to, so that no later answer of the name's own
server counts (DNS rebinding). Follows no redirect, uses no proxy, reads no body, and every wait has an end.
"""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache

import httpx
import msgspec

from runtime.base.web.places import Refused, check_url, is_public
from runtime.base.webhooks import sign

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host. OSError."""

_MOST_ADDRESSES = 4
_LONGEST_ERROR = 300
_PORTS = {"http": 80, "https": 443}
_LIMITS = httpx.Limits(max_keepalive_connections=0)

_is_ours: ContextVar[bool] = ContextVar("is_ours", default=False)


def _is_an_authors(_: logging.LogRecord) -> bool:
    return not _is_ours.get()


# httpx logs each request with its URL, which may be all that keeps others from a webhook; an author's own stay.
logging.getLogger("httpx").addFilter(_is_an_authors)


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a request. status: of its answer; None if there was none, and then error says why.

    retry_after: seconds that the answer asks to wait. refused: nothing was sent, and nothing ever will be to this URL.
    """

    status: int | None = None
    error: str = ""
    retry_after: float | None = None
    seconds: float = 0.0
    refused: bool = False

    @property
    def is_good(self) -> bool:
        """Whether the receiver has taken it."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004 - HTTP's own

    @property
    def told(self) -> str:
        """In words: what went wrong; "" if nothing did."""
        if self.is_good:
            return ""
        return self.error or f"it answered {self.status}"


class Sender:
    """Sends from the event loop it is used on. resolve: finds the addresses of a name, for tests.

    Each request has a connection of its own: one that is kept would be to an address that was checked for another name.
    """

    def __init__(self, resolve: Resolve | None = None, trust: ssl.SSLContext | None = None) -> None:
        self._resolve = resolve or _look_up
        self._trust = trust

    async def send(  # noqa: PLR0913 - what a request is
        self,
        url: str,
        body: bytes,
        *,
        secrets: Sequence[bytes],
        message_id: str,
        timestamp: int,
        private: bool = False,
        timeout_seconds: float = 10.0,
    ) -> Sent:
        """POST a JSON body, signed by each secret; without any it is not signed. Raises nothing but cancellation.

        private: it may go to private addresses, too. timeout_seconds: for all of it.
        """
        began = time.monotonic()
        headers = sign(secrets, message_id, timestamp, body)
        if not secrets:
            del headers["webhook-signature"]
        headers |= {"content-type": "application/json", "user-agent": "fnrun"}
        said = _is_ours.set(True)
        try:
            async with asyncio.timeout(timeout_seconds):
                sent = await self._send(url, body, headers, private=private, timeout_seconds=timeout_seconds)
        except (Refused, httpx.InvalidURL) as refused:
            sent = Sent(error=str(refused), refused=True)
        except TimeoutError:
            sent = Sent(error=f"no answer within {timeout_seconds:g} s")
        except (httpx.HTTPError, OSError, ValueError) as error:
            sent = Sent(error=f"{type(error).__name__}: {error}"[:_LONGEST_ERROR])
        finally:
            _is_ours.reset(said)
        return msgspec.structs.replace(sent, seconds=time.monotonic() - began)

    async def _send(
        self, url: str, body: bytes, headers: dict[str, str], *, private: bool, timeout_seconds: float
    ) -> Sent:
        host = check_url(url)
        target = httpx.URL(url)
        addresses = await self._resolve(host, target.port or _PORTS[target.scheme])
        if not addresses:
            raise OSError(f"{host} has no address")
        if not private and not all(map(is_public, addresses)):
            # Which address it is would tell a caller how our network looks inside.
            raise Refused(f"{host} is no public address, and nothing is sent to others")
        last: httpx.HTTPError | None = None
        timeout = httpx.Timeout(timeout_seconds, connect=timeout_seconds / min(len(addresses), _MOST_ADDRESSES))
        # follow_redirects, trust_env: what an answer, or the environment, says of another place was not checked.
        async with httpx.AsyncClient(
            verify=self._trust or _trusted(), trust_env=False, follow_redirects=False, limits=_LIMITS, timeout=timeout
        ) as client:
            for address in addresses[:_MOST_ADDRESSES]:
                request = client.build_request(
                    "POST",
                    target.copy_with(host=address),
                    content=body,
                    headers={**headers, "host": target.netloc.decode("ascii")},
                    extensions={"sni_hostname": host},
                )
                try:
                    return await _answer_of(client, request)
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:  # nothing was sent: another may do
                    last = error
        raise last or OSError(f"{host} cannot be reached")


async def _answer_of(client: httpx.AsyncClient, request: httpx.Request) -> Sent:
    answer = await client.send(request, stream=True)
    try:
        return Sent(status=answer.status_code, retry_after=_pause_of(answer.headers.get("retry-after", "")))
    finally:
        await answer.aclose()


@cache
def _trusted() -> ssl.SSLContext:
    """Whom we trust: made once, as it reads some hundred certificates. SSL_CERT_FILE names others."""
    return httpx.create_ssl_context()


async def _look_up(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _pause_of(text: str) -> float | None:
    """Retry-After: seconds, or a date; None for what is neither."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    return max(0.0, (when - datetime.now(UTC)).total_seconds()) if when.tzinfo else None
