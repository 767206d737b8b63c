"""The places of a system by their paths, and the trees that the paths form."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from actors._exceptions import NameTaken, UnknownActor
from actors.places._actor_place import ActorPlace
from actors.places._place import Place

ROOT = "/"  # path of the root of the tree; the paths below are written without it
SYSTEM = "$system"  # path of the root of the runtime's own tree, which is apart from the other one


def path_below(path: str, name: str) -> str:
    """Return the path of a name right below a path."""
    return name if path == ROOT else f"{path}/{name}"


def _above(path: str) -> str:
    """Return the path right above a path; an empty one for a root."""
    return "" if path in (ROOT, SYSTEM) else path.rpartition("/")[0] or ROOT


class PlaceTable:
    """The table of places, a part of the system.

    Args:
        name: of the system, for error messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._places: dict[str, Place] = {}  # {path: place}
        self._below: dict[str, dict[str, Any]] = {}  # {path: {path: actor's place right below it}}, none is empty
        self._places_lock = threading.Lock()

    def register(self, place: Place) -> None:
        """Enter a place.

        Raises:
            NameTaken: the path is in use.
        """
        with self._places_lock:
            if place.path in self._places:
                raise NameTaken(f"'{self.name}' has an actor called '{place.path}' already; choose another name")
            siblings = self._below.setdefault(_above(place.path), {}) if isinstance(place, ActorPlace) else {}
            self._places[place.path] = siblings[place.path] = place

    def forget(self, place: Place) -> None:
        """Free the path of a place that has ended."""
        with self._places_lock:
            if self._places.get(place.path) is not place:
                return
            del self._places[place.path]
            if isinstance(place, ActorPlace):
                above = _above(place.path)
                siblings = self._below.get(above, {})
                siblings.pop(place.path, None)  # it is not there if its registration was interrupted
                if not siblings:
                    self._below.pop(above, None)

    def places(self) -> list[Place]:
        """Return all places, in the order in which they were made."""
        with self._places_lock:
            return list(self._places.values())

    def place_at(self, path: str) -> Place | None:
        """Return the place with exactly this path, or None."""
        with self._places_lock:
            return self._places.get(path)

    def find(self, name: str, among: Callable[[Place], bool] = lambda _place: True) -> Place:
        """Return the place with this path, or the only one whose path ends with it.

        Args:
            name: the path, or its last parts.
            among: whether a place counts.

        Raises:
            UnknownActor: there is none, or there are several.
        """
        place = self._places.get(name)  # without the lock: a look-up is atomic
        if place is not None and among(place):
            return place
        places = self.places()
        found = [p for p in places if p.path.endswith("/" + name) and not p.path.startswith(SYSTEM) and among(p)]
        if len(found) == 1:
            return found[0]
        if found:
            paths = ", ".join(sorted(p.path for p in found))
            raise UnknownActor(f"several are called '{name}' in '{self.name}': {paths}; use the path")
        raise UnknownActor(f"no actor or operation is called '{name}' in '{self.name}'")

    def is_root(self, place: ActorPlace) -> bool:
        """Tell whether a place is at the root of a tree: its actor is not started again."""
        return place.path in (ROOT, SYSTEM)

    def above(self, place: ActorPlace) -> ActorPlace | None:
        """Return the place right above one: its supervisor's, if it has one."""
        found = self.place_at(_above(place.path))
        return found if isinstance(found, ActorPlace) else None

    def below(self, place: ActorPlace) -> list[ActorPlace]:
        """Return the places right below one, in the order in which they were made."""
        with self._places_lock:
            return list(self._below.get(place.path, {}).values())
