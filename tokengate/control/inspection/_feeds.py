"""Feeds of events and of tokens, as they happen.

An observer only appends an item, on the thread where something happens; a feed with a slow reader drops items, and
counts them. No user code runs here: errors, and events of unknown classes, are shown by the names of their classes.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Self, cast

import attrs

from actors import ActorSystem, LoopBlocked, Observer, Reply, Token, TokenGateError
from actors.lowlevel import ActorPlace, Place
from supervisors import (
    ChildDeclined,
    ChildEnded,
    ChildStarted,
    ChildStartFailed,
    ChildStopFailed,
    GaveUp,
    Report,
    RestartScheduled,
)
from tokengate.control._admission import Admission, restricted
from tokengate.control._safe_text import class_name, plain
from tokengate.control.messages import StreamItem
from tokengate.policy._events import PolicyEvent, TokenRetried

# Items that a feed keeps for its reader.
_KEPT = 1_000


class Feed:
    """Items that any thread puts, for one reader, which is a thread (`for`) or a task (`async for`).

    Args:
        end: called when the feed is closed.
    """

    def __init__(self, end: Callable[[], object]) -> None:
        self._end = end
        self._lock = threading.Lock()
        self._items: deque[StreamItem] = deque()
        self._lost = 0
        self._closed = False
        self._error: TokenGateError | None = None
        self._arrived: Reply[None] = Reply()

    def put(self, item: StreamItem) -> None:
        """Add an item; count it as lost if the feed is full."""
        with self._lock:
            if self._closed:
                return
            if len(self._items) >= _KEPT:
                self._lost += 1
                return
            if self._lost:
                item, self._lost = attrs.evolve(item, lost=self._lost), 0
            self._items.append(item)
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

    def _take(self) -> StreamItem | Reply[None] | None:
        """Return an item; or, if there is none, a reply that comes with the next one, or None at the end."""
        with self._lock:
            if self._items:
                return self._items.popleft()
            if self._closed:
                return None
            if self._arrived.done():
                self._arrived = Reply()
            return self._arrived

    def _over(self, end: BaseException) -> BaseException:
        """Return what ends the reading: once the error, if there is one."""
        with self._lock:
            error, self._error = self._error, None
        return error or end

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StreamItem:
        """Wait for the next item in a thread."""
        while True:
            taken = self._take()
            if taken is None:
                raise self._over(StopIteration())
            if isinstance(taken, StreamItem):
                return taken
            taken.exception()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamItem:
        """Await the next item (trio and asyncio)."""
        while True:
            taken = self._take()
            if taken is None:
                raise self._over(StopAsyncIteration())
            if isinstance(taken, StreamItem):
                return taken
            await taken.wait()


class _EventObserver(Observer):
    def __init__(self, put: Callable[[StreamItem], None], system: ActorSystem, here: Admission | None) -> None:
        self._put = put
        self._system = system
        self._here = here  # None: the reader may see all

    def event(self, event: object, /) -> None:
        if self._here is None or _is_seen(event, self._system, self._here):
            self._put(_event_item(event))

    def dead_letter(self, token: Token[Any], reason: BaseException, /) -> None:
        if self._here is not None and not self._here.sees(token):
            return
        text = f"{_words(token)} was not handled: {_name(reason)}"
        self._put(StreamItem(time.time(), "dead_letter", plain(token.actor), token.id, text))


class _TokenObserver(Observer):
    def __init__(self, put: Callable[[StreamItem], None], wants: Callable[[Token[Any]], bool]) -> None:
        self._put = put
        self._wants = wants

    def token_queued(self, token: Token[Any], /) -> None:
        self._tell("token_queued", token, "queued")

    def token_started(self, token: Token[Any], /) -> None:
        self._tell("token_started", token, "started")

    def token_finished(self, token: Token[Any], /) -> None:
        text = str(token.state)
        if token.started_at is not None and token.finished_at is not None:
            text = f"{text} after {token.finished_at - token.started_at:.3f} s"
        if token._error is not None:
            text = f"{text}: {_name(token._error)}"
        self._tell("token_finished", token, text)

    def _tell(self, kind: str, token: Token[Any], text: str) -> None:
        if self._wants(token):
            self._put(StreamItem(time.time(), kind, plain(token.actor), token.id, f"{_words(token)} {text}"))


class Feeds:
    """All feeds of a system. A feed that was not closed and is no longer referenced ends with its next item.

    Args:
        system: the system.
    """

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._observers: dict[Observer, weakref.ref[Feed]] = {}
        self._lock = threading.Lock()

    def events(self) -> Feed:
        """Follow published events and dead letters, as far as the caller may see what they are about."""
        here = restricted()
        return self._follow(lambda put: _EventObserver(put, self._system, here))

    def tokens(self, wants: Callable[[Token[Any]], bool]) -> Feed:
        """Follow the tokens of all places that the caller may see, except those of the runtime."""
        here = restricted()

        def follows(token: Token[Any]) -> bool:
            if token.serves_operators:
                return False
            if here is None:
                return wants(token)
            with here.at_work():
                return here.sees(token) and wants(token)

        return self._follow(lambda put: _TokenObserver(put, follows))

    def close(self) -> None:
        """End all feeds."""
        with self._lock:
            feeds = [feed() for feed in self._observers.values()]
        for feed in feeds:
            if feed is not None:
                feed.close()

    def _follow(self, make: Callable[[Callable[[StreamItem], None]], Observer]) -> Feed:
        def put(item: StreamItem) -> None:
            feed = followed()
            if feed is None:
                self._end(observer)
            else:
                feed.put(item)

        observer = make(put)
        made = Feed(lambda: self._end(observer))
        followed = weakref.ref(made)
        with self._lock:
            self._observers[observer] = followed
        self._system.add_observer(observer)
        return made

    def _end(self, observer: Observer) -> None:
        with self._lock:
            self._observers.pop(observer, None)
        self._system.remove_observer(observer)


def _name(error: BaseException) -> str:
    return class_name(type(error))


def _is_seen(event: object, system: ActorSystem, here: Admission) -> bool:
    """Tell whether a reader may see what an event is about; what is about the whole gate, it may not."""
    if type.__subclasscheck__(LoopBlocked, type(event)):
        token = cast("LoopBlocked", event).token
        return token is not None and here.sees(token)
    if type.__subclasscheck__(Report, type(event)):
        return here.sees_place(plain(cast("Report", event).child))
    if not type.__subclasscheck__(PolicyEvent, type(event)):
        return False
    said = cast("PolicyEvent", event)
    if isinstance(said, TokenRetried):
        token = system.live.get(said.token)
        return token is not None and here.sees(token)
    named = [place for place in system.places() if said.place == _name_in_events(place)]
    return bool(named) and all(map(here.sees_place, named))


def _name_in_events(place: Place) -> str:
    return place.path if isinstance(place, ActorPlace) else place.path.rpartition("/")[2]


def _event_item(event: object) -> StreamItem:
    kind = class_name(type(event))
    # User code may publish any object: `isinstance` would ask it for its `__class__`.
    if type.__subclasscheck__(LoopBlocked, type(event)):
        return _blocked_item(kind, cast("LoopBlocked", event))
    if type.__subclasscheck__(Report, type(event)):
        report = cast("Report", event)
        return StreamItem(time.time(), kind, plain(report.child), None, _report_text(report))
    if type.__subclasscheck__(PolicyEvent, type(event)):
        said = cast("PolicyEvent", event)
        return StreamItem(time.time(), kind, plain(said.place), getattr(said, "token", None), said.text)
    return StreamItem(time.time(), kind, "", None, kind)


def _blocked_item(kind: str, event: LoopBlocked) -> StreamItem:
    token = event.token
    if not event.stack:
        text = f"many short steps in a row have let other tasks of the {event.loop} loop wait for {event.seconds:.2f} s"
    else:
        code = "code outside of tokens" if token is None else _words(token)
        text = f"{code} has blocked the {event.loop} loop for {event.seconds:.2f} s"
    if token is None:
        return StreamItem(time.time(), kind, "", None, text)
    return StreamItem(time.time(), kind, plain(token.actor), token.id, text)


def _words(token: Token[Any]) -> str:
    return f"token {token.id} ({plain(token.operation)} of '{plain(token.actor)}')"


def _report_text(report: Report) -> str:
    child, supervisor = f"'{report.child}'", f"'{report.supervisor}'"
    match report:
        case ChildStarted(restart=0):
            return f"{child} has started"
        case ChildStarted(restart=restart):
            return f"{child} has started again (restart {restart})"
        case ChildStartFailed(error=error):
            return f"{child} did not start: {_name(error)}"
        case ChildEnded(reason=reason):
            return f"{child} has ended: {reason}"
        case RestartScheduled(reason=reason, attempt=attempt, delay=delay):
            return f"{supervisor} restarts {child} in {delay:.2f} s (attempt {attempt}), after {reason}"
        case ChildDeclined():
            return f"{child} declined to start"
        case ChildStopFailed(seconds=seconds):
            return f"{child} did not stop in {seconds:g} s, and was killed"
        case GaveUp(intensity=intensity, period=period):
            return f"{supervisor} gives up: {child} needed more than {intensity} restarts in {period:g} s"
        case _:
            return f"{class_name(type(report))} of {child} under {supervisor}"
