"""The answers to verbs about proposals, the freeze of interventions, and the caller."""

from __future__ import annotations

from typing import Any, cast

import attrs

from actors import UnknownActor
from tokengate.authority._admitted import Admitted
from tokengate.authority._decide import may_apply, may_approve
from tokengate.authority._ports import Door
from tokengate.authority._proposals import Proposal, State, arguments_of, unknown
from tokengate.control import messages as m
from tokengate.control._admission import Perform, admission
from tokengate.control._exceptions import BadRequest
from tokengate.control.inspection._queries import place_called
from tokengate.control.messages import ActorOutcome, OnTokens

_DIGITS = 8  # of a digest, at least


class AuthorityVerbs:
    """The verbs about proposals, the freeze of interventions, and the caller.

    Args:
        authority: of the gate.
        perform: answers a message that was admitted.
    """

    def __init__(self, authority: Door, perform: Perform) -> None:
        self._authority = authority
        self._perform = perform

    async def whoami(self, _message: m.Whoami) -> m.Identity:
        caller = admission().caller
        rights = self._authority.rights.of(caller)
        groups = tuple(sorted(caller.groups))
        return m.Identity(caller.principal, caller.owner, groups, caller.via, rights, self._authority.frozen)

    # Proposals

    async def proposals(self, message: m.Proposals) -> tuple[m.ProposalRow, ...]:
        wanted = message.select.strip()
        rows = (one.row for one in self._authority.proposals if self._is_seen(one))
        return tuple(row for row in rows if wanted in ("", "*", row.state, row.verb))

    async def show_proposal(self, message: m.ShowProposal) -> m.ProposalDetails:
        return _details(self._seen(message.number))

    async def approve(self, message: m.Approve) -> m.ProposalRow:
        proposal, here = self._seen(message.number), _here()
        needs_another = proposal.needs == "approval" and not proposal.proposer.is_rule
        why = may_approve(here.caller, proposal.proposer, needs_another=needs_another) or self._beyond(here, proposal)
        if why:
            raise self._authority.refused(here.caller, message, why)
        if len(message.digest) < _DIGITS:
            raise BadRequest(
                f"approve needs the first {_DIGITS} digits of the digest, so that you agree to what you have seen: "
                f"'tokengate proposal show {proposal.number}'"
            )
        if not proposal.digest.startswith(message.digest):
            raise self._authority.refused(
                here.caller, message, f"the digest of proposal {proposal.number} is another one"
            )
        await self._change(here, proposal, "approved", "open")
        return proposal.row

    async def deny(self, message: m.Deny) -> m.ProposalRow:
        proposal, here = self._seen(message.number), _here()
        own = here.caller.owner == proposal.proposer.owner
        if not own and here.scope("approve") is None:
            raise self._authority.refused(
                here.caller, message, f"'{here.caller.principal}' has not the right 'approve'"
            )
        await self._change(here, proposal, "denied", "open", "approved")
        return proposal.row

    async def _change(self, here: Admitted, proposal: Proposal, to: State, *sources: State) -> None:
        """Change the state of a proposal, on record."""
        if proposal.state in sources:
            here.intent = await self._authority.intend(here, ())
        self._authority.proposals.move(proposal, to, *sources)
        proposal.approver = here.caller

    async def apply(self, message: m.Apply) -> m.Applied:
        proposal, here = self._seen(message.number), _here()
        why = may_apply(here.caller, proposal.proposer, proposal.approver)
        if not why and proposal.state == "open" and proposal.needs == "approval" and not message.break_glass:
            why = f"proposal {proposal.number} needs the approval of another person first"
        if why:
            raise self._authority.refused(here.caller, message, why)
        before = proposal.state
        self._authority.proposals.move(proposal, "applied", "open", "approved")
        try:
            admitted = await self._authority.admit_for(_to_do(proposal, message), here.caller, proposal)
            answer = await self._perform(admitted.message, admitted)
        except BaseException:
            if proposal.state == "applied" and not proposal.counts:
                proposal.state = before  # nothing was done
            raise
        if isinstance(answer, ActorOutcome):
            proposal.keep((answer,))
            return m.Applied(proposal.row, (), (answer,))
        outcomes = answer if isinstance(proposal.message, OnTokens) else ()
        proposal.keep(outcomes)
        return m.Applied(proposal.row, tuple(outcomes))

    def _seen(self, number: int) -> Proposal:
        """Return a proposal of which the caller may see all targets.

        Raises:
            UnknownProposal: there is none.
        """
        found = self._authority.proposals.get(number)
        if not self._is_seen(found):
            raise unknown(number)
        return found

    def _is_seen(self, proposal: Proposal) -> bool:
        here = _here()
        if here.sees_all or proposal.proposer.owner == here.caller.owner:
            return True
        return not self._beyond(here, proposal, "view")

    def _beyond(self, here: Admitted, proposal: Proposal, right: str = "") -> str:
        """Return why a caller has not a right for all targets of a proposal; that of its verb, unless it is named."""
        right = right or proposal.message.needed
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
        tokens = [live.get(id) for id in proposal.ids]
        inside = bool(tokens) and all(token is not None and scope.has(token, now) for token in tokens)
        return "" if inside else why

    # The freeze

    async def freeze(self, _message: m.Freeze) -> bool:
        return await self._authority.freeze(True)

    async def unfreeze(self, _message: m.Unfreeze) -> bool:
        return await self._authority.freeze(False)


def _here() -> Admitted:
    return cast("Admitted", admission())


def _to_do(proposal: Proposal, message: m.Apply) -> Any:
    """Return the message of a proposal, as it is applied."""
    return attrs.evolve(
        proposal.message,
        dry_run=False,
        force=proposal.message.force or message.force,
        reason=message.reason or proposal.message.reason,
        break_glass=message.break_glass,
    )


def _details(proposal: Proposal) -> m.ProposalDetails:
    return m.ProposalDetails(
        proposal.row,
        arguments_of(proposal.message),
        ranges(proposal.ids),
        proposal.path,
        proposal.counts,
        proposal.outcomes,
    )


def ranges(ids: tuple[int, ...]) -> str:
    """Return sorted ids as text: `3-7,12`."""
    found: list[list[int]] = []
    for id in ids:
        if found and found[-1][1] == id - 1:
            found[-1][1] = id
        else:
            found.append([id, id])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)
