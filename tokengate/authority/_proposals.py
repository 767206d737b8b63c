"""Proposals: verbs with their targets resolved, not done yet."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias

import attrs
import trio

from tokengate.control._admission import Caller
from tokengate.control._exceptions import Refused, UnknownProposal
from tokengate.control._safe_text import class_name
from tokengate.control.messages import (
    ENVELOPE,
    ActorOutcome,
    Change,
    OnTokens,
    Outcome,
    ProposalRow,
    Proposed,
    verb_of,
)

State: TypeAlias = Literal["open", "approved", "applied", "denied", "expired"]
Needs: TypeAlias = Literal["nothing", "force", "approval"]

WAITING: Final = ("open", "approved")
"""The states of a proposal that is not decided yet."""

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
        arguments: those of the digest; the message may have lists and dicts that its sender can change.
        state: what became of it.
        consent: of a call that waits for it: called with what became of it, `approved`, `denied` or `expired`. Its
            approval applies it.
        approver: the caller that has approved or denied it.
        counts: {outcome: number of targets}, once it is applied.
        outcomes: the first of these.
        changed: set at the next change of its state.
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
    arguments: dict[str, Any]
    consent: Callable[[State], object] | None = None
    state: State = "open"
    approver: Caller | None = None
    counts: dict[str, int] = attrs.field(factory=dict)
    outcomes: tuple[Outcome, ...] = ()
    changed: trio.Event = attrs.field(factory=trio.Event)

    @property
    def notice(self) -> Proposed:
        return Proposed(self.number, self.digest, self.expires)

    @property
    def note(self) -> str:
        """What outcomes say of it."""
        return f"proposal {self.number}" + (f" needs {self.needs}" if self.needs != "nothing" else "")

    @property
    def row(self) -> ProposalRow:
        about = self.path or ", ".join([*map(str, self.ids[:3]), *(["..."] if len(self.ids) > 3 else [])])
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
            about=about,
        )

    def keep(self, outcomes: Sequence[Outcome | ActorOutcome]) -> None:
        """Note what became of its targets."""
        self.counts = dict(Counter(one.outcome for one in outcomes))
        self.outcomes = tuple(one for one in outcomes[:KEPT_OUTCOMES] if isinstance(one, Outcome))


def arguments_of(message: Change[Any]) -> dict[str, Any]:
    """Return the arguments of a message, without ids of tokens, as values of JSON."""
    left_out = (*ENVELOPE, "select") if isinstance(message, OnTokens) else ENVELOPE
    names = (field.name for field in attrs.fields(type(message)) if field.name not in left_out)
    return {name: _said(getattr(message, name)) for name in names}


def _said(value: Any) -> Any:
    """Return a value of JSON's types, and the class of any other one: no code of that class runs."""
    kind = type(value)
    if value is None or kind in (str, int, float, bool):
        return value
    if kind in (list, tuple):
        return [_said(one) for one in value]
    if kind is dict:
        return {_said(key) if type(key) is str else class_name(type(key)): _said(one) for key, one in value.items()}
    return class_name(kind)


def unknown(number: int) -> UnknownProposal:
    """Return the error for a number of no proposal."""
    return UnknownProposal(f"there is no proposal {number}, or it is forgotten; 'tokengate proposals' lists them")


