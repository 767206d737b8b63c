"""The plugin: it reads the stream of its gate, and is the Python interface of what is read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import trio

from actors import Observer, Token
from actors.lowlevel import Worker
from tokengate._exceptions import GateState
from tokengate.control._admission import admission
from tokengate.control._exceptions import BadRequest, Refused
from tokengate.control.messages import Event, HealthPart
from tokengate.control.registry import Plugin
from tokengate.control.stream._events import event_of
from tokengate.control.stream._queued import Queued
from tokengate.control.stream._record import Entry
from tokengate.control.stream._stream import Stream
from tokengate.telemetry._figures import Figures, OperationFigures, WholeFigures
from tokengate.telemetry._kinds import ChartPoint, Charts, Metric, Metrics, OperationRow, Operations
from tokengate.telemetry._load import Load
from tokengate.telemetry._samples import Sample
from tokengate.telemetry._series import FINE, TENFOLD, Point, Ring
from tokengate.telemetry._sketch import MEBIBYTE
from tokengate.telemetry._thinning import Thinning
from tokengate.telemetry._watching import Watching, label_of

if TYPE_CHECKING:
    from tokengate.telemetry._prometheus import Families, MetricCollector, Prometheus

_LOSS_COUNTS: Final = 60.0  # seconds for which a loss is a part of the gate's health

Sink: TypeAlias = Callable[[Sequence[Event]], object]


class Exporter(Protocol):
    """Passes records on in a form of its own, such as spans."""

    def start(self, gate: Any, stream: Stream, telemetry: Any, /) -> Observer | None:
        """Begin, when the gate opens, before it has tokens; return what observes these."""
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

    Attributes:
        past: answers `operations(since=)`: called with the pattern and the time; set by what keeps history.

    Raises:
        ValueError: an argument is of another type, or out of its bounds.
    """

    past: Callable[[str, str], tuple[OperationRow, ...]] | None = None

    def __init__(
        self,
        otel: Exporter | None = None,
        prometheus: Prometheus | None = None,
        sinks: Iterable[Sink] = (),
        thin_above: int = 10_000,
        internal: bool = False,
    ) -> None:
        if otel is not None and not (hasattr(otel, "start") and hasattr(otel, "stop")):
            raise ValueError(f"otel is {otel!r}; it must be an OpenTelemetry(...), or None")
        if prometheus is not None and not hasattr(prometheus, "tags"):
            raise ValueError(f"prometheus is {prometheus!r}; it must be a Prometheus(...), or None")
        functions = tuple(sinks) if isinstance(sinks, Iterable) else (sinks,)
        for function in functions:
            if not callable(function):
                raise ValueError(f"sinks has {function!r}; it must be a list of functions that take a list of events")
        if isinstance(thin_above, bool) or not isinstance(thin_above, int) or thin_above < 1:
            raise ValueError(f"thin_above is {thin_above!r}; it must be a number of records a second, 1 or more")
        self._otel = otel
        self._tags = () if prometheus is None else prometheus.tags
        self._functions: tuple[Sink, ...] = functions
        self._thin_above = thin_above
        self._internal = internal
        self._figures: Figures | None = None
        self._families: list[Families] = []

    def observer(self, gate: Any, /) -> Observer | None:
        """Begin to read the stream of the gate."""
        system = gate._system
        self._stream: Stream = gate._stream
        collector = self._stream.collector
        collector.internal = self._internal
        self._lost: dict[str, int] = {}
        self._loss_since = 0.0
        self._loss_ends: float | None = None  # when the gate counts as healthy again
        self._load = Load(system)
        self._thinning = Thinning(collector, self._thin_above)
        figures = Figures(collector, partial(label_of, system), self._tags)
        self._watching = Watching(system, figures, collector.measured, self._internal)
        self._figures = figures
        self._families = []
        self._used = time.process_time()
        figures.whole.look = self._look
        self._figures.at_end = self._stop
        observer = None if self._otel is None else self._otel.start(gate, self._stream, self)
        self._load.start()
        self._watching.start()
        self._stream.before_pass(self._pass)
        self._stream.attach(figures)
        for number, function in enumerate(self._functions):
            name = getattr(function, "__qualname__", type(function).__qualname__)
            self._stream.attach(_sink(f"sinks[{number}] ({name})", function, self._stream))
        return observer

    def answers(self, gate: Any, /) -> object:  # noqa: ARG002
        return TelemetryAnswers(self)

    def health(self, gate: Any, /) -> Iterable[HealthPart]:  # noqa: ARG002
        if self._loss_ends is None:
            yield HealthPart("telemetry")
        else:
            lost = ", ".join(f"'{name}' {number:,}" for name, number in self._lost.items())
            yield HealthPart("telemetry", "degraded", self._loss_since, f"records were lost: {lost}")

    def _pass(self, now: float) -> None:
        """Do what is due; on the stream's thread, each 100 ms and more often in a flood."""
        self._thinning.look(now)
        if self._open.tick(now):
            self._note_loss(now)
            self._watching.look(now)

    def _look(self, seconds: float) -> tuple[float | None, ...]:
        """Return the figures of the process that `ChartPoint` has, for so many seconds that are over."""
        before, self._used = self._used, time.process_time()
        saturation = self._load.saturation
        return (
            float(len(self.gate._system.live)),
            (self._used - before) / seconds,
            self._load.resident,
            *(saturation.get(name) for name in ("cpu", "process", "io")),
        )

    def _note_loss(self, now: float) -> None:
        lost = self._stream.lost()
        if lost != self._lost:
            if self._loss_ends is None:
                self._loss_since = self._stream.utc(now)
            self._lost, self._loss_ends = lost, now + _LOSS_COUNTS
        elif self._loss_ends is not None and now > self._loss_ends:
            self._loss_ends = None

    def _stop(self) -> None:
        self._watching.stop()
        self._load.stop()
        if self._otel is not None:
            self._otel.stop()

    @property
    def _open(self) -> Figures:
        if self._figures is None:
            raise GateState("there are no figures of a gate that was not opened; use 'with gate:'")
        return self._figures

    def watch_memory(self, note: Callable[[Worker, Token[Any], int], object]) -> None:
        """Have a function called with each child process, its token and its bytes, as the token ends there.

        Raises:
            GateState: the gate was not opened.
        """
        self._open  # noqa: B018  # it raises
        self._watching.on_memory = note

    def add_metrics(self, families: Families) -> None:
        """Have more metrics in each scrape.

        Args:
            families: called with the module `prometheus_client.core`; returns them. Their series count for the 2,000.

        Raises:
            GateState: the gate was not opened.
        """
        self._open  # noqa: B018  # it raises
        self._families.append(families)

    # Figures

    def operations(self, name: str = "", *, since: str = "") -> tuple[OperationRow, ...]:
        """Return the figures of operations.

        Args:
            name: of one, or a pattern; empty for all.
            since: a time, or how long ago, as text; then they come from history.

        Raises:
            GateState: the gate was not opened.
            BadRequest: the gate keeps no history.
        """
        if since:
            if self.past is None:
                raise BadRequest("this gate keeps no history; open it with plugins=[History(DIRECTORY)]")
            return self.past(name, since)
        figures = self._open
        self._stream.flush()
        with figures.lock:
            for known in list(self._stream.collector.tallies):
                figures.operation(known)
            return tuple(self._row(one) for one in figures.rows(lambda known: not name or fnmatchcase(known, name)))

    def _row(self, operation: OperationFigures) -> OperationRow:
        tally = self._stream.collector.tallies.get(operation.name)
        wait, run = operation.spread()
        memory = operation.memory.quantile(0.95)
        counts: dict[str, Any] = {} if tally is None else {**tally.counts()}
        return OperationRow(
            operation.name,
            **counts,
            rate=operation.rate,
            wait_p95=wait.quantile(0.95),
            run_p50=run.quantile(0.5),
            run_p95=run.quantile(0.95),
            cpu=operation.cpu.total / operation.cpu.count if operation.cpu.count else None,
            memory=None if memory is None else round(memory * MEBIBYTE),
            queue=operation.queue,
            backlog=operation.backlog,
        )

    def series(self, name: str, *, seconds: float = FINE) -> tuple[Point, ...]:
        """Return the figures of an operation over time, the oldest first.

        Args:
            name: of the operation.
            seconds: how far back; up to 120 in points of a second, up to 1,800 in points of ten.

        Raises:
            GateState: the gate was not opened.
            BadRequest: no operation has this name.
        """
        figures = self._open
        self._stream.flush()
        with figures.lock:
            found = figures.operations.get(name)
            if found is None:
                raise BadRequest(f"no operation is called '{name}'; 'tokengate operations' lists them")
            ring, since = _since(found, seconds)
            return tuple(ring.points(since, self._stream.utc(0.0)))

    def charts(self, name: str = "", *, seconds: float = FINE) -> tuple[ChartPoint, ...]:
        """Return the figures of the gate over time, or of an operation, the oldest first.

        Args:
            name: of the operation; empty for the gate.
            seconds: how far back; up to 120 in points of a second, up to 1,800 in points of ten.

        Raises:
            GateState: the gate was not opened.
            BadRequest: no operation has this name.
        """
        if name:
            return tuple(
                ChartPoint(one.at, one.seconds, one.rate, one.failures, one.wait_p95, one.run_p95, one.queue)
                for one in self.series(name, seconds=seconds)
            )
        whole = self._open.whole
        self._stream.flush()
        with self._open.lock:
            ring, since = _since(whole, seconds)
            points = list(ring.values(since))
        offset, each = self._stream.utc(0.0), 1 if ring is whole.fine else TENFOLD
        return tuple(_point(at + offset, each, values) for at, values in points)

    def samples(self, token: int) -> tuple[Sample, ...]:
        """Return what a token used each second while it ran, the oldest first; none if it took no second.

        Those of the latest 1,000 long tokens are kept.

        Args:
            token: its id.

        Raises:
            GateState: the gate was not opened.
        """
        self._open  # noqa: B018  # it raises
        return self._watching.samples(token)

    @property
    def load(self) -> Load:
        """Garbage collection, lag of loops and threads, saturation and pressure.

        Raises:
            GateState: the gate was not opened.
        """
        self._open  # noqa: B018  # it raises
        return self._load

    # Metrics

    def collector(self) -> MetricCollector:
        """Return a collector for a registry of `prometheus_client`.

        Raises:
            GateState: the gate was not opened.
            ModuleNotFoundError: the package is missing; the text says how to install it.
        """
        from tokengate.telemetry._prometheus import MetricCollector  # here, since it needs the extra

        figures, system = self._open, self.gate._system
        return MetricCollector(figures, self._load, self._stream, lambda: system.restarts, self._tags, self._families)

    def metrics(self, name: str = "") -> str:
        """Return the metrics in the text format of Prometheus.

        Args:
            name: of one, or a pattern; empty for all.

        Raises:
            GateState: the gate was not opened.
            ModuleNotFoundError: the package `prometheus-client` is missing.
        """
        self._stream.flush()
        return "".join(text for _, text in self.collector().text(name))


