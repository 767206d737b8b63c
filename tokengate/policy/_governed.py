"""What one token is held to, and what it uses of that."""

from __future__ import annotations

import math
import random
from contextvars import Context
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from actors import LimitExceeded, Token, TokenRejected, TokenState, WorkerDied
from actors.lowlevel import (
    ActorPlace,
    Drain,
    DurableToken,
    Hold,
    Place,
    Rule,
    any_loop_here,
    await_free,
    note_change,
    place_of,
)
from tokengate.policy._attempt import Attempt, End
from tokengate.policy._breaker import BreakerState, Permit, is_good
from tokengate.policy._consent import WaitingCall
from tokengate.policy._events import TokenRetried
from tokengate.policy._failover import Alternatives, fails_over, refusal_of
from tokengate.policy._place_rules import Keys, PlaceRules
from tokengate.policy._policy import Breaker, Policy
from tokengate.policy._ports import TransactionMember
from tokengate.policy._retry import next_attempt
from tokengate.policy._rules import Delay
from tokengate.policy._throttled import selected_rules
from tokengate.policy._timed import HeldToTimes

if TYPE_CHECKING:
    from tokengate.policy._preemption import Preemption

_COMPLETED, _FAILED, _EXPIRED = TokenState.COMPLETED, TokenState.FAILED, TokenState.EXPIRED
_TERMINATED, _REJECTED = TokenState.TERMINATED, TokenState.REJECTED

_UNKNOWN: Final = (WorkerDied, LimitExceeded)  # errors after which it is unknown what the code did
_ANSWERED: Final = (End.FAILED, End.LOST, End.TIMED_OUT)  # ends for which a fallback answers

_NO_KEYS: Final[Keys] = {}

_SHARE_USED_UP: Final = "the share of retries among the attempts of the operation is used up"

_BAD_BY_DEFAULT: Final = Breaker()  # tells good attempts from bad ones for an adaptive limit without a breaker


