"""Proxies: an actor as an object; method calls, reads and writes become tokens."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pykka
import pykka.messages

from actors._exceptions import ActorDead

if TYPE_CHECKING:
    from actors.places._ref import ActorRef

A = TypeVar("A", bound="pykka.Actor")

_logger = logging.getLogger("tokengate.actors")

_MISSING = object()


class ActorProxy(pykka.ActorProxy[A]):
    """An actor as an object: each method call, attribute read and write is a token.

    It holds only the ref, so it stays valid across restarts. It looks names up in the class and the present instance,
    without evaluating anything. `proxy.method(...)` returns the call's token; `proxy.method.defer(...)` expects no
    answer; `proxy.attribute` returns the token of its value; `proxy.attribute = value` waits until the value is set. An
    attribute that is marked with `pykka.traversable` is a proxy itself.
    """

    def __init__(self, *, actor_ref: pykka.ActorRef[A], attr_path: tuple[str, ...] | None = None) -> None:
        if not actor_ref.is_alive():
            place = getattr(actor_ref, "_place", None)
            raise ActorDead(f"{actor_ref} not found") if place is None else place.not_found()
        self.actor_ref = actor_ref
        self._attr_path = attr_path or ()
        if not attr_path:
            for name, value in self._instance_attributes().items():
                self._is_self(name, value)

    def __getattr__(self, name: str) -> Any:
        path = (*self._attr_path, name)
        if name.startswith("_"):
            raise AttributeError(f"{self} has no attribute {name!r}: names with a leading underscore are private")
        target = self._look_up(path)
        if target is _MISSING and (self._ref._place.instance is None or self._ref._place.affinity == "process"):
            target = None  # unknown without an instance here; the token will tell
        if target is _MISSING or self._is_self(name, target):
            raise AttributeError(f"{self} has no attribute {name!r}")
        if callable(target) or isinstance(target, classmethod):
            return pykka.CallableProxy(actor_ref=self.actor_ref, attr_path=path)
        if _is_traversable(target):
            return ActorProxy(actor_ref=self.actor_ref, attr_path=path)
        return self.actor_ref.ask(pykka.messages.ProxyGetAttr(attr_path=path), block=False)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "actor_ref" or name.startswith("_"):  # the proxy's own
            object.__setattr__(self, name, value)
            return
        message = pykka.messages.ProxySetAttr(attr_path=(*self._attr_path, name), value=value)
        self.actor_ref.ask(message)

    def __dir__(self) -> list[str]:
        if self._attr_path:
            names = set(dir(self._look_up(self._attr_path)))
        else:
            names = {*dir(self._ref.actor_class), *self._instance_attributes()}
        return sorted({*object.__dir__(self), *(name for name in names if not name.startswith("_"))})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, pykka.ActorProxy):  # a proxy by pykka itself may be equal
            return False
        return (self.actor_ref, self._attr_path) == (other.actor_ref, other._attr_path)

    def __hash__(self) -> int:
        return hash((self.actor_ref, self._attr_path))

    def __repr__(self) -> str:
        return f"<ActorProxy for {self.actor_ref}, attr_path={self._attr_path!r}>"

    @property
    def _ref(self) -> ActorRef[A]:
        return cast("ActorRef[A]", self.actor_ref)

    def _look_up(self, path: tuple[str, ...]) -> Any:
        """Return the value that is stored under a path, without running properties."""
        first, *rest = path
        target = self._instance_attributes().get(first, _MISSING)
        if target is _MISSING:
            owners = (vars(cls) for cls in self._ref.actor_class.__mro__)
            target = next((attributes[first] for attributes in owners if first in attributes), _MISSING)
        for part in rest:
            target = inspect.getattr_static(target, part, _MISSING)
        return target

    def _instance_attributes(self) -> dict[str, Any]:
        instance = self._ref._place.instance
        if instance is None or self._ref._place.affinity == "process":  # the child has the instance
            return {}
        return vars(instance).copy()  # a copy, since the actor may be at work

    def _is_self(self, name: str, value: Any) -> bool:
        """Tell whether a public attribute is the actor's proxy to itself, which is not to be shown (as in pykka)."""
        if not isinstance(value, pykka.ActorProxy) or name.startswith("_") or self != value:
            return False
        _logger.warning(
            "%s attribute '%s' is a proxy to itself. Consider making it private by renaming it to '_%s'.",
            *(self.actor_ref, name, name),
        )
        return True


def _is_traversable(target: Any) -> bool:
    # Compared with True, since some objects (mocks) have every attribute.
    marks = ("_pykka_traversable", "pykka_traversable")
    return any(getattr(target, mark, False) is True for mark in marks)
