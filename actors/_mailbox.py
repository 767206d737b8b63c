"""The mailbox: a bounded user lane with stable priority, and an unbounded control lane ahead of it.

One lock guards every decision (accept, take, withdraw, close), so that each token is taken exactly once and
none is stranded behind a close. The mailbox also counts who drains it: `active` drainers of at most
`concurrency`. A put that finds too few of them calls `wake`, outside of the lock, once for each drainer that
is to come; a drainer that finds nothing to take has left.
"""

from __future__ import annotations

import enum
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import attrs

from actors._exceptions import ActorDead
from actors._lanes import Lanes
from actors._lifecycle import TokenState
from actors._signals import Signal
from actors._token import Token

Overflow: TypeAlias = Literal["wait", "reject", "drop_oldest", "drop_newest"]

DEFAULT_CAPACITY = 10_000


class Put(enum.Enum):
    """What became of a token that was offered to a mailbox."""

    ACCEPTED = enum.auto()
    FULL = enum.auto()  # nothing changed; the sender may wait for room
    DROPPED = enum.auto()  # refused for good by the overflow policy


@attrs.frozen
class MailboxStatistics:
    """A mailbox at one moment.

    Attributes:
        depth: tokens in the user lane.
        capacity: how many it holds at most.
        control: messages in the control lane.
        active: drainers at work.
        accepted: tokens accepted since the mailbox was made.
        suspended: whether the user lane is held.
        closed: whether new tokens are refused.
        senders_waiting: senders that wait for room.
    """

    depth: int
    capacity: int
    control: int
    active: int
    accepted: int
    suspended: bool
    closed: bool
    senders_waiting: int


class Drainer:
    """Base of whoever takes tokens out of a mailbox: `at_work` until it leaves or is dismissed.

    The mark changes under the mailbox's lock only, so a drainer that was dismissed takes nothing any more.
    """

    __slots__ = ("at_work",)

    def __init__(self) -> None:
        self.at_work = True


