"""Proposals: verbs with their targets resolved, not done yet."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias

import attrs

from tokengate.control._admission import Caller
from tokengate.control._exceptions import Refused, UnknownProposal
from tokengate.control.messages import ENVELOPE, ActorOutcome, Change, Outcome, ProposalRow, Proposed, verb_of

State: TypeAlias = Literal["open", "approved", "applied", "denied", "expired"]
Needs: TypeAlias = Literal["nothing", "force", "approval"]

DRY_RUN_SECONDS: Final = 300.0
MAX_PROPOSALS: Final = 100
MAX_IDS: Final = 1_000_000
MAX_OF_OWNER: Final = 10
KEPT_OUTCOMES: Final = 1_000


@attrs.define(eq=False)
class Proposal:
    """A proposal; only its state changes.

    Attributes:
        number: from 1.
        message: what it does; with the ids of its targets in the place of a selector.
        selector: the selector that its targets matched; empty if they were named.
        ids: of the tokens that it is about; for a verb on an actor, those guarded ones that it has begun.
        path: of the actor that it is about; empty for tokens.
        needs: what it takes.
        proposer: the caller that has made it.
        made: seconds since the epoch.
        expires: seconds since the epoch.
        digest: SHA-256 of gate, opening time, verb, arguments, targets.
        state: what became of it.
        approver: the caller that has approved or denied it.
    """

    number: int
    message: Change[Any]
    selector: str
    ids: tuple[int, ...]
    path: str
    needs: Needs
    proposer: Caller
    made: float
    expires: float
    digest: str
    state: State = "open"
    approver: Caller | None = None
    counts: dict[str, int] = attrs.field(factory=dict)
    outcomes: tuple[Outcome, ...] = ()

    @property
    def notice(self) -> Proposed:
        return Proposed(self.number, self.digest, self.expires)

    @property
    def row(self) -> ProposalRow:
        return ProposalRow(
            self.number,
            verb_of(type(self.message)),
            self.state,
            self.needs,
            1 if self.path else len(self.ids),
            self.proposer.principal,
            self.message.reason,
            self.made,
            self.expires,
            "" if self.approver is None else self.approver.principal,
            self.digest,
        )

    def keep(self, outcomes: Sequence[Outcome | ActorOutcome]) -> None:
        """Note what became of its targets."""
        self.counts = dict(Counter(one.outcome for one in outcomes))
        self.outcomes = tuple(one for one in outcomes[:KEPT_OUTCOMES] if isinstance(one, Outcome))


def arguments_of(message: Change[Any]) -> dict[str, Any]:
    """Return the arguments of a message, without its targets, and why it is asked for."""
    names = (field.name for field in attrs.fields(type(message)) if field.name not in (*ENVELOPE, "select"))
    return {name: getattr(message, name) for name in names}


def unknown(number: int) -> UnknownProposal:
    """Return the error for a number of no proposal."""
    return UnknownProposal(f"there is no proposal {number}, or it is forgotten; 'tokengate proposals' lists them")


class Proposals:
    """The proposals of a gate; in memory only.

    Args:
        gate: its name.
        opened: when it was opened, seconds since the epoch.
        clock: returns seconds since the epoch.
    """

    def __init__(self, gate: str, opened: float, clock: Callable[[], float]) -> None:
        self._gate = gate
        self._opened = opened
        self._clock = clock
        self._kept: dict[int, Proposal] = {}
        self._made = 0

    def __iter__(self) -> Iterator[Proposal]:
        self._expire()
        return iter(list(self._kept.values()))

    def make(
        self,
        message: Change[Any],
        caller: Caller,
        ids: tuple[int, ...],
        *,
        path: str = "",
        selector: str = "",
        needs: Needs = "nothing",
        seconds: float = DRY_RUN_SECONDS,
    ) -> Proposal:
        """Make a proposal.

        Raises:
            Refused: there are too many.
        """
        self._expire()
        self._make_room(caller, len(ids))
        self._made += 1
        now, number = self._clock(), self._made
        made = Proposal(
            number, message, selector, ids, path, needs, caller, now, now + seconds, self._digest(message, ids, path)
        )
        self._kept[number] = made
        return made

    def get(self, number: int) -> Proposal:
        """Return a proposal.

        Raises:
            UnknownProposal: there is none with this number.
        """
        self._expire()
        found = self._kept.get(number)
        if found is None:
            raise unknown(number)
        return found

    def move(self, proposal: Proposal, to: State, *sources: State) -> None:
        """Change the state of a proposal.

        Args:
            proposal: the proposal.
            to: the new state.
            sources: the states from which that is possible.

        Raises:
            Refused: it has another state.
        """
        self._expire()
        if proposal.state not in sources:
            raise Refused(f"proposal {proposal.number} is {proposal.state}, so it cannot be {to}")
        proposal.state = to

    def _digest(self, message: Change[Any], ids: tuple[int, ...], path: str) -> str:
        said = [
            self._gate, self._opened, verb_of(type(message)), arguments_of(message), message.reason, path, sorted(ids)
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(said, sort_keys=True, default=repr).encode()).hexdigest()

    def _expire(self) -> None:
        now = self._clock()
        for one in self._kept.values():
            if one.state in ("open", "approved") and now >= one.expires:
                one.state = "expired"

    def _make_room(self, caller: Caller, ids: int) -> None:
        waiting = [one for one in self._kept.values() if one.state in ("open", "approved")]
        own = [one for one in waiting if one.proposer.owner == caller.owner]
        if len(own) >= MAX_OF_OWNER:
            oldest = next((one for one in own if one.message.dry_run), None)
            if oldest is None:
                raise Refused(
                    f"'{caller.principal}' has {len(own)} proposals that wait; apply or deny one of them first"
                )
            del self._kept[oldest.number]
            waiting.remove(oldest)
        if len(waiting) >= MAX_PROPOSALS or sum(len(one.ids) for one in waiting) + ids > MAX_IDS:
            raise Refused(
                f"gate '{self._gate}' has {len(waiting)} proposals that wait, which is the limit; "
                "apply or deny some first"
            )
        over = [one for one in self._kept.values() if one not in waiting]
        while over and (
            len(self._kept) >= MAX_PROPOSALS or sum(len(one.ids) for one in self._kept.values()) + ids > MAX_IDS
        ):
            del self._kept[over.pop(0).number]
