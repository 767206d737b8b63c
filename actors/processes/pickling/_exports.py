"""The ids and paths by which code in child processes refers to tokens and actors.

Tokens and actors of the gate have their own ids and paths there. Those of another gate in this process are given new
ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from actors.places._actor import BaseActor
from actors.places._actor_place import ActorPlace, Status
from actors.places._drain import NoDrain

if TYPE_CHECKING:
    from actors.processes.pickling._ports import ProcessSystem
    from actors.tokens._token import Token

# Tokens that are kept for an actor's instance after the call in which it got them, at most.
_MOST_KEPT: Final = 10_000

# Tokens that are kept in a call after the child has got their values, at most: it may still pass them on.
_MOST_DELIVERED: Final = 1_000


class KnownTokens:
    """The tokens that one child may refer to.

    Tokens that it gets in a call are kept until the call is over. The instance of an actor may have stored them; so
    the latest `_MOST_KEPT` of them are kept longer, except those that it already has the value of.
    """

    __slots__ = ("_delivered", "_kept", "by_call", "changed")

    def __init__(self) -> None:
        self.changed = False  # whether `call_over` may have something to do
        self.by_call: dict[int, dict[int, Token[Any]]] = {}  # {number of a call: {id: token}}
        self._kept: dict[int, Token[Any]] = {}  # {id: token}, the oldest first
        self._delivered: dict[
            int, None
        ] = {}  # ids of tokens that the child got the value of in this call, the oldest first

    def keep(self, call: int, id: int, token: Token[Any]) -> None:
        """Keep a token that the code of a call gets by this id; on any thread."""
        self.by_call.setdefault(call, {})[id] = token
        self.changed = True

    def note_delivered(self, id: int) -> None:
        """Note that the child has got the value of a token, and will not ask again; on the host's thread."""
        self.changed = True
        self._delivered[id] = None
        if len(self._delivered) > _MOST_DELIVERED:
            oldest = next(iter(self._delivered))
            del self._delivered[oldest]
            self._kept.pop(oldest, None)
            for tokens in list(self.by_call.values()):
                tokens.pop(oldest, None)

    def call_over(self, call: int, *, keep: bool) -> None:
        """Drop the tokens of the calls up to this one, or keep them for the instance; on the host's thread."""
        self.changed = False  # before the look: a token that comes after it is handled the next time
        for number in [number for number in list(self.by_call) if number <= call]:
            tokens = self.by_call.pop(number)
            if keep:
                self._kept.update(tokens)
        for id in self._delivered:
            self._kept.pop(id, None)
        self._delivered.clear()
        while len(self._kept) > _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        if self.by_call:
            self.changed = True

    def clear(self) -> None:
        """Drop all tokens."""
        self.by_call.clear()
        self._kept.clear()
        self._delivered.clear()

    def __len__(self) -> int:
        return sum(map(len, list(self.by_call.values()))) + len(self._kept)


def id_of(token: Token[Any], system: ProcessSystem) -> int:
    """Return the id by which children of a system refer to a token; the caller has to keep the token."""
    id = token.id if token._place.system is system else -system.next_name()
    system.carried_tokens[id] = token
    return id


def token_of(id: int, system: ProcessSystem) -> Token[Any] | None:
    """Return the token with this id in children; None for one that has ended and is not kept any more."""
    return system.carried_tokens.get(id) or system.live.get(id)


def path_of(place: ActorPlace, system: ProcessSystem) -> str:
    """Return the path by which children of a system refer to an actor's place."""
    path, known = place.path, system.carried_places
    if place.system is not system:
        path = f"{place.system.name}:{path}"
        while known.get(path, place) is not place:  # a place of yet another gate with this name
            path += "'"
    known[path] = place
    return path


def place_of(path: str, system: ProcessSystem) -> ActorPlace:
    """Return the place with this path in children; for a place that is gone, a closed one in its stead."""
    place = system.place_at(path)
    if not isinstance(place, ActorPlace):
        place = system.carried_places.get(path)
    if place is None:
        place = ActorPlace(system, path, Actor)
        place.status = Status.CLOSED
        place.mailbox.close()
    return place


class Actor(BaseActor):
    """The class of an actor that has ended for good, and of which only the path is known."""

    affinity = "cpu"

    @classmethod
    def _make_drain(cls, place: ActorPlace) -> NoDrain:  # noqa: ARG003
        return NoDrain()
