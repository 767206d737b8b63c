"""The engine: looks at the tokens that rules are for, and acts on them by the verbs of control."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

import attrs
import trio

from actors import Token, TokenGateError
from actors.lowlevel import ActorPlace, DurableToken, Place, place_of
from tokengate.control._exceptions import ProposalMade
from tokengate.control._safe_text import class_name, plain
from tokengate.control.inspection._selector import Selector, value_of
from tokengate.control.messages import ActorOutcome, Proposed
from tokengate.predict._arguments import Values
from tokengate.predict._decision import Case, decide
from tokengate.predict._forecast import Forecasts
from tokengate.predict._host import RULES, Host, outcome_in
from tokengate.predict._intervention import Intervention, RuleState, State, explain
from tokengate.predict._ledger import Ledger
from tokengate.predict._rule_verbs import Target
from tokengate.predict._steered import SteeredTokens
from tokengate.predict._undo import Undoing

_logger = logging.getLogger("tokengate.predict")

_A_LOOK: Final = 10_000  # tokens of a look, which comes once a second
_AT_ONCE: Final = 500  # of these, before other tasks of the loop have a turn
_ACTS: Final = 500  # decisions of a look, so that it is soon over
_MINUTE: Final = 60.0


class Engine:
    """Decides about tokens by rules, and does and follows interventions; on the system loop.

    Args:
        host: the gate.
        forecasts: what is expected of its tokens.
        ledger: the rules, and what they did.
        undoing: undoes that.
        steered: tokens that rules have changed at submit.

    Attributes:
        is_closing: whether the gate closes, so that nothing more is done.
    """

    def __init__(
        self, host: Host, forecasts: Forecasts, ledger: Ledger, undoing: Undoing, steered: SteeredTokens
    ) -> None:
        self._host = host
        self._system = host.system
        self._forecasts = forecasts
        self._ledger = ledger
        self._undoing = undoing
        self._steered = steered
        self.is_closing = False
        self._proposed: dict[int, Intervention] = {}
        self._forget: list[tuple[str, str]] = []  # (uid, verb) of what need not be kept any more
        self._at = 0  # of the live tokens, where the next look begins
        self._acts = 0  # decisions of the look that is under way
        self._running: int | None = None  # running tokens of the gate, once a look has counted them

    # A look

    async def look(self) -> None:
        """Look at the next tokens, and at what was done; once a second."""
        now, self._running, self._acts = self._system.clock(), None, 0
        self._ledger.active.forget_done()
        self._forget += self._ledger.count_ends()
        while self._forget:
            await self._host.keep(*self._forget.pop(), None)
        self._follow_proposals()
        await self._undoing.end_due(now)
        states = self._ledger.states
        if not states:
            return
        tokens = list(self._system.live.values())
        first = self._at if self._at < len(tokens) else 0
        last = min(first + _A_LOOK, len(tokens))
        self._at = last if last < len(tokens) else 0
        if not first:
            for one in states:
                one.meant, one.counting = one.counting, 0
        size = max(1, 4 * _AT_ONCE // (4 + sum(one.rule.selector.terms for one in states)))
        for start in range(first, last, size):
            for token in tokens[start : min(start + size, last)]:
                place = token._place
                if not place.serves_operators and place.properties.guard != "never" and token._end is None:
                    await self._consider(token, states, now)
            await trio.lowlevel.checkpoint()
        del tokens
        for one in states:
            one.forget_all_but(self._system.live)

    async def _consider(self, token: Token[Any], states: Sequence[RuleState], now: float) -> None:
        """Have the rule with the most careful verb decide about a token, of those that match it."""
        chosen = None
        for one in states:
            rule = one.rule
            if rule.operation not in (None, token.operation) or (rule.at_submit and type(token) is not DurableToken):
                continue
            if not rule.selector.matches(token, now):
                one.matched.pop(token.id, None)
                continue
            one.counting += 1
            since = one.matched.setdefault(token.id, now)
            if (
                chosen is None
                and self._acts < _ACTS
                and one.stopped != now
                and now - since >= rule.wait
                and token.id not in one.once
            ):
                chosen = one
        if chosen is not None and not self.is_closing:
            await self._decide(token, chosen, now)

    async def _decide(self, token: Token[Any], one: RuleState, now: float) -> None:
        rule = one.rule
        target = rule.action.target(token, rule.terms)
        mode = one.in_force(self._ledger.cap)
        if mode == "act" and self._is_set_by_rules(token, rule.action.verb, target):
            return  # this rule waits until that is undone
        if now < one.rests.get(target.name, now):
            return
        if mode == "act" and rule.action.is_taken(rule.action.values(target)):
            self._refuse(token, one, target, "an operator has set it there: rules leave that alone", now)
            return
        if mode != "observe" and self._host.is_frozen():
            self._refuse(token, one, target, "interventions of rules are frozen: 'tokengate unfreeze' ends that", now)
            one.stopped = now
            return
        verdict = decide(rule, mode, self.case(token, one), one.spent, self._ledger.spent, now)
        if verdict.do == "refuse":
            self._refuse(token, one, target, verdict.why, now)
            one.stopped = now if verdict.of_budget else one.stopped
            return
        one.once.add(token.id)
        self._acts += 1
        if verdict.do == "act":
            await self._act(self._make(token, one, target, "active", verdict.why, now), one, token, now)
        elif verdict.do == "propose":
            made = self._make(token, one, target, "proposed", verdict.why, now)
            await self._propose(made, one)
            self._ledger.follow(token, made)
        else:
            state: State = "observed" if verdict.do == "observe" else "held back"
            made = self._make(token, one, target, state, verdict.why, now)
            self._ledger.note(made, token)
            self._ledger.finish(made, state, verdict.why)
            self._ledger.follow(token, made, "hold back" if state == "held back" else "")

    def _is_set_by_rules(self, token: Token[Any], verb: str, target: Target) -> bool:
        """Tell whether a rule has set what this verb would set."""
        return self._ledger.active.has(verb, target.name) or self._steered.has(token.id, verb)

    def case(self, token: Token[Any], one: RuleState) -> Case:
        """Return what a decision about a token is made from."""
        place, rule, operation = place_of(token), one.rule, plain(token.operation)
        return Case(
            token.uid,
            place.properties.guard,
            token.started_at is not None,
            place.is_idempotent(token._call),
            self._forecasts.uncalibrated(token, rule.uses),
            live_at(place, operation) + self._ledger.active.moved(operation),
            self._ledger.active.touched(operation, token.id) + self._steered.touched(operation),
            self._count_running(),
            self._ledger.active.held(),
            self._ledger.active.held(rule.name),
            self._host.may_end(),
        )

    def _count_running(self) -> int:
        if self._running is None:
            places = self._system.places()
            self._running = sum(len(one.drain.running()) for one in places if not one.serves_operators)
        return self._running

    # What was decided

    def _make(
        self, token: Token[Any], one: RuleState, target: Target, state: State, why: str, now: float
    ) -> Intervention:
        rule = one.rule
        outlook = self._forecasts.outlook(token, own=False) if rule.uses else None
        forecast = token._extras.forecast

        def read(field: str) -> Any:
            return value_of(field, token, now)

        made = Intervention(
            self._ledger.next_number(), rule.name, rule.action, target, token.uid, plain(token.operation),
            self._host.utc(now), state, why,
            explain(rule, read, outlook, {} if forecast is None else forecast.features),
            rule.action.values(target),
        )  # fmt: skip
        self._ledger.interventions[made.number] = made
        return made

    def _refuse(self, token: Token[Any], one: RuleState, target: Target, why: str, now: float) -> None:
        """Record that a rule may not act, once for all tokens of a minute to which the same happens."""
        one.count("refused", self._ledger.cap)
        known, kind = one.refused, why.partition(":")[0]
        if known is not None and known.why.startswith(kind) and self._host.utc(now) - known.at < _MINUTE:
            one.refusals += 1
            known.why = f"{why} (and {one.refusals} more)"
            return
        one.refused, one.refusals = self._make(token, one, target, "refused", why, now), 0
        self._ledger.tell(one.refused, token)
        self._ledger.finish(one.refused, "refused", why)

    async def _act(self, made: Intervention, one: RuleState, token: Token[Any], now: float) -> None:
        action, done, why = made.action, False, "the gate closes"
        made.holds = not action.is_of_token or token.started_at is not None
        self._ledger.active.add(made)  # before: it counts for the budgets of what is decided meanwhile
        self._ledger.follow(token, made, "act")
        try:
            done, why = await self._done(made, one.rule.selector, token)
        except Exception as error:
            why = str(error) if isinstance(error, TokenGateError) else f"it failed: {class_name(type(error))}"
            if not isinstance(error, TokenGateError):
                _logger.exception("intervention %d of rule '%s' failed", made.number, made.rule)
        finally:  # a look may be cancelled, too
            if not done:
                self._ledger.end(made, "refused", why)
        if not done:
            await self._host.keep(made.uid, action.verb, None)
        elif action.kind.undo is not None:
            made.set, made.why, made.ends = action.values(made.target), why, now + one.rule.lasts
        else:
            self._ledger.end(made, "done", why, is_done=True)
        self._ledger.note(made, token)

    async def _done(self, made: Intervention, selector: Selector, token: Token[Any]) -> tuple[bool, str]:
        """Do an intervention; return whether it was done, and what the verb says."""
        action = made.action
        intended = action.intended if isinstance(token, DurableToken) else {}
        if intended and not await self._host.keep(made.uid, action.verb, entry_of(made, intended)):
            return False, "it cannot be kept that a durable token is changed; see the log of the gate"
        caller = attrs.evolve(RULES, check=lambda token: _still(selector, token, self._system.clock()))
        return outcome_in(await self._host.ask(action.message(made.target, (made.target.id,), _reason(made)), caller))

    async def _propose(self, made: Intervention, one: RuleState) -> None:
        action, rule = one.rule.action, one.rule
        select = f"id={made.target.id},{rule.selector.text}" if not rule.selector.all else f"id={made.target.id}"
        try:
            message = attrs.evolve(action.message(made.target, select, _reason(made)), dry_run=True)
            made.proposal = _proposal_in(await self._host.ask(message, RULES))
        except ProposalMade as error:
            made.proposal = error.number
        except TokenGateError as error:
            made.why = str(error)
        if made.proposal:
            self._proposed[made.number] = made
        else:
            self._ledger.finish(made, "refused", made.why)
        self._ledger.note(made, made.target.token)

    def _follow_proposals(self) -> None:
        for made in list(self._proposed.values()):
            state, why = self._host.proposal_state(made.proposal), made.why
            if state in ("open", "approved") and made.action.is_of_token and made.target.token is None:
                self._host.withdraw(made.proposal)  # or it would wait in the place of one that can still be applied
                state, why = "expired", "its token has ended"
            if state not in ("open", "approved"):
                del self._proposed[made.number]
                over: State = "applied" if state == "applied" else "denied" if state == "denied" else "expired"
                self._ledger.finish(made, over, why)
                self._ledger.note(made, made.target.token)


def live_at(place: Place, operation: str) -> int:
    """Return how many live tokens of an operation a place has."""
    running = place.drain.running()
    if not isinstance(place, ActorPlace):
        return place.mailbox.size + len(running)
    return sum(token.operation == operation for token in (*place.mailbox.tokens(), *running))


def entry_of(made: Intervention, intended: Values) -> dict[str, Any]:
    """Return what must be known in order to undo an intervention after a crash, with the values that it is to set."""
    return {"rule": made.rule, "verb": made.verb, "before": dict(made.before), "set": dict(intended)}


def _still(selector: Selector, token: Token[Any], now: float) -> str:
    return "" if selector.matches(token, now) else f"it does not match '{selector.text}' any more"


def _reason(made: Intervention) -> str:
    return f"rule {made.rule}, intervention {made.number}: {made.explained[0]}"[:500]


def _proposal_in(answer: Any) -> int:
    """Return the number of the proposal that was made."""
    found: Proposed | None = None
    if isinstance(answer, tuple):
        found = next((one.proposal for one in answer if one.proposal is not None), None)
    elif isinstance(answer, ActorOutcome):
        found = answer.proposal
    if found is None:
        note = answer[0].note if isinstance(answer, tuple) and answer else getattr(answer, "note", "")
        raise TokenGateError(note or "no proposal could be made of it")
    return found.number
