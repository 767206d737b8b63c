"""Feeds: what happens, as readers of the stream follow it.

A feed with a slow reader leaves events out, and counts them. Their public form is made as they are read.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, Self, TypeVar

import attrs

from actors import ActorSystem, Reply, TokenGateError, UnknownActor
from tokengate.control._admission import Admission, restricted
from tokengate.control._exceptions import BadRequest
from tokengate.control.inspection._selector import RECORD_FIELDS, Selector, parse_for
from tokengate.control.messages import KINDS, Event, Watch
from tokengate.control.stream._events import event_of
from tokengate.control.stream._record import FINISHED, RETRIED, Batch, Entry, Happening, Record, as_record
from tokengate.control.stream._stream import Stream

T = TypeVar("T")

_RECORDS: Final = (FINISHED, RETRIED)
_MOMENTS: Final = ("token.queued", "token.started", "token.paused", "token.resumed")
_DEAD_LETTER: Final = "token.dead_letter"
_LAST_SECONDS: Final = 0.5  # for what has been recorded before all feeds end


class Feed(Generic[T]):
    """Events that any thread puts, for one reader, which is a thread (`for`) or a task (`async for`).

    Args:
        end: called when the feed is closed.
        shown: returns the event of what was put, as it is read.
        longest: how many wait for the reader.
    """

    def __init__(self, end: Callable[[], object], shown: Callable[[T], Event], longest: int = 1_000) -> None:
        self._end = end
        self._shown = shown
        self._longest = longest
        self._lock = threading.Lock()
        self._items: deque[tuple[T, int]] = deque()  # (what was put, how many were left out before it)
        self._lost = 0
        self._closed = False
        self._error: TokenGateError | None = None
        self._arrived: Reply[None] = Reply()

    def put(self, items: Iterable[T]) -> None:
        """Add items; count those as lost for which there is no room."""
        with self._lock:
            if self._closed:
                return
            for item in items:
                if len(self._items) >= self._longest:
                    self._lost += 1
                else:
                    self._items.append((item, self._lost))
                    self._lost = 0
            arrived = self._arrived
        arrived._set()

    def close(self, error: TokenGateError | None = None) -> None:
        """Accept no more items; the reader gets the rest, and then the end, or once this error."""
        with self._lock:
            first, self._closed = not self._closed, True
            if first:
                self._error = error
            arrived = self._arrived
        arrived._set()
        if first:
            self._end()

    def _take(self) -> Event | Reply[None] | None:
        """Return an event; or, if there is none, a reply that comes with the next one, or None at the end."""
        with self._lock:
            if not self._items:
                if self._closed:
                    return None
                if self._arrived.done():
                    self._arrived = Reply()
                return self._arrived
            item, lost = self._items.popleft()
        event = self._shown(item)
        return attrs.evolve(event, lost=lost) if lost else event

    def _over(self, end: BaseException) -> BaseException:
        """Return what ends the reading: once the error, if there is one."""
        with self._lock:
            error, self._error = self._error, None
        return error or end

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        """Wait for the next event in a thread."""
        while True:
            taken = self._take()
            if taken is None:
                raise self._over(StopIteration())
            if isinstance(taken, Event):
                return taken
            taken.exception()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Await the next event (trio and asyncio)."""
        while True:
            taken = self._take()
            if taken is None:
                raise self._over(StopAsyncIteration())
            if isinstance(taken, Event):
                return taken
            await taken.wait()


class Feeds:
    """All feeds of a stream. A feed that was not closed and is no longer referenced ends with the next event.

    Args:
        stream: the stream.
        system: of the gate.
    """

    def __init__(self, stream: Stream, system: ActorSystem) -> None:
        self._stream = stream
        self._system = system
        self._sinks: dict[_FeedSink, None] = {}

    def follow(self, message: Watch) -> Feed[Entry]:
        """Follow what happens, as far as the caller may see it."""
        selector = parse_for(self._system.predictor, message.select, RECORD_FIELDS)
        kinds = message.kinds or (("token",) if message.select.strip() else ())
        wanted = _Wanted(selector, kinds, self._system, restricted())
        stream = self._stream
        feed: Feed[Entry] = Feed(lambda: self._end(sink), lambda entry: event_of(entry, stream), message.buffer)
        sink = _FeedSink(wanted, feed, stream, lambda: self._end(sink))
        self._sinks[sink] = None
        records, moments = wanted.needs
        if not stream.attach(sink, records=records, moments=moments):
            feed.close()
        return feed

    def close(self) -> None:
        """End all feeds; what has happened before is in them."""
        if self._sinks:
            self._stream.flush(_LAST_SECONDS)
        for sink in list(self._sinks):
            sink.close(0.0)

    def _end(self, sink: _FeedSink) -> None:
        self._sinks.pop(sink, None)
        self._stream.detach(sink)


