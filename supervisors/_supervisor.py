"""Supervisors with a fixed list of children.

Semantics are those of OTP's `supervisor`. A child keeps its place (path, mailbox, ref) over all its restarts; a
supervisor that is itself restarted finds the places of its static children again, with what is queued there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any, get_args

import trio

from actors import SHUTDOWN, ActorRef, Later
from supervisors._backoff import Backoff
from supervisors._base_supervisor import BaseSupervisor, check_flags
from supervisors._child import Child, Phase
from supervisors._child_spec import ChildSpec, Shutdown
from supervisors._exceptions import AlreadyRestarting, BadSpec, ChildIsRunning
from supervisors._reports import AutoShutdown as AutoShutdownReport
from supervisors._strategy import AutoShutdown, Restart, Strategy, shuts_down


class Supervisor(BaseSupervisor):
    """An actor that looks after other actors.

    Args:
        children: specs, in the order of their start; they are stopped in reverse.
        strategy: what is restarted with a child: nothing else (`one_for_one`), all children (`one_for_all`), or
            those that are started after it (`rest_for_one`).
        intensity: restarts that are allowed within `period`; one more, and the supervisor gives up: it stops its
            children and ends with `shutdown`, and its own supervisor decides.
        period: seconds.
        auto_shutdown: whether it ends in order when a `significant` child has ended by itself and is not
            restarted: `never`, with the first of them (`any_significant`), or with the last (`all_significant`).
        backoff: the delay before each restart; None restarts at once.
        max_abandoned: threads that may be left behind, because they could not be ended, before it gives up instead of
            restarting.

    Raises:
        BadSpec: a value that cannot work; the message names the child and the field.
    """

    def __init__(
        self,
        children: Iterable[ChildSpec] = (),
        *,
        strategy: Strategy = "one_for_one",
        intensity: int = 3,
        period: float = 5.0,
        auto_shutdown: AutoShutdown = "never",
        backoff: Backoff | None = None,
        max_abandoned: int = 8,
    ) -> None:
        super().__init__(strategy, intensity, period, backoff, max_abandoned)
        self._specs = check_supervisor(
            self._place.path, children, strategy, intensity, period, auto_shutdown, backoff, max_abandoned
        )
        self._auto_shutdown: AutoShutdown = auto_shutdown

    @classmethod
    def child_spec(
        cls,
        id: str,
        children: Iterable[ChildSpec] = (),
        *,
        strategy: Strategy = "one_for_one",
        intensity: int = 3,
        period: float = 5.0,
        auto_shutdown: AutoShutdown = "never",
        backoff: Backoff | None = None,
        max_abandoned: int = 8,
        restart: Restart = "permanent",
        shutdown: Shutdown | None = None,
        significant: bool = False,
    ) -> ChildSpec:
        """Return the spec of a supervisor that is itself a child, checked before anything is started."""
        specs = check_supervisor(id, children, strategy, intensity, period, auto_shutdown, backoff, max_abandoned)
        options = {
            "strategy": strategy,
            "intensity": intensity,
            "period": period,
            "auto_shutdown": auto_shutdown,
            "backoff": backoff,
            "max_abandoned": max_abandoned,
        }
        return ChildSpec(
            id, cls, args=(specs,), kwargs=options, restart=restart, shutdown=shutdown, significant=significant
        )

    async def on_start(self) -> None:  # type: ignore[override]
        try:
            for spec in self._specs:
                await self._start_first(self._add(spec, static=True))
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._stop_children()
            raise
        for place in self._place.system.below(self._place):  # of an earlier instance's, what this one has no use for
            if place.orphaned:
                place.close(SHUTDOWN)

    # Administration, as tokens

    def start_child(self, spec: ChildSpec) -> Later[ActorRef[Any] | None]:
        """Add a child after all others, for as long as this instance of the supervisor lives, and start it.

        Returns:
            its ref, after `on_start`; None, if it declines (`Ignore`).

        Raises:
            AlreadyStarted: a child with this id runs.
            AlreadyPresent: a child with this id is there, without an instance.
            StartFailed: it did not start; nothing of it stays.
            BadSpec: it does not fit this supervisor.
        """
        check_child(self._place.path, spec, self._auto_shutdown)
        return self._begin(partial(self._start_first, self._add(spec, static=False)))

    def restart_child(self, id: str | ActorRef[Any]) -> Later[ActorRef[Any] | None]:
        """Start a child that has no instance.

        Returns:
            its ref, after `on_start`; None, if it declines (`Ignore`).

        Raises:
            NoSuchChild: there is none.
            ChildIsRunning: it has an instance; terminate it first.
            AlreadyRestarting: it is being started again already.
            StartFailed: it did not start; it stays as it was: without an instance, to be restarted or deleted.
        """
        child = self._children.find(id)
        self._check_stopped(child, "restarted")
        held = child.held
        child.phase, child.held, child.place.administrative = Phase.RESTARTING, False, False
        return self._begin(partial(self._restart_stopped, child, held))

    def delete_child(self, id: str | ActorRef[Any]) -> None:
        """Forget a child that has no instance, with its place.

        Raises:
            NoSuchChild: there is none.
            ChildIsRunning: it has an instance; terminate it first.
            AlreadyRestarting: it is being started again; terminate it first.
        """
        child = self._children.find(id)
        self._check_stopped(child, "deleted")
        self._forget(child, SHUTDOWN)

    def _check_stopped(self, child: Child, what: str) -> None:
        name = f"child '{child.spec.id}' of '{self._place.path}'"
        if child.phase is Phase.RESTARTING:
            raise AlreadyRestarting(f"{name} cannot be {what}: it is being started again; terminate it first")
        if child.active:
            raise ChildIsRunning(f"{name} cannot be {what}: it is {child.phase}; terminate it first")

    async def _restart_stopped(self, child: Child, held: bool) -> ActorRef[Any] | None:
        async with child.turn:
            failed = None if child.phase is Phase.RUNNING else await self._start_all([child])
        if failed is not None:
            child.held = child.held or held
            self._retire(child, SHUTDOWN)
            raise failed[1]
        return child.place.ref if child.active else None

    # What ends

    def _ended_for_good(self, child: Child) -> None:
        left = sum(other.spec.significant and other.active for other in self._children.values())
        if shuts_down(self._auto_shutdown, child.spec.significant, left):
            self._report(AutoShutdownReport(self._place.path, child.place.path))
            self._end()

    async def _stop_children(self) -> None:
        for child in reversed(list(self._children.values())):
            await self._stop_for_good(child)
        self._children.clear()


def check_supervisor(
    name: str,
    children: Iterable[ChildSpec],
    strategy: object,
    intensity: object,
    period: object,
    auto_shutdown: object,
    backoff: object,
    max_abandoned: object,
) -> tuple[ChildSpec, ...]:
    """Return the specs as a tuple, or raise `BadSpec` for the first value that cannot work."""
    if strategy not in get_args(Strategy):
        raise BadSpec(f"supervisor '{name}': strategy is {strategy!r}; choose one of {get_args(Strategy)}")
    if auto_shutdown not in get_args(AutoShutdown):
        raise BadSpec(
            f"supervisor '{name}': auto_shutdown is {auto_shutdown!r}; choose one of {get_args(AutoShutdown)}"
        )
    check_flags(name, intensity, period, backoff, max_abandoned)
    specs = tuple(children)
    for spec in specs:
        check_child(name, spec, auto_shutdown)
    for id, times in Counter(spec.id for spec in specs).items():
        if times > 1:
            raise BadSpec(f"supervisor '{name}': child '{id}': id is used twice")
    return specs


def check_child(name: str, spec: object, auto_shutdown: object) -> None:
    """Raise `BadSpec` if a value cannot be a child of a supervisor with this name and flag."""
    if not isinstance(spec, ChildSpec):
        raise BadSpec(f"supervisor '{name}': child {spec!r} is not a ChildSpec")
    if spec.significant and auto_shutdown == "never":
        raise BadSpec(
            f"supervisor '{name}': child '{spec.id}': significant is True, but auto_shutdown is 'never'; "
            "choose 'any_significant' or 'all_significant' for it"
        )
