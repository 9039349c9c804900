"""The certificate that the settings name, as a TLS context; and whether HTTP/3 can be had.

Called before anything listens, and by server. Every fault is a StartError that names the setting, the fault, the fix.
"""

import ssl
from importlib.util import find_spec
from pathlib import Path

from runtime.base.errors import StartError
from runtime.base.sections import HttpSettings

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2, those that HTTP/2 allows: RFC 9113, 9.2.2. TLS 1.3 has no others."""


def load_tls(root: Path, settings: HttpSettings) -> ssl.SSLContext | None:
    """The context for `certfile` and `keyfile`, None where neither is set. Paths are relative to `root`."""
    if settings.http3:
        _check_http3(settings)
    if not settings.certfile and not settings.keyfile:
        return None
    if not settings.certfile or not settings.keyfile:
        missing, given = ("keyfile", "certfile") if settings.certfile else ("certfile", "keyfile")
        raise StartError(f"http.{missing} is not set, but http.{given} is: TLS needs both")
    certfile, keyfile = root / settings.certfile, root / settings.keyfile
    _check_file("certfile", certfile, b"-----BEGIN CERTIFICATE-----")
    _check_file("keyfile", keyfile, b"PRIVATE KEY-----")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["h2", "http/1.1"] if settings.http2 else ["http/1.1"])

    def refuse_password() -> str:
        raise StartError(
            f"http.keyfile: {keyfile} is encrypted; store it in the clear, readable for this user only: "
            f"openssl pkey -in {keyfile.name} -out key.pem"
        )

    try:
        context.load_cert_chain(certfile, keyfile, password=refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise StartError(f"http.keyfile: {keyfile} is not the key of the certificate in {certfile}") from None
        raise StartError(
            f"http.certfile, http.keyfile: {certfile} and {keyfile} cannot be used: {error.reason or error}"
        ) from None
    return context


def _check_file(setting: str, path: Path, mark: bytes) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StartError(f"http.{setting}: {path} cannot be read: {error.strerror}") from None
    if mark not in content:
        raise StartError(f"http.{setting}: {path} holds no {mark.decode().strip('-').lower()} in PEM form")


def _check_http3(settings: HttpSettings) -> None:
    if not settings.certfile:
        raise StartError("http.http3 is set, but http.certfile is not: HTTP/3 is always over TLS")
    if settings.workers > 1:
        raise StartError(
            "http.http3 takes a single process: packets of one client would reach any; set http.workers = 1"
        )
    if find_spec("aioquic") is None:
        raise StartError('http.http3 needs the package aioquic: pip install ".[http3]" in a clone of fnrun')
