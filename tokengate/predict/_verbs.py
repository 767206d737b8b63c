"""The answers of a gate that predicts."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, Final, get_args

import trio

from actors import ActorSystem, UnknownActor
from tokengate.control._admission import admission
from tokengate.control._exceptions import BadRequest, Refused
from tokengate.control._safe_text import plain
from tokengate.control.inspection._selector import nearly
from tokengate.predict._intervention import Intervention, RuleState, State
from tokengate.predict._kinds import (
    Calibrations,
    InterventionDetails,
    InterventionRow,
    Interventions,
    RuleRow,
    Rules,
    SetModeOfRule,
    ShowIntervention,
    UndoIntervention,
)
from tokengate.predict._ledger import Ledger
from tokengate.predict._models import Models
from tokengate.predict._outcomes import CalibrationRow
from tokengate.predict._rule import Rule
from tokengate.predict._undo import Undoing

_ALL: Final = ("", "*")  # what stands for all in the place of a name
_STATES: Final[tuple[str, ...]] = get_args(State)


class PredictVerbs:
    """The verbs about rules, interventions and calibration.

    Args:
        ledger: the rules, and what they did.
        undoing: undoes that.
        models: what was learned.
        system: of the gate.
        keep: called with a rule whose trust was restored.
        is_frozen: tells whether what rules ask for is refused.
    """

    def __init__(
        self,
        ledger: Ledger,
        undoing: Undoing,
        models: Models,
        system: ActorSystem,
        keep: Callable[[RuleState], Any],
        is_frozen: Callable[[], bool],
    ) -> None:
        self._ledger = ledger
        self._undoing = undoing
        self._models = models
        self._system = system
        self._keep = keep
        self._is_frozen = is_frozen

    async def calibrations(self, message: Calibrations) -> tuple[CalibrationRow, ...]:
        _check_sight("calibration")
        return tuple(row for row in self._models.calibration() if _fits(row.operation, message.select))

    async def rules(self, message: Rules) -> tuple[RuleRow, ...]:
        _check_sight("rules")
        return tuple(self._row(one) for one in self._named(message.select))

    async def set_mode_of_rule(self, message: SetModeOfRule) -> RuleRow:
        one = self._ledger.state_of(message.name)
        if one is None:
            raise self._unknown(message.name)
        if one.rule.at_submit and message.mode == "propose":
            raise BadRequest(
                f"rule '{message.name}' is asked at submit, which cannot wait for a person: observe or act"
            )
        one.mode = message.mode
        one.trust.restore()
        await trio.to_thread.run_sync(self._keep, one)
        return self._row(one)

    def _named(self, pattern: str, others: str = "") -> list[RuleState]:
        """Return the rules with a name, or those that match a pattern.

        Args:
            pattern: the name or pattern.
            others: what the error says in addition.

        Raises:
            BadRequest: there are none.
        """
        found = [one for one in self._ledger.states if _fits(one.rule.name, pattern)]
        if not found and pattern not in _ALL:
            raise self._unknown(pattern, others)
        return found

    def _unknown(self, name: str, others: str = "") -> BadRequest:
        known = ", ".join(one.rule.name for one in self._ledger.states) or "there are none"
        return BadRequest(f"there is no rule '{name[:60]}'; the rules are: {known}{others}")

    def _row(self, one: RuleState) -> RuleRow:
        ledger, rule = self._ledger, one.rule
        return RuleRow(
            rule.name,
            rule.selector.text,
            rule.action.text,
            rule.mode,
            one.in_force(ledger.cap),
            one.why(ledger.cap, frozen=self._is_frozen()) or self._missing(rule),
            max(one.meant, one.counting),
            self._left(one),
            ledger.active.of(rule.name),
            rule.wait,
            rule.lasts,
            "" if rule.action.kind.is_free else str(rule.limit),
            rule.at_submit,
            one.counts,
            str(one.groups["act"]),
            str(one.groups["hold back"]),
        )

    def _missing(self, rule: Rule) -> str:
        """Return what a rule names that the gate does not have yet, which may be a slip; empty if it has all."""
        name, to, known = rule.operation, rule.action.to, self._models.operations
        if name is not None and name not in known:
            live = {plain(operation) for operation in {token.operation for token in list(self._system.live.values())}}
            if name not in live:
                near = nearly(name, (*live, *(each for each, _ in known.rows())))
                return f"no call of '{name}' was seen yet" + (f", and some of '{near}'" if near else "")
        if to is not None:
            try:
                self._system.find(to)
            except UnknownActor as error:
                return str(error)
        return ""

    def _left(self, one: RuleState) -> float | None:
        return None if one.rule.action.kind.is_free else max(0.0, one.spent.left(self._system.clock()))

    async def interventions(self, message: Interventions) -> tuple[InterventionRow, ...]:
        _check_sight("interventions")
        found = tuple(
            self._row_of(made)
            for made in list(self._ledger.interventions.values())
            if message.select == made.state or _fits(made.rule, message.select)
        )
        if not found and message.select not in _STATES:
            self._named(message.select, f"; and the states: {', '.join(_STATES)}")
        return found

    async def show_intervention(self, message: ShowIntervention) -> InterventionDetails:
        _check_sight("interventions")
        made = self._made(message.number)
        one = self._ledger.state_of(made.rule)
        free = made.action.kind.is_free
        return InterventionDetails(
            self._row_of(made),
            made.explained,
            dict(made.before),
            dict(made.set),
            made.action.kind.undone,
            made.ended,
            "" if one is None else str(one.groups["act"]),
            "" if one is None else str(one.groups["hold back"]),
            None if one is None else self._left(one),
            None if free else max(0.0, self._ledger.spent.left(self._system.clock())),
        )

    async def undo_intervention(self, message: UndoIntervention) -> InterventionRow:
        made = self._made(message.number)
        here, target, token = admission(), made.target, made.target.token
        if made.action.is_of_token:
            may = here.sees_all if token is None else here.reaches(token)
        elif made.action.verb == "throttle":
            may = here.covers(target.terms)
        else:
            here.reach(target.place)
            may = True
        if not may:
            raise Refused(f"your grants do not reach what intervention {made.number} is about")
        wrong = await self._undoing.undo(made, "a person has undone it", by=here.caller.principal, over="undone")
        if wrong:
            raise BadRequest(f"intervention {made.number} is not undone: {wrong}")
        return self._row_of(made)

    def _made(self, number: int) -> Intervention:
        made = self._ledger.interventions.get(number)
        if made is None:
            raise BadRequest(
                f"there is no intervention {number}, or it is forgotten; 'tokengate interventions' lists them"
            )
        return made

    def _row_of(self, made: Intervention) -> InterventionRow:
        left = made.ends - self._system.clock() if made.state == "active" and made.ends else None
        return InterventionRow(
            made.number, made.rule, made.verb, made.target.name, made.operation, made.uid, made.state, made.why,
            made.at, None if left is None else max(0.0, left), made.proposal or None,
        )  # fmt: skip


def _fits(name: str, pattern: str) -> bool:
    return pattern in _ALL or fnmatchcase(name, pattern)


def _check_sight(what: str) -> None:
    if not admission().sees_all:
        raise Refused(f"'{what}' is about all tokens; it needs the right 'view' without a selector")
