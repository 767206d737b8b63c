"""The hold on one token: whether its code may take another step, and how it waits until it may.

A hold is a level, not an event: the code that drives a token calls `may_step` before each step and again after each
wait, so no order of pausing, stepping and resuming loses a request. A token gets its hold with the first request of an
operator; until then a step costs one look at an attribute.
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
    """The gate before the steps of a token that has begun.

    `pause`, `step`, `resume` and `end` are for operators, on any thread; the rest is for the code that drives the
    token.

    Args:
        token: the one to hold.
    """

    __slots__ = (
        "_before_attempt",
        "_ending",
        "_kept_for",
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
        "paused_by",
        "paused_for",
        "stop_clock",
        "stopped_clock",
        "token",
    )

    def __init__(self, token: Token[Any]) -> None:
        self.token = token
        self.paused_by = ""  # the operator or rule that asked last for a pause
        self.stop_clock = False  # whether time limits do not count the time of pauses
        self.paused_for = 0.0  # seconds of pauses that are over
        self.stopped_clock = 0.0  # of these, seconds that do not count
        self._kept_for = 0.0  # of these, seconds before an attempt began
        self._before_attempt = 0.0, 0.0  # both, when the attempt was queued
        self.interrupt_wanted = False  # whether its running code is to be interrupted
        self.interrupt_sent = False  # whether an exception for it may be pending; for its sending and withdrawal
        self.lent = False  # whether its place's turn is lent while it is parked; for its drain only
        self._lock = threading.Lock()
        self._wanted = False  # whether an operator holds it
        self._steps = 0  # number of steps that it may take all the same
        self._stepping = False  # whether the latest request was for steps
        self._ending = False  # whether it is released for good, so that it can end
        self._parked_at: float | None = None  # time since which none of its code runs, by the system's clock
        self._released: Reply[None] = Reply()  # set when a parked token is to call `may_step` again
        self._reached: Reply[None] | None = None  # set when it is parked, resumed or ended; shared

    @classmethod
    def of(cls, token: Token[Any]) -> Hold:
        """Return the token's hold, made if there was none; on the loop of operators only."""
        hold = token._extras.hold
        if hold is None:
            hold = token._own_extras().hold = cls(token)
            if token._done or token._extras.cancel_requested:  # the code that did it may have missed the hold
                hold.end()
        return hold

    # For operators

    def pause(self, *, stop_clock: bool = False) -> Reply[None]:
        """Allow no further step; the reply comes when the token is parked, resumed, or has ended."""
        return self._want(0, stop_clock)

    def step(self, n: int) -> Reply[None]:
        """Allow `n` steps and then none; the reply comes when the token is parked after them, or has ended."""
        return self._want(n, self.stop_clock)

    def resume(self) -> bool:
        """Let the token go on; return whether it was held."""
        with self._lock:
            was_held, self._wanted = self._wanted, False
            self._steps = 0
            self._stepping = False
            goes_on = self._unpark()
            reached = self._take_reached()
        reached._set()
        if goes_on:
            self._tell_resumed()
        return was_held

    def end(self) -> None:
        """Release the token for good: it was asked to end, or has ended."""
        with self._lock:
            self._ending = True
            self._unpark()
            reached = self._take_reached()
        reached._set()

    def want_interrupt(self) -> bool:
        """Have running code interrupted that was asked to end, and release it for good; return whether it was asked.

        An attempt that is over by now has forgotten the request before `renew`, so none hits the next one.
        """
        with self._lock:
            wanted = bool(self.token._extras.cancel_requested)
            if wanted:
                self.interrupt_wanted = self._ending = True
                self._unpark()
            reached = self._take_reached() if wanted else None
        if reached is not None:
            reached._set()
        return wanted

    def renew(self) -> None:
        """Hold another attempt of the token, whose code was asked to end, as if it had not been asked."""
        with self._lock:
            self._ending = self.interrupt_wanted = False
            self._count_pause()
            self._before_attempt = self.paused_for, self._kept_for

    @property
    def parked(self) -> bool:
        """Whether none of the token's code runs until the hold is released."""
        return self._parked_at is not None

    @property
    def word(self) -> str:
        """The state that operators see: `paused`, `pause_requested`, or an empty string when the token is not held."""
        if not self._wanted or self._ending:
            return ""
        return "paused" if self.parked else "pause_requested"

    @property
    def stepping(self) -> bool:
        """Whether it may go on for a number of steps only."""
        return self._stepping and self._wanted and not self._ending

    @property
    def ending(self) -> bool:
        """Whether a parked token is to end instead of going on."""
        return self._ending

    def seconds(self, now: float) -> tuple[float, float]:
        """Return the seconds for which the token was paused, and how many of them do not count for its time limits."""
        with self._lock:
            current = 0.0 if self._parked_at is None else now - self._parked_at
            return self.paused_for + current, self.stopped_clock + (current if self.stop_clock else 0.0)

    def in_attempt(self) -> tuple[float, float]:
        """Return the seconds for which the attempt was paused that has just ended: while queued, while running."""
        with self._lock:
            self._count_pause()
            paused, queued = self._before_attempt
            queued = self._kept_for - queued
            return queued, self.paused_for - paused - queued

    def _want(self, steps: int, stop_clock: bool) -> Reply[None]:
        over: Reply[None] = Reply()
        over._set()
        goes_on = False
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
                goes_on = self._unpark()
            if self._parked_at is not None:
                return over
            if self._reached is None:
                self._reached = Reply()
            reached = self._reached
        if goes_on:
            self._tell_resumed()
        return reached

    # For the code that drives the token

    def may_step(self, *, counted: bool = True, parked: Callable[[Hold], object] | None = None) -> bool:
        """Ask for one step; if it is refused, the token is parked until `released` comes.

        Args:
            counted: whether it is a step; else it is only a point at which the token can stop.
            parked: called when the token has been parked, before the replies of `pause` and `step` come.
        """
        with self._lock:
            parks, goes_on = self._parked_at is None, False
            reached = self._park() if self._blocked() else None
            if reached is None:
                if counted and self._steps and self._wanted:
                    self._steps -= 1
                goes_on = self._unpark()
        if reached is None:
            if goes_on:
                self._tell_resumed()
            return True
        if parked is not None:
            parked(self)
        reached._set()
        if parks:
            self._tell_paused()
        return False

    def take_steps(self) -> int:
        """Take all allowed steps at once, for a caller that counts them itself; return how many."""
        with self._lock:
            steps, self._steps = self._steps, 0
            return steps

    def note_step(self) -> None:
        """Note that a step is over and none has begun: the token is parked if it may take no other."""
        with self._lock:
            parks = self._parked_at is None
            reached = self._park() if self._blocked() else None
        if reached is not None:
            reached._set()
            if parks:
                self._tell_paused()

    def leave(self) -> None:
        """Note that the token's code runs although it is held: it was cancelled, or got an error."""
        with self._lock:
            goes_on = self._unpark()
        if goes_on:
            self._tell_resumed()

    @property
    def released(self) -> Reply[None]:
        """Comes when `may_step` is to be called again; read it after a refusal."""
        return self._released

    def step_in_thread(self, *, counted: bool = True, parked: Callable[[Hold], object] | None = None) -> bool:
        """Take a step as `may_step` does; block until it is allowed, or the token is to end.

        Returns:
            whether it was refused at first.
        """
        refused = False
        try:
            while True:
                if self.may_step(counted=counted, parked=parked):
                    return refused
                refused, released = True, self._released
                if not released.done():
                    released._wait_in_thread(None, paused=True)
        except BaseException:  # Ctrl-C, in a direct call
            self.leave()
            raise

    def _tell_paused(self) -> None:
        system = self.token._place.system
        system.tell(system.on_token_paused, self.token)

    def _tell_resumed(self) -> None:
        system = self.token._place.system
        system.tell(system.on_token_resumed, self.token)

    # All below runs under the lock

    def _blocked(self) -> bool:
        return self._wanted and not self._steps and not self._ending

    def _park(self) -> Reply[None]:
        """Note that none of its code runs; return the reply to set now."""
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

    def _unpark(self) -> bool:
        """Note that its code may run; return whether that was not so."""
        if self._parked_at is None:
            return False
        self._count_pause()
        self._parked_at = None
        if self.token._phase is _PAUSED and self.token.started_at is not None:  # else its mailbox has it
            self.token._phase = _RUNNING
        self._released._set()
        return True

    def _count_pause(self) -> None:
        if self._parked_at is not None:
            now, started = self.token._place.system.clock(), self.token.started_at
            self.paused_for += now - self._parked_at
            self._kept_for += now - self._parked_at if started is None else max(0.0, started - self._parked_at)
            if self.stop_clock:
                self.stopped_clock += now - self._parked_at
            self._parked_at = now
