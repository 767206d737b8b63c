"""The mailbox: a bounded user lane with stable priority, and an unbounded control lane ahead of it.

Tokens of the common priority, 0, go in and out without a lock: `append`, `popleft` and `remove` of a deque are atomic,
so each token goes to exactly one of the threads that want it (a drainer, or one that cancels, closes or renices). All
else happens under one lock, and two flags (`_plain` and `_idle`), which change under it only, send every thread there
when the short way will not do. A third one (`_asks`) says that it would do, were it not for the throttles: then tokens
are taken under the lock, and nothing else is looked at. Three races are left. In each, both sides first do their own
part and then look for the other's:

* A put appends, then looks whether a drainer is missing (`_idle`); a drainer that leaves says so, then looks into the
  lanes.
* A put appends, then looks whether the mailbox was closed; `close` says so, then empties the lanes.
* A sender that is to wait says so, then looks for room; what makes room makes it, then looks for senders.

Tokens that are held (paused by an operator, or kept back by throttles) stand beside the lanes, where no drainer sees
them; those that throttles have let go are taken before the lanes. All of these count for the bound, and so does one
that is being moved elsewhere, until it has arrived. That costs a put nothing: it compares with `_limit`, which is the
capacity without them.

The mailbox also has a register of its drainers, of which at most `concurrency` are at work. A put that finds too few of
them enters another one, and calls `wake` with it, outside of the lock; a drainer that finds nothing to take has left.

A signal handler may raise in any thread that calls these methods, between any two instructions. So what is entered or
struck is an object in a set, where twice is once; `wake` may be called again with a drainer that has not come; and
`recover` completes what an interrupted sender has left undone.

A signal handler or a finalizer may also send to the very mailbox whose lock its thread holds, in the middle of a
change. So the lock is reentrant, and what would change more than lane 0 is done a moment later, on the system loop.
"""

from __future__ import annotations

import enum
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, count, islice
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, cast, get_args

from actors._exceptions import ActorDead
from actors.concurrency._blocking import refuse_waits_if
from actors.concurrency._convoy import await_free
from actors.concurrency._thread_frames import frames_from, thread_frames, variables_of
from actors.mailboxes._fair_lanes import FairLanes
from actors.mailboxes._held_tokens import HeldTokens
from actors.mailboxes._lanes import Lanes
from actors.mailboxes._rule import BEGINS, WAITS, Rule, Verdict
from actors.mailboxes._signals import Signal
from actors.mailboxes._statistics import MailboxStatistics
from actors.tokens._lifecycle import TokenState
from actors.tokens._token import Token

if TYPE_CHECKING:
    from actors.mailboxes._throttles import Throttles

Overflow: TypeAlias = Literal["wait", "reject", "drop_oldest", "drop_newest"]

DEFAULT_CAPACITY = 10_000

# Free places that are gathered at most in a full mailbox before its senders are let in.
_ROOM_AT_ONCE = 64

# Tokens that throttles keep back at most before the lock is given to others for a moment.
_THROTTLED_AT_ONCE = 256

# Tokens that a drainer asks about in a row, and that may not begin, before other tasks of its loop may run.
_ASKED_AT_ONCE = 64

# Shared by all mailboxes without throttles; it is never taken.
_NEVER_ASKED = threading.Lock()

_QUEUED, _PAUSED = TokenState.QUEUED, TokenState.PAUSED

_OVERFLOWS: Final = get_args(Overflow)

# Shared by all mailboxes that have never given a turn away; nothing is added to it.
_NO_TURNS: Final[set[object]] = set()

_NO_REASONS: Final[frozenset[object]] = frozenset()


class Put(enum.Enum):
    """What became of a token that was offered to a mailbox."""

    ACCEPTED = enum.auto()
    FULL = enum.auto()  # nothing changed; the sender may wait for room
    DROPPED = enum.auto()  # refused for good by the overflow policy
    LATER = enum.auto()  # nothing changed; the sender has interrupted a change, and is to send it when that is over


ACCEPTED = Put.ACCEPTED  # to look up a member of an enum takes as long as a put


class _Lock(Protocol):
    """A reentrant lock."""

    def __enter__(self) -> bool: ...

    def __exit__(self, *_: object) -> None: ...

    def _is_owned(self) -> bool: ...


