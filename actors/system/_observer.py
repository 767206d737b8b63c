"""Observers: methods that are called when something happens in a system; those not overridden cost nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from actors.concurrency._waiters import is_for_the_program
from actors.system._events import DeadLetter
from actors.tokens._ports import Listeners

if TYPE_CHECKING:
    from actors._exit_reason import ExitReason
    from actors.places._ref import ActorRef
    from actors.tokens._token import Token

_logger = logging.getLogger("tokengate.actors")


class Observer:
    """Base of observers of a system; a method that is not overridden costs nothing.

    A method is called on the thread where the event happens, which may be a loop's, with no lock held. It must be
    quick and must not wait. One that raises is logged, and its observer is removed. Each thread reports its own events,
    so a token's start may be reported a moment before its sender reports that it is queued.
    """

    def token_queued(self, token: Token[Any], /) -> None:
        """A mailbox has accepted a token. A direct call is never in a mailbox."""

    def token_started(self, token: Token[Any], /) -> None:
        """A token runs; again after each retry."""

    def token_sent(self, token: Token[Any], headers: dict[str, str], /) -> None:
        """A token is about to be sent to a child process; what is written to `headers` goes with it.

        It may begin there before `token_started` is called, or be taken back, and is sent again then.
        """

    def token_failing(self, token: Token[Any], /) -> None:
        """A token is about to end otherwise than completed; its arguments are still there, and its state is not yet."""

    def token_finished(self, token: Token[Any], /) -> None:
        """A token has reached a terminal state; its arguments are gone."""

    def token_retried(self, token: Token[Any], error: BaseException, reason: str, /) -> None:
        """An attempt has ended, or was refused, and another one is to follow; its times and arguments are still there.

        If the next attempt can then not be queued, the token ends without having begun again. The reason is `retry`,
        `failover` or `fallback`.
        """

    def token_paused(self, token: Token[Any], /) -> None:
        """None of a token's code runs until an operator lets it go on, or it stays in its queue until then."""

    def token_resumed(self, token: Token[Any], /) -> None:
        """A token that was paused goes on, or is queued again. One that ends while it is paused is not resumed."""

    def dead_letter(self, token: Token[Any], reason: BaseException, /) -> None:
        """A token will not be handled: it was refused, dropped, or queued when its actor ended."""

    def actor_started(self, ref: ActorRef[Any], /) -> None:
        """An instance of an actor runs: its `on_start` has returned."""

    def actor_ended(self, ref: ActorRef[Any], reason: ExitReason, /) -> None:
        """An instance that ran has ended: in order, by a crash, or sealed. The reason says which."""

    def event(self, event: object, /) -> None:
        """An event was published: a supervisor's report, say."""


EVENTS: Final = tuple(name for name in vars(Observer) if not name.startswith("_"))


class Observed:
    """An object with observers: for each event, those that override it; None without any, so a look is the only cost.

    Code on a hot path asks `if system.on_token_started is not None` and only then calls
    `system.tell(system.on_token_started, token)`; elsewhere it just calls `tell`.
    """

    on_token_queued: Listeners | None = None
    on_token_started: Listeners | None = None
    on_token_sent: Listeners | None = None
    on_token_failing: Listeners | None = None
    on_token_finished: Listeners | None = None
    on_token_retried: Listeners | None = None
    on_token_paused: Listeners | None = None
    on_token_resumed: Listeners | None = None
    on_dead_letter: Listeners | None = None
    on_actor_started: Listeners | None = None
    on_actor_ended: Listeners | None = None
    on_event: Listeners | None = None

    def __init__(self) -> None:
        self._observers: tuple[Observer, ...] = ()
        self._observers_lock = threading.Lock()

    def add_observer(self, observer: Observer) -> None:
        """Add an observer; adding it again changes nothing.

        Raises:
            TypeError: it is no `Observer`.
        """
        if not isinstance(observer, Observer):
            raise TypeError(f"expected an instance of a subclass of actors.Observer, got {observer!r}")
        with self._observers_lock:
            if all(one is not observer for one in self._observers):
                self._set_observers((*self._observers, observer))

    def remove_observer(self, observer: Observer) -> bool:
        """Remove an observer; return whether it was there."""
        with self._observers_lock:
            known = any(one is observer for one in self._observers)
            if known:
                self._set_observers(tuple(one for one in self._observers if one is not observer))
        return known

    def take_observers(self, other: Observed) -> None:
        """Add the observers of another system, which was never opened."""
        for observer in other._observers:
            self.add_observer(observer)

    def tell(self, listeners: Listeners | None, *args: Any) -> None:
        """Call the observers of one event; one that raises is logged and removed.

        Raises:
            BaseException: what a signal handler raised meanwhile, after all observers were called.
        """
        interrupt: BaseException | None = None
        for observer, method in listeners or ():
            try:
                method(*args)
            except BaseException as error:
                if is_for_the_program(error, method):
                    interrupt = error
                elif self.remove_observer(observer):
                    kind = type(observer).__name__
                    _logger.exception("observer %s was removed, because %s raised", kind, method.__name__)
        if interrupt is not None:
            try:
                raise interrupt
            finally:
                interrupt = None  # its traceback references this frame

    def subscribe(self, listener: Callable[[object], None]) -> Callable[[], None]:
        """Call `listener` with each event, on the thread where it happens; calling the return value ends that.

        Events are the published ones, and a `DeadLetter` for each dead letter. An exception of a listener is logged,
        and the listener stays. On the main thread one that is no `Exception` is passed on, since
        it comes from a signal handler.
        """
        subscription = _Subscription(listener)
        self.add_observer(subscription)

        def unsubscribe() -> None:
            self.remove_observer(subscription)

        return unsubscribe

    def publish(self, event: object) -> None:
        """Pass an event to all observers and listeners."""
        self.tell(self.on_event, event)

    def dead_letter(self, token: Token[Any], reason: BaseException) -> None:
        """Report a token that will not be handled."""
        self.tell(self.on_dead_letter, token, reason)

    def _set_observers(self, observers: tuple[Observer, ...]) -> None:
        self._observers = observers
        for event in EVENTS:
            listeners = tuple((one, getattr(one, event)) for one in observers if _overrides(one, event))
            setattr(self, f"on_{event}", listeners or None)


def _overrides(observer: Observer, event: str) -> bool:
    return getattr(type(observer), event) is not getattr(Observer, event)


class _Subscription(Observer):
    """The observer behind a listener."""

    def __init__(self, listener: Callable[[object], None]) -> None:
        self._listener = listener

    def event(self, event: object, /) -> None:
        try:
            self._listener(event)
        except BaseException as error:
            if is_for_the_program(error, self._listener):
                raise
            _logger.exception("a listener raised on an event of type %s", type(event).__name__)

    def dead_letter(self, token: Token[Any], reason: BaseException, /) -> None:
        self.event(DeadLetter(token, reason))