class Governed(HeldToTimes):
    """The `policy` among the extras of a token.

    An attempt is counted from `may_begin` to `end`. What several threads may do at once is done under the lock of the
    throttles; `_ended` is set there, once, by the thread whose end of the token counts.

    Attributes:
        options: those of its own; they win over the policy of the code.
        no_retry: whether an operator has said that no further attempt follows.
        due_at: the time before which it does not begin, while it waits for that; else None.
        keys: what it is counted for.
        is_fair, fair_key: whether it takes turns, and by which key; the same as long as it lives, since lines are
            kept by it.
        reason: the rule that decided its end; empty if none did.
        records: of the attempts that have ended, but for the last one of a token that has; see `attempts_of`.
        left_running: whether its code could not be ended, and runs on.
        member: what a transaction keeps of it; None if none does.
        uid: id of the token that runs for it, or that has run for it; 0: none.
        next_place: where an operator wants its next attempt to be; None: where it is.
        alternatives: where it is tried next, if it is refused or its retries are used up; None: nowhere.
        seconds: how long the latest attempt ran.
        good: whether it was good; None: it does not count.
        estimate: what an attempt reserves of its budget.
        awaits_attempt: whether it waits in its mailbox for an attempt that is not its first one.
        is_between: whether observers were told that an attempt has ended, and none has begun since.
        call: what waits at the door for consent; None: nothing does.
        falls_back: whether its code is the fallback.
        preemption: the latest one that an operator or a rule has asked for; None before.
        uncounted: attempts at the alternative that the token is at which do not count for its retries.
    """

    # Defaults of the class: most tokens need few of these, and an assignment for each would cost more than the rest.
    options: Policy | None = None
    _merged: Policy  # the policy with the options
    _merged_for: object = None  # the settings that it was merged for
    no_retry: bool = False
    is_fair: bool = False
    fair_key: str | int | None = None
    due_at: float | None = None
    keys: Keys = _NO_KEYS
    reason: str = ""
    records: tuple[Attempt, ...] = ()
    left_running: bool = False
    uid: int = 0
    member: TransactionMember | None = None
    alternatives: Alternatives | None = None
    next_place: Place | None = None
    passed_door: bool = False
    refusal_at_door: TokenRejected | None = None  # of a direct call, until it is sent
    runs_here: bool = False  # whether the attempt runs on its caller's thread
    seconds: float = 0.0
    estimate: float = 0.0
    awaits_attempt: bool = False
    is_between: bool = False
    good: bool | None = None
    _breaker: BreakerState | None = None
    _permit: Permit | None = None  # while an attempt counts for the breaker
    _admitted: bool = False  # whether an attempt may begin, or runs
    _delay: Delay | None = None  # before an attempt that is not the first one
    _drain: Drain | None = None  # in which the attempt before was
    _error: BaseException | None = None  # that of the attempt before
    _refusal: TokenRejected | None = None  # at its turn
    _judged: int = 0  # number of the attempt that was judged as it was let go
    _is_retry: bool = False  # whether the attempt is a retry
    _reserved: bool = False  # whether that is reserved in the share
    _is_last: bool = False  # whether no further attempt follows, whatever comes
    falls_back: bool = False
    preemption: Preemption | None = None
    uncounted: int = 0
    asks: bool = False  # whether it needs consent, whatever else its place does
    call: WaitingCall | None = None
    _is_counted: bool = False  # whether code of it counts that was left behind
    _context: Context | None = None  # as it was captured; each attempt gets a copy

    def attempts_of(self, token: Token[Any]) -> tuple[Attempt, ...]:
        """Return the records of the attempts that have ended; that of the last one is made here."""
        records, began, ended = self.records, token.started_at, token.finished_at
        if began is None or ended is None or (records and records[-1].started_at == began):
            return records
        return (*records, Attempt(token.attempt, token.queued_at, began, ended, token._error, None, token.operation))

    @property
    def _rules(self) -> Policy:
        """What holds at the next decision: operators may have changed it since the token was made; not the times."""
        governor = self.governor
        if self.options is None:
            return governor.policy
        if self._merged_for is not governor.settings:
            self._merged, self._merged_for = governor.policy_with(self.options), governor.settings
        return self._merged

    @property
    def run(self) -> Token[Any] | None:
        return None

    def leave(self) -> bool:
        return self.call is not None and self.call.leave()

    # At the door

    def enter(self, token: Token[Any]) -> Token[Any] | None:
        """Hold the token to its policy, as it is about to be sent; return the one to put into the mailbox.

        Raises:
            TokenRejected: it is refused.
        """
        if self.refusal_at_door is not None:
            raise self.refusal_at_door
        if not self.passed_door:
            self.pass_door(token)
        return token

    def pass_door(self, token: Token[Any]) -> None:
        """Hold the token to its policy, as it is about to be sent.

        Raises:
            TokenRejected: it is refused.
        """
        policy, governor, refusal = self.policy, self.governor, None
        due = math.inf
        if (
            policy.deadline is not None
            or policy.queue_timeout is not None
            or policy.timeout is not None
            or self.inherited < math.inf
        ):
            due = self._first_due(token, policy)
        if governor.asks_at_door or governor.shared or governor.left or governor.breaker_may_refuse:
            refusal = self._judge_at_door(token, token.created_at)
        self.passed_door = True
        if refusal is not None:
            self.reason = refusal.reason
            if self.alternatives or token.affinity == "process" or not self._use_fallback(token, refusal):
                raise refusal
        if due < math.inf:
            if policy is governor.policy and self.inherited == math.inf and governor.lane.add(self, due):
                self._lane = governor.lane
            else:
                governor.policies.deadlines.set(self, due)

    def read_keys(self, token: Token[Any]) -> None:
        """Read what the rules count the token for, on its sender's thread.

        Raises:
            TokenRejected: that cannot be told.
        """
        governor = self.governor
        if governor.has_keys:
            self.keys = governor.keys_of(token)
            fair = governor.policy.fair
            self.is_fair, self.fair_key = fair is not None, None if fair is None else self.keys.get(fair)
        if governor.policy.budget is not None:
            self.estimate = governor.estimate_of(token)

    def _judge_at_door(self, token: Token[Any], now: float) -> TokenRejected | None:
        """Return why the token is refused at the door of its place; None if it is not.

        Raises:
            TokenRejected: a key of it cannot be read.
        """
        governor = self.governor
        self.read_keys(token)
        return governor.judge_at_door(token, self.keys, now) or governor.pass_throttles(token, self.keys, now)

    # At its turn, under the lock of the throttles

    def rules(self, token: Token[Any], now: float) -> tuple[Rule, ...]:
        """Return the throttles and budgets of which an attempt needs a grant."""
        rules: tuple[Rule, ...] = ()
        if not self.falls_back:
            governor = self.governor
            rules = governor.rules_of(self.keys, now) if governor.keyless is None else governor.keyless
            if governor.shared:
                rules += selected_rules(token, now)
        delay = self._delay
        return rules if delay is None or delay.due_at(token, now) <= now else (delay, *rules)

    def may_begin(self, token: Token[Any], now: float) -> bool:
        """Decide at the token's turn whether it may begin; if not, `refuse` is called without the lock."""
        if self._ended:
            return False
        if not (self._admitted or self.falls_back):
            governor, refusal = self.governor, None
            shed = governor.shedding.shed if self._judged != token.attempt else 0.0
            if self._reserved:
                self._reserved = False
                if not governor.share.begin_retry(now):
                    refusal = self._refused(token, "overload", _SHARE_USED_UP)
            if shed and refusal is None and (governor.shedding.runs or now - (token.queued_at or now) > shed):
                refusal = governor.sheds(token, now)
            if refusal is None and (governor.has_at_once or governor.shared):
                refusal, _ = governor.take_at_once(token, self.keys, now)
            if refusal is None and governor.has_breaker:
                self._breaker = breaker = governor.only_breaker or governor.breaker_of(self.keys, now)
                if breaker is not None:
                    self._permit = breaker.begin(now)
                    refusal = None if self._permit is not None else governor.refused_by(breaker, token, now)
            if refusal is not None:
                self._refusal = refusal
                return False
            if governor.has_retries and self._context is None and token._context is not None:
                self._context = token._context
                token._context = self._context.copy()
        self._admitted = True
        if self.awaits_attempt:
            self.awaits_attempt = False
        return True

    def is_shed(self, token: Token[Any], now: float) -> bool:
        """Decide whether a token that was kept back is refused now, without a grant; then `refuse` is called."""
        if self._ended or self._admitted or self.falls_back:
            return False
        self._refusal = self.governor.sheds(token, now)
        self._judged = token.attempt
        return self._refusal is not None

    def unbegun(self, _token: Token[Any], now: float) -> None:
        """Undo `may_begin`: the attempt has not begun after all."""
        if self._admitted and self._began_at is None:
            self._admitted = False
            self._end_permit(None, now)

    # Tokens that are put off

    @property
    def delay(self) -> Delay | None:
        """What it is put off by."""
        return self._delay

    def put_off_first(self, delay: Delay) -> None:
        """Have its first attempt begin at a time, from which its limits of time count; its sender does not wait."""
        self._delay, self.due_at, self.start, self.inherited = delay, delay.at, delay.at, math.inf

    def come(self) -> None:
        """Have it begin as soon as it may, since its time has come."""
        drain = None if self._delay is None else self._delay.drain
        self._delay, self.due_at = Delay(self.governor.clock(), drain), None

    def free(self) -> None:
        """Give back what the next attempt has of the share of retries, since the token waits long, and on disk."""
        with self.governor.lock:
            self._give_share_back()

    def resume(
        self, token: Token[Any], attempt: int, deadline: float | None = None, begins: Delay | None = None
    ) -> None:
        """Go on with a token that was accepted before, at an attempt.

        Args:
            token: the token, in no mailbox.
            attempt: its number.
            deadline: when its time is over for good, in seconds of the clock; None: as the policy says.
            begins: when the attempt begins; None: as soon as it may.

        Raises:
            TokenRejected: a key of it cannot be read.
        """
        self.passed_door = True
        self.read_keys(token)
        if attempt > 1:
            token._own_extras().attempt = attempt
            with self.governor.lock:
                self._is_retry, self._reserved = True, self.governor.share.reserve(self.governor.clock())
        if deadline is not None and self.policy.deadline is not None:
            self.start = deadline - self.policy.deadline
        elif deadline is not None:
            self.inherited = deadline
        if begins is not None:
            self._delay, self.due_at = begins, begins.at
        times = self.times_of(token)
        if times is not None:
            times.enter("queued", self.governor.clock() if begins is None else begins.at)
            self._set_alarm(token)

    # An attempt

    def refuse(self, token: Token[Any]) -> None:
        """End a token that was refused at its turn, or let its fallback answer."""
        refusal, error = self._refusal, self._error
        if refusal is None or self._ended:
            return
        self._note_refusal(token, refusal)
        last = self._move_on(token, refusal, refusal_of(refusal))
        if last is None:
            return
        if self.governor.events:
            self.governor.publish()
        self._is_last = True
        if not self._fall_back(token, error or last):
            if error is None:
                place_of(token).reject(token, last)
            else:
                token._finish(_FAILED, error=error)

    def begin(self, token: Token[Any], now: float) -> None:
        """Note that an attempt begins."""
        again = self._began_at is not None  # its process has not begun what was sent there
        self._began_at = now
        self.is_between = False
        if self._delay is not None:
            self.due_at = self._delay = None
        if self.member is not None and not (self.falls_back or again):
            self.member.begin()
        policy, governor = self.policy, self.governor
        if self.times is not None:
            self.times.enter("running", now)
        if policy.timeout is not None or policy.queue_timeout is not None:
            self._set_alarm(token)
        if governor.counts_begins and not again:
            if governor.lock.locked():
                await_free(governor.lock)
            with governor.lock:
                now = governor.clock()  # that of a drainer is from before the grant, and a rate would let too many go
                if governor.has_retries and not self._is_retry:
                    governor.share.begin(now)
                governor.throttles.begin(token, now)
            if governor.events:
                governor.publish()

    def end(
        self, token: Token[Any], state: TokenState, value: Any, error: BaseException | None
    ) -> tuple[TokenState, Any, BaseException | None] | None:
        """Note the end of an attempt; return the end of the token, or None if it is queued for another attempt."""
        if self._ended:
            self.note_return(token, state, value)
            return state, value, error
        left = self._left_by != 0 and self._left_by == get_ident()  # on another thread, the code has ended by itself
        preempted = state is _TERMINATED and not left and self.is_to_be_preempted(token)
        if state is _TERMINATED and not preempted:
            if self._over is not None:
                state, error = _EXPIRED, self._expired(token, self._over, left)
            elif (
                self._error is not None
                and not self._was_preempted
                and place_of(token).system.intake_closed
                and not isinstance(token, DurableToken)  # that is left to the next opening
            ):
                state, error, self._is_last = _FAILED, self._error, True  # the gate closes before its next attempt
        how = self._how(token, state, error, left)
        governor = self.governor
        now = governor.clock()
        if governor.lock.locked():
            await_free(governor.lock)
        with governor.lock:
            is_late = self._ended  # another thread was faster
            began = self._began_at
            if began is None and self._error is not None and how in _BY_CODE and not self._is_last and not is_late:
                return None  # the end of an attempt that is noted already
            goes_on = not (error is None or is_late or left) and (
                preempted or (began is not None and self._may_go_on(how))
            )
            if not is_late:
                self.left_running = left
                self._note_end(token, how, error, now)
                self._ended = not goes_on
                if self.member is not None and began is not None and not self.falls_back:
                    self.member.end(how)
        if is_late:
            self.note_return(token, state, value)
            return state, value, error
        if self._refusal is None:  # else its mailbox asks for those that wait
            governor.let_go()
        if governor.events:
            governor.publish()
        if goes_on and error is not None:
            self._error, self._drain = error, place_of(token).drain
            if preempted:
                follows = self._run_anew(token, error, began, now)
            else:
                follows = self._try_again(token, how, error, began, now) or self._fail_over(token, how, error)
                follows = follows or (how in _ANSWERED and self._fall_back(token, error))
            if follows:
                return None
            with governor.lock:
                self._ended = True
        elif began is None and self._drain is not None:
            # An attempt that was over was left behind, and the next one may be queued.
            place_of(token).mailbox.withdraw(token)
        self.alarm_at = math.inf
        if self._lane is not None:
            self._lane.discard(self.id, None)
        return state, value, error

    def _how(self, token: Token[Any], state: TokenState, error: BaseException | None, left: bool) -> End:
        if state is _COMPLETED:
            return End.COMPLETED
        if state is _FAILED and error is not None:
            place = place_of(token)
            if isinstance(place, ActorPlace) and place.crashes(token, error):
                return End.CRASHED
            return End.LOST if token.affinity == "process" and isinstance(error, _UNKNOWN) else End.FAILED
        if state is not _EXPIRED:
            return End.STOPPED
        if left:
            return End.LEFT_BEHIND
        return End.TIMED_OUT if self._over is not None and self._over.which == "timeout" else End.EXPIRED

    def _may_go_on(self, how: End) -> bool:
        """Tell whether another attempt or the fallback may follow."""
        if self._is_last or self.falls_back:
            return False
        if self.runs_here and any_loop_here():
            return False  # its caller is to hold up no loop
        policy = self._rules
        if policy.retry is not None or self.alternatives:
            return True
        return policy.fallback is not None and how in _ANSWERED

    def _note_end(self, token: Token[Any], how: End, error: BaseException | None, now: float) -> None:
        """Note that the attempt no longer runs, under the lock."""
        governor, began = self.governor, self._began_at
        self._admitted, self._began_at = False, None
        if began is None:
            self._give_share_back()
            self._end_permit(None, now)
            governor.throttles.forget_locked(token)
            return
        if governor.judges_ends:
            self.seconds = now - began
            policy = self._rules
            self.good = is_good(policy.breaker or _BAD_BY_DEFAULT, policy.retry, how, error, self.seconds)
            self._end_permit(self.good, now)
        if self.left_running:
            self._is_counted = True
            governor.left += 1
        elif governor.has_grants:
            governor.throttles.end_locked(token)

    def _give_share_back(self) -> None:
        """Give back what the next attempt has of the share of retries, since it will not begin; under the lock."""
        if self._reserved:
            self._reserved = False
            self.governor.share.give_back()

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
            if not self._is_counted:
                return
            self._is_counted = False
            governor.left -= 1
            governor.throttles.end_locked(token)
        governor.let_go()

    # What follows an attempt

    def _try_again(self, token: Token[Any], how: End, error: BaseException, began: float | None, now: float) -> bool:
        """Queue a token for another attempt, if one follows; it may have ended then."""
        retry, governor = self._rules.retry, self.governor
        delay: float | None = None
        if retry is not None and not self._is_stopped(token) and not self.no_retry:
            deadline = math.inf if self.deadline is None else self.deadline
            decided = next_attempt(
                retry, self._number(token), how, error,
                idempotent=governor.may_run_twice(token), now=now, deadline=deadline, draw=random.random(),
            )  # fmt: skip
            if not isinstance(decided, str):
                with governor.lock:
                    if not self._ended and governor.share.reserve(now):  # one that has ended would not give it back
                        self._is_retry = self._reserved = True
                        delay = decided
        self._record(token, began, now, error, delay)
        if delay is not None:
            what = TokenRetried(governor.name, token.id, token.attempt, delay, type(error).__name__)
            governor.policies.publish(what)
        if delay is None:
            return False
        self._tell_retried(token, error, "retry")
        self._go_to_next_place(token)
        return self._queue_again(token, now, delay)

    def _go_to_next_place(self, token: Token[Any]) -> None:
        """Have the token, which is in no mailbox, belong to the place where an operator wants its next attempt."""
        place = self.next_place
        if place is not None:
            token._place = place
            self.follow(token, place)
            note_change(token)

    def _record(
        self,
        token: Token[Any],
        began: float | None,
        now: float,
        error: BaseException | None,
        delay: float | None = None,
    ) -> None:
        record = Attempt(token.attempt, token.queued_at, began, now, error, delay, token.operation)
        self.records = (*self.records, record)

    def _is_stopped(self, token: Token[Any]) -> bool:
        """Tell whether an operator or its caller has asked the token to end."""
        why = token._extras.cancel_requested
        return bool(why) and not self._is_for_attempt(why)

    def _is_for_attempt(self, why: str) -> bool:
        """Tell whether a request to end is for the attempt only: its time is over, or it is preempted."""
        if self._over is not None and why == self._why(self._over):
            return True
        return self.preemption is not None and why is self.preemption.why

    # Preemption

    def is_to_be_preempted(self, token: Token[Any]) -> bool:
        """Tell whether an attempt that was stopped was to end for another one."""
        preemption = self.preemption
        return preemption is not None and token._extras.cancel_requested is preemption.why and not self._is_last

    @property
    def _was_preempted(self) -> bool:
        """Whether the attempt before was."""
        return self.preemption is not None and self._error is not None and self._error is self.preemption.error

    def _run_anew(self, token: Token[Any], error: BaseException, began: float | None, now: float) -> bool:
        """Queue a token whose attempt was preempted; return False if no mailbox takes it."""
        preemption = self.preemption
        assert preemption is not None
        preemption.error = error
        token._own_extras().preempted, self._is_retry = True, False
        self.uncounted += 1
        self._record(token, began, now, error, 0.0)
        self._tell_retried(token, error, "preempt")
        if self.next_place is not None and self.next_place.mailbox.closed:  # it has stopped meanwhile
            self.next_place = None
        self._go_to_next_place(token)
        preemption.prepare(token)
        return self._queue_again(token, now, 0.0)

    def give_up_preemption(self, token: Token[Any]) -> None:
        """Forget a preemption: the attempt has ended, or ends, for another reason."""
        preemption = self.preemption
        if preemption is not None:
            token._own_extras().forget_request(preemption.why)
            preemption.end()

    # Alternatives

    def _number(self, token: Token[Any]) -> int:
        """Return the number of the latest attempt among those at the alternative that the token is at."""
        elsewhere = 0 if self.alternatives is None else self.alternatives.attempts_before
        return token.attempt - elsewhere - self.uncounted

    def elsewhere(self, token: Token[Any], refusal: BaseException) -> Place | None:
        """Have the token, which was refused at the door, belong to its next alternative; return the place of that."""
        if isinstance(refusal, TokenRejected):
            self.reason = refusal.reason
        if self.alternatives is not None:
            self._note_refusal(token, refusal)
        if not refusal_of(refusal):
            return None
        if self.alternatives:
            self._switch(token, self.alternatives)
        elif token.affinity == "process" and self._use_fallback(token, refusal):
            self.refusal_at_door = None
            self._set_alarm(token)
        else:
            return None
        return place_of(token)

    def _fail_over(self, token: Token[Any], how: End, error: BaseException) -> bool:
        """Queue a token at its next alternative, after its last attempt where it was; return whether one accepts it."""
        if self._is_stopped(token) or not fails_over(self._rules.retry, how, error, self.governor.may_run_twice(token)):
            return False
        return self._move_on(token, error, type(error).__name__) is None

    def _move_on(self, token: Token[Any], error: BaseException, reason: str) -> BaseException | None:
        """Queue a token at its next alternative that accepts it.

        Args:
            token: the token.
            error: what it was refused or has failed with.
            reason: why it leaves; empty if that is no reason to.

        Returns:
            None; or, if there is none, what it was refused with last.
        """
        while reason and self.alternatives and not self.alternatives.at_door_only:
            now, self.reason = self.governor.clock(), reason
            self._tell_retried(token, error, "failover")
            self._switch(token, self.alternatives)
            refusal: TokenRejected | None
            try:
                refusal = self._judge_at_door(token, now)
            except TokenRejected as unreadable:
                refusal = unreadable
            if refusal is None:
                if self._queue_again(token, now, 0.0, comes=True):
                    return None
                refusal = self._refused(token, "overload", "its mailbox is full, or has closed")
            self._note_refusal(token, refusal)
            error, reason = refusal, refusal_of(refusal)
        return error

    def _note_refusal(self, token: Token[Any], refusal: BaseException) -> None:
        """Note that an attempt was refused; the error of the one before tells that, too."""
        self.reason = refusal.reason if isinstance(refusal, TokenRejected) else refusal_of(refusal)
        if self._error is not None:
            BaseException.add_note(self._error, f"Attempt {token.attempt} was refused: {refusal}")
        if self.alternatives is not None:
            refusal.__traceback__ = None  # it would hold the sender's frames
            self._record(token, None, self.governor.clock(), refusal)
            with self.governor.lock:
                self.governor.throttles.forget_locked(token)  # it gives back what it was given at the door
            self.governor.let_go()

    def _switch(self, token: Token[Any], alternatives: Alternatives) -> None:
        """Have a token, which is in no mailbox, belong to its next alternative."""
        times = self.times_of(token)
        chosen, policy = alternatives.next(token.attempt)
        with self.governor.lock:
            self._give_share_back()
            self.governor, self.policy = chosen.rules, policy
            self.options, self._merged_for = chosen.own, None
            self._breaker = self._refusal = self.refusal_at_door = None
            self._is_retry = self.passed_door = self.is_fair = False
            self.keys, self.fair_key, self.estimate = _NO_KEYS, None, 0.0
        token._place, token.operation, token._call = chosen.rules.place, chosen.operation, chosen.call
        token._own_extras().attempt += 1
        self.uncounted = 0
        if self.member is not None:
            self.member.move(chosen.rules.place)
        if times is not None:
            times.set_policy(policy)

    def _fall_back(self, token: Token[Any], error: BaseException) -> bool:
        """Queue a token once more, with its fallback as its code; return whether it has one."""
        if self.falls_back or self._is_stopped(token) or not self._use_fallback(token, error):
            return False
        self.reason = self.reason or type(error).__name__
        self._tell_retried(token, error, "fallback")
        return self._queue_again(token, self.governor.clock(), 0.0)

    def _tell_retried(self, token: Token[Any], error: BaseException, reason: str) -> None:
        """Tell observers, once, that an attempt has ended that another one is to follow."""
        if not self.is_between:
            self.is_between = True
            system = place_of(token).system
            system.tell(system.on_token_retried, token, error, reason)

    def _use_fallback(self, token: Token[Any], error: BaseException) -> bool:
        """Make the fallback the token's code; return whether it has one."""
        fallback = self._rules.fallback
        if fallback is not None:
            self.falls_back = True
            with self.governor.lock:
                self._give_share_back()
            if token._call is None:  # a message is its only argument
                token._args = (token._args,)
            token._call = partial(fallback, error)
            if token.affinity == "process":  # where only the operation's own function is known
                token._place = self.governor.policies.beside(place_of(token))
        return fallback is not None

    def _queue_again(self, token: Token[Any], now: float, delay: float, *, comes: bool = False) -> bool:
        """Queue a token again; return False if its mailbox has closed for good, or refuses one that comes there."""
        extras = token._own_extras()
        self.runs_here = False
        if self._is_for_attempt(why := extras.cancel_requested):
            extras.forget_request(why)
        self._over, self._refusal, self._left_by = None, None, 0
        if extras.hold is not None:
            extras.hold.renew()
        if not self.falls_back and not comes:
            extras.attempt += 1
        if self._context is not None:
            token._context = self._context.copy()
        elif token._context is not None and self._was_preempted:  # what has run in it may still be about to leave it
            token._context = token._context.copy()
        before = token.steps, token.started_at, token.queued_at
        self.awaits_attempt = True  # first: whoever sees that it has not started sees this, too
        token.steps, token.started_at, token.queued_at = 0, None, now + delay
        self._delay = Delay(now + delay, self._drain)
        self.due_at = self._delay.at if delay else None
        times = self.times_of(token)
        if times is not None:
            times.enter("queued", now + delay)
            self._set_alarm(token)
        place = place_of(token)
        if not place.mailbox.put_again(token, self._delay, comes=comes):
            token.steps, token.started_at, token.queued_at = before
            with self.governor.lock:
                self._give_share_back()
            self.awaits_attempt = False
            return False
        if self.preemption is not None:
            self.preemption.end()
        # Code that ended the token meanwhile, or asked for that, has found it nowhere.
        if self._ended:
            place.mailbox.withdraw(token)
        elif extras.cancel_requested:
            token._cancel(extras.cancel_requested)
        elif extras.hold is not None:
            self._hold_again(token, extras.hold, place)
        return True

    @staticmethod
    def _hold_again(token: Token[Any], hold: Hold, place: Place) -> None:
        """Hold a queued token that is paused, before the drain of its last attempt has let go of it: none begins."""
        if hold.word and not hold.stepping and place.mailbox.hold(token):
            hold.note_step()
            if not hold.word:  # it was resumed just now
                place.mailbox.release(token)
        place.drain.hold_changed(token)

    def follow(self, token: Token[Any], place: Place) -> None:
        """Hold the token, which is in no mailbox, to the rules of another place from its next decision on.

        Its times stay. No code of users is run, so what the rules know by functions only is not known.
        """
        self.times_of(token)
        governor: PlaceRules = self.governor.policies.governor_of(place)
        governor.engage()  # a delay goes on there
        keys, budget, fair = self.plain_keys(token, governor), governor.policy.budget, governor.policy.fair
        with governor.lock:
            reserves, self.next_place = self._reserved, None
            self._give_share_back()
            governor.throttles.forget_locked(token)
            self.governor, self._merged_for, self._breaker = governor, None, None
            self._reserved = reserves and governor.share.reserve(governor.clock())
            self.keys, self.is_fair, self.fair_key = keys, fair is not None, None if fair is None else keys.get(fair)
            self.estimate = 0.0 if budget is None or callable(budget.estimate) else budget.estimate
        if self.member is not None:
            self.member.move(place)

    def plain_keys(self, token: Token[Any], governor: PlaceRules) -> Keys:
        """Return its keys for the rules of a place, as far as they are known without code of users."""
        return governor.plain_keys(token)

    def spend(self, token: Token[Any], cost: float) -> None:
        """Book a cost of the attempt that runs; see `spend`."""
        governor = self.governor
        with governor.lock:
            budget, now = governor.budget_of(self.keys, governor.clock()), governor.clock()
            if budget is not None:
                budget.spend(token, cost, now)

    # For operators, on the system loop

    def go_on_at(self, place: Place) -> bool:
        """Have the next attempt of a token that runs be at another place; return whether there may be one."""
        is_preempted = self.preemption is not None and not self.preemption.is_over
        follows = (self._rules.retry is not None or is_preempted) and not (self._is_last or self._ended)
        self.next_place = place if follows else None
        return follows

    def retry_now(self, token: Token[Any]) -> bool:
        """Have the next attempt begin as soon as it may, if its time has not come; return whether that is so."""
        governor = self.governor
        with governor.lock:
            delay, now = self._delay, governor.clock()
            if delay is None or delay.at <= now or self._error is None or self._began_at is not None or self._ended:
                return False
            delay.at, self.due_at, token.queued_at = now, None, now
            if self.times is not None:
                self.times.enter("queued", now)
            governor.throttles.changed_locked(delay)
        self._set_alarm(token)
        governor.let_go()
        return True

    def stop_retries(self, token: Token[Any]) -> bool:
        """Have no further attempt follow; return whether one waited to begin, which ends the token."""
        error, mailbox = self._error, place_of(token).mailbox
        self.no_retry = True
        if error is None or self._began_at is not None or self._ended or self._was_preempted:
            return False
        mailbox.release(token)  # if it is paused
        if not mailbox.withdraw(token):
            return False
        self._is_last = True
        if not self._fall_back(token, error):
            token._finish(_FAILED, error=error)
        return True


_BY_CODE: Final = (End.COMPLETED, End.FAILED, End.CRASHED, End.LOST)
