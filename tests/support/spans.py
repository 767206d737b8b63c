"""A ledger of spans, outside of the runtime: what the SDK of OpenTelemetry has been told of each."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk.trace")

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import Tracer


class Ledger(SpanProcessor):
    """Keeps the spans that were started and ended with a provider.

    Args:
        sampler: of the provider; None samples all.

    Attributes:
        provider: makes the spans.
        tracer: the one of the program.
    """

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._lock = threading.Lock()
        self._started: list[Any] = []
        self._ended: list[ReadableSpan] = []
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(self)
        self.tracer: Tracer = self.provider.get_tracer("program")

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        with self._lock:
            self._started.append(span)

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            self._ended.append(span)

    @property
    def ended(self) -> list[ReadableSpan]:
        with self._lock:
            return list(self._ended)

    def check(self, known: Iterable[int] = ()) -> None:
        """Assert that each span was ended once, and that each parent is a span of the same trace, or a known one."""
        with self._lock:
            started, ended = list(self._started), list(self._ended)
        assert Counter(id_of(span) for span in ended) == Counter(id_of(span) for span in started)
        traces = {id_of(span): trace_of(span) for span in ended}
        orphans = [
            span.name
            for span in ended
            if span.parent is not None
            and span.parent.span_id not in known
            and traces.get(span.parent.span_id) != trace_of(span)
        ]
        assert orphans == []
        for span in ended:
            assert span.start_time is not None
            assert span.end_time is not None
            assert span.start_time <= span.end_time

    def named(self, name: str) -> list[ReadableSpan]:
        """Return the ended spans of a name, in the order of their beginnings."""
        return sorted((span for span in self.ended if span.name == name), key=lambda span: span.start_time or 0)

    def one(self, name: str) -> ReadableSpan:
        """Return the only ended span of a name."""
        found = self.named(name)
        assert len(found) == 1, (name, [span.name for span in self.ended])
        return found[0]

    def path(self, span: ReadableSpan) -> list[str]:
        """Return the names of a span and of those around it, the outermost first."""
        spans = {id_of(one): one for one in self.ended}
        names = [span.name]
        while span.parent is not None:
            span = spans[span.parent.span_id]
            names.append(span.name)
        return names[::-1]


def id_of(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def trace_of(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def links_of(span: ReadableSpan) -> list[int]:
    """Return the ids of the spans that a span has links to."""
    return [link.context.span_id for link in span.links]
