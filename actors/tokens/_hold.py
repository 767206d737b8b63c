"""An operator's hand on one token: whether its code may take another step, and who waits until it may.

What an operator wants is a level, not an event: whoever is about to take a step asks `may_step`, and asks again after
each wait, so that no order of pausing, stepping and resuming loses anything. A token has no hold until somebody wants
one; until then, all that a step costs is one look at an attribute.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from actors.concurrency._future import Reply
from actors.tokens._lifecycle import TokenState

if TYPE_CHECKING:
    from actors.tokens._token import Token

_RUNNING, _PAUSED = TokenState.RUNNING, TokenState.PAUSED


class Hold:
    """Whether a token that has begun may go on.

    `pause`, `step`, `resume` and `end` are for operators, on any thread; the rest is for who drives the token's code.

    Args:
        token: whose code it is.
    """

    __slots__ = (
        "_ending",
        "_lock",
        "_parked_at",
        "_reached",
        "_released",
        "_stepping",
        "_steps",
        "_wanted",
        "interrupt_sent",
        "interrupt_wanted",
        "lent",
        "paused_for",
        "stop_clock",
        "stopped_clock",
        "token",
    )

    def __init__(self, token: Token[Any]) -> None:
        self.token = token
        self.stop_clock = False  # whether the time of a pause does not count
        self.paused_for = 0.0  # seconds, of pauses that are over
        self.stopped_clock = 0.0  # of these, seconds that do not count
        self.interrupt_wanted = False  # whether its code is to be interrupted where it runs
        self.interrupt_sent = False  # whether an exception for it may be under way; for those who send and withdraw it
        self.lent = False  # whether its place's turn is given away meanwhile; for its drain alone
        self._lock = threading.Lock()
        self._wanted = False  # whether somebody holds it
        self._steps = 0  # that it may take all the same
        self._stepping = False  # whether the latest wish was for steps
        self._ending = False  # whether it is let go, so that it can end
        self._parked_at: float | None = None  # since when no code of it runs, in seconds of the system's clock
        self._released: Reply[None] = Reply()  # comes when who is parked is to ask again
        self._reached: Reply[None] | None = None  # comes when it is parked, let go, or has ended; one for all who ask

    @classmethod
    def of(cls, token: Token[Any]) -> Hold:
        """Return the token's hold, made if there was none; on the loop of operators only."""
        hold = token._hold
        if hold is None:
            hold = token._hold = cls(token)
            if token._done or token._cancel_requested:  # whoever did that may not have seen the hold
                hold.end()
        return hold

    # For operators

    def pause(self, *, stop_clock: bool = False) -> Reply[None]:
        """Let no further step be taken; the reply comes when the token is parked, let go again, or has ended."""
        return self._want(0, stop_clock)

    def step(self, n: int) -> Reply[None]:
        """Let so many steps be taken, and then none; the reply comes when it is parked after them, or has ended."""
        return self._want(n, self.stop_clock)

    def resume(self) -> bool:
        """Let the token go on; tell whether it was held."""
        with self._lock:
            was_held, self._wanted = self._wanted, False
            self._steps = 0
            self._stepping = False
            self._unpark()
            reached = self._take_reached()
        reached._set()
        return was_held

    def end(self) -> None:
        """Let go of the token for good: it was asked to end, or has ended."""
        with self._lock:
            self._ending = True
            self._unpark()
            reached = self._take_reached()
        reached._set()

    @property
    def parked(self) -> bool:
        """Whether no code of the token runs until somebody lets it go."""
        return self._parked_at is not None

    @property
    def word(self) -> str:
        """What operators are told of it: `paused`, `pause_requested`, or nothing when nobody holds the token."""
        if not self._wanted or self._ending:
            return ""
        return "paused" if self.parked else "pause_requested"

    @property
    def stepping(self) -> bool:
        """Whether it goes on for some steps only."""
        return self._stepping and self._wanted and not self._ending

    @property
    def ending(self) -> bool:
        """Whether whoever was parked is to end the token instead of going on."""
        return self._ending

    def seconds(self, now: float) -> tuple[float, float]:
        """Return for how long the token has been paused, and how much of that does not count for its time limits."""
        with self._lock:
            current = 0.0 if self._parked_at is None else now - self._parked_at
            return self.paused_for + current, self.stopped_clock + (current if self.stop_clock else 0.0)

    def _want(self, steps: int, stop_clock: bool) -> Reply[None]:
        over: Reply[None] = Reply()
        over._set()
        with self._lock:
            if self._ending:
                return over
            if self.stop_clock is not stop_clock:
                self._count_pause()
                self.stop_clock = stop_clock
            self._wanted = True
            self._steps = steps
            self._stepping = steps > 0
            if steps:
                self._unpark()
            if self._parked_at is not None:
                return over
            if self._reached is None:
                self._reached = Reply()
            return self._reached

    # For who drives the token's code

    def may_step(self, *, counted: bool = True, parked: Callable[[Hold], object] | None = None) -> bool:
        """Take leave for one step; if there is none, the token is parked until `released` comes.

        Args:
            counted: whether it is a step; else it is only a place where the token can stop.
            parked: called when the token has been parked, before anybody is told.
        """
        with self._lock:
            if self._blocked():
                reached = self._park()
            else:
                if counted and self._steps and self._wanted:
                    self._steps -= 1
                self._unpark()
                return True
        if parked is not None:
            parked(self)
        reached._set()
        return False

    def take_steps(self) -> int:
        """Take leave for all steps at once, for who counts them himself; return how many. After them it is parked."""
        with self._lock:
            steps, self._steps = self._steps, 0
            return steps

    def note_step(self) -> None:
        """Take note that a step is over and none has begun: the token is parked if it may take no other."""
        with self._lock:
            reached = self._park() if self._blocked() else None
        if reached is not None:
            reached._set()

    def leave(self) -> None:
        """Take note that the token's code runs although it is held: it has been cancelled, or told of an error."""
        with self._lock:
            self._unpark()

    @property
    def released(self) -> Reply[None]:
        """Comes when it is worth asking `may_step` again; to be read after that has said no."""
        return self._released

    def wait_in_thread(self, *, counted: bool = True, parked: Callable[[Hold], object] | None = None) -> None:
        """Block until the step may be taken that `may_step` has refused, with its leave, or the token is to end."""
        try:
            while True:
                released = self._released
                if not released.done():
                    released._wait_in_thread(None, paused=True)
                if self.may_step(counted=counted, parked=parked):
                    return
        except BaseException:  # Ctrl-C, in a direct call
            self.leave()
            raise

    # All below runs under the lock

    def _blocked(self) -> bool:
        return self._wanted and not self._steps and not self._ending

    def _park(self) -> Reply[None]:
        """Note that no code of it runs; return what is to come now."""
        if self._parked_at is None:
            self._parked_at = self.token._place.system.clock()
            self._released = Reply()
            if self.token._phase is _RUNNING:
                self.token._phase = _PAUSED
        self._stepping = False
        return self._take_reached()

    def _take_reached(self) -> Reply[None]:
        reached, self._reached = self._reached, None
        return Reply() if reached is None else reached

    def _unpark(self) -> None:
        if self._parked_at is not None:
            self._count_pause()
            self._parked_at = None
            if self.token._phase is _PAUSED and self.token.started_at is not None:  # else its mailbox has it
                self.token._phase = _RUNNING
            self._released._set()

    def _count_pause(self) -> None:
        if self._parked_at is not None:
            now = self.token._place.system.clock()
            self.paused_for += now - self._parked_at
            if self.stop_clock:
                self.stopped_clock += now - self._parked_at
            self._parked_at = now
