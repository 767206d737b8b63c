"""The service hierarchy of the demo: readers, parsers, an index, and a coordinator that loses nothing."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, Literal

import attrs
import trio

from tokengate import CpuActor, IoActor, Token, TokenState
from tokengate.demo._crash_plan import CrashPlan, InjectedCrash
from tokengate.demo._files import read_cached
from tokengate.demo._measure import Measure, Unmeasurable, measure_steps
from tokengate.errors import ActorDead
from tokengate.types import current_gate

# A file whose processing crashes more often than this is given up; injected crashes do not count.
_ATTEMPTS = 3

_ENTRIES_PER_STEP = 500


class Reader(IoActor):
    """Reads files. What the operating system refuses is an answer, not a crash."""

    expected = (OSError,)

    async def read(self, path: str) -> bytes:
        source = read_cached(path)
        return await trio.Path(path).read_bytes() if source is None else source


class Parser(CpuActor):
    """Measures sources, one step at a time."""

    capacity = 64
    expected = (Unmeasurable,)

    def __init__(self, plan: CrashPlan) -> None:
        super().__init__()
        self._plan = plan

    def measure(self, source: bytes) -> Generator[None, None, Measure]:
        steps = measure_steps(source)
        while True:
            self._plan.strike("parser")
            try:
                next(steps)
            except StopIteration as stop:
                result: Measure = stop.value
                return result
            yield


@attrs.frozen
class Function:
    """A function in the table of the most complex ones."""

    path: str
    function: str
    line: int
    complexity: int


@attrs.frozen
class Totals:
    """What the index knows: the sums over all files in it, and the most complex functions."""

    files: int
    lines: int
    tokens: int
    functions: int
    classes: int
    imports: int
    most_complex: tuple[Function, ...]


class Index(CpuActor):
    """Collects the measures by path. Its state dies with it; the coordinator fills the next one.

    Entries are kept by path, so an entry that comes twice counts once.
    """

    def __init__(self, plan: CrashPlan) -> None:
        super().__init__()
        self._plan = plan
        self._measures: dict[str, Measure] = {}

    def add(self, entries: Mapping[str, Measure]) -> Generator[None, None, int]:
        """Add entries, in bounded steps, and return how many files the index has."""
        for number, (path, measure) in enumerate(entries.items(), start=1):
            self._plan.strike("index")
            self._measures[path] = measure
            if number % _ENTRIES_PER_STEP == 0:
                yield
        return len(self._measures)

    def totals(self, top: int = 10) -> Totals:
        """Sum up. The last step there is, so crashes that are still due happen here."""
        self._plan.strike_all("index")
        return total(self._measures, top)


def total(measures: Mapping[str, Measure], top: int = 10) -> Totals:
    """Sum up measures by path."""
    functions = (
        Function(path, measure.most_complex.function, measure.most_complex.line, measure.most_complex.value)
        for path, measure in measures.items()
        if measure.most_complex is not None
    )
    values = measures.values()
    return Totals(
        files=len(measures),
        lines=sum(measure.lines for measure in values),
        tokens=sum(measure.tokens for measure in values),
        functions=sum(measure.functions for measure in values),
        classes=sum(measure.classes for measure in values),
        imports=sum(measure.imports for measure in values),
        most_complex=tuple(heapq.nsmallest(top, functions, key=lambda f: (-f.complexity, f.path))),
    )


Stage = Literal["waiting", "reading", "parsing", "indexing", "indexed", "failed"]


@attrs.define
class Entry:
    """A file in the ledger."""

    stage: Stage = "waiting"
    source: bytes | None = None  # only while it is parsed
    measure: Measure | None = None
    reason: str | None = None  # why it failed
    attempts: int = 1


@attrs.frozen
class Begin:
    """Message to the coordinator: index these files."""

    paths: tuple[str, ...]


@attrs.frozen
class Ended:
    """Message to the coordinator: a token that it sent for a file has ended."""

    path: str
    token: Token[Any]


@attrs.frozen
class Refilled:
    """Message to the coordinator: the token that refills the index has ended."""

    token: Token[Any]


@attrs.frozen
class Summed:
    """Message to the coordinator: the token that asks the index for its totals has ended."""

    token: Token[Any]


@attrs.frozen
class Progress:
    """Message to the coordinator: how far is it? The answer is a `Report`."""


@attrs.frozen
class Report:
    """How far the coordinator is; `totals` are there when it has finished.

    Attributes:
        stages: {stage: files in it}.
        measures: {path: its figures}, for the files that have been measured.
        failures: {path: reason}, for those that cannot be.
        totals: what the index answered at the end.
    """

    stages: Mapping[Stage, int]
    measures: Mapping[str, Measure] = attrs.field(repr=False)
    failures: Mapping[str, str] = attrs.field(repr=False)
    totals: Totals | None = None


class Coordinator(CpuActor):
    """Owns the ledger of files, hands out the work, and sees each file through to `indexed` or `failed`.

    At most `window` files are under way at once, so memory stays bounded whatever the number of files. New ones
    are handed out when half of the window is free: a reader that is woken for several files at once costs the parser
    fewer switches of the interpreter lock.

    A token that failed because its actor crashed is sent again. When the index has crashed it has lost everything it
    knew, and is filled again from the ledger.
    """

    def __init__(
        self,
        readers: Iterable[str],
        parsers: Iterable[str],
        index: str,
        plan: CrashPlan,
        crashes: int,
        window: int = 16,
    ) -> None:
        super().__init__()
        self._names = (tuple(readers), tuple(parsers), index)
        self._plan = plan
        self._attempts = _ATTEMPTS + crashes
        self._window = window
        self._ledger: dict[str, Entry] = {}  # {path: entry}
        self._waiting: deque[str] = deque()  # paths that no worker has
        self._under_way = 0
        self._settled = 0
        self._refills = 0  # tokens under way that refill the index
        self._summing = False
        self._totals: Totals | None = None

    def on_start(self) -> None:
        gate = current_gate()
        assert gate is not None
        readers, parsers, index = self._names
        self._readers = deque(gate.find(name).proxy() for name in readers)
        self._parsers = deque(gate.find(name).proxy() for name in parsers)
        self._index = gate.find(index).proxy()
        self._gate = gate

    def on_receive(self, message: object) -> Report | None:
        match message:
            case Begin(paths):
                self._ledger = {path: Entry() for path in paths}
                self._waiting.extend(self._ledger)
                self._hand_out()
            case Ended(path, token):
                self._ended(path, self._ledger[path], token)
                self._hand_out()
            case Refilled(token):
                self._refilled(token)
            case Summed(token):
                self._summed(token)
            case Progress():
                return self._report()
        return None

    # One file

    def _hand_out(self) -> None:
        """Fill the window up once half of it is free; sum up when all are settled."""
        if self._under_way <= self._window // 2:
            for _ in range(min(len(self._waiting), self._window - self._under_way)):
                self._read(self._waiting.popleft())
        if self._settled == len(self._ledger) and not self._refills and not self._summing:
            self._summing = True
            self._tell_me(self._index.totals(), Summed)

    def _read(self, path: str) -> None:
        self._under_way += 1
        self._ledger[path].stage = "reading"
        self._readers.rotate()
        self._follow(path, self._readers[0].read(path))

    def _ended(self, path: str, entry: Entry, token: Token[Any]) -> None:
        """Take a file one stage further, or back."""
        if token.state is not TokenState.COMPLETED:
            self._failed(path, entry, token.exception())
        elif entry.stage == "reading":
            entry.source = token.result()
            self._parse(path, entry)
        elif entry.stage == "parsing":
            entry.measure, entry.source = token.result(), None
            self._add(path, entry)
        elif entry.stage == "indexing":
            self._settle(entry, "indexed")

    def _failed(self, path: str, entry: Entry, error: BaseException | None) -> None:
        if isinstance(error, OSError | Unmeasurable):
            entry.reason = str(error)
            self._settle(entry, "failed")
        elif entry.stage == "indexing":  # the index has crashed: this entry is lost, and so are all before it
            self._refill()
            self._add(path, entry)
        elif entry.attempts < self._attempts or isinstance(error, InjectedCrash):
            entry.attempts += 1
            self._parse(path, entry)
        else:
            entry.reason = f"given up after {entry.attempts} attempts: {error!r}"
            self._settle(entry, "failed")

    def _parse(self, path: str, entry: Entry) -> None:
        entry.stage = "parsing"
        self._parsers.rotate()
        self._follow(path, self._parsers[0].measure(entry.source))

    def _add(self, path: str, entry: Entry) -> None:
        entry.stage = "indexing"
        self._follow(path, self._index.add({path: entry.measure}))

    def _settle(self, entry: Entry, stage: Stage) -> None:
        entry.stage, entry.source = stage, None
        self._under_way -= 1
        self._settled += 1
        self._plan.settled(self._settled)

    def _follow(self, path: str, token: Token[Any]) -> None:
        """Send this actor a message when a file's token has ended. The window keeps its mailbox from filling up."""
        self._tell_me(token, lambda ended: Ended(path, ended))

    def _tell_me(self, token: Token[Any], message: Callable[[Token[Any]], object]) -> None:
        """Send this actor a message about a token once it has ended."""
        me = self.actor_ref

        def tell(ended: Token[Any]) -> None:
            try:
                me.tell(message(ended))
            except ActorDead:
                pass  # the run is being stopped, and the ledger says how far it came

        token.add_done_callback(tell)

    # The index

    def _refill(self) -> None:
        """Send the index all that it ever confirmed; what it has not confirmed yet is still on its way.

        This actor receives all that the dead instance confirmed before the news of its death.
        """
        self._refills += 1
        known = {path: entry.measure for path, entry in self._ledger.items() if entry.stage == "indexed"}
        self._tell_me(self._index.add(known), Refilled)

    def _refilled(self, token: Token[Any]) -> None:
        self._refills -= 1
        if token.state is not TokenState.COMPLETED:
            self._refill()
        self._hand_out()

    def _summed(self, token: Token[Any]) -> None:
        if token.state is TokenState.COMPLETED:
            self._totals = token.result()
            self._gate.request_stop()
        else:
            self._summing = False
            self._refill()

    def _report(self) -> Report:
        stages: dict[Stage, int] = {}
        for entry in self._ledger.values():
            stages[entry.stage] = stages.get(entry.stage, 0) + 1
        return Report(
            stages=stages,
            measures={path: entry.measure for path, entry in self._ledger.items() if entry.measure is not None},
            failures={path: entry.reason for path, entry in self._ledger.items() if entry.reason is not None},
            totals=self._totals,
        )
