"""What one message may do, asked while it is answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import attrs

from actors import Token
from actors.lowlevel import ActorPlace, Place
from tokengate.authority._decide import Need, greatest, need_of
from tokengate.authority._grants import Scope
from tokengate.authority._ports import Door
from tokengate.authority._proposals import Needs, Proposal
from tokengate.control._admission import Admission, Caller, Closable, Found, Guarded
from tokengate.control._exceptions import ProposalMade, Refused
from tokengate.control._safe_text import plain
from tokengate.control.inspection._queries import is_of_supervisor
from tokengate.control.inspection._selector import Selector, parse
from tokengate.control.inspection._turns import in_turns, next_turn
from tokengate.control.messages import Change, Message, OnTokens, Outcome, Proposed
from tokengate.control.steering._outcomes import outcome
from tokengate.control.stream._record import Record
from tokengate.policy._policies import PlaceName

_AT_ONCE = 100  # tokens that are decided about in one turn
_KEPT: Final = 1_000
_NEVER: Final[Need] = "never"


@attrs.define
class Planned:
    """What a dry run would do, in the place of an outcome for each token.

    Attributes:
        counts: {outcome: number of tokens}.
        guards: {guard: number of tokens of the proposal}.
        others: the first outcomes of those that are not part of it.
    """

    counts: Counter[str] = attrs.field(factory=Counter)
    guards: Counter[str] = attrs.field(factory=Counter)
    others: list[Outcome] = attrs.field(factory=list)

    def note(self, token: Token[Any] | Outcome, refusal: Outcome | None) -> None:
        """Count a token."""
        if refusal is None:
            assert isinstance(token, Token)
            self.guards[token._place.properties.guard] += 1
            return
        self.counts[refusal.outcome] += 1
        if len(self.others) < _KEPT:
            self.others.append(refusal)


class Admitted(Admission):
    """What one message may do.

    Args:
        authority: the door that it came through.
        message: the message.
        caller: its sender.
        right: what it needs.
        proposal: the one that it applies; None without one.
    """

    # Defaults of the class: those that look need few of these.
    proposal: Proposal | None = None
    intent: int | None = None  # number of its record, once that is written
    targets: Sequence[int] = ()  # ids of the tokens that it acts on
    path: str = ""  # of the actor or operation that it acts on
    acts: bool = False  # whether something may have been done already
    planned: Planned | None = None  # of `propose`: gets what the dry run would do, which ends with `ProposalMade`
    _matches: Selector | None = None  # the targets of the proposal

    def __init__(
        self,
        authority: Door,
        message: Message[Any],
        caller: Caller,
        right: str,
        proposal: Proposal | None = None,
    ) -> None:
        self.message = message
        self.caller = caller
        self._authority = authority
        self._right = right
        self._first = authority.rights.of(caller)  # by what it was let in
        self._known = (authority.rights, self._first)
        self.has_read = right == "arguments"  # whether values are shown to the caller
        if message.changes:
            self._begun: set[int] = set()  # ids of tokens that it has acted on: these need not match any more
        if proposal is not None:
            self.proposal = proposal
            self._matches = parse(proposal.selector)

    def scope(self, right: str) -> Scope | None:
        """Return where the caller has a right now."""
        rights, scopes = self._known
        if rights is not self._authority.rights:  # the file was read again
            rights = self._authority.rights
            scopes = rights.of(self.caller)
            self._known = rights, scopes  # at once: observers of streams ask, too, on any thread
        return scopes.get(right)

    # Seeing

    @property
    def _sees_in(self) -> list[Scope]:
        """Where the caller may see: by the right `view`, and by the one that its message needs."""
        both = (self.scope(right) for right in dict.fromkeys(("view", self._right)))
        return [scope for scope in both if scope is not None]

    @property
    def sees_all(self) -> bool:
        view = self.scope("view")
        return view is not None and view.everywhere

    @property
    def terms(self) -> int:
        return 0 if self.sees_all else sum(scope.terms for scope in self._sees_in)

    @property
    def sight(self) -> str:
        return "" if self.sees_all else "|".join(dict.fromkeys(map(str, self._sees_in)))

    def sees(self, token: Token[Any]) -> bool:
        return self._has("view", token) or (self._right != "view" and self._has(self._right, token))

    def sees_record(self, record: Record) -> bool:
        return self.sees_all or any(scope.has_record(record, record.ended) for scope in self._sees_in)

    def sees_place(self, place: Place | PlaceName | str) -> bool:
        return self.sees_all or any(self._includes(scope, place) for scope in self._sees_in)

    def reaches(self, token: Token[Any]) -> bool:
        return self._has(self._right, token)

    def covers(self, select: str) -> bool:
        scope = self.scope(self._right)
        return scope is not None and (scope.everywhere or scope.covers(parse(select)))

    def shows(self, token: Token[Any]) -> bool:
        return self._reads(token._place, self._has("arguments", token))

    def shows_place(self, place: Place) -> bool:
        return self._reads(place, self._has_place("arguments", place))

    def _reads(self, place: Any, may: bool) -> bool:
        """Note that values are shown, if the place shows any and the caller may see them."""
        self.has_read = self.has_read or (may and bool(place.properties.show))
        return may

    def on_change(self, stream: Closable) -> None:
        self._authority.watch(stream, self)

    @property
    def has_changed(self) -> bool:
        """Whether the caller has other rights than when this was made."""
        return any(self.scope(right) != self._first.get(right) for right in ("view", self._right))

    def _has(self, right: str, token: Token[Any]) -> bool:
        scope = self.scope(right)
        return scope is not None and (scope.everywhere or scope.has(token, self._authority.clock()))

    def _has_place(self, right: str, place: Place | PlaceName | str) -> bool:
        scope = self.scope(right)
        return scope is not None and self._includes(scope, place)

    def _includes(self, scope: Scope, place: Place | PlaceName | str) -> bool:
        if isinstance(place, PlaceName):
            return scope.has_named(place)
        found = self._authority.system.place_at(place) if isinstance(place, str) else place
        return scope.has_actor(str(place)) if found is None else scope.has_place(found)

    # Doing

    def reach(self, place: Place | PlaceName | str) -> None:
        if not self._has_place(self._right, place):
            path = place if isinstance(place, str) else place.actor if isinstance(place, PlaceName) else place.path
            what = f"all of '{path}'" if self.sees_place(place) else "all that is below it"
            raise Refused(f"'{self.caller.principal}' has not the right '{self._right}' for {what}")

    def judge(self, token: Token[Any], doing: str) -> Outcome | None:
        caller = self.caller
        if caller.can_be_frozen and self._authority.freeze.holds:
            return outcome(token, "refused", "interventions of rules are frozen meanwhile")
        if caller.check is not None and (why := caller.check(token)):
            return outcome(token, "refused", why)
        refusal, need = self._judged(token, doing)
        if refusal is None and need != "nothing":
            return outcome(token, "refused", "it has begun meanwhile, so another person must approve it; ask again")
        if refusal is None:
            self._begun.add(token.id)
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
        matches = self._matches
        if matches is not None and token.id not in self._begun and not matches.matches(token, self._authority.clock()):
            return outcome(token, "changed", f"it does not match '{matches.text}' any more"), "never"
        guard = token._place.properties.guard
        run = token._run  # which runs for it, and ends with the last of those that it runs for
        begun = token.started_at is not None or (run is not None and run.started_at is not None)
        need = need_of(guard, begun=begun, counts=bool(doing))
        if need == "never":
            text = f"its guard is 'never': tokens of '{token.actor}' can only be looked at"
            return outcome(token, "refused", text), need
        need = self.lacks(token, need)
        if need == "force" and not self._proposes_force:
            text = f"its guard is '{guard}'; use force to {doing} it"
            if self._change.force:
                text += ", for which you need the right 'override'"
            return outcome(token, "refused", text), need
        if need == "approval" and self.proposal is not None:
            return outcome(token, "refused", "it has begun since, so another person must approve it"), need
        return None, need

    def lacks(self, token: Token[Any], need: Need) -> Need:
        """Return what is needed for a token and was not given."""
        if need not in ("force", "approval"):
            return need
        given = self.forces(token) if need == "force" else self.agreed or self._glass(token)
        return "nothing" if given else need

    @property
    def _proposes_force(self) -> bool:
        """Whether what needs force becomes a proposal: of a dry run, and of a rule, which never forces."""
        return self._change.dry_run or self.caller.is_rule

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
        needs: set[Need] = set()
        glass = bool(message.break_glass)
        size = max(1, 100 * _AT_ONCE // (30 + 10 * self.terms))
        async for start in in_turns(range(0, len(found), size)):
            for one in found[start : start + size]:
                refusal, need = (one, _NEVER) if isinstance(one, Outcome) else self._judged(one, guarded(one))
                if self.planned is None:
                    planned.append(refusal or one)
                else:
                    self.planned.note(one, refusal)
                if refusal is None and isinstance(one, Token):
                    (going if need == "nothing" and not message.dry_run else waiting).append(one.id)
                    needs.add(need)
                    glass = glass and self._glass(one)
        targets = len(going) + len(waiting)
        if self._authority.is_bulk(message, targets) and not self.agreed and not glass:
            if self.proposal is not None:
                why = f"{targets:,} tokens need the approval of another person first"
                raise self._authority.refused(self.caller, message, why)
            waiting, going = waiting + going, []
            needs.add("approval")
        if self.planned is not None:
            made = await self._propose(message, waiting, greatest(needs)) if waiting else None
            raise ProposalMade("nothing was done: a dry run", 0 if made is None else made.number)
        if waiting:
            planned = await self._proposed(message, planned, await self._propose(message, waiting, greatest(needs)))
        if going:
            self.targets = going
            self.intent = await self._authority.intend(self, going)
            self.acts = True
        return planned

    async def _propose(self, message: OnTokens, targets: list[int], needs: Needs) -> Proposal:
        """Make a proposal of tokens, in turns: each line here takes milliseconds for very many."""
        selector = message.select if isinstance(message.select, str) else ""
        await next_turn()
        ids = tuple(sorted(targets))
        await next_turn()
        resolved = attrs.evolve(message, select=ids)
        await next_turn()
        return self._authority.propose(resolved, self.caller, ids, selector=selector, needs=needs)

    async def _proposed(self, message: OnTokens, planned: list[Found], made: Proposal) -> list[Found]:
        """Return the outcomes of the tokens of a proposal in their places."""
        word, those = "would" if message.dry_run else "awaiting", set(made.ids)
        notice: Proposed | None = made.notice
        found: list[Found] = []
        async for one in in_turns(planned, 10 * _AT_ONCE):
            if isinstance(one, Outcome) or one.id not in those:
                found.append(one)
            else:
                found.append(Outcome(one.id, plain(one.operation), word, made.note, notice))
                notice = None
        return found

    def done(self, answer: object, error: BaseException | None) -> None:
        if self.intent is not None:
            self._authority.conclude(self, self.intent, answer, error)
        elif self.has_read and error is None:
            self._authority.recorder.note("read", self.caller, self.message)
        elif isinstance(self.message, OnTokens) and not self.message.dry_run and isinstance(answer, tuple):
            refused = next((one for one in answer if one.outcome == "refused"), None)
            if refused is not None:
                self._authority.refused(self.caller, self.message, f"token {refused.token}: {refused.note}")


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
