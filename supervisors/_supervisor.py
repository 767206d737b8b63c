"""Supervisors: actors on the system loop that start other actors, restart those that crash, and stop them in order.

Semantics are those of OTP's `supervisor` (strategy one_for_one). A child keeps its place (path, mailbox, ref) over
all its restarts; a supervisor that is itself restarted finds the places of its static children again, with what is
queued there.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, TypeAlias

import attrs

from actors import (
    KILLED,
    ROOT,
    SHUTDOWN,
    ActorDead,
    ActorPlace,
    ActorRef,
    BaseActor,
    Drain,
    ExitReason,
    IoActor,
    IoDrain,
    Signal,
    StartFailed,
    Status,
    TokenGateError,
)
from supervisors._child_spec import ChildSpec, Restart, Shutdown
from supervisors._exceptions import BadSpec, ChildError
from supervisors._intensity import restart_times, too_many
from supervisors._reports import (
    ChildEnded,
    ChildRestarting,
    ChildStarted,
    ChildStartFailed,
    GaveUp,
    Report,
    ShutdownError,
)
from supervisors._shutdown import shutdown_seconds, stop_place

_logger = logging.getLogger("tokengate.supervisors")

Strategy: TypeAlias = Literal["one_for_one"]


@attrs.frozen(eq=False)
class _ChildExited(Signal):
    """An instance of a child has ended."""

    place: ActorPlace
    reason: ExitReason
    administrative: bool


@attrs.frozen(eq=False)
class _Retry:
    """Message to oneself: a restart has failed, so try again, unless something else has happened to the child.

    No signal: in the control lane it would be ahead of everyone who asks.
    """

    child: Child
    reason: ExitReason


@attrs.define(eq=False)
class Child:
    """A child as its supervisor keeps it."""

    spec: ChildSpec
    place: ActorPlace
    restarts: int = 0
    stopping: bool = False  # its supervisor is ending it, so its end is no event
    restarting: bool = False  # it ended, and could not be started again yet


@attrs.frozen
class ChildInfo:
    """A child as `which_children` shows it."""

    id: str
    path: str
    status: Status | Literal["restarting"]
    restarts: int
    start: type[BaseActor]
    restart: Restart


class Supervisor(IoActor):
    """An actor that looks after other actors.

    Args:
        children: specs, in the order of their start; they are stopped in reverse.
        strategy: `one_for_one`: a child that ends is dealt with alone.
        intensity: restarts that are allowed within `period`; one more, and the supervisor gives up: it stops its
            children and ends with `shutdown`, and its own supervisor decides.
        period: seconds.

    Raises:
        BadSpec: a value that cannot work; the message names the child and the field.
    """

    expected: ClassVar[tuple[type[BaseException], ...]] = (TokenGateError,)

    def __init__(
        self,
        children: Iterable[ChildSpec] = (),
        *,
        strategy: Strategy = "one_for_one",
        intensity: int = 3,
        period: float = 5.0,
    ) -> None:
        super().__init__()
        name = self._place.path
        self._specs = check_supervisor(name, children, strategy, intensity, period)
        self._intensity = intensity
        self._period = period
        self._children: dict[str, Child] = {}  # {id: child}, in the order of their start
        self._restart_times: list[float] = []

    @classmethod
    def child_spec(
        cls,
        id: str,
        children: Iterable[ChildSpec] = (),
        *,
        strategy: Strategy = "one_for_one",
        intensity: int = 3,
        period: float = 5.0,
        restart: Restart = "permanent",
        shutdown: Shutdown | None = None,
    ) -> ChildSpec:
        """Return the spec of a supervisor that is itself a child, checked before anything is started."""
        specs = check_supervisor(id, children, strategy, intensity, period)
        options = {"strategy": strategy, "intensity": intensity, "period": period}
        return ChildSpec(id, cls, args=(specs,), kwargs=options, restart=restart, shutdown=shutdown)

    @classmethod
    def _make_drain(cls, place: ActorPlace) -> Drain:
        return IoDrain(place, place.system.system_host, cls.throughput, cls.throughput_deadline)

    # Hooks

    async def on_start(self) -> None:  # type: ignore[override]
        for spec in self._specs:
            try:
                await self._start_child(spec)
            except BaseException:
                await self._stop_children()
                raise

    async def on_stop(self) -> None:  # type: ignore[override]
        await self._stop_children()

    async def on_failure(self, *_error: Any) -> None:  # type: ignore[override]
        await self._stop_children()

    async def _on_signal(self, signal: Signal) -> None:
        if isinstance(signal, _ChildExited):
            child = self._children.get(signal.place.path.rpartition("/")[2])
            if child is not None and child.place is signal.place and not child.stopping:
                await self._child_exited(child, signal.reason, signal.administrative)

    async def on_receive(self, message: Any) -> Any:
        if not isinstance(message, _Retry):
            return super().on_receive(message)
        child = message.child
        if self._children.get(child.spec.id) is child and child.restarting and not child.stopping:
            await self._restart(child, message.reason)
        return None

    # Administration, as tokens

    def which_children(self) -> list[ChildInfo]:
        """Return the children, the newest first."""
        return [
            ChildInfo(
                id=child.spec.id,
                path=child.place.path,
                status="restarting" if child.restarting else child.place.status,
                restarts=child.restarts,
                start=child.spec.start,
                restart=child.spec.restart,
            )
            for child in reversed(self._children.values())
        ]

    # Starting

    async def _start_child(self, spec: ChildSpec) -> Child:
        """Start a child that has no instance.

        Raises:
            StartFailed: it did not start; nothing of it stays.
        """
        own = self._place.path
        path = spec.id if own == ROOT else f"{own}/{spec.id}"
        try:
            place = self._place.system.adopt(path, spec.start, spec.args, spec.kwargs, owner=self._exited)
        except ValueError as error:
            raise StartFailed(f"actor '{path}' cannot be started: {error}") from error
        child = Child(spec, place)
        self._children[spec.id] = child
        try:
            await place.start()
        except BaseException as error:
            del self._children[spec.id]
            await stop_place(place, spec.shutdown, supervisor=self._is_supervisor(spec))
            self._leave(place)
            self._report(ChildStartFailed(own, path, error))
            raise
        self._report(ChildStarted(own, path, 0))
        return child

    def _exited(self, place: ActorPlace, reason: ExitReason, administrative: bool) -> None:
        self._place.signal(_ChildExited(place, reason, administrative))

    # What happens when a child ends

    async def _child_exited(self, child: Child, reason: ExitReason, administrative: bool) -> None:
        self._report(ChildEnded(self._place.path, child.place.path, reason))
        restart = child.spec.restart
        if not administrative and (restart == "permanent" or (restart == "transient" and not reason.orderly)):
            await self._restart(child, reason)
        else:
            self._retire(child, reason)

    def _retire(self, child: Child, reason: ExitReason) -> None:
        """Leave a child that ended without an instance; the spec of a temporary one goes."""
        child.restarting = False
        if child.spec.restart == "temporary":
            del self._children[child.spec.id]
            child.place.close(reason)
        else:
            child.place.vacate()

    async def _restart(self, child: Child, reason: ExitReason) -> None:
        own, path = self._place.path, child.place.path
        if child.place.administrative:  # somebody has stopped it in the meantime
            self._retire(child, reason)
            return
        self._restart_times = restart_times(self._restart_times, self._place.system.clock(), self._period)
        if too_many(self._restart_times, self._intensity):
            self._report(GaveUp(own, path, self._intensity, self._period))
            self._place.stop(SHUTDOWN, drain=False, administrative=False)
            return
        self._report(ChildRestarting(own, path, reason))
        try:
            await child.place.start()
        except StartFailed as error:
            child.restarting = True
            self._report(ChildStartFailed(own, path, error))
            try:
                # Through the mailbox, so that others are answered between two attempts.
                self.actor_ref.tell(_Retry(child, ExitReason("error", error)))
            except ActorDead:
                pass  # this supervisor is stopping, and its children with it
        else:
            child.restarting = False
            child.restarts += 1
            self._report(ChildStarted(own, path, child.restarts))

    # Stopping

    async def _stop_children(self) -> None:
        """Stop all children, the last started first.

        A child that asks its stopping supervisor gets an error, not a deadlock: nothing is accepted any more.
        """
        self._place.terminate_queued("is stopping")
        for child in reversed(list(self._children.values())):
            await self._stop_child(child)
            self._leave(child.place)
        self._children.clear()

    def _leave(self, place: ActorPlace) -> None:
        """Let a place wait, with its queue, for the next instance of this supervisor; it goes if that never comes."""
        place.orphaned = True

    async def _stop_child(self, child: Child) -> None:
        child.stopping = True
        spec, place = child.spec, child.place
        supervisor = self._is_supervisor(spec)
        reason = await stop_place(place, spec.shutdown, supervisor=supervisor)
        if reason is KILLED and spec.shutdown != "kill":
            seconds = shutdown_seconds(spec.shutdown, supervisor=supervisor)
            self._report(ShutdownError(self._place.path, place.path, seconds))
        self._report(ChildEnded(self._place.path, place.path, reason))

    @staticmethod
    def _is_supervisor(spec: ChildSpec) -> bool:
        return issubclass(spec.start, Supervisor)

    def _report(self, report: Report) -> None:
        level = logging.INFO if isinstance(report, ChildStarted | ChildEnded) else logging.WARNING
        _logger.log(level, "%r", report)
        self._place.system.publish(report)


class DynamicSupervisor(Supervisor):
    """A supervisor whose children come and go at run time, and whose specs go with them.

    Args:
        intensity: as for `Supervisor`.
        period: seconds, as for `Supervisor`.
    """

    def __init__(self, *, intensity: int = 3, period: float = 5.0) -> None:
        super().__init__((), intensity=intensity, period=period)

    @classmethod
    def child_spec(  # type: ignore[override]
        cls,
        id: str,
        *,
        intensity: int = 3,
        period: float = 5.0,
        restart: Restart = "permanent",
        shutdown: Shutdown | None = None,
    ) -> ChildSpec:
        """Return the spec of a dynamic supervisor that is itself a child, checked before anything is started."""
        check_supervisor(id, (), "one_for_one", intensity, period)
        options = {"intensity": intensity, "period": period}
        return ChildSpec(id, cls, kwargs=options, restart=restart, shutdown=shutdown)

    async def start_child(self, spec: ChildSpec) -> ActorRef[Any]:
        """Start a child and return its ref.

        Raises:
            ChildError: a child with this id is there.
            StartFailed: it did not start.
        """
        if not isinstance(spec, ChildSpec):
            raise BadSpec(f"supervisor '{self._place.path}': child {spec!r} is no ChildSpec")
        if spec.id in self._children:
            raise ChildError(f"'{self._place.path}' has a child called '{spec.id}' already; choose another name")
        return (await self._start_child(spec)).place.ref

    def _retire(self, child: Child, reason: ExitReason) -> None:
        del self._children[child.spec.id]
        child.place.close(reason)

    def _leave(self, place: ActorPlace) -> None:
        place.close(SHUTDOWN)


def check_supervisor(
    name: str, children: Iterable[ChildSpec], strategy: str, intensity: int, period: float
) -> tuple[ChildSpec, ...]:
    """Return the specs as a tuple, or raise `BadSpec` for the first value that cannot work."""
    specs = tuple(children)
    for spec in specs:
        if not isinstance(spec, ChildSpec):
            raise BadSpec(f"supervisor '{name}': child {spec!r} is no ChildSpec")
    ids = [spec.id for spec in specs]
    for id in ids:
        if ids.count(id) > 1:
            raise BadSpec(f"supervisor '{name}': child '{id}': id is used twice")
    if strategy != "one_for_one":
        raise BadSpec(f"supervisor '{name}': strategy is {strategy!r}; choose 'one_for_one'")
    if not isinstance(intensity, int) or intensity < 0:
        raise BadSpec(f"supervisor '{name}': intensity is {intensity!r}; it must be an int of at least 0")
    if not isinstance(period, int | float) or not 0 < period < math.inf:
        raise BadSpec(f"supervisor '{name}': period is {period!r}; it must be a number of seconds above 0")
    return specs
