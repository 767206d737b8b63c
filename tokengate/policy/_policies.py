"""The policies of a gate: one governor for each place that needs one, and what they share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from datetime import datetime
from typing import Any, Final, cast

import attrs

from actors import ActorSystem, Token, TokenState
from actors.lowlevel import (
    SYSTEM,
    ActorPlace,
    CommandCall,
    DurableToken,
    Notice,
    OperationPlace,
    Place,
    place_of,
    system_of,
)
from supervisors import DynamicSupervisor, Supervisor
from tokengate._exceptions import BadOperation, BadPolicy
from tokengate.policy._asking import AskedCall, AskingGovernor
from tokengate.policy._deadlines import Deadlines
from tokengate.policy._failover import Alternative, Alternatives, with_deadline
from tokengate.policy._flags import Flag
from tokengate.policy._governed import Governed
from tokengate.policy._governor import PlaceGovernor
from tokengate.policy._policy import Policy
from tokengate.policy._ports import SharedBudgets
from tokengate.policy._rules import Delay, Moment
from tokengate.policy._shared import SelectedThrottles
from tokengate.policy._sources import LIVE, Settings, applied, over, part_of

_NO_POLICY: Final = Policy()

_logger = logging.getLogger("tokengate.policy")


@attrs.frozen
class PlaceName:
    """A place, as selectors see one in the place of a token.

    Attributes:
        operation: name of the operation; empty for an actor.
        actor: path of the place.
        affinity: where its tokens run.
    """

    operation: str
    actor: str
    affinity: str


@attrs.frozen
class Block:
    """A `[[policy]]` of the file.

    Attributes:
        matches: its selector.
        fields: as in a `PolicyRow`.
        source: where it stands.
    """

    matches: Callable[[PlaceName], bool]
    fields: Mapping[str, Any]
    source: str


class Policies:
    """The policies of a gate.

    Args:
        system: of the gate.

    Attributes:
        budgets: those of its places.
        blocks: of the file; of those that match a place, the last one wins.
        flags: of the file, and then those that operators have set; of those that match a token, the last one decides.
    """

    def __init__(self, system: ActorSystem) -> None:
        self.system = system
        self.clock = system.clock
        self.throttles = system.throttles
        self.reconciler = system.reconciler
        self.deadlines = Deadlines(system.system_host, system.clock)
        self._beside: dict[Place, Place] = {}  # {place of a process operation: that of its fallbacks}
        self.selected = SelectedThrottles(self)
        self._apart: dict[Place, PlaceGovernor] = {}  # governors of single tokens of places that have none
        self.budgets: SharedBudgets = {}
        self.blocks: tuple[Block, ...] = ()
        self.flags: tuple[Flag, ...] = ()
        self._edits: dict[str, Mapping[str, Any]] = {}  # {path of a place: {field: value}}, set by operators

    def govern(
        self,
        place: Place,
        policy: Policy | None,
        function: Callable[..., object] | None = None,
        operation: str = "",
        *,
        consent: bool = False,
    ) -> None:
        """Hold the tokens of a place to a policy, with what the file and operators say, if there is anything.

        Args:
            place: the place.
            policy: that of the code; None without one.
            function: what its tokens call; None for an actor, whose messages call its methods.
            operation: the name of the operation; that of the path without it.
            consent: whether each call needs the consent of a person.
        """
        kind = AskingGovernor if consent else PlaceGovernor
        before: object = None
        while before is not self.blocks:  # a file that comes now concerns it, too
            before = self.blocks
            settings = self.settings_of(place, operation)
            if policy is not None or settings or consent:
                called = _called if function is None else lambda _: function
                governor = kind(self, place, policy or _NO_POLICY, called, settings, operation)
                for error in governor.errors:
                    _logger.warning("the policy of '%s' is without a part: %s", governor.name, error)
                with self.system.making_policies:
                    if consent or not isinstance(place.governor, AskingGovernor):  # else one that asks came meanwhile
                        place.governor = governor
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

    def settings_of(self, place: Place, operation: str = "") -> Settings:
        """Return the fields of the file and of operators for a place."""
        settings: Settings = {}
        if not is_ours(place) and place not in list(self._beside.values()):
            name = PlaceName(operation or operation_of(place), place.path, place.affinity)
            for block in self.blocks:
                if block.matches(name):
                    settings = over(settings, block.fields, block.source)
        return over(settings, self._edits.get(place.path, {}), LIVE)

    # For operators, on the system loop

    def edit(self, place: Place, fields: Mapping[str, Any]) -> None:
        """Set fields of the policy of a place, until `reset`; `update` has it act.

        Raises:
            BadPolicy: they do not fit what it has otherwise; nothing has changed.
        """
        code, operation = _NO_POLICY, ""
        if place.governor is not None:
            governor = self.governor_of(place)
            code, operation = governor.code, governor.operation
        parts = {part_of(name) for name in fields}
        settings = over(self.settings_of(place, operation), fields, LIVE)
        own = {name: setting for name, setting in settings.items() if part_of(name) in parts}
        for error in applied(code, own)[1]:
            raise error
        edits = over({name: (value, LIVE) for name, value in self._edits.get(place.path, {}).items()}, fields, LIVE)
        self._edits[place.path] = {name: value for name, (value, _) in edits.items()}

    def reset(self, place: Place, field: str) -> bool:
        """Forget what operators have set of a field or part, or of all (an empty text); return whether that was any."""
        edits = self._edits.get(place.path, {})
        left = {name: value for name, value in edits.items() if field and field not in (name, part_of(name))}
        self._edits[place.path] = left
        return len(left) < len(edits)

    def update(self, place: Place, function: Callable[..., object] | None = None, operation: str = "") -> None:
        """Have the tokens of a place held to what the file and operators say by now; levels and states stay.

        Tokens that wait to begin are held to new rules, too, but for new times. Arguments: those of `govern`.
        """
        if place.governor is None:
            self.govern(place, None, function, operation)
        else:
            governor = self.governor_of(place)
            governor.change(self.settings_of(place, governor.operation))
        if place.governor is not None:
            self.governor_of(place).adopt()

    def publish(self, event: object) -> None:
        """Publish an event; without locks."""
        if self.system.on_event is not None:
            self.system.publish(event)

    def hold(self, token: Token[Any], policy: Policy) -> None:
        """Hold a new token to a policy of its own, where that has parts, beside that of its place."""
        governor = self.governor_of(place_of(token))
        if policy.retry is not None or policy.fallback is not None:
            governor.engage()
        governed = governor.governed(token)
        governed.options, governed.policy = policy, governor.policy_with(policy)

    def identify(self, token: Token[Any], key: str | int) -> None:
        """Have a new token of an operation share one run with those that have the same key."""
        if isinstance(token, DurableToken):
            token.key = key  # on disk, where those are, too, that have ended
            return
        self.governor_of(place_of(token)).identify(token, key)

    def put_off(self, token: Token[Any], when: float | datetime) -> None:
        """Have a new token of an operation begin after so many seconds, or at a moment.

        Raises:
            BadOperation: the operation puts its calls together, which decides when they begin.
        """
        place, now = place_of(token), self.clock()
        governor = self.governor_of(place)
        if governor.policy.batch is not None:
            raise BadOperation(f"'{token.operation}' puts its calls together, so none of them can be put off")
        governor.engage()
        delay = Moment(when.timestamp(), now) if isinstance(when, datetime) else Delay(now + when, None)
        governor.governed(token).put_off_first(delay)

    def resume(self, token: Token[Any], attempt: int, deadline: float | None) -> None:
        """Hold a token that was accepted before to the policy of its place; see `Governed.resume`."""
        self.governed(token).resume(token, attempt, deadline)

    def begin_anew(self, token: Token[Any], at: float) -> None:
        """Have the attempt of a token not count, whose code has asked to be called again at a time of the clock."""
        place = place_of(token)
        before, extras = token._extras.policy, token._own_extras()
        if before is not None:
            before.end(token, TokenState.TERMINATED, None, None)
        extras.policy = None
        governor = self.governor_of(place)
        governor.engage()  # it is kept back until its drain has let go of it
        governed = governor.governed(token)
        if isinstance(before, Governed):
            governed.options, governed.policy = before.options, before.policy
            governed.start, governed.inherited = before.start, before.inherited
            governed.uncounted = before.uncounted
            before.give_up_preemption(token)  # the code begins anew without it
        governed.resume(token, extras.attempt, begins=Delay(at, place.drain))
        token.steps, token.started_at = 0, None
        token._context = Context()  # as in a later process; its own, which has the token in it, would keep it
        if extras.hold is not None:
            extras.hold.renew()

    def ask_first(self, token: Token[Any], read: Callable[[], dict[str, Any]]) -> None:
        """Have a new token wait at the door for consent; see `AskedCall`."""
        governor = self.governor_of(place_of(token))
        governor.engage()  # from the door it comes to its mailbox as for another attempt
        token._own_extras().policy = AskedCall(token, governor, read)

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
            governor = self._apart.setdefault(place, self.apart_from(place))
        return governor.governed(token)

    def apart_from(self, place: Place) -> PlaceGovernor:
        """Return what holds single tokens of a place to nothing, whatever the others are held to."""
        return PlaceGovernor(self, place, _NO_POLICY, _called, {}, apart=True)

    def governor_of(self, place: Place) -> PlaceGovernor:
        """Return the governor of a place; made if it has none."""
        if place.governor is None:
            with self.system.making_policies:
                if place.governor is None:
                    place.governor = PlaceGovernor(self, place, _NO_POLICY, _called, self.settings_of(place))
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
        if policy is not None and not hasattr(policy, "__get__"):  # a method or property of that name declares nothing
            raise BadPolicy(f"class {actor_class.__name__}", "policy", policy, "use a Policy")
        policy = None
    elif policy.batch is not None:
        remedy = "batches are for operations; write one around the actor"
        raise BadPolicy(f"class {actor_class.__name__}", "policy.batch", policy.batch, remedy)
    policies_of(place).govern(place, policy)


def operation_of(place: Place) -> str:
    """Return the name of an operation; empty for an actor."""
    return "" if isinstance(place, ActorPlace) else place.path.rpartition("/")[2].partition("@")[0]


def is_ours(place: Place) -> bool:
    """Tell whether a place is of the runtime, or a supervisor, whose messages the file holds to nothing."""
    if isinstance(place, ActorPlace) and issubclass(place.actor_class, Supervisor | DynamicSupervisor):
        return True
    return place.path.startswith(SYSTEM)


def _called(token: Token[Any]) -> Callable[..., object]:
    """Return the function of an operation, or the method of an actor that a message calls; else `on_receive`."""
    place, call = token._place, token._call
    if not isinstance(place, ActorPlace):
        return call if callable(call) else _nothing
    name = call.name if isinstance(call, CommandCall) else "on_receive"
    name = call[0] if isinstance(call, tuple) and len(call) == 1 else name
    method = getattr(place.actor_class, name, None)
    return method if callable(method) else _nothing


def _nothing() -> None:
    """The function of calls that have no keys."""
