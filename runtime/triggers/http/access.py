"""Decide whether a request may reach its endpoint.

Called by the core after routing, before the body is read. Pure but for the keys, which are compared with the store.
"""

from collections.abc import Collection
from http import HTTPStatus
from typing import Literal, Protocol
from urllib.parse import urlsplit

from runtime.base.errors import Problem
from runtime.base.keys import KEY_PREFIX, Key
from runtime.declare.request import Request
from runtime.ledger.access.audit import Actor

Action = Literal["invoke", "read", "admin"]
Reach = Literal["read", "invoke", "open"]
"""How much of a run its caller sees: who may read all runs, who may call its function, anyone at all."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class Verifier(Protocol):
    """Where keys are: a Keyring."""

    def is_due(self) -> bool:
        """Whether to `look` before anybody is let in."""

    def verify(self, token: str) -> Key | None:
        """The key a token is, as far as is known, or None."""

    async def look(self) -> None:
        """Learn what has changed. StoreDown."""

    async def look_for(self, token: str) -> bool:
        """Whether a token that is not known is a key after all. StoreDown."""


class Access:
    """keys: who may call. open_locally: `fnrun dev` on loopback: no key is asked for, but the caller must be local.

    origins: whose web pages may call then, too; "*" says so for those of this machine alone.
    """

    def __init__(self, keys: Verifier, *, open_locally: bool = False, origins: Collection[str] = ()) -> None:
        self._keys = keys
        self._open_locally = open_locally
        self._origins = origins

    @property
    def is_local(self) -> bool:
        """Whether all callers are of this machine, and need no key."""
        return self._open_locally

    def admits(self, request: Request, *, public: bool, action: Action, function: str) -> bool:
        """Whether the request may go on by what is known at once, as nearly all may; `admit` asks, and says why not."""
        if self._open_locally:
            return False
        if public:
            return True
        if self._keys.is_due() or (token := _token_of(request)) is None:
            return False
        key = self._keys.verify(token)
        return key is not None and key.allows(action, function)

    async def admit(self, request: Request, *, public: bool, action: Action, function: str) -> None:
        """As check, after a look at the keys where one is due, or where the request's own is not known. StoreDown."""
        if not (public or self._open_locally) and self._keys.is_due():
            await self.learn(request)
        try:
            self.check(request, public=public, action=action, function=function)
        except Problem as refusal:
            if refusal.status != HTTPStatus.UNAUTHORIZED or _token_of(request) is None:
                raise
            await self.learn(request)
            self.check(request, public=public, action=action, function=function)

    async def learn(self, request: Request) -> None:
        """Know the key that a request shows, if it is one. StoreDown if nobody can say."""
        token = _token_of(request)
        if self._open_locally or token is None or not token.startswith(KEY_PREFIX):  # who shows no key has none
            return
        if self._keys.is_due():
            await self._keys.look()
        if self._keys.verify(token) is None:
            await self._keys.look_for(token)

    def check(self, request: Request, *, public: bool, action: Action, function: str) -> None:
        """Return if the request may go on, by the keys that are known; else raise the Problem (401, 403) to answer."""
        if self._open_locally:
            _check_local(request, self._origins)
            return
        if public:
            return
        key = self._key_of(request)
        if not key.allows(action, function):
            raise Problem(403, "Forbidden", detail=f"this key's scopes do not allow to {action} {function}".rstrip())

    def reach(self, request: Request, *, public: bool, function: str) -> Reach:
        """How much of a function's run a request may see; raises the Problem (401 or 403) if nothing.

        public: whether it is open to all.
        """
        if self._open_locally:
            _check_local(request, self._origins)
            return "read"
        try:
            key = self._key_of(request)
        except Problem:
            if public:
                return "open"
            raise
        if key.allows("read"):
            return "read"
        if key.allows("invoke", function):
            return "invoke"
        if public:
            return "open"
        raise Problem(403, "Forbidden", detail=f"this key's scopes reach no runs of {function}")

    async def caller_of(self, request: Request) -> str:
        """Whose request it is, told by its key; where none is asked for, by what else it shows. StoreDown."""
        said = request.header(b"authorization") or ""
        if self._open_locally or not said:
            return "public"
        await self.learn(request)
        try:
            return f"key:{self._key_of(request).id}"
        except Problem:  # a public function may have an authorization of its own
            return f"public:{said}"

    def actor_of(self, request: Request) -> Actor:
        """Who acts, for the audit log. The address is the connection's own: a header can say anything."""
        address = request.client or ""
        if self._open_locally:
            return Actor(kind="local", address=address)
        key = self._key_of(request)
        return Actor(kind="key", id=key.id, name=key.name, address=address)

    def _key_of(self, request: Request) -> Key:
        """The key that a request shows. Problem (401) if it shows none that holds."""
        token = _token_of(request)
        if token is None:
            raise _unauthorized("this needs a key: send `Authorization: Bearer <key>`", "Bearer")
        key = self._keys.verify(token)
        if key is None:
            raise _unauthorized("the key is unknown, revoked or expired", 'Bearer error="invalid_token"')
        return key


def _token_of(request: Request) -> str | None:
    """What a request shows as its key; None if it shows nothing."""
    scheme, _, token = (request.header(b"authorization") or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _unauthorized(detail: str, challenge: str) -> Problem:
    return Problem(401, "Unauthorized", headers={"WWW-Authenticate": challenge}, detail=detail)


def _check_local(request: Request, origins: Collection[str]) -> None:
    """Keep out web pages: one whose host name was pointed at this machine, and one that posts from elsewhere."""
    host = request.header(b"host") or ""
    if not _is_local(host):
        raise Problem(403, "Forbidden", detail=f"fnrun dev answers local names only, not {host!r}; use `fnrun serve`")
    origin = request.header(b"origin")
    if request.method in _SAFE or origin is None or origin in origins:
        return
    own = origin.lower().removeprefix("http://").removeprefix("https://")
    if own != host.lower() and not ("*" in origins and _is_local(own)):
        raise Problem(
            403,
            "Forbidden",
            detail=f"fnrun dev refuses this from another origin, {origin!r}; name it in [cors] origins",
        )


def _is_local(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name in _LOCAL or name.endswith(".localhost")