class Proposals:
    """The proposals of a gate; in memory only.

    Args:
        gate: its name.
        opened: when it was opened, seconds since the epoch.
        clock: returns seconds since the epoch.

    Attributes:
        on_expiry: called with each proposal that expires.
    """

    def __init__(self, gate: str, opened: float, clock: Callable[[], float]) -> None:
        self.on_expiry: Callable[[Proposal], object] = lambda _proposal: None
        self._gate = gate
        self._opened = opened
        self._clock = clock
        self._kept: dict[int, Proposal] = {}
        self._made = 0

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self._clock()

    def __iter__(self) -> Iterator[Proposal]:
        self.expire()
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
        consent: Callable[[State], object] | None = None,
    ) -> Proposal:
        """Make a proposal.

        Args:
            message: what it does.
            caller: the proposer.
            ids: of its tokens, sorted.
            path: of its actor; empty for tokens.
            selector: that its tokens match; empty if they were named.
            needs: what it takes.
            seconds: after which it expires.
            consent: see `Proposal`.

        Raises:
            Refused: there are too many.
        """
        self.expire()
        self._make_room(caller, len(ids))
        self._made += 1
        now, number, arguments = self._clock(), self._made, arguments_of(message)
        digest = self._digest(message, arguments, ids, path)
        made = Proposal(
            number, message, selector, ids, path, needs, caller, now, now + seconds, digest, arguments, consent=consent
        )
        self._kept[number] = made
        return made

    def get(self, number: int) -> Proposal:
        """Return a proposal.

        Raises:
            UnknownProposal: there is none with this number.
        """
        self.expire()
        found = self._kept.get(number)
        if found is None:
            raise unknown(number)
        return found

    def why_not(self, proposal: Proposal, to: str, *sources: State) -> str:
        """Return why a proposal cannot become `to`: its state is none of the sources; empty if it can."""
        self.expire()
        if proposal.state in sources:
            return ""
        return f"it is {proposal.state}" + (" already" if proposal.state == to else f", so it cannot be {to}")

    def move(self, proposal: Proposal, to: State, *sources: State, by: Caller | None = None) -> None:
        """Change the state of a proposal.

        Args:
            proposal: the proposal.
            to: the new state.
            sources: the states from which that is possible.
            by: the caller that has approved or denied it.

        Raises:
            Refused: it has another state.
        """
        if why := self.why_not(proposal, to, *sources):
            raise Refused(f"proposal {proposal.number}: {why}")
        proposal.approver = by or proposal.approver
        self._set(proposal, to)

    def expire(self) -> None:
        """Let proposals expire at the end of their time."""
        now = self._clock()
        for one in list(self._kept.values()):
            if now >= one.expires:
                self.end(one)

    def end(self, proposal: Proposal) -> None:
        """Let a proposal expire now, unless it is decided: its time is over, or nothing is left of what it is about."""
        if proposal.state in WAITING:
            self._set(proposal, "expired")
            self.on_expiry(proposal)

    def _set(self, proposal: Proposal, state: State) -> None:
        proposal.state = state
        changed, proposal.changed = proposal.changed, trio.Event()
        changed.set()
        if proposal.consent is not None and state != "applied":
            proposal.consent(state)

    def _digest(self, message: Change[Any], arguments: dict[str, Any], ids: tuple[int, ...], path: str) -> str:
        said = [self._gate, self._opened, verb_of(type(message)), arguments, path]
        digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
        digest.update(array("q", ids))
        return digest.hexdigest()

    def _make_room(self, caller: Caller, ids: int) -> None:
        """Forget dry runs of the caller if it has too many, and the oldest that are decided if all are too many.

        Raises:
            Refused: too many wait.
        """
        waiting = [one for one in self._kept.values() if one.state in WAITING]
        decided = [one for one in self._kept.values() if one.state not in WAITING]
        own = [one for one in waiting if one.proposer.owner == caller.owner]
        dropped = []
        for one in [one for one in own if one.message.dry_run]:
            if len(own) < MAX_OF_OWNER and _ids(waiting) + ids <= MAX_IDS:
                break
            for those in (own, waiting):
                those.remove(one)
            dropped.append(one)
        if len(own) >= MAX_OF_OWNER:
            raise Refused(f"'{caller.principal}' has {len(own)} proposals that wait; apply or deny one of them first")
        if len(waiting) >= MAX_PROPOSALS or _ids(waiting) + ids > MAX_IDS:
            raise Refused(
                f"gate '{self._gate}' has {len(waiting)} proposals that wait, for {_ids(waiting):,} tokens, and "
                f"{MAX_PROPOSALS} for {MAX_IDS:,} are the limit; apply or deny some first"
            )
        for one in dropped:
            self._set(one, "expired")
            del self._kept[one.number]
        while decided and (len(self._kept) >= MAX_PROPOSALS or _ids(self._kept.values()) + ids > MAX_IDS):
            del self._kept[decided.pop(0).number]


def _ids(proposals: Iterable[Proposal]) -> int:
    return sum(len(one.ids) for one in proposals)
