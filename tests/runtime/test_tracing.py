"""The export of spans: to a real collector, and without one."""

import sys
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from collector import collecting
from harness import free_port

from broadway.domain.spans import Span
from broadway.runtime import tracing
from broadway.service import SettingError, run
from broadway.settings.programs import ResultsSettings

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def span(**more: object) -> Span:
    values = {"name": "job", "start": T0, "end": T0 + timedelta(seconds=1.5), "attributes": {}}
    return Span(TRACE, "00f067aa0ba902b7", "00f067aa0ba902b8", **{**values, **more})  # type: ignore[arg-type]


def test_a_span_reaches_the_collector_as_it_is() -> None:
    attributes = {"broadway.course": "cs241", "broadway.attempts": 2, "broadway.reason": "x" * 2000}
    with collecting() as collector:
        with tracing.exporting(collector.endpoint, service="results", instance="results@h:1"):
            tracing.export([span(attributes=attributes, error="the engine is down", is_request=True)])
        (got,) = collector.spans

    assert (got.service, got.trace, got.id, got.parent) == (
        "broadway-results",
        TRACE,
        "00f067aa0ba902b7",
        "00f067aa0ba902b8",
    )
    assert (got.name, got.error, got.is_server) == ("job", "the engine is down", True)
    assert got.end - got.start == 1_500_000_000
    assert got.start == int(T0.timestamp()) * 10**9
    assert got.attributes["broadway.attempts"] == "2"
    assert got.attributes["broadway.reason"] == "x" * 1000


def test_traces_outside_the_share_are_not_exported() -> None:
    with collecting() as collector:
        with tracing.exporting(collector.endpoint, service="results", instance="results@h:1", share=0):
            tracing.export([span()])
        assert collector.spans == []


def test_without_an_endpoint_nothing_is_exported() -> None:
    with tracing.exporting(None, service="results", instance="results@h:1"):
        assert not tracing.is_on()
        tracing.export([span()])


def test_a_collector_that_refuses_spans_is_reported_once() -> None:
    with collecting() as collector, structlog.testing.capture_logs() as lines:
        collector.is_refusing = True
        with tracing.exporting(collector.endpoint, service="results", instance="results@h:1"):
            tracing.export([span() for _ in range(tracing.QUEUED + 100)])
    assert [line["event"] for line in lines] == ["spans are lost: the collector does not take them"]


def test_the_login_of_a_collector_is_not_logged() -> None:
    with collecting() as collector, structlog.testing.capture_logs() as lines:
        collector.is_refusing = True
        address = collector.endpoint.replace("://", "://ana:pass-word@") + "?key=pass-word"
        with tracing.exporting(address, service="results", instance="results@h:1"):
            tracing.export([span()])
    assert [line["endpoint"] for line in lines] == [collector.endpoint]


def test_a_process_ends_although_its_collector_is_away() -> None:
    with (
        structlog.testing.capture_logs() as lines,
        tracing.exporting(f"http://127.0.0.1:{free_port()}/v1/traces", service="results", instance="results@h:1"),
    ):
        tracing.export([span()])
    assert not tracing.is_on()
    assert {line["event"] for line in lines} <= {"spans are lost: the collector does not take them"}


def test_an_endpoint_without_the_extra_is_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    settings = ResultsSettings.model_validate(
        {"trace": {"endpoint": "http://127.0.0.1:4318/v1/traces"}, "log": {"dir": ""}}
    )

    async def unreached(_: object) -> None:
        raise AssertionError("the service has started")

    with pytest.raises(SystemExit) as ended:
        run(unreached, service="results", settings=settings)

    assert ended.value.code == 78
    text = capsys.readouterr().err
    assert "--trace-endpoint" in text
    assert "otel" in text
    assert SettingError.exit_code == 1
