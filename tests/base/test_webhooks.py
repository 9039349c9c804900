import hmac
import secrets as random
import time
from base64 import b64encode
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from runtime.base.errors import FnrunError
from runtime.base.webhooks import ID, SIGNATURE, TIMESTAMP, fault_of, secret_of, sign

KEY = random.token_bytes(32)
TEXT = "whsec_" + b64encode(KEY).decode()
BODY = b'{"a": 1}'
NOW = int(time.time())


def fault(headers: dict[str, str], body: bytes = BODY, secrets=(KEY,), now: float = NOW) -> str | None:
    return fault_of(secrets, headers.get(ID, ""), headers.get(TIMESTAMP, ""), headers.get(SIGNATURE, ""), body, now)


def test_the_public_library_takes_what_we_sign():
    headers = sign([random.token_bytes(24), secret_of(TEXT)], "m1", NOW, BODY)
    assert Webhook(TEXT).verify(BODY, headers) == {"a": 1}
    with pytest.raises(WebhookVerificationError):
        Webhook(TEXT).verify(BODY + b" ", headers)


def test_we_take_what_the_public_library_signs():
    signature = Webhook(TEXT).sign("m1", datetime.fromtimestamp(NOW, UTC), BODY.decode())
    headers = {ID: "m1", TIMESTAMP: str(NOW), SIGNATURE: signature}
    assert fault(headers) is None
    assert fault(headers, secrets=(random.token_bytes(32), KEY)) is None


def test_what_was_changed_is_refused():
    headers = sign([KEY], "m1", NOW, BODY)
    for at in range(len(BODY) * 8):
        flipped = bytearray(BODY)
        flipped[at // 8] ^= 1 << at % 8
        assert fault(headers, bytes(flipped))
    assert fault(headers, BODY.replace(b" ", b""))
    assert fault({**headers, ID: "m2"})
    assert fault({**headers, TIMESTAMP: str(NOW + 1)})
    assert fault(headers, secrets=(random.token_bytes(32),))
    assert fault({**headers, SIGNATURE: headers[SIGNATURE].replace("v1,", "v1a,")})


@pytest.mark.parametrize("right", [0, 1, 2, None])
def test_how_long_it_takes_tells_not_which_secret_is_right(monkeypatch, right):
    """Every signature is compared with that of every secret, in constant time, whichever is right."""
    compared, compare = [], hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: compared.append((one, other)) or compare(one, other))
    known = [random.token_bytes(32) for _ in range(3)]
    signed_by = [random.token_bytes(32) if right is None else known[right], random.token_bytes(32)]
    assert (fault(sign(signed_by, "m1", NOW, BODY), secrets=known) is None) == (right is not None)
    assert len(compared) == len(signed_by) * len(known)


@pytest.mark.parametrize("seconds", [-301, 301])
def test_old_and_early_ones_are_refused(seconds):
    headers = sign([KEY], "m1", NOW + seconds, BODY)
    assert "300 s" in (fault(headers) or "")
    assert fault(headers, now=NOW + seconds) is None


@pytest.mark.parametrize("timestamp", ["", "soon", "-1", "1e9", "٣٤", "9" * 5000])
def test_a_timestamp_is_a_number(timestamp):
    assert fault({**sign([KEY], "m1", NOW, BODY), TIMESTAMP: timestamp})


@pytest.mark.parametrize(
    "text", ["", "whsec_", "whsec_AAAA", "whsec_" + "?" * 40, "ä" * 40, b64encode(bytes(65)).decode()]
)
def test_a_secret_has_a_form(text):
    with pytest.raises(FnrunError, match="whsec_ and 24 to 64 bytes") as error:
        secret_of(text)
    assert text in ("", "whsec_") or text not in str(error.value)
