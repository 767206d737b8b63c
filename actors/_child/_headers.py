"""The headers that come with a call: the trace that the call belongs to becomes current for OpenTelemetry.

They are those of W3C Trace Context and W3C Baggage. A child that has not imported OpenTelemetry does not need them, and
imports nothing for them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

_PARTS: Final = 4  # of a `traceparent`: version, trace, span, flags


class Variable(Protocol):
    """A context variable, or what is set like one."""

    def set(self, value: Any, /) -> object: ...


def with_headers(
    values: Iterable[tuple[Variable, Any]], headers: Sequence[Mapping[str, str]]
) -> Iterable[tuple[Variable, Any]]:
    """Return the values that variables have in a call; with headers, they are set in the call's context, too."""
    return (*values, (_Headers(), headers[0])) if headers else values


class _Headers:
    def set(self, headers: Mapping[str, str], /) -> None:
        """Make the trace and the baggage of some headers current, in the context of the caller."""
        context, trace = sys.modules.get("opentelemetry.context"), sys.modules.get("opentelemetry.trace")
        if context is None or trace is None:
            return
        current = context.get_current()
        parts = headers.get("traceparent", "").split("-")
        if len(parts) == _PARTS:
            state = trace.TraceState.from_header([headers["tracestate"]]) if "tracestate" in headers else None
            trace_id, span_id, flags = (int(part, 16) for part in parts[1:])
            span = trace.SpanContext(trace_id, span_id, True, trace.TraceFlags(flags), state)
            current = trace.set_span_in_context(trace.NonRecordingSpan(span), current)
        baggage = sys.modules.get("opentelemetry.baggage")
        if baggage is not None:
            from urllib.parse import unquote_plus  # which it has imported, too

            for entry in filter(None, headers.get("baggage", "").split(",")):
                name, _, value = entry.partition(";")[0].partition("=")
                current = baggage.set_baggage(unquote_plus(name).strip(), unquote_plus(value).strip(), current)
        context.attach(current)
