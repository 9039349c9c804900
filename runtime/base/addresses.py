"""Read the address of a store: `embedded`, redis://, rediss://, redis+socket:///path, unix:///path.

Called by settings, which refuses what cannot hold, and by store, which connects. Pure; loads no client. A password is
in no text that this module makes for people.
"""

import re
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import msgspec

EMBEDDED = "embedded"

Scheme = Literal["redis", "rediss", "unix"]

_SCHEMES: dict[str, Scheme] = {"redis": "redis", "rediss": "rediss", "redis+socket": "unix", "unix": "unix"}
_DATABASE_OPTIONS = ("db", "virtual_host")
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_DEFAULT_PORT = 6379
_USER = re.compile(r"^([a-z+]+://)?.*@", re.DOTALL)  # up to the last @: a password may hold any sign, by mistake too
_OPTION = re.compile(r"([?&](?!db=|virtual_host=|ssl_)[^=&]*=)[^&]*")
_FORMS = "redis://host:6379/0, rediss://user:password@host:6379/0, redis+socket:///path/to/socket?db=0"


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a store is. host and port, or path: of its socket. tls: files for rediss://, by redis-py's option names."""

    scheme: Scheme
    host: str = ""
    port: int = _DEFAULT_PORT
    path: str = ""
    db: int = 0
    username: str = ""
    password: str = ""
    tls: dict[str, str] = {}

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read it, or ValueError that says what is wrong without the password."""
        scheme, separator, _ = text.partition("://")
        if not separator or scheme not in _SCHEMES:
            raise ValueError(f'{mask(text)!r} is not the address of a store; write "{EMBEDDED}", or one like {_FORMS}')
        try:
            url = urlsplit("//" + text.partition("://")[2])
            port = url.port or _DEFAULT_PORT
        except ValueError as error:  # its own text may have the password in it
            raise ValueError(f"{mask(text)!r}: the host or the port cannot be read; write {_FORMS}") from error
        options = dict(parse_qsl(url.query, keep_blank_values=True))
        address = cls(
            scheme=_SCHEMES[scheme],
            host=unquote(url.hostname or ""),
            port=port,
            path=unquote(url.path) if _SCHEMES[scheme] == "unix" else "",
            db=_read_db(text, "" if _SCHEMES[scheme] == "unix" else url.path.strip("/"), options),
            username=unquote(url.username or ""),
            password=unquote(url.password or ""),
            tls={name: options.pop(name) for name in _TLS_OPTIONS if name in options},
        )
        address._check(text, options)
        return address

    def _check(self, text: str, unknown: dict[str, str]) -> None:
        at = mask(text)
        if unknown or (self.tls and self.scheme != "rediss"):
            name = next(iter([*unknown, *self.tls]))
            known = ["db", *(_TLS_OPTIONS if self.scheme == "rediss" else ())]
            raise ValueError(f'{at!r}: unknown option "{name}"; there are: {", ".join(known)}')
        if self.scheme == "unix" and (self.host or not self.path.strip("/")):
            raise ValueError(f"{at!r}: the socket's absolute path is expected: redis+socket:///run/valkey.sock?db=0")
        if self.scheme != "unix" and not self.host:
            raise ValueError(f"{at!r}: no host; write {self.scheme}://host:{_DEFAULT_PORT}/0")

    @property
    def where(self) -> str:
        """For people: without user and password."""
        if self.scheme == "unix":
            return f"redis+socket://{quote(self.path)}" + (f"?db={self.db}" if self.db else "")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/{self.db}"

    @property
    def broker_url(self) -> str:
        """As kombu and Celery read it. It has the password in it."""
        access = ""
        if self.username or self.password:
            access = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@"
        if self.scheme == "unix":
            return f"redis+socket://{access}{quote(self.path)}?virtual_host={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        url = f"{self.scheme}://{access}{host}:{self.port}/{self.db}"
        # kombu verifies no certificate unless it is told to.
        return url + ("?" + urlencode({"ssl_cert_reqs": "required", **self.tls}) if self.scheme == "rediss" else "")

    @property
    def options(self) -> dict[str, Any]:
        """What redis-py's connections take."""
        place: dict[str, Any] = {"path": self.path} if self.scheme == "unix" else {"host": self.host, "port": self.port}
        return {
            **place,
            **self.tls,
            "db": self.db,
            "username": self.username or None,
            "password": self.password or None,
        }


def mask(text: str) -> str:
    """The text of an address without what stands before its host, nor what an option nobody knows may hold."""
    return _OPTION.sub(r"\1********", _USER.sub(r"\1********@", text))


def _read_db(text: str, path: str, options: dict[str, str]) -> int:
    """The database's number, out of the path or the options; it is taken out of these."""
    said = [value for value in (path, *(options.pop(name, "") for name in _DATABASE_OPTIONS)) if value]
    if any(not value.isdecimal() for value in said) or len(set(said)) > 1:
        raise ValueError(f"{mask(text)!r}: the database is one number, 0 or above")
    return int(said[0]) if said else 0
