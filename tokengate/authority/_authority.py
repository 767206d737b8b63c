"""The door: decides about each message, whatever way it came in, and has its intent recorded."""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from actors import ActorSystem
from actors.lowlevel import ActorPlace, path_below
from tokengate.authority._admitted import Admitted, begun_below
from tokengate.authority._audit_verbs import AuditVerbs
from tokengate.authority._consent import Consents
from tokengate.authority._decide import check_change, check_texts, greatest, need_of
from tokengate.authority._events import BreakGlassUsed
from tokengate.authority._freeze import Freeze
from tokengate.authority._grants import Rights, Scope
from tokengate.authority._proposals import DRY_RUN_SECONDS, Needs, Proposal, Proposals, State
from tokengate.authority._recorder import Recorder
from tokengate.authority._verbs import AuthorityVerbs
from tokengate.control import messages as m
from tokengate.control._admission import Admission, Ask, Caller, Closable, Perform
from tokengate.control._exceptions import NotSteerable, ProposalMade, Refused
from tokengate.control.inspection._feeds import Feed
from tokengate.control.inspection._queries import actor_called, place_called
from tokengate.control.inspection._selector import parse
from tokengate.control.messages import ActorOutcome, Change, HealthPart, Message, answer_of, verb_of
from tokengate.control.steering._actors import check_guard, check_guards
from tokengate.control.transport._discovery import state_directory

_logger = logging.getLogger("tokengate.authority")

if TYPE_CHECKING:  # here, so that a gate without a file loads no parser of files
    from tokengate.config._file import Config

EXPIRES: Final = 900.0  # seconds after which a proposal that needs approval expires

_ENDING: Final = (m.Restart, m.Stop, m.TerminateChild)
"""The verbs that end the tokens that actors have begun."""


