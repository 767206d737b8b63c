"""Supervisors whose children come and go at run time."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import trio

from actors import SHUTDOWN, ActorRef, ExitReason, Later, NameTaken, Reply
from actors.lowlevel import nesting, path_below, place_class, refusal, system_of
from supervisors._backoff import Backoff
from supervisors._base_supervisor import BaseSupervisor, check_flags, is_supervisor
from supervisors._child import Child, Phase
from supervisors._child_spec import ChildSpec, Shutdown
from supervisors._exceptions import BadSpec, Ignore, TooManyChildren
from supervisors._reports import ChildStartFailed
from supervisors._strategy import Restart, is_restarted
from supervisors._supervisor import check_child

# Maximum depth of turns on a thread at which an instance is made there: its `__init__` may spawn the next one.
_MAX_DEPTH: Final = 16

_STARTING: Final = Phase.STARTING


class DynamicSupervisor(BaseSupervisor):
    """A supervisor whose children come and go at run time, and whose specs go with them.

    Each child is dealt with alone. When the supervisor stops, it stops all of them at once.

    Args:
        max_children: how many it may have; None sets no limit.
        intensity: as for `Supervisor`.
        period: seconds, as for `Supervisor`.
        backoff: as for `Supervisor`.
        max_abandoned: as for `Supervisor`.

    Raises:
        BadSpec: a value that cannot work; the message names the supervisor and the field.
    """

    def __init__(
        self,
        *,
        max_children: int | None = None,
        intensity: int = 3,
        period: float = 5.0,
        backoff: Backoff | None = None,
        max_abandoned: int = 8,
    ) -> None:
        super().__init__("one_for_one", intensity, period, backoff, max_abandoned)
        _check(self._place.path, max_children, intensity, period, backoff, max_abandoned)
        self._max_children = max_children

    @classmethod
    def child_spec(
        cls,
        id: str,
        *,
        max_children: int | None = None,
        intensity: int = 3,
        period: float = 5.0,
        backoff: Backoff | None = None,
        max_abandoned: int = 8,
        restart: Restart = "permanent",
        shutdown: Shutdown | None = None,
        significant: bool = False,
    ) -> ChildSpec:
        """Return the spec of a dynamic supervisor that is itself a child, checked before anything is started."""
        _check(id, max_children, intensity, period, backoff, max_abandoned)
        options = {
            "max_children": max_children,
            "intensity": intensity,
            "period": period,
            "backoff": backoff,
            "max_abandoned": max_abandoned,
        }
        return ChildSpec(id, cls, kwargs=options, restart=restart, shutdown=shutdown, significant=significant)

    def start_child(self, spec: ChildSpec) -> Later[ActorRef[Any] | None]:
        """Start a child.

        Returns:
            its ref, after `on_start`; None, if it declines (`Ignore`).

        Raises:
            AlreadyStarted: a child with this id is there.
            TooManyChildren: there are `max_children` already.
            StartFailed: it did not start; nothing of it stays.
        """
        path = self._place.path
        check_child(path, spec, "never")
        if self._max_children is not None and len(self._children) >= self._max_children:
            raise TooManyChildren(f"'{path}' has {len(self._children)} children, as many as it may have (max_children)")
        return self._begin(partial(self._start_first, self._add(spec, static=False)))

    def _start_at_once(self, spec: ChildSpec, here: bool) -> Reply[ActorRef[Any]] | None:
        """Start a child without a request to this supervisor; on any thread.

        The thread on which the start is over notes and reports that, before the child can end. If the calling thread is
        interrupted, recovery completes or undoes the start.

        Args:
            spec: of the child.
            here: whether its instance may be made on the calling thread.

        Returns:
            the reply of the start; None if the start, or its refusal, takes a request to the supervisor.
        """
        own, system = self._place, system_of(self._place)
        if self._max_children is not None or system.guarded or own.suspended or own.drained or refusal():
            return None
        actor_class, args, kwargs = spec.actor
        try:
            path = path_below(own.path, spec.id)
            place = place_class(actor_class)(system, path, actor_class, args, kwargs, owner=self._owns)
        except ValueError:
            return None
        child = Child(self._keeps, spec, place, False, is_supervisor(spec), None, _STARTING, starting=True)
        place.keeper = child
        system.starts.add(place)
        try:
            system.enter(place)
        except NameTaken:
            system.starts.discard(place)
            return None
        if not self._join(child):
            place.close(SHUTDOWN)
            system.starts.discard(place)
            return None
        reply = place.start(partial(self._start_is_over, child), here=here and nesting(own)[0] < _MAX_DEPTH)
        system.starts.discard(place)
        return reply

    def _join(self, child: Child) -> bool:
        """Add a child to the table; return False if this supervisor is ending, or if the table has one with this id.

        The instance of that one has ended, since its path is free; its end has not been handled yet. It is False also
        for a child that was stopped, by its name in the tree, before it was added: no start of it would ever be over.
        """
        own = self._place
        with own.lock:
            joins = own.runs(self) and own.ending is None and child.spec.id not in self._children
            if joins:
                self._children[child.spec.id] = child
        if joins and child.place.closed:
            self._children.discard(child)
            return False
        return joins

    def _start_is_over(self, child: Child, failure: BaseException | None) -> None:
        """Note and report the outcome of a start, on the thread where it is over."""
        if failure is None:
            if child.phase is _STARTING:  # reported first: what is interrupted in between is done again
                self._report_start(child)
            child.has_started(_STARTING)
        elif isinstance(failure.__cause__, Ignore):
            self._declined(child)
        else:  # reported first: once the path is free, another child of this name may start
            if self._children.holds(child):  # else it was undone before this, which is reported
                self._report(ChildStartFailed(self._place.path, child.place.path, failure))
            self._forget(child, SHUTDOWN)

    def _retire(self, child: Child, reason: ExitReason) -> None:
        child.phase = Phase.STOPPED
        self._forget(child, reason)

    def _spec_goes_with(self, child: Child, reason: ExitReason) -> bool:
        stays = is_restarted(child.spec.restart, reason) and not (child.held or child.place.administrative)
        return not stays

    async def _stop_children(self) -> None:
        async with trio.open_nursery() as nursery:
            for child in reversed(list(self._children.values())):
                nursery.start_soon(self._stop_for_good, child)
        self._children.clear()


def start_at_once(supervisor: ActorRef[Any], spec: ChildSpec, *, here: bool) -> Reply[ActorRef[Any]] | None:
    """Start a child of a dynamic supervisor without a request to it, if it takes none.

    Args:
        supervisor: its ref.
        spec: of the child.
        here: whether the instance may be made on the calling thread, if its class has no `on_start`.

    Returns:
        the reply of the start, which is the child's ref, or `StartFailed`; None if a request must be made
        (`start_child`).
    """
    instance = supervisor._place.instance
    return instance._start_at_once(spec, here) if isinstance(instance, DynamicSupervisor) else None


def _check(
    name: str, max_children: object, intensity: object, period: object, backoff: object, max_abandoned: object
) -> None:
    check_flags(name, intensity, period, backoff, max_abandoned)
    if max_children is not None and (not isinstance(max_children, int) or max_children < 0):
        raise BadSpec(
            f"supervisor '{name}': max_children is {max_children!r}; it must be an int of at least 0, or None"
        )
