"""Undoing: what rules did is undone when its time is over, when they match no more, or when it is asked for."""

from __future__ import annotations

from typing import Any, Final

import attrs
import trio

from actors import Token, TokenGateError
from actors.lowlevel import place_of
from tokengate.control._uids import number_of
from tokengate.control.inspection._past_tokens import on_disk
from tokengate.predict._action import Action
from tokengate.predict._arguments import Values
from tokengate.predict._host import UNDOER, Host, outcome_in
from tokengate.predict._intervention import Intervention, RuleState, State
from tokengate.predict._ledger import Ledger
from tokengate.predict._rule_verbs import Target

_AT_ONCE: Final = 500  # interventions, before other tasks of the loop have a turn
_LEAST_MISS: Final = 2.0  # seconds for which a token must not have matched, before what was done to it is undone


class Undoing:
    """Undoes interventions, if the values are still those that they have set; on the system loop.

    Args:
        host: the gate.
        ledger: the interventions.
    """

    def __init__(self, host: Host, ledger: Ledger) -> None:
        self._host = host
        self._system = host.system
        self._ledger = ledger

    async def end_due(self, now: float) -> None:
        """Undo what has lasted long enough, and what no rule means any more."""
        for number, made in enumerate(self._ledger.active):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
            one = self._ledger.state_of(made.rule)
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
        one = self._ledger.state_of(made.rule)
        if made.state != "active" or not made.ends:
            return f"it is {made.state}, so there is nothing to undo"
        action = made.action
        token = made.target.token
        if action.is_of_token and token is None:
            self._ledger.end(made, "ended", "the token has ended")
            return "the token has ended"
        wrong = changed_since(action.values(made.target), made.set, token)
        if not wrong:
            message = action.undo(made.target, made.before, made.set)

            def check(token: Token[Any]) -> str:
                return changed_since(action.values(made.target), made.set, token)

            try:
                assert message is not None
                done, note = outcome_in(await self._host.ask(message, attrs.evolve(UNDOER, check=check)))
                wrong = "" if done else note or "nothing was done"
            except TokenGateError as error:
                wrong = str(error)
        state: State = "refused" if wrong else over
        self._ledger.end(made, state, wrong or (f"{by} has undone it" if by else why))
        await self._host.keep(made.uid, action.verb, None)
        if by and not wrong and one is not None:
            before = one.trust.lost
            one.trust.note_undo(self._system.clock())
            self._ledger.tell_demotion(one, before)
        self._ledger.note(made, token)
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
        found = list(self._ledger.active)
        for made in found:
            await self.undo(made, why, over="undone")
        return len(found)


def changed_since(now: Values, set_: Values, token: Token[Any] | None) -> str:
    """Return why values are not the ones that were set; empty if they are."""
    if now == set_:
        return ""
    if now.get("begun"):
        return "it has begun"
    by = "" if token is None else token._extras.steered_by
    return f"changed since by {by or 'others'}"
