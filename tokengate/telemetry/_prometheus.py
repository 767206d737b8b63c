"""Metrics in the form of Prometheus: read from the figures at a scrape, so that tokens pay nothing for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from tokengate.control._safe_text import plain
from tokengate.control.stream._collector import OTHER
from tokengate.control.stream._stream import Stream
from tokengate.telemetry._figures import Figures, OperationFigures, PlaceFigures
from tokengate.telemetry._load import Load
from tokengate.telemetry._sketch import MEBIBYTE, Sketch

if TYPE_CHECKING:
    from prometheus_client.core import Metric

Families: TypeAlias = Callable[[Any], Iterable["Metric"]]
"""Called at a scrape with the module `prometheus_client.core`; returns metrics, of few series each."""

MOST: Final = 2_000
"""Series of a scrape."""

BOUNDS: Final = tuple(4.0**power for power in range(-5, 7))
"""Upper bounds of the buckets of histograms, in seconds: 4^k from 2^-10 to 2^12."""

_QUANTILES: Final = (0.5, 0.95, 0.99)
_FIXED: Final = 100  # series that are there in any case
_OF_OPERATION: Final = len(BOUNDS) + 3 + len(_QUANTILES) + 1
_OF_PLACE: Final = len(BOUNDS) + 3 + 3
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def _tags(given: object) -> tuple[str, ...]:
    names = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else given
    if not isinstance(names, tuple):
        raise ValueError(f'tags is {given!r}; it must be a tuple of names of tags, such as ("tenant",)')
    for name in names:
        if not isinstance(name, str) or not _LABEL.fullmatch(name) or name.startswith("__"):
            raise ValueError(f"tags has {name!r}; each must be a name of letters, digits and _, which a label can have")
        if name in ("operation", "state"):
            raise ValueError(f"tags has {name!r}, which is a label of its own; rename the tag")
    return names


@attrs.frozen
class Prometheus:
    """Options of the metrics; it needs the package `prometheus-client`.

    Args:
        tags: names of tags that become labels of `tokengate_tokens_total`; 50 values of each, the rest are `_other`.

    Raises:
        ValueError: a name cannot be a label.
        ModuleNotFoundError: the package is missing; the text says how to install it.
    """

    tags: tuple[str, ...] = attrs.field(default=(), converter=_tags)

    def __attrs_post_init__(self) -> None:
        _client()


def _client() -> Any:
    try:
        import prometheus_client.core  # here, since only metrics need it
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "metrics need the package prometheus-client: pip install 'tokengate-runtime[prometheus]'"
        ) from error
    return prometheus_client


class MetricCollector:
    """Collects the metrics of a gate: `prometheus_client.REGISTRY.register(telemetry.collector())`.

    Args:
        figures, load: of the gate.
        stream: the same.
        restarts: returns how many actors were restarted.
        tags: names of tags that are labels.
        others: what has metrics, too.
    """

    def __init__(
        self,
        figures: Figures,
        load: Load,
        stream: Stream,
        restarts: Callable[[], int],
        tags: Sequence[str] = (),
        others: Iterable[Families] = (),
    ) -> None:
        self._core = _client().core
        self._figures = figures
        self._load = load
        self._stream = stream
        self._restarts = restarts
        self._tags = tuple(tags)
        self._others = tuple(others)

    def describe(self) -> list[Metric]:
        """Return nothing: what is collected says itself what it is."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield each metric, with at most 2,000 series in all."""
        core = self._core
        counter, gauge = core.CounterMetricFamily, core.GaugeMetricFamily
        more = [family for families in self._others for family in families(core)]
        taken = sum(len(family.samples) for family in more)
        with self._figures.lock:
            totals = self._totals()
            operations, places = self._shown(taken + (len(totals) if self._tags else 0))
            shown = {plain(name) for name in operations}
            tokens = counter("tokengate_tokens", "Tokens that have ended.", labels=("operation", "state", *self._tags))
            for (name, *others), count in _summed(totals, shown).items():
                tokens.add_metric((name, *others), count)
            yield tokens
            yield from self._of_operations(operations)
            yield from self._of_places(places)
        saturation = gauge(
            "tokengate_saturation", "Share of the last 10 s in which all of a resource was busy.", labels=("resource",)
        )
        for name, share in self._load.saturation.items():
            saturation.add_metric((name,), share)
        yield saturation
        yield counter("tokengate_actor_restarts", "Restarts of actors.", value=self._restarts())
        yield self._histogram("tokengate_thread_lag_seconds", "How late a thread wakes.", self._load.lag)
        yield self._histogram("tokengate_gc_pause_seconds", "Garbage collections.", self._load.pauses)
        lost = counter("tokengate_telemetry_lost", "Records that were lost, by the reader.", labels=("sink",))
        for name, number in {"collector": 0, **self._stream.lost()}.items():
            lost.add_metric((name,), number)
        yield lost
        yield from more

    def text(self, pattern: str = "") -> list[tuple[str, str]]:
        """Return (name, samples as text) of each metric whose name a pattern matches; an empty one matches all."""
        client, found = _client(), []
        for metric in self.collect():
            name = metric.name + ("_total" if metric.type == "counter" else "")
            if not pattern or fnmatchcase(name, pattern) or fnmatchcase(metric.name, pattern):
                found.append((name, client.generate_latest(_One(metric)).decode()))
        return found

    def _totals(self) -> dict[tuple[str, ...], int]:
        if self._tags:
            return dict(self._figures.tagged)
        return {
            (name, state): count
            for name, tally in list(self._stream.collector.tallies.items())
            for state, count in tally.counts().items()
            if count and state != "retried"
        }

    def _shown(self, taken: int) -> tuple[dict[str, OperationFigures], dict[str, PlaceFigures]]:
        """Return the operations and the places that have series of their own: those that came first.

        Args:
            taken: series of others.
        """
        operations, places = dict(self._figures.operations), dict(self._figures.places)
        of_operation = _OF_OPERATION + (0 if self._tags else 5)
        room = MOST - _FIXED - taken
        if len(operations) * of_operation + len(places) * _OF_PLACE > room:
            most = room // (of_operation + _OF_PLACE) - 1
            operations = dict(list(operations.items())[:most])
            places = dict(list(places.items())[:most])
        return operations, places

    def _of_operations(self, shown: dict[str, OperationFigures]) -> Iterator[Metric]:
        gauge = self._core.GaugeMetricFamily
        runs = self._core.HistogramMetricFamily("tokengate_run_seconds", "Attempts, running.", labels=("operation",))
        quantiles = gauge(
            "tokengate_run_quantile_seconds",
            "Attempts of the last 10 to 20 s, running.",
            labels=("operation", "quantile"),
        )
        memory = gauge(
            "tokengate_memory_bytes", "Peak of child processes; 19 of 20 attempts stay below.", labels=("operation",)
        )
        rest_run, rest_memory = Sketch(), Sketch()
        for name, operation in self._figures.operations.items():
            run = operation.spread()[1]
            if name not in shown or name == OTHER:
                rest_run.merge(run.buckets, run.total)
                rest_memory.merge(operation.memory.buckets, 0.0)
                continue
            runs.add_metric((plain(name),), self._buckets(run, operation), run.total)
            for quantile in _QUANTILES:
                value = operation.window.quantile(quantile)
                if value is not None:
                    quantiles.add_metric((plain(name), str(quantile)), value)
            if operation.memory.count:
                memory.add_metric((plain(name),), (operation.memory.quantile(0.95) or 0.0) * MEBIBYTE)
        if rest_run.count:
            runs.add_metric((OTHER,), self._buckets(rest_run), rest_run.total)
        if rest_memory.count:
            memory.add_metric((OTHER,), (rest_memory.quantile(0.95) or 0.0) * MEBIBYTE)
        yield from (runs, quantiles, memory)

    def _of_places(self, shown: dict[str, PlaceFigures]) -> Iterator[Metric]:
        core = self._core
        tokens = core.GaugeMetricFamily("tokengate_tokens", "Tokens by place.", labels=("place", "state"))
        waits = core.HistogramMetricFamily("tokengate_wait_seconds", "Attempts, in the queue.", labels=("place",))
        backlog = core.GaugeMetricFamily(
            "tokengate_backlog_seconds", "Until what is queued will have begun.", labels=("place",)
        )
        rest_wait, queued, running = Sketch(), 0, 0
        for label, place in self._figures.places.items():
            wait = place.wait.copy()
            for operation in self._figures.operations.values():
                cell = operation.cells.get(label)
                if cell is not None:
                    cell.add_waits(wait)
            if label not in shown or label == OTHER:
                rest_wait.merge(wait.buckets, wait.total)
                queued, running = queued + place.queued, running + place.running
                continue
            name = (plain(label),)
            tokens.add_metric((*name, "queued"), place.queued)
            tokens.add_metric((*name, "running"), place.running)
            waits.add_metric(name, self._buckets(wait), wait.total)
            if place.backlog is not None:
                backlog.add_metric(name, place.backlog)
        if rest_wait.count or queued or running:
            tokens.add_metric((OTHER, "queued"), queued)
            tokens.add_metric((OTHER, "running"), running)
            waits.add_metric((OTHER,), self._buckets(rest_wait), rest_wait.total)
        yield from (tokens, waits, backlog)

    def _histogram(self, name: str, text: str, sketch: Sketch) -> Metric:
        found = sketch.copy()
        family: Metric = self._core.HistogramMetricFamily(name, text)
        self._core.HistogramMetricFamily.add_metric(family, (), self._buckets(found), found.total)
        return family

    def _buckets(self, sketch: Sketch, operation: OperationFigures | None = None) -> list[tuple[Any, ...]]:
        """Return (bound, how many are up to it) of each bucket, with the newest trace of an attempt in it."""
        found: list[tuple[Any, ...]] = [
            (str(bound), count) for bound, count in zip(BOUNDS, sketch.up_to(BOUNDS), strict=True)
        ]
        found.append(("+Inf", sketch.count))
        for power, traced in sorted(operation.traced.items() if operation else ()):
            at = max(0, min(power + 5, len(BOUNDS)))
            exemplar = self._core.Exemplar({"trace_id": traced.trace_id}, traced.run, self._stream.utc(traced.ended))
            found[at] = (*found[at][:2], exemplar)
        return found


class _One:
    """A registry with one metric."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> list[Metric]:
        return [self._metric]


def _summed(totals: dict[tuple[str, ...], int], shown: set[str]) -> dict[tuple[str, ...], int]:
    """Return counts with those of all operations that are not shown as one."""
    found: dict[tuple[str, ...], int] = {}
    for (name, *others), count in totals.items():
        key = (plain(name) if plain(name) in shown else OTHER, *others)
        found[key] = found.get(key, 0) + count
    return found
