"""TLS by setting, HTTP/2 by ALPN, and faults of certificates told before anything listens."""

import json
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from runtime.triggers.http.wire.requests import Limits
from runtime.triggers.http.wire.tls import load_tls
from tests.live.test_wire_http2 import Client
from tests.wire_servers import Wired, hear, write_files

pytestmark = pytest.mark.live

ENVIRON = {"FNRUN_HTTP__AUTH": "public", "FNRUN_HTTP__BIND": "127.0.0.1:0"}
APP = {
    "functions/app.py": """
        from typing import Annotated
        from runtime import Body, Request, http

        @http.get("/scheme")
        async def scheme(request: Request) -> str:
            return request.scheme

        @http.post("/small", max_body="10")
        async def small(body: Annotated[bytes, Body]) -> int:
            return len(body)
        """
}


def write_certificate(folder: Path, name: str = "cert") -> trustme.CA:
    authority = trustme.CA()
    made = authority.issue_cert("localhost", "127.0.0.1")
    made.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
    made.private_key_pem.write_to_path(folder / f"{name}-key.pem")
    return authority


def context_of(authority: trustme.CA, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    root = write_files(tmp_path_factory.mktemp("tls"), **APP)
    authority = write_certificate(root)
    wired = Wired(root, certfile="cert.pem", keyfile="cert-key.pem")
    yield wired, authority
    wired.stop()


def test_http_1_over_tls(secured):
    server, authority = secured
    with server.connect(context=context_of(authority)) as sock:
        sock.sendall(b"GET /scheme HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert hear(sock).endswith(b'"https"')
        assert sock.version() == "TLSv1.3"


def test_http_2_where_alpn_agrees_on_it(secured):
    server, authority = secured
    with server.connect(context=context_of(authority, "h2", "http/1.1")) as sock:
        assert sock.selected_alpn_protocol() == "h2"
        client = Client(sock)
        assert client.hear(client.ask("/scheme")) == (200, b'"https"')
    with server.connect(context=context_of(authority, "http/1.1")) as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"


def test_old_versions_and_weak_ciphers_are_refused(secured):
    server, authority = secured
    context = context_of(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA:@SECLEVEL=0")
    with server.connect() as plain, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(plain, server_hostname="localhost")
    settings = server.project.settings.http
    assert load_tls(server.project.root, settings).minimum_version == ssl.TLSVersion.TLSv1_2


def test_plain_text_where_tls_is_wanted_is_let_go(secured):
    server, _ = secured
    with server.connect() as sock:
        sock.sendall(b"GET /scheme HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200" not in _all(sock)


def _all(sock: socket.socket) -> bytes:
    try:
        return hear(sock)
    except ConnectionError:
        return b""


def test_a_handshake_that_does_not_end_is_cut_off(tmp_path):
    write_certificate(write_files(tmp_path, **APP))
    limits = Limits(handshake_seconds=0.3, tick_seconds=0.05)
    server = Wired(tmp_path, limits=limits, certfile="cert.pem", keyfile="cert-key.pem")
    with server.connect() as sock:
        started = time.monotonic()
        sock.sendall(b"\x16\x03\x01")
        _all(sock)
        assert time.monotonic() - started < 8
    server.stop()


def test_silent_handshakes_at_the_limit_make_room(tmp_path):
    authority = write_certificate(write_files(tmp_path, **APP))
    server = Wired(tmp_path, certfile="cert.pem", keyfile="cert-key.pem", max_connections="5")
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(server.connect())
        started = time.monotonic()
        with server.connect(context=context_of(authority)) as sock:
            sock.sendall(b"GET /scheme HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert hear(sock).startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - started < 5  # a handshake has 10 s
    server.stop()


def test_an_early_answer_can_be_read_over_tls(secured):
    server, authority = secured
    with server.connect(context=context_of(authority)) as sock:
        sock.sendall(
            b"POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\nConnection: close\r\n\r\n" + bytes(20000)
        )
        assert hear(sock).startswith(b"HTTP/1.1 413 ")


def test_the_commands_know_of_it(write_project, start):
    root = write_project(**APP, **{"functions.toml": '[http]\ncertfile = "cert.pem"\nkeyfile = "cert-key.pem"\n'})
    authority = write_certificate(root)
    server = start(root, "serve", environ=ENVIRON)
    assert server.url.startswith("https://127.0.0.1:")
    plain = socket.create_connection(("127.0.0.1", server.port))
    with context_of(authority).wrap_socket(plain, server_hostname="localhost") as sock:
        sock.sendall(b"GET /scheme HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert hear(sock).endswith(b'"https"')
    health = start(root, "health", environ={"FNRUN_HTTP__BIND": f"127.0.0.1:{server.port}"})
    assert health.wait() == 0
    assert json.loads(health.lines[-1])["status"] == "ok"
    assert server.stop() == 0


def encrypt(root: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((root / "cert-key.pem").read_bytes(), None)
    secret = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.PKCS8
    (root / "cert-key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, secret))


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        ({"keyfile": ""}, None, "http.keyfile is not set, but http.certfile is: TLS needs both"),
        ({"certfile": ""}, None, "http.certfile is not set, but http.keyfile is: TLS needs both"),
        ({"certfile": "none.pem"}, None, "none.pem cannot be read: No such file or directory"),
        ({"keyfile": "cert.pem"}, None, "cert.pem holds no private key in PEM form"),
        ({"certfile": "cert-key.pem"}, None, "cert-key.pem holds no begin certificate in PEM form"),
        ({"keyfile": "other-key.pem"}, None, "other-key.pem is not the key of the certificate in"),
        ({}, encrypt, "cert-key.pem is encrypted; store it in the clear, readable for this user only: openssl pkey"),
        ({"certfile": "", "keyfile": "", "http3": "true"}, None, "http.http3 is set, but http.certfile is not"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["serve", "dev"])
def test_a_fault_is_told_before_anything_listens(write_project, start, settings, change, message, command):
    root = write_project(**APP)
    write_certificate(root)
    write_certificate(root, "other")
    if change:
        change(root)
    said = {"certfile": "cert.pem", "keyfile": "cert-key.pem"} | settings
    environ = ENVIRON | {f"FNRUN_HTTP__{name.upper()}": value for name, value in said.items()}
    server = start(root, command, environ=environ)
    assert server.wait() == 1
    assert message in server.output
    assert "Traceback" not in server.output
    assert "listening" not in server.output
    assert len(server.lines) == 1


def test_curl_speaks_to_it(secured, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    server, authority = secured
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    command = ["curl", "-s", "--cacert", str(tmp_path / "ca.pem"), "-w", " %{http_version}"]
    url = f"https://localhost:{server.port}/scheme"
    done = subprocess.run([*command, url], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout in ('"https" 2', '"https" 1.1')
