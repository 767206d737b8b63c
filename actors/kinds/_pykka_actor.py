"""Adapts actor classes that were written for pykka, so that their actors can have a place in a tree."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import pykka

from actors.kinds._cpu_actor import CpuActor
from actors.places._actor import BaseActor
from actors.places._ref import ActorRef, ForeignRef, OneWay

if TYPE_CHECKING:
    from actors.places._actor_place import ActorPlace
    from actors.tokens._token import Token


class _AsInPykka(CpuActor):
    dispatcher = "pinned"
    _interruptible = False

    @classmethod
    def _make_ref(cls, place: ActorPlace) -> ActorRef[Any]:
        return ForeignRef(place)

    @classmethod
    def _crashes(cls, token: Token[Any], error: BaseException) -> bool:
        return type(token._call) is OneWay or not isinstance(error, Exception)


def _kept(name: str) -> property:
    """Return a property that reads from the place; a write by pykka's own `__init__` has no effect."""
    return property(getattr(BaseActor, name).fget, lambda _self, _value: None)


@cache
def cpu_actor_class(foreign: type[pykka.Actor]) -> type[BaseActor]:
    """Return a pinned `CpuActor` subclass with the behaviour of a pykka actor class.

    So it has a thread of its own, which is joined when its place is closed, and it has the mailbox and the ref of its
    place, which outlive its instances; `self.actor_ref` is that ref. As in pykka, an exception is the answer to an
    `ask`, and a crash after a `tell`.

    Args:
        foreign: a subclass of `pykka.Actor`, such as a `pykka.ThreadingActor`, but not of `BaseActor`.
    """
    namespace: dict[str, Any] = {
        "__module__": foreign.__module__,
        "__qualname__": foreign.__qualname__,
        "__doc__": foreign.__doc__,
        # Methods that pykka's threading runtime has as well: the runtime's own replace them.
        **{name: getattr(CpuActor, name) for name in ("_create_future", "_create_actor_inbox", "_start_actor_loop")},
        **{name: _kept(name) for name in ("actor_urn", "actor_inbox", "actor_stopped")},
    }
    bases: tuple[type, ...] = (foreign, _AsInPykka)
    return type(foreign.__name__, bases, namespace)  # pyright: ignore[reportGeneralTypeIssues]  # of any two classes
