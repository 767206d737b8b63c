"""The verbs for supervisors: list, start, stop and remove children."""

from __future__ import annotations

from collections import Counter

from actors import ActorSystem
from actors.lowlevel import SYSTEM, ActorPlace, path_below
from supervisors import ChildInfo, DynamicSupervisor, NoSuchChild, Supervisor
from tokengate.control import messages as m
from tokengate.control._admission import admission, restricted
from tokengate.control._exceptions import NotSteerable
from tokengate.control.inspection import _queries
from tokengate.control.steering._actors import check_guards


class SupervisorVerbs:
    """The verbs for the supervisors of a system. Changes are tokens, as in programs; reading needs none.

    Args:
        system: the system.
    """

    def __init__(self, system: ActorSystem) -> None:
        self._system = system

    async def which_children(self, message: m.WhichChildren) -> tuple[m.ChildRow, ...]:
        return tuple(map(_child_row, _seen(self._supervisor(message.name)[1])))

    async def count_children(self, message: m.CountChildren) -> m.ChildCountsRow:
        found = _seen(self._supervisor(message.name)[1])
        states, supervisors = Counter(str(child.status) for child in found), sum(child.supervisor for child in found)
        active = states["running"] + states["stopping"]
        return m.ChildCountsRow(len(found), active, states["restarting"], supervisors, len(found) - supervisors)

    async def terminate_child(self, message: m.TerminateChild) -> m.ActorOutcome:
        place, supervisor = self._supervisor(message.name, change=True)
        _reach(place, supervisor, message.id)
        stopped = any(child.id == message.id and child.status == "stopped" for child in supervisor.which_children())
        path = path_below(place.path, message.id)
        for child in self._system.below(place):
            if child.path == path:
                check_guards(self._system, child)
        await place.ref.proxy().terminate_child(message.id)
        if stopped:
            return m.ActorOutcome(path, "unchanged", "it had stopped before")
        return m.ActorOutcome(path, "done", "it has stopped")

    async def restart_child(self, message: m.RestartChild) -> m.ActorOutcome:
        place = self._static(message.name, message.id)
        ref = await place.ref.proxy().restart_child(message.id)
        path = path_below(place.path, message.id)
        if ref is None:
            return m.ActorOutcome(path, "unchanged", "it declined to start")
        return m.ActorOutcome(path, "done", "it has started")

    async def delete_child(self, message: m.DeleteChild) -> m.ActorOutcome:
        place = self._static(message.name, message.id)
        await place.ref.proxy().delete_child(message.id)
        return m.ActorOutcome(path_below(place.path, message.id), "done", "its spec is removed")

    def _supervisor(self, name: str, *, change: bool = False) -> tuple[ActorPlace, Supervisor | DynamicSupervisor]:
        place = _queries.actor_called(self._system, name)
        admission().reach(place)
        supervisor = _queries.supervisor_at(place)
        if supervisor is None:
            raise NotSteerable(f"'{place.path}' is not a running supervisor; it is {place.status}")
        if change and place.path.startswith(SYSTEM):
            raise NotSteerable(f"'{place.path}' belongs to the runtime")
        return place, supervisor

    def _static(self, name: str, id: str) -> ActorPlace:
        place, supervisor = self._supervisor(name, change=True)
        _reach(place, supervisor, id)
        if isinstance(supervisor, DynamicSupervisor):
            raise NotSteerable(
                f"'{place.path}' is a DynamicSupervisor, which keeps no specs of children that have stopped"
            )
        return place


def _seen(supervisor: Supervisor | DynamicSupervisor) -> list[ChildInfo]:
    """Return the children that the caller may see, newest first."""
    here, found = restricted(), supervisor.which_children()
    return found if here is None else [child for child in found if here.sees_place(child.path)]


def _reach(place: ActorPlace, supervisor: Supervisor | DynamicSupervisor, id: str) -> None:
    """Raise an error if the caller may not do this to a child; for one that it may not see, as if there were none."""
    path = path_below(place.path, id)
    if restricted() is not None:
        seen = [child.id for child in reversed(_seen(supervisor))]
        if id not in seen:
            known = ", ".join(f"'{one}'" for one in seen) or "none"
            raise NoSuchChild(f"'{place.path}' has no child {id!r}; its children: {known}")
    admission().reach(path)


def _child_row(child: ChildInfo) -> m.ChildRow:
    return m.ChildRow(
        id=child.id,
        path=child.path,
        status=str(child.status),
        restart=child.restart,
        restarts=child.restarts,
        significant=child.significant,
        supervisor=child.supervisor,
        ends=_queries.end_rows(child.ends, child.path, restricted()),
    )
