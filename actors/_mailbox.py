"""The mailbox: a bounded user lane with stable priority, and an unbounded control lane ahead of it.

Tokens of the common priority, 0, go in and out without a lock: `append`, `popleft` and `remove` of a deque are atomic,
so each token is had by exactly one of those who want it (a drainer, a canceller, whoever closes or renices). All else
happens under one lock, and two flags, which only change under it, send everyone there when the short way will not do.
Three races are left, and each side of them first does its own and then looks at the other's:

* A put appends, then looks whether a drainer is missing (`_idle`); a drainer that leaves says so, then looks into the
  lanes.
* A put appends, then looks whether the mailbox was closed; closing says so, then empties the lanes.
* A sender that is to wait says so, then looks for room; whoever makes room does, then looks for senders.

Tokens that are held (paused by an operator, or kept back by a throttle) stand beside the lanes, where no drainer sees them;
they count for the bound, which costs a put nothing: it compares with `_limit`, which is the capacity without them.

The mailbox also counts who drains it: `active` drainers of at most `concurrency`. A put that finds too few of them
calls `wake`, outside of the lock, once for each drainer that is to come; a drainer that finds nothing to take has left.
"""

from __future__ import annotations

import enum
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import attrs

from actors._exceptions import ActorDead
from actors._lanes import Lanes
from actors._lifecycle import TokenState
from actors._signals import Signal
from actors._token import Token

if TYPE_CHECKING:
    from actors._throttles import Throttles

Overflow: TypeAlias = Literal["wait", "reject", "drop_oldest", "drop_newest"]

DEFAULT_CAPACITY = 10_000

# At most so much room is gathered in a full mailbox before its senders are let in.
_ROOM_AT_ONCE = 64

# At most so many tokens are kept back by throttles under one taking of the lock.
_KEPT_AT_ONCE = 256

_QUEUED, _PAUSED = TokenState.QUEUED, TokenState.PAUSED


class Put(enum.Enum):
    """What became of a token that was offered to a mailbox."""

    ACCEPTED = enum.auto()
    FULL = enum.auto()  # nothing changed; the sender may wait for room
    DROPPED = enum.auto()  # refused for good by the overflow policy


ACCEPTED = Put.ACCEPTED  # a look into an enum takes as long as a put


