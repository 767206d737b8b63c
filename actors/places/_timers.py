"""Timers: messages that an actor sends to itself later; one heap on the system loop serves all of a system."""

from __future__ import annotations

import abc
import logging
import math
import threading
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any

import attrs

from actors._exceptions import ActorDead
from actors.concurrency._alarm import Alarm
from actors.places._notice import Notice, attach, detach
from actors.tokens._lifecycle import TokenState
from actors.tokens._token import Token

if TYPE_CHECKING:
    from actors.concurrency._trio_host import TrioHost
    from actors.places._actor_place import ActorPlace

_logger = logging.getLogger("tokengate.actors")

# Maximum number of timers that go off before other tasks of the loop run.
_BATCH = 64

# Entries of cancelled timers stay in the heap until their time, or until this many have gathered.
_STALE_LIMIT = 256


@attrs.frozen
class ReceiveTimeout:
    """Message to an actor: no message has come for `seconds`. See `BaseActor.receive_timeout`."""

    seconds: float


class Timed(Notice):
    """Base of timers.

    Args:
        place: the actor's.
        instance: the actor's instance; the timer dies with it.
    """

    __slots__ = ("armed",)

    def __init__(self, place: ActorPlace, instance: object) -> None:
        super().__init__(place, instance)
        self.armed = False  # whether it is in the heap; changes under the heap's lock

    def start(self, instance: object, seconds: float) -> None:
        """Go off in so many seconds.

        Raises:
            RuntimeError: the instance does not run.
        """
        attach(self._place, instance, self)
        system = self._place.system
        system.timers.arm(system.clock() + seconds, self)

    @abc.abstractmethod
    def go_off(self, deadline: float, now: float) -> float | None:
        """Send the message; return when to go off again, or None. Times are seconds of the system's clock."""

    def cancel(self) -> bool:
        """Send nothing any more; return whether it was armed."""
        self.drop()
        detach(self._place, self)
        return self._place.system.timers.disarm(self)


class Timer(Timed):
    """A message that an actor sends to itself later, once or again and again; it ends with the instance.

    Made by `BaseActor.send_after` and `BaseActor.send_every`.
    """

    __slots__ = ("_message", "_period", "_token")

    def __init__(self, place: ActorPlace, instance: object, message: Any, period: float | None) -> None:
        super().__init__(place, instance)
        self._message = message
        self._period = period
        self._token: Token[Any] | None = None  # the latest one sent

    def cancel(self) -> bool:
        """Send nothing any more, and discard a message that is queued already.

        Returns:
            True when this call kept a message from coming; False when there was none to come.
        """
        if self.dropped:
            return False
        was_armed = super().cancel()
        return was_armed or self._is_queued()

    def go_off(self, deadline: float, now: float) -> float | None:
        if not self._is_queued():
            self._token = token = self.send(self._message)
            if token is None or isinstance(token._error, ActorDead):
                detach(self._place, self)
                return None
        if self._period is None:
            detach(self._place, self)
            return None
        following = deadline + self._period
        return following if following > now else now + self._period

    def _is_queued(self) -> bool:
        token = self._token
        return token is not None and token.state is TokenState.QUEUED

    def __repr__(self) -> str:
        when = "once" if self._period is None else f"every {self._period} s"
        return f"<Timer of '{self._place.path}', {when}{', cancelled' if self.dropped else ''}>"


