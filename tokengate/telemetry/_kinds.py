"""The nouns of telemetry: operations with their figures, charts, and metrics."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import attrs
from msgspec import Meta

from tokengate.control.messages import Listing
from tokengate.control.registry import Kind
from tokengate.control.registry._kinds import declare

_SPARSE: Final = {"sparse": True}
"""Marks a field that few rows have: a table in which none has it has no column for it."""


@attrs.frozen
class OperationRow:
    """The figures of an operation. Durations are seconds, sizes bytes; what is unknown is None.

    Attributes:
        name: of the operation; `_other` has those beyond 200.
        completed, failed, terminated, expired, rejected: tokens that ended so.
        retried: attempts that another one followed.
        rate: tokens that ended in the latest second, or a second over the time that was asked for.
        wait_p95: in the queue; 19 of 20 attempts were faster.
        run_p50, run_p95: running.
        cpu: processor time of an attempt; the mean of those that were measured.
        memory: of a child process, at the peak; 19 of 20 were smaller.
        queue: tokens that are queued at its places.
        backlog: until what is queued will have begun.
        estimated: whether the times are of some of the attempts only.
        missing: from history: what is not in the figures; empty: nothing.
    """

    name: str
    completed: int = 0
    failed: int = 0
    terminated: int = attrs.field(default=0, metadata=_SPARSE)
    expired: int = attrs.field(default=0, metadata=_SPARSE)
    rejected: int = attrs.field(default=0, metadata=_SPARSE)
    retried: int = attrs.field(default=0, metadata=_SPARSE)
    rate: float | None = None
    wait_p95: float | None = None
    run_p50: float | None = None
    run_p95: float | None = None
    cpu: float | None = attrs.field(default=None, metadata=_SPARSE)
    memory: int | None = attrs.field(default=None, metadata=_SPARSE)
    queue: int | None = attrs.field(default=None, metadata=_SPARSE)
    backlog: float | None = attrs.field(default=None, metadata=_SPARSE)
    estimated: bool = attrs.field(default=False, metadata=_SPARSE)
    missing: str = attrs.field(default="", metadata=_SPARSE)


@attrs.frozen
class Operations(Listing[OperationRow]):
    """Show tokens by state, rate, times, memory and queue of operations.

    Raises:
        BadRequest: `since` cannot be read, or the gate has no history.
        Refused: the caller may not see all tokens.
    """

    examples: ClassVar[tuple[str, ...]] = ("operations", "operations resize", "operations --since 1d")
    select: Annotated[
        str,
        Meta(
            description="Name of an operation, or a pattern such as `Stock.*`; empty for all.",
            extra={"metavar": "NAME"},
        ),
    ] = ""
    since: Annotated[
        str, Meta(description="From history instead: since a time, or so long ago (`2h`).", extra={"metavar": "TIME"})
    ] = attrs.field(default="", kw_only=True)


@attrs.frozen
class Metric:
    """A metric.

    Attributes:
        name: of the metric.
        text: its samples, with what it means, in the text format of Prometheus.
    """

    name: str
    text: str

    def __rich__(self) -> str:
        return self.text.rstrip()


@attrs.frozen
class Metrics(Listing[Metric]):
    """Show the metrics of the gate in the format of Prometheus.

    Raises:
        BadRequest: the package `prometheus_client` is missing.
        Refused: the caller may not see all tokens.
    """

    examples: ClassVar[tuple[str, ...]] = ("metrics", "metrics 'tokengate_run_*'")
    select: Annotated[
        str, Meta(description="Name of a metric, or a pattern; empty for all.", extra={"metavar": "NAME"})
    ] = ""


@attrs.frozen
class ChartPoint:
    """The figures of the gate, or of an operation, over a second or ten. What is unknown is None.

    Attributes:
        at: its beginning, in seconds since the epoch.
        seconds: 1 or 10.
        ended: tokens that ended, a second.
        failed: of these, those that did not complete, a second.
        wait_p95, run_p95: seconds queued and running; 19 of 20 attempts were faster.
        queued: tokens queued at the end.
        live: tokens that had not ended at the end, those of the runtime itself among them.
        cpu: processor time that the process used, a second: 1.0 is one core.
        memory: bytes of the process that are resident.
        cpu_saturation, process_saturation, io_saturation: share of the ten seconds before its end in which all CPU
            threads, all worker processes, the io loop were busy.
    """

    at: float
    seconds: int
    ended: float
    failed: float
    wait_p95: float | None = None
    run_p95: float | None = None
    queued: float | None = None
    live: int | None = attrs.field(default=None, metadata=_SPARSE)
    cpu: float | None = attrs.field(default=None, metadata=_SPARSE)
    memory: int | None = attrs.field(default=None, metadata=_SPARSE)
    cpu_saturation: float | None = attrs.field(default=None, metadata=_SPARSE)
    process_saturation: float | None = attrs.field(default=None, metadata=_SPARSE)
    io_saturation: float | None = attrs.field(default=None, metadata=_SPARSE)


@attrs.frozen
class Charts(Listing[ChartPoint]):
    """Show the figures of the gate over time.

    The oldest ones come first.

    Raises:
        BadRequest: no operation has this name.
        Refused: the caller may not see all tokens.
    """

    examples: ClassVar[tuple[str, ...]] = ("charts", "charts resize --seconds 1800")
    select: Annotated[
        str, Meta(description="Name of an operation; empty for the whole gate.", extra={"metavar": "NAME"})
    ] = ""
    seconds: Annotated[
        float,
        Meta(
            description="How far back: up to 120 in points of a second, up to 1,800 in points of ten.",
            ge=1,
            le=1_800,
            extra={"metavar": "SECONDS"},
        ),
    ] = attrs.field(default=120.0, kw_only=True)


OPERATION: Final = declare(Kind("operation", OperationRow, Operations, plugin="Telemetry()", derived=False))
CHART: Final = declare(Kind("chart", ChartPoint, Charts, plugin="Telemetry()"))
METRIC: Final = declare(Kind("metric", Metric, Metrics, plugin="Telemetry()"))
