"""The engine: looks at the tokens that rules are for, and acts on them by the verbs of control."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs
import trio

from actors import ActorSystem, Token, TokenGateError, TokenState
from actors.lowlevel import ActorPlace, DurableToken, Place, place_of
from tokengate.control._admission import Caller
from tokengate.control._exceptions import ProposalMade
from tokengate.control._safe_text import class_name, plain
from tokengate.control._uids import number_of
from tokengate.control.inspection._past_tokens import on_disk
from tokengate.control.inspection._selector import Selector, value_of
from tokengate.control.messages import ActorOutcome, Message, Outcome, Proposed
from tokengate.predict._action import Action, Target, Values
from tokengate.predict._active import ActiveInterventions
from tokengate.predict._decision import Case, Spent, Trust, decide
from tokengate.predict._forecast import Forecasts
from tokengate.predict._intervention import Intervention, RuleState, State, explain
from tokengate.predict._rule import Budget, Mode, Rule

_logger = logging.getLogger("tokengate.predict")

RULES: Final = Caller("process:interventions", None)
"""Rules, as the sender of their messages."""

UNDOER: Final = attrs.evolve(RULES, is_undo=True)
"""The same, where they undo what they have done."""

_A_LOOK: Final = 10_000  # tokens of a look, which comes once a second
_AT_ONCE: Final = 500  # of these, before other tasks of the loop have a turn
_ACTS: Final = 500  # decisions of a look, so that it is soon over
_KEPT: Final = 1_000  # interventions that are over
_LEAST_MISS: Final = 2.0  # seconds for which a token must not have matched, before what was done to it is undone
_MINUTE: Final = 60.0
_NOTHING_DONE: Final = ("unchanged", "refused", "ended", "unknown", "changed")


class Host(Protocol):
    """What the engine needs of its gate."""

    system: ActorSystem

    async def ask(self, message: Message[Any], caller: Caller, /) -> Any:
        """Send a message to the control actor."""
        ...

    def proposal_state(self, number: int, /) -> str:
        """Return the state of a proposal; empty if it is forgotten."""
        ...

    def withdraw(self, number: int, /) -> None:
        """Let a proposal expire, since nothing is left of what it is about."""
        ...

    def is_frozen(self) -> bool:
        """Tell whether what rules ask for is refused."""
        ...

    def may_end(self) -> bool:
        """Tell whether rules have the right to end tokens."""
        ...

    def may_steer(self, token: Token[Any], /) -> bool:
        """Tell whether rules may act on a token now: they are not frozen, and have the right."""
        ...

    def utc(self, at: float, /) -> float:
        """Return a time of the gate's clock in seconds since the epoch."""
        ...

    def say(self, kind: str, text: str, token: Token[Any] | None, details: dict[str, Any], /) -> None:
        """Publish what has happened."""
        ...

    async def keep(self, uid: str, verb: str, entry: dict[str, Any] | None, /) -> bool:
        """Have on disk what a verb did to a durable token, or None: that this is undone; return whether it is."""
        ...

    def steered(self, operation: str, /) -> int:
        """Return how many live tokens of an operation rules have changed at submit, and that is not undone."""
        ...

    def is_steered(self, token: Token[Any], verb: str, /) -> bool:
        """Tell whether a rule has changed a token by this verb at submit, and that is not undone."""
        ...


@attrs.frozen
class End:
    """The end of a token that a rule has decided about."""

    rule: str
    group: str
    number: int
    completed: bool
    state: str
    seconds: float


