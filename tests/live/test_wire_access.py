"""What access checks is what routing found: no spelling of a path reaches a protected function without a key."""

import socket

import pytest

from tests.live_servers import until
from tests.wire_servers import Wired, write_files

pytestmark = pytest.mark.live

H = b"Host: a\r\nConnection: close\r\n"
APP = {
    "functions/app.py": """
        from runtime import PlainText, http

        SECRET = "the secret"

        @http.get("/open", auth="public")
        async def open_() -> PlainText:
            return "open"

        @http.get("/open/{rest:path}", auth="public")
        async def rest(rest: str) -> PlainText:
            return f"open {rest!r}"

        @http("/guarded", methods=["GET", "POST"], auth="key")
        async def guarded() -> PlainText:
            return SECRET

        @http.get("/guarded/{item}/sub", auth="key")
        async def sub(item: str) -> PlainText:
            return SECRET

        @http.get("/open/guarded/deep", auth="key")
        async def deep() -> PlainText:
            return SECRET

        @http.get("/{name}", auth="public")
        async def any_(name: str) -> PlainText:
            return f"any {name!r}"
        """
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    wired = Wired(write_files(tmp_path_factory.mktemp("access"), **APP), auth="key")
    yield wired
    wired.stop()


SPELLINGS = r"""
    /guarded /guarded/ //guarded /guarded// /./guarded /open/../guarded /open/%2e%2e/guarded /open/.%2e/guarded
    /open/%2E%2E/guarded /open/%252e%252e/guarded /open/..%2fguarded /open/..%5cguarded /open/..\guarded
    \guarded /\guarded /%2Fguarded /%2fguarded /guarded%2F /guarded%00 /guarded%0a /guarded%0d%0a /guarded%20
    /guarded; /guarded;a=b /guarded;/../open /open;/../guarded /Guarded /GUARDED /%67uarded
    /%67%75%61%72%64%65%64 /%2567uarded /guarded?x /guarded? /guarded%3f /guarded%23 /guarded.json /guarded%2e
    /guarded. /g%75arded/x/sub /guarded/x/sub /guarded/x/sub/ /guarded/%2e/sub /guarded/%2e%2e/sub /guarded//sub
    /guarded/x%2fsub /open/guarded/deep /open//guarded/deep /open/./guarded/deep /open/guarded%2fdeep
    /open/guarded/deep/ /open/x/../guarded/deep /%c0%afguarded /%c0%ae%c0%ae/guarded /%e0%80%afguarded
    /open/%c0%ae%c0%ae/guarded /g%u0075arded /%ef%bd%87uarded http://a/guarded http://a//guarded
    HTTP://A/guarded http://a:80/guarded http://a/open/../guarded https://a/guarded http://a?/guarded
    //a/guarded /_/functions/app.guarded/invoke /_/functions/app.guarded/invoke/
    /_//functions/app.guarded/invoke /%5f/functions/app.guarded/invoke /%5F%2ffunctions/app.guarded/invoke
    /open/../_/functions/app.guarded/invoke /_/../guarded /_/%2e%2e/guarded
    /_/health/../functions/app.guarded/invoke /_/health/..%2fopenapi.json /_/health;/../openapi.json
    /_/openapi.json /_/openapi.json/ /_/openapi%2ejson /%5f/openapi.json /_/OpenAPI.json //_/openapi.json
    /_/openapi.json%00 /_/openapi.json?x=/_/health /_/health?/../openapi.json http://a/_/openapi.json
    /_%2fopenapi.json /./_/openapi.json /_/./openapi.json
"""


@pytest.mark.parametrize("spelling", SPELLINGS.split())
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
def test_no_spelling_of_a_path_goes_round_the_key(server: Wired, spelling: str, method: bytes):
    sent = method + b" " + spelling.encode() + b" HTTP/1.1\r\n" + H + b"Content-Length: 2\r\n\r\n{}"
    (answer,) = server.answers(sent, methods=(method.decode(),))
    assert b"the secret" not in answer.body
    assert b'"openapi"' not in answer.body
    opened = method in (b"GET", b"HEAD") and answer.status == 200
    if opened and method == b"GET":  # one of the open functions, which says what it was asked; or health
        assert answer.body.startswith((b"open", b"any", b'{"status":"ok"')), answer.body
    assert opened or answer.status in (400, 401, 404, 405)


@pytest.mark.parametrize(
    "spelling", ["/guarded", "/%67uarded", "http://b/guarded", "/open/guarded/deep", "/guarded/x/sub"]
)
def test_what_is_found_under_another_spelling_is_guarded_as_itself(server: Wired, spelling: str):
    (answer,) = server.answers(b"GET " + spelling.encode() + b" HTTP/1.1\r\n" + H + b"\r\n")
    assert answer.status == 401


@pytest.mark.parametrize(
    "more",
    [
        b"X-Original-URL: /open\r\n", b"X-Rewrite-URL: /open\r\n", b"X-HTTP-Method-Override: GET\r\n",
        b"X-Forwarded-For: 127.0.0.1\r\n", b"X-Forwarded-Prefix: /open\r\n", b"Authorization: Bearer\r\n",
        b"Authorization: Bearer \r\n", b"Authorization: Basic Og==\r\n", b"Authorization: Bearer null\r\n",
        b"Authorization: Bearer fnrun_00000000_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n",
    ],
)  # fmt: skip
def test_no_header_opens_a_guarded_function(server: Wired, more: bytes):
    (answer,) = server.answers(b"GET /guarded HTTP/1.1\r\n" + H + more + b"\r\n")
    is_a_key = b"fnrun_" in more  # and without a store nobody can say whose
    assert answer.status == (503 if is_a_key else 401)


def test_dev_believes_the_host_of_an_absolute_target(write_project, start):
    """A page whose name points to this machine is no local caller, whatever it says in Host."""
    server = start(write_project(**APP), "dev", "--bind", "127.0.0.1:0")
    for target, host, status in [
        (b"/guarded", b"localhost", b"200"),
        (b"/guarded", b"evil.example", b"403"),
        (b"http://evil.example/guarded", b"localhost", b"403"),
        (b"http://localhost/guarded", b"evil.example", b"200"),
    ]:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
            sock.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
            assert sock.recv(65536).split()[1] == status
    assert server.stop() == 0
    until(lambda: server.process.poll() is not None)