class Drainer:
    """Base of what takes tokens out of a mailbox: `at_work` until it leaves or is dismissed.

    That changes under the mailbox's lock only, so a drainer that was dismissed takes nothing any more.
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
        new_drainer: called under the lock; returns a drainer to enter, which nothing else uses.
        wake: called without the lock, with each drainer that was entered and is to come; perhaps more than once.
        on_drop: called without the lock with each token that `drop_oldest` pushed out.
        suspended: whether the user lane is held until `resume`.
    """

    __slots__ = (
        "_asks",
        "_away",
        "_closed",
        "_control",
        "_drainers",
        "_emptied",
        "_held",
        "_idle",
        "_lanes",
        "_lent",
        "_limit",
        "_lock",
        "_low_water",
        "_new_drainer",
        "_not_taken",
        "_on_drop",
        "_owner",
        "_plain",
        "_reasons",
        "_removed",
        "_senders",
        "_suspended",
        "_taken",
        "_throttles",
        "_turn",
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
        wake: Callable[[Any], object],
        new_drainer: Callable[[], Drainer] = Drainer,
        on_drop: Callable[[Token[Any]], None],
        capacity: int = DEFAULT_CAPACITY,
        overflow: Overflow = "wait",
        concurrency: int = 1,
        suspended: bool = False,
    ) -> None:
        if not (isinstance(capacity, int) and capacity > 0):
            raise ValueError(f"capacity of '{owner}' is {capacity!r}; it must be an int of at least 1")
        if not (isinstance(concurrency, int) and concurrency > 0):
            raise ValueError(f"concurrency of '{owner}' is {concurrency!r}; it must be an int of at least 1")
        if overflow not in _OVERFLOWS:
            raise ValueError(f"overflow of '{owner}' is {overflow!r}; choose one of {_OVERFLOWS}")
        self.capacity = capacity
        self.overflow = overflow
        self.concurrency = concurrency
        self.active = 0  # drainers at work, without those that wait for another token; follows from the next two
        self._drainers: set[Drainer] = set()  # those that are at work, or were called
        self._lent = _NO_TURNS  # reasons for which turns of these are given away: waiting tokens, or drainers
        self._owner = owner
        self._new_drainer = new_drainer
        self._wake = wake
        self._on_drop = on_drop
        self._lock: _Lock = threading.RLock()  # type: ignore[assignment]  # a cast would cost a call
        self._lanes = Lanes()
        self._zero = self._lanes.zero
        self._control: deque[Signal] | None = None
        self._senders: deque[Callable[[], object]] | None = None  # wakers of senders that wait for room
        self._held: HeldTokens | None = None  # tokens beside the lanes; made for the first one
        self._away = 0  # tokens that were taken out to be moved, and have not arrived
        self._limit = capacity  # how many tokens the lanes may have: the capacity without the held and the moving ones
        self._throttles: Throttles | None = None  # what decides whether a token may begin; None: each may
        self._reasons: frozenset[object] = _NO_REASONS  # for asking these
        self._why_closed = "has stopped"
        # When so few tokens are left, many senders are let in at once: one by one, each would cost a change of threads.
        self._low_water = capacity - max(1, min(_ROOM_AT_ONCE, capacity // 16))
        self._suspended = int(suspended)
        self._closed = False
        self._emptied = False  # whether it was closed for good: a token that was taken cannot be given back
        self._taken = count()  # advanced for each token that a drainer took: only that is atomic
        self._not_taken = 0  # advances of it for other reasons
        self._removed = 0  # tokens that left otherwise
        self._idle = not suspended  # a drainer may come: a put looks for one
        self._plain = not suspended  # a drainer may take from lane 0 without the lock
        self._turn = _NEVER_ASKED  # held by the drainer that asks the throttles
        self._asks = False  # it could, if the throttles were not to be asked

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
            if self._lock._is_owned():
                system.later(self._call_drainer)
            else:
                self._call_drainer()
        return ACCEPTED

    @property
    def changes_here(self) -> bool:
        """Whether the calling code has interrupted a change of this mailbox: it is a finalizer or a signal handler."""
        return self._lock._is_owned()

    def forget_sender(self, room: Callable[[], object]) -> None:
        """Take back the `room` of a sender that no longer waits."""
        with self._lock:
            if self._senders is not None and room in self._senders:
                self._senders.remove(room)
                return
            next_senders = self._senders_let_in(1)  # it was woken for room that it does not use: wake the next one
        _call(next_senders)

    def put_control(self, signal: Signal) -> None:
        """Add a message to the control lane: never refused, never bounded, ahead of every token."""
        with self._lock:
            if self._control is None:
                self._control = deque()
            self._control.append(signal)
            drainer = self._missing()
        if drainer is not None:
            self._wake(drainer)

    def withdraw(self, token: Token[Any]) -> bool:
        """Take a token out of the queue; tell whether it was there: then the caller is to end it."""
        with self._lock:
            if not self._remove(token):
                return False
            drainer, senders = self._note_gone()
        self._follow_up(senders, drainer)
        return True

    def renice(self, token: Token[Any], priority: int) -> bool:
        """Give a token that is queued, or paused in the queue, another priority; it is the last of that one then.

        Returns:
            whether it was here; otherwise nothing changed.
        """
        with self._lock:
            if self._held is not None and token in self._held.paused:
                token.priority = priority
                return True
            if not self._remove(token):
                return False
            token.priority = priority
            self._lanes.append(token)  # one that is kept back asks again, from there
            drainer = self._missing()  # it was not to be seen for a moment
        self._follow_up(drainer=drainer)
        return True

    # For operators

    def hold(self, token: Token[Any]) -> bool:
        """Set a queued token aside, `paused`; tell whether it was queued here."""
        with self._lock:
            if token._phase is not _QUEUED or not self._remove(token):
                return False
            token._phase = _PAUSED
            self._holding().paused[token] = None
            self._set_limit()
        self._follow_up()
        return True

    def release(self, token: Token[Any]) -> bool:
        """Queue a paused token again, at the end of its lane; tell whether it was held here."""
        with self._lock:
            if token._phase is not _PAUSED or not self._remove(token):
                return False
            token._phase = _QUEUED
            self._lanes.append(token)
            drainer = self._missing()
        self._follow_up(drainer=drainer)
        return True

    def put_again(self, token: Token[Any], delay: Rule, *, comes: bool = False) -> bool:
        """Queue a token again after an attempt, in a mailbox with throttles; a rule keeps it back until it is due.

        Args:
            token: the token.
            delay: the rule.
            comes: whether it was in another mailbox before: then a full one refuses it, unless senders wait for room.

        Returns:
            False when the mailbox refuses it, or has closed for good: then the caller is to end the token.
        """
        victim = None
        with self._lock:
            throttles = self._throttles
            if self._emptied or throttles is None or (comes and self._closed):
                return False
            if comes and self.overflow != "wait" and self._size() >= self.capacity:
                refusal, victim = self._make_room(token.priority)
                if refusal is not None:
                    return False
            token._phase = _QUEUED
            self._holding().throttled.append(token)
            self._set_limit()
            throttles.keep_back(token, self, delay)
            self._not_taken += not comes
        self._follow_up()
        if victim is not None:
            self._on_drop(victim)
        return True

    def ask_again(self, token: Token[Any]) -> bool:
        """Have the throttles asked anew about a token that they keep back: what they go by has changed.

        Returns:
            whether they kept it back; otherwise nothing changed, since they are asked when it is taken.
        """
        with self._lock:
            if not self.is_kept_back(token) or not self._remove(token):
                return False
            self._lanes.append_first(token)
            drainer = self._missing()
        self._follow_up(drainer=drainer)
        return True

    def is_kept_back(self, token: Token[Any]) -> bool:
        """Tell whether a throttle keeps a token from beginning."""
        held = self._held
        return held is not None and token in held.throttled

    # For a move to another mailbox

    def take_out(self, token: Token[Any]) -> bool:
        """Take out a token that is queued, or paused in the queue, to see whether another mailbox accepts it.

        It counts as being here until `moved_out` or `put_back`, so that there is room for it, and its actor is not
        stopped because nothing is left.

        Returns:
            whether it was here; otherwise nothing changed.
        """
        with self._lock:
            if not self._remove(token):
                return False
            self._away += 1
            self._set_limit()
        self._follow_up()
        return True

    def moved_out(self) -> None:
        """Forget a token that was taken out: another mailbox has it."""
        with self._lock:
            self._away -= 1
            self._set_limit()
            drainer, senders = self._note_gone()
        self._follow_up(senders, drainer)

    def put_back(self, token: Token[Any]) -> bool:
        """Undo `take_out`, ahead of those that are queued.

        Returns:
            False when the mailbox has closed for good meanwhile: then the caller is to end the token.
        """
        with self._lock:
            back = not self._emptied
            self._away -= 1
            if back and token._phase is _PAUSED:
                self._holding().paused[token] = None
            elif back:
                self._lanes.append_first(token)
            self._set_limit()
            drainer, senders = (self._missing(), []) if back else self._note_gone()
        self._follow_up(senders, drainer)
        return back

    def put_moved(self, token: Token[Any]) -> Put:
        """Offer a token that was taken out of another mailbox; it is `queued` or `paused`, and remains so.

        Raises:
            ActorDead: the mailbox is closed; nothing changed.
        """
        with self._lock:
            if self._closed:
                raise self._dead(token)
            victim = None
            if self._size() >= self.capacity:
                refusal, victim = self._make_room(token.priority)
                if refusal is not None:
                    return refusal
            if token._phase is _PAUSED:
                self._holding().paused[token] = None
                self._set_limit()
            else:
                self._lanes.append(token)
            drainer = self._missing()
        self._follow_up(drainer=drainer)
        if victim is not None:
            self._on_drop(victim)
        return ACCEPTED

    # For throttles

    def let_begin(self, tokens: Iterable[Token[Any]]) -> list[Token[Any]]:
        """Queue tokens again that throttles have kept back: before those in the lanes, after those let go earlier.

        Args:
            tokens: in their order.

        Returns:
            those that were kept back here; the others have been taken out otherwise.
        """
        with self._lock:
            released = self._release(tokens)
            called = self._enter_missing(len(released))
        for drainer in called:
            self._wake(drainer)
        return released

    def refuse(self, tokens: Iterable[Token[Any]]) -> None:
        """Refuse tokens that throttles have kept back until their turn; some may have been taken out otherwise."""
        with self._lock:
            refused = self._no_longer_throttled(tokens)
            self._set_limit()
            gone = [self._note_gone() for _ in refused]
        for drainer, senders in gone:
            _call(senders)
            if drainer is not None:
                self._wake(drainer)
        _refuse(refused)

    def _release(self, tokens: Iterable[Token[Any]]) -> list[Token[Any]]:
        released = self._no_longer_throttled(tokens)
        for token in released:
            self._holding().released.append(token)
        return released

    def _no_longer_throttled(self, tokens: Iterable[Token[Any]]) -> list[Token[Any]]:
        """Remove tokens from those that throttles keep back, and return those that were there."""
        held = self._held
        return [] if held is None else [token for token in tokens if held.throttled.remove(token)]

    def _enter_missing(self, most: int) -> list[Drainer]:
        called: list[Drainer] = []
        while len(called) < most and (drainer := self._missing()) is not None:
            called.append(drainer)
        return called

    def turns(self) -> int:
        """Return how many more drainers may come; below 0 when nothing may be taken. It may change at any moment."""
        return -1 if self._suspended else self.concurrency - self.active

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

    def take_more(self, drainer: Drainer) -> Token[Any] | None:
        """Take the next token if nothing is out of the ordinary; a drainer that gets none stays, unlike with `take`."""
        zero = self._zero
        if self._asks:
            return self._take_asked(drainer)
        if not zero or not self._plain or not drainer.at_work:
            return None
        try:
            token = zero.popleft()
        except IndexError:  # another drainer was faster
            return None
        next(self._taken)
        return token

    def give_back(self, token: Token[Any]) -> bool:
        """Undo the taking of a token by a drainer that was dismissed at the same moment.

        Returns:
            False when the mailbox has closed for good meanwhile: then the caller is to end the token.
        """
        with self._lock:
            if self._emptied:
                return False
            held = self._held
            if held is not None and held.released:  # these came later than it did
                held.released.append_first(token)
                self._set_limit()
            else:
                self._lanes.append_first(token)
            self._not_taken += 1
            drainer = self._missing()
        self._follow_up(drainer=drainer)
        return True

    def take_control(self, drainer: Drainer) -> Signal | None:
        """Take the next signal, if there is one and the drainer was not dismissed; the drainer stays."""
        if not self._control:
            return None
        with self._lock:
            signal = self._control.popleft() if self._control and drainer.at_work else None
            self._set_flags()
            return signal

    def let_senders_in(self) -> None:
        """Wake senders that wait, as far as there is room: a drainer has ended a quantum that used up its time."""
        if self._senders:
            with self._lock:
                senders = self._senders_let_in(_ROOM_AT_ONCE)
            _call(senders)

    def drainers(self) -> list[Drainer]:
        """Return the drainers that are entered: at work, or called."""
        return list(self._drainers)

    def signals(self) -> list[Signal]:
        """Look at the control lane."""
        with self._lock:
            return list(self._control or ())

    def try_enter(self, drainer: Drainer, inside: int = 0, *, admitted: bool = False) -> bool:
        """Enter a drainer for a call that runs on its caller's thread, if a turn is free for it.

        Args:
            drainer: at work from now on, if it may.
            inside: drainers at work here that wait for this very call, and so do not count.
            admitted: whether the throttles have admitted the call.
        """
        if self._lock._is_owned():
            return False
        with self._lock:
            if self._plain and self._idle and not self._zero and not self._closed:  # nothing is out of the ordinary
                drainer.at_work = True
                self._drainers.add(drainer)
                self.active = active = len(self._drainers) - len(self._lent)
                self._idle = active < self.concurrency
                return True
            if self.active - inside >= self.concurrency or self._control or self._suspended or self._closed:
                return False
            if (
                (self._throttles is not None and self._throttles.grants and not admitted)
                or (self._lanes and not inside)
                or (self._held is not None and self._held.released)
            ):
                return False
            self._enter(drainer)
            return True

    def enter_with(self, drainer: Drainer, token: Token[Any]) -> bool:
        """Enter a drainer with a new token that it has taken, if nothing is out of the ordinary and none is ahead.

        It does what `try_enter`, `put` and `take_more` do in turn.

        Returns:
            whether it did; otherwise nothing has changed.
        """
        if token.priority or self._lock._is_owned():
            return False
        with self._lock:
            if not (self._plain and self._idle) or self._zero or self._closed or self._limit < 1:
                return False
            drainer.at_work = True
            self._drainers.add(drainer)
            self.active = active = len(self._drainers) - len(self._lent)
            self._idle = active < self.concurrency
            token._phase = _QUEUED
            token.queued_at = token.created_at
            next(self._taken)
        system = token._place.system
        if system.on_token_queued is not None:
            system.tell(system.on_token_queued, token)
        return True

    def enter_idle(self, drainer: Drainer) -> bool:
        """Enter a drainer as the only one, for a signal, if there is nothing to do and no other at work."""
        with self._lock:
            if self._drainers or self._control or self._size():
                return False
            self._enter(drainer)
            return True

    def lend(self, why: object) -> None:
        """Let another drainer come while one waits for another token.

        Args:
            why: the token that waits, or the drainer; lending twice for one reason is once.
        """
        with self._lock:
            if self._lent is _NO_TURNS:
                self._lent = set()
            self._lent.add(why)
            drainer = self._missing()
        self._follow_up(drainer=drainer)

    def reclaim(self, why: object) -> None:
        """Undo a `lend`; for a while there may be more drainers than `concurrency`."""
        with self._lock:
            self._lent.discard(why)
            self._set_flags()

    def dismiss(self, drainer: Drainer) -> bool:
        """Let a drainer take no more, and another replace it; tell whether it was at work."""
        with self._lock:
            if not drainer.at_work:
                return False
            self._drainers.discard(drainer)  # as in `_strike`, which would cost a call
            drainer.at_work = False
            self._lent.discard(drainer)
            self.active = len(self._drainers) - len(self._lent)
            self._idle = True  # before the look: a put that comes after the look calls a drainer itself
            if self._plain and not self._zero:  # nothing is left to do, and nothing is out of the ordinary
                return True
            successor = self._missing()
        self._follow_up(drainer=successor)
        return True

    def replace(self, drainer: Drainer, successor: Drainer) -> bool:
        """Let another drainer have the turn of one that leaves; return False, with no effect, if it was dismissed."""
        with self._lock:
            if not drainer.at_work:
                return False
            self._strike(drainer)
            self._enter(successor)
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
            called: list[Drainer] = []
            if not self._suspended and self.active < self.concurrency:
                # A closed one is visited even when it is empty: a stop may wait for its last drainer.
                wakes = min(max(self._size(), int(self._closed)), self.concurrency - self.active)
                called.extend(self._enter(self._new_drainer()) for _ in range(wakes))
        for drainer in called:
            self._wake(drainer)

    def set_throttles(self, throttles: Throttles | None, why: object = None) -> None:
        """Have throttles decide whether a token may begin, for a reason; once there is no reason left, each may.

        Args:
            throttles: what decides; None ends the reason.
            why: the reason, such as the rules of the place, or one token.
        """
        with self._lock:
            if throttles is not None and self._turn is _NEVER_ASKED:
                self._turn = threading.Lock()
            self._reasons = self._reasons - {why} if throttles is None else self._reasons | {why}
            self._throttles = throttles or (self._throttles if self._reasons else None)
            self._set_flags()

    def set_fair(self, fair: bool) -> None:
        """Let tokens take turns by their keys, or no longer; those that are queued, too."""
        with self._lock:
            if fair is not isinstance(self._lanes, FairLanes):
                lanes = FairLanes(self._zero) if fair else Lanes(self._zero)
                self._lanes.recover()  # moves what takes turns out of lane 0
                for token in self._lanes.others_in_order():
                    lanes.append_other(token)
                self._lanes = lanes
                self._set_flags()

    def close(self, *, keep: bool = False, why: str = "has stopped") -> list[Token[Any]]:
        """Refuse all further tokens.

        Args:
            keep: leave those that are queued where they are.
            why: what the errors of refused senders say of the owner.

        Returns:
            the tokens that were queued, in order, then those that were held; the caller is to end them. Empty with
            `keep`.
        """
        left: list[Token[Any]] = []
        with self._lock:
            self._closed = True
            self._why_closed = why
            if not keep:
                self._emptied = True
                left.extend(iter(self._pop, None))
                left.extend(self._held or ())
                self._held = None
                self._set_limit()
                self._removed += len(left)
                if self._throttles is not None:
                    self._throttles.forget(left)
            senders, self._senders = self._senders, None
            self._set_flags()
        self._follow_up(senders or ())
        return left

    def reopen(self, why: str = "") -> bool:
        """Accept tokens again, for a place that is started anew; or, with `why`, if that was the reason of closing.

        Returns:
            whether it was closed, and is not any more.
        """
        if not self._closed:
            return False
        with self._lock:
            if not self._closed or (why and why != self._why_closed):
                return False
            self._closed = self._emptied = False
            return True

    # For recovery

    def recover(self) -> list[Drainer]:
        """Enter a drainer if none is at work since a sender was interrupted; return all that are entered."""
        with self._lock:
            self._lanes.recover()
            self._set_limit()
            self._lent.difference_update(tuple(why for why in self._lent if getattr(why, "_done", False)))
            self._set_flags()
            if self.active <= 0:  # else those that are at work come to what is queued
                self._missing()
            return list(self._drainers)

    def tokens(self) -> set[Token[Any]]:
        """Return the tokens that are here, those that are held included."""
        with self._lock:
            return {*self._lanes, *(self._held or ())}

    def some_held(self, most: int) -> list[Token[Any]]:
        """Return the first tokens that are held: those that throttles keep back, then those that are paused."""
        with self._lock:
            held = self._held
            return [] if held is None else list(islice(chain(held.throttled, held.paused), most))

    def disown(self) -> None:
        """Be closed and empty in a forked child, where a thread that held the lock is gone."""
        self._lock = cast("_Lock", threading.RLock())
        self._lanes = Lanes()
        self._zero = self._lanes.zero
        self._closed, self._suspended, self._control, self._senders = True, 1, None, None
        self._held = self._throttles = None
        self._away, self._limit, self._emptied = 0, self.capacity, True
        self._set_flags()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def size(self) -> int:
        """How many tokens the user lane has, those that are held included; one that changes its place is counted."""
        with self._lock:
            return self._size()

    def statistics(self) -> MailboxStatistics:
        """Return the figures of this moment; exact when nothing moves."""
        with self._lock:
            taken = next(self._taken) - self._not_taken
            self._not_taken += 1
            held = self._held
            return MailboxStatistics(
                depth=self._size(),
                capacity=self.capacity,
                held=0 if held is None else len(held.paused) + len(held.throttled),
                control=len(self._control or ()),
                active=self.active,
                accepted=taken + self._removed + self._size(),
                suspended=self._suspended > 0,
                closed=self._closed,
                senders_waiting=len(self._senders or ()),
            )

    # The long ways

    def _put_slowly(self, token: Token[Any], room: Callable[[], object] | None) -> Put:
        later = self._lock._is_owned()
        with self._lock:
            if self._closed:
                raise self._dead(token)
            if later:
                return Put.LATER
            victim = None
            if self._size() >= self.capacity:
                refusal, victim = self._make_room(token.priority, room)
                if refusal is not None:
                    return refusal
            token._phase = _QUEUED
            token.queued_at = token._place.system.clock()
            self._lanes.append(token)
            drainer = self._missing()
        system = token._place.system
        if system.on_token_queued is not None:
            system.tell(system.on_token_queued, token)
        if victim is not None:
            self._on_drop(victim)
        if drainer is not None:
            self._wake(drainer)
        return ACCEPTED

    def _taken_back(self, token: Token[Any]) -> bool:
        """Undo a put that came as the mailbox closed, unless the token was taken out already, and so will be ended."""
        with self._lock:
            if not self._closed or not self._remove(token):
                return False
            token._phase = TokenState.CREATED
        self._follow_up()
        return True

    def _call_drainer(self) -> None:
        drainer = None
        with self._lock:
            self._idle = True  # before the look: a put that comes after the look calls a drainer itself
            active = len(self._drainers) - len(self._lent)
            if not self._plain:
                drainer = self._missing()
            else:  # nothing is out of the ordinary, and remains so
                if self._zero and active < self.concurrency:
                    drainer = self._new_drainer()
                    drainer.at_work = True
                    self._drainers.add(drainer)
                    active += 1
                self.active = active
                self._idle = active < self.concurrency
        if drainer is not None:
            self._wake(drainer)

    def _take_asked(self, drainer: Drainer) -> Token[Any] | None:
        """Take the first token if the throttles let it begin, and nothing else is out of the ordinary."""
        turn = self._turn
        if turn.locked() and not await_free(turn):
            return self._ask(drainer)
        with turn:
            return self._ask(drainer)

    def _ask(self, drainer: Drainer) -> Token[Any] | None:
        refused: list[Token[Any]] = []
        with self._lock:
            throttles = self._throttles
            # A token that is kept back here may be due, and goes first.
            if not (self._asks and drainer.at_work) or throttles is None or self._limit != self.capacity:
                return None
            token = self._lanes.pop()
            if token is None:
                return None
            verdict = throttles.admit(token, self)
            if verdict is BEGINS:
                next(self._taken)
                return token
            self._set_aside(token, verdict, refused)
        _refuse(refused)
        return None

    def _take_slowly(self, drainer: Drainer) -> Token[Any] | Signal | None:
        if self._asks:
            token = self._take_asked(drainer)
            if token is not None:
                return token
        asked = 0  # tokens that were kept back or refused
        successor: Drainer | None = None
        while True:
            if self._throttles is not None and self._held is not None and self._held.throttled:
                self._throttles.let_go(self, 1)
            senders: Sequence[Callable[[], object]] = ()
            refused: list[Token[Any]] = []
            with self._lock:
                if not drainer.at_work:
                    return None
                if self._plain:
                    self._idle = True  # before the look: a put that comes after the look calls a drainer
                    if not self._zero:  # nothing is left to do, and nothing is out of the ordinary
                        self._strike(drainer)
                        return None
                if self._control:
                    signal = self._control.popleft()
                    self._set_flags()
                    return signal
                throttles = self._throttles
                # There are more drainers than there may be when those that waited are back: then this one is too many.
                too_many = self.active > self.concurrency
                self._idle = True  # before the look: a put that comes after the look calls a drainer
                more = False  # whether so many were kept back that others are to have the lock for a moment
                if self._suspended or too_many or not (self._zero or self._lanes.others or self._held):
                    token = None
                elif throttles is None and (self._held is None or not self._held.released):
                    token = self._lanes.pop()
                else:
                    token, more = self._first_that_may_begin(throttles, refused)
                    if token is None:  # what was for refused ones is for others now, which it takes itself
                        asked += _THROTTLED_AT_ONCE if more else len(refused)
                        more = more or bool(refused)
                if token is not None:
                    next(self._taken)
                elif not more or asked >= _ASKED_AT_ONCE:
                    self._strike(drainer)
                    if more:  # another one goes on, after other tasks of the loop
                        more, successor = False, self._missing()
                if self._senders and self._size() <= self._low_water:
                    # One for each place that became free; at the low water mark these are many at once.
                    senders = self._senders_let_in(_ROOM_AT_ONCE if self._size() == self._low_water else 1)
                self._set_flags()
            if senders:
                _call(senders)
            _refuse(refused)
            if not more:
                break
        if successor is not None:
            self._wake(successor)
        if throttles is not None:
            # One that was kept back just now may be due, and others may be since this drainer has left.
            throttles.let_go(self)
        return token

    def _follow_up(self, senders: Iterable[Callable[[], object]] = (), drainer: Drainer | None = None) -> None:
        """Do, without the lock, what follows from a change: wake senders and a drainer, and ask the throttles."""
        _call(senders)
        if drainer is not None:
            self._wake(drainer)
        throttles = self._throttles
        if throttles is not None:
            throttles.let_go(self)

    def _dead(self, token: Token[Any]) -> ActorDead:
        return ActorDead(f"actor '{self._owner}' {self._why_closed}; {token!r} was not accepted")

    # All below runs under the lock

    def _size(self) -> int:
        return len(self._zero) + self._lanes.others + self.capacity - self._limit

    def _set_flags(self) -> None:
        self.active = active = len(self._drainers) - len(self._lent)
        self._idle = active < self.concurrency and not self._suspended
        plain = not (
            self._suspended
            or self._control
            or self._senders
            or active > self.concurrency
            or (self._held is not None and self._held.released)
        )
        self._asks = plain and self._throttles is not None
        self._plain = plain and not (self._asks or self._lanes.others or type(self._lanes) is FairLanes)

    def _make_room(
        self, priority: int, room: Callable[[], object] | None = None
    ) -> tuple[Put | None, Token[Any] | None]:
        """Return how a full mailbox refuses a token of this priority, or else which token is dropped for it."""
        if self.overflow == "wait":
            if room is None:
                return Put.FULL, None
            if self._senders is None:
                self._senders = deque()
            self._senders.append(room)
            self._set_flags()
            if self._size() >= self.capacity:
                return Put.FULL, None
            self._senders.pop()  # a drainer made room in between
            self._set_flags()
            return None, None
        if self.overflow != "drop_oldest":
            return Put.DROPPED, None
        victim = self._oldest_of_lowest(priority)
        if victim is None and self._size() >= self.capacity:
            return Put.DROPPED, None
        self._removed += victim is not None
        return None, victim

    def _oldest_of_lowest(self, newcomer: int) -> Token[Any] | None:
        """Take the oldest token of the lowest priority, unless even that outranks the newcomer's.

        Paused tokens are left alone, and so are those that throttles have let go.
        """
        victim = self._lanes.pop_oldest_of_lowest(newcomer)
        throttled = self._held.throttled.oldest_of_lowest() if self._held is not None else None
        if throttled is None or throttled.priority > (newcomer if victim is None else victim.priority):
            return victim
        if victim is not None:
            self._lanes.append_first(victim)  # the one that is kept back is older
        self._remove(throttled)
        return throttled

    def _remove(self, token: Token[Any]) -> bool:
        """Take a token out from wherever it stands; `_follow_up` comes after that."""
        held = self._held
        if held is not None and token in held.paused:
            del held.paused[token]
            self._set_limit()
            return True
        if token._phase is not _QUEUED:
            return False
        if held is not None and held.remove_unpaused(token):
            self._set_limit()
        else:
            if self._lanes.index_is_due:
                self._index()
            if not self._lanes.remove(token):
                return False
        if self._throttles is not None:
            self._throttles.forget((token,))
        return True

    def _index(self) -> None:
        """Have lane 0 indexed, unless a drainer is about to take from it: that one would get a token out of order."""
        self._plain = False  # before the look: a drainer that comes after it takes under the lock
        if not any(map(_takes_from_lane_0, (sys._getframe(), *thread_frames().values()))):
            self._lanes.index()
        self._set_flags()

    def _note_gone(self) -> tuple[Drainer | None, list[Callable[[], object]]]:
        """Count a token that has left; return a drainer to wake, and the senders for which there is room."""
        self._removed += 1
        senders = self._senders_let_in(1)
        drainer = None
        if self._closed and not self._size() and not self._suspended and self.active < self.concurrency:
            drainer = self._enter(self._new_drainer())  # a stop may wait for it to see that all tokens have gone
        return drainer, senders

    def _holding(self) -> HeldTokens:
        """Return what has the tokens beside the lanes; `_set_limit` comes after each change of their number."""
        if self._held is None:
            self._held = HeldTokens()
        return self._held

    def _set_limit(self) -> None:
        """Count again how many tokens the lanes may have."""
        self._limit = self.capacity - self._away - (0 if self._held is None else len(self._held))

    def _pop(self) -> Token[Any] | None:
        """Take what is next in the queue."""
        if self._held is None:
            return self._lanes.pop()
        token = self._held.pop(self._lanes)
        self._set_limit()
        return token

    def _first_that_may_begin(
        self, throttles: Throttles | None, refused: list[Token[Any]]
    ) -> tuple[Token[Any] | None, bool]:
        """Take the first token that may begin; tell, if there is none, whether there may be one further on.

        Args:
            throttles: those of the mailbox.
            refused: to which tokens are added that left the mailbox, since they are refused at their turn.
        """
        for _ in range(_THROTTLED_AT_ONCE):
            token = self._pop()
            if token is None or throttles is None:
                return token, False
            verdict = throttles.admit(token, self)
            if verdict is BEGINS:
                return token, False
            self._set_aside(token, verdict, refused)
        return None, True

    def _set_aside(self, token: Token[Any], verdict: Verdict, refused: list[Token[Any]]) -> None:
        """Keep back a token that may not begin, or add it to those that are refused."""
        if verdict is WAITS:
            self._holding().throttled.append(token)
            self._set_limit()
        else:
            self._removed += 1
            refused.append(token)

    def _enter(self, drainer: Drainer) -> Drainer:
        drainer.at_work = True
        self._drainers.add(drainer)
        self._set_flags()
        return drainer

    def _strike(self, drainer: Drainer) -> None:
        self._drainers.discard(drainer)  # first: one that was interrupted in between is dismissed again, or is gone
        drainer.at_work = False
        self._lent.discard(drainer)
        self.active = len(self._drainers) - len(self._lent)

    def _missing(self) -> Drainer | None:
        """Return one more drainer, which was entered just now and is to be woken, if one is missing."""
        self._idle = True  # before the look: a put that comes after the look calls a drainer itself
        held = self._held
        if len(self._drainers) - len(self._lent) < self.concurrency and (
            self._control
            or ((self._zero or self._lanes.others or (held is not None and held.released)) and not self._suspended)
        ):
            return self._enter(self._new_drainer())
        self._set_flags()
        return None

    def _senders_let_in(self, most: int) -> list[Callable[[], object]]:
        """Return the wakers of as many senders as there is room for."""
        senders = self._senders
        if not senders:
            return []
        woken = [senders.popleft() for _ in range(min(len(senders), self.capacity - self._size(), most))]
        self._set_flags()
        return woken


def _takes_from_lane_0(frame: FrameType | None) -> bool:
    """Tell whether a thread may be within the short way of taking a token, of whatever mailbox."""
    taking = next((each.f_code for each in frames_from(frame) if each.f_code in _TAKING), _TAKING[0])
    return taking is not _TAKING[0]


# The code of the long way, and that of the short ones.
_TAKING = (Mailbox._take_slowly.__code__, Mailbox.take.__code__, Mailbox.take_more.__code__)


def _interrupts_change() -> bool:
    """Tell whether the calling code has interrupted a change of whatever mailbox."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == _FILE:
            mailbox = variables_of(frame).get("self")
            if isinstance(mailbox, Mailbox) and mailbox.changes_here:
                return True
        frame = frame.f_back
    return False


_FILE = Mailbox.put.__code__.co_filename

refuse_waits_if(_interrupts_change)


def _refuse(tokens: Iterable[Token[Any]]) -> None:
    for token in tokens:
        policy = token._extras.policy
        if policy is not None:
            policy.refuse(token)


def _call(wakers: Iterable[Callable[[], object]]) -> None:
    for wake in wakers:
        wake()
