"""The policies of a gate: one governor for each place that needs one, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from actors import ActorSystem, Token
from actors.lowlevel import ActorPlace, Notice, OperationPlace, Place, place_of, system_of
from tokengate._exceptions import BadPolicy
from tokengate.policy._budget import BudgetState
from tokengate.policy._deadlines import Deadlines
from tokengate.policy._failover import Alternative, Alternatives, with_deadline
from tokengate.policy._governed import Governed
from tokengate.policy._governor import PlaceGovernor
from tokengate.policy._policy import Budget, Policy, with_parts
from tokengate.policy._rules import BudgetRule
from tokengate.policy._shared import SelectedThrottles
from tokengate.policy._states import States

_NO_POLICY = Policy()


class Policies:
    """The policies of a gate.

    Args:
        system: of the gate.
    """

    def __init__(self, system: ActorSystem) -> None:
        self.system = system
        self.clock = system.clock
        self.throttles = system.throttles
        self.reconciler = system.reconciler
        self.deadlines = Deadlines(system.system_host, system.clock)
        self._beside: dict[Place, Place] = {}  # {place of a process operation: that of its fallbacks}
        self.selected = SelectedThrottles(self)
        self._budgets: dict[tuple[str, float, float], States[BudgetRule]] = {}  # {name, limit, period: what is used}
        self._apart: dict[Place, PlaceGovernor] = {}  # governors of single tokens of places that have none

    def govern(self, place: Place, policy: Policy, function: Callable[..., object] | None = None) -> None:
        """Hold the tokens of a place to a policy.

        Args:
            place: the place.
            policy: what they are held to.
            function: what they call; None for an actor, whose messages call its methods.
        """
        place.governor = PlaceGovernor(self, place, policy, _called if function is None else lambda _: function)
        self.entered(place)

    def entered(self, place: Place) -> None:
        """Hold the tokens of a new place, or of one with a new governor, to the throttles that concern it."""
        self.selected.entered(place)

    @property
    def has_shared_at_once(self) -> bool:
        """Whether there are throttles with selectors for which tokens do not wait."""
        return self.selected.has_at_once

    def beside(self, place: Place) -> Place:
        """Return the place where fallbacks for the tokens of a process operation run: on threads; made if needed."""
        with self.system.making_policies:
            beside = self._beside.get(place)
            if beside is None:
                size = self.system.dispatcher.size
                path = f"{place.path}-fallback"
                beside = self.system.operation_place(path, "cpu", generator=False, concurrency=size)
                self.governor_of(beside).engage()  # a rule keeps a token back until it comes
                self._beside[place] = beside
        return beside

    def budget(self, budget: Budget) -> States[BudgetRule]:
        """Return what is used of a budget, by key; budgets of one name, limit and period share it."""
        states: States[BudgetRule] = States(lambda key: BudgetRule(BudgetState(budget, key)))
        return self._budgets.setdefault((budget.name, budget.limit, budget.per), states)

    def hold(self, token: Token[Any], policy: Policy) -> None:
        """Hold a new token to a policy of its own, where that has parts, beside that of its place."""
        governor = self.governor_of(place_of(token))
        if policy.retry is not None or policy.fallback is not None:
            governor.engage()
        governed = governor.governed(token)
        governed.policy = with_parts(governed.policy, policy)

    def identify(self, token: Token[Any], key: str | int) -> None:
        """Have a new token of an operation share one run with those that have the same key."""
        self.governor_of(place_of(token)).identify(token, key)

    def publish(self, event: object) -> None:
        """Publish an event; without locks."""
        if self.system.on_event is not None:
            self.system.publish(event)

    def alternative(
        self, place: OperationPlace, operation: str, function: Callable[..., Any], own: Policy | None
    ) -> Alternative:
        """Return an operation as an alternative of a call that is made here; arguments: those of `Alternative`."""
        governor = self.governor_of(place)
        governor.engage()  # a token that comes after an attempt elsewhere is kept back until that is over
        return Alternative(governor, operation, place.at_home(function), own)

    def route(
        self, token: Token[Any], others: Iterable[Alternative], deadline: float | None, *, at_door_only: bool
    ) -> None:
        """Have a new token, which is at one of several alternatives, be tried at the others; see `Alternatives`."""
        governed = self.governor_of(place_of(token)).governed(token)
        governed.policy = with_deadline(governed.policy, deadline)
        governed.alternatives = Alternatives(others, deadline, at_door_only)

    def inherit(self, token: Token[Any], deadline: float) -> None:
        """Have a new token end at a deadline, in seconds of the clock, unless nobody waits for its outcome."""
        if not isinstance(token._call, Notice):
            self.governor_of(place_of(token)).governed(token).inherited = deadline

    def governed(self, token: Token[Any]) -> Governed:
        """Return what a token is held to, which may be nothing; other tokens of its place are not concerned."""
        place = place_of(token)
        governor = cast("PlaceGovernor | None", place.governor) or self._apart.get(place)
        if governor is None:
            governor = self._apart.setdefault(place, PlaceGovernor(self, place, _NO_POLICY, _called))
        return governor.governed(token)

    def governor_of(self, place: Place) -> PlaceGovernor:
        """Return the governor of a place; made if it has none."""
        if place.governor is None:
            with self.system.making_policies:
                if place.governor is None:
                    place.governor = PlaceGovernor(self, place, _NO_POLICY, _called)
        return cast("PlaceGovernor", place.governor)


def policies_of(place: Place) -> Policies:
    """Return the policies of the gate that a place belongs to; made when they are first needed."""
    return policies_in(system_of(place))


def policies_in(system: ActorSystem) -> Policies:
    """Return the policies of the gate of a system; made when they are first needed."""
    with system.making_policies:
        if system.policies is None:
            system.policies = Policies(system)
        return cast("Policies", system.policies)


def govern_actor(place: ActorPlace) -> None:
    """Hold the messages of an actor to the policy of its class.

    Raises:
        BadPolicy: it is none, or has a part that actors cannot have.
    """
    actor_class, policy = place.actor_class, place.actor_class.policy
    if not isinstance(policy, Policy):
        if not hasattr(policy, "__get__"):  # a method or property of that name declares nothing
            raise BadPolicy(f"class {actor_class.__name__}", "policy", policy, "use a Policy")
        return
    if policy.batch is not None:
        remedy = "batches are for operations; write one around the actor"
        raise BadPolicy(f"class {actor_class.__name__}", "policy.batch", policy.batch, remedy)
    policies_of(place).govern(place, policy)


def _called(token: Token[Any]) -> Callable[..., object]:
    """Return the function of an operation, or the method of an actor that a message calls; else `on_receive`."""
    place, call = token._place, token._call
    if not isinstance(place, ActorPlace):
        return call if callable(call) else _nothing
    name = call[0] if isinstance(call, tuple) and len(call) == 1 else "on_receive"
    method = getattr(place.actor_class, name, None)
    return method if callable(method) else _nothing


def _nothing() -> None:
    """The function of calls that have no keys."""
