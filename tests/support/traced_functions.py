"""What child processes run in tests of traces; children import this module, and the API of OpenTelemetry with it."""

from __future__ import annotations

import logging
import os

from opentelemetry import trace


def ids_here() -> tuple[str, str]:
    """Return the ids of the current trace and span."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)


def log(text: str) -> tuple[str, str]:
    """Write a log record; return the ids as `ids_here` does."""
    logging.getLogger("traced").warning(text)
    return ids_here()


def die() -> None:
    """End the process."""
    os._exit(3)


def fail() -> None:
    """Raise an error."""
    raise ValueError("canary")