class Engine:
    """Decides about tokens by rules, and does, follows and undoes interventions; on the system loop.

    Args:
        host: the gate.
        forecasts: what is expected of its tokens.
        cap: the mode that no rule exceeds.
        budget: of all rules together.

    Attributes:
        states: the rules in force, the most careful verb first.
        at_submit: those that are asked when a token is submitted.
        interventions: {number: intervention}, the latest, and all that are not over.
        active: those that are in force.
        is_closing: whether the gate closes, so that nothing more is done.
    """

    def __init__(self, host: Host, forecasts: Forecasts, cap: Mode, budget: Budget) -> None:
        self.states: tuple[RuleState, ...] = ()
        self.at_submit: tuple[RuleState, ...] = ()
        self.interventions: dict[int, Intervention] = {}
        self.cap: Mode = cap
        self.spent = Spent(budget)
        self.ends: deque[End] = deque()  # written by the threads on which tokens end
        self._host = host
        self._system = host.system
        self._forecasts = forecasts
        self._numbers = itertools.count(1)
        self.active = ActiveInterventions()
        self.is_closing = False
        self._proposed: dict[int, Intervention] = {}
        self._over: deque[int] = deque()
        self._forget: list[tuple[str, str]] = []  # (uid, verb) of what need not be kept any more
        self._at = 0  # of the live tokens, where the next look begins
        self._acts = 0  # decisions of the look that is under way
        self._running: int | None = None  # running tokens of the gate, once a look has counted them

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

    # A look

    async def look(self) -> None:
        """Look at the next tokens, and at what was done; once a second."""
        now, self._running, self._acts = self._system.clock(), None, 0
        self.active.forget_done()
        self._count_ends()
        while self._forget:
            await self._host.keep(*self._forget.pop(), None)
        self._follow_proposals()
        await self._end_due(now)
        states = self.states
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
        mode = one.in_force(self.cap)
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
        verdict = decide(rule, mode, self.case(token, one), one.spent, self.spent, now)
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
            self._follow(token, made, "")
        else:
            state: State = "observed" if verdict.do == "observe" else "held back"
            made = self._make(token, one, target, state, verdict.why, now)
            self._note(made, token)
            self._finish(made, state, verdict.why)
            self._follow(token, made, "hold back" if state == "held back" else "")

    def _is_set_by_rules(self, token: Token[Any], verb: str, target: Target) -> bool:
        """Tell whether a rule has set what this verb would set."""
        return self.active.has(verb, target.name) or self._host.is_steered(token, verb)

    def case(self, token: Token[Any], one: RuleState) -> Case:
        """Return what a decision about a token is made from."""
        place, rule, operation = place_of(token), one.rule, plain(token.operation)
        return Case(
            token.uid,
            place.properties.guard,
            token.started_at is not None,
            place.is_idempotent(token._call),
            self.uncalibrated(token, rule),
            live_at(place, operation) + self.active.moved(operation),
            self.active.touched(operation, token.id) + self._host.steered(operation),
            self._count_running(),
            self.active.held(),
            self.active.held(rule.name),
            self._host.may_end(),
        )

    def uncalibrated(self, token: Token[Any], rule: Rule) -> tuple[str, ...]:
        """Return those of the predictions that a rule uses for a token which are not calibrated."""
        if not rule.uses:
            return ()
        forecast: Any = token._extras.forecast
        outlook = self._forecasts.outlook(token, own=False)
        known = frozenset() if outlook is None else outlook.calibrated
        said = () if forecast is None else (name for name in ("run", "memory") if getattr(forecast, name) is not None)
        return tuple(sorted(rule.uses - known - set(said)))  # what a person has estimated needs no calibration

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
            next(self._numbers), rule.name, rule.action, target, token.uid, plain(token.operation),
            self._host.utc(now), state, why,
            explain(rule, read, outlook, {} if forecast is None else forecast.features),
            rule.action.values(target),
        )  # fmt: skip
        self.interventions[made.number] = made
        return made

    def _refuse(self, token: Token[Any], one: RuleState, target: Target, why: str, now: float) -> None:
        """Record that a rule may not act, once for all tokens of a minute to which the same happens."""
        one.count("refused", self.cap)
        known, kind = one.refused, why.partition(":")[0]
        if known is not None and known.why.startswith(kind) and self._host.utc(now) - known.at < _MINUTE:
            one.refusals += 1
            known.why = f"{why} (and {one.refusals} more)"
            return
        one.refused, one.refusals = self._make(token, one, target, "refused", why, now), 0
        self._tell(one.refused, token)
        self._finish(one.refused, "refused", why)

    async def _act(self, made: Intervention, one: RuleState, token: Token[Any], now: float) -> None:
        action, done, why = made.action, False, "the gate closes"
        made.holds = not action.is_of_token or token.started_at is not None
        self.active.add(made)  # before: it counts for the budgets of what is decided meanwhile
        self._follow(token, made, "act")
        try:
            done, why = await self._done(made, one.rule.selector, token)
        except Exception as error:
            why = str(error) if isinstance(error, TokenGateError) else f"it failed: {class_name(type(error))}"
            if not isinstance(error, TokenGateError):
                _logger.exception("intervention %d of rule '%s' failed", made.number, made.rule)
        finally:  # a look may be cancelled, too
            if not done:
                self._end(made, "refused", why)
        if not done:
            await self._host.keep(made.uid, action.verb, None)
        elif action.can_be_undone:
            made.set, made.why, made.ends = action.values(made.target), why, now + one.rule.lasts
        else:
            self._end(made, "done", why, is_done=True)
        self._note(made, token)

    async def _done(self, made: Intervention, selector: Selector, token: Token[Any]) -> tuple[bool, str]:
        """Do an intervention; return whether it was done, and what the verb says."""
        action = made.action
        intended = action.intended if isinstance(token, DurableToken) else {}
        if intended and not await self._host.keep(made.uid, action.verb, entry_of(made, intended)):
            return False, "it cannot be kept that a durable token is changed; see the log of the gate"
        caller = attrs.evolve(RULES, check=lambda token: _still(selector, token, self._system.clock()))
        return _outcome_in(await self._host.ask(action.message(made.target, (made.target.id,), _reason(made)), caller))

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
            self._finish(made, "refused", made.why)
        self._note(made, made.target.token)

    def _follow(self, token: Token[Any], made: Intervention, group: str) -> None:
        """Have the end of a token counted; nothing of it is kept."""
        rule, number, ends, created = made.rule, made.number, self.ends, token.created_at

        def note(token: Token[Any]) -> None:
            completed = token.state is TokenState.COMPLETED
            seconds = (token.finished_at or created) - created
            ends.append(End(rule, group, number, completed, str(token.state), seconds))

        token.add_done_callback(note)

    def _count_ends(self) -> None:
        while self.ends:
            end = self.ends.popleft()
            made = self.interventions.get(end.number)
            if made is not None:
                made.ended = f"the token is {end.state}, {end.seconds:.3g} s after its submit"
                if made.state == "active" and made.action.is_of_token:
                    self._end(made, "ended", made.ended)
                    self._forget.append((made.uid, made.action.verb))
            one = self.state_of(end.rule)
            if one is None or not end.group:
                continue
            one.groups[end.group].add(end.completed, end.seconds)
            if end.group == "act":
                before = one.trust.lost
                one.trust.note_end(end.completed)
                self._tell_demotion(one, before)

    def _tell_demotion(self, one: RuleState, before: str) -> None:
        if one.trust.lost and not before:
            text = f"rule '{one.rule.name}' only observes from now on: {one.trust.lost}"
            self._host.say("rule.demoted", text, None, {"rule": one.rule.name, "why": one.trust.lost})

    def _follow_proposals(self) -> None:
        for made in list(self._proposed.values()):
            state, why = self._host.proposal_state(made.proposal), made.why
            if state in ("open", "approved") and made.action.is_of_token and made.target.token is None:
                self._host.withdraw(made.proposal)  # or it would wait in the place of one that can still be applied
                state, why = "expired", "its token has ended"
            if state not in ("open", "approved"):
                del self._proposed[made.number]
                over: State = "applied" if state == "applied" else "denied" if state == "denied" else "expired"
                self._finish(made, over, why)
                self._note(made, made.target.token)

    # Undoing

    async def _end_due(self, now: float) -> None:
        for number, made in enumerate(self.active):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
            one = self.state_of(made.rule)
            if not made.ends or made.state != "active":
                continue  # it is being done, or has just ended
            if now >= made.ends:
                await self.undo(made, "its time is over")
            elif one is not None and self._has_missed(made, one, now):
                await self.undo(made, "its rule does not match any more")
            elif one is None:
                await self.undo(made, "its rule is gone")

    def _has_missed(self, made: Intervention, one: RuleState, now: float) -> bool:
        """Tell whether a rule has not matched for long enough that what it has done is undone."""
        token, rule = made.target.token, one.rule
        if made.action.verb != "throttle" and token is not None:
            matches = one.persisting.matches(token, now)
        else:
            matches = one.meant > 0 or one.counting > 0
        if matches:
            one.missed.pop(made.number, None)
            return False
        return now - one.missed.setdefault(made.number, now) >= max(_LEAST_MISS, 2 * rule.wait)

    async def undo(self, made: Intervention, why: str, by: str = "", *, over: State = "expired") -> str:
        """Undo an intervention, if its values are still the ones that it has set; return why it could not be.

        Args:
            made: the intervention.
            why: why it is undone.
            by: the person who has it undone; empty: no person has.
            over: its state then.
        """
        one = self.state_of(made.rule)
        if made.state != "active" or not made.ends:
            return f"it is {made.state}, so there is nothing to undo"
        action = made.action
        token = made.target.token
        if action.is_of_token and token is None:
            self._end(made, "ended", "the token has ended")
            return "the token has ended"
        wrong = changed_since(action.values(made.target), made.set, token)
        if not wrong:
            message = action.undo(made.target, made.before, made.set)

            def check(token: Token[Any]) -> str:
                return changed_since(action.values(made.target), made.set, token)

            try:
                assert message is not None
                done, note = _outcome_in(await self._host.ask(message, attrs.evolve(UNDOER, check=check)))
                wrong = "" if done else note or "nothing was done"
            except TokenGateError as error:
                wrong = str(error)
        state: State = "refused" if wrong else over
        self._end(made, state, wrong or (f"{by} has undone it" if by else why))
        await self._host.keep(made.uid, action.verb, None)
        if by and not wrong and one is not None:
            before = one.trust.lost
            one.trust.note_undo(self._system.clock())
            self._tell_demotion(one, before)
        self._note(made, token)
        return wrong

    async def undo_after_restart(
        self, uid: str, live: Token[Any] | None, action: Action, before: Values, set_: Values
    ) -> None:
        """Undo what an earlier opening of the gate has done to a durable token, if that has not changed since.

        Args:
            uid: of the token.
            live: the token; None if it waits on disk only, or has ended.
            action: what was done.
            before: the values before.
            set_: those that were set.
        """
        number = number_of(uid)
        token = live or (await on_disk(self._system, (number,))).get(number)
        if token is None or action.values_of(token) == before:
            return

        def check(token: Token[Any]) -> str:
            return changed_since(action.values_of(token), set_, token)

        target = Target("", number if live is None else token.id, place_of(token))
        message = action.undo(target, before, set_)
        try:
            assert message is not None
            await self._host.ask(message, attrs.evolve(UNDOER, check=check))
        except TokenGateError as error:
            self._host.say("intervention.refused", f"what was done to token {uid} is not undone: {error}", None, {})

    async def undo_all(self, why: str) -> int:
        """Undo all that is in force; return how many that were."""
        found = list(self.active)
        for made in found:
            await self.undo(made, why, over="undone")
        return len(found)

    def _end(self, made: Intervention, state: State, why: str, *, is_done: bool = False) -> None:
        self.active.remove(made, is_done=is_done)
        one = self.state_of(made.rule)
        if one is not None:
            one.missed.pop(made.number, None)
            if not made.action.is_of_token and state != "refused":
                one.rest(made.target.name, self._system.clock())
        self._finish(made, state, why)

    def _finish(self, made: Intervention, state: State, why: str) -> None:
        """Note that an intervention is over; the oldest of these are forgotten."""
        made.state, made.why = state, why
        self._over.append(made.number)
        while len(self._over) > _KEPT:
            self.interventions.pop(self._over.popleft(), None)

    def _note(self, made: Intervention, token: Token[Any] | None) -> None:
        one = self.state_of(made.rule)
        if one is not None:
            one.count(made.state, self.cap)
        self._tell(made, token)

    def _tell(self, made: Intervention, token: Token[Any] | None) -> None:
        kind = f"intervention.{made.state.replace(' ', '_')}"
        why = f": {made.why}" if made.why else ""
        text = f"rule '{made.rule}', '{made.verb}' for {made.target.name}: {made.state}{why}"
        details = {"intervention": made.number, "rule": made.rule, "verb": made.verb, "state": made.state}
        self._host.say(kind, text, token, details | ({"why": made.why} if made.why else {}))


