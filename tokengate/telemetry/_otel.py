"""Spans of OpenTelemetry: one for each attempt of a token, current while its code runs.

Only the API is used; where the spans go is up to the program's providers. The span is set in the token's own context
before its code begins, so it stays current in whatever thread, task or loop the code goes on.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from typing import Any, Final, Literal

from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import attach, get_current
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanContext, SpanKind, StatusCode, TracerProvider
from opentelemetry.trace import set_span_in_context as with_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from actors import Observer, Token, TokenGateError, TokenState
from actors.lowlevel import NO_EXTRAS, ActorPlace, Notice, place_of
from tokengate.control._safe_text import class_name, plain
from tokengate.control.stream._record import Batch
from tokengate.control.stream._stream import Stream
from tokengate.telemetry import _otel_metrics, _semconv

_logger = logging.getLogger("tokengate.telemetry")

_QUEUED: Final = SpanKind.CONSUMER
_DIRECT: Final = SpanKind.INTERNAL
_PROPAGATORS: Final = TraceContextTextMapPropagator(), W3CBaggagePropagator()


class OpenTelemetry:
    """Spans and metrics by the API of OpenTelemetry: `Telemetry(otel=OpenTelemetry())`.

    Each attempt of a token has a span, named for the operation. Its parent is the span that was current when the token
    was submitted. Timers start a new trace, with a link to that span.

    Args:
        relation: what a span has to the one that was current at `submit`: it is its `parent`, or a `link` to it begins
            a new trace.
        tracer_provider: makes the spans; None is the one that the program has set.
        meter_provider: the same for metrics.

    Raises:
        ValueError: the relation is another one.
    """

    def __init__(
        self,
        relation: Literal["parent", "link"] = "parent",
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        if relation not in ("parent", "link"):
            raise ValueError(f"relation is {relation!r}; it must be 'parent' or 'link'")
        self._relation = relation
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._spans: _Spans | None = None

    def start(self, gate: Any, stream: Stream, telemetry: _otel_metrics.Figured, /) -> Observer:
        """Begin, before the gate has tokens; it ends with the stream.

        Raises:
            ValueError: it serves another gate.
        """
        if self._spans is not None:
            raise ValueError(f"this OpenTelemetry serves gate '{self._spans.gate}' already; make a new one")
        self._spans = spans = _Spans(
            self._relation, self._tracer_provider, self._meter_provider, gate, stream, telemetry
        )  # fmt: skip
        return spans

    def stop(self) -> None:
        """End; what was not ended before is."""
        if self._spans is not None:
            self._spans.close(0.0)


_Open = tuple[Span, int]
"""The span of an attempt that runs, or was sent to run, and the attempt's number."""


