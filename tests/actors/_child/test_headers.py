"""Headers of a call: what OpenTelemetry finds in the call's context, if it is imported in the child."""

from __future__ import annotations

import contextvars
import sys

import pytest

from actors._child._headers import with_headers

trace = pytest.importorskip("opentelemetry.trace")
baggage = pytest.importorskip("opentelemetry.baggage")

HEADERS = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=value",
    "baggage": "tenant=a%20b,mode=x;property=1",
}


def attached(headers: dict[str, str]) -> contextvars.Context:
    context = contextvars.copy_context()
    for variable, value in with_headers((), [headers]):
        context.run(variable.set, value)
    return context


def test_the_trace_and_the_baggage_of_the_gate_are_current_in_the_call() -> None:
    """And nowhere else."""
    context = attached(HEADERS)
    span = context.run(trace.get_current_span).get_span_context()

    assert trace.format_trace_id(span.trace_id) == "0af7651916cd43dd8448eb211c80319c"
    assert trace.format_span_id(span.span_id) == "b7ad6b7169203331"
    assert span.is_remote
    assert span.trace_flags.sampled
    assert span.trace_state.get("vendor") == "value"
    assert context.run(baggage.get_all) == {"tenant": "a b", "mode": "x"}
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_child_without_opentelemetry_imports_nothing_for_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call runs as without them."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    attached(HEADERS)

    assert not [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]


def test_a_call_without_headers_has_its_values_only() -> None:
    """What is given is returned."""
    values = ((contextvars.ContextVar("any"), 1),)
    assert with_headers(values, []) is values
