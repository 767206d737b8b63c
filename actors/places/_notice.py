"""Notices: messages of timers and watches to one instance of an actor, and to none of its successors."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from actors._exceptions import ActorDead
from actors.mailboxes._mailbox import ACCEPTED, Put
from actors.tokens._token import Token

if TYPE_CHECKING:
    from actors.places._actor_place import ActorPlace


class Attached(Protocol):
    """A timer or watch, which ends with an instance."""

    def cancel(self) -> object: ...


def attach(place: ActorPlace, instance: object, attached: Attached) -> None:
    """Have a timer or watch cancelled when an instance ends.

    Raises:
        RuntimeError: the instance does not run.
    """
    with place.lock:
        if place.instance is not instance:
            raise RuntimeError(
                f"this instance of actor '{place.path}' does not run (any more, or yet): "
                "set its timers and watches in on_start or in a step"
            )
        if place.attached is None:
            place.attached = set()
        place.attached.add(attached)


def detach(place: ActorPlace, attached: Attached) -> None:
    """Undo `attach`; do nothing if the instance has ended."""
    with place.lock:
        if place.attached is not None:
            place.attached.discard(attached)


def cancel_all(attached: set[Attached] | None) -> None:
    """Cancel all that was attached to an instance that has ended."""
    for one in attached or ():
        one.cancel()


class Notice:
    """Sends messages to the `on_receive` of one instance; they are dropped if the instance has ended by then.

    They carry the context of the code that made the notice, and never make a thread wait.

    Args:
        place: the place of the instance.
        instance: the receiver.
    """

    __slots__ = ("_context", "_instance", "_place")

    def __init__(self, place: ActorPlace, instance: object) -> None:
        self._place = place
        self._instance: object | None = instance  # None after `drop`
        self._context = contextvars.copy_context()

    @property
    def dropped(self) -> bool:
        """Whether all its messages are discarded, including queued ones."""
        return self._instance is None

    def drop(self) -> None:
        """Discard all its messages from now on."""
        self._instance = None

    def is_for(self, instance: object | None) -> bool:
        """Tell whether its messages are still for this instance."""
        return self._instance is not None and self._instance is instance

    def send(self, message: Any, *, patient: bool = False) -> Token[Any] | None:
        """Put a message into the mailbox of the instance's place.

        Args:
            message: what `on_receive` gets.
            patient: whether to put it there as soon as there is room; else it is a dead letter when the mailbox is
                full.

        Returns:
            its token; None when nothing is sent any more, because the notice was dropped or the system closes.
        """
        place = self._place
        if self.dropped or place.system.intake_closed:
            return None
        operation = f"{place.actor_class.__name__}.on_receive"
        # A copy, because two threads cannot be in one context at once.
        token: Token[Any] = self._context.copy().run(place.token, operation, self, (message,), {})

        def offer() -> None:
            self._put(token, offer)

        self._put(token, offer if patient else None)
        return token

    def _put(self, token: Token[Any], room: Callable[[], None] | None) -> None:
        place, senders = self._place, self._place.system.senders
        waits = False
        if room is not None:
            senders.add(token)  # one that is nowhere recovery would take for that of an interrupted sender
        try:
            put = place.mailbox.put(token, room)
            waits = put is Put.FULL and room is not None
        except ActorDead as error:
            place.reject(token, error)
            return
        finally:
            if not waits:
                senders.discard(token)
        if put is Put.LATER:
            place.system.later(partial(self._put, token, room))
        elif put is not ACCEPTED and not waits:
            place.reject(token, place._full())