class _FeedSink:
    """The sink behind a feed.

    Attributes:
        name: for reports of loss.
        lost: 0, since a feed tells its reader what it leaves out.
    """

    name = "watch"
    lost = 0

    def __init__(self, wanted: _Wanted, feed: Feed[Entry], stream: Stream, forgotten: Callable[[], object]) -> None:
        self._wanted = wanted
        self._feed = weakref.ref(feed)
        self._forgotten = forgotten
        self._after = stream.collector.latest  # the number of the last entry from before

    def take(self, batch: Batch) -> None:
        feed = self._feed()
        if feed is None:
            self._forgotten()
            return
        records = any(self._wanted.needs)
        entries = batch.entries if records else [item for item in batch.items if isinstance(item, Happening)]
        wanted = [seen for entry in entries if entry.number > self._after and (seen := self._wanted(entry)) is not None]
        if wanted:
            feed.put(wanted)

    def close(self, _seconds: float) -> str:
        if (feed := self._feed()) is not None:
            feed.close()
        return ""


class _Wanted:
    """What a feed has: the kinds and the selector that were asked for, and what the caller may see.

    Args:
        selector: of records.
        kinds: of events, or what they begin with; none: those of no token, and dead letters.
        system: of the gate.
        here: what the caller may see; None: all.

    Raises:
        BadRequest: there is no such kind.
    """

    def __init__(self, selector: Selector, kinds: tuple[str, ...], system: ActorSystem, here: Admission | None) -> None:
        for kind in kinds:
            if not any(_is_of(known, kind) for known in KINDS) and not kind.startswith("event."):
                raise BadRequest(f"there is no kind of event '{kind}'; there are: {', '.join(KINDS)}")
        self._selector = selector
        self._kinds = kinds
        self._system = system
        self._here = here
        self._known: dict[str, bool] = {}  # {kind: whether it is wanted}

    @property
    def needs(self) -> tuple[bool, bool]:
        """Whether it has records of attempts, and whether it has other moments of tokens."""
        return any(map(self._has, _RECORDS)), any(map(self._has, _MOMENTS))

    def __call__(self, entry: Entry) -> Entry | None:
        """Return an entry as the caller may see it; None if it is not wanted."""
        if not self._has(entry.kind):
            return None
        if self._here is None:
            return entry if self._fits(entry) else None
        with self._here.at_work():
            seen = self._as_seen(entry, self._here)
            return seen if seen is not None and self._fits(seen) else None

    def _has(self, kind: str) -> bool:
        found = self._known.get(kind)
        if found is None:
            if self._kinds:
                found = any(_is_of(kind, one) for one in self._kinds)
            else:
                found = not kind.startswith("token.") or kind == _DEAD_LETTER
            self._known[kind] = found
        return found

    def _fits(self, entry: Entry) -> bool:
        if self._selector.all:
            return True
        record: Record | str = entry.about if isinstance(entry, Happening) else entry
        if isinstance(entry, Happening) and not isinstance(record, Record):
            record = as_record(entry)
        return self._selector.matches(record, self._system.clock())  # type: ignore[arg-type]

    def _as_seen(self, entry: Entry, here: Admission) -> Entry | None:
        """Return an entry without the parent that the caller may not see; None if it may not see the entry."""
        if isinstance(entry, Record):
            return self._record_as_seen(entry, here)
        about = entry.about
        if isinstance(about, Record):
            seen = self._record_as_seen(about, here)
            return None if seen is None else entry._replace(about=seen)
        return entry if about == "place" and here.sees_place(self._place(entry.actor)) else None

    def _record_as_seen(self, record: Record, here: Admission) -> Record | None:
        if not here.sees_record(record):
            return None
        parent = None if record.parent is None else self._system.live.get(record.parent)
        return record if parent is not None and here.sees(parent) else record._replace(parent=None)

    def _place(self, path: str) -> Any:
        try:
            return self._system.find(path, lambda place: place.path == path)
        except UnknownActor:
            return path  # it has gone


def _is_of(kind: str, begin: str) -> bool:
    """Tell whether a kind is one that was asked for, or begins with that."""
    return kind == begin or kind.startswith(f"{begin}.")
