"""The plugin: it reads the stream of its gate, and is the Python interface of what is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from tokengate.control.messages import Event
from tokengate.control.registry import Plugin
from tokengate.control.stream._events import event_of
from tokengate.control.stream._queued import Queued
from tokengate.control.stream._record import Entry
from tokengate.control.stream._stream import Stream


class Exporter(Protocol):
    """Passes records on in a form of its own, such as spans."""

    def start(self, gate: Any, stream: Stream, /) -> object:
        """Begin; when the gate opens, before it has tokens."""
        ...

    def stop(self) -> object:
        """End; when the gate has closed."""
        ...


class Telemetry(Plugin):
    """Figures of the tokens of a gate; on by `Gate("shop", plugins=[Telemetry()])`.

    Args:
        otel: passes spans and metrics on: an `OpenTelemetry`.
        prometheus: options of the metrics, such as the tags that become labels: a `Prometheus`.
        sinks: functions that are called with lists of events, each on a thread of its own; one that raises or blocks
            loses events of its own only.
        thin_above: records a second; above that, of the ordinary ones only one in so many is kept, and has their
            weight.
        internal: whether tokens of the runtime itself are recorded, too.

    Raises:
        ValueError: an argument is of another type, or out of its bounds.
    """

    def __init__(
        self,
        otel: Exporter | None = None,
        prometheus: Any = None,
        sinks: Iterable[Callable[[Sequence[Event]], object]] = (),
        thin_above: int = 10_000,
        internal: bool = False,
    ) -> None:
        self._otel = otel
        self._prometheus = prometheus
        self._functions = tuple(sinks)
        for function in self._functions:
            if not callable(function):
                raise ValueError(
                    f"sinks has {function!r}; each must be a function that is called with a list of events"
                )
        if isinstance(thin_above, bool) or not isinstance(thin_above, int) or thin_above < 1:
            raise ValueError(f"thin_above is {thin_above!r}; it must be a number of records a second, 1 or more")
        self._thin_above = thin_above
        self._internal = internal

    def observer(self, gate: Any, /) -> None:
        """Begin to read the stream of the gate."""
        stream: Stream = gate._stream
        stream.collector.internal = self._internal
        if self._otel is not None:
            self._otel.start(gate, stream)
        for number, function in enumerate(self._functions):
            name = getattr(function, "__qualname__", type(function).__qualname__)
            stream.attach(_sink(f"sinks[{number}] ({name})", function, stream))


def _sink(name: str, function: Callable[[Sequence[Event]], object], stream: Stream) -> Queued:
    def take(entries: Sequence[Entry]) -> None:
        function([event_of(entry, stream) for entry in entries])

    return Queued(name, take)
