"""A child of a supervisor: its state, and what is shown of it."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import pykka
import trio

from actors import ExitReason, Token
from actors.lowlevel import ActorPlace
from supervisors._child_spec import ChildSpec
from supervisors._ends import ChildEnd, Ends
from supervisors._strategy import Restart


class Phase(enum.StrEnum):
    """The state of a child under its supervisor."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    RESTARTING = "restarting"  # it has no instance, and will be started again
    STOPPED = "stopped"  # it has no instance, and none is to be started


_RUNNING: Final = Phase.RUNNING


@attrs.define(eq=False)
class Child:
    """A child at run time.

    Attributes:
        spec: its specification.
        place: its place.
        static: whether the supervisor's own spec names it, so that the supervisor's next instance has it again.
        supervisor: whether it is one itself.
        phase: its state.
        held: whether it was stopped on request: it stays without an instance until a request starts it.
        restarts: how often it has been started again.
        attempts: restarts since it was quiet for long enough, the latest included.
        instance: number of the instance that runs, at its place.
        started_at: when that instance had started, in seconds of the system's clock.
        starting: whether an instance is being made.
        renewing: whether its instance is being replaced on request.
        delay: the scope of the delay before a restart; cancelling it ends the delay.
        ends: its latest ends; None before the first.
    """

    _keeps: Callable[[Child, ExitReason], bool]  # the supervisor's `_goes_with`
    spec: ChildSpec
    place: ActorPlace
    static: bool
    supervisor: bool
    _turn: trio.Lock | None
    phase: Phase = Phase.STOPPED
    starting: bool = False
    renewing: bool = False
    held: bool = False
    restarts: int = 0
    attempts: int = 0
    instance: int = 0
    started_at: float = 0.0
    delay: trio.CancelScope | None = None
    ends: Ends | None = None

    def goes_with(self, reason: ExitReason) -> bool:
        """Return whether the place closes with an instance that ends for a reason; on any thread."""
        return self._keeps(self, reason)

    def was_at(self, token: Token[Any]) -> None:
        """Note the token with which the instance ends, under the lock of the place; on any thread."""
        if self.ends is None:
            self.ends = Ends()
        self.ends.was_at = token.id, str.__str__(token.operation)

    def has_ended(self, reason: ExitReason) -> None:
        """Note that the instance has ended, or that another one has not started; for the system loop only."""
        if self.ends is None:
            self.ends = Ends()
        self.ends.add(reason)

    @property
    def turn(self) -> trio.Lock:
        """The lock of the job that starts the child or handles its end; for the system loop only."""
        if self._turn is None:
            self._turn = trio.Lock()
        return self._turn

    def has_started(self, phase: Phase) -> bool:
        """Note that an instance runs, on any thread; return whether it is still wanted.

        Args:
            phase: the one in which its start was begun; a child in another one is being stopped.
        """
        self.instance = self.place.starts
        self.started_at = self.place.system.clock()
        with self.place.lock:
            wanted = self.phase is phase
            if wanted:
                self.phase = _RUNNING
        self.starting = False
        return wanted

    def stops(self) -> None:
        """Note that its instance is being stopped."""
        with self.place.lock:  # another thread may just have started it
            self.phase = Phase.STOPPING

    def hold(self) -> None:
        """Leave the child without an instance until a request starts it."""
        self.held = True
        if self.delay is not None:
            self.delay.cancel()

    @property
    def has_instance(self) -> bool:
        """Whether there is an instance to stop."""
        return self.starting or self.phase in (Phase.RUNNING, Phase.STOPPING)

    @property
    def active(self) -> bool:
        """Whether it has an instance, or one is to be started."""
        return self.phase is not Phase.STOPPED


def ends_at(place: ActorPlace) -> tuple[ChildEnd, ...]:
    """Return the latest eight ends of the child at a place, the oldest first; on the system loop.

    They are kept as long as the place is: over restarts of the child's supervisor, if the child is static. A child of a
    dynamic supervisor that is gone for good leaves none.
    """
    child = place.keeper
    return child.ends.listed() if isinstance(child, Child) and child.ends is not None else ()


@attrs.frozen
class ChildInfo:
    """A child as `which_children` shows it.

    Attributes:
        id: its name under its supervisor.
        path: its name in the whole tree.
        status: its state.
        restarts: how often it has been started again.
        start: its class or function.
        restart: when it is started again.
        significant: as in its spec.
        supervisor: whether it is one itself.
        ends: the latest eight ends, the oldest first.
    """

    id: str
    path: str
    status: Phase
    restarts: int
    start: type[pykka.Actor] | Callable[..., Awaitable[Any]]
    restart: Restart
    significant: bool
    supervisor: bool
    ends: tuple[ChildEnd, ...] = ()


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
