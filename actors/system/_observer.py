"""Observers: told what happens in a system, at no cost for what nobody overrides."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from actors.system._events import DeadLetter
from actors.tokens._ports import Listeners

if TYPE_CHECKING:
    from actors._exit_reason import ExitReason
    from actors.places._ref import ActorRef
    from actors.tokens._token import Token

_logger = logging.getLogger("tokengate.actors")


class Observer:
    """Base of what is told of a system's events; a method that is not overridden costs nothing.

    A method is called on the thread where the event happens, which may be a loop's, with no lock held. It must be
    quick and must not wait. One that raises is logged, and its observer is removed. Threads tell what they do
    themselves, so a receiver may tell of a token's start a moment before its sender tells that it is queued.
    """

    def token_queued(self, token: Token[Any], /) -> None:
        """A mailbox has accepted a token. A direct call never is in one."""

    def token_started(self, token: Token[Any], /) -> None:
        """A token runs; again after each retry."""

    def token_finished(self, token: Token[Any], /) -> None:
        """A token has reached its terminal state, whichever that is; it has let go of its arguments."""

    def dead_letter(self, token: Token[Any], reason: BaseException, /) -> None:
        """Nobody handles a token: it was refused, dropped, or queued when its actor ended."""

    def actor_started(self, ref: ActorRef[Any], /) -> None:
        """An instance of an actor runs: its `on_start` has returned."""

    def actor_ended(self, ref: ActorRef[Any], reason: ExitReason, /) -> None:
        """An instance that ran has ended: in order, by a crash, or sealed. The reason tells which."""

    def event(self, event: object, /) -> None:
        """Somebody has published an event: a supervisor's report, say."""


EVENTS: Final = tuple(name for name in vars(Observer) if not name.startswith("_"))


class Observed:
    """What observers look at: for each event, who is told; None for nobody, so that a look is all that costs.

    Code on a hot path asks `if system.on_token_started is not None` and only then calls
    `system.tell(system.on_token_started, token)`; elsewhere `tell` does the asking.
    """

    on_token_queued: Listeners | None = None
    on_token_started: Listeners | None = None
    on_token_finished: Listeners | None = None
    on_dead_letter: Listeners | None = None
    on_actor_started: Listeners | None = None
    on_actor_ended: Listeners | None = None
    on_event: Listeners | None = None

    def __init__(self) -> None:
        self._observers: tuple[Observer, ...] = ()
        self._observers_lock = threading.Lock()

    def add_observer(self, observer: Observer) -> None:
        """Tell an observer of what happens from now on; adding it again changes nothing.

        Raises:
            TypeError: it is no `Observer`.
        """
        if not isinstance(observer, Observer):
            raise TypeError(f"{observer!r} is no Observer; make its class a subclass of actors.Observer")
        with self._observers_lock:
            if all(one is not observer for one in self._observers):
                self._set_observers((*self._observers, observer))

    def remove_observer(self, observer: Observer) -> bool:
        """Tell an observer nothing any more; return whether it was told until now."""
        with self._observers_lock:
            known = any(one is observer for one in self._observers)
            if known:
                self._set_observers(tuple(one for one in self._observers if one is not observer))
        return known

    def tell(self, listeners: Listeners | None, *args: Any) -> None:
        """Tell of one event; an observer that raises is logged and removed."""
        for observer, method in listeners or ():
            try:
                method(*args)
            except BaseException:
                if self.remove_observer(observer):
                    kind = type(observer).__name__
                    _logger.exception("observer %s was removed, because %s raised", kind, method.__name__)

    def subscribe(self, listener: Callable[[object], None]) -> Callable[[], None]:
        """Call `listener` with each event, on the thread where it happens; the return value ends that.

        Events are those that are published, and a `DeadLetter` for each dead letter. What a listener raises is
        logged, and it stays.
        """
        subscription = _Subscription(listener)
        self.add_observer(subscription)

        def unsubscribe() -> None:
            self.remove_observer(subscription)

        return unsubscribe

    def publish(self, event: object) -> None:
        """Hand an event to everyone who listens."""
        self.tell(self.on_event, event)

    def dead_letter(self, token: Token[Any], reason: BaseException) -> None:
        """Report a token that nobody handles."""
        self.tell(self.on_dead_letter, token, reason)

    def _set_observers(self, observers: tuple[Observer, ...]) -> None:
        self._observers = observers
        for event in EVENTS:
            listeners = tuple((one, getattr(one, event)) for one in observers if _overrides(one, event))
            setattr(self, f"on_{event}", listeners or None)


def _overrides(observer: Observer, event: str) -> bool:
    return getattr(type(observer), event) is not getattr(Observer, event)


class _Subscription(Observer):
    """A function that listens to events."""

    def __init__(self, listener: Callable[[object], None]) -> None:
        self._listener = listener

    def event(self, event: object, /) -> None:
        try:
            self._listener(event)
        except BaseException:
            _logger.exception("a listener raised on an event of type %s", type(event).__name__)

    def dead_letter(self, token: Token[Any], reason: BaseException, /) -> None:
        self.event(DeadLetter(token, reason))
