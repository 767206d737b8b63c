"""Metrics of OpenTelemetry: counters and gauges that are read from the collector's counts when they are exported.

An instrument cannot be taken back, and a second one of its name is refused. So there is one set of them for each
provider, which reads the gates that are open.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from actors import ActorSystem, TokenState
from tokengate.control.stream._stream import Stream
from tokengate.telemetry import _semconv

_LIVE: Final = (TokenState.CREATED, TokenState.QUEUED, TokenState.RUNNING, TokenState.PAUSED)


_FIGURES: Final = (
    (_semconv.RUN_P50, "run_p50", "s", "Run of an attempt, median"),
    (_semconv.RUN_P95, "run_p95", "s", "Run of an attempt, of which 19 of 20 were shorter"),
    (_semconv.WAIT_P95, "wait_p95", "s", "Wait in the queue, of which 19 of 20 were shorter"),
    (_semconv.QUEUE, "queue", "{token}", "Tokens that are queued"),
    (_semconv.BACKLOG, "backlog", "s", "Time until what is queued will have begun"),
)


class Figured(Protocol):
    """What has the figures of a gate: its `Telemetry`."""

    def operations(self) -> Sequence[Any]: ...

    @property
    def load(self) -> Any: ...


class Source:
    """The figures of one open gate.

    Args:
        gate: its name.
        system: of the gate.
        stream: the same.
        telemetry: has its figures.
    """

    def __init__(self, gate: str, system: ActorSystem, stream: Stream, telemetry: Figured) -> None:
        self._telemetry = telemetry
        self._gate = {_semconv.GATE: gate}
        self._system = system
        self._stream = stream

    def tokens(self) -> Iterator[Observation]:
        """Yield how many tokens have ended, by operation and state."""
        for operation, counts in self._counts():
            for state, number in counts.items():
                if number and state != "retried":
                    yield Observation(number, {**self._gate, _semconv.OPERATION: operation, _semconv.STATE: state})

    def retries(self) -> Iterator[Observation]:
        """Yield how many attempts were followed by another one, by operation."""
        for operation, counts in self._counts():
            if counts["retried"]:
                yield Observation(counts["retried"], {**self._gate, _semconv.OPERATION: operation})

    def live(self) -> Iterator[Observation]:
        """Yield how many tokens there are that have not ended, by state."""
        tokens = self._system.statistics().tokens
        for state in _LIVE:
            yield Observation(tokens[state], {**self._gate, _semconv.STATE: str(state)})

    def lost(self) -> Iterator[Observation]:
        """Yield how many records were lost, by sink."""
        for sink, number in self._stream.lost().items():
            yield Observation(number, {**self._gate, _semconv.SINK: sink})

    def figures(self, name: str) -> Iterator[Observation]:
        """Yield a figure of each operation that has it: `run_p50`, say."""
        for row in self._telemetry.operations():
            value = getattr(row, name)
            if value is not None:
                yield Observation(value, {**self._gate, _semconv.OPERATION: row.name})

    def saturation(self) -> Iterator[Observation]:
        """Yield the share of the last 10 s in which all of a resource was busy."""
        for resource, share in self._telemetry.load.saturation.items():
            yield Observation(share, {**self._gate, _semconv.RESOURCE: resource})

    def _counts(self) -> Iterator[tuple[str, dict[str, int]]]:
        for operation, tally in list(self._stream.collector.tallies.items()):
            yield operation, tally.counts()


class _Instruments:
    """The instruments of one provider.

    Args:
        provider: None is the one that the program has set, or will set.
    """

    def __init__(self, provider: MeterProvider | None) -> None:
        self.sources: tuple[Source, ...] = ()
        meter = metrics.get_meter(_semconv.SCOPE, meter_provider=provider)
        meter.create_observable_counter(_semconv.TOKENS, [self._all(Source.tokens)], "{token}", "Tokens that ended")
        meter.create_observable_counter(_semconv.RETRIES, [self._all(Source.retries)], "{attempt}", "Attempts retried")
        meter.create_observable_gauge(_semconv.LIVE, [self._all(Source.live)], "{token}", "Tokens that have not ended")
        meter.create_observable_counter(_semconv.LOST, [self._all(Source.lost)], "{record}", "Records that were lost")
        for metric, name, unit, text in _FIGURES:
            meter.create_observable_gauge(metric, [self._all(partial(Source.figures, name=name))], unit, text)
        meter.create_observable_gauge(
            _semconv.SATURATION, [self._all(Source.saturation)], "1", "Share of the last 10 s in which all was busy"
        )

    def _all(
        self, read: Callable[[Source], Iterable[Observation]]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda _options: [observation for source in self.sources for observation in read(source)]


_lock: Final = threading.Lock()
_program: Final[list[_Instruments]] = []  # those of the provider that the program sets
_given: Final[WeakKeyDictionary[MeterProvider, _Instruments]] = WeakKeyDictionary()


def add(provider: MeterProvider | None, source: Source) -> None:
    """Have a provider's instruments read a gate, until `remove`."""
    with _lock:
        instruments = (_program[0] if _program else None) if provider is None else _given.get(provider)
        if instruments is None:
            instruments = _Instruments(provider)
            if provider is None:
                _program.append(instruments)
            else:
                _given[provider] = instruments
        instruments.sources = (*instruments.sources, source)


def remove(source: Source) -> None:
    """Have a gate read no more."""
    with _lock:
        for instruments in (*_program, *_given.values()):
            instruments.sources = tuple(one for one in instruments.sources if one is not source)