class Authority:
    """Decides about each message of control.

    Args:
        system: of the gate.
        name: of the gate.

    Attributes:
        rights: who may do what.
        proposals: verbs that are not done yet.
        freeze: whether what rules ask for is refused.
        clock: of the system.
        consents: calls that wait for consent.
    """

    def __init__(self, system: ActorSystem, name: str) -> None:
        self.rights = Rights((), os.geteuid())
        self.proposals = Proposals(name, time.time(), time.time)
        self.freeze = Freeze(state_directory(name))
        self.recorder = Recorder(name, system)
        self.proposals.on_expiry = lambda one: self._note(one, "expired")
        self.clock = system.clock
        self.system = system
        self._user = os.geteuid()
        self._streams: weakref.WeakKeyDictionary[Closable, Admitted] = weakref.WeakKeyDictionary()
        self._bulk = 0
        self._expires = EXPIRES
        self.consents = Consents(self)
        system.consents = self.consents

    def prepare(self, config: Config) -> Callable[[], None]:
        """Return a function that has a file decide who may do what; see `Authorizer`."""
        from tokengate.authority._file import APPROVALS, AUDIT, GRANTS

        rights = Rights(config.of(GRANTS), self._user)
        approvals, audit = config.of(APPROVALS), config.of(AUDIT)

        def take() -> None:
            self.take(rights)
            self._bulk, self._expires = (approvals[0].bulk, approvals[0].expires) if approvals else (0, EXPIRES)
            if rights.grants or approvals or audit:
                path, retain = (audit[0].path, audit[0].retain) if audit else (None, None)
                self.recorder.record_to(path, retain, strict=True)

        return take

    def take(self, rights: Rights) -> None:
        """Have other grants decide from now on; streams end whose callers have other rights by them."""
        self.rights = rights
        for stream, admitted in list(self._streams.items()):
            self.watch(stream, admitted)

    def watch(self, stream: Closable, admission: Admitted) -> None:
        """Close a stream as soon as its caller has other rights than when it was admitted."""
        if admission.has_changed:
            self._streams.pop(stream, None)
            if isinstance(stream, Feed):
                stream.close(Refused("your rights have changed, so this stream has ended; open it again"))
            else:
                stream.close()
        else:
            self._streams[stream] = admission

    # The door

    def refusal(self, caller: Caller) -> str:
        """Return why a connection is refused; empty if it is not."""
        if self.rights.of(caller) or self.rights.are_own(caller):
            return ""
        return (
            f"belongs to another user, and user {caller.owner} may not control it; a [[grant]] of its file may allow it"
        )

    def answers(self, perform: Perform, ask: Ask) -> Sequence[object]:
        """Return what answers the verbs about proposals, the freeze, the caller and the audit log."""
        return AuthorityVerbs(self, perform, ask), AuditVerbs(self.recorder)

    def health(self) -> Iterable[HealthPart]:
        """Return the part of the audit log, if there is one."""
        log = self.recorder.log
        if log is not None:
            why, seconds = log.health, log.failing_for
            since = time.time() - seconds if why and seconds is not None else None
            yield HealthPart("audit", "failed" if why else "ok", since, why)

    async def admit(self, message: Message[Any], caller: Caller) -> Admission:
        """Let a message in; see `Authorizer`."""
        sender = caller.sender
        if sender is not None and self.recorder.log is None:
            self.recorder.record_to(None, None, strict=False)
        if sender is not None and not self.rights.are_own(sender):
            raise self.refused(sender, message, "only the gate's own user and root may ask on behalf of others")
        if sender is not None and not caller.is_of_user:
            why = (
                f"'{caller.principal}' of user {caller.owner} is no principal; use uid:USER, or api:NAME with its owner"
            )
            raise self.refused(sender, message, why)
        if not message.changes:
            admitted = self._viewing(message, caller, message.needed)
            if isinstance(message, Change):
                check_texts(message, verb_of(type(message)))
            return admitted
        return await self.admit_for(message, caller)

    def _viewing(self, message: Message[Any], caller: Caller, right: str) -> Admitted:
        """Let a message in that changes nothing."""
        scope = self.rights.scope(caller, right)
        if scope is None:
            raise self.refused(caller, message, f"'{caller.principal}' has not the right '{right}'")
        if right == "audit" and not scope.everywhere:
            raise self.refused(caller, message, "the log is about the whole gate, and your grants have selectors")
        return Admitted(self, message, caller, right)

    async def admit_for(self, message: Message[Any], caller: Caller, proposal: Proposal | None = None) -> Admitted:
        """Let a message in that changes something, sent by a caller itself, or as what a proposal of it does."""
        right = self.right_of(message)
        if caller.is_rule and isinstance(message, Change) and message.dry_run:
            right = "operate"  # it proposes; the person who applies that needs the right of the verb
        scope = self.rights.scope(caller, right)
        always = type(message) is m.Reload and self.rights.are_own(caller) and caller.rights is None
        if scope is None and not always:
            raise self.refused(caller, message, f"'{caller.principal}' has not the right '{right}'")
        admitted = Admitted(self, message, caller, right, proposal)
        assert isinstance(message, Change)
        verb = verb_of(type(message))
        if caller.is_rule:
            await self._check_rule(caller, message)
        check_change(message, verb, granted=self.rights.are_granted(caller))
        for extra, given in (("override", message.force), ("break_glass", message.break_glass)):
            if given and self.rights.scope(caller, extra) is None:
                raise self.refused(caller, message, f"'{caller.principal}' has not the right '{extra}'")
        if message.target in ("tokens", "proposal"):
            return admitted  # which decide for each token, and for each proposal
        path = ""
        if message.target == "throttle":
            admitted.message = self._narrowed(admitted, message)
        elif message.target == "places":
            pass  # each is asked for
        elif message.target == "gate":
            if scope is not None and not (scope.everywhere or always):
                raise self.refused(caller, message, f"'{verb}' is about the whole gate, and your grants have selectors")
        else:
            path = admitted.path = self._admit_place(admitted, message)
            if admitted.answer is not None:
                return admitted
        if message.dry_run:
            if path:  # another one may have the name by then
                message = attrs.evolve(message, name=path)  # type: ignore[call-arg]
            made = self.propose(message, caller, (), path=path)
            raise ProposalMade(
                f"nothing was done: a dry run, which is proposal {made.number} (digest {made.digest[:8]}); "
                f"'tokengate apply {made.number}' does it",
                made.number,
            )
        admitted.intent = await self.intend(admitted, ())
        scope = self.rights.scope(caller, right)  # which may be another one by now, as may the freeze
        frozen = caller.can_be_frozen and self.freeze.holds
        if frozen or not (always or (scope is not None and (scope.everywhere or message.target != "gate"))):
            why = "interventions of rules are frozen" if frozen else f"'{caller.principal}' has not the right '{right}'"
            error = self.refused(caller, message, f"{why} since it was asked for")
            self.conclude(admitted, admitted.intent or 0, None, error)
            raise error
        admitted.acts = True
        return admitted

    def right_of(self, message: Message[Any]) -> str:
        """Return the right that a message needs."""
        if isinstance(message, m.Retag) and not self.rights.tags.isdisjoint((*message.set, *message.remove)):
            return "administer"  # it would move tokens into a grant, or out of it
        return message.needed

    async def _check_rule(self, caller: Caller, message: Change[Any]) -> None:
        """Refuse what no rule may do."""
        if caller.can_be_frozen and await self.freeze.is_on():
            why = self.freeze.problem or "interventions of rules are frozen; 'tokengate unfreeze' ends that"
            raise self.refused(caller, message, why)
        if message.force or message.break_glass:
            raise self.refused(caller, message, "rules never force, and break no glass")

    def _admit_place(self, admitted: Admitted, message: Change[Any]) -> str:
        """Decide about a verb on an actor or operation, and return its path.

        If it must not be done now, the admission has its answer.
        """
        with admitted.at_work():
            place = place_called(self.system, message.name)  # type: ignore[attr-defined]
            try:
                admitted.reach(place)
                ended = self._ended_by(admitted, message)
            except (Refused, NotSteerable) as error:
                self.recorder.refused(admitted.caller, message, str(error))
                raise
        if message.dry_run and isinstance(place, ActorPlace) and isinstance(message, m.OnActor | m.SetState | m.Visit):
            check_guard(place)  # the error of its answer
        path = ended[0].path if ended else place.path
        begun = begun_below(ended)
        ids = tuple(sorted(token.id for token in begun))
        need = greatest(
            admitted.lacks(token, need_of(token._place.properties.guard, begun=True, counts=True)) for token in begun
        )
        proposes = message.dry_run or need == "approval" or (need == "force" and admitted.caller.is_rule)
        known = admitted.proposal
        if known is not None and not set(ids) <= set(known.ids):
            admitted.answer = ActorOutcome(path, "changed", "it has begun other guarded tokens since")
        elif proposes and known is None and answer_of(type(message)) is ActorOutcome:
            resolved = attrs.evolve(message, name=place.path)  # type: ignore[call-arg]
            made = self.propose(resolved, admitted.caller, ids, path=path, needs=need)
            word: Literal["would", "awaiting"] = "would" if message.dry_run else "awaiting"
            admitted.answer = ActorOutcome(path, word, made.note, made.notice)
        elif need != "nothing":
            remedy = "use force to end it" if need == "force" else "another person must approve that"
            why = (
                f"'{path}' has begun token {begun[0].id}, whose guard is '{begun[0]._place.properties.guard}'; {remedy}"
            )
            raise self.refused(admitted.caller, message, why)
        return path

    def _ended_by(self, admitted: Admitted, message: Change[Any]) -> list[ActorPlace]:
        """Return the actors whose tokens a verb ends, that which is named first."""
        if not isinstance(message, _ENDING):
            return []
        place = actor_called(self.system, message.name)
        if isinstance(message, m.TerminateChild):
            child = path_below(place.path, message.id)
            found = [one for one in self.system.below(place) if one.path == child]
            if not found or not admitted.sees_place(found[0]):
                return []  # its answer says so
            place = found[0]
        check_guards(self.system, place)
        branch = [place]
        for one in branch:
            admitted.reach(one)
            branch.extend(self.system.below(one))
        return branch

    def _narrowed(self, admitted: Admitted, message: Any) -> Any:
        """Return a message about a throttle with the terms of the caller's grant.

        Raises:
            Refused: the caller has several grants, and the selector has not all terms of one.
        """
        scope = admitted.scope(message.needed)
        if scope is None or scope.everywhere or (message.select.strip() == "*" and type(message) is m.Lift):
            return message
        selector = parse(message.select)
        terms = [] if selector.all else [selector.text]
        for group in scope.each:
            if Scope((group,)).covers(selector):
                continue
            if len(group) > 1:
                texts = " or ".join(f"'{one.text}'" for one in group)
                raise self.refused(
                    admitted.caller, message, f"the selector needs all terms of one of your grants: {texts}"
                )
            terms.extend(one.text for one in group)
        return attrs.evolve(message, select=",".join(terms))

    def is_bulk(self, message: Change[Any], tokens: int) -> bool:
        """Tell whether a verb needs approval since it is about so many tokens."""
        return 0 < self._bulk < tokens and message.right == "terminate"

    def propose(
        self,
        message: Change[Any],
        caller: Caller,
        ids: tuple[int, ...],
        *,
        path: str = "",
        selector: str = "",
        needs: Needs = "nothing",
        consent: Callable[[State], object] | None = None,
    ) -> Proposal:
        """Make a proposal of a message, and have it recorded; what a rule proposes is no dry run."""
        if caller.is_rule:
            message = attrs.evolve(message, dry_run=False)
        seconds = DRY_RUN_SECONDS if message.dry_run else self._expires
        made = self.proposals.make(
            message, caller, ids, path=path, selector=selector, needs=needs, seconds=seconds, consent=consent
        )
        self._note(made, "proposal")
        return made

    def _note(self, proposal: Proposal, kind: str) -> None:
        """Have recorded what becomes of a proposal, if it needs something; what is applied or denied is recorded so."""
        if proposal.needs != "nothing":
            one = proposal
            paths = (one.path,) if one.path else ()
            self.recorder.note(
                kind, one.proposer, one.message,
                proposal=one.number, selector=one.selector, targets=one.ids, paths=paths,
            )  # fmt: skip

    # The record

    def refused(self, caller: Caller, message: Message[Any], why: str) -> Refused:
        """Have a refusal recorded, and return its error."""
        self.recorder.refused(caller, message, why)
        return Refused(f"'{verb_of(type(message))}' is refused: {why}")

    async def intend(self, admission: Admission, ids: Sequence[int]) -> int | None:
        """Have recorded what is about to be done; return the number of the record, None without a log.

        Raises:
            AuditUnavailable: it cannot be recorded.
        """
        message = admission.message
        known = admission.proposal if isinstance(admission, Admitted) else None
        path = (admission.path if isinstance(admission, Admitted) else "") or getattr(message, "name", "")
        number = getattr(message, "number", None if known is None else known.number)
        seq = await self.recorder.intend(admission, ids, path, number)
        if isinstance(message, Change) and message.break_glass:
            used = BreakGlassUsed(
                path, admission.caller.principal, verb_of(type(message)), len(ids), message.break_glass
            )
            _logger.warning("%s", used.text)
            self.system.publish(used)
        return seq

    def conclude(self, admission: Admitted, intent: int, answer: object, error: BaseException | None) -> None:
        """Have recorded what came of it."""
        self.recorder.conclude(admission, intent, admission.targets, answer, error)