class TelemetryAnswers:
    """Answers the verbs of telemetry, on threads, since adding up takes milliseconds.

    Args:
        telemetry: has the figures.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._limiter = trio.CapacityLimiter(2)

    async def operations(self, message: Operations) -> tuple[OperationRow, ...]:
        _check_sight("operations")
        return await trio.to_thread.run_sync(
            lambda: self._telemetry.operations(message.select, since=message.since), limiter=self._limiter
        )

    async def charts(self, message: Charts) -> tuple[ChartPoint, ...]:
        _check_sight("charts")
        return await trio.to_thread.run_sync(
            lambda: self._telemetry.charts(message.select, seconds=message.seconds), limiter=self._limiter
        )

    async def metrics(self, message: Metrics) -> tuple[Metric, ...]:
        _check_sight("metrics")
        try:
            found = await trio.to_thread.run_sync(
                lambda: self._telemetry.collector().text(message.select), limiter=self._limiter
            )
        except ModuleNotFoundError as error:
            raise BadRequest(str(error)) from error
        return tuple(Metric(*one) for one in found)


def _since(figures: OperationFigures | WholeFigures, seconds: float) -> tuple[Ring, int]:
    """Return the series that reaches so far back, and the number of its first point there."""
    ring, each = (figures.fine, 1) if seconds <= FINE else (figures.coarse, TENFOLD)
    return ring, ring.last - int(seconds // each) + 1


def _point(at: float, seconds: int, values: tuple[Any, ...]) -> ChartPoint:
    ended, failed, wait, run, queued, live, cpu, memory, *saturation = values
    live, memory = (None if value is None else round(value) for value in (live, memory))
    return ChartPoint(at, seconds, ended, failed, wait, run, queued, live, cpu, memory, *saturation)


def _check_sight(verb: str) -> None:
    if not admission().sees_all:
        raise Refused(f"'{verb}' has figures over all tokens; it needs the right 'view' without a selector")


def _sink(name: str, function: Sink, stream: Stream) -> Queued:
    def take(entries: Sequence[Entry]) -> None:
        function([event_of(entry, stream) for entry in entries])

    return Queued(name, take)
