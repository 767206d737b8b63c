"""Figures of operations and places: a reader of the stream, which counts on the stream's thread.

A record costs one look and two counts, in the buckets of the present second. Each second these are added up.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import attrs

from tokengate.control.stream._collector import OTHER, Collector
from tokengate.control.stream._record import FINISHED, RETRIED, Batch, More
from tokengate.telemetry._series import COARSE, FINE, TENFOLD, Ring
from tokengate.telemetry._sketch import MEBIBYTE, SCALE, ZERO, Sketch, bucket_at, upper_bound, value_of, within

PLACES: Final = 200
"""Places that have figures of their own; the rest have them together, as `OTHER`."""
GONE: Final = 300.0
"""Seconds for which the figures of a place stay after it has gone."""

TAG_VALUES: Final = 50
"""Values of a tag that are told apart; the rest are `OTHER`."""

_PATHS: Final = 4_096  # places of actors that are known by their path; then all are found anew
_ENOUGH: Final = 20  # attempts after which the slow ones of an operation are known
_TRACES: Final = 16  # attempts with a trace that are kept for exemplars, one a power of 4
_TAGGED: Final = 500  # combinations of operation, state and tag values that are counted


class PlaceFigures:
    """A place of an operation, an actor, or of all dynamic children of a class.

    Attributes:
        label: its path, or the class.
        wait: seconds in its queue.
        queued, running: tokens at the latest look.
        concurrency: how many run at once, at most; 0: there is none any more.
        seen: when it was last there.
    """

    __slots__ = ("concurrency", "label", "queued", "running", "seen", "wait", "window")

    def __init__(self, label: str, now: float) -> None:
        self.label = label
        self.wait = Sketch()
        self.window = Window()
        self.queued = self.running = self.concurrency = 0
        self.seen = now

    @property
    def backlog(self) -> float | None:
        """Seconds until what is queued will have begun; None where no run is known."""
        median = self.window.quantile(0.5)
        if median is None or not self.concurrency:
            return None
        return self.queued * median / self.concurrency


class Window:
    """How values were spread over the last ten to twenty seconds in which there were some."""

    __slots__ = ("_before", "_now")

    def __init__(self) -> None:
        self._before, self._now = Sketch(), Sketch()

    def merge(self, buckets: Mapping[int, int]) -> None:
        """Add the values of a second."""
        self._now.merge(buckets, 0.0)

    def turn(self) -> Sketch:
        """Begin another ten seconds; return the values of those that are over."""
        over = self._now
        if over.count:
            self._before, self._now = over, Sketch()
        return over

    def bucket(self, share: float) -> int | None:
        """Return the bucket that a share of the values reaches; None without values."""
        both = self._before.copy()
        both.merge(self._now.buckets, 0.0)
        return bucket_at(both.buckets, both.count, share)

    def quantile(self, share: float) -> float | None:
        """Return the same as a value."""
        bucket = self.bucket(share)
        return None if bucket is None else value_of(bucket)


class Cell:
    """What one operation does at one place, in the present second."""

    __slots__ = ("operation", "place", "run", "runs", "wait", "waits")

    def __init__(self, operation: OperationFigures, place: PlaceFigures) -> None:
        self.operation, self.place = operation, place
        self.clear()

    def add_waits(self, wait: Sketch) -> None:
        """Add those of the present second to a sketch."""
        wait.merge(within(self.wait), self.waits)

    def clear(self) -> None:
        self.wait: defaultdict[int, int] = defaultdict(int)
        self.run: defaultdict[int, int] = defaultdict(int)
        self.waits = self.runs = 0.0


@attrs.frozen
class Traced:
    """An attempt with a trace.

    Attributes:
        trace_id: of its span.
        run: seconds.
        ended: when, by the gate's clock.
    """

    trace_id: str
    run: float
    ended: float


class OperationFigures:
    """An operation.

    Attributes:
        name: of the operation.
        wait, run, cpu, memory: seconds queued, running, of processor time; mebibytes.
        fine, coarse: its series.
        window: seconds running, lately.
        rate: tokens that ended in the latest second.
        traced: {power of 4: the latest attempt with a trace that took up to so many seconds}.
        cells: {label of a place: what it does there}.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.wait, self.run, self.cpu, self.memory = Sketch(), Sketch(), Sketch(), Sketch()
        self.fine, self.coarse = Ring(FINE, 1), Ring(COARSE, TENFOLD)
        self.window = Window()
        self.waits = Window()
        self.rate = 0.0
        self.traced: dict[int, Traced] = {}
        self.cells: dict[str, Cell] = {}
        self.ended = self.failed = self.ended_before = self.failed_before = 0

    def spread(self) -> tuple[Sketch, Sketch]:
        """Return wait and run, with the present second."""
        wait, run = self.wait.copy(), self.run.copy()
        for cell in self.cells.values():
            cell.add_waits(wait)
            run.merge(within(cell.run), cell.runs)
        return wait, run

    @property
    def queue(self) -> int:
        """Tokens queued at its places; those of an actor are queued for all its methods."""
        return sum(cell.place.queued for cell in self.cells.values())

    @property
    def backlog(self) -> float | None:
        """The longest backlog of its places, in seconds."""
        return max((found for cell in self.cells.values() if (found := cell.place.backlog) is not None), default=None)


