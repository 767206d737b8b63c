"""The limits of time that one token is held to: when the next one is over, and what follows then."""

from __future__ import annotations

import math
from threading import get_ident
from typing import Any, Final

from actors import Token, TokenExpired, TokenRejected, TokenState
from actors.lowlevel import ActorPlace, system_of
from tokengate.policy._deadlines import Lane
from tokengate.policy._place_rules import PlaceRules
from tokengate.policy._policy import Policy
from tokengate.policy._times import Due, Times, grace

_EXPIRED: Final = TokenState.EXPIRED

# Seconds until the next look at a token whose time is over, and which cannot be ended just now: it is on its way.
_SOON: Final = 0.001


class HeldToTimes:
    """What a token is held to, as far as that is a matter of time.

    Args:
        token: the token. It is not kept, since the token has this object: a circle is freed by the collector only.
        governor: that of its place.

    Attributes:
        id: of the token.
        governor: that of its place.
        policy: what it is held to, as of its making.
        inherited: the deadline of the code that made it; inf without one.
        start: from when on its times count, if that is not its making.
        deadline_at: when its time is over for good, as of the door; None before. All in seconds of the clock.
        times: its limits of time, once more than `deadline_at` is needed of them; see `times_of`.
        alarm_at: when the first of its times is over, in seconds of the clock; kept by `Deadlines`.
    """

    times: Times | None = None
    inherited: float = math.inf
    start: float | None = None
    deadline_at: float | None = None
    alarm_at: float = math.inf
    _lane: Lane | None = None  # that its first time is in
    _began_at: float | None = None  # when the attempt began that runs
    _over: Due | None = None  # the time that is over, for which the code is asked to end
    _stopped: float = 0.0  # seconds for which its clock was stopped, as far as `times` knows
    _ended: bool = False
    _left_by: int = 0  # the thread that is about to leave its code behind

    def __init__(self, token: Token[Any], governor: PlaceRules) -> None:
        self.id = token.id
        self.governor = governor
        self.policy: Policy = governor.policy

    @property
    def deadline(self) -> float | None:
        """When its time is over for good, in seconds of the clock; None: never."""
        if self.times is not None:
            at = self.times.deadline
        else:
            at = self.inherited if self.deadline_at is None else self.deadline_at
        return None if at == math.inf else at

    def times_of(self, token: Token[Any]) -> Times | None:
        """Return the limits of time of the token, made when they are first needed; None without any."""
        if self.times is None and (self.policy.has_times or self.inherited < math.inf):
            with self.governor.lock:  # two threads may need them at once, and the attempt may end now
                if self.times is None:
                    self.times = Times(self.policy, self._start_of(token), self.inherited)
                    if self._began_at is not None:  # after they are there for one that begins now
                        self.times.enter("running", self._began_at)
        return self.times

    def _start_of(self, token: Token[Any]) -> float:
        return token.created_at if self.start is None else self.start

    def inherit(self, token: Token[Any]) -> None:
        """Have a token that the code of this one makes end at the deadline of this one, if somebody waits for it."""
        deadline = self.deadline
        if deadline is not None:
            self.governor.policies.inherit(token, deadline)

    def outlive_sender(self) -> None:
        """Have the token not end at the deadline of the code that made it."""
        self.inherited = math.inf

    def _refused(self, token: Token[Any], reason: str, why: str, retry_after: float | None = None) -> TokenRejected:
        return TokenRejected(f"{token._describe()} was refused: {why}", reason, retry_after)

    def _first_due(self, token: Token[Any], policy: Policy) -> float:
        """Return when the first time of a new token is over.

        Raises:
            TokenRejected: its deadline is over already.
        """
        start, deadline = self._start_of(token), policy.deadline
        due = math.inf if deadline == math.inf else self.inherited
        if deadline is not None and start + deadline < due:
            due = start + deadline
        self.deadline_at = due
        if due <= start:
            raise self._refused(token, "deadline", "its deadline has passed")
        return due if policy.queue_timeout is None else min(due, start + policy.queue_timeout)

    def time_is_over(self, now: float) -> None:
        """End the token, or its attempt, or look again later."""
        token = system_of(self.governor.place).live.get(self.id)
        times = None if token is None else self.times_of(token)
        if token is None or times is None:
            return
        if token._extras.hold is not None:
            stopped = token._extras.hold.seconds(now)[1]
            times.extend(stopped - self._stopped)
            self._stopped = stopped
        due = times.due()
        if due is None or due.at > now:
            self._set_alarm(token)
        elif self._began_at is None:
            self._expire_unbegun(token, due, now)
        elif isinstance(token._place, ActorPlace):
            self._left_by = get_ident()
            token._settle(_EXPIRED, error=self._expired(token, due, left=True))
        else:
            self._over = due
            seconds = grace(due.seconds) if self.governor.grace is None else self.governor.grace
            self.governor.policies.reconciler.end(token, self._why(due), seconds)

    def extend(self, token: Token[Any], seconds: float) -> bool:
        """Have each time end later; return whether the token has times, and none is over."""
        times = self.times_of(token)
        if times is None or self._over is not None or self._ended:
            return False
        times.extend(seconds)
        self._set_alarm(token)
        return True

    def _expire_unbegun(self, token: Token[Any], due: Due, now: float) -> None:
        if token._withdraw():
            token._finish(_EXPIRED, error=self._expired(token, due))
        elif not token._done:  # it is on its way: to its mailbox, to another one, or to the code that runs it
            self.governor.policies.deadlines.set(self, now + _SOON)

    def leave_behind(self, _token: Token[Any]) -> None:
        """Note that this thread is about to end the token, and to leave its code behind."""
        self._left_by = get_ident()

    def _why(self, due: Due) -> str:
        return f"its {due.which} of {due.seconds:g} s is over"

    def _expired(self, token: Token[Any], due: Due, left: bool = False) -> TokenExpired:
        on = "; its code could not be ended, and runs on" if left else ""
        why = f"{token._describe()} was ended: {self._why(due)}{on}"
        return TokenExpired(why, due.which, due.seconds, left)

    def _set_alarm(self, token: Token[Any]) -> None:
        times = self.times_of(token)
        due = None if times is None else times.due()
        at = math.inf if due is None else due.at
        if at != self.alarm_at:
            if self._lane is not None:
                self._lane.discard(self.id, None)
            self.governor.policies.deadlines.set(self, at)
