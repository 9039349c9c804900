"""Conformance of the answers themselves: HEAD, conditions, ranges, Date, Connection, order, lengths."""

import re
from email.utils import parsedate_to_datetime

import pytest

from tests.wire_servers import Wired, write_files

pytestmark = pytest.mark.live

H = b"Host: a\r\n"
CLOSE = H + b"Connection: close\r\n\r\n"
FILE = "0123456789" * 10
APP = {
    "data.txt": FILE,
    "functions/app.py": """
        import asyncio
        from pathlib import Path
        from typing import Annotated
        from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
        from runtime import Body, Event, PlainText, Problem, Query, Reply, Request, http

        @http.get("/json")
        async def json() -> dict:
            return {"a": "ä"}

        @http.get("/text")
        async def text() -> PlainText:
            return "text"

        @http.get("/bytes")
        async def raw() -> bytes:
            return b"bytes"

        @http.get("/nothing")
        async def nothing() -> None: ...

        @http.get("/reply")
        async def reply() -> Reply:
            return Reply({"a": 1}, status=203, headers={"X-Mine": "yes"})

        @http.get("/response")
        async def response() -> Response:
            return JSONResponse({"a": 1}, headers={"X-Mine": "yes"})

        @http.get("/file")
        async def file() -> FileResponse:
            return FileResponse(Path(__file__).parents[1] / "data.txt")

        @http.get("/stream")
        async def stream():
            yield "one"
            yield "two"

        @http.get("/events")
        async def events():
            yield Event({"a": 1})

        @http.get("/streaming")
        async def streaming() -> StreamingResponse:
            return StreamingResponse(iter(["one", "two"]))

        @http.get("/problem")
        async def problem() -> None:
            raise Problem(418, "teapot")

        @http.get("/not-modified")
        async def not_modified() -> Reply:
            return Reply(None, status=304, headers={"ETag": '"a"'})

        @http.get("/dated")
        async def dated() -> Reply:
            return Reply("x", headers={"Date": "Mon, 01 Jan 2024 00:00:00 GMT"})

        @http.get("/closing")
        async def closing() -> Reply:
            return Reply("x", headers={"Connection": "close"})

        @http.get("/slow")
        async def slow(seconds: float = 0.2) -> str:
            await asyncio.sleep(seconds)
            return "slow"

        @http.post("/small", max_body="10")
        async def small(body: Annotated[bytes, Body]) -> int:
            return len(body)

        @http.get("/lie")
        async def lie(how: Annotated[str, Query]) -> Reply | Response:
            if how == "reply":
                return Reply("long enough", headers={"Content-Length": "3"})
            if how == "chunked":
                return Reply("long enough", headers={"Transfer-Encoding": "chunked"})
            length = {"short": "3", "long": "30"}[how]
            return PlainTextResponse("long enough", headers={"Content-Length": length})

        @http.get("/split")
        async def split(how: Annotated[str, Query], value: Annotated[str, Query]) -> Reply | Response:
            if how == "reply":
                return Reply("x", headers={"X-Mine": value})
            if how == "name":
                return Reply("x", headers={value: "x"})
            if how == "problem":
                raise Problem(400, headers={"X-Mine": value})
            return PlainTextResponse("x", headers={"X-Mine": value} if how == "response" else {value: "x"})

        @http.get("/half")
        async def half():
            yield "first"
            raise ValueError("in the middle")
        """,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    wired = Wired(write_files(tmp_path_factory.mktemp("answers"), **APP))
    yield wired
    wired.stop()


EVERY = [
    b"/json", b"/text", b"/bytes", b"/nothing", b"/reply", b"/response", b"/file", b"/stream", b"/events",
    b"/streaming", b"/problem", b"/not-modified", b"/dated", b"/closing", b"/nowhere", b"/a/../b", b"/_/health",
    b"/_/openapi.json",
]  # fmt: skip


@pytest.mark.parametrize("path", EVERY)
def test_head_is_get_without_its_body(server: Wired, path: bytes):
    (get,) = server.answers(b"GET " + path + b" HTTP/1.1\r\n" + CLOSE)
    (head,) = server.answers(b"HEAD " + path + b" HTTP/1.1\r\n" + CLOSE, methods=("HEAD",))
    own = {"x-run-id", "date"}
    assert head.status == get.status
    assert [h for h in head.headers if h[0] not in own] == [h for h in get.headers if h[0] not in own]
    assert head.body == b""
    if get.body and "transfer-encoding" not in dict(get.headers):
        assert head.header("content-length") == str(len(get.body))


@pytest.mark.parametrize("path", EVERY)
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"POST"])
def test_every_answer_has_one_date_one_run_id_and_one_length(server: Wired, path: bytes, method: bytes):
    (answer,) = server.answers(method + b" " + path + b" HTTP/1.1\r\n" + CLOSE, methods=(method.decode(),))
    assert parsedate_to_datetime(answer.header("date"))
    assert re.fullmatch(r"[0-9a-f]{32}", answer.header("x-run-id"))
    assert answer.header("connection").lower() == "close"
    lengths = answer.values("content-length") + answer.values("transfer-encoding")
    assert len(lengths) == (0 if answer.status in (204, 304) else 1)


