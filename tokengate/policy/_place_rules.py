"""What the tokens of a place are held to: its policy, with the states of its rules."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast

from actors import Token, TokenRejected
from actors.lowlevel import ActorPlace, Place, Rule
from tokengate._exceptions import BadPolicy
from tokengate.policy._batch_rule import BatchRule
from tokengate.policy._breaker import BreakerState
from tokengate.policy._budget import BudgetState, estimate_of
from tokengate.policy._deadlines import Lane
from tokengate.policy._events import BreakerChanged, OverloadChanged, PolicyEvent
from tokengate.policy._flags import Call
from tokengate.policy._keys import CallKeys, KeyReader
from tokengate.policy._over import pass_exceeded, take_at_once
from tokengate.policy._policy import Breaker, Budget, Policy, Throttle, parts_of, with_parts
from tokengate.policy._ports import GatePolicies
from tokengate.policy._retry import SHARE, RetryShare
from tokengate.policy._rules import BudgetRule, ThrottleRule
from tokengate.policy._selected import SelectedThrottle, ThrottleIndex
from tokengate.policy._shedding import Shedding
from tokengate.policy._sources import Settings, applied, own_limits, throttle_name
from tokengate.policy._states import States
from tokengate.policy._throttle import ThrottleState
from tokengate.policy._values import Key

S = TypeVar("S", BreakerState, ThrottleRule, BudgetRule)

Keys: TypeAlias = dict[Key, str | int | None]
"""{name of a tag or parameter, or function: the value for a call}, for the keys of the breaker, throttles and so on."""

_NO_POLICY: Final = Policy()

_TIMES: Final = ("queue_timeout", "timeout", "deadline")

_SHARE_OF_DEADLINE: Final = 1 / 20  # after which tokens are shed, if nothing else is set
_MOST_LEFT_BEHIND: Final = 64  # attempts whose code runs on, before new tokens are refused


class PlaceRules:
    """The rules of one place, and their states.

    Args:
        policies: those of the gate.
        place: the place.
        policy: what the code holds its tokens to; an empty one if they only inherit deadlines.
        called: returns the function or method that a token calls, for the names of keys.
        settings: the fields of the file and of operators, which win over the code.
        operation: its name, if the path does not have it.
        apart: whether they hold single tokens only, so that the lanes of the place are not theirs.

    Attributes:
        code: the policy of the code.
        name: of the operation, or path of the actor.
        policy: what tokens are held to: the code's policy with the settings.
        errors: of the parts of the settings that do not fit the code's policy, and are left out.
        held_breakers: what an operator holds all breakers at; None if they change by themselves.
        breakers_by: the operator or rule that has acted last on one of its breakers.
        events: to be published as soon as no lock is held.
        left: attempts whose code could not be ended, and runs on.
        only_breaker: the breaker of each token, if it has no key; once needed.
        grace: seconds that code has to end when its time is over; None: a tenth of the time it had.
    """

    def __init__(
        self,
        policies: GatePolicies,
        place: Place,
        policy: Policy,
        called: Callable[[Token[Any]], Callable[..., object]],
        settings: Settings,
        operation: str = "",
        *,
        apart: bool = False,
    ) -> None:
        self._is_apart = apart
        self.policies = policies
        self.place = place
        self.throttles = policies.throttles
        self.lock = policies.throttles.lock
        self.clock = policies.clock
        self.let_go = policies.throttles.let_go
        is_actor = isinstance(place, ActorPlace)
        self.name = place.path if is_actor else place.path.rpartition("/")[2]
        self.operation = operation
        self.left = 0
        self.held_breakers: Literal["open", "closed"] | None = None
        self.breakers_by = ""
        self.has_rules = False
        self.events: deque[PolicyEvent] = deque()
        self.share = RetryShare()
        self.lane = Lane(policies.deadlines)
        self.shedding = Shedding(0.0)
        self._called = called
        self.shared: tuple[ThrottleIndex, ...] = ()  # where the throttles are that have selectors
        self.own_index = ThrottleIndex(of_actor=isinstance(place, ActorPlace))
        self._by_name: dict[tuple[str, str], KeyReader] = {}  # {operation and name: what reads its value}
        self.needs_rules = False
        # Each of these stays True once it is: attempts that have begun are to end as they began.
        self.has_retries = False  # whether attempts of tokens here may be retries, or a fallback may follow
        self.has_throttles = False  # whether rates may count attempts as they begin
        self.judges_ends = False  # whether something depends on how attempts end
        self.counts_begins = False
        self.has_grants = False  # whether attempts may have grants of the throttles
        self._parts: dict[str, tuple[Key | None, States[Any]]] = {}  # {part of the policy: its key, its states}
        self.code = self.policy = policy
        self.change(settings)

    def change(self, settings: Settings) -> None:
        """Hold tokens to the policy of the code with other settings; levels, windows and states stay."""
        policy, self.errors = applied(self.code, settings)
        now = self.clock()
        shed = _setting(settings, "shed", (policy.deadline or 0.0) * _SHARE_OF_DEADLINE)
        self.is_empty = policy == _NO_POLICY
        # Once True it stays so: attempts that have begun are to end as they began.
        self.needs_rules |= bool(shed) or any(name not in _TIMES for name in parts_of(policy))
        self.has_retries |= policy.retry is not None or policy.fallback is not None
        self.has_breaker = policy.breaker is not None
        self.has_throttles |= bool(policy.throttle)
        self.judges_ends |= self.has_breaker or any(one.slow is not None for one in policy.throttle)
        self.hold_to(self.shared)
        self.has_at_once = any(one.over != "wait" for one in policy.throttle)
        self.has_keys = bool(_keys_of(policy))
        self.asks_at_door = self.has_keys or self.has_at_once or policy.budget is not None
        self.has_grants |= policy.budget is not None or policy.batch is not None
        if not self._is_apart:
            self.place.mailbox.set_fair(policy.fair is not None)
        with self.lock:
            self.policy, self.settings = policy, settings
            self._keys = _keys_of(policy)
            self._readers: dict[str, dict[Key, KeyReader]] = {}  # {operation: what reads the keys of its calls}
            self.shedding.shed = shed
            self.share.share = _setting(settings, "retry.share", SHARE)
            self.grace = _setting(settings, "grace", None)
            self._reruns = "idempotent" not in settings
            self._breakers = self._states_of("breaker", policy.breaker, self._new_breaker, now)
            self.only_breaker: BreakerState | None = None
            throttles = enumerate(policy.throttle)
            make = _throttle_rule if policy.batch is None else _batch_rule
            found = ((one, self._states_of(throttle_name(number), one, make, now)) for number, one in throttles)
            self._throttles = tuple((one, states) for one, states in found if states is not None)
            self._budget = self._budgets(policy.budget, now)
            self.keyless: tuple[Rule, ...] | None = None  # what `rules_of` returns, if no rule has keys; once needed

    def may_run_twice(self, token: Token[Any]) -> bool:
        """Tell whether it does no harm to run a token twice, and operators have not decided otherwise."""
        return self._reruns and self.place.is_idempotent(token._call)

    def engage(self) -> None:
        """Have the throttles asked about each token at its turn, from now on."""
        self.needs_rules = self.has_retries = True
        self.hold_to(self.shared)

    def hold_to(self, indexes: tuple[ThrottleIndex, ...]) -> None:
        """Have tokens held to the throttles in some indexes, too; the lock is not held."""
        self.shared = indexes
        if indexes:
            self.has_throttles = self.judges_ends = True
        self.counts_begins = self.has_throttles or self.has_retries
        self.has_grants |= self.counts_begins
        before, self.has_rules = self.has_rules, self.needs_rules or bool(indexes)
        if self.has_rules is not before:
            self.place.mailbox.set_throttles(self.throttles if self.has_rules else None, self)

    @property
    def breaker_may_refuse(self) -> bool:
        """Whether a token may find its breaker not closed."""
        breaker = self.only_breaker
        return self.has_breaker if breaker is None else breaker.state != "closed"

    @property
    def is_idle(self) -> bool:
        """Whether nothing holds tokens here, so that the place needs no governor."""
        return self.code == _NO_POLICY and not (self.settings or self.has_rules or self.left)

    def _states_of(
        self, name: str, part: Any, make: Callable[[Any, str | int | None], S], now: float
    ) -> States[S] | None:
        """Return the states of a part of the policy, which decide by that part from now on; None without one.

        Args:
            name: of the part.
            part: the part.
            make: makes the state of a key.
            now: seconds of the clock.
        """
        if part is None:
            return None  # its states stay here: it may come back
        before, states = self._parts.get(name, (None, None))
        own = partial(own_limits, part, name, self.settings)
        if states is None or before != part.key:
            states = States(lambda key: make(own(key), key))
        else:
            for key, state in states.items():
                state.change(own(key), now)
            states.make = lambda key: make(own(key), key)
        self._parts[name] = part.key, states
        return cast("States[S]", states)

    def _budgets(self, budget: Budget | None, now: float) -> States[BudgetRule] | None:
        """Return the states of the budget; None without one."""
        return self._states_of("budget", budget, _budget_rule, now)

    def policy_with(self, options: Policy) -> Policy:
        """Return the policy of tokens with options of their own, over which settings win, too."""
        return applied(with_parts(self.code, options), self.settings)[0]

    def publish(self) -> None:
        """Publish what has changed; without locks."""
        while self.events:
            try:
                event = self.events.popleft()
            except IndexError:  # another thread was faster
                return
            self.policies.publish(event)

    # Under the lock of the throttles

    def _new_breaker(self, breaker: Breaker, key: str | int | None) -> BreakerState:
        state = BreakerState(breaker, key, self._note_breaker)
        if self.held_breakers is not None:
            state.hold(self.held_breakers)
        return state

    def _note_breaker(self, state: BreakerState) -> None:
        self.events.append(BreakerChanged(self.name, state.key, state.state, state.held))

    def states(self, part: str, key: str | None = None) -> list[tuple[str | int | None, Any]]:
        """Return the keys of a part of the policy with their states; under the lock.

        Args:
            part: its name.
            key: the only one, as text; None for all.
        """
        found = self._parts.get(part)
        return [one for one in found[1].items() if key is None or str(one[0]) == key] if found else []

    def no_key(self, part: str) -> int:
        """Return how many tokens were without the key of a part of the policy."""
        found = self._parts.get(part)
        return found[1].no_key if found else 0

    # For tokens

    def keys_of(self, token: Token[Any]) -> Keys:
        """Read the keys of a call, on its sender's thread.

        Raises:
            TokenRejected: one cannot be read.
        """
        if not self._keys:
            return {}
        args, kwargs, tags = token.args, token.kwargs, token.tags
        try:
            readers = self._readers.get(token.operation) or self._make_readers(token)
            keys = {key: read(args, kwargs, tags) for key, read in readers.items()}
        except Exception as error:
            raise unreadable(token, "a key of its policy", error) from error
        if None in keys.values():
            with self.lock:
                for key, states in self._parts.values():
                    states.no_key += key is not None and key in keys and keys[key] is None
        return keys

    def _make_readers(self, token: Token[Any]) -> dict[Key, KeyReader]:
        keys = self.keys_in(token)
        readers = {key: keys.reader(rule, key) for key, rule in list(self._keys.items())}
        self._readers[token.operation] = readers
        return readers

    def keys_in(self, call: Any) -> CallKeys:
        """Return what reads the keys of a token, or of a direct call."""
        return CallKeys(call.operation, self._called(call), is_method=isinstance(self.place, ActorPlace))

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
                refuses = breaker is not None and breaker.refuses(now)
            self.publish()
            if breaker is not None and refuses:
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
        rules = (*self.throttles_of(keys, now), *(self.shared_rules(token, now) if self.shared else ()))
        rules = tuple(rule for rule in rules if rule.at_once)
        return take_at_once(self.throttles, token, rules, now)

    def sheds(self, token: Token[Any], now: float) -> TokenRejected | None:
        """Return why a token is shed at its turn; None if it is not."""
        shedding, waited, priority = self.shedding, now - (token.queued_at or now), token.priority
        if not shedding.shed:
            return None
        policy, before = token._extras.policy, shedding.is_overloaded(priority)
        sheds = shedding.judge(priority, waited, now, None if policy is None else policy.fair_key)
        if (after := shedding.is_overloaded(priority)) is not before:
            self.events.append(OverloadChanged(self.name, priority, after))
        if not sheds:
            return None
        why = f"it had waited {waited:.3g} s, and others of its priority have waited long for some time"
        return TokenRejected(f"{token._describe()} was refused at its turn: {why}", "overload")

    def breaker_of(self, keys: Keys, now: float) -> BreakerState | None:
        """Return the breaker of a token, by its keys; None if it is not held to one."""
        states, policy = self._breakers, self.policy.breaker
        if states is None or policy is None:
            return None
        state = _state(states, policy.key, keys, now)
        if policy.key is None:
            self.only_breaker = state
        return state

    def rules_of(self, keys: Keys, now: float) -> tuple[Rule, ...]:
        """Return the throttles and budgets for whose grants an attempt of a token waits, by its keys."""
        found: list[Rule] = []
        for throttle, states in self._throttles:
            rule = _state(states, throttle.key, keys, now)
            if rule is not None and rule.state.throttle.over == "wait":
                found.append(rule)
        if self._budget is not None:
            budget = self.budget_of(keys, now)
            if budget is not None:
                found.append(budget)
        rules = tuple(found)
        if not self._keys:
            self.keyless = rules
        return rules

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

    def value_of(self, token: Token[Any] | Call, name: Key) -> str | int | None:
        """Return the value of a tag or parameter of a token or call, if it can be a key; no code of users is run."""
        if callable(name):
            return None
        read = self._by_name.get((token.operation, name))
        if read is None:
            read = self._by_name[token.operation, name] = self.keys_in(token).reader("throttle.key", name)
        try:
            return read(token.args, token.kwargs, token.tags)
        except BadPolicy:
            return None

    def plain_keys(self, token: Token[Any]) -> Keys:
        """Return what the rules count a call for, as far as that is known without code of users."""
        return {key: self.value_of(token, key) for key in self._keys}

    def throttles_of(self, keys: Keys, now: float) -> list[ThrottleRule]:
        found = (_state(states, throttle.key, keys, now) for throttle, states in self._throttles)
        return [rule for rule in found if rule is not None]

    def budget_of(self, keys: Keys, now: float) -> BudgetRule | None:
        """Return what a token may spend, by its keys; None if it is held to no budget."""
        budget, states = self.policy.budget, self._budget
        if budget is None or states is None:
            return None
        return _state(states, budget.key, keys, now)

    def throttles_of_policy(self) -> list[tuple[Throttle, States[ThrottleRule]]]:
        """Return the throttles of the policy, each with its states by key."""
        return list(self._throttles)

    def refused_by(self, breaker: BreakerState, token: Token[Any], now: float) -> TokenRejected:
        """Return the error of a token that a breaker refuses."""
        after = breaker.retry_after(now)
        until = "" if after is None else f" for {after:.3g} s more"
        return TokenRejected(f"{token._describe()} was refused: its breaker is open{until}", "breaker", after)


def _keys_of(policy: Policy) -> dict[Key, str]:
    """Return {key: a rule that has it}."""
    found = {
        "breaker.key": None if policy.breaker is None else policy.breaker.key,
        **{f"{throttle_name(number)}.key": one.key for number, one in enumerate(policy.throttle)},
        "budget.key": None if policy.budget is None else policy.budget.key,
        "batch.by": None if policy.batch is None else policy.batch.by,
        "fair": policy.fair,
    }
    return {key: rule for rule, key in found.items() if key is not None}


def _setting(settings: Settings, name: str, default: Any) -> Any:
    return settings[name][0] if name in settings else default


def _state(states: States[S], key: Key | None, keys: Keys, now: float) -> S | None:
    """Return the state of a call's key, or None for a token without the key of a rule that has keys."""
    if key is None:
        return states.get(None, now)
    value = keys.get(key)
    return None if value is None else states.get(value, now)


def unreadable(token: Token[Any], what: str, error: Exception) -> TokenRejected:
    why = f"{what} could not be told: {type(error).__name__}: {error}"
    return TokenRejected(f"{token._describe()} was refused: {why}", "key")


def _throttle_rule(throttle: Throttle, key: str | int | None) -> ThrottleRule:
    return ThrottleRule(ThrottleState(throttle), key)


def _batch_rule(throttle: Throttle, key: str | int | None) -> ThrottleRule:
    return BatchRule(ThrottleState(throttle), key)


def _budget_rule(budget: Budget, key: str | int | None) -> BudgetRule:
    return BudgetRule(BudgetState(budget, key))
