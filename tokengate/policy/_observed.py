"""What the rules of a place would do to one token, if they did not only count."""

from __future__ import annotations

import math
import random
from typing import Any

from actors import BudgetExceeded, Token, TokenRejected, TokenState
from actors.lowlevel import Rule
from tokengate.policy._attempt import End
from tokengate.policy._breaker import BreakerState, Permit, is_good
from tokengate.policy._flags import Flag
from tokengate.policy._place_rules import Keys, PlaceRules
from tokengate.policy._policy import Breaker
from tokengate.policy._ports import TransactionMember
from tokengate.policy._retry import next_attempt
from tokengate.policy._rules import BudgetRule
from tokengate.policy._throttled import ENDS, Throttled


class Observed(Throttled):
    """The `policy` among the extras of a token whose flag observes: the rules of its policy neither refuse nor end it.

    Args:
        token: the token.
        rules: those of its place that only count, with levels of their own.
        flag: counts what they would do.
        member: what a transaction keeps of it; None if none does.
    """

    __slots__ = ("_breaker", "_flag", "_granted", "_keys", "_member", "_permit", "_rules", "estimate", "policy")

    def __init__(
        self, token: Token[Any], rules: PlaceRules, flag: Flag, member: TransactionMember | None = None
    ) -> None:
        super().__init__()
        self._rules, self._flag, self._member = rules, flag, member
        self.policy = rules.policy
        self.estimate = 0.0
        self._breaker: BreakerState | None = None
        self._permit: Permit | None = None
        self._granted: tuple[Rule, ...] = ()
        self._keys: Keys = {}
        try:
            self._keys = rules.keys_of(token)
            self.estimate = rules.estimate_of(token)
        except TokenRejected as refusal:
            self._count(refusal.reason)

    def _count(self, rule: str) -> None:
        self._flag.would[rule] += 1

    def take_member(self) -> TransactionMember | None:
        """Return what a transaction keeps of the token, which something else tells of its ends from now on."""
        member, self._member = self._member, None
        return member

    def note_return(self, token: Token[Any], state: TokenState, value: Any) -> None:
        """Tell the transaction: what it uses ended with it."""
        super().note_return(token, state, value)
        if self._member is not None:
            self._member.note_return(state, value)

    def spend(self, token: Token[Any], cost: float) -> None:
        """Book a cost; count it if it is beyond the limit."""
        rules = self._rules
        with rules.lock:
            now = rules.clock()
            budget = rules.budget_of(self._keys, now)
            try:
                if budget is not None:
                    budget.spend(token, cost, now)
            except BudgetExceeded:
                self._count("budget")

    def begin(self, token: Token[Any], now: float) -> None:
        """Count what would have kept it from beginning; it uses what it would have used."""
        super().begin(token, now)
        rules, limit = self._rules, self.policy.queue_timeout
        if self._member is not None:
            self._member.begin()
        if now - token.created_at > (math.inf if limit is None else limit):
            self._count("queue_timeout")
        with rules.lock:
            if rules.sheds(token, now) is not None:
                self._count("overload")
            self._breaker = rules.breaker_of(self._keys, now)
            if self._breaker is not None:
                self._permit = self._breaker.begin(now)
                if self._permit is None:
                    self._count("breaker")
            budget = rules.budget_of(self._keys, now)
            self._granted = (*rules.throttles_of(self._keys, now), *(() if budget is None else (budget,)))
            for rule in self._granted:
                if rule.due_at(token, now) > now:
                    self._count("budget" if isinstance(rule, BudgetRule) else "throttle")
                rule.grant(token, now)
                rule.begin(token, now)
            rules.share.begin(now)
            rules.events.clear()  # of levels that only count

    def end(
        self, token: Token[Any], state: TokenState, value: Any, error: BaseException | None
    ) -> tuple[TokenState, Any, BaseException | None]:
        """Count what would have ended it, and whether another attempt would have followed."""
        super().end(token, state, value, error)
        rules, policy, began = self._rules, self.policy, self._began_at
        how = ENDS.get(state, End.STOPPED)
        with rules.lock:
            granted, self._granted = self._granted, ()
            permit, self._permit = self._permit, None
            now = rules.clock()
            if self._member is not None and began is not None:
                self._member.end(how)
            self.good = is_good(policy.breaker or Breaker(), policy.retry, how, error, self.seconds)
            for rule in granted:
                rule.end(token, now)
            if permit is not None and self._breaker is not None:
                self._breaker.end(permit, self.good, now)
            rules.events.clear()
        if began is not None:
            self._count_end(token, how, error, now)
        return state, value, error

    def _count_end(self, token: Token[Any], how: End, error: BaseException | None, now: float) -> None:
        rules, policy = self._rules, self.policy
        if self.seconds > (math.inf if policy.timeout is None else policy.timeout):
            self._count("timeout")
        if now - token.created_at > (math.inf if policy.deadline is None else policy.deadline):
            self._count("deadline")
        if policy.retry is None or error is None:
            return
        deadline = math.inf if policy.deadline is None else token.created_at + policy.deadline
        decided = next_attempt(
            policy.retry, 1, how, error,
            idempotent=rules.may_run_twice(token), now=now, deadline=deadline, draw=random.random(),
        )  # fmt: skip
        if not isinstance(decided, str):
            with rules.lock:
                if rules.share.reserve(now) and rules.share.begin_retry(now):
                    self._count("retry")
