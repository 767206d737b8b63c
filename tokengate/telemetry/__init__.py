# Telemetry: what tokens do, in numbers and for other systems.
#   _plugin.py  the optional part of a gate, which is the Python interface
#   _otel.py    spans and metrics of OpenTelemetry; with _otel_metrics.py and _semconv.py (names of attributes)
#   _logs.py    log records as JSON
"""Figures of the tokens of a gate, and what passes records on: `Gate("shop", plugins=[Telemetry()])`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tokengate.telemetry._logs import JsonFormatter
    from tokengate.telemetry._otel import OpenTelemetry
    from tokengate.telemetry._plugin import Telemetry

__all__ = ["JsonFormatter", "OpenTelemetry", "Telemetry"]

_HOMES: Final = {"JsonFormatter": "_logs", "OpenTelemetry": "_otel", "Telemetry": "_plugin"}
"""{public name: the file that it is loaded from when it is asked for}."""

_EXTRAS: Final = {"opentelemetry": "otel", "prometheus_client": "prometheus"}
"""{package: the extra that installs it}."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise ImportError(f"{name} needs {error.name}: install tokengate-runtime[{extra}]") from error
