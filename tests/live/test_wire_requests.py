"""What is no request, or could be read as two: refused by a strict parser, each with a problem, then closed."""

import json
import time
from contextlib import suppress

import pytest

from tests.wire_servers import Wired, write_files

pytestmark = pytest.mark.live

APP = {
    "functions/app.py": """
        import asyncio
        from typing import Annotated
        from runtime import Body, Request, http

        @http("/echo", methods=["GET", "POST"])
        async def echo(request: Request) -> dict:
            body = (await request.body()).decode("latin-1")
            return {"method": request.method, "path": request.path, "host": request.header(b"host"), "body": body}

        @http.post("/small", max_body="10")
        async def small(body: Annotated[bytes, Body]) -> int:
            return len(body)

        @http.post("/unread")
        async def unread(request: Request) -> str:
            return "unread"

        @http.get("/slow")
        async def slow(seconds: float = 0.3) -> str:
            await asyncio.sleep(seconds)
            return "slow"

        @http.get("/fast")
        async def fast() -> str:
            return "fast"
        """
}


@pytest.fixture(scope="module")
def server(tmp_path_factory, lane: str):
    wired = Wired(write_files(tmp_path_factory.mktemp("requests"), **APP), lane=lane)
    yield wired
    wired.stop()


H = b"Host: a\r\n"
POST = b"POST /echo HTTP/1.1\r\n" + H
LAST = POST + b"Connection: close\r\n"
SMUGGLED = b"GET /fast HTTP/1.1\r\nHost: a\r\n\r\n"

