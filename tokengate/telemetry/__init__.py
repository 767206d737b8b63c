# Telemetry: what tokens do, in numbers and for other systems.
#   _plugin.py      the optional part of a gate, which is the Python interface
#   _kinds.py       operations, charts and metrics, as control has them
#   _prometheus.py  metrics in the form of Prometheus
#   _figures.py     figures of operations and places, from the records of attempts
#   _thinning.py    of how many records one is kept
#   _watching.py    looks at what runs: queues, samples, processor time, memory
#   _load.py        figures of the process: garbage collection, lag, saturation
#   _series.py      figures over time
#   _samples.py     what a token used while it ran
#   _sketch.py      how values are spread
#   _resident.py    the memory of a process
#   _otel.py        spans and metrics of OpenTelemetry; with _otel_metrics.py and _semconv.py (names of attributes)
#   _logs.py        log records as JSON
#   _trace.py       the Chrome trace of events
#   _lines.py       events of JSON lines
#   _out_file.py    files for operators, written whole or not at all
"""Figures of the tokens of a gate, and what passes records on: `Gate("shop", plugins=[Telemetry()])`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tokengate.telemetry._logs import JsonFormatter
    from tokengate.telemetry._otel import OpenTelemetry
    from tokengate.telemetry._plugin import Telemetry
    from tokengate.telemetry._prometheus import Prometheus

__all__ = ["JsonFormatter", "OpenTelemetry", "Prometheus", "Telemetry"]

_HOMES: Final = {
    "JsonFormatter": "_logs",
    "OpenTelemetry": "_otel",
    "Prometheus": "_prometheus",
    "Telemetry": "_plugin",
}
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
