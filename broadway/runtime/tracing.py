"""Export of spans to an OpenTelemetry collector, for a whole process: without an endpoint nothing is exported.

Exporting never delays work: spans are sent by a thread, at most ``QUEUED`` wait, and those that do not fit are lost.
"""

import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import structlog

from broadway.domain.spans import Span, is_sampled

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter

log = structlog.get_logger(__name__)

QUEUED = 8192  # spans that wait for the collector
TIMEOUT = 5.0  # seconds for an answer of the collector
LAST = 3.0  # seconds for the last spans at the end of a process
MAX_TEXT = 1000  # characters of an attribute, and of an error


class _Open:
    """The exporter of this process; None if it exports no spans."""

    processor: "SpanProcessor | None" = None
    resource: "Resource | None" = None
    share: float = 1.0


def is_on() -> bool:
    """Return whether this process exports spans."""
    return _Open.processor is not None


def export(spans: Iterable[Span]) -> None:
    """Hand spans to the exporter, if there is one and their traces are in the share to export."""
    if _Open.processor is None:
        return
    for span in spans:
        if is_sampled(span.trace_id, _Open.share):
            _Open.processor.on_end(_readable(span))


@contextlib.contextmanager
def exporting(endpoint: str | None, *, service: str, instance: str, share: float = 1.0) -> Iterator[None]:
    """Export the spans of this process while a block runs; send the last ones at its end.

    Args:
        endpoint: Address of a collector for OTLP over HTTP, such as ``http://collector:4318/v1/traces``, or None. The
            exporter reads OTEL_EXPORTER_OTLP_HEADERS and its other variables from the environment.
        service: Name of the service.
        instance: Name of this process.
        share: Share of traces to export, from 0 to 1.

    Raises:
        ModuleNotFoundError: The exporter is not installed.
    """
    if not endpoint:
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # our own line comes once for each outage
    exporter = _reporting(OTLPSpanExporter(endpoint, timeout=TIMEOUT), _without_login(endpoint))
    processor = BatchSpanProcessor(exporter, max_queue_size=QUEUED)
    _Open.resource = Resource.create({"service.name": f"broadway-{service}", "service.instance.id": instance})
    _Open.share, _Open.processor = share, processor
    try:
        yield
    finally:
        _Open.processor = None
        _end(processor, exporter)


def _without_login(endpoint: str) -> str:
    """Return an address for the log, without a user, a password and a query, which may have a key."""
    parts = urlsplit(endpoint)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _end(processor: "SpanProcessor", exporter: "SpanExporter") -> None:
    """Send the last spans, as long as that takes little time: the process is about to end."""
    flush = threading.Thread(target=processor.force_flush, name="last spans", daemon=True)
    flush.start()
    flush.join(LAST)
    exporter.shutdown()
    processor.shutdown()


def _reporting(exporter: "SpanExporter", endpoint: str) -> "SpanExporter":
    """Return an exporter that logs when spans cannot be exported, and when they are exported again."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult  # noqa: PLC0415 - an extra

    class Reporting(SpanExporter):
        is_down = False

        def export(self, spans: Sequence["ReadableSpan"]) -> SpanExportResult:
            result = exporter.export(spans)
            is_down = result is not SpanExportResult.SUCCESS
            if is_down and not self.is_down:
                log.warning("spans are lost: the collector does not take them", endpoint=endpoint)
            elif self.is_down and not is_down:
                log.info("spans are exported again", endpoint=endpoint)
            self.is_down = is_down
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

    return Reporting()


def _readable(span: Span) -> "ReadableSpan":
    """Return a span as the exporter reads it."""
    from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 - an extra
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags  # noqa: PLC0415

    def context(span_id: str) -> SpanContext:
        flags = TraceFlags(TraceFlags.SAMPLED)
        return SpanContext(int(span.trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=flags)

    return ReadableSpan(
        span.name,
        context(span.span_id),
        parent=context(span.parent_id) if span.parent_id else None,
        resource=_Open.resource,
        attributes={
            name: value[:MAX_TEXT] if isinstance(value, str) else value for name, value in span.attributes.items()
        },
        kind=SpanKind.SERVER if span.is_request else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, span.error[:MAX_TEXT]) if span.error else Status(StatusCode.UNSET),
        start_time=_nanoseconds(span.start.timestamp()),
        end_time=_nanoseconds(span.end.timestamp()),
    )


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e6) * 1000
