"""Access keys: made once, shown once, stored hashed in `.fnrun/keys.json`.

Called by the HTTP access check and by `fnrun keys`. A key is `fnrun_<id>_<secret>`; the file holds SHA-256 of the
whole, which is enough for 256 random bits. Readers notice a change within a second.
"""

import fcntl
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from runtime.base.errors import FnrunError, StartError

STATE_FOLDER = ".fnrun"
_RECHECK_SECONDS = 0.5
_SCOPES = ("admin", "read", "invoke")


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One key as stored. scopes: "admin", "read", "invoke", "invoke:<name or pattern>". Times: seconds since 1970."""

    id: str
    name: str
    hash: str
    scopes: tuple[str, ...]
    created_at: float
    expires_at: float | None = None

    def allows(self, action: str, function: str = "") -> bool:
        """Whether this key may do `action`: "read", "admin", or "invoke" of `function`. admin may do everything."""
        for scope in self.scopes:
            kind, _, pattern = scope.partition(":")
            if kind == "admin" or (kind == action and fnmatchcase(function, pattern or "*")):
                return True
        return False

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= time.time()

    @property
    def expires(self) -> str:
        """When it ends, for people."""
        if self.expires_at is None:
            return "never"
        when = datetime.fromtimestamp(self.expires_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return f"expired {when}" if self.expired else when


def check_scope(scope: str) -> str:
    """The scope itself, or FnrunError that says which there are."""
    kind, colon, pattern = scope.partition(":")
    if kind not in _SCOPES or (colon and (kind != "invoke" or not pattern)):
        raise FnrunError(f'unknown scope "{scope}"; write admin, read, invoke, or invoke:<function or pattern>')
    return scope


class KeyFile:
    """The keys of one project. Safe against other processes that write at the same time."""

    def __init__(self, root: Path) -> None:
        self._folder = root / STATE_FOLDER
        self._path = self._folder / "keys.json"
        self._keys: dict[str, Key] = {}
        self._seen: tuple[int, int, int] | None = None
        self._checked_at = float("-inf")

    def list(self) -> tuple[Key, ...]:
        """Every stored key, oldest first, expired ones too."""
        self._refresh(now=float("inf"))
        return tuple(sorted(self._keys.values(), key=lambda key: key.created_at))

    def verify(self, token: str) -> Key | None:
        """The key that `token` is, or None if unknown, revoked or expired. Constant time in the secret."""
        self._refresh(time.monotonic())
        key = self._keys.get(token.split("_")[1] if token.count("_") >= 2 else "")  # noqa: PLR2004 - fnrun_<id>_<secret>
        if key is None or not hmac.compare_digest(key.hash, _hash(token)) or key.expired:
            return None
        return key

    def create(self, name: str, scopes: tuple[str, ...], lifetime_seconds: float | None = None) -> tuple[Key, str]:
        """A new key and its token; the token is not kept and cannot be shown again."""
        with self._locked():
            return self._add(name, scopes, lifetime_seconds)

    def create_first(self) -> str | None:
        """The token of a new admin key if there is none at all, so that somebody can begin; else None."""
        if self.list():
            return None
        with self._locked():
            return None if self._keys else self._add("first", ("admin",), None)[1]

    def revoke(self, key_id: str) -> Key:
        """Remove a key by its id. FnrunError if there is none."""
        with self._locked():
            if key_id not in self._keys:
                raise FnrunError(f'no key has the id "{key_id}"; see `fnrun keys list`')
            key = self._keys.pop(key_id)
            self._write()
            return key

    def _add(self, name: str, scopes: tuple[str, ...], lifetime_seconds: float | None) -> tuple[Key, str]:
        key_id = secrets.token_hex(4)
        token = f"fnrun_{key_id}_{secrets.token_urlsafe(32)}"
        now = time.time()
        key = Key(
            id=key_id,
            name=name,
            hash=_hash(token),
            scopes=tuple(check_scope(scope) for scope in scopes),
            created_at=now,
            expires_at=None if lifetime_seconds is None else now + lifetime_seconds,
        )
        self._keys[key_id] = key
        self._write()
        return key, token

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._folder.mkdir(exist_ok=True)
            with (self._folder / "keys.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._refresh(now=float("inf"))
                yield
        except OSError as error:
            self._seen = None  # what is in memory may not have been written
            raise StartError(
                f"access keys cannot be kept in {self._folder}: {error.strerror}; "
                "make the folder writable for this user, or mount a volume there"
            ) from error

    def _refresh(self, now: float) -> None:
        if now - self._checked_at < _RECHECK_SECONDS:
            return
        self._checked_at = min(now, time.monotonic())
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if seen != self._seen:
                keys = msgspec.json.decode(self._path.read_bytes(), type=list[Key])
                self._keys, self._seen = {key.id: key for key in keys}, seen
        except FileNotFoundError:
            self._keys, self._seen = {}, None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StartError(f"{self._path} is damaged ({error}); restore it, or remove it to begin anew") from None
        except OSError as error:
            raise StartError(
                f"{self._path} cannot be read: {error.strerror}; make it a file that this user may read and write"
            ) from error

    def _write(self) -> None:
        draft = self._path.with_suffix(".new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(list(self._keys.values()))))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
