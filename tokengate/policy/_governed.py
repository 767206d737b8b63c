"""What one token is held to, and what it uses of that."""

from __future__ import annotations

import math
import random
from contextvars import Context
from functools import partial
from typing import Any, Final

import attrs

from actors import LimitExceeded, Token, TokenExpired, TokenRejected, TokenState, WorkerDied
from actors.lowlevel import ActorPlace, Rule, loop_here, place_of
from tokengate.policy._attempt import End
from tokengate.policy._breaker import BreakerState, Permit, is_good
from tokengate.policy._place_rules import Keys, PlaceRules
from tokengate.policy._policy import Breaker, Policy
from tokengate.policy._ports import TransactionMember
from tokengate.policy._retry import next_attempt
from tokengate.policy._rules import Delay
from tokengate.policy._times import Due, Times, grace

_COMPLETED, _FAILED, _EXPIRED = TokenState.COMPLETED, TokenState.FAILED, TokenState.EXPIRED
_TERMINATED, _REJECTED = TokenState.TERMINATED, TokenState.REJECTED

_UNKNOWN: Final = (WorkerDied, LimitExceeded)  # errors after which it is unknown what the code did
_ANSWERED: Final = (End.FAILED, End.LOST, End.TIMED_OUT)  # ends for which a fallback answers

_BAD_BY_DEFAULT: Final = Breaker()  # tells good attempts from bad ones for an adaptive limit without a breaker

# Seconds until the next look at a token whose time is over, and which nobody can end just now: it is on its way.
_SOON: Final = 0.001


@attrs.frozen
class Attempt:
    """The record of an attempt that has ended; times are seconds of the gate's clock.

    Attributes:
        number: 1 for the first one.
        queued_at: when it began to wait; None for a direct call.
        started_at: when its code began; None if it did not.
        ended_at: when the code ended, or was left behind.
        error: what it ended with; None if it completed.
        delay: seconds until the next one was due; None if none follows.
    """

    number: int
    queued_at: float | None
    started_at: float | None
    ended_at: float
    error: BaseException | None = None
    delay: float | None = None


