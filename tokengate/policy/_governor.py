"""What the tokens of a place are held to: its policy, with the states of its rules."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from actors import Token, TokenRejected
from actors.lowlevel import Place, Rule
from tokengate.policy._breaker import BreakerState
from tokengate.policy._budget import BudgetState, estimate_of
from tokengate.policy._governed import Governed
from tokengate.policy._keys import CallKeys, KeyReader
from tokengate.policy._policy import Policy, Throttle
from tokengate.policy._retry import RetryShare
from tokengate.policy._rules import BudgetRule, ThrottleRule
from tokengate.policy._shedding import Shedding
from tokengate.policy._states import States
from tokengate.policy._throttle import ThrottleState

if TYPE_CHECKING:
    from tokengate.policy._policies import Policies

_SHARE_OF_DEADLINE: Final = 1 / 20  # after which tokens are shed, if nothing else is set
_MOST_LEFT_BEHIND: Final = 64  # attempts whose code runs on, before new tokens are refused


class PlaceGovernor:
    """The governor of one place.

    Args:
        policies: those of the gate.
        place: the place.
        policy: what its tokens are held to; an empty one if they only inherit deadlines.
        keys: reads the keys of its calls.

    Attributes:
        left: attempts whose code could not be ended, and runs on.
        grace: seconds that code has to end when its time is over; None: a tenth of the time it had.
    """

    def __init__(self, policies: Policies, place: Place, policy: Policy, keys: CallKeys) -> None:
        self.policies = policies
        self.place = place
        self.throttles = policies.throttles
        self.lock = policies.throttles.lock
        self.clock = policies.clock
        self.let_go = policies.throttles.let_go
        self.left = 0
        self.grace: float | None = None
        self.share = RetryShare()
        self.shedding = Shedding(0.0)
        self._keys = keys
        self._breakers: States[BreakerState] | None = None
        self._throttles: tuple[States[ThrottleRule], ...] = ()
        self._budget: States[BudgetRule] | None = None
        self.policy = policy
        self.set_policy(policy)

    def set_policy(self, policy: Policy) -> None:
        """Hold tokens to another policy."""
        self.policy = policy
        reader = self._keys.reader
        # {rule: what reads its key}, in the order of `Governed.keys`; the last one is that of fair turns.
        self._readers: tuple[tuple[str, KeyReader | None], ...] = (
            ("breaker", policy.breaker and policy.breaker.key and reader("breaker.key", policy.breaker.key)),
            *(("throttle", one.key and reader("throttle.key", one.key)) for one in policy.throttle),
            ("budget", policy.budget and policy.budget.key and reader("budget.key", policy.budget.key)),
            ("fair", policy.fair and reader("fair", policy.fair)),
        )
        self.has_keys = any(read is not None for _, read in self._readers)
        self.shedding.shed = (policy.deadline or 0.0) * _SHARE_OF_DEADLINE
        if policy.breaker is not None:
            self._breakers = States(lambda _key: BreakerState(policy.breaker))
        self._throttles = tuple(States(partial(_throttle_rule, one)) for one in policy.throttle)
        if policy.budget is not None:
            self._budget = States(lambda key: BudgetRule(BudgetState(policy.budget, key), key))
        self.has_rules = bool(
            policy.breaker or policy.throttle or policy.budget or policy.retry or self.shedding.shed or policy.fair
        )
        if self.has_rules:
            self.throttles.has_policies = True
            self.place.mailbox.set_throttles(self.throttles)

    # For places

    def at_door(self, token: Token[Any]) -> None:
        """Hold a token that is about to be sent to the policy.

        Raises:
            TokenRejected: it is refused.
        """
        governed = token._extras.policy
        if governed is None:
            governed = token._own_extras().policy = Governed(token, self)
        if not governed.passed_door:
            governed.pass_door()

    def may_run_here(self, token: Token[Any]) -> bool:
        """Tell whether a direct call may run on its caller's thread."""
        return False

    # For tokens

    def keys_of(self, token: Token[Any]) -> tuple[str | int | None, ...]:
        """Read the keys of a call, on its sender's thread.

        Raises:
            TokenRejected: one cannot be read.
        """
        if not self.has_keys:
            return ()
        try:
            return tuple(
                None if read is None else read(token.args, token.kwargs, token.tags) for _, read in self._readers
            )
        except Exception as error:
            why = f"{token._describe()} was refused: its key could not be read: {type(error).__name__}: {error}"
            raise TokenRejected(why, "key") from error

    def judge_at_door(self, governed: Governed, token: Token[Any], now: float) -> None:
        """Refuse a token at the door, if a rule does.

        Raises:
            TokenRejected: it is refused.
        """
        if self.left >= _MOST_LEFT_BEHIND:
            why = f"the code of {self.left} attempts could not be ended, and runs on"
            raise TokenRejected(f"{token._describe()} was refused: {why}", "overload")
        if self._breakers is not None:
            with self.lock:
                breaker = self._breaker_of(governed, now)
                refused = breaker is not None and breaker.refuses(now)
            if breaker is not None and refused:
                raise self._open(token, breaker, now)

    def judge_at_turn(self, governed: Governed, token: Token[Any], now: float) -> TokenRejected | None:
        """Return why a token is refused at its turn; None if it may begin. Under the lock of the throttles."""
        if not governed.take_retry(now):
            return TokenRejected("the share of retries is used up", "overload")
        waited = now - (token.queued_at or now)
        if self.shedding.shed and self.shedding.judge(token.priority, waited, now):
            why = f"it had waited {waited:.3g} s, and others of its priority have waited long for some time"
            return TokenRejected(f"{token._describe()} was refused at its turn: {why}", "overload")
        breaker = None if self._breakers is None else self._breaker_of(governed, now)
        if breaker is not None and not governed.take_permit(breaker, now):
            return self._open(token, breaker, now)
        return None

    def rules_of(self, governed: Governed, now: float) -> tuple[Rule, ...]:
        """Return the rules of which an attempt of a token needs a grant. Under the lock of the throttles."""
        found: list[Rule] = []
        keys = governed.keys
        for number, (throttle, states) in enumerate(zip(self.policy.throttle, self._throttles, strict=True), 1):
            key = keys[number] if keys else None
            if key is None and throttle.key is not None:
                states.no_key += 1
            else:
                found.append(states.get(key, now))
        return tuple(found)

    def _breaker_of(self, governed: Governed, now: float) -> BreakerState | None:
        states, policy = self._breakers, self.policy.breaker
        key = governed.keys[0] if governed.keys else None
        if states is None or policy is None:
            return None
        if key is None and policy.key is not None:
            states.no_key += 1
            return None
        return states.get(key, now)

    def _open(self, token: Token[Any], breaker: BreakerState, now: float) -> TokenRejected:
        after = breaker.retry_after(now)
        until = "" if after is None else f" for {after:.3g} s more"
        return TokenRejected(f"{token._describe()} was refused: its breaker is open{until}", "breaker", after)


def _throttle_rule(throttle: Throttle, key: str | int | None) -> ThrottleRule:
    return ThrottleRule(ThrottleState(throttle), "code", key)
