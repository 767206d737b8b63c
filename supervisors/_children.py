"""The children of a supervisor: a table of them, and what it shows."""

from __future__ import annotations

from typing import Any

from actors import ActorRef
from actors.lowlevel import ActorPlace
from supervisors._child import Child, ChildCounts, ChildInfo, Phase, ends_at
from supervisors._exceptions import NoSuchChild


class Children(dict[str, Child]):
    """{id: child}, in the order of their start.

    Any thread may add a child, under the lock of the supervisor's place, and take it out again. All else is for the
    system loop, which goes through copies.

    Args:
        supervisor: the place of their supervisor.
    """

    def __init__(self, supervisor: ActorPlace) -> None:
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
        known = ", ".join(f"'{id}'" for id in list(self)) or "none"
        raise NoSuchChild(f"'{self._supervisor.path}' has no child {child!r}; its children: {known}")

    def at(self, place: ActorPlace) -> Child | None:
        """Return the child that has a place."""
        child = self.get(_id_of(place.path))
        return child if child is not None and child.place is place else None

    def holds(self, child: Child) -> bool:
        """Return whether a child is still in the table: it may have been forgotten, and another one may have its id."""
        return self.get(child.spec.id) is child

    def discard(self, child: Child) -> None:
        """Take a child out, if it is still in the table; on any thread."""
        with self._supervisor.lock:
            if self.holds(child):
                del self[child.spec.id]

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
                ends=ends_at(child.place),
            )
            for child in reversed(list(self.values()))
        ]

    def counts(self) -> ChildCounts:
        """Return how many children there are, by kind and by state."""
        children = list(self.values())
        supervisors = sum(child.supervisor for child in children)
        return ChildCounts(
            specs=len(children),
            active=sum(child.phase in (Phase.RUNNING, Phase.STOPPING) for child in children),
            restarting=sum(child.phase is Phase.RESTARTING for child in children),
            supervisors=supervisors,
            workers=len(children) - supervisors,
        )


def _id_of(path: str) -> str:
    return path.rpartition("/")[2]
