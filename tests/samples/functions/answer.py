"""Every kind of result, good and bad."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse

from runtime import Event, Html, PlainText, Problem, Reply, http


class Thing(msgspec.Struct):
    name: str


@http.get("/struct-result")
async def struct_result() -> Thing:
    return Thing("x")


@http.get("/text-result")
async def text_result() -> str:
    return "héllo"


@http.get("/number")
async def number() -> int:
    return 3


@http.get("/plain")
async def plain() -> PlainText:
    return "héllo"


@http.get("/html")
async def html() -> Html | None:
    return "<p>héllo"


@http.get("/bytes")
async def some_bytes() -> bytes:
    return b"\x00\xff"


@http.get("/none")
async def none() -> None:
    return None


@http.post("/created-none", status=201)
async def created_none() -> None:
    return None


@http.post("/created", status=201)
async def created() -> Thing:
    return Thing("new")


@http.get("/reply")
async def reply() -> Reply:
    return Reply(Thing("r"), 203, {"X-Extra": "é", "Content-Type": "application/vnd.thing+json"})


@http.get("/reply-none")
async def reply_none() -> Reply:
    return Reply(headers={"x-extra": "1"})


@http.get("/response")
async def response() -> Response:
    return Response("custom", 206, {"x-mine": "1"}, "text/x-custom")


@http.get("/redirect")
async def redirect() -> Response:
    return RedirectResponse("/number")


@http.get("/file")
async def file() -> FileResponse:
    return FileResponse(__file__)


@http.get("/missing-file")
async def missing_file() -> FileResponse:
    return FileResponse("/does/not/exist")


@http.get("/response-exits")
async def response_exits() -> Response:
    def leave() -> None:
        raise SystemExit(3)

    return Response("sent", media_type="text/plain", background=BackgroundTask(leave))


@http.get("/starlette-stream")
async def starlette_stream() -> StreamingResponse:
    return StreamingResponse(iter(["a", "b"]), media_type="text/plain")


@http.get("/problem")
async def problem() -> None:
    raise Problem(409, "already there", headers={"Retry-After": "3"}, detail="why", order="o1")


@http.get("/bad-problem")
async def bad_problem() -> None:
    raise Problem(409, "already there", thing=object())


@http.get("/nan")
async def nan() -> dict[str, Any]:
    return {"value": math.nan, "other": None}


@http.get("/nulls")
async def nulls() -> dict[str, Any]:
    return {"value": None, "thing": Thing("null"), 1: "null"}


@http.get("/object")
async def an_object() -> Any:
    return {"value": object()}


@http.get("/circular")
async def circular() -> Any:
    found: list[Any] = []
    found.append(found)
    return found


@http.get("/surrogate")
async def surrogate() -> str:
    return "\ud800"


@http.get("/surrogate-plain")
async def surrogate_plain() -> PlainText:
    return "\ud800"


@http.get("/bad-header")
async def bad_header() -> Reply:
    return Reply("x", headers={"x-a": "1\r\nset-cookie: evil=1"})


@http.get("/bad-reply")
async def bad_reply(status: int = 200, header: str = "x-fine") -> Reply:
    return Reply("x", status, {header: 1})


@http.get("/stream-json")
async def stream_json() -> AsyncIterator[Thing]:
    yield Thing("a")
    yield Thing("b")


@http.get("/stream-text")
def stream_text() -> Iterator[str]:
    yield "a"
    yield "b"


@http.get("/stream-bytes")
async def stream_bytes() -> AsyncIterator[bytes]:
    yield b"\x00"
    yield b"\x01"


@http.get("/stream-html")
async def stream_html() -> AsyncIterator[Html]:
    yield "<p>"


@http.get("/events")
async def events() -> AsyncIterator[Event]:
    yield Event({"n": 1}, event="tick", id="1", retry="3s")
    yield Event("two\nlines")


@http.get("/events-untold")
async def events_untold():
    yield Event("a")
    yield {"b": 1}


@http.get("/events-quiet", timeout="1s")
async def events_quiet() -> AsyncIterator[Event]:
    await asyncio.sleep(60)
    yield Event("never")


@http.get("/events-fail")
async def events_fail() -> AsyncIterator[Event]:
    raise Problem(404, "no such events")
    yield Event("never")


@http.get("/stream-empty")
async def stream_empty() -> AsyncIterator[str]:
    for never in ():
        yield never


@http.get("/stream-fails-first")
async def stream_fails_first() -> AsyncIterator[str]:
    raise Problem(404, "no such stream")
    yield ""


@http.get("/stream-fails-later")
async def stream_fails_later() -> AsyncIterator[str]:
    yield "a"
    raise ValueError("later")


@http.get("/stream-mixed")
async def stream_mixed() -> AsyncIterator[Any]:
    yield "a"
    yield 1


@http.get("/stream-exits")
async def stream_exits() -> AsyncIterator[str]:
    yield "a"
    raise SystemExit(1)
