"""Chrome trace JSON, which Perfetto shows: what tokens have done, as slices on lines of time.

A gate has two groups of tracks. In that of its tokens each has a line, on which its attempts are slices, and in these
the times in which it was queued, paused and running. In the other, threads, processes and loops are tracks, with a
slice for each run; a direct call in place is in the slice of its caller, and arrows lead to the runs of other tokens
that a run has made. What else has happened is there, too, and how many tokens ran and were queued. A trace says what it
lacks.

Only tokens that have not ended, and the latest that have, are kept in memory.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final, NamedTuple, TypeAlias

import attrs
import msgspec

from tokengate.control.messages import Event
from tokengate.control.stream._record import LOST

Item: TypeAlias = dict[str, Any]
"""An event of the Chrome trace format; times are microseconds since the epoch."""

_Key: TypeAlias = tuple[str, int]  # of a token: (opening of the gate, id)

_LANES: Final = 64  # tracks of a worker that runs several tokens at once
_KEPT: Final = 20_000  # tokens whose children, and tokens whose parents, may still come; tokens that have not ended
_POINTS: Final = 4_096  # of a counter
_ROUNDED: Final = 2  # microseconds by which times that are equal may differ here
_IN_ATTEMPT: Final = (
    "uid", "actor", "affinity", "attempt", "state", "error", "reason", "parent", "priority", "tags", "key", "trace_id",
    "worker", "steps", "cpu", "memory", "deadline", "weight", "steered",
)  # fmt: skip
_IN_RUN: Final = ("uid", "attempt", "state", "error", "parent")

# What a trace may lack.
_LEFT_OUT: Final = "{} events, which a feed has left out, since its reader was too slow"
_LOST: Final = "records that were lost before they came here: see {} events of telemetry.lost"
_THINNED: Final = "{} ordinary attempts, for which others stand: see their weight"
_PAUSES: Final = "the moments of {} pauses, which were not recorded: they stand before the runs"
_ENDS: Final = "the ends of {} tokens"
_ARROWS: Final = "the arrows to {} tokens, since a parent or its run is not here, or both ends are far apart"
_CROWDED: Final = f"{{}} runs on tracks of workers, since more than {_LANES} ran at once there"
_SHORT: Final = "what came and went between two points of the counters, which are {} us apart"


class Summary(NamedTuple):
    """What a trace has.

    Attributes:
        events: how many it was made of.
        attempts, slices, arrows, instants: how many of these it has.
        since, until: the time that it covers, in seconds since the epoch; None if it is empty.
        lacks: lines that say what is not in it.
    """

    events: int
    attempts: int
    slices: int
    arrows: int
    instants: int
    since: float | None
    until: float | None
    lacks: tuple[str, ...]


def write_trace(events: Iterable[Event], file: IO[bytes], lacks: Iterable[str] = ()) -> Summary:
    """Write the trace of events, as they come.

    Args:
        events: of `watch` or history, in the order in which they happened.
        file: for one JSON object.
        lacks: lines that say what the events lack; read after the last event.

    Returns:
        What was written.
    """
    encode, trace, written = msgspec.json.Encoder().encode, Trace(lacks), Counter[str]()
    file.write(b'{"displayTimeUnit":"ms","traceEvents":[')
    for item in trace.items(events):
        file.write(b",\n" if written else b"\n")
        file.write(encode(item))
        written[item["ph"]] += 1
    file.write(b'\n],"otherData":%s}\n' % encode({"lacks": trace.lacks}))
    since, until = (trace.since / 1e6, trace.until / 1e6) if trace.until else (None, None)
    return Summary(
        trace.events, trace.attempts, written["b"] + written["X"], written["s"], written["i"], since, until,
        tuple(trace.lacks),
    )  # fmt: skip


class _Run(NamedTuple):
    """A run on the track of its worker; `made`: when its token was."""

    pid: int
    tid: int
    start: int
    end: int
    made: int


@attrs.define
class _Lane:
    """A track, to which slices come in the order of their ends."""

    tid: int
    free: int = 0  # from when on nothing is on it
    _outer: list[tuple[int, int, int | None]] = attrs.field(factory=list)  # (start, end, parent): slices in no other

    def place(self, start: int, end: int, token: int | None) -> tuple[int, int] | None:
        """Return start and end of a slice, or None if another one is in the way.

        Args:
            start: of the run.
            end: of the run.
            token: the token, whose children may have run in its place; None: not here.
        """
        outer, keep = self._outer, len(self._outer)
        while keep and token is not None and outer[keep - 1][2] == token and outer[keep - 1][0] >= start - _ROUNDED:
            keep -= 1
        inner = outer[keep:]
        free = self.free if not inner else outer[keep - 1][1] if keep else 0
        if inner:
            start, end = min(start, inner[0][0] - 1), max(end, inner[-1][1])
        if start < free - (0 if inner else _ROUNDED):
            return None
        del outer[keep:]
        start = max(start, free)
        return start, max(end, start + 1)

    def put(self, start: int, end: int, parent: int | None) -> None:
        """Put a slice where it was placed; those of one parent need no room of their own."""
        outer = self._outer
        if outer and outer[-1][2] == parent:
            start = outer.pop()[0]
        outer.append((start, end, parent))
        self.free = end
        del outer[: -4 * _LANES]


@attrs.define
class _Gate:
    """The tracks of one opening of a gate.

    Attributes:
        workers, tokens: pids of its groups.
        lanes: {worker: its tracks}.
        step: microseconds between two points of the counters.
        edges: {microseconds: (queued, running) more from then on}.
    """

    workers: int
    tokens: int
    lanes: dict[str, list[_Lane]] = attrs.field(factory=dict)
    step: int = 1
    edges: dict[int, tuple[int, int]] = attrs.field(factory=dict)

    def count(self, at: int, queued: int, running: int) -> None:
        """Note that so many more are queued, and running, from then on."""
        at = -(-at // self.step) * self.step  # a point says what is true then
        before = self.edges.get(at, (0, 0))
        self.edges[at] = before[0] + queued, before[1] + running
        if len(self.edges) > _POINTS:
            self.step *= 2
            edges, self.edges = self.edges, {}
            for moment, edge in edges.items():
                self.count(moment, *edge)


class Trace:
    """Makes the trace of events.

    Args:
        lacks: lines that say what the events lack; read after the last event.

    Attributes:
        lacks: at the end, these and what else the trace lacks.
        events, attempts: how many it was made of.
        since, until: the time that it covers, in microseconds.
    """

    def __init__(self, lacks: Iterable[str] = ()) -> None:
        self.lacks: list[str] = []
        self._given = lacks
        self.events = self.attempts = self.since = self.until = 0
        self._missing = Counter[str]()
        self._gates: dict[str, _Gate] = {}  # {opening: its tracks}
        self._tracks = 0
        self._live: OrderedDict[_Key, list[Event]] = OrderedDict()  # their moments, until they end
        self._ended: OrderedDict[_Key, None] = OrderedDict()  # the latest tokens that have
        self._retried: OrderedDict[_Key, int] = OrderedDict()  # when the latest attempt ended
        self._runs: OrderedDict[_Key, list[_Run]] = OrderedDict()  # the latest runs
        self._children: OrderedDict[_Key, list[_Run]] = OrderedDict()  # runs that came before that of their parent
        self._waiting = 0  # how many these are

    def items(self, events: Iterable[Event]) -> Iterator[Item]:
        """Return the items of the trace; those about tracks come first, and each item after what it is part of."""
        for event in events:
            self.events += 1
            self.until = max(self.until, _us(event.at))
            self._missing[_LEFT_OUT] += event.lost
            if event.gate_run not in self._gates:
                yield from self._open(event)
            gate = self._gates[event.gate_run]
            if event.kind in ("token.finished", "token.retried"):
                yield from self._attempt(event, gate)
            elif event.kind in ("token.queued", "token.started", "token.paused", "token.resumed"):
                key = _key(event)
                if key not in self._ended:  # else its sender has told late that it was queued
                    self._live.setdefault(key, []).append(event)
                    self._missing[_ENDS] += _shorten(self._live)
            else:
                yield from self._instant(event, gate)
        if any(self._missing[text] for text in (_LEFT_OUT, _LOST, _THINNED)):  # their ends may just not be here
            self._missing[_ENDS] += len(self._live)
        else:
            for moments in self._live.values():
                yield from self._unended(moments, self._gates[moments[0].gate_run])
        for gate in self._gates.values():
            queued = running = 0
            for at, edge in sorted(gate.edges.items()):
                queued, running = queued + edge[0], running + edge[1]
                values = {"running": running, "queued": queued}
                yield {"ph": "C", "name": "tokens", "ts": at, "pid": gate.workers, "args": values}
            self._missing[_SHORT] = max(self._missing[_SHORT], gate.step if gate.step > 1 else 0)
        self._missing[_ARROWS] += self._waiting
        self.lacks = [*self._given, *(text.format(f"{number:,}") for text, number in self._missing.items() if number)]
        for text in self.lacks if self._gates else ():
            yield {"ph": "i", "s": "g", "name": f"lacks {text}", "ts": self.since, "pid": 1, "tid": 0}

    # Tracks

    def _open(self, event: Event) -> Iterator[Item]:
        pid = 2 * len(self._gates) + 1
        self._gates[event.gate_run] = _Gate(pid, pid + 1)
        name = f"{event.gate} {event.gate_run}"
        for number, text in ((pid, name), (pid + 1, f"{name}: tokens")):
            yield {"ph": "M", "name": "process_name", "pid": number, "tid": 0, "args": {"name": text}}
            yield {"ph": "M", "name": "process_sort_index", "pid": number, "tid": 0, "args": {"sort_index": number}}
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": 0, "args": {"name": "events"}}

    def _instant(self, event: Event, gate: _Gate) -> Iterator[Item]:
        self._missing[_LOST] += event.kind == LOST
        at = _us(event.at)
        self.since = min(self.since or at, at)
        yield {
            "ph": "i", "s": "t", "name": event.kind, "cat": event.kind.partition(".")[0], "ts": at, "pid": gate.workers,
            "tid": 0, "args": _some(event, ("text", "actor", "operation", "uid")) | (event.details or {}),
        }  # fmt: skip

    # Tokens

    def _attempt(self, event: Event, gate: _Gate) -> Iterator[Item]:
        key, weight, end = _key(event), event.weight or 1, _us(event.at)
        wait, run, held = (_us(seconds or 0.0) for seconds in (event.wait, event.run, event.held))
        moments = self._live.pop(key, [])
        made = 0 if event.age is None else end - _us(event.age)
        start = min(max(end - wait - run - held, self._retried.pop(key, 0), made), end)
        started, pauses = _started(moments), _pauses(moments, end)
        # Moments are recorded a little later than they are, so they only tell which pauses were before the run.
        kept = (
            held
            if started is None or event.run is None
            else min(held, sum(until - since for since, until in pauses if since < started))
        )
        began = max(start, end - run - held + kept)
        if held and not (pauses and (started or event.run is None)):
            pauses = [(began - held, began)]
            self._missing[_PAUSES] += 1
        if event.kind == "token.retried":
            self._retried[key] = end
            _shorten(self._retried)
        else:
            self._ended[key] = None
            _shorten(self._ended)
        self.attempts += 1
        self._missing[_THINNED] += weight - 1
        gate.count(start, weight, 0)
        gate.count(began, -weight, 0 if event.run is None else weight)
        yield from self._line(event, gate, (start, began, end), pauses, ran=event.run is not None)
        if event.run is not None:
            gate.count(end, 0, -weight)
            yield from self._run(event, gate, began, end)
        elif event.parent is not None:
            self._missing[_ARROWS] += 1

    def _unended(self, moments: list[Event], gate: _Gate) -> Iterator[Item]:
        began = _started(moments)
        times = (_us(moments[0].at), self.until if began is None else began, self.until)
        gate.count(times[0], 1, 0)
        if began is not None:
            gate.count(began, -1, 1)
        yield from self._line(moments[-1], gate, times, _pauses(moments, self.until), ran=began is not None)

    def _line(
        self, event: Event, gate: _Gate, times: tuple[int, int, int], pauses: list[tuple[int, int]], *, ran: bool
    ) -> Iterator[Item]:
        """Return an attempt's slice on the line of its token, with those in it: queued until it began, and the run."""
        start, began, end = times
        self.since = min(self.since or start, start)
        name = f"{event.operation} {event.token}" + (f", attempt {event.attempt}" if (event.attempt or 0) > 1 else "")
        line = {"cat": "token", "id": f"{event.gate_run}.{event.token}", "pid": gate.tokens, "tid": 0}
        yield {"ph": "b", "name": name, "ts": start, **line, "args": _some(event, _IN_ATTEMPT)}
        for part, since, until in (("queued", start, began), ("run", began, end)):
            if not (ran if part == "run" else until > since):
                continue
            yield {"ph": "b", "name": part, "ts": since, **line}
            at = since
            for pause in pauses:
                if (pause[0] < began) == (part == "queued"):
                    at = min(max(at, pause[0]), until)
                    yield {"ph": "b", "name": "paused", "ts": at, **line}
                    at = min(max(at, pause[1]), until)
                    yield {"ph": "e", "name": "paused", "ts": at, **line}
            yield {"ph": "e", "name": part, "ts": until, **line}
        yield {"ph": "e", "name": name, "ts": end, **line}

    def _run(self, event: Event, gate: _Gate, start: int, end: int) -> Iterator[Item]:
        """Return a run's slice on the track of its worker, and the arrows for which it was missing."""
        worker = event.worker or f"{event.affinity}, worker not known"
        lanes = gate.lanes.setdefault(worker, [])
        token = event.token if event.affinity == "cpu" and event.worker else None  # others run several at once
        for lane in lanes:
            if found := lane.place(start, end, token):
                break
        else:
            if len(lanes) == _LANES:
                self._missing[_CROWDED] += 1
                self._missing[_ARROWS] += event.parent is not None
                return
            self._tracks += 1
            name = {"name": f"{worker} ({len(lanes) + 1})" if lanes else worker}
            yield {"ph": "M", "name": "thread_name", "pid": gate.workers, "tid": self._tracks, "args": name}
            lane = _Lane(self._tracks)
            lanes.append(lane)
            found = start, max(end, start + 1)
        lane.put(*found, event.parent)
        run = _Run(gate.workers, lane.tid, *found, _us(event.at) - _us(event.age or 0.0))
        yield {
            "ph": "X", "name": event.operation, "cat": "run", "ts": run.start, "dur": run.end - run.start,
            "pid": run.pid, "tid": run.tid, "args": _some(event, _IN_RUN),
        }  # fmt: skip
        key = _key(event)
        self._runs[key] = [*self._runs.pop(key, ())[1 - _LANES :], run]  # which is the newest entry now
        _shorten(self._runs)
        for child in self._children.pop(key, ()):
            self._waiting -= 1
            yield from self._arrow(key, child)
        if event.parent is not None:
            yield from self._arrow((event.gate_run, event.parent), run)

    def _arrow(self, parent: _Key, child: _Run) -> Iterator[Item]:
        """Return both ends of the arrow to a child; if the run that has made it is still to come, keep the child."""
        runs = self._runs.get(parent, ())
        if not runs or child.made > runs[-1].end + _ROUNDED:
            self._children.setdefault(parent, []).append(child)
            self._waiting += 1
            if self._waiting > _KEPT:
                gone = len(self._children.popitem(last=False)[1])
                self._waiting -= gone
                self._missing[_ARROWS] += gone
            return
        run = next((one for one in runs if one.start - _ROUNDED <= child.made <= one.end + _ROUNDED), child)
        if child.tid == run.tid and run.start < child.start < run.end:
            return  # it ran in the place of its parent's code, and is in its slice
        made = min(max(child.made, run.start), run.end - 1, child.start)
        if made < run.start or run is child:
            self._missing[_ARROWS] += 1
            return
        self._tracks += 1
        both = {"name": "child", "cat": "child", "id": self._tracks}
        yield {"ph": "s", **both, "ts": made, "pid": run.pid, "tid": run.tid}
        yield {"ph": "f", "bp": "e", **both, "ts": child.start, "pid": child.pid, "tid": child.tid}


def _key(event: Event) -> _Key:
    return event.gate_run, event.token or 0


def _some(event: Event, names: Iterable[str]) -> Item:
    """Return those values that an event has."""
    return {name: value for name in names if (value := getattr(event, name)) not in (None, "", {})}


def _shorten(kept: OrderedDict[_Key, Any]) -> int:
    """Drop the oldest entry of what has become too long; return how many were dropped."""
    if len(kept) <= _KEPT:
        return 0
    kept.popitem(last=False)
    return 1


def _started(moments: Iterable[Event]) -> int | None:
    return next((_us(one.at) for one in moments if one.kind == "token.started"), None)


def _pauses(moments: Iterable[Event], end: int) -> list[tuple[int, int]]:
    pauses: list[tuple[int, int]] = []
    for one in moments:
        if one.kind == "token.paused":
            pauses.append((_us(one.at), end))
        elif one.kind == "token.resumed" and pauses:
            pauses[-1] = (pauses[-1][0], _us(one.at))
    return pauses


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