def test_an_authors_date_stands(server: Wired):
    (answer,) = server.answers(b"GET /dated HTTP/1.1\r\n" + CLOSE)
    assert answer.header("date") == "Mon, 01 Jan 2024 00:00:00 GMT"


def get_file(server: Wired, *lines: str):
    (answer,) = server.answers(b"GET /file HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in lines).encode() + CLOSE)
    return answer


def test_ranges_of_a_file(server: Wired):
    part = get_file(server, "Range: bytes=10-19")
    assert (part.status, part.body, part.header("content-range")) == (206, b"0123456789", "bytes 10-19/100")
    assert get_file(server, "Range: bytes=-5").body == b"56789"
    several = get_file(server, "Range: bytes=0-1,50-51")
    assert several.status == 206
    assert several.header("content-type").startswith("multipart/byteranges")
    outside = get_file(server, "Range: bytes=100-")
    assert (outside.status, outside.header("content-range")) == (416, "bytes */100")


def test_a_range_that_holds_only_if_unchanged(server: Wired):
    whole = get_file(server)
    etag, changed = whole.header("etag"), whole.header("last-modified")
    for value in (etag, changed):
        assert get_file(server, "Range: bytes=0-4", f"If-Range: {value}").status == 206
    for value in ('"other"', "Mon, 01 Jan 2024 00:00:00 GMT"):
        assert get_file(server, "Range: bytes=0-4", f"If-Range: {value}").status == 200


def test_a_file_that_the_client_has(server: Wired):
    (answer,) = server.answers(b'GET /not-modified HTTP/1.1\r\nIf-None-Match: "a"\r\n' + CLOSE)
    assert (answer.status, answer.body, answer.header("etag")) == (304, b"", '"a"')
    whole = get_file(server)
    for line in (f"If-None-Match: {whole.header('etag')}", f"If-Modified-Since: {whole.header('last-modified')}"):
        same = get_file(server, line)
        assert (same.status, same.body, same.header("etag")) == (304, b"", whole.header("etag"))
        assert same.values("content-length") == []
    for line in ('If-None-Match: "other"', "If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT"):
        assert get_file(server, line).body == FILE.encode()


def test_connection_close_is_honoured_both_ways(server: Wired):
    (answer,) = server.answers(b"GET /json HTTP/1.1\r\n" + CLOSE)
    assert answer.header("connection").lower() == "close"
    (answer,) = server.answers(b"GET /closing HTTP/1.1\r\n" + H + b"\r\n")  # and it ends, though the client would go on
    assert answer.header("connection").lower() == "close"


@pytest.mark.parametrize("connection", [b"", b"Connection: keep-alive\r\n"])
@pytest.mark.parametrize("path", [b"/json", b"/stream"])
def test_http_1_0_is_answered_without_chunks_and_closed(server: Wired, path: bytes, connection: bytes):
    (answer,) = server.answers(b"GET " + path + b" HTTP/1.0\r\n" + connection + b"\r\n")
    assert answer.header("transfer-encoding") is None
    assert answer.header("connection").lower() == "close"
    assert answer.body in (b"onetwo", '{"a":"ä"}'.encode())


class TestPipelining:
    """RFC 9112, 9.3.2: answers come in the order of their requests."""

    def test_a_slow_one_first(self, server: Wired):
        requests = b"GET /slow HTTP/1.1\r\n" + H + b"\r\n" + b"GET /json HTTP/1.1\r\n" + H + b"\r\n"
        answers = server.answers(requests * 3 + b"GET /text HTTP/1.1\r\n" + CLOSE)
        assert [a.body for a in answers] == [b'"slow"', '{"a":"ä"}'.encode()] * 3 + [b"text"]

    def test_get_and_post_mixed(self, server: Wired):
        post = b"POST /small HTTP/1.1\r\n" + H + b"Content-Length: 3\r\n\r\nabc"
        chunked = b"POST /small HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
        get = b"GET /text HTTP/1.1\r\n" + H + b"\r\n"
        answers = server.answers(post + get + chunked + get + post + b"GET /text HTTP/1.1\r\n" + CLOSE)
        assert [a.body for a in answers] == [b"3", b"text", b"2", b"text", b"3", b"text"]

    def test_head_among_them(self, server: Wired):
        head = b"HEAD /json HTTP/1.1\r\n" + H + b"\r\n"
        answers = server.answers(head + head + b"GET /text HTTP/1.1\r\n" + CLOSE, methods=("HEAD", "HEAD", "GET"))
        assert [a.body for a in answers] == [b"", b"", b"text"]

    def test_an_error_of_a_function_in_the_middle(self, server: Wired):
        get = b"GET /text HTTP/1.1\r\n" + H + b"\r\n"
        answers = server.answers(get + b"GET /nowhere HTTP/1.1\r\n" + H + b"\r\n" + b"GET /text HTTP/1.1\r\n" + CLOSE)
        assert [a.status for a in answers] == [200, 404, 200]

    def test_what_is_no_request_in_the_middle_ends_them(self, server: Wired):
        get = b"GET /slow HTTP/1.1\r\n" + H + b"\r\n"
        answers = server.answers(get + b"GARBAGE\r\n\r\n" + get)
        assert [a.status for a in answers] == [200, 400]

    def test_a_body_past_its_limit_in_the_middle(self, server: Wired):
        get = b"GET /text HTTP/1.1\r\n" + H + b"\r\n"
        long = b"POST /small HTTP/1.1\r\n" + H + b"Content-Length: 30\r\n\r\n" + b"x" * 30
        answers = server.answers(get + long + b"GET /text HTTP/1.1\r\n" + CLOSE)
        assert [a.status for a in answers] == [200, 413, 200]

    def test_hundreds_at_once(self, server: Wired):
        get = b"GET /text HTTP/1.1\r\n" + H + b"\r\n"
        answers = server.answers(get * 500 + b"GET /json HTTP/1.1\r\n" + CLOSE)
        assert len(answers) == 501


def test_a_reply_cannot_state_a_length_or_a_framing(server: Wired):
    for how in (b"reply", b"chunked"):
        (answer,) = server.answers(b"GET /lie?how=" + how + b" HTTP/1.1\r\n" + CLOSE)
        assert answer.status == 500


@pytest.mark.parametrize("how", [b"short", b"long"])
def test_a_response_that_lies_about_its_length_never_becomes_the_next_answer(server: Wired, how: bytes):
    get = b"GET /text HTTP/1.1\r\n" + H + b"\r\n"
    heard = server.exchange(b"GET /lie?how=" + how + b" HTTP/1.1\r\n" + H + b"\r\n" + get)
    assert heard.count(b"HTTP/1.1 ") == 1  # cut after what was sent
    body = heard.partition(b"\r\n\r\n")[2]
    assert len(body) <= 11


@pytest.mark.parametrize("how", ["reply", "name", "problem", "response", "response-name"])
@pytest.mark.parametrize("value", ["a%0d%0aX-Injected:%20b", "a%0aX-Injected:%20b", "a%0d%0a%0d%0a<p>", "a%00b"])
def test_no_header_of_an_authors_splits_an_answer(server: Wired, how: str, value: str):
    (answer,) = server.answers(f"GET /split?how={how}&value={value} HTTP/1.1\r\n".encode() + CLOSE)
    assert answer.status == (400 if how == "problem" else 500)
    assert answer.values("x-injected") == []
    assert b"<p>" not in answer.body


def test_a_stream_that_fails_is_not_taken_for_a_complete_one(server: Wired):
    heard = server.exchange(b"GET /half HTTP/1.1\r\n" + H + b"\r\n")
    assert b"first" in heard
    assert not heard.endswith(b"0\r\n\r\n")


def test_a_stream_that_fails_under_http_1_0_resets_its_connection(server: Wired):
    """Its end is that of the connection: only a reset tells."""
    with pytest.raises(ConnectionResetError):
        server.exchange(b"GET /half HTTP/1.0\r\n\r\n")