class Governed:
    """The `policy` among the extras of a token.

    An attempt is counted from `may_begin` to `end`. What several threads may do at once is done under the lock of the
    throttles; `_ended` is set there, once, by the thread whose end of the token counts.

    Args:
        token: the token.
        governor: that of its place.

    Attributes:
        policy: what it is held to.
        times: its limits of time; None without any.
        alarm_at: when the first of its times is over, in seconds of the clock; kept by `Deadlines`.
        due_at: the time before which it does not begin, while it waits for that; else None.
        keys: what it is counted for: {name of a rule: its key}, for those that have keys.
        reason: the rule that decided its end; empty if none did.
        attempts: records of the attempts that have ended.
        left_running: whether its code could not be ended, and runs on.
        member: what a transaction keeps of it; None if none does.
        uid: id of the token that runs for it, or that has run for it; 0: none.
        seconds: how long the latest attempt ran.
        good: whether it was good; None: it does not count.
        estimate: what an attempt reserves of its budget.
    """

    __slots__ = (
        "_admitted",
        "_began_at",
        "_breaker",
        "_context",
        "_delay",
        "_ended",
        "_error",
        "_falls_back",
        "_is_last",
        "_is_retry",
        "_over",
        "_permit",
        "_refusal",
        "_reserved",
        "_returned",
        "_stopped",
        "_token",
        "alarm_at",
        "attempts",
        "due_at",
        "estimate",
        "good",
        "governor",
        "inherited",
        "keys",
        "left_running",
        "member",
        "passed_door",
        "policy",
        "reason",
        "refusal_at_door",
        "runs_here",
        "seconds",
        "times",
        "uid",
    )

    def __init__(self, token: Token[Any], governor: PlaceRules) -> None:
        self._token = token
        self.governor = governor
        self.policy: Policy = governor.policy
        self.times: Times | None = None
        self.inherited = math.inf  # the deadline of the code that made it
        self.alarm_at = math.inf
        self.due_at: float | None = None
        self.keys: Keys = ()
        self.reason = ""
        self.attempts: tuple[Attempt, ...] = ()
        self.left_running = False
        self.uid = 0
        self.member: TransactionMember | None = None
        self.passed_door = False
        self.refusal_at_door: TokenRejected | None = None  # of a direct call, until it is sent
        self.runs_here = False  # whether the attempt runs on its caller's thread
        self.seconds, self.estimate = 0.0, 0.0
        self.good: bool | None = None
        self._breaker: BreakerState | None = None
        self._permit: Permit | None = None  # while an attempt counts for the breaker
        self._admitted = False  # whether an attempt may begin, or runs
        self._began_at: float | None = None  # when the attempt began that runs
        self._delay: Delay | None = None  # before an attempt that is not the first one
        self._over: Due | None = None  # the time that is over, for which the code is asked to end
        self._stopped = 0.0  # seconds for which its clock was stopped, as far as `times` knows
        self._error: BaseException | None = None  # that of the attempt before
        self._refusal: TokenRejected | None = None  # at its turn
        self._is_retry = self._reserved = False  # whether the attempt is a retry, and is reserved in the share
        self._is_last = False  # whether no further attempt follows, whatever comes
        self._falls_back = False  # whether its code is the fallback
        self._ended = self._returned = False
        self._context: Context | None = None  # as it was captured; each attempt gets a copy

    @property
    def deadline(self) -> float | None:
        """When its time is over for good, in seconds of the clock; None: never."""
        at = self.inherited if self.times is None else self.times.deadline
        return None if at == math.inf else at

    @property
    def is_fair(self) -> bool:
        return self.policy.fair is not None

    @property
    def fair_key(self) -> str | int | None:
        return self.keys[-1] if self.keys else None

    def inherit(self, token: Token[Any]) -> None:
        """Have a token that the code of this one makes end at the deadline of this one, if somebody waits for it."""
        deadline = self.deadline
        if deadline is not None:
            self.governor.policies.inherit(token, deadline)

    def outlive_sender(self) -> None:
        """Have the token not end at the deadline of the code that made it."""
        self.inherited = math.inf

    @property
    def run(self) -> Token[Any] | None:
        return None

    def leave(self) -> bool:
        return False

    # At the door

    def enter(self) -> Token[Any] | None:
        """Hold the token to its policy, as it is about to be sent; return the one to put into the mailbox.

        Raises:
            TokenRejected: it is refused.
        """
        if self.refusal_at_door is not None:
            raise self.refusal_at_door
        if not self.passed_door:
            self.pass_door()
        return self._token

    def pass_door(self) -> None:
        """Hold the token to its policy, as it is about to be sent.

        Raises:
            TokenRejected: it is refused.
        """
        token, policy, governor = self._token, self.policy, self.governor
        now = token.created_at
        if policy.has_times or self.inherited < math.inf:
            self.times = Times(policy, now, self.inherited)
        if self.times is not None and self.times.deadline <= now:
            raise self._refused("deadline", "its deadline has passed")
        self.read_keys()
        if policy.retry is not None or policy.fallback is not None:
            context = token._context
            self._context = None if context is None else context.copy()
        self.passed_door = True
        refusal = governor.judge_at_door(token, self.keys, now) or governor.pass_throttles(token, self.keys, now)
        if refusal is not None:
            self.reason = refusal.reason
            if not self._use_fallback(token, refusal):
                raise refusal
        if self.times is not None:
            self._set_alarm()

    def read_keys(self) -> None:
        """Read what the rules count the token for, on its sender's thread.

        Raises:
            TokenRejected: that cannot be told.
        """
        self.keys = self.governor.keys_of(self._token)
        self.estimate = self.governor.estimate_of(self._token)

    def _refused(self, reason: str, why: str, retry_after: float | None = None) -> TokenRejected:
        return TokenRejected(f"{self._token._describe()} was refused: {why}", reason, retry_after)

    # At its turn, under the lock of the throttles

    def rules(self, now: float) -> tuple[Rule, ...]:
        """Return the throttles and budgets of which an attempt needs a grant."""
        rules = () if self._falls_back else self.governor.rules_of(self.keys, now)
        delay = self._delay
        return rules if delay is None or delay.due_at(self._token, now) <= now else (delay, *rules)

    def may_begin(self, token: Token[Any], now: float) -> bool:
        """Decide at the token's turn whether it may begin; if not, `refuse` is called without the lock."""
        if self._ended:
            return False
        if not self._admitted and not self._falls_back:
            self._refusal = self._judge(token, now)
            if self._refusal is not None:
                return False
        self._admitted = True
        return True

    def _judge(self, token: Token[Any], now: float) -> TokenRejected | None:
        governor = self.governor
        if self._reserved:
            self._reserved = False
            if not governor.share.begin_retry(now):
                return self._refused("overload", "the share of retries among the attempts of the operation is used up")
        refusal = governor.sheds(token, now)
        if refusal is None and governor.has_at_once:
            refusal, _ = governor.take_at_once(token, self.keys, now)
        if refusal is None and self.policy.breaker is not None:
            self._breaker = breaker = governor.breaker_of(self.keys, now)
            if breaker is not None:
                self._permit = breaker.begin(now)
                if self._permit is None:
                    refusal = governor.refused_by(breaker, token, now)
        return refusal

    def unbegun(self, _token: Token[Any], now: float) -> None:
        """Undo `may_begin`: the attempt has not begun after all."""
        if self._admitted and self._began_at is None:
            self._admitted = False
            self._end_permit(None, now)

    # An attempt

    def refuse(self, token: Token[Any]) -> None:
        """End a token that was refused at its turn, or let its fallback answer."""
        refusal, error = self._refusal, self._error
        if refusal is None or self._ended:
            return
        self._is_last = True
        self.reason = refusal.reason
        if error is not None:
            error.add_note(f"Attempt {token.attempt} was refused: {refusal}")
        if not self._fall_back(token, error or refusal):
            if error is None:
                place_of(token).reject(token, refusal)
            else:
                token._finish(_FAILED, error=error)

    def begin(self, token: Token[Any], now: float) -> None:
        """Note that an attempt begins."""
        self._began_at = now
        self.due_at = self._delay = None
        if self.member is not None and not self._falls_back:
            self.member.begin()
        governor = self.governor
        if self.times is not None:
            self.times.enter("running", now)
            if self.policy.timeout is not None or self.policy.queue_timeout is not None:
                self._set_alarm()
        if governor.has_rules:
            with governor.lock:
                if not self._is_retry:
                    governor.share.begin(now)
                governor.throttles.begin(token, now)

    def end(
        self, token: Token[Any], state: TokenState, value: Any, error: BaseException | None
    ) -> tuple[TokenState, Any, BaseException | None] | None:
        """Note the end of an attempt; return the end of the token, or None if it is queued for another attempt."""
        if self._ended:
            self.note_return(token, state, value)
            return state, value, error
        if self._over is not None and state is _TERMINATED:
            state, error = _EXPIRED, self._expired(token, self._over)
        elif state is _TERMINATED and self._error is not None and place_of(token).system.intake_closed:
            state, error, self._is_last = _FAILED, self._error, True  # the gate closes before its next attempt
        if state is _COMPLETED or state is _FAILED:
            self.left_running = False  # it was about to be left behind, and has ended by itself
        how = self._how(token, state, error)
        governor, now = self.governor, self.governor.clock()
        with governor.lock:
            is_late = self._ended  # another thread was faster
            began = self._began_at
            if began is None and self._error is not None and how in _BY_CODE and not self._is_last and not is_late:
                return None  # the end of an attempt that is noted already
            goes_on = began is not None and error is not None and not is_late and self._may_go_on(how)
            if not is_late:
                self._note_end(token, how, error, now)
                self._ended = not goes_on
                if self.member is not None and began is not None and not self._falls_back:
                    self.member.end(how)
        if is_late:
            self.note_return(token, state, value)
            return state, value, error
        if self._refusal is None:  # else its mailbox asks for those that wait
            governor.let_go()
        if goes_on and error is not None:
            self._error = error
            if self._try_again(token, how, error, began, now) or (how in _ANSWERED and self._fall_back(token, error)):
                return None
            with governor.lock:
                self._ended = True
        elif began is not None:
            self.attempts = (*self.attempts, Attempt(token.attempt, token.queued_at, began, now, error))
        self._clear_alarm()
        return state, value, error

    def _how(self, token: Token[Any], state: TokenState, error: BaseException | None) -> End:
        if state is _COMPLETED:
            return End.COMPLETED
        if state is _FAILED and error is not None:
            place = place_of(token)
            if isinstance(place, ActorPlace) and place.crashes(token, error):
                return End.CRASHED
            return End.LOST if token.affinity == "process" and isinstance(error, _UNKNOWN) else End.FAILED
        if state is not _EXPIRED:
            return End.STOPPED
        if self.left_running:
            return End.LEFT_BEHIND
        return End.TIMED_OUT if self._over is not None and self._over.which == "timeout" else End.EXPIRED

    def _may_go_on(self, how: End) -> bool:
        """Tell whether another attempt or the fallback may follow."""
        if self._is_last or self._falls_back or (self.runs_here and loop_here()):
            return False
        return self.policy.retry is not None or (self.policy.fallback is not None and how in _ANSWERED)

    def _note_end(self, token: Token[Any], how: End, error: BaseException | None, now: float) -> None:
        """Note that the attempt no longer runs, under the lock."""
        governor, began = self.governor, self._began_at
        self._admitted, self._began_at = False, None
        if began is None:
            self._end_permit(None, now)
            governor.throttles.forget_locked(token)
            return
        if governor.has_rules:
            self.seconds = now - began
            breaker = self.policy.breaker or _BAD_BY_DEFAULT
            self.good = is_good(breaker, self.policy.retry, how, error, self.seconds)
            self._end_permit(self.good, now)
        if self.left_running:
            governor.left += 1
        else:
            governor.throttles.end_locked(token)

    def _end_permit(self, good: bool | None, now: float) -> None:
        permit, breaker = self._permit, self._breaker
        self._permit = None
        if permit is not None and breaker is not None:
            breaker.end(permit, good, now)

    def note_return(self, token: Token[Any], state: TokenState = _TERMINATED, value: Any = None) -> None:
        """Note that code has returned that was left behind."""
        if self.member is not None:
            self.member.note_return(state, value)
        governor = self.governor
        with governor.lock:
            if not self.left_running or self._returned:
                return
            self._returned = True
            governor.left -= 1
            governor.throttles.end_locked(token)
        governor.let_go()

    # What follows an attempt

    def _try_again(self, token: Token[Any], how: End, error: BaseException, began: float | None, now: float) -> bool:
        """Queue a token for another attempt, if one follows; it may have ended then."""
        retry, governor = self.policy.retry, self.governor
        delay: float | None = None
        if retry is not None and not self.is_stopped:
            deadline = math.inf if self.times is None else self.times.deadline
            decided = next_attempt(
                retry, token.attempt, how, error,
                idempotent=token._place.properties.idempotent, now=now, deadline=deadline, draw=random.random(),
            )  # fmt: skip
            if not isinstance(decided, str):
                with governor.lock:
                    if governor.share.reserve(now):
                        self._is_retry = self._reserved = True
                        delay = decided
        self.attempts = (*self.attempts, Attempt(token.attempt, token.queued_at, began, now, error, delay))
        return delay is not None and self._queue_again(token, now, delay)

    @property
    def is_stopped(self) -> bool:
        """Whether an operator or its caller has asked the token to end."""
        why = self._token._extras.cancel_requested
        return bool(why) and (self._over is None or why != self._why(self._over))

    def _fall_back(self, token: Token[Any], error: BaseException) -> bool:
        """Queue a token once more, with its fallback as its code; return whether it has one."""
        if self._falls_back or self.is_stopped or not self._use_fallback(token, error):
            return False
        self.reason = self.reason or type(error).__name__
        return self._queue_again(token, self.governor.clock(), 0.0)

    def _use_fallback(self, token: Token[Any], error: BaseException) -> bool:
        """Make the fallback the token's code; return whether it has one."""
        fallback = self.policy.fallback
        if fallback is not None:
            self._falls_back = True
            if token._call is None:  # a message is its only argument
                token._args = (token._args,)
            token._call = partial(fallback, error)
        return fallback is not None

    def _queue_again(self, token: Token[Any], now: float, delay: float) -> bool:
        """Queue a token again; return False if its mailbox has closed for good."""
        extras = token._own_extras()
        self.runs_here = False
        if self._over is not None and extras.cancel_requested == self._why(self._over):
            extras.cancel_requested = ""
        self._over, self._refusal = None, None
        if extras.hold is not None:
            extras.hold.renew()
        if not self._falls_back:
            extras.attempt += 1
        if self._context is not None:
            token._context = self._context.copy()
        token.steps, token.started_at, token.queued_at = 0, None, now + delay
        self._delay = Delay(now + delay)
        self.due_at = self._delay.at if delay else None
        if self.times is not None:
            self.times.enter("queued", now + delay)
            self._set_alarm()
        place = place_of(token)
        if not place.mailbox.put_again(token, self._delay):
            return False
        # Code that ended the token meanwhile, or asked for that, has found it nowhere.
        if self._ended:
            place.mailbox.withdraw(token)
        elif extras.cancel_requested:
            token._cancel(extras.cancel_requested)
        elif extras.hold is not None:
            place.drain.hold_changed(token)
        return True

    def spend(self, cost: float) -> None:
        """Book a cost of the attempt that runs; see `spend`."""
        governor = self.governor
        with governor.lock:
            budget, now = governor.budget_of(self.keys, governor.clock()), governor.clock()
            if budget is not None:
                budget.spend(self._token, cost, now)

    # Times, on the system loop

    def time_is_over(self, now: float) -> None:
        """End the token, or its attempt, or look again later."""
        token, times = self._token, self.times
        if token._done or times is None:
            return
        if token._extras.hold is not None:
            stopped = token._extras.hold.seconds(now)[1]
            times.extend(stopped - self._stopped)
            self._stopped = stopped
        due = times.due()
        if due is None or due.at > now:
            self._set_alarm()
        elif self._began_at is None:
            self._expire_unbegun(token, due, now)
        elif isinstance(token._place, ActorPlace):
            self.left_running = True
            token._settle(_EXPIRED, error=self._expired(token, due))
        else:
            self._over = due
            seconds = grace(due.seconds) if self.governor.grace is None else self.governor.grace
            self.governor.policies.reconciler.end(token, self._why(due), seconds, self.leave_behind)

    def extend(self, seconds: float) -> bool:
        """Have each time end later; return whether the token has times, and none is over."""
        if self.times is None or self._over is not None or self._ended:
            return False
        self.times.extend(seconds)
        self._set_alarm()
        return True

    def _expire_unbegun(self, token: Token[Any], due: Due, now: float) -> None:
        if token._withdraw():
            token._finish(_EXPIRED, error=self._expired(token, due))
        elif not token._done:  # it is on its way: to its mailbox, to another one, or to the code that runs it
            self.governor.policies.deadlines.set(self, now + _SOON)

    def leave_behind(self, _token: Token[Any], _threads: list[str]) -> None:
        """Note that its code could not be ended, and runs on."""
        self.left_running = True

    def _why(self, due: Due) -> str:
        return f"its {due.which} of {due.seconds:g} s is over"

    def _expired(self, token: Token[Any], due: Due) -> TokenExpired:
        on = "; its code could not be ended, and runs on" if self.left_running else ""
        why = f"{token._describe()} was ended: {self._why(due)}{on}"
        return TokenExpired(why, due.which, due.seconds, self.left_running)

    def _set_alarm(self) -> None:
        due = None if self.times is None else self.times.due()
        self.governor.policies.deadlines.set(self, math.inf if due is None else due.at)

    def _clear_alarm(self) -> None:
        if self.alarm_at < math.inf:
            self.governor.policies.deadlines.set(self, math.inf)


_BY_CODE: Final = (End.COMPLETED, End.FAILED, End.CRASHED, End.LOST)
