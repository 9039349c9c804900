"""What comes back for each kind of result."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from runtime import Event
from runtime.invoke.execute import Stream
from runtime.invoke.results import Unencodable, encode_json
from runtime.projects import Project
from runtime.roles import HttpRole
from runtime.triggers.http.answers import Parts, encode_event
from tests.conftest import client_on

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
EVENTS = "text/event-stream; charset=utf-8"
LINES = "application/x-ndjson"


@pytest.mark.parametrize(
    ("path", "status", "kind", "content"),
    [
        ("/struct-result", 200, JSON, b'{"name":"x"}'),
        ("/text-result", 200, JSON, '"héllo"'.encode()),
        ("/number", 200, JSON, b"3"),
        ("/nulls", 200, JSON, b'{"value":null,"thing":{"name":"null"},"1":"null"}'),
        ("/plain", 200, TEXT, "héllo".encode()),
        ("/html", 200, "text/html; charset=utf-8", "<p>héllo".encode()),
        ("/bytes", 200, "application/octet-stream", b"\x00\xff"),
        ("/none", 204, None, b""),
        ("/reply", 203, "application/vnd.thing+json", b'{"name":"r"}'),
        ("/reply-none", 204, None, b""),
        ("/response", 206, "text/x-custom; charset=utf-8", b"custom"),
        ("/starlette-stream", 200, TEXT, b"ab"),
        ("/stream-json", 200, LINES, b'{"name":"a"}\n{"name":"b"}\n'),
        ("/stream-text", 200, TEXT, b"ab"),
        ("/stream-bytes", 200, "application/octet-stream", b"\x00\x01"),
        ("/stream-html", 200, "text/html; charset=utf-8", b"<p>"),
        ("/events", 200, EVENTS, b'event: tick\nid: 1\nretry: 3000\ndata: {"n":1}\n\ndata: two\ndata: lines\n\n'),
        ("/events-untold", 200, EVENTS, b'data: a\n\ndata: {"b":1}\n\n'),
        ("/stream-empty", 200, TEXT, b""),
        ("/wrapped-stream", 200, TEXT, b"a"),
        ("/wrapped-sync-stream", 200, TEXT, b"a"),
        ("/wrapped", 200, JSON, b'"awaited"'),
    ],
)
async def test_a_result_is_answered_as_what_it_is(
    http: httpx.AsyncClient, path: str, status: int, kind: str | None, content: bytes
):
    answer = await http.get(path)
    assert (answer.status_code, answer.headers.get("content-type"), answer.content) == (status, kind, content)
    assert len(answer.headers["x-run-id"]) == 32


async def test_a_status_of_the_route_holds_for_successes(http: httpx.AsyncClient):
    assert (await http.post("/created")).status_code == 201
    none = await http.post("/created-none")
    assert (none.status_code, none.content, none.headers["content-length"]) == (201, b"", "0")


@pytest.mark.parametrize("status", [204, 205, 304])
async def test_an_answer_without_a_body_has_none_whatever_was_returned(http: httpx.AsyncClient, status: int):
    answer = await http.get(f"/bad-reply?status={status}")
    assert (answer.status_code, answer.content) == (status, b"")
    # By its number alone a 205 may have one: without a length a client would wait for the end of its connection.
    assert answer.headers.get("content-length") == ("0" if status == 205 else None)


async def test_the_status_of_a_line_is_a_plain_number(samples: Project, log):
    role = HttpRole(samples, open_locally=True)
    role.shell._log_all = True
    async with client_on(role) as client:
        await client.get("/none")
    assert [repr(line["status"]) for line in log.requests] == ["204"]


async def test_a_failure_of_the_server_has_a_line_with_its_run_id(http: httpx.AsyncClient, log):
    answer = await http.get("/nan")
    await http.get("/nowhere")
    assert [(line["status"], line["run_id"]) for line in log.requests] == [(500, answer.headers["x-run-id"])]


async def test_headers_of_a_reply_and_a_response_are_kept(http: httpx.AsyncClient):
    assert (await http.get("/reply")).headers["x-extra"] == "é"
    assert (await http.get("/response")).headers["x-mine"] == "1"
    assert (await http.get("/redirect")).headers["location"] == "/number"


async def test_a_file_is_starlettes_with_ranges(http: httpx.AsyncClient):
    answer = await http.get("/file", headers={"range": "bytes=0-2"})
    assert (answer.status_code, answer.content) == (206, b'"""')


@pytest.mark.parametrize("path", ["/struct-result", "/plain", "/bytes", "/none", "/reply", "/response", "/file"])
async def test_head_is_get_without_a_body(http: httpx.AsyncClient, path: str):
    get, head = await http.get(path), await http.head(path)
    same = {"content-type", "content-length", "x-extra", "etag"}
    assert head.status_code == get.status_code
    assert {n: v for n, v in head.headers.items() if n in same} == {n: v for n, v in get.headers.items() if n in same}


async def test_head_of_a_stream_ends_its_handler(http: httpx.AsyncClient):
    answer = await http.head("/slow-stream")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"", TEXT)


async def test_a_problem_is_answered_as_raised(http: httpx.AsyncClient, log):
    answer = await http.get("/problem")
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    assert answer.headers["retry-after"] == "3"
    assert answer.json() == {
        "type": "about:blank",
        "title": "already there",
        "status": 409,
        "run_id": answer.headers["x-run-id"],
        "detail": "why",
        "order": "o1",
    }
    assert log.entries == []