class Mailbox:
    """Where tokens wait for their actor.

    Args:
        owner: what error messages call the receiver.
        capacity: tokens the user lane holds at most.
        overflow: what happens to a token that finds it full: its sender waits, it is refused with an error
            (`reject`), it takes the place of the oldest of the lowest priority (`drop_oldest`), or it is
            itself dropped (`drop_newest`).
        concurrency: drainers at work at once, at most.
        wake: called without the lock, once for each drainer that shall come.
        on_drop: called without the lock with each token that `drop_oldest` pushed out.
    """

    __slots__ = (
        "_accepted",
        "_closed",
        "_control",
        "_lanes",
        "_lock",
        "_on_drop",
        "_owner",
        "_senders",
        "_suspended",
        "_wake",
        "active",
        "capacity",
        "concurrency",
        "overflow",
        "size",
    )

    def __init__(
        self,
        owner: str,
        *,
        wake: Callable[[], None],
        on_drop: Callable[[Token[Any]], None],
        capacity: int = DEFAULT_CAPACITY,
        overflow: Overflow = "wait",
        concurrency: int = 1,
    ) -> None:
        for name, value in (("capacity", capacity), ("concurrency", concurrency)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} of '{owner}' is {value!r}; it must be an int of at least 1")
        if overflow not in get_args(Overflow):
            raise ValueError(f"overflow of '{owner}' is {overflow!r}; choose one of {get_args(Overflow)}")
        self.capacity = capacity
        self.overflow = overflow
        self.concurrency = concurrency
        self.size = 0  # tokens in the user lane
        self.active = 0  # drainers at work
        self._owner = owner
        self._wake = wake
        self._on_drop = on_drop
        self._lock = threading.Lock()
        self._lanes = Lanes(self)
        self._control: deque[Signal] | None = None
        self._senders: deque[Callable[[], None]] | None = None  # wakers of senders that wait for room
        self._suspended = 0
        self._closed = False
        self._accepted = 0

    # For senders

    def put(self, token: Token[Any], room: Callable[[], None] | None = None) -> Put:
        """Offer a token.

        Args:
            token: one in the state `created`; `queued` when accepted, unchanged otherwise.
            room: with the policy `wait`, called once when it may be worth trying again after `FULL`.

        Raises:
            ActorDead: the mailbox is closed; nothing changed.
        """
        victim: Token[Any] | None = None
        with self._lock:
            if self._closed:
                raise ActorDead(f"actor '{self._owner}' has stopped; {token!r} was not accepted")
            if self.size >= self.capacity:
                if self.overflow == "wait":
                    if room is not None:
                        if self._senders is None:
                            self._senders = deque()
                        self._senders.append(room)
                    return Put.FULL
                if self.overflow != "drop_oldest":
                    return Put.DROPPED
                victim = self._lanes.pop_oldest_of_lowest(token.priority)
                if victim is None:
                    return Put.DROPPED
                victim._mailbox = None
                self.size -= 1
            self.size += 1
            self._accepted += 1
            token._mailbox = self
            token.state = TokenState.QUEUED  # from created, or from running for a retry
            token.queued_at = token._system.clock()
            self._lanes.append(token)
            wake = self.active < self.concurrency and not self._suspended
            if wake:
                self.active += 1
        if victim is not None:
            self._on_drop(victim)
        if wake:
            self._wake()
        return Put.ACCEPTED

    def forget_sender(self, room: Callable[[], None]) -> None:
        """Take back the `room` of a sender that no longer waits."""
        with self._lock:
            if self._senders is not None and room in self._senders:
                self._senders.remove(room)
                return
            heir = self._next_sender()  # it was told of the room and does not use it: tell the next one
        if heir is not None:
            heir()

    def put_control(self, signal: Signal) -> None:
        """Add a message to the control lane: never refused, never bounded, ahead of every token."""
        with self._lock:
            if self._control is None:
                self._control = deque()
            self._control.append(signal)
            wake = self.active < self.concurrency
            if wake:
                self.active += 1
        if wake:
            self._wake()

    def withdraw(self, token: Token[Any]) -> bool:
        """Take a token out of the queue; tell whether it was there, and so is the caller's to end."""
        with self._lock:
            if token._mailbox is not self:
                return False
            token._mailbox = None
            self.size -= 1
            self._lanes.note_withdrawn()
            sender = self._next_sender()
        if sender is not None:
            sender()
        return True

    # For drainers

    def take(self, drainer: Drainer) -> Token[Any] | Signal | None:
        """Take what is next: a signal, else the first token of the highest priority, which is `running` then.

        Returns:
            None when there is nothing; then the drainer has left, and takes no more until it is woken anew.
        """
        with self._lock:
            if not drainer.at_work:
                return None
            if self._control:
                return self._control.popleft()
            # More than there may be, when those who waited are back: then this one is too many.
            held = self._suspended or not self.size or self.active > self.concurrency
            token = None if held else self._pop()
            if token is None:
                drainer.at_work = False
                self.active -= 1
                return None
            # Under the lock, so that whoever ends it from outside finds it either queued here or running.
            token._begin()
            sender = self._next_sender() if self._senders else None
        if sender is not None:
            sender()
        return token

    def take_control(self) -> Signal | None:
        """Take the next signal, if there is one; the drainer stays."""
        if not self._control:
            return None
        with self._lock:
            return self._control.popleft() if self._control else None

    def signals(self) -> list[Signal]:
        """Look at the control lane."""
        with self._lock:
            return list(self._control or ())

    def try_enter(self) -> bool:
        """Become a drainer for a call that runs on its caller's thread, if that is nobody else's turn."""
        with self._lock:
            if self.size or self._control or self._suspended or self._closed or self.active >= self.concurrency:
                return False
            self.active += 1
            return True

    def leave(self) -> None:
        """End what `try_enter` began; another may come."""
        with self._lock:
            wake = self._hand_over()
        if wake:
            self._wake()

    def lend_turn(self) -> None:
        """Let another drainer come while this one waits for another token."""
        self.leave()

    def reclaim_turn(self) -> None:
        """Undo `lend_turn`; for a while there may be more drainers than `concurrency`."""
        with self._lock:
            self.active += 1

    def dismiss(self, drainer: Drainer) -> bool:
        """Let a drainer take no more, and another come in its stead; tell whether it was at work."""
        with self._lock:
            if not drainer.at_work:
                return False
            drainer.at_work = False
            wake = self._hand_over()
        if wake:
            self._wake()
        return True

    # For the place

    def suspend(self) -> None:
        """Hold the user lane (the control lane goes on); counts, so that each needs its `resume`."""
        with self._lock:
            self._suspended += 1

    def resume(self) -> None:
        """Undo one `suspend`."""
        with self._lock:
            if not self._suspended:
                raise RuntimeError(f"mailbox of '{self._owner}' is not suspended")
            self._suspended -= 1
            wakes = 0
            if not self._suspended:
                # A closed one gets a visit even when empty: somebody may wait for that.
                wakes = max(0, min(max(self.size, int(self._closed)), self.concurrency - self.active))
                self.active += wakes
        for _ in range(wakes):
            self._wake()

    def close(self, *, keep: bool = False) -> list[Token[Any]]:
        """Refuse all further tokens.

        Args:
            keep: leave those that are queued where they are.

        Returns:
            the tokens that were queued, in order, which are now the caller's to end; none with `keep`.
        """
        left: list[Token[Any]] = []
        with self._lock:
            self._closed = True
            if not keep:
                while self.size:
                    token = self._pop()
                    if token is not None:
                        left.append(token)
            senders, self._senders = self._senders, None
        for sender in senders or ():
            sender()
        return left

    def reopen(self) -> None:
        """Accept tokens again, for a place whose spec is started anew."""
        with self._lock:
            self._closed = False

    def disown(self) -> None:
        """Be closed and empty in a forked child, where whoever held the lock is gone."""
        self._lock = threading.Lock()
        self._closed, self._suspended, self._control, self._senders = True, 1, None, None

    @property
    def closed(self) -> bool:
        return self._closed

    def statistics(self) -> MailboxStatistics:
        """Return the figures of this moment."""
        with self._lock:
            return MailboxStatistics(
                depth=self.size,
                capacity=self.capacity,
                control=len(self._control or ()),
                active=self.active,
                accepted=self._accepted,
                suspended=self._suspended > 0,
                closed=self._closed,
                senders_waiting=len(self._senders or ()),
            )

    # All below runs under the lock

    def _pop(self) -> Token[Any] | None:
        """Take the first token out of the queue."""
        token = self._lanes.pop()
        if token is not None:
            token._mailbox = None
            self.size -= 1
        return token

    def _hand_over(self) -> bool:
        """Tell whether one who leaves is to be replaced; else count one drainer less."""
        if self.active <= self.concurrency and (self._control or (self.size > 0 and not self._suspended)):
            return True
        self.active -= 1
        return False

    def _next_sender(self) -> Callable[[], None] | None:
        return self._senders.popleft() if self._senders else None