class ReceiveTimer(Timed):
    """Goes off when an actor has been idle for a time.

    Messages do not touch the heap: they leave their token in `latest`, which is checked when the time is up. An actor
        that is busy then cannot have been idle for long enough until the same time has passed again.
    """

    __slots__ = ("_set_at", "latest", "seconds")

    def __init__(self, place: ActorPlace, instance: object, seconds: float) -> None:
        super().__init__(place, instance)
        self.seconds = seconds
        self._set_at = self._place.system.clock()
        self.latest: Token[Any] | None = None  # the latest one that the instance began to handle

    def cancel(self) -> bool:
        place = self._place
        if place.receive_timer is self:
            place.receive_timer = None
        return super().cancel()

    def go_off(self, deadline: float, now: float) -> float | None:  # noqa: ARG002
        place, latest = self._place, self.latest
        idle_since = self._set_at if latest is None else latest.finished_at
        if idle_since is None or place.drain.running() or place.mailbox.size:
            return now + self.seconds
        if idle_since + self.seconds > now:
            return idle_since + self.seconds
        token = self.send(ReceiveTimeout(self.seconds))
        if token is None or isinstance(token._error, ActorDead):
            return None
        self.latest = token
        return now + self.seconds


class Timers:
    """All timers of a system: one heap, and one task on the loop that sleeps until the first of them.

    Args:
        host: the loop.
        clock: the system's; deadlines are its seconds.
    """

    def __init__(self, host: TrioHost, clock: Callable[[], float]) -> None:
        self._host = host
        self._clock = clock
        self._alarm = Alarm("timers", host, clock, self._due, self._go_off)
        self._lock = threading.Lock()
        self._heap: list[tuple[float, int, Timed]] = []  # (deadline, serial number, timer)
        self._serials = count()
        self._stale = 0  # entries of timers that are no longer armed

    def arm(self, deadline: float, timer: Timed) -> None:
        """Have a timer go off at a deadline, unless it was dropped in the meantime."""
        with self._lock:
            if timer.dropped:
                return
            timer.armed = True
            entry = (deadline, next(self._serials), timer)
            heappush(self._heap, entry)
            first = self._heap[0] is entry
        if first:
            self._host.call_soon(self.look)

    def disarm(self, timer: Timed) -> bool:
        """Disarm a timer; return whether it was armed. It cannot be armed again."""
        with self._lock:
            was_armed, timer.armed = timer.armed, False
            if was_armed:
                self._stale += 1
                if self._stale > _STALE_LIMIT and 2 * self._stale > len(self._heap):
                    self._heap = list(filter(_is_armed, self._heap))
                    heapify(self._heap)
                    self._stale = 0
        return was_armed

    def __len__(self) -> int:
        """Return the number of armed timers."""
        with self._lock:
            return len(self._heap) - self._stale

    def look(self) -> None:
        """Set the alarm to the first deadline again; only on the loop."""
        self._alarm.look()

    def _due(self) -> float:
        """Return when the first timer is due."""
        with self._lock:
            return self._heap[0][0] if self._heap else math.inf

    def _go_off(self) -> None:
        now = self._clock()
        for _ in range(_BATCH):
            due = self._pop_due(now)
            if due is None:
                return
            deadline, timer = due
            try:
                again = timer.go_off(deadline, now)
            except Exception:  # nothing may escape: it would cancel the whole loop
                _logger.exception("%r could not go off", timer)
                continue
            if again is not None:
                self.arm(again, timer)

    def _pop_due(self, now: float) -> tuple[float, Timed] | None:
        with self._lock:
            while self._heap and (self._heap[0][0] <= now or not self._heap[0][2].armed):
                deadline, _, timer = heappop(self._heap)
                if timer.armed:
                    timer.armed = False
                    return deadline, timer
                self._stale -= 1
        return None


def _is_armed(entry: tuple[float, int, Timed]) -> bool:
    return entry[2].armed


def check_seconds(name: str, path: str, seconds: object, *, zero: bool = True) -> float:
    """Return `seconds` as a float if a timer of the actor at `path` can have it, or raise `ValueError`."""
    good = isinstance(seconds, int | float) and 0 <= seconds < math.inf and (zero or seconds != 0)
    if not good:
        least = "of at least 0" if zero else "above 0"
        raise ValueError(f"seconds of {name} of actor '{path}' is {seconds!r}; it must be a number {least}")
    return float(seconds)  # type: ignore[arg-type]
