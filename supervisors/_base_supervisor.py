"""The base of supervisors: start children, restart those that end, stop them, and answer requests meanwhile.

A supervisor's mailbox is never held up: what takes time (a start, a stop, the delay before a restart) is a job, a task
beside the mailbox, and a request that has to wait for one is answered later. Everything runs on the system loop, so
code between two awaits is never interrupted. Decisions are pure functions in `_strategy.py`, `_intensity.py` and
`_backoff.py`; this file carries them out.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Final, TypeVar

import attrs
import trio

from actors import KILLED, SHUTDOWN, ActorDead, ActorRef, ExitReason, Guard, IoActor, Later, StartFailed, TokenGateError
from actors.lowlevel import ActorPlace, Crash, Drain, IoDrain, Jobs, Signal, attach, path_below, system_of
from supervisors._backoff import Backoff
from supervisors._child import Child, ChildCounts, ChildInfo, Phase
from supervisors._child_spec import ChildSpec, is_subclass
from supervisors._children import Children
from supervisors._exceptions import AlreadyPresent, AlreadyStarted, BadSpec, Ignore
from supervisors._intensity import RestartWindow, restart_times, restart_window, too_many
from supervisors._reports import (
    ChildDeclined,
    ChildEnded,
    ChildStarted,
    ChildStartFailed,
    ChildStopFailed,
    GaveUp,
    Report,
    RestartScheduled,
)
from supervisors._shutdown import shutdown_seconds, stop_place
from supervisors._strategy import Strategy, affected, is_restarted

_logger = logging.getLogger("tokengate.supervisors")

T = TypeVar("T")

# Reports that are logged at level INFO; all others are warnings.
_ORDINARY: Final = (ChildStarted, ChildEnded, ChildDeclined)


@attrs.frozen(eq=False)
class _ChildExited(Signal):
    """An instance of a child has ended."""

    place: ActorPlace
    instance: int  # its number at the place
    reason: ExitReason
    administrative: bool


class BaseSupervisor(IoActor):
    """Base of `Supervisor` and `DynamicSupervisor`: an actor that starts, restarts and stops others.

    Args:
        strategy: what is restarted with a child.
        intensity: restarts that are allowed within `period`; one more, and the supervisor gives up: it stops its
            children and ends with `shutdown`, and its own supervisor decides.
        period: seconds.
        backoff: the delay before each restart; None restarts at once.
        max_abandoned: threads that may be left behind, because they could not be ended, before it gives up instead of
            restarting.
    """

    expected: ClassVar[tuple[type[BaseException], ...]] = (TokenGateError,)
    guard: ClassVar[Guard] = "never"

    def __init__(
        self, strategy: Strategy, intensity: int, period: float, backoff: Backoff | None, max_abandoned: int
    ) -> None:
        super().__init__()
        self._strategy: Strategy = strategy
        self._intensity = intensity
        self._period = period
        self._backoff = backoff
        self._max_abandoned = max_abandoned
        self._children = Children(self._place)
        self._restart_times: list[float] = []
        self._abandoned = 0
        self._keeps, self._owns = self._goes_with, self._exited  # bound methods, shared by all children
        self._jobs = Jobs(self._place.system.system_host)
        # If a restart affects siblings, one child at a time is started or restarted; else each child has its own lock.
        self._turn = None if strategy == "one_for_one" else trio.Lock()

    @classmethod
    def _make_drain(cls, place: ActorPlace) -> Drain:
        return IoDrain(place, place.system.system_host, cls.throughput, cls.throughput_deadline)

    @property
    def strategy(self) -> Strategy:
        """What is restarted with a child."""
        return self._strategy

    # Hooks

    async def on_stop(self) -> None:  # type: ignore[override]
        # A child that asks its stopping supervisor gets an error, not a deadlock: nothing is accepted any more.
        self._place.terminate_queued("is stopping")
        self._jobs.cancel()
        await self._stop_children()

    async def on_failure(self, *_error: Any) -> None:  # type: ignore[override]
        await self.on_stop()

    def _on_signal(self, signal: Signal) -> None:
        if isinstance(signal, _ChildExited):
            child = self._children.at(signal.place)
            if child is None:
                return
            starts_at_once = child.phase is Phase.STARTING and not child.turn.locked()
            if starts_at_once and not child.place.closed:
                return  # it is the end of a stop that came before the start, which goes on
            if signal.administrative and child.phase is not Phase.STOPPING:
                child.hold()
                if child.phase is Phase.RESTARTING:
                    self._retire(child, signal.reason)
            if child.turn.locked():
                self._begin(partial(self._after_exit, child, signal))
            elif starts_at_once:  # and was undone
                path = child.place.path
                why = f"actor '{path}' did not start: it was stopped, or the thread that started it was interrupted"
                self._report(ChildStartFailed(self._place.path, path, StartFailed(why)))
                self._children.discard(child)
            elif self._is_to_restart(child, signal):  # decided here, so that the next request sees it
                self._begin(partial(self._restart_in_turn, child, signal.reason))

    # Jobs

    def _begin(self, job: Callable[[], Awaitable[T]]) -> Later[T]:
        """Run a job beside the mailbox; its result is the answer."""
        answer: Later[T] = Later()
        scope = trio.CancelScope()

        async def do() -> None:
            try:
                with scope:
                    answer._set(await job())
                if not answer.done():
                    answer._set(error=ActorDead(f"supervisor '{self._place.path}' is stopping"))
            except TokenGateError as error:
                answer._set(error=error)
            except Exception as error:
                answer._set(error=error)
                self._place.signal(Crash(error, self))

        attach(self._place, self, self._jobs)
        self._jobs.begin(scope, do, f"job of {self._place.path}")
        return answer

    # Administration, as tokens

    def terminate_child(self, child: str | ActorRef[Any]) -> Later[None]:
        """Stop a child, by its id or its ref; it is not started again automatically. A temporary one is forgotten.

        Returns:
            when it has stopped; at once, if it has no instance.

        Raises:
            NoSuchChild: there is none.
        """
        found = self._children.find(child)
        found.hold()
        return self._begin(partial(self._terminate, found))

    def renew_child(self, child: str | ActorRef[Any]) -> Later[ActorRef[Any] | None]:
        """End a child's instance in order, if there is one, and start another; its queue stays, and its siblings do.

        It does not count as a restart for the intensity.

        Returns:
            its ref, after `on_start`; None, if it declines (`Ignore`).

        Raises:
            NoSuchChild: there is none.
            StartFailed: it did not start again; it stays without an instance.
        """
        return self._begin(partial(self._renew, self._children.find(child)))

    def which_children(self) -> list[ChildInfo]:
        """Return the children, the newest first."""
        return self._children.infos()

    def count_children(self) -> ChildCounts:
        """Return how many children there are, by what they are and what they do."""
        return self._children.counts()

    def restart_window(self) -> RestartWindow:
        """Return how many restarts there were within `period`, how many are allowed, and when the oldest is over."""
        return restart_window(self._restart_times, self._place.system.clock(), self._intensity, self._period)

    def get_child_spec(self, child: str | ActorRef[Any]) -> ChildSpec:
        """Return the spec of a child.

        Raises:
            NoSuchChild: there is none with this id, or with this ref.
        """
        return self._children.find(child).spec

    # Starting

    def _add(self, spec: ChildSpec, *, static: bool) -> Child:
        """Add a child, with a place of its own.

        Raises:
            AlreadyStarted: a child with this id runs.
            AlreadyPresent: a child with this id is there.
            NameTaken: the path is in use.
            StartFailed: its class has an attribute that cannot work.
        """
        own = self._place.path
        present = self._children.get(spec.id)
        if present is not None and present.active:
            raise AlreadyStarted(f"'{own}' has a child called '{spec.id}' already; choose another name")
        if present is not None:
            raise AlreadyPresent(
                f"'{own}' has a child called '{spec.id}' already, without an instance; restart it, or delete it first"
            )
        path = path_below(own, spec.id)
        actor_class, args, kwargs = spec.actor
        try:
            place = system_of(self._place).adopt(path, actor_class, args, kwargs, owner=self._owns)
        except ValueError as error:
            raise StartFailed(f"actor '{path}' cannot be started: {error}") from error
        before = place.keeper
        place.keeper = child = Child(self._keeps, spec, place, static, is_supervisor(spec), self._turn, Phase.STARTING)
        if isinstance(before, Child):  # of an earlier instance of this supervisor
            child.ends = before.ends
        self._children[spec.id] = child
        return child

    async def _start_first(self, child: Child) -> ActorRef[Any] | None:
        """Start a child that was just added; return None if it declines.

        Raises:
            StartFailed: it did not start, and is not a child any more.
        """
        try:
            async with child.turn:
                await self._start(child, Phase.STARTING)
        except BaseException as error:
            if isinstance(error, StartFailed) and isinstance(error.__cause__, Ignore):
                self._declined(child)
                return None
            # Else another job has stopped it, and reports its end; or it was undone before this, which is reported.
            failed = child.phase is Phase.STARTING and self._children.holds(child)
            if failed and not isinstance(error, trio.Cancelled):  # reported first: others may have id and path next
                self._report(ChildStartFailed(self._place.path, child.place.path, error))
            self._children.discard(child)
            with trio.CancelScope(shield=True):
                await self._stop_instance(child)
            self._leave(child)
            raise
        if child.phase is Phase.RUNNING:
            self._report_start(child)
        return child.place.ref

    async def _start(self, child: Child, phase: Phase) -> bool:
        """Start an instance; another job may stop it at the same time.

        Returns:
            whether it is still wanted.

        Raises:
            StartFailed: there is none.
        """
        # If this is cancelled, `starting` stays true: there may be an instance to stop.
        child.phase, child.starting = phase, True
        try:
            start = child.place.start()
            if start.done():  # made on this thread; other tasks of the loop may go on before the next one is
                await trio.lowlevel.checkpoint()
            await start
        except TokenGateError as error:
            child.starting = False
            if isinstance(error, ActorDead):
                raise StartFailed(str(error)) from error
            raise
        wanted = child.has_started(phase)
        if wanted and child.ends is not None:
            child.ends.change_latest(restarted=True)
        return wanted

    def _declined(self, child: Child) -> None:
        self._report(ChildDeclined(self._place.path, child.place.path))
        self._retire(child, SHUTDOWN)

    def _exited(self, place: ActorPlace, reason: ExitReason, administrative: bool) -> None:
        self._place.signal(_ChildExited(place, place.starts, reason, administrative))

    # What happens when a child ends

    async def _after_exit(self, child: Child, exit: _ChildExited) -> None:
        async with child.turn:
            if self._is_to_restart(child, exit):
                await self._restart(child, exit.reason)

    async def _restart_in_turn(self, child: Child, reason: ExitReason) -> None:
        async with child.turn:
            if child.phase is Phase.RESTARTING:  # no other job has restarted or ended it in the meantime
                await self._restart(child, reason)

    def _is_to_restart(self, child: Child, exit: _ChildExited) -> bool:
        """Record the end of an instance; return whether to start another."""
        if child.phase is not Phase.RUNNING or child.instance != exit.instance:
            return False  # it was stopped, or restarted with another one, in the meantime
        now = self._place.system.clock()
        if self._backoff is None or self._backoff.resets(now - child.started_at):
            child.attempts = 0
        self._report(ChildEnded(self._place.path, child.place.path, exit.reason))
        if not child.held and is_restarted(child.spec.restart, exit.reason):
            child.phase = Phase.RESTARTING
            child.has_ended(exit.reason)
            return True
        self._retire(child, exit.reason)
        if self._children.holds(child):
            child.has_ended(exit.reason)
        if not child.held:
            self._ended_for_good(child)
        return False

    def _ended_for_good(self, child: Child) -> None:
        """Handle the end of a child that is not restarted; a hook for subclasses."""

    def _retire(self, child: Child, reason: ExitReason) -> None:
        """Keep a child that ended, without an instance; forget a temporary one."""
        child.phase = Phase.STOPPED
        if child.spec.restart == "temporary":
            self._forget(child, reason)
        else:
            child.place.vacate()

    def _goes_with(self, child: Child, reason: ExitReason) -> bool:
        """Return whether a child's place closes with an instance that ends for a reason; called on any thread.

        The answer may be no although the place will close: then this is decided and reported later.
        """
        ending = self._place.ending
        if ending is not None:  # static children may come back with the supervisor
            return not child.static or self._place.ends_for_good(ending)
        return not (child.renewing and not child.held) and self._spec_goes_with(child, reason)

    def _spec_goes_with(self, child: Child, reason: ExitReason) -> bool:  # noqa: ARG002
        """Return whether a child is forgotten when an instance ends for a reason."""
        return child.spec.restart == "temporary"

    def _forget(self, child: Child, reason: ExitReason) -> None:
        self._children.discard(child)
        child.place.close(reason)

    async def _restart(self, child: Child, reason: ExitReason) -> None:
        """Restart a child, and those that the strategy adds, until all have started or the supervisor gives up."""
        group = self._members(child)
        while self._may_restart(child):
            child.phase = Phase.RESTARTING
            child.attempts += 1
            delay = 0.0 if self._backoff is None else self._backoff.delay(child.attempts, random.random())
            path = child.place.path
            self._report(RestartScheduled(self._place.path, path, reason, child.attempts, delay))
            for member in reversed(group):
                await self._stop_to_restart(member)
                if member.phase is Phase.RESTARTING and member.ends is not None:
                    member.ends.change_latest(delay=delay)
            with trio.CancelScope() as child.delay:
                await trio.sleep(0.0 if child.held else delay)
            child.delay = None
            failed = await self._start_all(group)
            if failed is None:
                return
            child, error = failed
            reason = ExitReason("error", error)
            if self._strategy == "rest_for_one":
                group = self._members(child)

    def _members(self, child: Child) -> list[Child]:
        ids = affected(self._strategy, list(self._children), child.spec.id)
        return [self._children[id] for id in ids]

    def _may_restart(self, child: Child) -> bool:
        """Count a restart and return whether it is allowed; else give up and end."""
        if self._place.system.closed:  # nothing starts any more
            self._end()
            return False
        self._restart_times = restart_times(self._restart_times, self._place.system.clock(), self._period)
        if not too_many(self._restart_times, self._intensity) and self._abandoned <= self._max_abandoned:
            return True
        path = child.place.path
        self._report(GaveUp(self._place.path, path, self._intensity, self._period, self._abandoned))
        self._end()
        return False

    def _end(self) -> None:
        """End in order; the supervisor above decides what follows."""
        self._place.stop(SHUTDOWN, drain=False, administrative=False)

    async def _stop_to_restart(self, child: Child) -> None:
        """Stop a child that is restarted with another; a temporary one is forgotten, and a held one stays as it is."""
        if child.has_instance:
            await self._stop_child(child)
            if child.spec.restart == "temporary":
                self._forget(child, SHUTDOWN)
        if child.phase is Phase.STOPPED and not child.held and self._children.holds(child):
            child.phase = Phase.RESTARTING

    async def _start_all(self, group: Iterable[Child]) -> tuple[Child, StartFailed] | None:
        """Start the children that are to be restarted, in order; return the first that fails, with its error."""
        for child in group:
            if child.held or child.place.administrative:
                if child.phase is Phase.RESTARTING:
                    self._retire(child, SHUTDOWN)
            elif child.phase is Phase.RESTARTING:
                try:
                    wanted = await self._start(child, Phase.RESTARTING)
                except StartFailed as error:
                    if isinstance(error.__cause__, Ignore):
                        self._declined(child)
                    elif not child.held:  # else it was terminated while it started
                        self._report(ChildStartFailed(self._place.path, child.place.path, error))
                        child.has_ended(ExitReason("error", error))
                        return child, error
                else:
                    if wanted:  # else it was stopped meanwhile
                        child.restarts += 1
                        system_of(self._place).restarts += 1
                        self._report_start(child)
        return None

    # Stopping

    async def _terminate(self, child: Child) -> None:
        await self._stop_child(child)
        if self._children.holds(child):
            self._retire(child, SHUTDOWN)

    async def _renew(self, child: Child) -> ActorRef[Any] | None:
        async with child.turn:
            child.held = child.place.administrative = False
            child.renewing = True
            await self._stop_child(child)
            child.renewing = False
            child.phase = Phase.RESTARTING
            failed = await self._start_all([child])
        if failed is not None:
            self._retire(child, SHUTDOWN)
            raise failed[1]
        return child.place.ref if child.active else None

    async def _stop_children(self) -> None:
        """Stop all children."""
        raise NotImplementedError

    async def _stop_for_good(self, child: Child) -> None:
        child.hold()
        await self._stop_child(child)
        self._leave(child)

    def _leave(self, child: Child) -> None:
        """Keep a static child's place and queue for this supervisor's next instance; close the place of another."""
        if child.static:
            child.place.orphaned = True
        else:
            child.place.close(SHUTDOWN)

    async def _stop_child(self, child: Child) -> None:
        """Stop a child if it has an instance, and report it."""
        if not child.has_instance:
            return
        child.stops()
        reason = await self._stop_instance(child)
        if child.phase is Phase.STOPPING:  # else another job has stopped it at the same time
            child.phase = Phase.STOPPED
            self._report(ChildEnded(self._place.path, child.place.path, reason))
            child.has_ended(reason)

    async def _stop_instance(self, child: Child) -> ExitReason:
        spec, place = child.spec, child.place
        reason, abandoned = await stop_place(place, spec.shutdown, supervisor=child.supervisor)
        self._abandoned += abandoned
        if reason is KILLED and spec.shutdown != "kill":
            seconds = shutdown_seconds(spec.shutdown, supervisor=child.supervisor)
            self._report(ChildStopFailed(self._place.path, place.path, seconds))
        return reason

    def _report_start(self, child: Child) -> None:
        """Report that an instance of a child runs, if the report is logged or observed."""
        if system_of(self._place).on_event is not None or _logger.isEnabledFor(logging.INFO):
            self._report(ChildStarted(self._place.path, child.place.path, child.restarts))

    def _report(self, report: Report) -> None:
        level = logging.INFO if isinstance(report, _ORDINARY) else logging.WARNING
        _logger.log(level, "%r", report)
        system_of(self._place).publish(report)


def is_supervisor(spec: ChildSpec) -> bool:
    """Return whether a spec is that of a supervisor."""
    return is_subclass(spec.start, BaseSupervisor)


def check_flags(name: str, intensity: object, period: object, backoff: object, max_abandoned: object) -> None:
    """Raise `BadSpec` for the first flag that cannot work; the message names the supervisor and the flag."""
    for flag, value in (("intensity", intensity), ("max_abandoned", max_abandoned)):
        if not isinstance(value, int) or value < 0:
            raise BadSpec(f"supervisor '{name}': {flag} is {value!r}; it must be an int of at least 0")
    if not isinstance(period, int | float) or not 0 < period < math.inf:
        raise BadSpec(f"supervisor '{name}': period is {period!r}; it must be a number of seconds above 0")
    if backoff is not None and not isinstance(backoff, Backoff):
        raise BadSpec(f"supervisor '{name}': backoff is {backoff!r}; it must be a Backoff, or None")