@attrs.frozen
class MailboxStatistics:
    """A mailbox at one moment.

    Attributes:
        depth: tokens in the user lane, those that are held included.
        capacity: how many it holds at most.
        held: of these, tokens that are paused, or kept back by a throttle.
        control: messages in the control lane.
        active: drainers at work.
        accepted: tokens accepted since the mailbox was made.
        suspended: whether the user lane is held.
        closed: whether new tokens are refused.
        senders_waiting: senders that wait for room.
    """

    depth: int
    capacity: int
    held: int
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
        capacity: tokens the user lane holds at most; senders that come at the same moment may exceed it by one each.
        overflow: what happens to a token that finds it full: its sender waits, it is refused with an error
            (`reject`), it takes the place of the oldest of the lowest priority (`drop_oldest`), or it is
            itself dropped (`drop_newest`).
        concurrency: drainers at work at once, at most.
        wake: called without the lock, once for each drainer that shall come.
        on_drop: called without the lock with each token that `drop_oldest` pushed out.
    """

    __slots__ = (
        "_closed",
        "_control",
        "_held",
        "_idle",
        "_lanes",
        "_limit",
        "_lock",
        "_low_water",
        "_not_taken",
        "_on_drop",
        "_owner",
        "_plain",
        "_removed",
        "_senders",
        "_suspended",
        "_taken",
        "_throttles",
        "_wake",
        "_why_closed",
        "_zero",
        "active",
        "capacity",
        "concurrency",
        "overflow",
    )

    def __init__(
        self,
        owner: str,
        *,
        wake: Callable[[], object],
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
        self.active = 0  # drainers at work
        self._owner = owner
        self._wake = wake
        self._on_drop = on_drop
        self._lock = threading.Lock()
        self._lanes = Lanes()
        self._zero = self._lanes.zero
        self._control: deque[Signal] | None = None
        self._senders: deque[Callable[[], object]] | None = None  # wakers of senders that wait for room
        self._held: dict[Token[Any], None] | None = None  # tokens beside the lanes: `paused`, or `queued` and kept back
        self._limit = capacity  # how many tokens the lanes may have
        self._throttles: Throttles | None = None  # who says whether a token may begin, while anybody does
        self._why_closed = "has stopped"
        # Senders are let in when so few tokens are left: one by one, each would cost a change of threads.
        self._low_water = capacity - max(1, min(_ROOM_AT_ONCE, capacity // 16))
        self._suspended = 0
        self._closed = False
        self._taken = count()  # moved on for each token that a drainer took, as only that is atomic
        self._not_taken = 0  # of these moves, those that were for something else
        self._removed = 0  # tokens that left otherwise
        self._idle = True  # a drainer may come: whoever puts a token looks for one
        self._plain = True  # a drainer may take from lane 0 without the lock

    # For senders

    def put(self, token: Token[Any], room: Callable[[], object] | None = None) -> Put:
        """Offer a token.

        Args:
            token: one in the state `created`; `queued` when accepted, unchanged otherwise.
            room: with the policy `wait`, called once when it may be worth trying again after `FULL`.

        Raises:
            ActorDead: the mailbox is closed; nothing changed.
        """
        zero = self._zero
        if token.priority or self._closed or len(zero) + self._lanes.others >= self._limit:
            return self._put_slowly(token, room)
        token._phase = _QUEUED
        token.queued_at = token.created_at  # just now
        zero.append(token)
        if self._closed and self._taken_back(token):
            raise self._dead(token)
        system = token._place.system
        if system.on_token_queued is not None:
            system.tell(system.on_token_queued, token)
        if self._idle:
            self._call_drainer()
        return ACCEPTED

    def forget_sender(self, room: Callable[[], object]) -> None:
        """Take back the `room` of a sender that no longer waits."""
        with self._lock:
            if self._senders is not None and room in self._senders:
                self._senders.remove(room)
                return
            heirs = self._senders_let_in(1)  # it was told of room and does not use it: tell the next one
        _call(heirs)

    def put_control(self, signal: Signal) -> None:
        """Add a message to the control lane: never refused, never bounded, ahead of every token."""
        with self._lock:
            if self._control is None:
                self._control = deque()
            self._control.append(signal)
            wake = self._drainer_missing()
        if wake:
            self._wake()

    def withdraw(self, token: Token[Any]) -> bool:
        """Take a token out of the queue; tell whether it was there, and so is the caller's to end."""
        wake = False
        with self._lock:
            if not self._unhold(token):
                if token._phase is not _QUEUED or not self._lanes.remove(token):
                    return False
            elif self._closed and not self.size and self.active < self.concurrency:
                wake = True  # somebody may wait for the last one to go
                self.active += 1
                self._set_flags()
            self._removed += 1
            senders = self._senders_let_in(1)
        _call(senders)
        if wake:
            self._wake()
        return True

    def hold(self, token: Token[Any]) -> bool:
        """Set a queued token aside, `paused`; tell whether it was queued here."""
        with self._lock:
            if token._phase is not _QUEUED or not (self._unhold(token) or self._lanes.remove(token)):
                return False
            token._phase = _PAUSED
            self._set_aside(token)
        return True

    def release(self, token: Token[Any]) -> bool:
        """Queue a paused token again, at the end of its lane; tell whether it was held here."""
        with self._lock:
            if token._phase is not _PAUSED or not self._unhold(token):
                return False
            token._phase = _QUEUED
            self._lanes.append(token)
            wake = self._drainer_missing()
        if wake:
            self._wake()
        return True

    def let_begin(self, tokens: Iterable[Token[Any]]) -> list[Token[Any]]:
        """Queue tokens again that throttles have kept back, ahead of those that came later.

        Args:
            tokens: in their order.

        Returns:
            those that were kept back here; somebody else has the others.
        """
        with self._lock:
            let = [token for token in tokens if token._phase is _QUEUED and self._unhold(token)]
            for token in reversed(let):
                self._lanes.append_first(token)
            wakes = 0
            while wakes < len(let) and self._drainer_missing():
                wakes += 1
        for _ in range(wakes):
            self._wake()
        return let

    def is_kept_back(self, token: Token[Any]) -> bool:
        """Tell whether a throttle keeps a token from beginning."""
        held = self._held
        return held is not None and token in held and token._phase is _QUEUED

    def renice(self, token: Token[Any], priority: int) -> bool:
        """Give a queued token another priority; it stands at the end of that lane then.

        Returns:
            whether it was queued here; otherwise nothing changed.
        """
        with self._lock:
            if self._held is not None and token in self._held:
                if self._throttles is None or not self._throttles.renice(token, priority):
                    token.priority = priority
                return True
            if token._phase is not _QUEUED or not self._lanes.remove(token):
                return False
            token.priority = priority
            self._lanes.append(token)
            wake = self._drainer_missing()  # it was not to be seen for a moment
        if wake:
            self._wake()
        return True

    # For drainers

    def take(self, drainer: Drainer) -> Token[Any] | Signal | None:
        """Take what is next: a signal, else the first token of the highest priority, which is still `queued` then.

        Returns:
            None when there is nothing; then the drainer has left, and takes no more until it is woken anew.
        """
        zero = self._zero
        if zero and self._plain and drainer.at_work:
            try:
                token = zero.popleft()
            except IndexError:
                pass  # another drainer was faster
            else:
                next(self._taken)
                return token
        return self._take_slowly(drainer)

    def give_back(self, token: Token[Any]) -> bool:
        """Undo the taking of a token by a drainer that was dismissed at the same moment.

        Returns:
            False when the mailbox has closed meanwhile: then the token is the caller's to end.
        """
        with self._lock:
            if self._closed:
                return False
            self._lanes.append_first(token)
            self._not_taken += 1
            wake = self._drainer_missing()
        if wake:
            self._wake()
        return True

    def take_control(self) -> Signal | None:
        """Take the next signal, if there is one; the drainer stays."""
        if not self._control:
            return None
        with self._lock:
            signal = self._control.popleft() if self._control else None
            self._set_flags()
            return signal

    def let_senders_in(self) -> None:
        """Let those who wait for room come, as far as there is any: a drainer ends a quantum that took its time."""
        if self._senders:
            with self._lock:
                senders = self._senders_let_in(_ROOM_AT_ONCE)
            _call(senders)

    def signals(self) -> list[Signal]:
        """Look at the control lane."""
        with self._lock:
            return list(self._control or ())

    def try_enter(self) -> bool:
        """Become a drainer for a call that runs on its caller's thread, if that is nobody else's turn."""
        with self._lock:
            if self.active >= self.concurrency or self._control or self._suspended or self._closed:
                return False
            if self._lanes or self._throttles is not None:
                return False
            self.active += 1
            self._set_flags()
            return True

    def enter_idle(self) -> bool:
        """Become the only drainer, for a signal, if there is nothing else to do and nobody at it."""
        with self._lock:
            if self.active or self._control or self.size:
                return False
            self.active = 1
            self._set_flags()
            return True

    def leave(self) -> None:
        """End what `try_enter` began; another may come."""
        with self._lock:
            self.active -= 1
            wake = self._drainer_missing()
        if wake:
            self._wake()

    def lend_turn(self) -> None:
        """Let another drainer come while this one waits for another token."""
        self.leave()

    def reclaim_turn(self) -> None:
        """Undo `lend_turn`; for a while there may be more drainers than `concurrency`."""
        with self._lock:
            self.active += 1
            self._set_flags()

    def dismiss(self, drainer: Drainer) -> bool:
        """Let a drainer take no more, and another come in its stead; tell whether it was at work."""
        with self._lock:
            if not drainer.at_work:
                return False
            drainer.at_work = False
            self.active -= 1
            wake = self._drainer_missing()
        if wake:
            self._wake()
        return True

    # For the place

    def suspend(self) -> None:
        """Hold the user lane (the control lane goes on); counts, so that each needs its `resume`."""
        with self._lock:
            self._suspended += 1
            self._set_flags()

    def resume(self) -> None:
        """Undo one `suspend`."""
        with self._lock:
            if not self._suspended:
                raise RuntimeError(f"mailbox of '{self._owner}' is not suspended")
            self._suspended -= 1
            self._set_flags()
            wakes = 0
            if not self._suspended:
                # A closed one gets a visit even when empty: somebody may wait for that.
                wakes = max(0, min(max(self.size, int(self._closed)), self.concurrency - self.active))
                self.active += wakes
                self._set_flags()
        for _ in range(wakes):
            self._wake()

    def set_throttles(self, throttles: Throttles | None) -> None:
        """Have somebody asked whether a token may begin, or nobody any more."""
        with self._lock:
            self._throttles = throttles
            self._set_flags()

    def close(self, *, keep: bool = False, why: str = "has stopped") -> list[Token[Any]]:
        """Refuse all further tokens.

        Args:
            keep: leave those that are queued where they are.
            why: what those who are refused are told of the owner.

        Returns:
            the tokens that were queued, in order, which are now the caller's to end; none with `keep`.
        """
        left: list[Token[Any]] = []
        with self._lock:
            self._closed = True
            self._why_closed = why
            if not keep:
                while (token := self._lanes.pop()) is not None:
                    left.append(token)
                left.extend(self._held or ())
                self._held, self._limit = None, self.capacity
                self._removed += len(left)
            senders, self._senders = self._senders, None
            self._set_flags()
        _call(senders or ())
        return left

    def reopen(self) -> None:
        """Accept tokens again, for a place whose spec is started anew."""
        with self._lock:
            self._closed = False

    def disown(self) -> None:
        """Be closed and empty in a forked child, where whoever held the lock is gone."""
        self._lock = threading.Lock()
        self._lanes = Lanes()
        self._zero = self._lanes.zero
        self._closed, self._suspended, self._control, self._senders = True, 1, None, None
        self._held = self._throttles = None
        self._set_flags()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def size(self) -> int:
        """How many tokens the user lane has, those that are held included."""
        return len(self._zero) + self._lanes.others + self.capacity - self._limit

    @property
    def suspended(self) -> bool:
        """Whether the user lane is held."""
        return self._suspended > 0

    def statistics(self) -> MailboxStatistics:
        """Return the figures of this moment; exact when nothing moves."""
        with self._lock:
            taken = next(self._taken) - self._not_taken
            self._not_taken += 1
            return MailboxStatistics(
                depth=self.size,
                capacity=self.capacity,
                held=len(self._held or ()),
                control=len(self._control or ()),
                active=self.active,
                accepted=taken + self._removed + self.size,
                suspended=self._suspended > 0,
                closed=self._closed,
                senders_waiting=len(self._senders or ()),
            )

    # The long ways

    def _put_slowly(self, token: Token[Any], room: Callable[[], object] | None) -> Put:
        victim: Token[Any] | None = None
        with self._lock:
            if self._closed:
                raise self._dead(token)
            if self.size >= self.capacity:
                if self.overflow == "wait":
                    if room is None:
                        return Put.FULL
                    if self._senders is None:
                        self._senders = deque()
                    self._senders.append(room)
                    self._set_flags()
                    if self.size >= self.capacity:
                        return Put.FULL
                    self._senders.pop()  # a drainer made room in between
                    self._set_flags()
                elif self.overflow != "drop_oldest":
                    return Put.DROPPED
                else:
                    victim = self._lanes.pop_oldest_of_lowest(token.priority)
                    if victim is None and self.size >= self.capacity:
                        return Put.DROPPED
                    self._removed += victim is not None
            token._phase = _QUEUED
            token.queued_at = token._place.system.clock()
            self._lanes.append(token)
            wake = self._drainer_missing()
        system = token._place.system
        if system.on_token_queued is not None:
            system.tell(system.on_token_queued, token)
        if victim is not None:
            self._on_drop(victim)
        if wake:
            self._wake()
        return ACCEPTED

    def _taken_back(self, token: Token[Any]) -> bool:
        """Undo a put that came as the mailbox closed, unless somebody has the token already, who then ends it."""
        with self._lock:
            if not self._closed or not self._lanes.remove(token):
                return False
            token._phase = TokenState.CREATED
            return True

    def _call_drainer(self) -> None:
        with self._lock:
            if not self._drainer_missing():
                return
        self._wake()

    def _take_slowly(self, drainer: Drainer) -> Token[Any] | Signal | None:
        senders: Sequence[Callable[[], object]] = ()
        more = False
        with self._lock:
            if not drainer.at_work:
                return None
            if self._control:
                signal = self._control.popleft()
                self._set_flags()
                return signal
            # More than there may be, when those who waited are back: then this one is too many.
            held = self._suspended or self.active > self.concurrency
            self._idle = True  # before the look: a put that comes after the look calls a drainer
            token = None if held else self._lanes.pop()
            if token is not None and self._throttles is not None:
                token, more = self._first_that_may_begin(token, self._throttles)
            if token is not None:
                next(self._taken)
            elif not more:
                drainer.at_work = False
                self.active -= 1
            if self._senders and self.size <= self._low_water:
                # One for each place that became free; at the low water mark these are many at once.
                senders = self._senders_let_in(_ROOM_AT_ONCE if self.size == self._low_water else 1)
            self._set_flags()
        if senders:
            _call(senders)
        return self._take_slowly(drainer) if more else token

    def _dead(self, token: Token[Any]) -> ActorDead:
        return ActorDead(f"actor '{self._owner}' {self._why_closed}; {token!r} was not accepted")

    # All below runs under the lock

    def _set_flags(self) -> None:
        self._idle = self.active < self.concurrency and not self._suspended
        self._plain = not (
            self._suspended
            or self._control
            or self._senders
            or self._lanes.others
            or self.active > self.concurrency
            or self._throttles is not None
        )

    def _set_aside(self, token: Token[Any]) -> None:
        if self._held is None:
            self._held = {}
        self._held[token] = None
        self._limit -= 1

    def _unhold(self, token: Token[Any]) -> bool:
        if self._held is None or token not in self._held:
            return False
        del self._held[token]
        self._limit += 1
        return True

    def _first_that_may_begin(self, token: Token[Any], throttles: Throttles) -> tuple[Token[Any] | None, bool]:
        """Return the first token, from this one on, that may begin; and whether there may be one further on."""
        following: Token[Any] | None = token
        for _ in range(_KEPT_AT_ONCE):
            if following is None or throttles.admit(following):
                return following, False
            self._set_aside(following)
            following = self._lanes.pop()
        if following is not None:
            self._lanes.append_first(following)
        return None, following is not None

    def _drainer_missing(self) -> bool:
        """Tell whether one more drainer is to be woken; it is counted then."""
        self._idle = True  # before the look: a put that comes after the look calls a drainer itself
        if self.active < self.concurrency and (
            self._control or ((self._zero or self._lanes.others) and not self._suspended)
        ):
            self.active += 1
            self._set_flags()
            return True
        self._set_flags()
        return False

    def _senders_let_in(self, most: int) -> list[Callable[[], object]]:
        """Return the wakers of as many senders as there is room for."""
        senders = self._senders
        if not senders:
            return []
        woken = [senders.popleft() for _ in range(min(len(senders), self.capacity - self.size, most))]
        self._set_flags()
        return woken


def _call(wakers: Iterable[Callable[[], object]]) -> None:
    for wake in wakers:
        wake()
