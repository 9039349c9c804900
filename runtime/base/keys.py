"""Access keys: what one is, what it allows, and how one is made. Pure, but for the file that older versions kept.

Used by ledger/access, which keeps them in the store. A key is `fnrun_<id>_<secret>`; kept is SHA-256 of the whole,
which is enough for 256 random bits.
"""

import hashlib
import hmac
import secrets
import time
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from runtime.base.errors import FnrunError, StartError

STATE_FOLDER = ".fnrun"
_SCOPES = ("admin", "read", "invoke")
_FILE = "keys.json"


KEY_PREFIX = "fnrun_"


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
            if kind == "admin" or (kind == action and (not pattern or fnmatchcase(function, pattern))):
                return True
        return False

    def is_of(self, token: str) -> bool:
        """Whether a token is this key's. Constant time in the secret."""
        return hmac.compare_digest(self.hash, _hash(token))

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= time.time()


def check_scope(scope: str) -> str:
    """The scope itself, or FnrunError that says which there are."""
    kind, colon, pattern = scope.partition(":")
    if kind not in _SCOPES or (colon and (kind != "invoke" or not pattern)):
        raise FnrunError(f'unknown scope "{scope}"; write admin, read, invoke, or invoke:<function or pattern>')
    return scope


def make_key(name: str, scopes: tuple[str, ...], lifetime_seconds: float | None = None) -> tuple[Key, str]:
    """A new key and its token, which is not kept. FnrunError for an unknown scope."""
    key_id = secrets.token_hex(4)
    token = f"{KEY_PREFIX}{key_id}_{secrets.token_urlsafe(32)}"
    now = time.time()
    key = Key(
        id=key_id,
        name=name,
        hash=_hash(token),
        scopes=tuple(check_scope(scope) for scope in scopes),
        created_at=now,
        expires_at=None if lifetime_seconds is None else now + lifetime_seconds,
    )
    return key, token


def id_in(token: str) -> str:
    """The id in a token; "" for what is none."""
    return token.split("_")[1] if token.count("_") >= 2 else ""  # noqa: PLR2004 - fnrun_<id>_<secret>


def expiry_text(expires_at: float | None) -> str:
    """When a key ends, for people."""
    if expires_at is None:
        return "never"
    when = datetime.fromtimestamp(expires_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"expired {when}" if expires_at <= time.time() else when


def read_old_file(root: Path) -> tuple[str, list[Key]] | None:
    """The keys that an older version kept in `.fnrun/keys.json`, with a digest of the file; None if it is not there.

    StartError if it cannot be read: whoever has a key in it would be locked out without a word.
    """
    path = root / STATE_FOLDER / _FILE
    try:
        content = path.read_bytes()
        return hashlib.sha256(content).hexdigest(), msgspec.json.decode(content, type=list[Key])
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StartError(f"{path} is damaged ({error}); restore it, or remove it to begin anew") from None
    except OSError as error:
        raise StartError(
            f"{path} cannot be read: {error.strerror}; make it a file that this user may read and write"
        ) from error


def set_old_file_aside(root: Path) -> None:
    """Rename the file: its keys are in the store. OSError if that cannot be."""
    path = root / STATE_FOLDER / _FILE
    path.rename(path.with_name(f"{_FILE}.taken"))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
