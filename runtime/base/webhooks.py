"""Standard Webhooks: sign what we send, and tell whether what came was signed. Pure; knows no HTTP.

Used by the check of `auth = "signed"`, by callbacks and by alerts. The scheme: HMAC-SHA256 of `id.timestamp.body`, in
headers `webhook-id`, `webhook-timestamp` (seconds since 1970) and `webhook-signature` ("v1,<base64>", several with a
space between). See https://www.standardwebhooks.com. A replay is the caller's to refuse: by the id.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence

from runtime.base.errors import FnrunError

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE_SECONDS = 300
UNKNOWN = "its signature is not of a secret we know"
_PREFIX = "whsec_"
_LEAST_BYTES, _MOST_BYTES = 24, 64


def secret_of(text: str) -> bytes:
    """The key that "whsec_<base64>", or the base64 alone, stands for: 24 to 64 bytes. FnrunError without the text."""
    try:
        key = base64.b64decode(text.strip().removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not _LEAST_BYTES <= len(key) <= _MOST_BYTES:
        raise FnrunError(
            "a signing secret is whsec_ and 24 to 64 bytes in base64; `fnrun secrets keygen --webhook` makes one"
        )
    return key


def sign(secrets: Iterable[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers for `body`, signed by each secret."""
    signatures = " ".join(f"v1,{_signature(secret, message_id, timestamp, body)}" for secret in secrets)
    return {ID: message_id, TIMESTAMP: str(timestamp), SIGNATURE: signatures}


def fault_of(
    secrets: Sequence[bytes], message_id: str, timestamp: str, signatures: str, body: bytes, now: float
) -> str | None:
    """Why a request is not to be trusted, for the log; None if it is. Constant time in the secrets."""
    if not message_id or not timestamp or not signatures:
        return "it is not signed"
    # As it is signed, without zeros before it: one message has one timestamp, and a replay is known by that.
    is_number = timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= len("10000000000")
    if not is_number or timestamp != str(int(timestamp)):
        return "its timestamp is no number of seconds"
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return f"its timestamp is more than {TOLERANCE_SECONDS} s away from this clock"
    import hmac  # noqa: PLC0415 - see _signature

    given = [one.removeprefix("v1,") for one in signatures.split(" ") if one.startswith("v1,")]
    expected = [_signature(secret, message_id, int(timestamp), body) for secret in secrets]
    # Each is compared with each, found or not: how long it takes tells nothing.
    matches = [hmac.compare_digest(one.encode(), ours.encode()) for one in given for ours in expected]
    return None if any(matches) else UNKNOWN


def _signature(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    import hmac  # noqa: PLC0415 - it loads OpenSSL, and each parent that reads its settings this module

    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    return base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
