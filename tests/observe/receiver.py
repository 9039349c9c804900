"""A receiver of OTLP over HTTP, as a collector is one: it decodes what comes, and keeps the spans."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


class Seen:
    """One span. at: its resource's attributes."""

    def __init__(self, span, resource) -> None:
        self.name = span.name
        self.kind = KINDS[span.kind]
        self.trace_id = span.trace_id.hex()
        self.span_id = span.span_id.hex()
        self.parent_id = span.parent_span_id.hex()
        self.failed = span.status.code == 2
        self.links = [link.span_id.hex() for link in span.links]
        self.said = {one.key: _value(one.value) for one in span.attributes}
        self.events = {event.name: {one.key: _value(one.value) for one in event.attributes} for event in span.events}
        self.at = {one.key: _value(one.value) for one in resource.attributes}

    def __repr__(self) -> str:
        return f"{self.name} ({self.kind} {self.span_id} of {self.parent_id or 'none'} in {self.trace_id}) {self.said}"


def _value(value):
    return getattr(value, value.WhichOneof("value"))


class Receiver:
    """`with Receiver() as receiver`: `environ` for those that are to send to it, `spans` that came."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                told = ExportTraceServiceRequest.FromString(body)
                receiver.spans += [
                    Seen(span, one.resource) for one in told.resource_spans for s in one.scope_spans for span in s.spans
                ]
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "FNRUN_TRACES__ENABLED": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def named(self, name: str) -> list[Seen]:
        return [span for span in self.spans if span.name == name]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()
