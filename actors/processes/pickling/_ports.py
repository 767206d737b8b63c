"""What the gate's side of child processes needs of the actor system."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Protocol
from weakref import WeakValueDictionary

from actors.places._actor_place import ActorPlace
from actors.places._place import Place
from actors.places._ports import PlaceSystem
from actors.tokens._token import Token


class ProcessSystem(PlaceSystem, Protocol):
    """The system of child processes."""

    @property
    def carried_tokens(self) -> WeakValueDictionary[int, Token[Any]]: ...

    @property
    def carried_places(self) -> WeakValueDictionary[str, ActorPlace]: ...

    @property
    def carried_variables(self) -> dict[ContextVar[Any], tuple[Any, ...]]: ...

    @property
    def carried_operations(self) -> dict[int | str, Any]: ...

    def place_at(self, path: str, /) -> Place | None: ...