class _Spans(Observer):
    """The spans of a gate's tokens; as a sink of its stream, it is closed with it, after the last token.

    Args:
        relation: to the span that was current at `submit`.
        tracer_provider, meter_provider: None are those of the program.
        gate: the gate.
        stream: of the gate.
    """

    name = "otel"

    def __init__(
        self,
        relation: str,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        gate: Any,
        stream: Stream,
        telemetry: _otel_metrics.Figured,
    ) -> None:
        self.gate: str = gate.name
        self._system = gate._system
        self._links = relation == "link"
        scope = {_semconv.GATE: self.gate}  # once, and not with each span
        tracer = trace.get_tracer(_semconv.SCOPE, tracer_provider=tracer_provider, attributes=scope)
        self._start = tracer.start_span
        self._open: dict[int, _Open] = {}  # {token id: span}
        self._before: dict[int, SpanContext] = {}  # {id of a token between attempts: of the latest}
        self._recorded: dict[int, _Origin] = {}  # {token id: where the error was raised that a token of it recorded}
        self._providers = tracer_provider or trace.get_tracer_provider(), meter_provider
        self._metrics = _otel_metrics.Source(self.gate, self._system, stream, telemetry)
        self._is_closed = False
        self.lost = 0  # how often a provider has raised
        _otel_metrics.add(meter_provider, self._metrics)
        stream.collector.trace_of = self.trace_of
        stream.attach(self)  # first: the collector asks for the ids of a span before it ends here
        self._system.add_observer(self)

    # As an observer

    def token_sent(self, token: Token[Any], headers: dict[str, str], /) -> None:
        try:
            self.token_started(token)
            token.in_context(_write, headers)
        except Exception:
            self._note_error()

    def token_started(self, token: Token[Any], /) -> None:
        try:
            running = self._open.get(token.id)
            if running is not None:
                if running[1] == token.attempt:
                    return  # it was begun when the token was sent
                self._end(token, "", None, "retried")
            if not token._place.serves_operators:
                token.in_context(self._begin, token)
        except Exception:
            self._note_error()

    def token_failing(self, token: Token[Any], /) -> None:
        # Before its sender can pass the error on. One without a traceback that is the runtime's was not raised by code.
        error, sender = token._error, token.parent
        if error is None or sender not in self._open or token.id not in self._open or _is_expected(token, error):
            return
        if error.__traceback__ is not None or not isinstance(error, TokenGateError):
            self._recorded[sender] = _origin(error)
            if sender not in self._open:  # it has ended just now
                self._recorded.pop(sender, None)

    def token_retried(self, token: Token[Any], error: BaseException, reason: str, /) -> None:
        try:
            ended = self._end(token, reason, error, "retried")
            if ended is not None:
                self._before[token.id] = ended[0].get_span_context()
        except Exception:
            self._note_error()

    def token_finished(self, token: Token[Any], /) -> None:
        try:
            if token.id in self._open:
                self._end(token, token.reason, token._error, token._end)
            elif self._before:
                self._before.pop(token.id, None)
        except Exception:
            self._note_error()

    def _begin(self, token: Token[Any]) -> None:
        """Begin a span; in the token's context, of which each attempt has a copy."""
        around = parent = get_current()
        links: list[Link] | None = None
        if self._before and (before := self._before.pop(token.id, None)) is not None:
            links = [Link(before)]
        if self._links or isinstance(token._call, Notice):
            around = with_span(INVALID_SPAN, parent)
            if (linked := trace.get_current_span(parent).get_span_context()).is_valid:
                links = [*(links or ()), Link(linked)]
        kind = _DIRECT if token.queued_at is None else _QUEUED
        span = self._start(token.operation, around, kind, None, links)
        if span is INVALID_SPAN:
            return  # no SDK is there
        attach(with_span(span, parent))  # for good: nothing else runs in this context
        if span.is_recording() or token._extras is not NO_EXTRAS or token.affinity == "process":
            # Else it needs no end, and the token is neither sent nor tried again.
            self._open[token.id] = span, token.attempt
            if token._end is not None:  # by another thread, which may have missed the span
                self.token_finished(token)

    def _attributes(self, token: Token[Any], end: TokenState | str | None) -> dict[str, Any]:
        started, queued, attempt = token.started_at, token.queued_at, token.attempt
        attributes: dict[str, Any] = {
            _semconv.SYSTEM: _semconv.SCOPE,
            _semconv.OPERATION_TYPE: "process",
            _semconv.DESTINATION: token.actor,
            _semconv.UID: token.uid,
            _semconv.AFFINITY: token.affinity,
            _semconv.STATE: str(end),
        }
        if started is not None and queued is not None:
            attributes[_semconv.WAIT] = started - queued
        if attempt != 1:
            attributes[_semconv.ATTEMPT] = attempt
        if token.steps > 1:
            attributes[_semconv.STEPS] = token.steps
        if token.priority:
            attributes[_semconv.PRIORITY] = token.priority
        for name, value in token.tags.items():
            attributes[_semconv.TAG + name] = value
        return attributes

    def _end(
        self, token: Token[Any], reason: str, error: BaseException | None, end: TokenState | str | None
    ) -> _Open | None:
        """End the span of a token, if there is one."""
        open = self._open.pop(token.id, None)
        if open is None:
            return None
        span = open[0]
        if span.is_recording():
            attributes = self._attributes(token, end)
            if reason:
                attributes[_semconv.REASON] = plain(reason)
            if error is not None:
                attributes[_semconv.ERROR_TYPE] = class_name(type(error))
                self._add_error(span, token, error, end)
            span.set_attributes(attributes)
            span.end()
        if self._recorded:
            self._recorded.pop(token.id, None)
        return open

    def _add_error(self, span: Span, token: Token[Any], error: BaseException, end: TokenState | str | None) -> None:
        """Record an error, unless it is an expected one, or one that the token only passes on."""
        if _is_expected(token, error):
            return
        kind = class_name(type(error))
        if end in (TokenState.FAILED, "retried"):
            recorded = self._recorded.get(token.id)
            if recorded is None or recorded != _origin(error, recorded):
                _record(span, error, kind, with_text=place_of(token).properties.show == "*")
        elif end is not TokenState.EXPIRED:
            return
        span.set_status(StatusCode.ERROR, kind)

    # For the collector

    def trace_of(self, token: Token[Any]) -> tuple[str, str] | None:
        """Return the ids of the trace and the span of a token that ends; None without a sampled one."""
        try:
            open = self._open.get(token.id)
            if open is None:
                return None
            span = open[0]
            if not span.is_recording():
                return None
            context = span.get_span_context()
            return f"{context.trace_id:032x}", f"{context.span_id:016x}"
        except Exception:
            self._note_error()
            return None

    def _note_error(self) -> None:
        """Note that a provider has raised; the spans of other tokens go on."""
        self.lost += 1
        if self.lost == 1:  # once, or a log would fill the disk
            _logger.exception("OpenTelemetry has raised on a token of gate '%s'; this is told once", self.gate)

    # As a sink

    def take(self, batch: Batch, /) -> None:
        """Read nothing: spans are made where tokens run."""

    def close(self, seconds: float, /) -> str:
        """End what is left, and have the providers pass on what they keep, for at most so many seconds."""
        if self._is_closed:
            return ""
        self._is_closed = True
        self._system.remove_observer(self)
        for number in list(self._open):
            if (left := self._open.pop(number, None)) is not None:
                left[0].end()
        thread = threading.Thread(target=self._flush, args=(seconds,), name=f"{self.gate}-otel", daemon=True)
        thread.start()
        thread.join(seconds)
        return "spans, which the receiver of OpenTelemetry has not taken in time" if thread.is_alive() else ""

    def _flush(self, seconds: float) -> None:
        try:
            for provider in self._providers:
                flush: Callable[[int], object] | None = getattr(provider, "force_flush", None)  # of the SDK
                if flush is not None:
                    flush(int(seconds * 1_000))
        finally:
            _otel_metrics.remove(self._metrics)


def _write(headers: dict[str, str]) -> None:
    for propagator in _PROPAGATORS:
        propagator.inject(headers)


def _is_expected(token: Token[Any], error: BaseException) -> bool:
    place = place_of(token)
    return isinstance(place, ActorPlace) and not place.crashes(token, error)


_Origin = tuple[int, Any, int]
"""An error: its id, and the code and the line where it was raised. An id alone may be that of a later one."""


def _origin(error: BaseException, like: _Origin | None = None) -> _Origin:
    """Return the origin of an error; without its place if `like` has none, as that of an error of a child process."""
    frames = error.__traceback__
    if frames is None or (like is not None and like[1] is None):
        return id(error), None, 0
    while frames.tb_next is not None:
        frames = frames.tb_next
    return id(error), frames.tb_frame.f_code, frames.tb_lineno


def _record(span: Span, error: BaseException, kind: str, *, with_text: bool) -> None:
    """Add an event about an error; its text only where the operation shows values."""
    if with_text:
        span.record_exception(error)
        return
    frames = "".join(traceback.format_tb(error.__traceback__))
    span.add_event(_semconv.EXCEPTION, {_semconv.EXCEPTION_TYPE: kind, _semconv.EXCEPTION_STACKTRACE: frames})