REFUSED = [
    # Lines: RFC 9112, 2.2
    (b"GET /echo HTTP/1.1\nHost: a\n\n", 400, "a line feed alone ends no line"),
    (b"GET /echo HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400, "nor one among others"),
    (b"GET /echo HTTP/1.1\r\nHost: a\r\n\n", 400, "nor the head"),
    (b"GET /echo HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400, "CR alone"),
    (b"GET /echo HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400, "NUL: RFC 9110, 5.5"),
    (b"GET /echo HTTP/1.1\r\nHost: a\r\nX: a\x0bb\r\n\r\n", 400, "a control character"),
    (b"GET /echo HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", 400, "another"),
    (b"GET /echo HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400, "a folded line: RFC 9112, 5.2"),
    (b"GET /echo HTTP/1.1\r\n Host: a\r\n\r\n", 400, "a blank before the first header"),
    (b"GET /echo HTTP/1.1\r\nHost : a\r\n\r\n", 400, "a blank before the colon: RFC 9112, 5.1"),
    (b"GET /echo HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc", 400, "where it would smuggle"),
    (b"GET /echo HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n", 400, "no colon"),
    (b"GET /echo HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n", 400, "no name"),
    (b"GET /echo HTTP/1.1\r\nHost: a\r\nX\xe9: a\r\n\r\n", 400, "a name that is no token"),
    # The request line
    (b"GET  /echo HTTP/1.1\r\n" + H + b"\r\n", 400, "two blanks"),
    (b"GET\t/echo HTTP/1.1\r\n" + H + b"\r\n", 400, "a tab"),
    (b"GET /echo\r\n\r\n", 400, "HTTP/0.9"),
    (b"GET /echo http/1.1\r\n" + H + b"\r\n", 400, "the version's name is upper case"),
    (b"GET /echo HTTP/1.1 \r\n" + H + b"\r\n", 400, "a blank at its end"),
    (b"GET /echo HTTP/2.0\r\n" + H + b"\r\n", 505, "another version"),
    (b"GET /echo HTTP/0.9\r\n" + H + b"\r\n", 505, "another version"),
    (b"GET /ech\xc3\xb6 HTTP/1.1\r\n" + H + b"\r\n", 400, "a path that is not ASCII"),
    (b"GET /echo#a HTTP/1.1\r\n" + H + b"\r\n", 400, "a fragment is the client's"),
    (b"GET echo HTTP/1.1\r\n" + H + b"\r\n", 400, "no path"),
    (b"GET * HTTP/1.1\r\n" + H + b"\r\n", 400, "only for OPTIONS: RFC 9112, 3.2.4"),
    (b"GET ftp://a/echo HTTP/1.1\r\n" + H + b"\r\n", 400, "not of this scheme"),
    (b"CONNECT a:443 HTTP/1.1\r\n" + H + b"\r\n", 501, "no tunnels"),
    (b"CONNECT /echo HTTP/1.1\r\n" + H + b"\r\n", 501, "however it is written"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "TLS where none is"),
    (b"(\x00\x01", 400, "no HTTP at all"),
    # Host: RFC 9112, 3.2; RFC 9110, 4.2.1 and 7.2
    (b"GET /echo HTTP/1.1\r\n\r\n", 400, "no Host"),
    (b"GET /echo HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "two"),
    (b"GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "two that differ"),
    (b"GET /echo HTTP/1.1\r\nHost:\r\n\r\n", 400, "an empty one"),
    (b"GET /echo HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "a blank in it"),
    (b"GET /echo HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "a path in it"),
    (b"GET /echo HTTP/1.1\r\nHost: u@a\r\n\r\n", 400, "a user in it"),
    (b"GET /echo HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, "a list"),
    (b"GET /echo HTTP/1.1\r\nHost: a:b\r\n\r\n", 400, "a port that is no number"),
    (b"GET /echo HTTP/1.1\r\nHost: a:123456\r\n\r\n", 400, "a port that is too long"),
    (b"GET /echo HTTP/1.1\r\nHost: \xe9\r\n\r\n", 400, "bytes that are no name"),
    (b"GET http:///echo HTTP/1.1\r\nHost: a\r\n\r\n", 400, "an absolute target without a host"),
    (b"GET http://u@b/echo HTTP/1.1\r\nHost: a\r\n\r\n", 400, "or with a user"),
    (b"GET http://b/echo HTTP/1.1\r\n\r\n", 400, "it needs a Host beside it, too"),
    # Lengths: RFC 9112, 6.1 to 6.3
    (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 400, "CL.TE"),
    (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED, 400, "TE.CL"),
    (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + SMUGGLED, 400, "TE.TE"),
    (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "twice the same"),
    (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 501, "an unknown coding"),
    (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED, 501, "chunked is not the last"),
    (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, "a coding that is not done"),
    (POST + b"Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 501, "quoted"),
    (POST + b"Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n", 501, "with a parameter"),
    (POST + b"Transfer-Encoding:\r\n\r\n", 501, "empty"),
    (POST + b"Transfer-Encoding\r\n : chunked\r\n\r\n0\r\n\r\n", 400, "folded"),
    (POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400, "behind a control character"),
    (b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "HTTP/1.0 has no chunks"),
    (POST + b"Content-Length: +5\r\n\r\nabcde", 400, "a sign"),
    (POST + b"Content-Length: -5\r\n\r\nabcde", 400, "a negative one"),
    (POST + b"Content-Length: 0x5\r\n\r\nabcde", 400, "hexadecimal"),
    (POST + b"Content-Length: 5, 5\r\n\r\nabcde", 400, "a list"),
    (POST + b"Content-Length: 5, 6\r\n\r\nabcde", 400, "a list that differs"),
    (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde", 400, "two lines"),
    (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde", 400, "two lines that differ"),
    (POST + b"Content-Length: 5 5\r\n\r\nabcde", 400, "two numbers"),
    (POST + b"Content-Length:\r\n\r\n", 400, "an empty one"),
    (POST + b"Content-Length: 5_0\r\n\r\n", 400, "as Python would read it"),
    (POST + b"Content-Length: \xb2\r\n\r\nab", 400, "a digit of another script"),
    (POST + b"Content-Length: 999999999999999999999\r\n\r\n", 400, "past 64 bits"),
    (POST + b"content-length: 5\r\nCONTENT-LENGTH: 6\r\n\r\nabcde", 400, "whatever the case"),
    # Chunks: RFC 9112, 7.1
    (POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", 400, "a size that is no number"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400, "a negative one"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n", 400, "with a prefix"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n", 400, "with a sign"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n", 400, "with a blank"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n 1\r\na\r\n0\r\n\r\n", 400, "with a blank before"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n10000000000000001\r\na", 400, "past 64 bits"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", 400, "a chunk that is longer than it says"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n", 400, "bare line feeds"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n1;\na\r\n0\r\n\r\n", 400, "one in an extension"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n1;a\rb\r\na\r\n0\r\n\r\n", 400, "CR in an extension"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 5000 + b"\r\na\r\n0\r\n\r\n", 400, "a long extension"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: a\r\n b\r\n\r\n", 400, "a folded trailer"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nnothing\r\n\r\n", 400, "a trailer that is none"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431, "two hundred trailers"),
    # Expect: RFC 9110, 10.1.1
    (POST + b"Expect: 200-ok\r\nContent-Length: 0\r\n\r\n", 417, "one that nobody knows"),
    (POST + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n", 501, "no WebSockets"),
    # Sizes
    (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + H + b"\r\n", 414, "a long target"),
    (b"GET /" + b"a" * 9000, 414, "one without an end"),
    (b"GET /echo HTTP/1.1\r\n" + H + b"X: " + b"a" * 17_000 + b"\r\n\r\n", 431, "a long header"),
    (b"GET /echo HTTP/1.1\r\n" + H + b"X: " + b"a" * 17_000, 431, "one without an end"),
    (b"GET /echo HTTP/1.1\r\n" + H + b"X: a\r\n" * 200 + b"\r\n", 431, "many headers"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "status", "why"), REFUSED, ids=[f"{n}-{why}" for n, (_, _, why) in enumerate(REFUSED)]
)
def test_what_is_no_request_is_refused_with_a_problem(server: Wired, sent: bytes, status: int, why: str):
    answers = server.answers(sent)
    assert [answer.status for answer in answers] == [status], why
    (answer,) = answers
    problem = json.loads(answer.body)
    assert answer.header("content-type") == "application/problem+json"
    assert answer.header("connection").lower() == "close"
    assert answer.header("date")
    assert problem["run_id"] == answer.header("x-run-id")
    assert problem["status"] == status


@pytest.mark.parametrize("number", range(0, len(REFUSED), 7))
def test_it_does_not_matter_in_which_pieces_it_comes(server: Wired, number: int):
    sent, status, why = REFUSED[number]
    with server.connect() as sock:
        with suppress(OSError):  # refused while it is sent
            for at in range(min(len(sent), 400)):
                sock.sendall(sent[at : at + 1])
            sock.sendall(sent[400:])
        heard = sock.recv(65536)
    assert heard.startswith(b"HTTP/1.1 %d " % status), why


ACCEPTED = [
    (b"GET /echo HTTP/1.0\r\n\r\n", {"host": None}, "HTTP/1.0 needs no Host"),
    (b"GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", {}, "and is closed after its answer"),
    (b"GET /echo HTTP/1.2\r\n" + H + b"Connection: close\r\n\r\n", {}, "a later minor version: RFC 9110, 2.5"),
    (b"\r\nGET /echo HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n", {}, "an empty line before: RFC 9112, 2.2"),
    (b"GET http://b:81/echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", {"host": "b:81", "path": "/echo"},
     "the target's host wins: RFC 9112, 3.2.2"),
    (b"GET HTTP://b/echo?x=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", {"host": "b", "path": "/echo"},
     "any case"),
    (b"GET /echo HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n", {"host": "[::1]:80"}, "an address"),
    (b"GET /echo HTTP/1.1\r\nHost: a\r\nX: \xe9\tb\r\nConnection: close\r\n\r\n", {}, "bytes past ASCII in a value"),
    (b"GET /echo HTTP/1.1\r\nhOsT:a   \r\nConnection: close\r\n\r\n", {"host": "a"}, "blanks around a value"),
    (b"GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
     b"Connection: Upgrade, HTTP2-Settings, close\r\n\r\n", {"method": "GET"}, "an upgrade is passed over"),
    (b"GET /echo HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", {"body": "abc"}, "a GET with a body"),
    (LAST + b"Content-Length: 0\r\n\r\n", {"body": ""}, "an empty body"),
    (LAST + b"Content-Length: 0005\r\n\r\nabcde", {"body": "abcde"}, "leading zeros"),
    (LAST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n", {"body": "abc"}, "chunks"),
    (LAST + b"Transfer-Encoding: Chunked\r\n\r\nA\r\n0123456789\r\n000\r\n\r\n",
     {"body": "0123456789"}, "any case"),
    (LAST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nHost: evil\r\nContent-Length: 9\r\n\r\n",
     {"body": "a", "host": "a"}, "trailers are not headers"),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "said", "why"), ACCEPTED, ids=[why for _, _, why in ACCEPTED])
def test_what_is_a_request_is_answered(server: Wired, sent: bytes, said: dict, why: str):
    (answer,) = server.answers(sent)
    assert (answer.status, answer.header("connection").lower()) == (200, "close"), why
    assert json.loads(answer.body).items() >= said.items()


def test_trace_is_not_done_since_it_would_show_what_a_proxy_added(server: Wired):
    (answer,) = server.answers(b"TRACE /echo HTTP/1.1\r\n" + H + b"x-added: secret\r\nConnection: close\r\n\r\n")
    assert (answer.status, answer.header("allow")) == (405, "GET, HEAD, OPTIONS, POST")
    assert b"secret" not in answer.body


def test_methods_are_case_sensitive(server: Wired):
    (answer,) = server.answers(b"get /fast HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
    assert (answer.status, answer.header("allow")) == (405, "GET, HEAD, OPTIONS")
    (answer,) = server.answers(b"BREW /fast HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
    assert answer.status == 405


def test_options_of_the_whole_server(server: Wired):
    (answer,) = server.answers(b"OPTIONS * HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n", methods=("OPTIONS",))
    assert (answer.status, answer.body) == (204, b"")
    assert "POST" in answer.header("allow")
    assert len(answer.header("x-run-id")) == 32


def test_a_body_that_is_sent_lies_in_no_request_to_come(server: Wired):
    """The rest of a body that a function left unread is not the next request."""
    sent = b"POST /unread HTTP/1.1\r\n" + H + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED
    answers = server.answers(sent, b"GET /slow?seconds=0 HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
    assert [json.loads(answer.body) for answer in answers] == ["unread", "slow"]


def test_the_end_of_the_client_in_its_body_is_told(server: Wired):
    (answer,) = server.answers(POST + b"Content-Length: 5\r\n\r\nabc", end=True)
    assert answer.status == 400
    (answer,) = server.answers(POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", end=True)
    assert answer.status == 400
    (answer,) = server.answers(b"GET /echo HT", end=True)
    assert answer.status == 400


def test_a_client_that_half_closes_gets_its_answer(server: Wired):
    (answer,) = server.answers(b"GET /fast HTTP/1.1\r\n" + H + b"\r\n", end=True)
    assert answer.body == b'"fast"'
    (answer,) = server.answers(POST + b"Content-Length: 3\r\n\r\nabc", end=True)
    assert json.loads(answer.body)["body"] == "abc"
    answers = server.answers(b"GET /slow HTTP/1.1\r\n" + H + b"\r\n" + SMUGGLED, end=True)
    assert [answer.body for answer in answers] == [b'"slow"', b'"fast"']


class TestExpect:
    """RFC 9110, 10.1.1: 100 is said when the body is wanted, and only then."""

    def test_100_comes_when_the_body_is_read(self, server: Wired):
        with server.connect() as sock:
            sock.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 100 ")
            sock.sendall(b"abc")
            assert b'"body":"abc"' in sock.recv(65536)

    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (b"POST /nowhere HTTP/1.1\r\n", 404),
            (b"POST /fast HTTP/1.1\r\n", 405),
            (b"POST /small HTTP/1.1\r\n", 413),
            (b"POST /unread HTTP/1.1\r\n", 200),
        ],
    )
    def test_an_answer_that_needs_no_body_comes_without_and_at_once(self, server: Wired, head: bytes, status: int):
        started = time.monotonic()
        (answer,) = server.answers(head + H + b"Expect: 100-Continue\r\nContent-Length: 300\r\n\r\n", end=False)
        assert answer.status == status
        assert time.monotonic() - started < 5  # a body has 30 s

    def test_a_body_that_comes_unasked_is_read(self, server: Wired):
        answers = server.answers(POST + b"Expect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")
        assert json.loads(answers[-1].body)["body"] == "abc"

    def test_http_1_0_gets_none(self, server: Wired):
        head = b"POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        answers = server.answers(head, b"abc")
        assert [answer.status for answer in answers] == [200]