_PROCESS: Final = 6
"""How many figures of the process each point of the gate has."""


class WholeFigures:
    """All operations together, and the process.

    Attributes:
        fine, coarse: the series; each point has tokens that ended and those that failed, a second, the p95 of wait and
            of run, tokens queued, and what `look` returns.
        look: returns `_PROCESS` figures of the process.
    """

    def __init__(self) -> None:
        self.fine, self.coarse = Ring(FINE, 1, 5 + _PROCESS), Ring(COARSE, TENFOLD, 5 + _PROCESS)
        self.look: Callable[[float], tuple[float | None, ...]] = lambda _seconds: (None,) * _PROCESS
        self._waits, self._runs = Window(), Window()

    def put(self, seconds: range, cells: Iterable[Cell], rate: float, failures: float, queued: int) -> None:
        """Put the points of seconds that are over."""
        wait, run = Sketch(), Sketch()
        for cell in cells:
            wait.merge(within(cell.wait), 0.0)
            run.merge(within(cell.run), 0.0)
        self._waits.merge(wait.buckets)
        self._runs.merge(run.buckets)
        spread = (wait.quantile(0.95), run.quantile(0.95))
        point = (rate, failures, *spread, float(queued), *self.look(float(len(seconds))))
        for second in seconds:
            self.fine.put(second, point)

    def turn(self, tens: range) -> None:
        """Put the points of tens of seconds that are over: means of what is over a time, and else the latest value."""
        wait, run = self._waits.turn(), self._runs.turn()
        fine = [values for at, values in self.fine.values(tens[0] * TENFOLD) if at < (tens[-1] + 1) * TENFOLD]
        if fine:
            rate, failures = (sum(one[at] for one in fine) / len(fine) for at in (0, 1))
            point = (rate, failures, wait.quantile(0.95), run.quantile(0.95), *fine[-1][4:])
            for ten in tens[-COARSE:]:
                self.coarse.put(ten, point)


