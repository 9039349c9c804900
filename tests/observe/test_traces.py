"""Traces in one process: what is off costs nothing, what cannot be is said at start, and which ids spans get."""

import secrets
import subprocess
import sys
import textwrap

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from runtime.base.errors import StartError
from runtime.base.ids import Trace, new_run_id, trace_of
from runtime.base.secrets.masking import hide
from runtime.ledger.records import Claimed, Ending, Failure
from runtime.observe import otel, traces
from runtime.triggers.queue.leases import Lease
from runtime.triggers.queue.outcomes.spans import run_in_span


@pytest.fixture
def sent(monkeypatch) -> InMemorySpanExporter:
    """What would be sent."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(id_generator=otel._Ids(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(traces, "active", otel.Tracing(provider, inside=False))
    return exporter


def test_what_is_off_loads_nothing():
    code = """
        import sys
        import runtime.roles, runtime.working, runtime.triggers.http.core
        print(*[name for name in sys.modules if name.startswith(("opentelemetry.exporter", "runtime.observe.otel"))])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_what_is_off_says_nothing():
    trace = trace_of(new_run_id(), None)
    with traces.sending() as note, traces.continuing(trace):
        note("sum", "1")
        traces.note_error(ValueError())
        assert traces.here(trace) is trace
        assert traces.traceparent("x") == "x"


def test_a_library_that_is_not_there_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "runtime.observe.otel", None)
    with pytest.raises(StartError, match=r"pip install 'fnrun\[otel\]'"):
        traces.begin(role="http")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "there are: otlp, console, none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "write http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "write http/protobuf"),
    ],
)
def test_what_is_not_spoken_is_said_at_start(monkeypatch, variable, value, message):
    monkeypatch.setenv(variable, value)
    with pytest.raises(StartError) as caught:
        traces.begin(role="http")
    assert variable in str(caught.value)
    assert message in str(caught.value)
    assert traces.active is None


def test_nothing_is_sent_where_that_is_asked_for(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert otel._exporter() is None
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "TRUE")
    assert otel._exporter() is None


def test_the_service_has_the_name_that_is_said(monkeypatch):
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    assert otel._resource("http").attributes["service.name"] == "fnrun"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    assert otel._resource("http").attributes["service.name"] == "shop"


def test_variables_of_a_receiver_are_lent_and_taken_back(monkeypatch):
    import os

    seen = {}
    monkeypatch.setattr(otel.Tracing, "begin", lambda role, inside: seen.update(os.environ))
    monkeypatch.setattr(traces, "active", None)
    traces.begin(role="cell", inside=True, environ={"OTEL_X": "1", "OTHER": "2"})
    assert (seen["OTEL_X"], seen.get("OTHER")) == ("1", None)
    assert "OTEL_X" not in os.environ


def claimed(**said) -> Claimed:
    run_id = said.pop("id", new_run_id())
    return Claimed(**{"id": run_id, "function": "sum", "queue": "q", "token": 1, "payload": b"{}", **said})


async def ended(run: Claimed, **said) -> Ending:
    async def work() -> Ending:
        said.setdefault("state", "succeeded")
        return Ending(id=run.id, token=run.token, **said)

    assert traces.active is not None
    return await run_in_span(traces.active, Lease(run), "w", work())


async def test_a_run_has_the_span_that_its_id_says(sent):
    run = claimed(trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    await ended(run)
    (span,) = sent.get_finished_spans()
    assert f"{span.context.span_id:016x}" == run.id[16:]
    assert f"{span.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"


async def test_further_attempts_and_those_after_a_crash_have_spans_of_their_own(sent):
    run_id = new_run_id()
    for said in ({}, {"failures": 1, "token": 2}, {"crashes": 1, "token": 3}):
        await ended(claimed(id=run_id, **said))
    first, *others = sent.get_finished_spans()
    assert len({span.context.span_id for span in (first, *others)}) == 3
    assert {span.context.trace_id for span in others} == {first.context.trace_id}
    assert [link.context.span_id for span in others for link in span.links] == [first.context.span_id] * 2


@pytest.mark.parametrize("run_id", ["tick-1", "A" * 32, "x" * 32, "0" * 31])
async def test_an_id_that_somebody_chose_gives_the_same_span_each_time(sent, run_id):
    for _ in range(2):
        await ended(claimed(id=run_id))
    one, other = sent.get_finished_spans()
    assert one.context.span_id == other.context.span_id != 0


@pytest.mark.parametrize(
    ("ending", "ok", "why"),
    [
        ({"state": "succeeded"}, True, None),
        ({"state": "waiting"}, True, None),
        ({"state": "retrying", "failure": Failure(type="OSError", message="no")}, False, "OSError: no"),
        ({"state": "cancelled", "reason": "cancelled"}, False, "cancelled"),
    ],
)
async def test_how_a_run_ended_is_said(sent, ending, ok, why):
    await ended(claimed(), **ending)
    (span,) = sent.get_finished_spans()
    assert (span.status.is_ok, span.status.description) == (ok, why)
    assert span.attributes["fnrun.state"] == ending["state"]


async def test_a_run_whose_handler_is_ended_says_why(sent):
    async def work() -> Ending:
        raise TimeoutError

    lease = Lease(claimed())
    lease.fate = "cancelled"
    with pytest.raises(TimeoutError):
        await run_in_span(traces.active, lease, "w", work())
    (span,) = sent.get_finished_spans()
    assert span.attributes["fnrun.state"] == "cancelled"


async def test_in_a_cell_a_run_continues_the_span_of_its_worker(sent, monkeypatch):
    run = claimed(failures=1, token=2)
    await ended(run)
    (outside,) = sent.get_finished_spans()
    monkeypatch.setattr(traces.active, "inside", True)
    inside = []

    async def work() -> Ending:
        inside.append(traces.here(Trace("0" * 31 + "1", "0" * 15 + "1")))
        return Ending(id=run.id, token=run.token, state="succeeded")

    await run_in_span(traces.active, Lease(run), "", work())
    assert len(sent.get_finished_spans()) == 1
    assert inside[0].span_id == f"{outside.context.span_id:016x}"
    assert inside[0].flags == "01"


def test_an_error_is_told_without_secrets(sent):
    secret = secrets.token_hex(16)
    hide([secret])
    span = traces.active.start("run", "consumer", {}, trace=trace_of(new_run_id(), None))
    with traces.active.within(span):
        traces.note_error(_raised(f"no access with {secret}"))
        otel.fail(span, f"ValueError: no access with {secret}")
    span.end()
    [told] = sent.get_finished_spans()
    assert told.events[0].attributes["exception.message"] == "no access with ****"
    assert "_raised" in told.events[0].attributes["exception.stacktrace"]
    assert secret not in told.to_json()


def _raised(text: str) -> ValueError:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def test_what_is_submitted_is_named(sent):
    with traces.sending() as note:
        inner = traces.traceparent("")
        note("shop.sell", "r1")
    with traces.sending() as note:
        note("shop.sell", 3)
    one, many = sent.get_finished_spans()
    assert one.name == "submit shop.sell"
    assert inner == f"00-{one.context.trace_id:032x}-{one.context.span_id:016x}-01"
    assert one.attributes["messaging.message.id"] == "r1"
    assert many.attributes["messaging.batch.message_count"] == 3
