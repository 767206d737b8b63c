"""The actor system: the root object, which owns the threads, the loops, the clock, the places and the tokens."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextvars import ContextVar
from itertools import count
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import attrs
import pykka

from actors._exceptions import ActorDead, TokenRejected, WaitTimeout, WouldBlock
from actors._exit_reason import ExitReason
from actors.concurrency._asyncio_host import AsyncioHost, AsyncioHosts
from actors.concurrency._blocking import loop_here
from actors.concurrency._container import cores
from actors.concurrency._dispatcher import Dispatcher, DispatcherStatistics
from actors.concurrency._lifeline import Lifeline
from actors.concurrency._loop_host import LoopHost
from actors.concurrency._pinned_dispatcher import PinnedThreads
from actors.concurrency._stall_watch import StallWatch
from actors.concurrency._trio_host import TrioHost
from actors.drains._watchdog import AsyncioWatchdog, Watchdog
from actors.kinds._durable_operation_place import DurableAsyncioOperationPlace, DurableOperationPlace
from actors.kinds._operation_place import AsyncioOperationPlace, OperationPlace
from actors.mailboxes._throttles import Throttles
from actors.places._actor import BaseActor
from actors.places._actor_place import ActorPlace
from actors.places._durable_place import DurableActorPlace, place_class
from actors.places._place import Place
from actors.places._ports import Journal, SystemPolicies
from actors.places._ref import ActorRef
from actors.places._timers import Timers
from actors.processes._process_host import ProcessHost
from actors.processes.workers._worker_pool import ProcessPool, ProcessStatistics
from actors.system import _open_systems
from actors.system._observer import Observed
from actors.system._place_table import SYSTEM, PlaceTable
from actors.system._reconciler import Reconciler
from actors.system._recovery import Recovery
from actors.system._token_counts import TokenCounts
from actors.tokens import _log_context
from actors.tokens._lifecycle import TokenState
from actors.tokens._ports import Predictor
from actors.tokens._properties import Properties
from actors.tokens._token import Token

_logger = logging.getLogger("tokengate.actors")

A = TypeVar("A", bound=BaseActor)

# Seconds that threads get to end, when all on them has been ended, even if there is no time left.
_LAST_SECONDS = 0.25


@attrs.frozen
class SystemStatistics:
    """A system at one moment.

    Attributes:
        tokens: {state: how many tokens are in it, or ended in it, since the system was opened}, without questions to
            the runtime itself.
        actors: places of actors.
        dispatcher: the CPU threads that actors share.
        pinned: CPU threads that belong to one actor each, abandoned ones included.
        abandoned: names of threads that were abandoned, since their code could not be ended.
        processes: the child processes; None when none was ever needed.
    """

    tokens: Mapping[TokenState, int]
    actors: int
    dispatcher: DispatcherStatistics
    pinned: int
    abandoned: tuple[str, ...]
    processes: ProcessStatistics | None = None


class ActorSystem(Observed, PlaceTable, TokenCounts):
    """All that the actors of one system share; two systems share nothing.

    Args:
        name: prefix of the names of its threads.
        threads: CPU threads that run steps at once; None takes the number of cores, at least 2.
        clock: seconds, monotonic; every time in the system comes from it.
        blocked_after: seconds for which code may block the io or asyncio loop before a watchdog names it, in a warning
            and a `LoopBlocked` event; None keeps none. These are seconds of real time, whatever `clock` is.
        processes: how many child processes are kept, once the first is needed.
        loop_factory: makes the asyncio loop, once it is needed; None makes one of asyncio's own.
    """

    predictor: Predictor | None = None  # what predicts what tokens need; set by the floor above

    def __init__(
        self,
        name: str,
        *,
        threads: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        blocked_after: float | None = 0.5,
        processes: ProcessPool | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        self.cores = cores()
        size = max(2, self.cores.amount) if threads is None else threads
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"threads of system '{name}' is {threads!r}; it must be an int of at least 1")
        if blocked_after is not None and not (isinstance(blocked_after, int | float) and 0 < blocked_after < math.inf):
            raise ValueError(
                f"blocked_after of system '{name}' is {blocked_after!r}; it must be seconds above 0, or None"
            )
        Observed.__init__(self)
        PlaceTable.__init__(self, name)
        TokenCounts.__init__(self)
        self.clock = clock
        self.dispatcher = Dispatcher(f"{name}-cpu", size)
        self.pinned = PinnedThreads()
        self.system_host = TrioHost(f"{name}-system")
        self.later = self.system_host.later  # for code that has interrupted a change
        self.io_host = TrioHost(f"{name}-io")
        self.asyncio_hosts = AsyncioHosts(AsyncioHost(f"{name}-asyncio", loop_factory))
        self.blocked_after = blocked_after
        self.timers = Timers(self.system_host, clock)
        self.reconciler = Reconciler(self.system_host.start_task)
        self._names = count(1)
        self.intake_closed = False
        self.guarded = False  # whether a token is only accepted if `check_intake` lets it pass
        # Each notes a new token, or refuses it, before it is sent or runs on its caller's thread; a direct call that
        # could not run there, and is sent, is noted twice.
        self.intake: tuple[Callable[[Token[Any]], object], ...] = ()
        self.admitted: set[int] = set()  # ids of tokens that are accepted while the system closes
        self._sealed: set[int] = set()  # ids of tokens that were ended while their code ran on
        self.closed = False
        self.opened_by: int | None = None  # pid
        self.keeps_process = False  # whether the process waits for its actors without a supervisor
        self._lifeline = Lifeline(f"{name}-lifeline")
        self._in_pykka_registry: set[ActorPlace] = set()  # places whose refs are there
        self.restarts = 0  # of children, counted by their supervisors, on the system loop only
        self._draining = False
        self._lock = threading.Lock()
        # (token, state, value, error) of each end that is being written, outside of the loops and drains
        self.endings: list[tuple[Token[Any], TokenState, Any, BaseException | None]] = []
        self.senders: set[Token[Any]] = set()  # tokens that wait, in a task, for room in a mailbox
        self.starts: set[ActorPlace] = set()  # new places whose start is being requested, outside of the loops
        self.throttles = Throttles(self.system_host, clock)
        # Holds the messages of an actor to the policy of its class; set by the floor above.
        self.govern: Callable[[ActorPlace], object] | None = None
        self.policies: SystemPolicies | None = (
            None  # what the floor above holds tokens to; made when it is first needed
        )
        self.making_policies = threading.RLock()
        self.journal: Journal | None = None  # what keeps durable tokens; set by the floor above
        self.consents: object | None = None  # what asks people for their consent to calls; set by the floor above
        pool = processes or ProcessPool()
        self.processes = ProcessHost(self, pool, pool.size or self.cores.amount)
        # {id: token that a child process knows}; the child's `KnownTokens` keep it
        self.carried_tokens: WeakValueDictionary[int, Token[Any]] = WeakValueDictionary()
        # {path: place of an actor that a child process knows}
        self.carried_places: WeakValueDictionary[str, ActorPlace] = WeakValueDictionary()
        self.carried_variables: dict[ContextVar[Any], tuple[Any, ...]] = {}  # {variable: how a child process finds it}
        self.carried_operations: dict[int | str, Any] = {}  # {key: operation that a child process holds}
        self._abandoned: list[str] = []
        self._waiters: Collection[threading.Thread] = ()  # threads that wait for the end of the system

    def open(self) -> None:
        """Start the threads and the loops."""
        self.opened_by = os.getpid()
        _log_context.install(self)
        self.system_host.open()
        self.io_host.open()
        self.dispatcher.watch = StallWatch(self.dispatcher, self.system_host).begin
        self.dispatcher.open()
        Recovery(self).open()
        if self.blocked_after is not None:
            self._watch(self.io_host)
            self._watch(self.asyncio_hosts.own)
            self.asyncio_hosts.on_visit = self._watch
        _open_systems.open_systems.append(self)

    def _watch(self, host: LoopHost) -> None:
        """Report code that blocks a loop for `blocked_after` seconds."""
        kind = AsyncioWatchdog if isinstance(host, AsyncioHost) else Watchdog
        seconds = self.blocked_after or math.inf
        watchdog = kind(host, self.system_host, seconds, self.publish, lambda: self.intake_closed)
        host.busy_since = watchdog.busy_since
        watchdog.open()

    # Places

    def place(
        self,
        path: str,
        actor_class: type[BaseActor],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        owner: Callable[[ActorPlace, ExitReason, bool], None] | None = None,
    ) -> ActorPlace:
        """Make the place of an actor, without an instance yet.

        Raises:
            NameTaken: the path is in use.
        """
        place = place_class(actor_class)(self, path, actor_class, args, kwargs, owner=owner)
        self.enter(place)
        return place

    def adopt(
        self,
        path: str,
        actor_class: type[BaseActor],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        owner: Callable[[ActorPlace, ExitReason, bool], None],
    ) -> ActorPlace:
        """Take over the place that an earlier instance of the same owner left behind, or make a new one.

        Raises:
            NameTaken: the path is in use.
        """
        place = self.place_at(path)
        if isinstance(place, ActorPlace) and place.orphaned and place.actor_class is actor_class:
            place.args, place.kwargs, place.owner, place.orphaned = args, dict(kwargs), owner, False
            return place
        return self.place(path, actor_class, args, kwargs, owner=owner)

    def close_below(self, place: ActorPlace, reason: ExitReason) -> None:
        """Close all places further down the path of one that is given up."""
        for child in reversed(self.below(place)):
            child.close(reason)

    def operation_place(self, path: str, affinity: str, **options: Any) -> OperationPlace:
        """Make the place of an operation; `options` are those of `OperationPlace`.

        Raises:
            NameTaken: the path is in use.
        """
        properties: Properties | None = options.get("properties")
        kind: type[OperationPlace]
        if properties is not None and properties.durable:
            kind = DurableAsyncioOperationPlace if affinity == "asyncio" else DurableOperationPlace
        else:
            kind = AsyncioOperationPlace if affinity == "asyncio" else OperationPlace
        place = kind(self, path, affinity, **options)
        self.enter(place)
        return place

    def start_actor(self, actor_class: type[A], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ActorRef[A]:
        """Start an actor without a supervisor.

        Raises:
            StartFailed: `__init__` or `on_start` raised.
        """
        place = self.place(f"{actor_class.__name__}-{self.next_name()}", actor_class, args, kwargs)
        try:
            if self.keeps_process:
                self._lifeline.add(place)
                self.enter_pykka_registry(place.ref)
            place.start(here=not loop_here()).result()
        except BaseException:
            place.close(ExitReason("shutdown"))
            raise
        return place.ref

    def enter_pykka_registry(self, ref: ActorRef[Any]) -> None:
        """Enter an actor in pykka's registry until it ends for good."""
        place = ref._place
        self._in_pykka_registry.add(place)
        pykka.ActorRegistry.register(ref)
        if place.closed:
            self.leave_pykka_registry(place)

    def leave_pykka_registry(self, place: ActorPlace) -> None:
        """Take an actor out of pykka's registry, if it is there."""
        if place in self._in_pykka_registry:
            pykka.ActorRegistry.unregister(place.ref)
            self._in_pykka_registry.discard(place)

    def next_name(self) -> int:
        """Return a number for the name of an actor that was given no name."""
        return next(self._names)

    def enter(self, place: Place) -> None:
        """Enter a new place into the table.

        Raises:
            NameTaken: the path is in use.
        """
        self.register(place)
        if self.policies is not None:  # after it can be found: what comes now is seen here, or sees the place
            self.policies.entered(place)
        if self.journal is not None and isinstance(place, DurableActorPlace):
            self.journal.entered(place)

    def forget(self, place: Place) -> None:
        super().forget(place)
        if isinstance(place, ActorPlace):
            self.leave_pykka_registry(place)
            self._lifeline.discard(place)

    # Tokens

    def close_intake(self, *, draining: bool = False) -> None:
        """Accept no more tokens; while draining, only those that live tokens send."""
        self._draining, self.intake_closed, self.guarded = draining, True, True
        if self.journal is not None:
            self.journal.close_intake(draining=draining)

    def add_intake(self, note: Callable[[Token[Any]], object]) -> None:
        """Have a function note each new token, in the thread that submits it, or refuse it by `TokenRejected`."""
        with self._lock:
            self.intake = (*self.intake, note)
        self.guarded = True

    def seal(self, tokens: list[Token[Any]], why: str) -> None:
        """End tokens although their code runs on, and accept nothing more that this code sends."""
        if tokens:
            self._sealed.update(token.id for token in tokens)
            self.guarded = True
        for token in tokens:
            token._terminate(why)
            policy = token._extras.policy
            if policy is not None and policy.awaits_attempt:  # so its code has been ended, and the next may send
                self._sealed.discard(token.id)

    def is_sealed(self, token: Token[Any]) -> bool:
        """Tell whether a token was ended while its code ran on, or this was tried a moment ago."""
        return token.id in self._sealed

    def check_intake(self, token: Token[Any]) -> None:
        """Let a token pass, or raise `ActorDead` or `TokenRejected`."""
        if token.parent in self._sealed:
            raise ActorDead(f"{token!r} was not accepted: its sender, token {token.parent}, was ended while it ran")
        if token._place.serves_operators and not self.closed:
            return
        if self.intake_closed and not (self._draining and token.parent in self.live) and token.id not in self.admitted:
            raise ActorDead(f"system '{self.name}' is closing; {token!r} was not accepted")
        for note in self.intake:
            note(token)

    def accepts_here(self, token: Token[Any]) -> bool:
        """Tell whether a direct call may begin on its caller's thread; one that may not is sent, and told why."""
        if self.intake_closed:
            return False
        try:
            for note in self.intake:
                note(token)
        except TokenRejected:
            return False
        return True

    def abandoned(self) -> tuple[str, ...]:
        """Return the names of the threads that were abandoned to their code."""
        with self._lock:
            return tuple(self._abandoned)

    def note_abandoned(self, path: str, threads: list[str]) -> None:
        """Remember threads that were abandoned to their code, except those that wait for the end of the system."""
        left = [name for name in threads if all(thread.name != name for thread in self._waiters)]
        if left:
            with self._lock:
                self._abandoned.extend(left)
            _logger.warning("abandoned %s: actor '%s' did not stop in time", listed(left), path)

    def statistics(self) -> SystemStatistics:
        """Return the figures of this moment; exact when nothing moves."""
        counting = self.statistics_in_parts()
        while (figures := next(counting)) is None:
            pass
        return figures

    def statistics_in_parts(self) -> Generator[SystemStatistics | None, None, None]:
        """Yield None after each few thousand tokens that were counted, and at last the figures of the first moment."""
        places, abandoned = self.places(), self.abandoned()

        def questions() -> int:
            return sum(place.mailbox.statistics().accepted for place in places if place.serves_operators)

        tokens = yield from self._count_in_parts(questions)
        actors = sum(isinstance(place, ActorPlace) and not place.path.startswith(SYSTEM) for place in places)
        yield SystemStatistics(
            tokens, actors, self.dispatcher.statistics(), len(self.pinned), abandoned, self.processes.statistics()
        )

    # Closing

    def drain(self) -> None:
        """Close the intake, but for what the tokens that are live submit."""
        self.close_intake(draining=True)

    def close(self, timeout: float, waiters: Collection[threading.Thread] = ()) -> tuple[str, ...]:
        """End every token and every thread.

        Args:
            timeout: seconds for the threads to finish what they do.
            waiters: threads that wait for this call to return, and so cannot end before.

        Returns:
            names of the threads that did not; they are daemons, and their results are dropped.
        """
        deadline = time.monotonic() + timeout
        self._waiters = waiters
        if self in _open_systems.open_systems:
            _open_systems.open_systems.remove(self)
        self.closed = True
        self.close_intake()
        places = list(reversed(self.places()))
        for place in places:
            place.terminate_queued("was closed")
        self._let_tokens_end(deadline)
        for place in places:
            place.terminate_running("its system was closed")
        for token in list(self.live.values()):
            token._terminate("its system was closed")
        if self.journal is not None:
            self.journal.abandon()
        hosts = (self.io_host, *self.asyncio_hosts.all(), self.system_host)
        for host in hosts:
            host.cancel()
        deadline = max(deadline, time.monotonic() + _LAST_SECONDS)
        late = self.dispatcher.close(deadline, waiters) + self.pinned.close(deadline, waiters)
        late += self.processes.close(deadline)
        held_up = {thread.ident for thread in waiters}  # a loop of the program whose thread waits for this call
        for host in hosts:
            late += host.join(deadline) if host.ident not in held_up else []
        _log_context.uninstall(self)
        with self._lock:
            self._abandoned = sorted({*late} - {thread.name for thread in waiters})
            return tuple(self._abandoned)

    def disown(self) -> None:
        """Be closed in a forked child: end the copied tokens, run nothing, and touch nothing that is the parent's.

        Callbacks of tokens are dropped, since they belong to threads and loops of the parent, and so are observers.
        """
        self._lock = threading.Lock()
        self._observers_lock, self._places_lock, self._counts_lock = (threading.Lock() for _ in range(3))
        self._set_observers(())
        if self.journal is not None:
            self.journal.disown()
        self.closed = True
        self.close_intake()
        for host in (self.io_host, *self.asyncio_hosts.all(), self.system_host):
            host.disown()
        self.dispatcher.disown()
        self.processes.disown()
        for place in self.places():
            place.mailbox.disown()
            if isinstance(place, ActorPlace):
                place.lock = threading.Lock()
        for token in list(self.live.values()):
            token._callbacks = None
            token._terminate("it is the parent's, from which this process was forked")

    def _let_tokens_end(self, deadline: float) -> None:
        """Ask all tokens to end at their next yield point, and wait for them until the deadline."""
        live = list(self.live.values())
        for token in live:
            token._cancel("its system was closed")
        for token in live:
            try:
                token.exception(max(0.0, deadline - time.monotonic()))
            except (WaitTimeout, WouldBlock):
                return


def listed(names: Sequence[str]) -> str:
    """Return names as a text, the first ten of many."""
    shown = ", ".join(names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10:,} more"


def system_of(place: Place) -> ActorSystem:
    """Return the system of a place, for code that needs more of it than a place does."""
    return place.system  # type: ignore[return-value]  # a cast would cost a call
