"""Tokens and actors that the code in child processes knows by their ids and paths, and what these mean to the gate.

Those of the gate itself are known by their own. It may have some of another gate, too, which are given others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from actors.places._actor import BaseActor
from actors.places._actor_place import ActorPlace, Status
from actors.places._drain import NoDrain

if TYPE_CHECKING:
    from actors.processes.pickling._ports import ProcessSystem
    from actors.tokens._token import Token

# Tokens that are kept for an actor's instance beyond the call in which it got to know them.
_MOST_KEPT: Final = 10_000

# Tokens that are kept in a call after the child was told their values: it may still send them to somebody.
_MOST_DELIVERED: Final = 1_000


class KnownTokens:
    """The tokens that one child knows.

    Those that it came to know in a call are kept until the call is over. The instance of an actor may have put them
    away, so of its tokens those are kept after that whose value it was not told, the latest only.
    """

    __slots__ = ("_delivered", "_kept", "by_call", "changed")

    def __init__(self) -> None:
        self.changed = False  # whether the end of a call may make a difference
        self.by_call: dict[int, dict[int, Token[Any]]] = {}  # {number of a call: {id: token}}
        self._kept: dict[int, Token[Any]] = {}  # {id: token}, the oldest first
        self._delivered: dict[
            int, None
        ] = {}  # ids of those whose value the child was told in this call, the oldest first

    def keep(self, call: int, id: int, token: Token[Any]) -> None:
        """Keep a token that the code of a call gets to know by this id; on any thread."""
        self.by_call.setdefault(call, {})[id] = token
        self.changed = True

    def note_delivered(self, id: int) -> None:
        """Take note that the child has the value of a token, and does not ask for it again; on the host's thread."""
        self.changed = True
        self._delivered[id] = None
        if len(self._delivered) > _MOST_DELIVERED:
            oldest = next(iter(self._delivered))
            del self._delivered[oldest]
            self._kept.pop(oldest, None)
            for tokens in list(self.by_call.values()):
                tokens.pop(oldest, None)

    def call_over(self, call: int, *, keep: bool) -> None:
        """Let go of what was known in the calls up to this one, or keep it for the instance; on the host's thread."""
        self.changed = False  # before the look: what comes after it is seen at the next one
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
        """Let go of all of them."""
        self.by_call.clear()
        self._kept.clear()
        self._delivered.clear()

    def __len__(self) -> int:
        return sum(map(len, list(self.by_call.values()))) + len(self._kept)


def id_of(token: Token[Any], system: ProcessSystem) -> int:
    """Return the id by which children of a system know a token; somebody is to keep it."""
    id = token.id if token._place.system is system else -system.next_name()
    system.carried_tokens[id] = token
    return id


def token_of(id: int, system: ProcessSystem) -> Token[Any] | None:
    """Return the token that children know by an id; None for one that has ended and that nobody keeps any more."""
    return system.carried_tokens.get(id) or system.live.get(id)


def path_of(place: ActorPlace, system: ProcessSystem) -> str:
    """Return the path by which children of a system know an actor's place."""
    path, known = place.path, system.carried_places
    if place.system is not system:
        path = f"{place.system.name}:{path}"
        while known.get(path, place) is not place:  # of one more gate with the same name
            path += "'"
    known[path] = place
    return path


def place_of(path: str, system: ProcessSystem) -> ActorPlace:
    """Return the place that children know by a path; of one that was given up, what is left, or what is as dead."""
    place = system.place_at(path)
    if not isinstance(place, ActorPlace):
        place = system.carried_places.get(path)
    if place is None:
        place = ActorPlace(system, path, Actor)
        place.status = Status.CLOSED
        place.mailbox.close()
    return place


class Actor(BaseActor):
    """What stands for an actor that has ended for good, and of which only the path is left."""

    affinity = "cpu"

    @classmethod
    def _make_drain(cls, place: ActorPlace) -> NoDrain:  # noqa: ARG003
        return NoDrain()
