"""What the tokens of a place are held to: its policy, with the states of its rules."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from actors import Token, TokenRejected
from actors.lowlevel import ActorPlace, Place, Rule
from tokengate._exceptions import BadPolicy
from tokengate.policy._batch_rule import BatchRule
from tokengate.policy._breaker import BreakerState
from tokengate.policy._budget import estimate_of
from tokengate.policy._keys import CallKeys, KeyReader
from tokengate.policy._over import pass_exceeded, take_at_once
from tokengate.policy._policy import Breaker, Policy, Throttle, parts_of
from tokengate.policy._ports import GatePolicies
from tokengate.policy._retry import RetryShare
from tokengate.policy._rules import BudgetRule, ThrottleRule
from tokengate.policy._selected import SelectedThrottle, ThrottleIndex
from tokengate.policy._shedding import Shedding
from tokengate.policy._states import States
from tokengate.policy._throttle import ThrottleState
from tokengate.policy._values import Key

S = TypeVar("S", BreakerState, ThrottleRule, BudgetRule)

Keys: TypeAlias = tuple[str | int | None, ...]
"""Keys of a call: of the breaker, of each throttle, of the batch, of the budget, of fair turns; empty without keys."""

_NO_POLICY: Final = Policy()

_TIMES: Final = ("queue_timeout", "timeout", "deadline")

_SHARE_OF_DEADLINE: Final = 1 / 20  # after which tokens are shed, if nothing else is set
_MOST_LEFT_BEHIND: Final = 64  # attempts whose code runs on, before new tokens are refused


class PlaceRules:
    """The rules of one place, and their states.

    Args:
        policies: those of the gate.
        place: the place.
        policy: what its tokens are held to; an empty one if they only inherit deadlines.
        called: returns the function or method that a token calls, for the names of keys.

    Attributes:
        left: attempts whose code could not be ended, and runs on.
        grace: seconds that code has to end when its time is over; None: a tenth of the time it had.
    """

    def __init__(
        self,
        policies: GatePolicies,
        place: Place,
        policy: Policy,
        called: Callable[[Token[Any]], Callable[..., object]],
    ) -> None:
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
        self._called = called
        self._breakers: States[BreakerState] | None = None
        self._throttles: tuple[States[ThrottleRule], ...] = ()
        self._budget: States[BudgetRule] | None = None
        self.shared: tuple[ThrottleIndex, ...] = ()  # where the throttles are that have selectors
        self.own_index = ThrottleIndex(of_actor=isinstance(place, ActorPlace))
        self._by_name: dict[tuple[str, str], KeyReader] = {}  # {operation and name: what reads its value}
        self.needs_rules = self.has_rules = False
        self.policy = policy
        self.set_policy(policy)

    def set_policy(self, policy: Policy) -> None:
        """Hold tokens to another policy."""
        self.policy = policy
        # The keys of the rules, in the order of `Keys`.
        self._keys = (
            ("breaker.key", None if policy.breaker is None else policy.breaker.key),
            *(("throttle.key", one.key) for one in policy.throttle),
            ("batch.by", None if policy.batch is None else policy.batch.by),
            ("budget.key", None if policy.budget is None else policy.budget.key),
            ("fair", policy.fair),
        )
        self.has_keys = any(key is not None for _, key in self._keys)
        self._readers: dict[str, tuple[KeyReader | None, ...]] = {}  # {operation: what reads the keys of its calls}
        self.shedding.shed = (policy.deadline or 0.0) * _SHARE_OF_DEADLINE
        if policy.breaker is not None:
            self._breakers = States(partial(_breaker_state, policy.breaker))
        make_rule = _throttle_rule if policy.batch is None else _batch_rule
        self._throttles = tuple(States(partial(make_rule, *one)) for one in enumerate(policy.throttle, 1))
        self._budget = None if policy.budget is None else self.policies.budget(policy.budget)
        self.is_empty = policy == _NO_POLICY
        self.needs_rules = bool(self.shedding.shed) or any(name not in _TIMES for name in parts_of(policy))
        self.hold_to(self.shared)
        self.has_at_once = any(one.over != "wait" for one in policy.throttle)
        self.place.mailbox.set_fair(policy.fair is not None)

    def engage(self) -> None:
        """Have the throttles asked about each token at its turn, from now on."""
        self.needs_rules = True
        self.hold_to(self.shared)

    def hold_to(self, indexes: tuple[ThrottleIndex, ...]) -> None:
        """Have tokens held to the throttles in some indexes, too; the lock is not held."""
        self.shared = indexes
        before, self.has_rules = self.has_rules, self.needs_rules or bool(indexes)
        if self.has_rules is not before:
            self.throttles.has_policies |= self.has_rules
            self.place.mailbox.set_throttles(self.throttles if self.has_rules else None)

    @property
    def is_idle(self) -> bool:
        """Whether nothing holds tokens here, so that the place needs no governor."""
        return self.is_empty and not (self.has_rules or self.left)

    # For tokens

    def keys_of(self, token: Token[Any]) -> Keys:
        """Read the keys of a call, on its sender's thread.

        Raises:
            TokenRejected: one cannot be read.
        """
        if not self.has_keys:
            return ()
        args, kwargs, tags = token.args, token.kwargs, token.tags
        try:
            readers = self._readers.get(token.operation) or self._make_readers(token)
            return tuple(None if read is None else read(args, kwargs, tags) for read in readers)
        except Exception as error:
            raise unreadable(token, "a key of its policy", error) from error

    def _make_readers(self, token: Token[Any]) -> tuple[KeyReader | None, ...]:
        method = isinstance(self.place, ActorPlace)
        reader = CallKeys(token.operation, self._called(token), is_method=method).reader
        readers = tuple(None if key is None else reader(rule, key) for rule, key in self._keys)
        self._readers[token.operation] = readers
        return readers

    def estimate_of(self, token: Token[Any]) -> float:
        """Return what an attempt of a call reserves of the budget, on its sender's thread.

        Raises:
            TokenRejected: it cannot be told.
        """
        budget = self.policy.budget
        try:
            return 0.0 if budget is None else estimate_of(token.operation, budget, token.args, token.kwargs)
        except Exception as error:
            raise unreadable(token, "what it reserves of its budget", error) from error

    def judge_at_door(self, token: Token[Any], keys: Keys, now: float) -> TokenRejected | None:
        """Return why a token is refused at the door; None if no rule refuses it."""
        if self.left >= _MOST_LEFT_BEHIND:
            why = f"the code of {self.left} attempts could not be ended, and runs on"
            return TokenRejected(f"{token._describe()} was refused: {why}", "overload")
        if self._breakers is not None:
            with self.lock:
                breaker = self.breaker_of(keys, now)
                if breaker is not None and breaker.refuses(now):
                    return self.refused_by(breaker, token, now)
        return None

    def pass_throttles(self, token: Token[Any], keys: Keys, now: float) -> TokenRejected | None:
        """Give a token, at the door, the grants for which none waits; return why it is refused, if it is."""
        if not (self.has_at_once or (self.shared and self.policies.has_shared_at_once)):
            return None
        with self.lock:
            refusal, exceeded = self.take_at_once(token, keys, now)
            events = pass_exceeded(token, self.place.path, exceeded, now)
        for event in events:
            self.policies.publish(event)
        return refusal

    # Under the lock of the throttles

    def take_at_once(
        self, token: Token[Any], keys: Keys, now: float
    ) -> tuple[TokenRejected | None, list[ThrottleRule]]:
        """Do so; return also the throttles that it exceeds."""
        rules = (*self._throttles_of(keys, now), *(self.shared_rules(token, now) if self.shared else ()))
        rules = tuple(rule for rule in rules if rule.at_once)
        return take_at_once(self.throttles, token, rules, now)

    def sheds(self, token: Token[Any], now: float) -> TokenRejected | None:
        """Return why a token is shed at its turn; None if it is not."""
        waited = now - (token.queued_at or now)
        policy = token._extras.policy
        key = None if policy is None else policy.fair_key
        if not self.shedding.shed or not self.shedding.judge(token.priority, waited, now, key):
            return None
        why = f"it had waited {waited:.3g} s, and others of its priority have waited long for some time"
        return TokenRejected(f"{token._describe()} was refused at its turn: {why}", "overload")

    def breaker_of(self, keys: Keys, now: float) -> BreakerState | None:
        """Return the breaker of a token, by its keys; None if it is not held to one."""
        states, policy = self._breakers, self.policy.breaker
        if states is None or policy is None:
            return None
        return _state(states, policy.key is not None, keys[0] if keys else None, now)

    def rules_of(self, keys: Keys, now: float) -> tuple[Rule, ...]:
        """Return the throttles and budgets for whose grants an attempt of a token waits, by its keys."""
        found: list[Rule] = [rule for rule in self._throttles_of(keys, now) if not rule.at_once]
        budget = self.budget_of(keys, now)
        return tuple(found) if budget is None else (*found, budget)

    def shared_for(self, token: Token[Any]) -> list[SelectedThrottle]:
        """Return the throttles with selectors that are for a token."""
        found: list[SelectedThrottle] = []
        for index in self.shared:
            found += index.find(token)
        return found

    def shared_rules(self, token: Token[Any], now: float) -> tuple[ThrottleRule, ...]:
        """Return the throttles with selectors that hold a token."""
        rules = [throttle.rule_of(token, self, now) for throttle in self.shared_for(token)]
        return tuple(rule for rule in rules if rule is not None)

    def value_of(self, token: Token[Any], name: Key) -> str | int | None:
        """Return the value of a tag or parameter of a token, if it can be a key; no code of users is run."""
        if callable(name):
            return None
        read = self._by_name.get((token.operation, name))
        if read is None:
            keys = CallKeys(token.operation, self._called(token), is_method=isinstance(self.place, ActorPlace))
            read = self._by_name[token.operation, name] = keys.reader("throttle.key", name)
        try:
            return read(token.args, token.kwargs, token.tags)
        except BadPolicy:
            return None

    def _throttles_of(self, keys: Keys, now: float) -> list[ThrottleRule]:
        found = []
        for number, (throttle, states) in enumerate(zip(self.policy.throttle, self._throttles, strict=True), 1):
            rule = _state(states, throttle.key is not None, keys[number] if keys else None, now)
            if rule is not None:
                found.append(rule)
        return found

    def budget_of(self, keys: Keys, now: float) -> BudgetRule | None:
        """Return what a token may spend, by its keys; None if it is held to no budget."""
        budget, states = self.policy.budget, self._budget
        if budget is None or states is None:
            return None
        return _state(states, budget.key is not None, keys[-2] if keys else None, now)

    def throttles_of_policy(self) -> list[tuple[Throttle, list[ThrottleRule]]]:
        """Return the throttles of the policy, each with its states by key."""
        pairs = zip(self.policy.throttle, self._throttles, strict=True)
        return [(throttle, [rule for _, rule in states.items()]) for throttle, states in pairs]

    def refused_by(self, breaker: BreakerState, token: Token[Any], now: float) -> TokenRejected:
        """Return the error of a token that a breaker refuses."""
        after = breaker.retry_after(now)
        until = "" if after is None else f" for {after:.3g} s more"
        return TokenRejected(f"{token._describe()} was refused: its breaker is open{until}", "breaker", after)


def _state(states: States[S], has_keys: bool, key: str | int | None, now: float) -> S | None:
    """Return the state of a key, or None for a token without the key of a rule that has keys."""
    if key is None and has_keys:
        states.no_key += 1
        return None
    return states.get(key, now)


def unreadable(token: Token[Any], what: str, error: Exception) -> TokenRejected:
    why = f"{what} could not be told: {type(error).__name__}: {error}"
    return TokenRejected(f"{token._describe()} was refused: {why}", "key")


def _throttle_rule(_number: int, throttle: Throttle, key: str | int | None) -> ThrottleRule:
    return ThrottleRule(ThrottleState(throttle), key)


def _batch_rule(number: int, throttle: Throttle, key: str | int | None) -> ThrottleRule:
    return BatchRule(ThrottleState(throttle), key, number)


def _breaker_state(breaker: Breaker, _key: str | int | None) -> BreakerState:
    return BreakerState(breaker)
