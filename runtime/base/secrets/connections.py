"""Addresses with a password in them, made of their parts: those of [store], and of [connections.NAME]."""

from urllib.parse import quote, urlencode

import msgspec

from runtime.base.secrets.masking import Secret


class ConnectionTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[connections.NAME]: a URL in parts, which functions are given as the secret NAME.

    driver: what stands before "://". password_from: the name of the secret that the password is. options: after "?".
    """

    driver: str
    host: str = "localhost"
    port: int | None = None
    user: str = ""
    password: Secret = Secret()
    password_from: str = ""
    database: str = ""
    options: dict[str, str] = {}

    def url(self, password: str) -> str:
        """The whole."""
        return url_of(self.driver, self.host, self.port, (self.user, password), self.database, self.options)


def url_of(
    driver: str,
    host: str,
    port: int | None,
    access: tuple[str, str],
    path: str = "",
    options: dict[str, str] | None = None,
) -> str:
    """`driver://user:password@host:port/path?options`, each part escaped; access: user and password."""
    user, password = (quote(part, safe="") for part in access)
    before = f"{user}:{password}@" if password else f"{user}@" if user else ""
    place = f"[{host}]" if ":" in host else quote(host, safe="")
    at = f":{port}" if port is not None else ""
    after = f"/{quote(path)}" if path else ""
    return f"{driver}://{before}{place}{at}{after}" + (f"?{urlencode(options)}" if options else "")
