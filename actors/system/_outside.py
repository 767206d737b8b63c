"""Actors outside of supervisors: those that `Cls.start()` starts, and instances that are made by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from itertools import count
from typing import Any, Final, Protocol, TypeGuard, TypeVar

from actors._exit_reason import NORMAL, ExitReason
from actors.concurrency._future import Reply
from actors.places._actor import BaseActor
from actors.places._actor_place import ActorPlace
from actors.places._drain import Drain, NoDrain
from actors.places._ref import ActorRef
from actors.system import _open_systems
from actors.system._system import ActorSystem

A = TypeVar("A", bound=BaseActor)


class Starter(Protocol):
    """A function that starts an actor for `Cls.start()`, and returns its ref."""

    def __call__(self, actor_class: type[A], args: tuple[Any, ...], kwargs: Mapping[str, Any], /) -> ActorRef[A]: ...


homes: Final[list[Callable[[], Starter | None]]] = []
"""Functions that return the starter for the calling code, or None; without any, the default system starts the actor."""

_numbers = count(1)


def start(actor_class: type[A], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ActorRef[A]:
    """Start an actor in the gate or system of the calling code; see `BaseActor.start`."""
    found = next((starter for home in homes if (starter := home()) is not None), None)
    return (found or default_system().start_actor)(actor_class, args, kwargs)


def default_system() -> ActorSystem:
    """Return the system of actors that are started outside of any gate.

    They are in pykka's registry, and the process does not end before they have ended.
    """
    with _open_systems.default_lock:
        system = next(filter(_is_default, _open_systems.open_systems), None)
        if system is None:
            system = ActorSystem("default")
            system.keeps_process = True
            system.open()
        return system


def _is_default(system: _open_systems.OpenSystem) -> TypeGuard[ActorSystem]:
    return isinstance(system, ActorSystem) and system.keeps_process


class _PlaceByHand(ActorPlace):
    """A place whose mailbox accepts messages that nothing runs."""

    __slots__ = ()

    def _make_drain(self) -> Drain:
        return NoDrain()

    def stop(
        self,
        reason: ExitReason = NORMAL,
        *,
        drain: bool,  # noqa: ARG002
        administrative: bool,
        here: bool = False,  # noqa: ARG002
    ) -> Reply[ExitReason]:
        """Close the place for `ref.stop()`; `self.stop()` changes nothing, as in pykka."""
        reply: Reply[ExitReason] = Reply()
        if administrative:
            self.close(reason)
            reply._set(reason)
        return reply


def place_by_hand(actor_class: type[BaseActor]) -> ActorPlace:
    """Return the place of an instance that was made by hand."""
    return _PlaceByHand(_closed_system(), f"{actor_class.__name__}-made-by-hand-{next(_numbers)}", actor_class)


@cache
def _closed_system() -> ActorSystem:
    """Return a system that was never opened."""
    return ActorSystem("made by hand")


BaseActor._start_outside = staticmethod(start)
BaseActor._place_by_hand = staticmethod(place_by_hand)
