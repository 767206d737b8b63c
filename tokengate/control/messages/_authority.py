"""Authority: what the caller may do, proposals and consent to them, the freeze of interventions."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import attrs
from msgspec import Meta

from tokengate.control.messages._bases import (
    ENVELOPE,
    ActorOutcome,
    Change,
    Listing,
    Message,
    Outcome,
    Seconds,
    Target,
    verb_of,
)


@attrs.frozen
class Identity:
    """Who a caller is, and what it may do.

    Attributes:
        principal: `uid:1000`, `api:ci`, `process`.
        owner: the user behind it; None for rules.
        groups: of that user.
        via: the way in: `process`, `socket`, `http` or `offline`.
        rights: {right: where it holds: `*`, or selectors with `|` between them}; without those that it does not have.
        frozen: whether what rules ask for is refused now.
        audit: directory of the audit log; empty without a log, and for those without the right `audit`.
        granted: whether grants give the rights; a verb of the right `terminate` or `state` then needs a reason.
    """

    principal: str
    owner: int | None
    groups: tuple[int, ...]
    via: str
    rights: dict[str, str]
    frozen: bool = False
    audit: str = ""
    granted: bool = False


@attrs.frozen
class Whoami(Message[Identity]):
    """Show who the gate takes you for, and what you may do."""

    right: ClassVar = "view"
    examples: ClassVar = ("whoami", "whoami -g shop --json")


@attrs.frozen
class ProposalRow:
    """A proposal: a verb with its targets resolved, not done yet.

    Attributes:
        number: its number in this gate.
        verb: what it does.
        state: `open`, `approved`, `applied`, `denied` or `expired`.
        needs: `nothing`, `force` or `approval`.
        targets: number of tokens, or 1 for an actor.
        about: the first three tokens: `3, 4, 9, ...`; or the path of the actor.
        proposer: the principal that has made it.
        reason: why.
        made: seconds since the epoch.
        expires: seconds since the epoch.
        approver: the principal that has approved or denied it; empty before that.
        digest: SHA-256 of gate, opening time, verb, arguments and targets.
    """

    number: int
    verb: str
    state: str
    needs: str
    targets: int
    about: str = attrs.field(default="", kw_only=True)
    proposer: str
    reason: str
    made: float
    expires: float
    approver: str
    digest: str


@attrs.frozen
class Proposals(Listing[ProposalRow]):
    """List proposals, the oldest first.

    SELECTOR is a state, such as `open`, or a verb.
    """

    examples: ClassVar = ("proposals", "proposals open", "proposal show 12")


@attrs.frozen
class ProposalDetails:
    """All of a proposal.

    Attributes:
        row: as it is listed.
        arguments: those of the verb.
        tokens: the targets, as text: `3-7,12`.
        actor: path of the target; empty for tokens.
        counts: {outcome: number of targets}, once it is applied; in the answer to `propose`, of its dry run.
        outcomes: the first 1,000; in the answer to `propose`, those that have no part in the proposal come first.
        left_out: in the answer to `propose`, how many outcomes are not in it.
        guards: in the answer to `propose`, {guard: number of its tokens}.
    """

    row: ProposalRow
    arguments: dict[str, Any]
    tokens: str
    actor: str
    counts: dict[str, int]
    outcomes: tuple[Outcome, ...]
    left_out: int = 0
    guards: dict[str, int] = attrs.field(factory=dict)


@attrs.frozen
class Propose(Change[ProposalDetails]):
    """Make a proposal of another verb, as its dry run does, and show it in at most 64 KiB, however many its tokens are.

    It needs the rights of that verb, and is recorded as that verb. If nothing is left to do, there is no proposal, and
    the number in the answer is 0.

    Raises:
        UnknownVerb: there is no such verb.
        BadRequest: the verb has no dry run, or the arguments cannot be its own.
        Refused: the caller may not do it, or there are too many proposals.
    """

    right: ClassVar = "view"
    target: ClassVar[Target] = "proposal"
    takes: ClassVar = ("reason", "force", "break_glass")
    unrecorded: ClassVar = ("args",)
    verb: Annotated[str, Meta(description="Name of the verb: `terminate`.")]
    args: Annotated[dict[str, Any], Meta(description="Its arguments: {name: value}.")] = attrs.field(factory=dict)

    @property
    def changes(self) -> bool:
        """Whether this very message changes something: what it makes is recorded by the verb that it proposes."""
        return False


_Number = Annotated[int, Meta(description="Its number, as `proposals` lists it.", ge=1, extra={"metavar": "NUMBER"})]


def proposing(message: Change[Any]) -> Propose:
    """Return the message that makes a proposal of another one, with what stands beside its arguments."""
    fields = {field.name: getattr(message, field.name) for field in attrs.fields(type(message))}
    beside = {name: fields.pop(name) for name in ENVELOPE if name in fields}
    del beside["dry_run"]
    return Propose(verb_of(type(message)), fields, **beside)


@attrs.frozen
class ShowProposal(Message[ProposalDetails]):
    """Show all of a proposal: arguments, targets, digest.

    Raises:
        UnknownProposal: there is none with this number.
    """

    right: ClassVar = "view"
    target: ClassVar[Target] = "proposal"
    examples: ClassVar = ("proposal show 12",)
    number: _Number


@attrs.frozen
class WaitApproval(Message[ProposalRow]):
    """Wait until a proposal is approved, denied or expired, and return it as it is then.

    Raises:
        UnknownProposal: there is none with this number.
    """

    right: ClassVar = "view"
    target: ClassVar[Target] = "proposal"
    number: _Number
    wait: Annotated[Seconds, Meta(description="Seconds to wait, at most; after that, the answer is as it is.")] = 300.0


@attrs.frozen
class Approve(Change[ProposalRow]):
    """Agree to a proposal of another person; `apply` then does it. A call that waits for consent goes on.

    Raises:
        UnknownProposal: there is none with this number.
        Refused: the digest is another one, it is your own, or you may not do it yourself.
    """

    right: ClassVar = "approve"
    target: ClassVar[Target] = "proposal"
    takes: ClassVar = ("reason",)
    examples: ClassVar = ("approve 12 --digest 9f3a1c42",)
    number: _Number
    digest: Annotated[
        str, Meta(description="The first 8 or more digits of its digest.", extra={"metavar": "DIGEST"})
    ] = ""


@attrs.frozen
class Deny(Change[ProposalRow]):
    """Refuse a proposal, or take back one of your own.

    Raises:
        UnknownProposal: there is none with this number.
        Refused: it is applied already, or you may not.
    """

    right: ClassVar = "view"
    target: ClassVar[Target] = "proposal"
    takes: ClassVar = ("reason",)
    examples: ClassVar = ("deny 12 --reason 'not during the sale'",)
    number: _Number


@attrs.frozen
class Applied:
    """What was done of a proposal.

    Attributes:
        proposal: as it is now.
        outcomes: one for each of its tokens.
        actors: the outcome of a verb on an actor.
    """

    proposal: ProposalRow
    outcomes: tuple[Outcome, ...] = ()
    actors: tuple[ActorOutcome, ...] = ()


@attrs.frozen
class Apply(Change[Applied]):
    """Do what a proposal says, once, to its targets and no others.

    Raises:
        UnknownProposal: there is none with this number.
        Refused: it needs an approval, is not open any more, or you may not do it.
    """

    right: ClassVar = "view"
    target: ClassVar[Target] = "proposal"
    takes: ClassVar = ("reason", "force", "break_glass")
    examples: ClassVar = ("apply 12", "apply 12 --force --reason 'agreed with the owner'")
    number: _Number
    wait: Annotated[Seconds, Meta(description="Seconds to wait until it is done, at most.")] = attrs.field(
        default=5.0, kw_only=True
    )


@attrs.frozen
class Freeze(Change[bool]):
    """Refuse from now on whatever rules ask for.

    It survives a restart of the gate. The answer is whether that is new.
    """

    examples: ClassVar = ("freeze --reason 'a bad prediction'", "freeze --revert --reason 'rules fight each other'")
    revert: Annotated[bool, Meta(description="Also undo what they have done and is in force.")] = attrs.field(
        default=False, kw_only=True
    )


@attrs.frozen
class Unfreeze(Change[bool]):
    """Let rules act again.

    The answer is whether they were frozen.
    """

    right: ClassVar = "administer"
    examples: ClassVar = ("unfreeze",)