def live_at(place: Place, operation: str) -> int:
    """Return how many live tokens of an operation a place has."""
    running = place.drain.running()
    if not isinstance(place, ActorPlace):
        return place.mailbox.size + len(running)
    return sum(token.operation == operation for token in (*place.mailbox.tokens(), *running))


def changed_since(now: Values, set_: Values, token: Token[Any] | None) -> str:
    """Return why values are not the ones that were set; empty if they are."""
    if now == set_:
        return ""
    if now.get("begun"):
        return "it has begun"
    by = "" if token is None else token._extras.steered_by
    return f"changed since by {by or 'others'}"


def entry_of(made: Intervention, intended: Values) -> dict[str, Any]:
    """Return what must be known in order to undo an intervention after a crash, with the values that it is to set."""
    return {"rule": made.rule, "verb": made.verb, "before": dict(made.before), "set": dict(intended)}


def _still(selector: Selector, token: Token[Any], now: float) -> str:
    return "" if selector.matches(token, now) else f"it does not match '{selector.text}' any more"


def _reason(made: Intervention) -> str:
    return f"rule {made.rule}, intervention {made.number}: {made.explained[0]}"[:500]


def _outcome_in(answer: Any) -> tuple[bool, str]:
    """Return whether a verb was done, by its answer, and what it says."""
    if isinstance(answer, tuple):
        first = next((one for one in answer if isinstance(one, Outcome)), None)
        return (first is None or first.outcome not in _NOTHING_DONE), "" if first is None else first.note
    if isinstance(answer, ActorOutcome):
        return answer.outcome in ("done", "pending"), answer.note
    return True, ""


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
