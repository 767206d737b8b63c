"""The governor of a place: what holds the tokens that are sent there to its rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import getrandbits
from typing import Any, cast

from actors import Token, TokenRejected
from actors.lowlevel import Place
from tokengate.policy._flags import Call, Flag
from tokengate.policy._governed import Governed
from tokengate.policy._joined import Joined, Joints
from tokengate.policy._observed import Observed
from tokengate.policy._place_rules import PlaceRules
from tokengate.policy._policy import Budget, Policy
from tokengate.policy._ports import GatePolicies
from tokengate.policy._rules import BudgetRule
from tokengate.policy._sources import Settings
from tokengate.policy._states import States
from tokengate.policy._throttled import Throttled


class PlaceGovernor(PlaceRules):
    """The rules of one place, as the place asks for them.

    Args:
        policies: those of the gate.
        place: the place.
        policy: what the code holds its tokens to.
        called: returns the function or method that a token calls.
        settings: the fields of the file and of operators.
        operation: its name, if the path does not have it.
        apart: as in `PlaceRules`.
    """

    _observing: PlaceRules | None = None  # what only counts, for tokens whose flag says so
    _apart: PlaceGovernor | None = None  # what holds tokens without rules to what is code

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
        super().__init__(policies, place, policy, called, settings, operation, apart=apart)
        self._joints = Joints(self)

    def governed(self, token: Token[Any]) -> Governed:
        """Return what a token of the place is held to."""
        extras = token._own_extras()
        if extras.policy is None or isinstance(extras.policy, Throttled):
            batched = self.policy.batch is not None
            extras.policy = Joined(token, self, self._joints) if batched else Governed(token, self)
        return cast("Governed", extras.policy)

    def identify(self, token: Token[Any], key: str | int) -> None:
        """Have a new token share the run of its key."""
        extras = token._own_extras()
        before, joined = extras.policy, Joined(token, self, self._joints)
        if isinstance(before, Governed):
            joined.inherited, joined.options, joined.policy = before.inherited, before.options, before.policy
        joined.key = key
        extras.policy = joined

    def at_door(self, token: Token[Any]) -> Token[Any] | None:
        """Hold a token that is about to be sent to the policy.

        Returns:
            the token to put into the mailbox: this one, or one that runs for it; None if one that is sent already
            runs for it.

        Raises:
            TokenRejected: it is refused.
        """
        if not (self.is_empty or self.policies.flags or self.policy.batch) and token._extras.policy is None:
            governed = token._own_extras().policy = Governed(token, self)
            governed.pass_door(token)
            return token
        governor = self._by_flag(token) if self.policies.flags else self
        if governor is not None and not governor._holds_to_throttles_only(token):
            return governor.governed(token).enter(token)
        self._pass_throttles_only(token)
        return token

    def _holds_to_throttles_only(self, token: Token[Any]) -> bool:
        policy = token._extras.policy
        return self.is_empty and (policy is None or isinstance(policy, Throttled))

    def _pass_throttles_only(self, token: Token[Any]) -> None:
        """Hold a token to the throttles for which it does not wait.

        Raises:
            TokenRejected: one refuses it.
        """
        if not (self.shared and self.policies.has_shared_at_once):
            return
        with self.lock:
            policy = token._extras.policy or self.found(token)
        refusal = None if policy is None else self.pass_throttles(token, {}, self.clock())
        if policy is not None and refusal is not None:
            policy.reason = refusal.reason
            raise refusal

    def found(self, token: Token[Any]) -> Throttled | None:
        """Return what a token is held to that is held to nothing but throttles; None if none is for it."""
        return self.throttled(token) if self.shared and self.shared_for(token) else None

    def throttled(self, token: Token[Any]) -> Throttled:
        """Hold a token to throttles."""
        policy = token._own_extras().policy = Throttled()
        return policy

    @property
    def is_idle(self) -> bool:
        return super().is_idle and not self._joints

    def elsewhere(self, token: Token[Any], error: BaseException) -> Place | None:
        """Have a token that was refused at the door belong to its next alternative; return the place of that."""
        policy = token._extras.policy
        return policy.elsewhere(token, error) if isinstance(policy, Governed) else None

    def may_run_here(self, token: Token[Any]) -> bool:
        """Tell whether a direct call may begin now, on its caller's thread; then it has what it needs for that.

        One with times of its own is queued: code on the thread of its caller could not be ended without that.
        """
        governor = self._by_flag(token) if self.policies.flags else self
        if governor is None or governor._holds_to_throttles_only(token):
            try:
                self._pass_throttles_only(token)
            except TokenRejected:
                return False  # it is refused as it is sent
            return self.throttles.admit_here(token)
        governed = governor.governed(token)
        if governed.policy.has_times or isinstance(governed, Joined):
            return False
        try:
            governed.pass_door(token)
        except TokenRejected as refusal:
            governed.refusal_at_door = refusal
            return False
        governed.runs_here = self.throttles.admit_here(token)
        return governed.runs_here

    # Flags

    def is_off(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], priority: int, tags: Mapping[str, str]
    ) -> bool:
        """Tell whether a direct call is to be a call of the plain function."""
        if not self.policies.flags or self.policy.batch is not None:
            return False
        flag = self._flag_of(Call(name, self.place, args, kwargs, priority, tags, self.clock(), getrandbits(62)))
        return flag is not None and flag.row.mode == "off"

    def _by_flag(self, token: Token[Any]) -> PlaceGovernor | None:
        """Return what a token is held to, by its flag: this one, or one with code only; None: nothing.

        Batches, routes and transactions are code, and stay. What observes has its rules counted, but for batches.
        """
        extras = token._own_extras()
        before = extras.policy
        if isinstance(before, Governed) and (before.governor is not self or before.asks):
            return cast("PlaceGovernor", before.governor)  # it was decided before, or no flag does
        if isinstance(before, Observed):
            return None
        flag = self._flag_of(token)
        if flag is None or flag.row.mode == "enforce":
            return self
        member, alternatives = None, None
        if isinstance(before, Governed):
            member, alternatives = before.member, before.alternatives
        extras.policy = None
        if flag.row.mode == "observe" and self.policy.batch is None and alternatives is None:
            if self._observing is None:
                rules = self.policies, self.place, self.code, self._called, self.settings, self.operation
                self._observing = PlaceRules(*rules)
            extras.policy = Observed(token, self._observing, flag, member)
            return None
        if self.policy.batch is None and alternatives is None and member is None:
            return None
        if self._apart is None:
            only = Policy(batch=self.policy.batch)
            self._apart = PlaceGovernor(self.policies, self.place, only, self._called, {}, self.operation, apart=True)
        governed = self._apart.governed(token)
        governed.member, governed.alternatives = member, alternatives
        return self._apart

    def _flag_of(self, call: Token[Any] | Call) -> Flag | None:
        """Return the last flag that matches a call, and has it on its side."""
        for flag in reversed(self.policies.flags):
            if flag.matches(call):
                by = flag.row.by
                key = call.id if by is None else self.value_of(call, by)
                if key is not None and flag.includes(call.operation, key):
                    return flag
        return None

    # For operators

    def change(self, settings: Settings) -> None:
        super().change(settings)
        if self._observing is not None:
            self._observing.change(settings)

    def _budgets(self, budget: Budget | None, now: float) -> States[BudgetRule] | None:
        """Return the states of the budget, which all budgets of one name, limit, period and key share."""
        if budget is None:
            return None
        shared, name = self.policies.budgets, (budget.name, budget.limit, budget.per, budget.key)
        if name in shared:
            self._parts["budget"] = budget.key, shared[name]
        states = super()._budgets(budget, now)
        for other in [other for other, found in shared.items() if found is states]:
            del shared[other]  # its limit is another one now
        if states is not None:
            shared[name] = states
        return states

    def adopt(self) -> None:
        """Hold tokens that were queued before a change to its rules, except for times and for keys by functions."""
        for token in self.place.mailbox.tokens():
            policy = token._extras.policy
            if isinstance(policy, Throttled) and not isinstance(policy, Observed) and token.started_at is None:
                token._extras.policy = policy = None
            if policy is None or (isinstance(policy, Governed) and policy.governor is self):
                governed = self.governed(token)
                governed.passed_door = True
                governed.keys = {**self.plain_keys(token), **governed.keys}
        self.throttles.rules_changed()
