"""Spans by OpenTelemetry: exporter, sampler and resource as OTEL_* variables say, ids as ours.

Loaded by traces alone, and only where traces are on. The one place that knows the library.
"""

import atexit
import os
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Literal, Self

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from typing_extensions import override

from runtime.base import __version__
from runtime.base.errors import StartError
from runtime.base.ids import Trace
from runtime.base.secrets.masking import mask

Attributes = Mapping[str, str | int | float | bool]

__all__ = ["Span", "Tracing", "fail", "note_exception", "trace_in"]

_END_SECONDS = 3.0
"""What an end may take: a receiver that does not answer shall not hold it up for longer."""

_COUNT = "messaging.batch.message_count"
_KINDS = {"server": SpanKind.SERVER, "consumer": SpanKind.CONSUMER}

_wanted: ContextVar[Trace | None] = ContextVar("fnrun_wanted_span", default=None)


class _Ids(RandomIdGenerator):
    """Those that are wanted, for spans of ours; random ones for all others."""

    @override
    def generate_span_id(self) -> int:
        wanted = _wanted.get()
        return super().generate_span_id() if wanted is None else int(wanted.span_id, 16)

    @override
    def generate_trace_id(self) -> int:
        wanted = _wanted.get()
        return super().generate_trace_id() if wanted is None else int(wanted.trace_id, 16)

    @override
    def is_trace_id_random(self) -> bool:
        return False  # a run's id begins with its time


class Tracing:
    """What a process traces with. Make it with `begin`. inside: this is a cell; see traces.begin."""

    def __init__(self, provider: TracerProvider, *, inside: bool) -> None:
        self.inside = inside
        self._provider = provider
        self._tracer = provider.get_tracer("fnrun", __version__)

    @classmethod
    def begin(cls, role: str, *, inside: bool = False) -> Self:
        """Have spans sent from now on, also those of authors' own by the library's API. StartError."""
        provider = TracerProvider(resource=_resource(role), id_generator=_Ids(), shutdown_on_exit=False)
        exporter = _exporter()
        if exporter is not None:
            provider.add_span_processor(BatchSpanProcessor(exporter))
        if isinstance(api.get_tracer_provider(), api.ProxyTracerProvider):  # else somebody has set one, and it stays
            api.set_tracer_provider(provider)
        tracing = cls(provider, inside=inside)
        atexit.register(tracing.end)
        return tracing

    def end(self) -> None:
        """Send what is left; some seconds at most."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(_END_SECONDS)

    def start(
        self,
        name: str,
        kind: Literal["server", "consumer"],
        attributes: Attributes,
        *,
        trace: Trace,
        links: tuple[Trace, ...] = (),
        own_id: bool = True,
    ) -> Span:
        """Begin a span. trace: its ids and its parent's; unless own_id it gets another id, in that trace."""
        parent = Context()
        if trace.parent_id is not None:
            parent = api.set_span_in_context(_remote(trace.trace_id, trace.parent_id, trace.flags), parent)
        wanted = trace if own_id else Trace(trace.trace_id, f"{RandomIdGenerator().generate_span_id():016x}")
        token = _wanted.set(wanted)
        try:
            pointed = [Link(_context_of(one)) for one in links]
            return self._tracer.start_span(
                name, context=parent, kind=_KINDS[kind], attributes=attributes, links=pointed
            )
        finally:
            _wanted.reset(token)

    def within(self, span: Span) -> AbstractContextManager[Span]:
        """It is the span at work; who ends it is another matter."""
        return api.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False)

    def continuing(self, trace: Trace) -> AbstractContextManager[None]:
        """See traces.continuing."""
        return _as_none(self.within(_remote(trace.trace_id, trace.span_id, trace.flags)))

    @contextmanager
    def sending(self) -> Iterator[Callable[[str, str | int], None]]:
        """See traces.sending."""
        told: Attributes = {
            "messaging.system": "fnrun",
            "messaging.operation.type": "send",
            "messaging.operation.name": "submit",
            "faas.invoked_provider": "fnrun",
        }
        with self._tracer.start_as_current_span("submit", kind=SpanKind.PRODUCER, attributes=told) as span:

            def note(function: str, what: str | int) -> None:
                span.update_name(f"submit {function}")
                span.set_attribute("faas.invoked_name", function)
                span.set_attribute("messaging.message.id" if isinstance(what, str) else _COUNT, what)

            yield note

    def here(self, trace: Trace) -> Trace:
        """See traces.here."""
        found = api.get_current_span().get_span_context()
        return trace_in(found, trace.parent_id) if found.is_valid else trace

    def traceparent(self) -> str:
        """See traces.traceparent."""
        found = api.get_current_span().get_span_context()
        return trace_in(found).traceparent if found.is_valid else ""

    def note_error(self, error: BaseException) -> None:
        """See traces.note_error."""
        span = api.get_current_span()
        if span.is_recording():
            note_exception(span, error)


def trace_in(context: SpanContext, parent_id: str | None = None) -> Trace:
    """A span's ids as ours."""
    return Trace(f"{context.trace_id:032x}", f"{context.span_id:016x}", parent_id, f"{context.trace_flags & 1:02x}")


def fail(span: Span, why: str) -> None:
    """Mark a span as one that went wrong."""
    span.set_status(Status(StatusCode.ERROR, mask(why)))


def note_exception(span: Span, error: BaseException) -> None:
    """Have an error in a span, without secrets: what it says is an author's."""
    kind = type(error)
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - an author's code
        message = ""
    told = {
        "exception.type": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."),
        "exception.message": mask(message),
        "exception.stacktrace": mask("".join(traceback.format_exception(error))),
    }
    span.add_event("exception", told)
    span.set_attribute("error.type", kind.__name__)


@contextmanager
def _as_none(within: AbstractContextManager[Span]) -> Iterator[None]:
    with within:
        yield


def _context_of(trace: Trace) -> SpanContext:
    flags = TraceFlags(int(trace.flags, 16))
    return SpanContext(int(trace.trace_id, 16), int(trace.span_id, 16), is_remote=True, trace_flags=flags)


def _remote(trace_id: str, span_id: str, flags: str) -> Span:
    return NonRecordingSpan(_context_of(Trace(trace_id, span_id, flags=flags)))


def _resource(role: str) -> Resource:
    said = {"service.version": __version__, "service.instance.id": f"{role}-{os.getpid()}", "fnrun.role": role}
    if "OTEL_SERVICE_NAME" not in os.environ and "service.name=" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        said["service.name"] = "fnrun"
    return Resource.create(said)


def _exporter() -> SpanExporter | None:
    """What OTEL_TRACES_EXPORTER names; None where nothing is to be sent. StartError for what there is not."""
    name = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if name == "none" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if name == "console":
        return ConsoleSpanExporter()
    if name != "otlp":
        raise StartError(f'OTEL_TRACES_EXPORTER: there is no exporter "{name}" here; there are: otlp, console, none')
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = os.environ.get(variable) or "http/protobuf"
        if protocol != "http/protobuf":
            raise StartError(
                f'{variable}: "{protocol}" is not spoken; write http/protobuf, and the address of the receiver for '
                "that, http://host:4318"
            )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - see above

    return OTLPSpanExporter()
