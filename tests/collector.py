"""A collector of traces for tests: it takes OTLP over HTTP, and keeps the spans."""

import contextlib
import gzip
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Got:
    """A span as a collector gets it; attributes are texts. Times are in nanoseconds."""

    service: str
    trace: str
    id: str
    parent: str
    name: str
    start: int
    end: int
    attributes: dict[str, str]
    error: str
    is_server: bool


@dataclass
class Collector:
    """The address of a collector, and the spans that it got. While ``is_refusing``, it answers 400."""

    endpoint: str = ""
    spans: list[Got] = field(default_factory=list)
    is_refusing: bool = False

    def named(self, name: str) -> list[Got]:
        return [span for span in self.spans if span.name == name]


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """Serve a collector on a port of its own while a block runs."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if not collector.is_refusing:
                collector.spans += _spans(body)
            self.send_response(400 if collector.is_refusing else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        collector.endpoint = f"http://127.0.0.1:{server.server_port}/v1/traces"
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def _spans(body: bytes) -> Iterator[Got]:
    for part in ExportTraceServiceRequest.FromString(body).resource_spans:
        about = {each.key: each.value.string_value for each in part.resource.attributes}
        for span in (span for scope in part.scope_spans for span in scope.spans):
            values = {each.key: each.value for each in span.attributes}
            yield Got(
                about["service.name"],
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.name,
                span.start_time_unix_nano,
                span.end_time_unix_nano,
                {key: str(getattr(value, value.WhichOneof("value"))) for key, value in values.items()},
                span.status.message if span.status.code == span.status.STATUS_CODE_ERROR else "",
                is_server=span.kind == span.SPAN_KIND_SERVER,
            )
