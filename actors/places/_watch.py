"""Watching: who is told when an instance of an actor ends, and when its place is given up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from actors._exit_reason import NOPROC, ExitReason
from actors.places._notice import Notice, detach

if TYPE_CHECKING:
    from actors.places._actor_place import ActorPlace
    from actors.places._ref import ActorRef

_logger = logging.getLogger("tokengate.actors")


@attrs.frozen
class Down:
    """Word that an instance of a watched actor has ended, or that there is none.

    Attributes:
        ref: the actor that was watched.
        path: its path.
        reason: why the instance ended; `noproc` when there was none to end. If its end was told before, and is now
            known to be the last, why the place was given up.
        closed: whether that is the last: no instance can follow, and no further word comes. When False, its
            supervisor decides what comes next.
    """

    ref: ActorRef[Any]
    path: str
    reason: ExitReason
    closed: bool


class Watch:
    """One who is told when an actor ends; made by `ActorRef.watch` and `BaseActor.watch`.

    Args:
        place: the actor's.
        tell: called with each `Down`, on the thread where it happens; what it raises is logged.
        once: whether it is told once only.
    """

    __slots__ = ("_place", "_tell", "once", "told")

    def __init__(self, place: ActorPlace, tell: Callable[[Down], object], *, once: bool = False) -> None:
        self._place = place
        self._tell = tell
        self.once = once
        self.told = False  # whether it has had word; changes under the place's lock

    def begin(self) -> None:
        """Begin the watch; if there is no instance and none to come, it has word at once."""
        place = self._place
        with place.lock:
            closed = place.closed or place.system.closed
            # Without an owner, a vacant place is about to be closed, or to be started for the first time.
            gone = self.told = closed or (place.owner is not None and place.without_instance())
            if not closed and not (gone and self.once):
                if place.watches is None:
                    place.watches = Watches()
                place.watches.add(self)
        if gone:
            self.tell(Down(place.ref, place.path, NOPROC, closed))

    def cancel(self) -> bool:
        """End the watch; tell whether it was on."""
        place = self._place
        with place.lock:
            return place.watches is not None and place.watches.remove(self)

    def tell(self, down: Down) -> None:
        """Pass word on."""
        try:
            self._tell(down)
        except BaseException:
            _logger.exception("a watch of actor '%s' raised", down.path)

    def __repr__(self) -> str:
        return f"<Watch of '{self._place.path}'>"


class ActorWatch(Watch):
    """The watch of an actor's instance, which gets a `Down` as a message; it ends with that instance.

    No word is lost to a full mailbox: it comes when there is room, if the mailbox lets senders wait.
    """

    __slots__ = ("_notice", "_watcher")

    def __init__(self, place: ActorPlace, watcher: ActorPlace, instance: object) -> None:
        notice = Notice(watcher, instance)
        super().__init__(place, lambda down: notice.send(down, patient=True))
        self._notice = notice
        self._watcher = watcher

    def cancel(self) -> bool:
        """End the watch; a `Down` that is queued already gets to nobody. Tell whether the watch was on."""
        self._notice.drop()
        detach(self._watcher, self)
        return super().cancel()


class Watches:
    """All watches of one place. No lock: the place has one, and tells them after it has let go of that."""

    __slots__ = ("_watches",)

    def __init__(self) -> None:
        self._watches: dict[Watch, None] = {}  # in the order in which they began

    def add(self, watch: Watch) -> None:
        self._watches[watch] = None

    def remove(self, watch: Watch) -> bool:
        return self._watches.pop(watch, watch) is None

    def to_tell(self, *, closed: bool, untold: bool = False) -> list[Watch]:
        """Return those that are to have word, and forget those for whom it is the last.

        Args:
            closed: whether it is the last word for all.
            untold: leave out those that have had word before.
        """
        telling = [watch for watch in self._watches if not (untold and watch.told)]
        for watch in telling:
            watch.told = True
        self._watches = {} if closed else {watch: None for watch in self._watches if not (watch.once and watch.told)}
        return telling


def tell_all(watches: list[Watch], place: ActorPlace, reason: ExitReason, *, closed: bool) -> None:
    """Tell watches of a place what has happened there."""
    if watches:
        down = Down(place.ref, place.path, reason, closed)
        for watch in watches:
            watch.tell(down)
