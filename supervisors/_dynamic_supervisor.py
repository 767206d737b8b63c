"""Supervisors whose children come and go at run time."""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

from actors import ActorRef, ExitReason, Later
from supervisors._backoff import Backoff
from supervisors._base_supervisor import BaseSupervisor, check_flags
from supervisors._child import Child, Phase
from supervisors._child_spec import ChildSpec, Shutdown
from supervisors._exceptions import BadSpec, TooManyChildren
from supervisors._strategy import Restart, is_restarted
from supervisors._supervisor import check_child


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


def _check(
    name: str, max_children: object, intensity: object, period: object, backoff: object, max_abandoned: object
) -> None:
    check_flags(name, intensity, period, backoff, max_abandoned)
    if max_children is not None and (not isinstance(max_children, int) or max_children < 0):
        raise BadSpec(
            f"supervisor '{name}': max_children is {max_children!r}; it must be an int of at least 0, or None"
        )
