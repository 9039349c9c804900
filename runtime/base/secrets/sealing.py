"""Encrypted values: `enc:v1:<key id>:<text>`, opened with keys of FNRUN_SECRET_KEY. Knows no file but the keys' own.

AES-256-GCM, because it takes the value's NAME as associated data: a value that is moved to another name does not open,
which Fernet cannot say. 96 random bits are drawn for each value. The key's id stands in the text, so that no key is
tried in vain, and a missing one can be named. The first key encrypts; the others only open what is older.
"""

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import msgspec
from typing_extensions import override

from runtime.base.errors import FnrunError, SettingsError
from runtime.base.secrets.masking import MASK, hide

PREFIX = "enc:"
KEY_VARIABLE, FILE_VARIABLE = "FNRUN_SECRET_KEY", "FNRUN_SECRET_KEY_FILE"
_VERSION = "v1"
_KEY_PREFIX = "fnrunkey_"
_KEY_BYTES, _NONCE_BYTES = 32, 12
_WHERE = f"{KEY_VARIABLE} or the file of {FILE_VARIABLE}"


class Unopened(FnrunError):  # noqa: N818 - a state
    """A value that cannot be decrypted, and why; without its name, which its reader puts before that."""


class Key(msgspec.Struct, frozen=True):
    """A key. id: 8 digits that its values carry; they tell nothing of the key."""

    id: str
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """A key as `new_key` writes it. Unopened for anything else."""
        raw = _decoded(text.removeprefix(_KEY_PREFIX)) if text.startswith(_KEY_PREFIX) else None
        if raw is None or len(raw) != _KEY_BYTES:
            raise Unopened("is no key; `fnrun secrets keygen` makes one, and several are written with commas between")
        import hashlib  # noqa: PLC0415 - it loads OpenSSL, which nobody needs who has no keys

        return cls(hashlib.sha256(b"fnrun key id " + raw).hexdigest()[:8], raw)

    @override
    def __repr__(self) -> str:
        return f"Key({self.id!r}, {MASK})"


class Keyring(msgspec.Struct, frozen=True):
    """The keys there are; the first encrypts. None at all: nothing can be opened."""

    keys: tuple[Key, ...] = ()

    def seal(self, name: str, value: str) -> str:
        """The encrypted text of a value, good for this name alone. Unopened if there is no key."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - most start without

        if not self.keys:
            raise Unopened(f"cannot be encrypted: there is no key; `fnrun secrets keygen` makes one for {_WHERE}")
        key, nonce = self.keys[0], os.urandom(_NONCE_BYTES)
        sealed = AESGCM(key.raw).encrypt(nonce, value.encode("utf-8", "surrogatepass"), _bound(key.id, name))
        return f"{PREFIX}{_VERSION}:{key.id}:{_encoded(nonce + sealed)}"

    def open(self, name: str, text: str) -> str:
        """The value of an encrypted text. Unopened without a key for it, or if it, or its name, was changed."""
        parts = text.split(":")
        if len(parts) != len(("enc", "v1", "id", "text")) or parts[:2] != ["enc", _VERSION]:
            raise Unopened(f"is no encrypted value that this version knows ({PREFIX}{_VERSION}:<key id>:<text>)")
        key = self._key(parts[2])
        sealed = _decoded(parts[3]) or b""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as above
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - as above

        try:
            nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            return AESGCM(key.raw).decrypt(nonce, rest, _bound(key.id, name)).decode("utf-8", "surrogatepass")
        except (InvalidTag, ValueError):
            raise Unopened(
                f"was changed since it was encrypted, or was encrypted for another name than {name}; "
                f"encrypt it again: `fnrun secrets encrypt {name}`"
            ) from None

    def _key(self, key_id: str) -> Key:
        if not self.keys:
            raise Unopened(f"is encrypted, and there is no key: it is expected in {_WHERE}")
        for key in self.keys:
            if key.id == key_id:
                return key
        known = ", ".join(key.id for key in self.keys)
        raise Unopened(
            f"is encrypted with the key {key_id}, which is not among those given ({known}); "
            f"add that key to {_WHERE}, or encrypt the value again"
        )


def keyring_of(environ: Mapping[str, str], root: Path) -> Keyring:
    """The keys that the variables give, or name a file of: one a line there, relative to the project. SettingsError."""
    said, path = environ.get(KEY_VARIABLE, ""), environ.get(FILE_VARIABLE, "")
    if said and path:
        raise SettingsError(f"{KEY_VARIABLE} and {FILE_VARIABLE} are both set; take one away")
    source, texts = KEY_VARIABLE, said.split(",")
    if path:
        source = f"{FILE_VARIABLE} ({path})"
        try:
            texts = (root / path).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise SettingsError(f"{source} cannot be read: {reason}") from None
    found = [text.strip() for text in texts]
    found = [text for text in found if text and not text.startswith("#")]
    try:
        keys = tuple(Key.parse(text) for text in found)
    except Unopened as error:
        raise SettingsError(f"{source}: one of them {error}" if len(found) > 1 else f"{source} {error}") from None
    if path and not keys:
        raise SettingsError(f"{source} has no key in it; `fnrun secrets keygen` makes one")
    hide(found)
    return Keyring(keys)


def new_key() -> str:
    """A key, as text."""
    return _KEY_PREFIX + _encoded(os.urandom(_KEY_BYTES))


def name_of(variable: str) -> str:
    """The name that a value is encrypted for: one of a setting is the same in a variable and in functions.toml."""
    if variable.startswith("FNRUN_") and "__" in variable:
        return variable.removeprefix("FNRUN_").replace("__", ".").lower()
    return variable


def _bound(key_id: str, name: str) -> bytes:
    return f"fnrun {PREFIX}{_VERSION}:{key_id}:{name_of(name)}".encode("utf-8", "surrogatepass")


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes | None:
    """None for what is not written exactly as `_encoded` does: base64 has bits that mean nothing."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if _encoded(raw) == text else None
