"""The answers to verbs about proposals, the freeze of interventions, and the caller."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast, get_args

import attrs
import trio

from actors import UnknownActor
from tokengate.authority._admitted import Admitted, Planned
from tokengate.authority._decide import may_apply, may_approve
from tokengate.authority._events import InterventionsFrozen
from tokengate.authority._ports import Door
from tokengate.authority._proposals import KEPT_OUTCOMES, WAITING, Proposal, State, arguments_of, unknown
from tokengate.control import messages as m
from tokengate.control._admission import Admission, Ask, Perform, admission
from tokengate.control._exceptions import BadRequest, ProposalMade, Refused, UnknownVerb
from tokengate.control._safe_text import plain
from tokengate.control._validation import message_of
from tokengate.control.inspection._queries import place_called
from tokengate.control.inspection._turns import in_turns, next_turn
from tokengate.control.messages import ENVELOPE, ActorOutcome, Change, OnTokens, Outcome
from tokengate.control.registry._kinds import ALL_VERBS
from tokengate.control.transport._protocol import encode_result

_DIGITS = 8  # of a digest, at least
_RANGES = 1_000  # of ids, that an answer has: 20 KiB
_RANGES_AT_ONCE = 250  # that are found in one turn
_AT_ONCE = 1_000  # targets that are looked at in one turn

_MOST: Final = 64 * 1024 - 256  # bytes of the answer to `propose`, without what the wire adds
_WRAPPED: Final = len(encode_result(0, "")) - 2
_MOST_ARGUMENTS: Final = 16 * 1024  # bytes; longer ones are shown by their types


class AuthorityVerbs:
    """The verbs about proposals, the freeze of interventions, and the caller.

    Args:
        authority: of the gate.
        perform: answers a message that was admitted.
        ask: answers a message of a caller, if it is let in.
    """

    def __init__(self, authority: Door, perform: Perform, ask: Ask) -> None:
        self._authority = authority
        self._perform = perform
        self._ask = ask

    async def whoami(self, _message: m.Whoami) -> m.Identity:
        caller = admission().caller
        known = self._authority.rights
        rights = {right: str(scope) for right, scope in known.of(caller).items()}
        groups = tuple(sorted(caller.groups))
        frozen = await self._authority.freeze.is_on()
        log = self._authority.recorder.log
        audit = str(log.place) if log is not None and "audit" in rights else ""
        granted = known.are_granted(caller)
        return m.Identity(caller.principal, caller.owner, groups, caller.via, rights, frozen, audit, granted)

    # Proposals

    async def proposals(self, message: m.Proposals) -> tuple[m.ProposalRow, ...]:
        wanted = message.select.strip()
        if wanted not in ("", "*", *get_args(State), *ALL_VERBS):
            states = ", ".join(get_args(State))
            raise BadRequest(f"'{wanted[:40]}' is neither a state of proposals ({states}) nor a verb")
        rows = [one.row async for one in in_turns(self._authority.proposals) if await self._is_seen(one)]
        return tuple(row for row in rows if wanted in ("", "*", row.state, row.verb))

    async def show_proposal(self, message: m.ShowProposal) -> m.ProposalDetails:
        return await self._details(message.number)

    async def _details(self, number: int) -> m.ProposalDetails:
        proposal = await self._seen(number)
        arguments = proposal.arguments
        if proposal.message.unrecorded and await self._beyond(_here(), proposal, "arguments"):
            types = {name: _types_of(arguments[name]) for name in proposal.message.unrecorded}
            arguments = {**arguments, **types}  # those of the proposal stay as they are
        elif proposal.message.unrecorded:
            _here().has_read = True
        if _size(arguments) > _MOST_ARGUMENTS:
            arguments = {name: type(value).__name__ for name, value in arguments.items()}
        return m.ProposalDetails(
            proposal.row, arguments, await ranges(proposal.ids), proposal.path, proposal.counts, proposal.outcomes
        )

    async def propose(self, message: m.Propose) -> m.ProposalDetails:
        """Answer `Propose`: send the dry run of its verb, for the same caller and through the same door."""
        verb, here = message.verb, _here()
        found: Any = ALL_VERBS.get(verb)
        if found is None:
            raise UnknownVerb(f"there is no verb '{verb[:60]}'")
        if found.local or not issubclass(found, Change) or "dry_run" not in found.takes:
            raise BadRequest(f"'{verb}' has no dry run, so there is no proposal of it")
        if given := [name for name in ENVELOPE if name in message.args]:
            raise BadRequest(f"'{given[0]}' stands beside the arguments of '{verb}', not among them")
        beside = {name: value for name in found.takes if (value := getattr(message, name))}
        asked: Any = message_of(found, {**message.args, **beside, "dry_run": True})
        if not asked.changes:
            raise BadRequest(f"'{verb}' with these arguments changes nothing, so there is no proposal of it")
        planned = Planned()

        def plan(admission: Admission) -> None:
            cast("Admitted", admission).planned = planned

        try:
            answer = await self._ask(asked, here.caller, plan)
        except ProposalMade as made:
            number = made.number
        else:
            number = answer.proposal.number
        if number:
            details = await self._details(number)
        else:
            now = self._authority.proposals.now()
            row = m.ProposalRow(0, verb, "none", "nothing", 0, here.caller.principal, asked.reason, now, now, "", "")
            details = m.ProposalDetails(row, arguments_of(asked), "", "", {}, ())
        return self._with_outcomes(details, planned) if isinstance(asked, OnTokens) else details

    def _with_outcomes(self, details: m.ProposalDetails, planned: Planned) -> m.ProposalDetails:
        """Return the proposal of a dry run with as many outcomes as there is room for."""
        number, live, counts = details.row.number, self._authority.system.live, dict(planned.counts)
        outcomes = planned.others
        if number:
            made = self._authority.proposals.get(number)
            counts = {"would": len(made.ids), **counts}
            tokens = ((id, live.get(id)) for id in made.ids[: KEPT_OUTCOMES - len(outcomes)])
            outcomes = outcomes + [
                Outcome(id, "" if token is None else plain(token.operation), "would", made.note) for id, token in tokens
            ]
        details = attrs.evolve(details, counts=counts, guards=dict(planned.guards))
        room, kept = _MOST - _size(details), 0
        for one in outcomes:
            room -= _size(one) + 1
            kept += room >= 0
        left_out = sum(counts.values()) - kept
        return attrs.evolve(details, outcomes=tuple(outcomes[:kept]), left_out=left_out)

    async def wait_approval(self, message: m.WaitApproval) -> m.ProposalRow:
        proposal = await self._seen(message.number)
        with trio.move_on_after(message.wait):
            while proposal.state == "open":
                with trio.move_on_after(max(0.0, proposal.expires - self._authority.proposals.now())):
                    await proposal.changed.wait()
                self._authority.proposals.expire()
        return proposal.row

    async def approve(self, message: m.Approve) -> m.ProposalRow:
        proposal, here = await self._seen(message.number), _here()

        async def why_not() -> str:
            why = may_approve(here.caller, proposal.proposer)
            consents = ("arguments",) if proposal.consent is not None else ()
            for right in ("approve", self._authority.right_of(proposal.message), *consents):
                why = why or await self._beyond(here, proposal, right)
            if not why and len(message.digest) < _DIGITS:
                raise BadRequest(
                    f"approve needs the first {_DIGITS} digits of the digest, so that you agree to what you have seen: "
                    f"'tokengate proposal show {proposal.number}'"
                )
            return why or ("" if proposal.digest.startswith(message.digest.lower()) else "its digest is another one")

        await self._change(message, proposal, why_not, "approved", "open")
        if proposal.consent is not None:
            self._authority.proposals.move(proposal, "applied", "approved")
        return proposal.row

    async def deny(self, message: m.Deny) -> m.ProposalRow:
        proposal, here = await self._seen(message.number), _here()

        async def why_not() -> str:
            own = here.caller.owner == proposal.proposer.owner
            if own and here.caller.rights is not None:  # it may be one that only looks
                own = here.scope(self._authority.right_of(proposal.message)) is not None
            return "" if own else await self._beyond(here, proposal, "approve")

        await self._change(message, proposal, why_not, "denied", "open", "approved")
        return proposal.row

    async def _change(
        self,
        message: Change[Any],
        proposal: Proposal,
        why_not: Callable[[], Awaitable[str]],
        to: State,
        *sources: State,
    ) -> None:
        """Change the state of a proposal, on record; or refuse it, if there is a reason why not."""
        here, proposals = _here(), self._authority.proposals
        if why := proposals.why_not(proposal, to, *sources) or await why_not():
            raise self._refused(message, proposal, why)
        here.intent = await self._authority.intend(here, ())
        if why := await why_not():  # rights may have changed meanwhile
            raise self._refused(message, proposal, why)
        proposals.move(proposal, to, *sources, by=here.caller)

    def _refused(self, message: Change[Any], proposal: Proposal, why: str) -> Refused:
        return self._authority.refused(_here().caller, message, f"proposal {proposal.number}: {why}")

    async def apply(self, message: m.Apply) -> m.Applied:
        proposal, here, proposals = await self._seen(message.number), _here(), self._authority.proposals
        why = proposals.why_not(proposal, "applied", *WAITING)
        why = why or may_apply(here.caller, proposal.proposer, proposal.approver)
        if not why and proposal.state == "open" and proposal.consent is not None:
            why = "it is a call that waits for consent, which its approval applies"
        elif not why and proposal.state == "open" and proposal.needs == "approval" and not message.break_glass:
            why = "it needs the approval of another person first"
        elif not why and arguments_of(proposal.message) != proposal.arguments:
            why = "its arguments have been changed since it was made"
        if why:
            raise self._refused(message, proposal, why)
        before, admitted = proposal.state, None
        proposals.move(proposal, "applied", *WAITING)  # at once: another one that applies it now is refused
        try:
            admitted = cast(
                "Admitted", await self._authority.admit_for(_to_do(proposal, message), here.caller, proposal)
            )
            answer = await self._perform(admitted.message, admitted)
        except BaseException:
            if admitted is None or not admitted.acts:
                proposals.move(proposal, before, "applied")
            else:
                proposal.counts = {"failed": 1}
            raise
        outcomes = answer if isinstance(proposal.message, OnTokens) else ()
        actors = (answer,) if isinstance(answer, ActorOutcome) else ()
        proposal.keep((*outcomes, *actors))
        return m.Applied(proposal.row, tuple(outcomes), actors)

    async def _seen(self, number: int) -> Proposal:
        """Return a proposal of which the caller may see all targets.

        Raises:
            UnknownProposal: there is none.
        """
        found = self._authority.proposals.get(number)
        if not await self._is_seen(found):
            raise unknown(number)
        return found

    async def _is_seen(self, proposal: Proposal) -> bool:
        here, proposer = _here(), proposal.proposer
        if here.sees_all:
            return True
        # A user sees what its API tokens propose; such a token, which a grant may restrict, only its own.
        if here.caller.owner == proposer.owner and here.caller.principal in (
            proposer.principal,
            f"uid:{proposer.owner}",
        ):
            return True
        return not await self._beyond(here, proposal, "view")

    async def _beyond(self, here: Admitted, proposal: Proposal, right: str) -> str:
        """Return why a caller has not a right for all targets of a proposal; empty if it has."""
        scope, why = here.scope(right), f"'{here.caller.principal}' has not the right '{right}' for all of its targets"
        if scope is None:
            return why
        if scope.everywhere:
            return ""
        if proposal.path:
            try:
                return "" if scope.has_place(place_called(self._authority.system, proposal.path)) else why
            except UnknownActor:
                return why
        live, now = self._authority.system.live, self._authority.clock()
        async for id in in_turns(proposal.ids, max(1, _AT_ONCE // (1 + scope.terms))):
            token = live.get(id)
            if token is None or not scope.has(token, now):
                return why
        return "" if proposal.ids else why

    # The freeze

    async def freeze(self, message: m.Freeze) -> bool:
        if not message.reason.strip():
            raise BadRequest("freeze needs a reason: it is on record, and others see why rules do not act")
        principal = admission().caller.principal
        new = await self._authority.freeze.begin(principal, message.reason)
        self._authority.system.publish(InterventionsFrozen("", principal, message.reason, message.revert))
        return new

    async def unfreeze(self, _message: m.Unfreeze) -> bool:
        return await self._authority.freeze.end()


def _here() -> Admitted:
    return cast("Admitted", admission())


def _to_do(proposal: Proposal, message: m.Apply) -> Any:
    """Return the message of a proposal, as it is applied."""
    known = proposal.message
    waits = {"wait": message.wait} if hasattr(known, "wait") else {}
    return attrs.evolve(
        known,
        dry_run=False,
        force=known.force or message.force,
        reason=message.reason or known.reason,
        break_glass=message.break_glass,
        **waits,
    )


def _size(said: object) -> int:
    """Return the bytes of a value as JSON, as the wire has it."""
    return len(encode_result(0, said)) - _WRAPPED


def _types_of(value: Any) -> Any:
    """Return the types of values of JSON, in the places of these."""
    if isinstance(value, dict):
        return {name: type(one).__name__ for name, one in value.items()}
    return [type(one).__name__ for one in value] if isinstance(value, list) else type(value).__name__


async def ranges(ids: tuple[int, ...]) -> str:
    """Return sorted ids as text, the first ranges of them: `3-7,12`."""
    texts: list[str] = []
    at = 0
    while at < len(ids) and len(texts) < _RANGES:
        first = ids[at]
        # In a row, ids grow as their places do.
        at = bisect_right(range(len(ids)), first - at, at, key=lambda place: ids[place] - place)
        texts.append(str(first) if ids[at - 1] == first else f"{first}-{ids[at - 1]}")
        if len(texts) % _RANGES_AT_ONCE == 0:
            await next_turn()
    return ",".join(texts) if at == len(ids) else f"{','.join(texts)} and {len(ids) - at:,} more"
