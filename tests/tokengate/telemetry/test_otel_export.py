"""Spans on their way out: a receiver of OTLP on this machine, and one that does not answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from gated_code import LIMIT
from tiers import in_ci

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from tokengate import Gate, token
from tokengate.telemetry import OpenTelemetry, Telemetry


class Receiver:
    """A receiver of OTLP over HTTP, on a port of its own.

    Attributes:
        spans: {id: span}, as they came.
        twice: ids of those that came again.
    """

    def __init__(self) -> None:
        self.spans: dict[bytes, Any] = {}
        self.twice: list[bytes] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the name is that of the method of HTTP
                request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.take(request)
                body = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    if self.spans.setdefault(span.span_id, span) is not span:
                        self.twice.append(span.span_id)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(LIMIT)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def provider_for(url: str) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = OTLPSpanExporter(url, timeout=LIMIT)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=10_000, schedule_delay_millis=3_600_000))
    return provider


def opened(provider: TracerProvider) -> Gate:
    plugins = [Telemetry(otel=OpenTelemetry(tracer_provider=provider))]
    return Gate("shop", threads=2, control_socket=False, shutdown=LIMIT, plugins=plugins)


@in_ci
def test_a_receiver_has_all_spans_when_the_gate_has_closed(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 15: each once, with its parent, also those of tokens that the closing gate has ended."""
    monkeypatch.setattr("tokengate.gate._gate._FLUSH_SECONDS", LIMIT)
    provider = provider_for(receiver.url)
    tracer = provider.get_tracer("program")

    @token
    def inner() -> None:
        pass

    @token
    def outer() -> None:
        for _ in range(3):
            inner.submit()

    with opened(provider):
        with tracer.start_as_current_span("request"):
            for _ in range(300):
                outer.submit()
        assert not receiver.spans  # the processor waits for an hour: closing makes it pass them on
    spans = list(receiver.spans.values())
    names = {span.span_id: span.name for span in spans}

    assert receiver.twice == []
    assert sorted(span.name for span in spans) == sorted([*["inner"] * 900, *["outer"] * 300, "request"])
    assert {names[span.parent_span_id] for span in spans if span.name == "inner"} == {"outer"}
    assert {names[span.parent_span_id] for span in spans if span.name == "outer"} == {"request"}
    assert len({span.trace_id for span in spans}) == 1
    provider.shutdown()


class Blocked(SpanExporter):
    """An exporter whose receiver does not answer until it is `opened`."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        assert self.opened.wait(LIMIT)
        return SpanExportResult.FAILURE


@in_ci
def test_a_receiver_that_is_down_delays_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Case 16: tokens end, and the gate closes; it says what was not delivered."""
    blocked, provider = Blocked(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(blocked))

    @token
    def work(number: int) -> int:
        return number

    with opened(provider):
        sent = [work.submit(number) for number in range(100)]
        assert [one.result(LIMIT) for one in sent] == list(range(100))
    flushing = [thread for thread in threading.enumerate() if thread.name == "shop-otel"]
    told = "which the receiver of OpenTelemetry has not taken in time" in caplog.text
    blocked.opened.set()
    provider.shutdown()

    assert len(flushing) == 1
    assert told
    flushing[0].join(LIMIT)
