"""Spans on their way out: a receiver of OTLP on this machine, and one that is not there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from gated_code import LIMIT

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

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
    exporter = OTLPSpanExporter(url, timeout=1)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=10_000, schedule_delay_millis=3_600_000))
    return provider


def opened(provider: TracerProvider) -> Gate:
    plugins = [Telemetry(otel=OpenTelemetry(tracer_provider=provider))]
    return Gate("shop", threads=2, control_socket=False, shutdown=LIMIT, plugins=plugins)


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


def test_a_receiver_that_is_down_delays_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Case 16: tokens end, and the gate closes; it says what was not delivered, or that the exporter gave up.

    The receiver takes connections, and never answers.
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        provider = provider_for(f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces")

        @token
        def work(number: int) -> int:
            return number

        with opened(provider):
            sent = [work.submit(number) for number in range(100)]
            assert [one.result(LIMIT) for one in sent] == list(range(100))
        flushing = [thread for thread in threading.enumerate() if thread.name == "shop-otel"]
        told = [record for record in caplog.records if "OpenTelemetry has not taken" in record.getMessage()]
        assert bool(flushing) <= bool(told)
    provider.shutdown()
    for thread in flushing:
        thread.join(LIMIT)
