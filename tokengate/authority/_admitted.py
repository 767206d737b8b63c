"""What one message may do, asked while it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from actors import Token
from actors.lowlevel import ActorPlace, Place
from tokengate.authority._decide import Need, need_of
from tokengate.authority._grants import Scope
from tokengate.authority._ports import Door
from tokengate.authority._proposals import Needs, Proposal
from tokengate.control._admission import Admission, Caller, Found, Guarded
from tokengate.control._exceptions import Refused
from tokengate.control.inspection._queries import is_of_supervisor
from tokengate.control.inspection._selector import Selector, parse
from tokengate.control.inspection._turns import in_turns
from tokengate.control.messages import Change, Message, OnTokens, Outcome, Proposed
from tokengate.control.steering._outcomes import outcome

_AT_ONCE = 100  # tokens that are decided about in one turn


class Admitted(Admission):
    """What one message may do.

    Args:
        authority: the door that it came through.
        message: the message.
        caller: its sender.
        right: what it needs.
        proposal: the one that it applies; None without one.
    """

    def __init__(
        self,
        authority: Door,
        message: Message[Any],
        caller: Caller,
        right: str,
        proposal: Proposal | None = None,
    ) -> None:
        super().__init__(message, caller)
        self.proposal = proposal
        self.intent: int | None = None  # number of its record, once that is written
        self._authority = authority
        self._right = right
        self._matches: Selector | None = None if proposal is None else parse(proposal.selector)
        view = self.scope("view")
        self.sees_all = view is not None and view.everywhere

    def scope(self, right: str) -> Scope | None:
        """Return where the caller has a right now."""
        return self._authority.rights.scope(self.caller, right)

    # Seeing

    def sees(self, token: Token[Any]) -> bool:
        return self._has("view", token) or self._has(self._right, token)

    def sees_place(self, place: Place) -> bool:
        return self._has_place("view", place) or self._has_place(self._right, place)

    def sees_selector(self, selector: Selector) -> bool:
        """Tell whether all tokens of a selector are tokens that the caller may see: it has all terms of a grant."""
        view = self.scope("view")
        return view is not None and all(
            any(set(mine.parts) <= set(selector.parts) for mine in group) for group in view.each
        )

    def shows(self, place: Place) -> bool:
        return self._has_place("arguments", place)

    def _has(self, right: str, token: Token[Any]) -> bool:
        scope = self.scope(right)
        return scope is not None and (scope.everywhere or scope.has(token, self._authority.clock()))

    def _has_place(self, right: str, place: Place) -> bool:
        scope = self.scope(right)
        return scope is not None and scope.has_place(place)

    # Doing

    def reach(self, place: Place) -> None:
        if not self._has_place(self._right, place):
            raise Refused(f"'{self.caller.principal}' has not the right '{self._right}' for all of '{place.path}'")

    def judge(self, token: Token[Any], doing: str) -> Outcome | None:
        refusal, need = self._judged(token, doing)
        if refusal is None and need == "approval":
            return outcome(token, "refused", "it has begun meanwhile, so another person must approve it; ask again")
        return refusal

    def elsewhere(self, token: Token[Any], place: Place) -> Outcome | None:
        """Return the refusal to move a token to a place where it would be outside of the grant."""
        scope = self.scope(self._right)
        if scope is not None and scope.has(_moved(token, place), self._authority.clock()):
            return None
        return outcome(token, "refused", f"your grant for '{self._right}' does not reach '{place.path}'")

    def _judged(self, token: Token[Any], doing: str) -> tuple[Outcome | None, Need]:
        """Return the refusal of a token, and what it needs that it does not have."""
        if not self._has(self._right, token):
            if self._has("view", token):
                return outcome(token, "refused", f"your grants for '{self._right}' do not reach it"), "never"
            return Outcome(token.id, "", "unknown", "no live token that you may see has this id"), "never"
        if self._matches is not None and not self._matches.matches(token, self._authority.clock()):
            return outcome(token, "changed", f"it does not match '{self._matches.text}' any more"), "never"
        place = token._place
        guard, begun = place.properties.guard, token.started_at is not None
        need = need_of(guard, begun=begun, counts=bool(doing))
        if need == "never":
            text = f"its guard is 'never': tokens of '{token.actor}' can only be looked at"
            return outcome(token, "refused", text), need
        if need == "nothing" or self._glass(token):
            return None, "nothing"
        if need == "approval":
            if not self.agreed:
                return None, need
        elif not self.forces(token):
            text = f"its guard is '{guard}'; use force to {doing} it"
            if self._change.force:
                text += ", for which you need the right 'override'"
            return outcome(token, "refused", text), need
        return None, "nothing"

    @property
    def _change(self) -> Change[Any]:
        assert isinstance(self.message, Change)
        return self.message

    @property
    def agreed(self) -> bool:
        """Whether another person has agreed to it."""
        return self.proposal is not None and self.proposal.approver is not None

    def forces(self, token: Token[Any]) -> bool:
        """Tell whether force was given, by a caller that may give it."""
        return self._change.force and self._has("override", token)

    def _glass(self, token: Token[Any]) -> bool:
        return bool(self._change.break_glass) and self._has("break_glass", token)

    async def plan(self, message: OnTokens, found: Sequence[Found], guarded: Guarded) -> list[Found]:
        planned: list[Found] = []
        going: list[int] = []
        waiting: list[int] = []
        forced = False
        async for one in in_turns(found, _AT_ONCE):
            if isinstance(one, Outcome):
                planned.append(one)
                continue
            refusal, need = self._judged(one, guarded(one))
            if message.dry_run and need == "force":
                refusal, forced = None, True
            if refusal is not None:
                planned.append(refusal)
                continue
            planned.append(one)
            (waiting if need == "approval" else going).append(one.id)
        if self._authority.is_bulk(message, going) and not self.agreed and not message.break_glass:
            waiting, going = waiting + going, []
        if message.dry_run:
            needs: Needs = "approval" if waiting else "force" if forced else "nothing"
            return self._proposed(message, planned, {*waiting, *going}, needs, "would")
        if waiting:
            planned = self._proposed(message, planned, set(waiting), "approval", "awaiting")
        if going:
            self.intent = await self._authority.intend(self, going)
        return planned

    def _proposed(self, message: OnTokens, planned: list[Found], ids: set[int], needs: Needs, word: str) -> list[Found]:
        """Make a proposal of some of the tokens, and return the outcomes of these in their places."""
        if not ids:
            return planned
        selector = message.select if isinstance(message.select, str) else ""
        targets = tuple(sorted(ids))
        resolved = attrs.evolve(message, select=targets)
        made = self._authority.propose(resolved, self.caller, targets, selector=selector, needs=needs)
        note = f"proposal {made.number}" + (f" needs {needs}" if needs != "nothing" else "")
        notice: Proposed | None = made.notice
        found: list[Found] = []
        for one in planned:
            if not isinstance(one, Outcome) and one.id in ids:
                found.append(attrs.evolve(outcome(one, word, note), proposal=notice))
                notice = None
            else:
                found.append(one)
        return found

    def done(self, answer: object, error: BaseException | None) -> None:
        if self.intent is not None:
            self._authority.conclude(self, self.intent, answer, error)


def begun_below(places: Sequence[ActorPlace]) -> list[Token[Any]]:
    """Return the guarded tokens that actors have begun; the guard of a supervisor is for its own steps."""
    return [
        token
        for place in places
        if place.properties.guard in ("force", "approval") and not is_of_supervisor(place)
        for token in place.drain.running()
    ]


def _moved(token: Token[Any], place: Place) -> Any:
    """Return what selectors of grants read of a token, as it would be at a place."""
    return _Elsewhere(token.operation, place.path, place.affinity, token.tags)


@attrs.frozen
class _Elsewhere:
    operation: str
    actor: str
    affinity: str
    tags: Any
