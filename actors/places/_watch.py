"""Watches: callbacks and messages when an instance of an actor ends, and when its place is closed."""

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
    """Message: an instance of a watched actor has ended, or there is none.

    Attributes:
        ref: the actor that was watched.
        path: its path.
        reason: why the instance ended; `noproc` when there was none to end. If its end was reported before, and now
            turns out to be the last, why the place was closed.
        closed: whether it is the last `Down`: no instance can follow. When False, its supervisor decides what comes
            next.
    """

    ref: ActorRef[Any]
    path: str
    reason: ExitReason
    closed: bool


class Watch:
    """A watch of an actor; made by `ActorRef.watch` and `BaseActor.watch`.

    Args:
        place: of the watched actor.
        tell: called with each `Down`, on the thread where the end happens; an exception is logged.
        once: whether it ends after the first `Down`.
    """

    __slots__ = ("_place", "_tell", "once", "told")

    def __init__(self, place: ActorPlace, tell: Callable[[Down], object], *, once: bool = False) -> None:
        self._place = place
        self._tell = tell
        self.once = once
        self.told = False  # whether it has had a `Down`; changes under the place's lock

    def begin(self) -> None:
        """Begin the watch; if there is no instance and none to come, the `Down` comes at once."""
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
        """End the watch; return whether it was on."""
        place = self._place
        with place.lock:
            return place.watches is not None and place.watches.remove(self)

    def tell(self, down: Down) -> None:
        """Pass a `Down` on."""
        try:
            self._tell(down)
        except BaseException:
            _logger.exception("a watch of actor '%s' raised", down.path)

    def __repr__(self) -> str:
        return f"<Watch of '{self._place.path}'>"


class ActorWatch(Watch):
    """A watch by an actor's instance, which gets each `Down` as a message; it ends with that instance.

    No `Down` is lost to a full mailbox: it comes when there is room, if the mailbox lets senders wait.
    """

    __slots__ = ("_notice", "_watcher")

    def __init__(self, place: ActorPlace, watcher: ActorPlace, instance: object) -> None:
        notice = Notice(watcher, instance)
        super().__init__(place, lambda down: notice.send(down, patient=True))
        self._notice = notice
        self._watcher = watcher

    def cancel(self) -> bool:
        """End the watch, and discard a `Down` that is queued already; return whether the watch was on."""
        self._notice.drop()
        detach(self._watcher, self)
        return super().cancel()


class Watches:
    """All watches of one place. The place's lock guards it; watches are called after that is released."""

    __slots__ = ("_watches",)

    def __init__(self) -> None:
        self._watches: dict[Watch, None] = {}  # in the order in which they began

    def add(self, watch: Watch) -> None:
        self._watches[watch] = None

    def remove(self, watch: Watch) -> bool:
        return self._watches.pop(watch, watch) is None

    def to_tell(self, *, closed: bool, untold: bool = False) -> list[Watch]:
        """Return the watches to call, and remove those that get no further `Down`.

        Args:
            closed: whether it is the last `Down` for all.
            untold: leave out those that have had a `Down` before.
        """
        telling = [watch for watch in self._watches if not (untold and watch.told)]
        for watch in telling:
            watch.told = True
        self._watches = {} if closed else {watch: None for watch in self._watches if not (watch.once and watch.told)}
        return telling


def tell_all(watches: list[Watch], place: ActorPlace, reason: ExitReason, *, closed: bool) -> None:
    """Call watches of a place with one `Down`."""
    if watches:
        down = Down(place.ref, place.path, reason, closed)
        for watch in watches:
            watch.tell(down)
