"""The ledger: the rules in force, what they did, and what became of that."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from actors import Token, TokenState
from tokengate.predict._active import ActiveInterventions
from tokengate.predict._decision import Spent, Trust
from tokengate.predict._host import Host
from tokengate.predict._intervention import Intervention, RuleState, State
from tokengate.predict._rule import Budget, Mode, Rule

_KEPT: Final = 1_000  # interventions that are over


@attrs.frozen
class End:
    """The end of a token that a rule has decided about.

    Attributes:
        rule: its name.
        group: `act`, `hold back`, or empty: it is in neither group that is compared.
        number: of the intervention; 0: none.
        completed: whether the token completed.
        state: of the token.
        seconds: from its submit to its end.
    """

    rule: str
    group: str
    number: int
    completed: bool
    state: str
    seconds: float

    @classmethod
    def of(cls, token: Token[Any], rule: str, group: str, number: int = 0) -> End:
        """Return the end of a token that has ended."""
        seconds = (token.finished_at or token.created_at) - token.created_at
        return cls(rule, group, number, token.state is TokenState.COMPLETED, str(token.state), seconds)


class Ledger:
    """The rules in force, with what they have decided and spent, and their interventions; on the system loop.

    Args:
        host: the gate.
        cap: the mode that no rule exceeds.
        budget: of all rules together.

    Attributes:
        states: the rules in force, the most careful verb first.
        at_submit: those that are asked when a token is submitted.
        interventions: {number: intervention}, the latest, and all that are not over.
        active: those that are in force.
        spent: what all rules together have used of their budget.
        ends: of tokens that rules have decided about, until they are counted; written by the threads on which they end.
    """

    def __init__(self, host: Host, cap: Mode, budget: Budget) -> None:
        self.states: tuple[RuleState, ...] = ()
        self.at_submit: tuple[RuleState, ...] = ()
        self.interventions: dict[int, Intervention] = {}
        self.active = ActiveInterventions()
        self.cap: Mode = cap
        self.spent = Spent(budget)
        self.ends: deque[End] = deque()
        self._host = host
        self._numbers = itertools.count(1)
        self._over: deque[int] = deque()

    def take(self, rules: Iterable[Rule], lost: Mapping[str, str]) -> None:
        """Have other rules in force; one of a name that was there goes on with what it has decided and spent.

        Args:
            rules: the rules.
            lost: {rule: why it only observes}, of rules that were there before.
        """
        before = {one.rule.name: one for one in self.states}
        states = []
        for rule in rules:
            known = before.get(rule.name)
            if known is not None and known.rule == rule:
                states.append(known)
                continue
            states.append(RuleState(rule, known))
            if known is None and rule.name in lost:
                states[-1].trust = Trust(lost[rule.name])
        self.states = tuple(sorted(states, key=lambda one: one.rule.action.rank))
        self.at_submit = tuple(one for one in self.states if one.rule.at_submit)

    def state_of(self, name: str) -> RuleState | None:
        """Return the rule with a name that is in force."""
        return next((one for one in self.states if one.rule.name == name), None)

    def next_number(self) -> int:
        """Return the number of the next intervention."""
        return next(self._numbers)

    def follow(self, token: Token[Any], made: Intervention, group: str = "") -> None:
        """Have the end of a token counted; nothing of it is kept.

        Args:
            token: the token.
            made: the intervention that was decided for it.
            group: `act` or `hold back`, if its end is compared with that of others.
        """
        rule, number, ends = made.rule, made.number, self.ends
        token.add_done_callback(lambda token: ends.append(End.of(token, rule, group, number)))

    def count_ends(self) -> list[tuple[str, str]]:
        """Count the tokens that have ended; return (uid, verb) of what has so ended, and need not be kept any more."""
        gone = []
        while self.ends:
            end = self.ends.popleft()
            made = self.interventions.get(end.number)
            if made is not None:
                made.ended = f"the token is {end.state}, {end.seconds:.3g} s after its submit"
                if made.state == "active" and made.action.is_of_token:
                    self.end(made, "ended", made.ended)
                    gone.append((made.uid, made.action.verb))
            one = self.state_of(end.rule)
            if one is None or not end.group:
                continue
            one.groups[end.group].add(end.completed, end.seconds)
            if end.group == "act":
                before = one.trust.lost
                one.trust.note_end(end.completed)
                self.tell_demotion(one, before)
        return gone

    def end(self, made: Intervention, state: State, why: str, *, is_done: bool = False) -> None:
        """Note that an intervention in force is over.

        Args:
            made: the intervention.
            state: what has become of it.
            why: what has ended it.
            is_done: whether it counts until the next look, since it ends a token or an attempt.
        """
        self.active.remove(made, is_done=is_done)
        one = self.state_of(made.rule)
        if one is not None:
            one.missed.pop(made.number, None)
            if not made.action.is_of_token and state != "refused":
                one.rest(made.target.name, self._host.system.clock())
        self.finish(made, state, why)

    def finish(self, made: Intervention, state: State, why: str) -> None:
        """Note that an intervention is over; the oldest of these are forgotten."""
        made.state, made.why = state, why
        self._over.append(made.number)
        while len(self._over) > _KEPT:
            self.interventions.pop(self._over.popleft(), None)

    def note(self, made: Intervention, token: Token[Any] | None) -> None:
        """Count an intervention as what it is now, and publish it."""
        one = self.state_of(made.rule)
        if one is not None:
            one.count(made.state, self.cap)
        self.tell(made, token)

    def tell(self, made: Intervention, token: Token[Any] | None) -> None:
        """Publish what has become of an intervention."""
        kind = f"intervention.{made.state.replace(' ', '_')}"
        why = f": {made.why}" if made.why else ""
        text = f"rule '{made.rule}', '{made.verb}' for {made.target.name}: {made.state}{why}"
        details = {"intervention": made.number, "rule": made.rule, "verb": made.verb, "state": made.state}
        self._host.say(kind, text, token, details | ({"why": made.why} if made.why else {}))

    def tell_demotion(self, one: RuleState, before: str) -> None:
        """Publish that a rule has lost trust, if it had not before."""
        if one.trust.lost and not before:
            text = f"rule '{one.rule.name}' only observes from now on: {one.trust.lost}"
            self._host.say("rule.demoted", text, None, {"rule": one.rule.name, "why": one.trust.lost})