async def test_a_problem_with_fields_that_have_no_json_keeps_its_status(http: httpx.AsyncClient, log):
    answer = await http.get("/bad-problem")
    assert (answer.status_code, answer.json()["title"]) == (409, "already there")
    assert log.entries[0]["event"] == "a problem's fields cannot be sent"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/nan", "the result holds NaN or infinity, which JSON cannot say; return None or a str"),
        ("/object", "the result cannot be written as JSON: Encoding objects of type object is unsupported"),
        ("/circular", "the result contains itself, or is nested too deeply"),
        ("/surrogate", "the result cannot be written as JSON: 'utf-8' codec can't encode"),
        ("/surrogate-plain", "the result cannot be written as UTF-8: 'utf-8' codec can't encode"),
        ("/bad-header", "'x-a': '1\\r\\nset-cookie: evil=1' cannot be a header"),
        ("/bad-reply?status=1000", "Reply(status=1000): a status is a number from 200 to 599"),
        ("/bad-reply?status=101", "Reply(status=101): a status is a number from 200 to 599"),
        ("/bad-reply?header=content-length", "'content-length': 1 cannot be a header"),
        ("/bad-reply?header=X-Run-Id", "'X-Run-Id': 1 cannot be a header"),
        ("/bad-reply?header=a%20b", "'a b': 1 cannot be a header"),
    ],
)
async def test_a_result_that_cannot_be_sent_is_500_and_its_reason_is_in_the_log(
    http: httpx.AsyncClient, log, path: str, reason: str
):
    answer = await http.get(path)
    assert (answer.status_code, answer.json()["title"]) == (500, "Internal Server Error")
    assert reason not in answer.text
    (line,) = log.entries
    assert line["reason"].startswith(reason)
    assert line["run_id"] == answer.headers["x-run-id"]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Event(), "\n\n"),
        (Event(None), "data: null\n\n"),
        (Event(""), "data: \n\n"),
        (Event("a\r\nb\rc\u2028d"), "data: a\ndata: b\ndata: c\u2028d\n\n"),
        (Event("x", comment="one\ntwo"), ": one\n: two\ndata: x\n\n"),
        (Event(retry=1.5), "retry: 1500\n\n"),
        ([1], "data: [1]\n\n"),
    ],
)
def test_an_event_on_the_wire(event: Any, text: str):
    assert encode_event(event) == text.encode()


@pytest.mark.parametrize(
    "event", [Event(1, id="a\nb"), Event(1, event="a\rdata: x"), Event(1, id="\0"), Event(object())]
)
def test_an_event_that_would_break_its_stream_is_refused(event: Event):
    with pytest.raises(Unencodable):
        encode_event(event)


async def test_an_error_before_the_first_event_is_a_plain_answer_too(http: httpx.AsyncClient):
    assert (await http.get("/events-fail")).status_code == 404


async def test_a_quiet_stream_of_events_is_kept_alive():
    async def quiet() -> AsyncIterator[Event]:
        await asyncio.sleep(0.1)
        yield Event("late")

    stream = Stream("f", quiet(), None)
    parts = [part async for part in Parts(stream, encode_event, keep_alive_seconds=0.03)]
    assert set(parts[:-1]) == {b": keep-alive\n\n"}
    assert parts[-1] == b"data: late\n\n"


async def test_an_error_before_the_first_item_of_a_stream_is_a_plain_answer(http: httpx.AsyncClient):
    assert (await http.get("/stream-fails-first")).status_code == 404


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/stream-fails-later", "ValueError: later"),
        ("/stream-mixed", "Unencodable: the stream began with text or bytes, then gave a int"),
        ("/stream-exits", "RuntimeError: the handler raised SystemExit(1)"),
        ("/slow-stream", "TimeoutError: the next item took longer than its timeout"),
        ("/events-quiet", "TimeoutError: the next item took longer than its timeout"),
    ],
)
async def test_a_stream_that_fails_later_is_cut(http: httpx.AsyncClient, log, path: str, reason: str):
    with pytest.raises((AssertionError, httpx.RemoteProtocolError)):  # the response was not completed
        await http.get(path)
    cut = [line for line in log.entries if line["event"] == "stream failed and was cut"]
    assert [line["reason"] for line in cut] == [reason]


async def test_a_response_that_fails_to_be_sent_is_500(http: httpx.AsyncClient, log):
    answer = await http.get("/missing-file")
    assert (answer.status_code, answer.json()["detail"]) == (500, "the function's response cannot be sent")


async def test_background_work_of_a_response_cannot_end_the_server(http: httpx.AsyncClient, log):
    assert (await http.get("/response-exits")).text == "sent"
    with anyio.fail_after(20):
        while not log.entries:
            await anyio.lowlevel.checkpoint()
    assert [line["event"] for line in log.entries] == ["response failed while it was sent"]


async def test_a_trace_goes_on(http: httpx.AsyncClient):
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = await http.get("/number", headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"})
    assert answer.headers["traceparent"] == f"00-{trace_id}-{answer.headers['x-run-id'][16:]}-01"
    assert "traceparent" not in (await http.get("/number")).headers


def test_encode_json_is_strict_only_about_numbers():
    assert encode_json([None, float("nan")], may_be_nan=False) == b"[null,null]"
    assert encode_json([None, msgspec.Raw(b"null")]) == b"[null,null]"
    value: Any = {"a": [None, 1.5, {"b": None}], 3: "null"}
    assert encode_json(value) == b'{"a":[null,1.5,{"b":null}],"3":"null"}'
    with pytest.raises(Unencodable):
        encode_json([float("inf")])