class Figures:
    """The figures of all operations and places of a gate; a sink of its stream.

    Args:
        collector: of the stream.
        label_of: returns the label of a place: its path, or the class of a dynamic child. Called with path and
            operation.
        tags: names of tags by whose values tokens are counted.
    """

    name = "figures"
    lost = 0
    at_end: Callable[[], object] = staticmethod(lambda: None)  # called when the stream ends

    def __init__(self, collector: Collector, label_of: Callable[[str, str], str], tags: Iterable[str] = ()) -> None:
        self.operations: dict[str, OperationFigures] = {}
        self.places: dict[str, PlaceFigures] = {}
        self.tagged: dict[tuple[str, ...], int] = {}  # {(operation, state, value of each tag): tokens}
        self.whole = WholeFigures()
        self.lock = threading.Lock()  # held while any of this is read or written
        self._tags = tuple(tags)
        self._values: dict[str, set[str]] = {tag: set() for tag in self._tags}
        self._collector = collector
        self._label_of = label_of
        self._known: dict[str, dict[str, Cell]] = {}  # {operation: {path: cell}}, of what was seen lately
        self._paths = 0
        self._second: int | None = None  # the latest that was added up
        self._ten = 0

    # Records

    def take(self, batch: Batch) -> None:
        """Count the attempts of a batch."""
        known, log2, ceil = self._known, math.log2, math.ceil
        with self.lock:
            for raw in batch.items:
                if type(raw) is not tuple:
                    continue
                _, _, name, path, _, _, _, _, _, _, _, created, queued, started, ended, _, weight, kind, more = raw
                if kind is not FINISHED and kind != RETRIED:
                    continue
                try:
                    cell = known[name][path]
                except KeyError:
                    cell = self._find(name, path, ended)
                wait = (ended if started is None else started) - (created if queued is None else queued)
                if more is not None:
                    wait -= more.kept
                    self._count_more(cell, raw, more)
                cell.wait[ceil(log2(wait) * SCALE) if wait > 0.0 else ZERO] += weight
                cell.waits += wait * weight
                if started is not None:
                    run = ended - started if more is None else ended - started - more.parked
                    cell.run[ceil(log2(run) * SCALE) if run > 0.0 else ZERO] += weight
                    cell.runs += run * weight
                if self._tags and kind is FINISHED:
                    self._count_tags(cell.operation.name, raw)

    def close(self, _seconds: float, /) -> str:
        self.at_end()
        return ""

    def _find(self, name: str, path: str, now: float) -> Cell:
        operation = self.operation(name)
        if self._paths >= _PATHS:
            self._known.clear()
            self._paths = 0
        self._paths += 1
        place = self.place(self._label_of(path, name), now)
        cell = operation.cells.get(place.label)
        if cell is None:
            cell = operation.cells[place.label] = Cell(operation, place)
        self._known.setdefault(name, {})[path] = cell
        return cell

    def operation(self, name: str) -> OperationFigures:
        """Return the figures of an operation; under the lock."""
        name = name if name in self._collector.tallies else OTHER
        found = self.operations.get(name)
        if found is None:
            found = self.operations[name] = OperationFigures(name)
        return found

    def place(self, label: str, now: float) -> PlaceFigures:
        """Return the figures of a place; under the lock."""
        found = self.places.get(label)
        if found is None:
            if len(self.places) >= PLACES:
                label = OTHER
            found = self.places.setdefault(label, PlaceFigures(label, now))
        found.seen = now
        return found

    def _count_more(self, cell: Cell, raw: tuple[object, ...], more: More) -> None:
        operation, weight = cell.operation, raw[16]
        assert isinstance(weight, int)
        if more.cpu is not None:
            operation.cpu.add(more.cpu, weight)
        if more.memory is not None:
            operation.memory.add(more.memory / MEBIBYTE, weight)
        started, ended = raw[13], raw[14]
        if more.trace_id and isinstance(started, float) and isinstance(ended, float):
            run = ended - started - more.parked
            power = math.ceil(math.log2(run) / 2) if run > 0.0 else -_TRACES
            operation.traced[max(-_TRACES, min(power, _TRACES))] = Traced(more.trace_id, run, ended)

    def _count_tags(self, name: str, raw: tuple[object, ...]) -> None:
        tags, state, weight = raw[7], raw[10], raw[16]
        values = []
        for tag in self._tags:
            value = str(tags.get(tag, "")) if isinstance(tags, Mapping) else ""
            seen = self._values[tag]
            if value not in seen:
                if len(seen) < TAG_VALUES:
                    seen.add(value)
                else:
                    value = OTHER
            values.append(value)
        key = (name, str(state), *values)
        if key not in self.tagged and len(self.tagged) >= _TAGGED:
            key = (name, str(state), *(OTHER for _ in values))
        assert isinstance(weight, int)
        self.tagged[key] = self.tagged.get(key, 0) + weight

    # Seconds

    def tick(self, now: float) -> bool:
        """Add up the second that is over, if one is; return whether that is so. On the stream's thread."""
        second = math.floor(now)
        if self._second is None:
            self._second, self._ten = second - 1, second // TENFOLD
        if second - self._second <= 1:
            return False
        seconds = range(max(self._second + 1, second - FINE), second)  # one, unless the thread was late
        with self.lock:
            for name in list(self._collector.tallies):
                self.operation(name)
            cells = [cell for operation in self.operations.values() for cell in operation.cells.values()]
            for cell in cells:
                self._add_up(cell)
            ended = [self._put_points(operation, seconds) for operation in self.operations.values()]
            queued = sum(place.queued for place in self.places.values())
            self.whole.put(seconds, cells, sum(one for one, _ in ended), sum(one for _, one in ended), queued)
            if second // TENFOLD > self._ten:
                self._turn(second // TENFOLD)
            for cell in cells:
                cell.clear()
            self._forget(now)
        self._second = second - 1
        return True

    def _add_up(self, cell: Cell) -> None:
        operation, place = cell.operation, cell.place
        if cell.wait:
            wait = within(cell.wait)
            operation.wait.merge(wait, cell.waits)
            operation.waits.merge(wait)
            place.wait.merge(wait, cell.waits)
        if cell.run:
            run = within(cell.run)
            operation.run.merge(run, cell.runs)
            operation.window.merge(run)
            place.window.merge(run)

    def _put_points(self, operation: OperationFigures, seconds: range) -> tuple[float, float]:
        """Put the points of seconds that are over; return how many tokens ended in each, and how many failed."""
        tally = self._collector.tallies.get(operation.name)
        if tally is None:
            return 0.0, 0.0
        counts = tally.counts()
        operation.ended = sum(count for state, count in counts.items() if state != "retried")
        operation.failed = operation.ended - counts["completed"]
        operation.rate = 0.0
        wait, run = Sketch(), Sketch()
        for cell in operation.cells.values():
            wait.merge(within(cell.wait), 0.0)
            run.merge(within(cell.run), 0.0)
        before, failed = operation.ended_before, operation.failed_before
        rate, failures = (operation.ended - before) / len(seconds), (operation.failed - failed) / len(seconds)
        operation.ended_before, operation.failed_before, operation.rate = operation.ended, operation.failed, rate
        point = (rate, failures, wait.quantile(0.95), run.quantile(0.5), run.quantile(0.95), float(operation.queue))
        for second in seconds:
            operation.fine.put(second, point)
        slow = operation.window.bucket(0.95)
        if slow is not None and operation.run.count >= _ENOUGH:
            tally.slow = upper_bound(slow)
        return rate, failures

    def _turn(self, ten: int) -> None:
        """Put the points of the ten seconds that are over."""
        for operation in self.operations.values():
            fine = [one for one in operation.fine.points(self._ten * TENFOLD, 0.0) if one.at < ten * TENFOLD]
            wait, run = operation.waits.turn(), operation.window.turn()
            if fine:
                rate = sum(one.rate for one in fine) / len(fine)
                failures = sum(one.failures for one in fine) / len(fine)
                spread = (wait.quantile(0.95), run.quantile(0.5), run.quantile(0.95))
                for number in range(max(self._ten, ten - COARSE), ten):
                    operation.coarse.put(number, (rate, failures, *spread, fine[-1].queue))
        for place in self.places.values():
            place.window.turn()
        self.whole.turn(range(self._ten, ten))
        self._ten = ten

    def _forget(self, now: float) -> None:
        """Forget the places that have been gone for five minutes."""
        gone = [label for label, place in self.places.items() if now - place.seen > GONE]
        for label in gone:
            del self.places[label]
            for operation in self.operations.values():
                operation.cells.pop(label, None)
        if gone:
            self._known.clear()
            self._paths = 0

    def rows(self, pattern: Callable[[str], bool]) -> Iterator[OperationFigures]:
        """Yield the operations whose name a pattern matches, in the order of their names; under the lock."""
        for name in sorted(self.operations):
            if pattern(name):
                yield self.operations[name]
