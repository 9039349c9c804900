"""What a call's span says of calls that do not go well, and that where traces are off there is none."""

import asyncio
from contextlib import suppress

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from runtime.base.errors import StoreDown
from runtime.observe import otel, traces
from runtime.projects import load_project
from runtime.triggers.http.spans import _status_of, traced
from tests.conftest import client_of

FILE = """
    from runtime import http, queue

    @http.get("/square", auth="public")
    def square(n: int) -> int:
        return n * n

    @http.post("/later", auth="public")
    @queue("later")
    def later() -> None: ...

    @http.get("/breaks", auth="public")
    async def breaks():
        yield 1
        raise OSError("midway")

    @http.get("/fails", auth="public")
    def fails() -> None:
        raise OSError("no")
    """


@pytest.fixture
def sent(monkeypatch) -> InMemorySpanExporter:
    """What would be sent."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(id_generator=otel._Ids(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(traces, "active", otel.Tracing(provider, inside=False))
    return exporter


@pytest.fixture
async def http(sent, write_project, log):
    async with client_of(load_project(write_project(**{"functions/shop.py": FILE}))) as client:
        yield client


def outcomes(sent: InMemorySpanExporter) -> list[tuple]:
    spans = sent.get_finished_spans()
    return [(one.name, one.attributes["http.response.status_code"], one.status.is_ok) for one in spans]


async def test_each_answer_is_told_with_its_status(http: httpx.AsyncClient, sent):
    await http.get("/square", params={"n": 3})
    await http.get("/square", params={"n": "x"})
    await http.post("/later", headers={"prefer": "respond-async"})  # there is no store
    await http.get("/fails")
    await http.get("/_/health")
    await http.get("/nowhere")
    assert outcomes(sent) == [
        ("GET /square", 200, True),
        ("GET /square", 422, True),
        ("POST /later", 503, False),
        ("GET /fails", 500, False),
    ]
    error = sent.get_finished_spans()[-1].events[0]
    assert error.attributes["exception.message"] == "no"


async def test_a_stream_that_fails_midway_is_told(http: httpx.AsyncClient, sent):
    with suppress(AssertionError, httpx.RemoteProtocolError):  # the stream was cut
        await http.get("/breaks")
    (span,) = sent.get_finished_spans()
    assert (span.attributes["http.response.status_code"], span.attributes["error.type"]) == (200, "OSError")
    assert not span.status.is_ok


async def test_a_call_by_name_is_told_by_its_route(http: httpx.AsyncClient, sent):
    await http.post("/_/functions/shop.square/invoke", json={"n": 2})
    assert [one.attributes["http.route"] for one in sent.get_finished_spans()] == []  # it wants a key


async def test_a_caller_that_goes_away_is_told(sent):
    def leave(error: BaseException):
        async def handle(_):
            raise error

        return handle

    from runtime.base.ids import new_run_id, trace_of
    from runtime.declare.request import Request
    from runtime.triggers.http.core import Call

    run_id = new_run_id()
    call = Call(Request("GET", "/x", query_string=b"", headers=[], wire=None), run_id, trace_of(run_id, None))
    for error in (ConnectionResetError(), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            await traced(leave(error), "x", "/x")(call)
    assert [(one.attributes["error.type"], one.status.is_ok) for one in sent.get_finished_spans()] == [
        ("ConnectionResetError", False), ("CancelledError", False),
    ]  # fmt: skip


def test_a_fault_of_ours_and_a_store_that_is_away_have_the_status_that_callers_see():
    assert (_status_of(RuntimeError()), _status_of(StoreDown("x"))) == (500, 503)


def test_where_traces_are_off_nothing_is_wrapped():
    async def handle(_): ...

    assert traced(handle, "x", "/x") is handle
