"""The children of a supervisor: a table of them, and what it shows."""

from __future__ import annotations

from typing import Any

from actors import ActorRef
from actors.lowlevel import ActorPlace
from supervisors._child import Child, ChildCounts, ChildInfo, Phase
from supervisors._exceptions import NoSuchChild


class Children(dict[str, Child]):
    """{id: child}, in the order of their start.

    Args:
        supervisor: path of their supervisor.
    """

    def __init__(self, supervisor: str) -> None:
        super().__init__()
        self._supervisor = supervisor

    def find(self, child: str | ActorRef[Any]) -> Child:
        """Return the child with an id or a ref.

        Raises:
            NoSuchChild: there is none.
        """
        if isinstance(child, ActorRef):
            found = self.get(_id_of(child.path))
            if found is not None and found.place.ref is child:
                return found
        elif child in self:
            return self[child]
        known = ", ".join(f"'{id}'" for id in self) or "none"
        raise NoSuchChild(f"'{self._supervisor}' has no child {child!r}; its children: {known}")

    def at(self, place: ActorPlace) -> Child | None:
        """Return the child that has a place."""
        child = self.get(_id_of(place.path))
        return child if child is not None and child.place is place else None

    def holds(self, child: Child) -> bool:
        """Return whether a child is still in the table: it may have been forgotten, and another one may have its id."""
        return self.get(child.spec.id) is child

    def infos(self) -> list[ChildInfo]:
        """Return a description of each child, the newest first."""
        return [
            ChildInfo(
                id=child.spec.id,
                path=child.place.path,
                status=child.phase,
                restarts=child.restarts,
                start=child.spec.start,
                restart=child.spec.restart,
                significant=child.spec.significant,
                supervisor=child.supervisor,
            )
            for child in reversed(self.values())
        ]

    def counts(self) -> ChildCounts:
        """Return how many children there are, by kind and by state."""
        supervisors = sum(child.supervisor for child in self.values())
        return ChildCounts(
            specs=len(self),
            active=sum(child.phase in (Phase.RUNNING, Phase.STOPPING) for child in self.values()),
            restarting=sum(child.phase is Phase.RESTARTING for child in self.values()),
            supervisors=supervisors,
            workers=len(self) - supervisors,
        )


def _id_of(path: str) -> str:
    return path.rpartition("/")[2]
