"""Which addresses of the Internet are public, and which URLs can be sent to at all.

Called by the sender, at connect, and by whoever takes a URL. Pure: looks up no name.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from runtime.base.errors import FnrunError

_LONGEST = 2000
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_GLOBAL = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(text) for text in ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "3fff::/20")
)
"""What Python takes for public, or took in some versions: Azure's way to its own machine (others' are link-local), what
the IANA keeps for protocols (Oracle's metadata among them), relays of 6to4, documentation."""


class Refused(FnrunError):  # noqa: N818 - a verdict
    """Nothing is sent there, however often it is tried."""


def check_url(url: str) -> str:
    """The host of a URL that can be sent to: http or https, without user and password. Refused says what is wrong."""
    if not 0 < len(url) <= _LONGEST or not url.isascii() or not url.isprintable() or " " in url:
        raise Refused(f"a URL is 1 to {_LONGEST} printable ASCII characters; write others with %, names in punycode")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Refused(f"this is no URL: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise Refused('a URL that can be sent to begins with "https://" or "http://"')
    if not host:
        raise Refused("the URL names no host")
    if not _HOST.fullmatch(host):
        raise Refused("the URL's host is no name and no address")
    if parts.username is not None or parts.password is not None:
        raise Refused("the URL has a user or a password in it; leave them out, requests are signed")
    return host


def is_public(address: str) -> bool:
    """Whether an IP address is somebody's on the Internet: no machine, network, link or cloud of our own.

    An IPv4 address within an IPv6 one (mapped, 6to4, NAT64) counts as what it is.
    """
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = ipaddress.IPv4Address(found.packed[-4:])
        if inner is not None:
            found = inner
        elif found.scope_id is not None or found not in _GLOBAL:
            return False
    if found.is_multicast or found.is_reserved or any(found in network for network in _NOT_PUBLIC):
        return False
    return found.is_global
