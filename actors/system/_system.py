"""The actor system: the one root object, which owns the threads, the loops, the clock, the ids and the tables."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextvars import ContextVar
from itertools import count
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

import attrs
import pykka
import trio

from actors._exceptions import ActorDead, NameTaken, UnknownActor, WaitTimeout, WouldBlock
from actors._exit_reason import ExitReason
from actors.concurrency._dispatcher import Dispatcher, DispatcherStatistics
from actors.concurrency._pinned_dispatcher import PinnedThreads
from actors.concurrency._stall_watch import StallWatch
from actors.concurrency._trio_host import TrioHost
from actors.drains._watchdog import Watchdog
from actors.kinds._operation_place import OperationPlace
from actors.mailboxes._throttles import Throttle, Throttles
from actors.places._actor import BaseActor
from actors.places._actor_place import ActorPlace
from actors.places._place import Place
from actors.places._ref import ActorRef
from actors.places._timers import Timers
from actors.processes._process_host import ProcessHost
from actors.processes.workers._worker_pool import ProcessPool, ProcessStatistics
from actors.system import _open_systems
from actors.system._events import EndedToken
from actors.system._observer import Observed
from actors.system._recovery import Recovery
from actors.tokens import _log_context
from actors.tokens._lifecycle import TokenState
from actors.tokens._token import Token

_logger = logging.getLogger("tokengate.actors")

ROOT = "/"  # path of the root of the tree; the paths below are written without it
SYSTEM = "$system"  # path of the root of the runtime's own tree, which is no part of the other one

A = TypeVar("A", bound=BaseActor)

# How many tokens are remembered that ended otherwise than completed.
_REMEMBERED = 1_000
# Tokens that are counted in one part of the statistics: a millisecond.
_COUNTED = 5_000

# Seconds that threads get to end, when all on them has been ended, even if there is no time left.
_LAST_SECONDS = 0.25


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@attrs.frozen
class SystemStatistics:
    """A system at one moment.

    Attributes:
        tokens: {state: how many tokens are in it, or ended in it, since the system was opened}; questions to the
            runtime itself are none.
        actors: places of actors.
        dispatcher: the CPU threads that actors share.
        pinned: CPU threads that belong to one actor each, those that could not be ended included.
        abandoned: names of threads whose code could not be ended.
        processes: the child processes; None when none was ever needed.
    """

    tokens: Mapping[TokenState, int]
    actors: int
    dispatcher: DispatcherStatistics
    pinned: int
    abandoned: tuple[str, ...]
    processes: ProcessStatistics | None = None


class ActorSystem(Observed):
    """Everything that actors share, and nothing that two systems share.

    Args:
        name: prefix of the names of its threads.
        threads: CPU threads that run steps at once; None takes the number of cores, at least 2.
        clock: seconds, monotonic; every time in the system comes from it.
        blocked_after: seconds for which code may block the io loop before the watchdog names it, in a warning and
            a `LoopBlocked` event; None keeps no watchdog. They are real ones, whatever the clock says.
        processes: how many child processes are kept, once the first is needed.
    """

    def __init__(
        self,
        name: str,
        *,
        threads: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        blocked_after: float | None = 0.5,
        processes: ProcessPool | None = None,
    ) -> None:
        size = max(2, cores()) if threads is None else threads
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"threads of system '{name}' is {threads!r}; it must be an int of at least 1")
        if blocked_after is not None and not (isinstance(blocked_after, int | float) and 0 < blocked_after < math.inf):
            raise ValueError(
                f"blocked_after of system '{name}' is {blocked_after!r}; it must be seconds above 0, or None"
            )
        super().__init__()
        self.name = name
        self.clock = clock
        self.dispatcher = Dispatcher(f"{name}-cpu", size)
        self.pinned = PinnedThreads()
        self.system_host = TrioHost(f"{name}-system")
        self.io_host = TrioHost(f"{name}-io")
        self.blocked_after = blocked_after
        self.timers = Timers(self.system_host, clock)
        self.ids = count(1)
        self._names = count(1)
        self.live: dict[int, Token[Any]] = {}  # {token id: token that has not ended}
        self.intake_closed = False
        self.guarded = False  # whether a token is only accepted if `check_intake` lets it pass
        self._sealed: set[int] = set()  # ids of tokens that were ended while their code ran on
        self.closed = False
        self.in_pykka_registry = False  # whether actors that nobody supervises are registered there
        self._below: dict[str, dict[str, ActorPlace]] = {}  # {path: {path: place right below it}}
        self._draining = False
        self._places: dict[str, Place] = {}  # {path: place}
        self._lock = threading.Lock()
        self._throttling = threading.Lock()  # held while throttles come and go
        self._uncompleted: Counter[TokenState] = Counter()  # how many tokens ended in each state but completed
        self.ended: deque[EndedToken] = deque(maxlen=_REMEMBERED)  # the latest of these
        # (token, state, value, error) of each end that is being written, outside of the loops and drains
        self.endings: list[tuple[Token[Any], TokenState, Any, BaseException | None]] = []
        self.senders: set[Token[Any]] = set()  # tokens that wait, in a task, for room in a mailbox
        self.throttles = Throttles(self.system_host, clock)
        pool = processes or ProcessPool()
        self.processes = ProcessHost(self, pool, pool.size or cores())
        # {id: token that a child process knows}; who keeps it is the child's `KnownTokens`
        self.carried_tokens: WeakValueDictionary[int, Token[Any]] = WeakValueDictionary()
        # {path: place of an actor that a child process knows}
        self.carried_places: WeakValueDictionary[str, ActorPlace] = WeakValueDictionary()
        self.carried_variables: dict[ContextVar[Any], tuple[Any, ...]] = {}  # {variable: how a child process finds it}
        self.carried_operations: dict[int, Any] = {}  # {key: operation that a child process holds}
        self._ids_skipped = 0
        self._abandoned: list[str] = []
        self._waiters: Collection[threading.Thread] = ()  # threads that wait for the end of the system

    def open(self) -> None:
        """Start the threads and the loops."""
        _log_context.install(self)
        self.system_host.open()
        self.io_host.open()
        self.dispatcher.watch = StallWatch(self.dispatcher, self.system_host).begin
        self.dispatcher.open()
        Recovery(self).open()
        if self.blocked_after is not None:
            Watchdog(
                self.io_host, self.system_host, self.blocked_after, self.publish, lambda: self.intake_closed
            ).open()
        _open_systems.open_systems.append(self)

    # The table of places

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
        place = ActorPlace(self, path, actor_class, args, kwargs, owner=owner)
        self._register(place)
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
        with self._lock:
            place = self._places.get(path)
        if isinstance(place, ActorPlace) and place.orphaned and place.actor_class is actor_class:
            place.args, place.kwargs, place.owner, place.orphaned = args, dict(kwargs), owner, False
            return place
        return self.place(path, actor_class, args, kwargs, owner=owner)

    def close_below(self, place: ActorPlace, reason: ExitReason) -> None:
        """Close all places further down the path of one that is given up."""
        for child in reversed(self.below(place)):
            child.close(reason)

    def above(self, place: ActorPlace) -> ActorPlace | None:
        """Return the place right above one: its supervisor's, if it has one."""
        with self._lock:
            found = self._places.get(_above(place.path))
        return found if isinstance(found, ActorPlace) else None

    def is_root(self, place: ActorPlace) -> bool:
        """Tell whether a place is at the root of a tree: what is there is not started again."""
        return place.path in (ROOT, SYSTEM)

    def below(self, place: ActorPlace) -> list[ActorPlace]:
        """Return the places right below one, in the order in which they were made."""
        with self._lock:
            return list(self._below.get(place.path, {}).values())

    def operation_place(self, path: str, affinity: str, **options: Any) -> OperationPlace:
        """Make the place of an operation; `options` are those of `OperationPlace`.

        Raises:
            NameTaken: the path is in use.
        """
        place = OperationPlace(self, path, affinity, **options)
        self._register(place)
        return place

    def start_actor(self, actor_class: type[A], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ActorRef[A]:
        """Start an actor that nobody supervises.

        Raises:
            StartFailed: `__init__` or `on_start` raised.
        """
        place = self.place(f"{actor_class.__name__}-{self.next_name()}", actor_class, args, kwargs)
        if self.in_pykka_registry:
            pykka.ActorRegistry.register(place.ref)
        try:
            place.start(here=not trio.lowlevel.in_trio_run()).result()
        except BaseException:
            self.leave_pykka_registry(place)
            place.close(ExitReason("shutdown"))
            raise
        return place.ref

    def leave_pykka_registry(self, place: ActorPlace) -> None:
        """Take an actor that nobody supervises out of pykka's registry, if those of this system are there."""
        if self.in_pykka_registry:
            pykka.ActorRegistry.unregister(place.ref)

    def next_name(self) -> int:
        """Return a number for the name of an actor that was given none."""
        return next(self._names)

    def find(self, name: str) -> Place:
        """Return the place with this path, or the only one whose path ends with it.

        Raises:
            UnknownActor: there is none, or there are several.
        """
        with self._lock:
            place = self._places.get(name)
            if place is not None:
                return place
            found = [p for path, p in self._places.items() if path.endswith("/" + name) and not path.startswith(SYSTEM)]
        if len(found) == 1:
            return found[0]
        if found:
            paths = ", ".join(sorted(p.path for p in found))
            raise UnknownActor(f"several actors are called '{name}' in '{self.name}': {paths}; use the path")
        raise UnknownActor(f"no actor is called '{name}' in '{self.name}'")

    def place_at(self, path: str) -> Place | None:
        """Return the place with exactly this path, or None."""
        return self._places.get(path)

    def places(self) -> list[Place]:
        """Return all places, in the order in which they were made."""
        with self._lock:
            return list(self._places.values())

    def forget(self, place: Place) -> None:
        """Free the path of a place that has ended."""
        with self._lock:
            if self._places.get(place.path) is not place:
                return
            del self._places[place.path]
            if isinstance(place, ActorPlace):
                above = _above(place.path)
                siblings = self._below.get(above, {})
                siblings.pop(place.path, None)  # it is not there if its registration was interrupted
                if not siblings:
                    self._below.pop(above, None)

    def _register(self, place: Place) -> None:
        with self._lock:
            if place.path in self._places:
                raise NameTaken(f"'{self.name}' has an actor called '{place.path}' already; choose another name")
            siblings = self._below.setdefault(_above(place.path), {}) if isinstance(place, ActorPlace) else {}
            self._places[place.path] = siblings[place.path] = place  # type: ignore[assignment]
        if self.throttles:  # after it can be found: one that comes at the same moment is seen here, or sees the place
            self._govern(place)

    # Tokens

    def close_intake(self, *, draining: bool = False) -> None:
        """Accept no more tokens; while draining, those that live ones send."""
        self._draining, self.intake_closed, self.guarded = draining, True, True

    def seal(self, tokens: list[Token[Any]], why: str) -> None:
        """End tokens whose code cannot be ended, and accept nothing any more that it sends."""
        if tokens:
            self._sealed.update(token.id for token in tokens)
            self.guarded = True
        for token in tokens:
            token._terminate(why)

    def is_sealed(self, token: Token[Any]) -> bool:
        """Tell whether somebody has ended a token while its code ran on, or has just tried to."""
        return token.id in self._sealed

    def ended_lately(self) -> list[EndedToken]:
        """Return the latest tokens that ended otherwise than completed, the oldest first."""
        with self._lock:
            return list(self.ended)

    def check_intake(self, token: Token[Any]) -> None:
        """Let a token pass, or raise `ActorDead`."""
        if token.parent in self._sealed:
            raise ActorDead(f"{token!r} was not accepted: its sender, token {token.parent}, was ended while it ran")
        if token._place.serves_operators and not self.closed:
            return
        if self.intake_closed and not (self._draining and token.parent in self.live):
            raise ActorDead(f"system '{self.name}' is closing; {token!r} was not accepted")

    def note_uncompleted(self, token: Token[Any]) -> None:
        """Count, and remember for a while, a token that has just ended otherwise than completed."""
        if token.serves_operators:
            return  # a question with an error for an answer
        state = token.state
        error = type.__dict__["__name__"].__get__(type(token._error))  # no code of a metaclass
        ended = EndedToken(token.id, token.operation, token.actor, state, error, token.finished_at or self.clock())
        with self._lock:
            self._uncompleted[state] += 1
            self.ended.append(ended)

    def remembers(self, token: Token[Any]) -> bool:
        """Tell whether a token is among the latest that ended otherwise than completed."""
        with self._lock:
            return any(ended.id == token.id for ended in self.ended)

    def is_used(self, id: int) -> bool:
        """Tell whether a token has ever had this id, or a statistics call, which uses ids up as well."""
        with self._lock:
            return 0 < id < self._use_up_id()

    def _use_up_id(self) -> int:
        """Return the next id, and so learn how many were used: the only way that costs the makers of tokens nothing.

        Under the lock.
        """
        self._ids_skipped += 1
        return next(self.ids)

    def abandoned(self) -> tuple[str, ...]:
        """Return the names of the threads whose code could not be ended."""
        with self._lock:
            return tuple(self._abandoned)

    # Throttles

    def throttle(self, throttle: Throttle) -> None:
        """Let a throttle hold from now on, for tokens of all places that operators may control."""
        with self._throttling:
            self.throttles.add_closed(throttle)
            places = self.places()
            for place in places:
                self._govern(place)
            # Whoever begins from now on asks; who has begun, or has been taken to begin, counts.
            began = {token for token in list(self.live.values()) if token.started_at is not None}
            began.update(token for place in places for token in place.drain.running())
            self.throttles.open(throttle, [token for token in began if token._place.controls.controllable])

    def unthrottle(self, throttle: Throttle) -> None:
        """End a throttle; what waits in it goes on."""
        with self._throttling:
            self.throttles.remove(throttle)
            for place in self.places():
                self._govern(place)

    def _govern(self, place: Place) -> None:
        if place.controls.controllable:
            place.mailbox.set_throttles(self.throttles if self.throttles else None)

    def note_abandoned(self, path: str, threads: list[str]) -> None:
        """Remember threads whose code could not be ended, but for those that wait for the system's end themselves."""
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
        """Yield None after each so many tokens that were counted, and at last the figures of the first moment."""
        with self._lock:
            created = self._use_up_id() - self._ids_skipped
            uncompleted = dict(self._uncompleted)
            tokens_now = list(self.live.values())
            places = list(self._places.values())
            abandoned = tuple(self._abandoned)
        actors = sum(isinstance(place, ActorPlace) and not place.path.startswith(SYSTEM) for place in places)
        questions = sum(place.mailbox.statistics().accepted for place in places if place.serves_operators)
        states: Counter[TokenState] = Counter()
        for start in range(0, len(tokens_now), _COUNTED):
            part = tokens_now[start : start + _COUNTED]
            states.update([token._end or token._phase for token in part if not token._place.serves_operators])
            yield None
        tokens = dict.fromkeys(TokenState, 0)
        tokens.update(states)
        tokens.update(uncompleted)
        tokens[TokenState.COMPLETED] = max(0, created - questions - states.total() - sum(uncompleted.values()))
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
            names of the threads that did not; they are daemons whose results go nowhere.
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
        hosts = (self.io_host, self.system_host)
        for host in hosts:
            host.cancel()
        deadline = max(deadline, time.monotonic() + _LAST_SECONDS)
        late = self.dispatcher.close(deadline, waiters) + self.pinned.close(deadline, waiters)
        late += self.processes.close(deadline)
        for host in hosts:
            late += host.join(deadline)
        _log_context.uninstall(self)
        with self._lock:
            self._abandoned = sorted({*late} - {thread.name for thread in waiters})
            return tuple(self._abandoned)

    def disown(self) -> None:
        """Be closed in a forked child: end what it has copies of, run nothing, and touch nothing of the parent's.

        Callbacks of tokens are dropped, since they are for threads and loops of the parent.
        """
        self._lock, self._observers_lock = threading.Lock(), threading.Lock()
        self._throttling = threading.Lock()
        self.closed = True
        self.close_intake()
        for host in (self.io_host, self.system_host):
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


def path_below(path: str, name: str) -> str:
    """Return the path of what has a name right below a path."""
    return name if path == ROOT else f"{path}/{name}"


def _above(path: str) -> str:
    """Return the path of what is right above a path; of a root, nothing."""
    return "" if path in (ROOT, SYSTEM) else path.rpartition("/")[0] or ROOT


def system_of(place: Place) -> ActorSystem:
    """Return the system of a place, for code that needs more of it than a place does."""
    return cast("ActorSystem", place.system)


def default_system() -> ActorSystem:
    """Return the system of actors that are started outside of any gate; they are in pykka's registry."""
    with _open_systems.default_lock:
        for system in _open_systems.open_systems:
            if isinstance(system, ActorSystem) and system.in_pykka_registry:
                return system
        system = ActorSystem("default")
        system.in_pykka_registry = True
        system.open()
        return system


BaseActor._default_system = staticmethod(default_system)
