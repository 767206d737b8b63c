"""A child as its supervisor keeps it, and as it shows it."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pykka
import trio

from actors.lowlevel import ActorPlace
from supervisors._child_spec import ChildSpec
from supervisors._strategy import Restart


class Phase(enum.StrEnum):
    """What a supervisor does with a child just now."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    RESTARTING = "restarting"  # it has no instance, and will be started again
    STOPPED = "stopped"  # it has no instance, and none will come by itself


@attrs.define(eq=False)
class Child:
    """A child as its supervisor keeps it.

    Attributes:
        spec: what it is.
        place: where it is.
        static: whether its supervisor has it from the start, so that the next instance of that finds it again.
        supervisor: whether it is one itself.
        phase: what is done with it.
        held: whether somebody stopped it on purpose: it stays without an instance until somebody starts it.
        restarts: how often it has been started again.
        attempts: restarts since it was quiet for long enough, the latest included.
        instance: number of the instance that runs, at its place.
        started_at: when that had started, in seconds of the system's clock.
        starting: whether an instance is being made.
        renewing: whether its instance is being ended to make place for another.
        delay: what waits before a restart; cancelling it ends the wait.
        turn: held by whoever starts the child or deals with its end.
    """

    spec: ChildSpec
    place: ActorPlace
    static: bool
    supervisor: bool
    turn: trio.Lock
    phase: Phase = Phase.STOPPED
    starting: bool = False
    renewing: bool = False
    held: bool = False
    restarts: int = 0
    attempts: int = 0
    instance: int = 0
    started_at: float = 0.0
    delay: trio.CancelScope | None = None

    def hold(self) -> None:
        """Let it stay without an instance from now on, whatever happens."""
        self.held = True
        if self.delay is not None:
            self.delay.cancel()

    @property
    def has_instance(self) -> bool:
        """Whether there is something to stop."""
        return self.starting or self.phase in (Phase.RUNNING, Phase.STOPPING)

    @property
    def active(self) -> bool:
        """Whether it has an instance, or is to get one."""
        return self.phase is not Phase.STOPPED


@attrs.frozen
class ChildInfo:
    """A child as `which_children` shows it.

    Attributes:
        id: its name under its supervisor.
        path: its name in the whole tree.
        status: what is done with it.
        restarts: how often it has been started again.
        start: its class or function.
        restart: when it is started again.
        significant: as in its spec.
        supervisor: whether it is one itself.
    """

    id: str
    path: str
    status: Phase
    restarts: int
    start: type[pykka.Actor] | Callable[..., Awaitable[Any]]
    restart: Restart
    significant: bool
    supervisor: bool


@attrs.frozen
class ChildCounts:
    """How many children a supervisor has.

    Attributes:
        specs: all of them.
        active: those with an instance.
        restarting: those that are about to be started again.
        supervisors: those that are supervisors, with an instance or without.
        workers: the others.
    """

    specs: int
    active: int
    restarting: int
    supervisors: int
    workers: int
