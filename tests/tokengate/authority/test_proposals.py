"""Proposals: what makes one, who may approve, apply and deny it, and what applying it does."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from click.testing import CliRunner
from gated_code import LIMIT, Door
from people import ANN, BEN, CARA, ROOT, RULE, People, grant
from running_tokens import Turner, cpu_operation, io_operation

from actors import Reply
from supervisors import ChildSpec, Supervisor
from tokengate import Gate, token
from tokengate.authority._proposals import MAX_IDS, MAX_OF_OWNER, MAX_PROPOSALS, Proposals
from tokengate.cli import main
from tokengate.control import messages as m
from tokengate.control._admission import Caller
from tokengate.control._exceptions import AuditUnavailable, BadRequest, Busy, ProposalMade, Refused, UnknownProposal
from tokengate.control.messages import Proposed, Terminate

WHY = {"reason": "it hangs"}

guarded_operation = token(guard="approval")(io_operation.__wrapped__)
forced_operation = token(guard="force")(io_operation.__wrapped__)


def words(answer: Any) -> list[str]:
    return [one.outcome for one in answer]


def made(answer: Any) -> Proposed:
    """Return the proposal of an answer."""
    assert answer.proposal is not None
    found: Proposed = answer.proposal
    return found


Submit = Callable[..., Any]


@pytest.fixture
def begun(gate: Gate, doors: Callable[[], Door]) -> Submit:
    """Submit an operation that has begun when this returns."""

    def submit(operation: Any = io_operation, door: Door | None = None) -> Any:
        door = door or doors()
        sent = operation.submit(door)
        door.wait_reached()
        return sent

    return submit


class Guarded(Turner):
    guard = "approval"


# --- What makes one ---------------------------------------------------------------------------------------------------


def test_a_dry_run_of_a_verb_on_tokens_is_a_proposal_of_those_that_match(people: People, begun: Submit) -> None:
    """Its arguments, ids and digest are shown; nothing has happened."""
    first, second = begun(), begun()
    answer = people[ANN].retag("operation=turn_and_await", {"a": "b"}, dry_run=True, reason="for the bill")

    assert words(answer) == ["would", "would"]
    proposal = made(answer)
    shown = people[ANN].show_proposal(proposal.number)
    assert shown.row == m.ProposalRow(
        1, "retag", "open", "nothing", 2, "uid:1001", "for the bill", shown.row.made, proposal.expires, "",
        proposal.digest, about=f"{first.id}, {second.id}",
    )  # fmt: skip
    assert shown.arguments == {"set": {"a": "b"}, "remove": []}
    assert shown.tokens == (f"{first.id}-{second.id}" if second.id == first.id + 1 else f"{first.id},{second.id}")
    assert round(proposal.expires - shown.row.made) == 300
    assert dict(first.tags) == {}


def test_a_dry_run_of_nothing_makes_no_proposal(people: People) -> None:
    """There would be nothing to apply."""
    answer = people[ANN].pause("operation=none", dry_run=True)

    assert (words(answer), answer.proposal, people[ANN].proposals()) == ([], None, ())


def test_a_dry_run_of_another_verb_names_its_proposal_in_its_answer(gate: Gate, people: People) -> None:
    """In an error, if the answer has no place for it: with number, digest and remedy."""
    gate.spawn(Turner, name="turner")
    ann = people[ANN]
    answer = ann.suspend("turner", dry_run=True)
    assert (answer.outcome, answer.actor, ann.actor("turner").row.suspended) == ("would", "spawned/turner", False)
    assert answer.proposal is not None
    with pytest.raises(ProposalMade, match=r"which is proposal 2 \(digest [0-9a-f]{8}\); 'tokengate apply 2' does it"):
        ann.throttle("operation=turn_and_await", rate=5, dry_run=True)
    with pytest.raises(ProposalMade, match="proposal 3"):
        ann.freeze(dry_run=True, reason="a test")
    assert (ann.throttles(), ann.whoami().frozen) == ((), False)

    assert [one.outcome for one in ann.apply(answer.proposal.number).actors] == ["done"]
    assert ann.apply(2).proposal.state == "applied"
    assert [row.rate for row in ann.throttles()] == [5]
    ann.apply(3)
    assert ann.whoami().frozen
    ann.lift("*")


@pytest.mark.parametrize("verb", ["approve", "deny", "apply"])
def test_what_is_done_to_a_proposal_has_no_dry_run(people: People, begun: Submit, verb: str) -> None:
    """It is shown by `show_proposal`."""
    begun()
    proposal = made(people[ANN].pause("*", dry_run=True))
    for field in ("dry_run",) if verb == "apply" else ("dry_run", "force", "break_glass"):
        message = {"approve": m.Approve, "deny": m.Deny, "apply": m.Apply}[verb](proposal.number)
        value: Any = "the shop is down" if field == "break_glass" else True
        with pytest.raises(BadRequest, match=f"'{verb}' takes no {field}"):
            people[BEN].ask(attrs.evolve(message, **{field: value}))
    assert people[ANN].show_proposal(proposal.number).row.state == "open"


def test_tokens_that_need_no_approval_are_acted_on_at_once(people: People, begun: Submit) -> None:
    """The others wait."""
    free, guarded = begun(), begun(guarded_operation)
    answer = people[ANN].pause((free.id, guarded.id), wait=LIMIT)

    assert words(answer) == ["paused", "awaiting"]
    assert people[ANN].show_proposal(made(answer).number).tokens == str(guarded.id)
    people[ANN].resume(free)


def test_beyond_bulk_all_wait(people: People, begun: Submit) -> None:
    """Guarded ones count, too; for verbs of the right `terminate` only."""
    sent = [begun(), begun(), begun(guarded_operation)]
    people.authority._bulk = 2
    ann = people[ANN]
    assert words(ann.pause("operation=turn_and_await", dry_run=True)) == ["would"] * 3
    assert ann.show_proposal(1).row.needs == "approval"
    assert words(ann.renice("operation=turn_and_await", 1)) == ["noted"] * 3
    few = ann.terminate(sent[:2], dry_run=True)
    assert ann.show_proposal(made(few).number).row.needs == "nothing"
    answer = ann.terminate("operation=turn_and_await", **WHY)
    assert words(answer) == ["awaiting"] * 3

    people.authority._bulk = 1
    with pytest.raises(Refused, match="2 tokens need the approval of another person first"):
        ann.apply(made(few).number, **WHY)
    assert ann.show_proposal(made(few).number).row.state == "open"
    people[BEN].approve(made(answer).number, made(answer).digest)
    assert words(ann.apply(made(answer).number, wait=LIMIT).outcomes) == ["terminated"] * 3


def test_breaking_the_glass_stands_for_the_approval_of_many(people: People, begun: Submit) -> None:
    """If the caller may break it for all of them."""
    sent = [begun(), begun()]
    people.process.retag(sent[:1], {"tenant": "acme"})
    people.authority._bulk = 1
    people.grants(
        grant(ANN, rights=frozenset({"view", "terminate"})),
        grant(ANN, rights=frozenset({"break_glass"}), select="tenant=acme"),
    )
    glass = {"break_glass": "the shop is down"}

    assert words(people[ANN].terminate(sent, **glass)) == ["awaiting"] * 2
    people.grants(grant(ANN))
    assert words(people[ANN].terminate(sent, wait=LIMIT, **glass)) == ["terminated"] * 2


# --- Who may do what --------------------------------------------------------------------------------------------------


def test_only_another_person_approves(people: People, begun: Submit) -> None:
    """Not the proposer by another way in, not root, not code, not a rule; and not without the verb's right."""
    sent = begun(guarded_operation)
    proposal = made(people[ANN].terminate(sent, **WHY))
    same = attrs.evolve(ANN, principal="api:ci", via="http")
    for caller, why in (
        (ANN, "belongs to the same user"), (same, "belongs to the same user"), (ROOT, "is not one person"),
        (RULE, "has not the right 'approve'"), (attrs.evolve(BEN, owner=65534), "has not the right"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=why):
            people[caller].approve(proposal.number, proposal.digest)
    with pytest.raises(Refused, match="'process' is not one person"):
        people.process.approve(proposal.number, proposal.digest)
    people.grants(grant(ANN), grant(BEN, rights=frozenset({"view", "approve", "operate"})))
    with pytest.raises(Refused, match="has not the right 'terminate' for all of its targets"):
        people[BEN].approve(proposal.number, proposal.digest)
    people.grants(grant(ANN), grant(BEN, rights=frozenset({"view", "terminate"})))
    with pytest.raises(Refused, match="has not the right 'approve'"):
        people[BEN].approve(proposal.number, proposal.digest)
    people.grants(grant(ANN, BEN))

    assert people[BEN].approve(proposal.number, proposal.digest).approver == "uid:1002"


def test_the_approver_does_not_apply_it(people: People, begun: Submit) -> None:
    """By no way in: two owners have a part in it."""
    proposal = made(people[ANN].terminate(begun(guarded_operation), **WHY))
    people[BEN].approve(proposal.number, proposal.digest)
    for caller in (BEN, attrs.evolve(BEN, principal="api:ci", via="http"), attrs.evolve(BEN, via="process")):
        with pytest.raises(Refused, match="another one must apply it"):
            people[caller].apply(proposal.number)

    assert words(people[CARA].apply(proposal.number, wait=LIMIT).outcomes) == ["terminated"]


def test_an_own_approval_is_none_even_where_it_is_not_needed_yet(people: People, doors: Callable[[], Door]) -> None:
    """Else a token that begins before the proposal is applied would end without another person's agreement."""
    queued = token(guard="approval", concurrency=1)(cpu_operation.__wrapped__)
    first, second = doors(), doors()
    queued.submit(first)
    sent = queued.submit(second)
    first.wait_reached()
    proposal = made(people[ANN].terminate(sent, dry_run=True))

    with pytest.raises(Refused, match="belongs to the same user"):
        people[ANN].approve(proposal.number, proposal.digest)


def test_the_approval_is_for_what_was_seen(people: People, begun: Submit) -> None:
    """At least 8 digits of the digest say so."""
    proposal = made(people[ANN].terminate(begun(guarded_operation), **WHY))
    for digest in ("", proposal.digest[:7]):
        with pytest.raises(BadRequest, match=r"first 8 digits of the digest.*'tokengate proposal show 1'"):
            people[BEN].approve(proposal.number, digest)
    other = "".join("0" if digit != "0" else "1" for digit in proposal.digest)
    with pytest.raises(Refused, match="its digest is another one"):
        people[BEN].approve(proposal.number, proposal.digest[:12] + other[12:])

    assert people[BEN].approve(proposal.number, proposal.digest[:8].upper()).state == "approved"


def test_the_proposer_or_an_approver_denies(people: People, begun: Submit) -> None:
    """Also what is approved."""
    begun(guarded_operation)
    people.grants(grant(ANN, BEN), grant(CARA, rights=frozenset({"view", "terminate"})))
    for denier in (ANN, BEN):
        proposal = made(people[ANN].terminate("operation=turn_and_await", **WHY))
        people[BEN].approve(proposal.number, proposal.digest)
        with pytest.raises(Refused, match="has not the right 'approve'"):
            people[CARA].deny(proposal.number)
        row = people[denier].deny(proposal.number, reason="not now")
        assert (row.state, row.approver) == ("denied", denier.principal)


def test_a_proposal_is_seen_by_those_who_see_all_its_targets(people: People, begun: Submit) -> None:
    """For others it does not exist: neither its number nor its place in the list."""
    inside, outside = begun(guarded_operation), begun(guarded_operation)
    people.process.retag(inside, {"tenant": "acme"})
    people.grants(grant(ANN), grant(BEN, select="tenant=acme"))
    seen, hidden = (
        made(people[ANN].terminate(inside, **WHY)),
        made(people[ANN].terminate("operation=turn_and_await", **WHY)),
    )
    ben = people[BEN]

    assert [row.number for row in ben.proposals()] == [seen.number]
    with pytest.raises(UnknownProposal) as missing:
        ben.show_proposal(77)
    for verb in (ben.show_proposal, ben.deny, ben.apply, lambda number: ben.approve(number, hidden.digest)):
        with pytest.raises(UnknownProposal) as error:
            verb(hidden.number)
        assert str(error.value) == str(missing.value).replace("77", str(hidden.number))
    assert ben.approve(seen.number, seen.digest).state == "approved"
    assert not outside.done()


def test_values_of_attributes_are_for_those_who_may_see_them(gate: Gate, people: People) -> None:
    """In a proposal, as elsewhere; others see their types."""
    gate.spawn(Turner, name="turner")
    answer = people[ANN].ask(m.SetState("turner", {"secret": "canary", "n": 1}, dry_run=True))
    people.grants(grant(ANN), grant(BEN, rights=frozenset({"view"})))
    assert answer.proposal is not None
    number = answer.proposal.number

    assert people[ANN].show_proposal(number).arguments["values"] == {"secret": "canary", "n": 1}
    assert people[BEN].show_proposal(number).arguments["values"] == {"secret": "str", "n": "int"}


# --- What applying it does --------------------------------------------------------------------------------------------


def test_it_acts_on_its_tokens_and_no_others(people: People, begun: Submit) -> None:
    """One that has ended is `ended`, one that matches no more is `changed`, one that came later is untouched."""
    door = Door()
    kept, ended, changed = begun(), begun(door=door), begun()
    people.process.retag("operation=turn_and_await", {"tenant": "acme"})
    proposal = made(people[ANN].pause("tenant=acme", dry_run=True, wait=LIMIT))
    later = begun()
    people.process.retag(later, {"tenant": "acme"})
    people.process.retag(changed, {"tenant": "other"})
    door.open()
    ended.result(LIMIT)
    applied = people[ANN].apply(proposal.number, wait=LIMIT)

    assert {one.token: one.outcome for one in applied.outcomes} == {
        kept.id: "paused",
        ended.id: "ended",
        changed.id: "changed",
    }
    assert people[ANN].show_proposal(proposal.number).counts == {"paused": 1, "ended": 1, "changed": 1}
    assert {people.process.describe(one).row.held for one in (later, changed)} == {""}
    people.process.resume(kept)


def test_the_steps_of_a_token_that_runs_are_its_own_change(people: People, begun: Submit) -> None:
    """A verb that acts on a token twice asks once whether it matches."""
    begun()
    proposal = made(people[ANN].step("operation=turn_and_await,held!=paused", dry_run=True, wait=LIMIT))

    assert words(people[ANN].apply(proposal.number, wait=LIMIT).outcomes) == ["stepped"]
    people.process.resume("*")


def test_it_is_done_with_the_rights_of_the_applier(people: People, begun: Submit) -> None:
    """And with the applier's reason and force."""
    sent = begun(forced_operation)
    free = begun()
    proposal = made(people[ANN].terminate("operation=turn_and_await", dry_run=True))
    assert people[ANN].show_proposal(proposal.number).row.needs == "force"
    people.process.retag(free, {"tenant": "acme"})
    people.process.retag(sent, {"tenant": "acme"})
    people.grants(
        grant(ANN, ROOT), grant(BEN, rights=frozenset({"view", "operate"})),
        grant(CARA, rights=frozenset({"view"})), grant(CARA, rights=frozenset({"terminate"}), select="tenant=acme"),
    )  # fmt: skip
    with pytest.raises(Refused, match="'uid:1002' has not the right 'terminate'"):
        people[BEN].apply(proposal.number, **WHY)
    with pytest.raises(Refused, match="'uid:1003' has not the right 'override'"):
        people[CARA].apply(proposal.number, force=True, **WHY)
    with pytest.raises(BadRequest, match="'terminate' needs a reason"):
        people[CARA].apply(proposal.number)
    with pytest.raises(BadRequest, match="with force needs a reason"):
        people[ANN].apply(proposal.number, force=True)
    assert people[ANN].show_proposal(proposal.number).row.state == "open"
    applied = people[CARA].apply(proposal.number, wait=LIMIT, **WHY)

    assert {one.token: one.outcome for one in applied.outcomes} == {sent.id: "refused", free.id: "terminated"}


def test_force_of_the_applier_is_enough(people: People, begun: Submit) -> None:
    """The proposer need not have given it."""
    begun(forced_operation)
    proposal = made(people[ANN].terminate("operation=turn_and_await", dry_run=True))

    assert words(people[BEN].apply(proposal.number, force=True, wait=LIMIT, **WHY).outcomes) == ["terminated"]


@pytest.mark.parametrize("end", ["applied", "denied", "expired"])
def test_what_is_decided_stays_so(people: People, begun: Submit, end: str) -> None:
    """It is neither approved, applied nor denied any more."""
    sent = begun()
    ann, ben = people[ANN], people[BEN]
    proposal = made(ann.pause(sent, dry_run=True, wait=LIMIT))
    if end == "applied":
        ann.apply(proposal.number, wait=LIMIT)
    elif end == "denied":
        ann.deny(proposal.number)
    else:
        people.authority.proposals._clock = lambda: proposal.expires
    ann.resume(sent)
    for verb, done in (
        (lambda: ben.approve(proposal.number, proposal.digest), "approved"),
        (lambda: ann.apply(proposal.number), "applied"), (lambda: ann.deny(proposal.number), "denied"),
    ):  # fmt: skip
        text = f"proposal 1: it is {end} already" if end == done else f"proposal 1: it is {end}, so it cannot be {done}"
        with pytest.raises(Refused, match=text):
            verb()

    assert ann.show_proposal(proposal.number).row.state == end
    assert ann.describe(sent).row.held == ""


def test_a_proposal_ends_with_its_gate(people: People, begun: Submit) -> None:
    """Another run of it has other digests, for the same verb on the same tokens."""
    proposals = [Proposals("shop", opened, lambda: 0.0) for opened in (1.0, 2.0)]
    first, second = (one.make(m.Pause((7,)), ANN, (7,)) for one in proposals)
    again = proposals[0].make(m.Pause((7,)), BEN, (7,), seconds=9)

    assert first.digest == again.digest != second.digest


@pytest.mark.parametrize(
    "message",
    [
        m.Pause((7,), stop_clock=True),
        m.Resume((7,)),
        m.Pause((7, 8)),
        m.Stop("a"),
        m.Stop("b"),
        m.Freeze(reason="a test"),
    ],
)
def test_the_digest_is_of_the_verb_its_arguments_and_its_targets(message: Any) -> None:
    """Each makes it another one."""
    proposals = Proposals("shop", 1.0, lambda: 0.0)
    ids = message.select if isinstance(message, m.OnTokens) else ()
    known = proposals.make(m.Pause((7,)), ANN, (7,))

    assert proposals.make(message, ANN, ids).digest != known.digest
    assert proposals.make(m.Pause((7,), reason="other"), BEN, (7,)).digest == known.digest


def test_the_ids_of_a_proposal_are_shown_as_ranges(people: People) -> None:
    """The first of them, if there are very many."""
    many = (1, 2, 3, *range(5, 20_005, 2))
    proposal = people.authority.proposals.make(m.Pause(many), ANN, many)
    tokens = people[ANN].show_proposal(proposal.number).tokens

    assert tokens.startswith("1-3,5,7,9,")
    assert tokens.endswith(",2001 and 9,001 more")


def test_what_a_digest_is_of_runs_no_code_of_its_values() -> None:
    """A value may be of any class, in the gate's own process."""

    class Hostile(dict[str, Any]):
        def __repr__(self) -> str:
            raise AssertionError

        items = values = __iter__ = __getitem__ = __repr__  # type: ignore[assignment]

    made = Proposals("shop", 1.0, lambda: 0.0).make(m.SetState("a", {"x": [Hostile(a=1), (1, None)]}), ANN, ())

    assert len(made.digest) == 64


def test_it_is_done_once_when_two_apply_it_at_once(
    people: People, begun: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is refused while the first still waits for its record."""
    begun()
    proposal = made(people[ANN].pause("operation=turn_and_await", dry_run=True, wait=LIMIT))
    waits, go = threading.Event(), Reply[None]()

    async def intend(*_args: Any) -> None:
        waits.set()
        await go.wait()

    monkeypatch.setattr(people.authority, "intend", intend)
    answers: list[Any] = []
    first = threading.Thread(target=lambda: answers.append(people[ANN].apply(proposal.number, wait=LIMIT)))
    first.start()
    assert waits.wait(LIMIT)
    for verb in (people[BEN].apply, people[ANN].deny):
        with pytest.raises(Refused, match="it is applied"):
            verb(proposal.number)
    go._set()
    first.join(LIMIT)

    assert words(answers[0].outcomes) == ["paused"]
    people.process.resume("*")


def test_what_cannot_be_recorded_leaves_the_proposal_as_it_was(
    people: People, begun: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was done, so it can be applied later."""
    begun(guarded_operation)
    proposal = made(people[ANN].terminate("operation=turn_and_await", **WHY))
    people[BEN].approve(proposal.number, proposal.digest)

    async def intend(*_args: Any) -> None:
        raise AuditUnavailable("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(people.authority, "intend", intend)
        with pytest.raises(AuditUnavailable):
            people[ANN].apply(proposal.number)
        with pytest.raises(AuditUnavailable):
            people[ANN].deny(proposal.number)
    row = people[ANN].show_proposal(proposal.number).row
    assert (row.state, row.approver) == ("approved", "uid:1002")

    assert words(people[ANN].apply(proposal.number, wait=LIMIT).outcomes) == ["terminated"]


def test_what_fails_after_it_has_begun_is_not_done_again(
    gate: Gate, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How far it came is not known."""
    gate.spawn(Turner, name="turner")
    answer = people[ANN].suspend("turner", dry_run=True)
    assert answer.proposal is not None

    async def fail(_message: object) -> None:
        raise Busy("the disk is slow")

    monkeypatch.setitem(people.actor._answers, m.Suspend, fail)
    with pytest.raises(Busy):
        people[ANN].apply(answer.proposal.number)

    shown = people[ANN].show_proposal(answer.proposal.number)
    assert (shown.row.state, shown.counts) == ("applied", {"failed": 1})


# --- Verbs on actors --------------------------------------------------------------------------------------------------


@pytest.fixture
def desk(doors: Callable[[], Door]) -> Iterator[tuple[Gate, People]]:
    """A gate with a guarded actor below two supervisors."""
    inner = Supervisor.child_spec("desk", (ChildSpec("one", Guarded), ChildSpec("two", Guarded)))
    with Gate("tree", control_socket=False, children=[Supervisor.child_spec("shop", (inner,))], threads=4) as gate:
        yield gate, People(gate)
        for door in _doors:
            door.open()
        gate.close(drain=False)


_doors: list[Door] = []


def send(gate: Gate, name: str) -> Any:
    _doors.append(Door())
    sent = gate.find(f"shop/desk/{name}").proxy().turn(_doors[-1])
    _doors[-1].wait_reached()
    return sent


ENDINGS: list[Callable[[Any], Any]] = [
    lambda control: control.restart("shop/desk/one", **WHY),
    lambda control: control.stop("one", wait=0, **WHY),
    lambda control: control.restart("desk", **WHY),
    lambda control: control.stop("shop", **WHY),
    lambda control: control.terminate_child("desk", "one", **WHY),
    lambda control: control.terminate_child("/", "shop", **WHY),
]


@pytest.mark.parametrize("end", ENDINGS)
def test_ending_an_actor_counts_as_ending_the_tokens_that_it_has_begun(desk: tuple[Gate, People], end: Any) -> None:
    """Also those of actors below; and if it has begun others since, it is not done."""
    gate, people = desk
    sent = send(gate, "one")
    answer = end(people[ANN])
    assert (answer.outcome, answer.note) == ("awaiting", "proposal 1 needs approval")
    shown = people[ANN].show_proposal(1)
    assert (shown.tokens, shown.actor, shown.row.targets) == (str(sent.id), answer.actor, 1)
    with pytest.raises(Refused, match="needs the approval of another person first"):
        people[ANN].apply(1)
    people[BEN].approve(1, shown.row.digest)
    _doors[-1].open()
    sent.result(LIMIT)
    send(gate, "one")
    [changed] = people[ANN].apply(1).actors
    assert (changed.outcome, changed.note) == ("changed", "it has begun other guarded tokens since")
    again = end(people[ANN])
    people[BEN].approve(2, again.proposal.digest)

    [done] = people[ANN].apply(2, wait=0).actors
    assert done.outcome in ("done", "pending")  # a stop lets it end what it runs


def test_an_actor_that_has_begun_nothing_guarded_is_ended_at_once(desk: tuple[Gate, People]) -> None:
    """Its guard counts for its tokens."""
    _, people = desk

    assert people[ANN].restart("one", **WHY).outcome == "done"
    assert people[ANN].stop("shop", **WHY).outcome == "done"


def test_an_actor_with_guarded_tokens_is_ended_by_breaking_the_glass(desk: tuple[Gate, People]) -> None:
    """At once."""
    gate, people = desk
    sent = send(gate, "two")
    assert people[ANN].restart("two", force=True, **WHY).outcome == "awaiting"

    assert people[ANN].restart("two", break_glass="the shop is down").outcome == "done"
    assert sent.done()


def test_the_end_of_an_actor_with_tokens_that_need_force_needs_it(gate: Gate, people: People, door: Door) -> None:
    """A rule proposes it."""

    class Forced(Turner):
        guard = "force"

    sent = gate.spawn(Forced, name="forced").proxy().turn(door)
    door.wait_reached()
    with pytest.raises(Refused, match=f"has begun token {sent.id}, whose guard is 'force'; use force to end it"):
        people[ANN].stop("forced", **WHY)
    dry = people[ANN].stop("forced", wait=0, dry_run=True)
    assert (dry.outcome, dry.note) == ("would", "proposal 1 needs force")

    [done] = people[BEN].apply(1, force=True, wait=0, **WHY).actors
    assert done.outcome == "pending"


def test_a_proposal_of_a_verb_on_an_actor_keeps_its_path(gate: Gate, people: People) -> None:
    """So that another actor of this name is not meant."""
    gate.spawn(Turner, name="turner")
    answer = people[ANN].suspend("turner", dry_run=True)
    assert answer.proposal is not None

    assert people[ANN].show_proposal(answer.proposal.number).arguments == {"name": "spawned/turner"}


# --- Limits -----------------------------------------------------------------------------------------------------------


def test_an_eleventh_proposal_of_an_owner_takes_the_place_of_its_oldest_dry_run() -> None:
    """Of that owner's alone; without a dry run, it is refused."""
    proposals = Proposals("shop", 0.0, lambda: 0.0)
    other = proposals.make(Terminate((1,), dry_run=True), BEN, (1,))
    waits = [proposals.make(Terminate((1,)), ANN, (1,)) for _ in range(MAX_OF_OWNER - 2)]
    dry = [proposals.make(Terminate((1,), dry_run=True), ANN, (1,)) for _ in range(2)]
    session = attrs.evolve(ANN, principal="api:ci")
    for gone in dry:
        waits.append(proposals.make(Terminate((1,)), session, (1,)))
        with pytest.raises(UnknownProposal):
            proposals.get(gone.number)
    with pytest.raises(Refused, match="'uid:1001' has 10 proposals that wait; apply or deny one of them first"):
        proposals.make(Terminate((1,), dry_run=True), ANN, (1,))
    proposals.move(waits[0], "denied", "open")
    proposals.make(Terminate((1,)), ANN, (1,))

    assert other in list(proposals)


def test_a_gate_has_a_hundred_proposals_and_a_million_ids() -> None:
    """Those that are decided make room first."""
    proposals = Proposals("shop", 0.0, lambda: 0.0)
    made = [proposals.make(Terminate((1,)), attrs.evolve(ANN, owner=n // 10), (1,)) for n in range(MAX_PROPOSALS)]
    with pytest.raises(Refused, match="100 proposals that wait, for 100 tokens"):
        proposals.make(Terminate((1,)), RULE, (1,))
    proposals.move(made[7], "denied", "open")
    proposals.make(Terminate((1,)), RULE, (1,))
    assert made[7] not in list(proposals)
    assert len(list(proposals)) == MAX_PROPOSALS

    few = Proposals("shop", 0.0, lambda: 0.0)
    many = tuple(range(MAX_IDS // 2 + 1))
    first = few.make(Terminate(many), ANN, many)
    with pytest.raises(Refused, match="for 500,001 tokens"):
        few.make(Terminate(many), BEN, many)
    few.move(first, "denied", "open")
    assert list(few) == [first]
    second = few.make(Terminate(many), BEN, many)
    assert list(few) == [second]


# --- Waiting, listing, the wire ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["approved", "denied", "expired"])
def test_what_waits_for_an_approval_goes_on_when_it_is_decided(people: People, begun: Submit, end: str) -> None:
    """It may be that nobody has looked at it when it expired."""
    begun(guarded_operation)
    if end == "expired":
        people.authority._expires = 0.0
    proposal = made(people[ANN].terminate("operation=turn_and_await", **WHY))
    rows: list[Any] = []
    waiter = threading.Thread(target=lambda: rows.append(people[ANN].wait_approval(proposal.number, wait=3600)))
    waiter.start()
    if end == "approved":
        people[BEN].approve(proposal.number, proposal.digest)
    elif end == "denied":
        people[BEN].deny(proposal.number)
    waiter.join(LIMIT)

    assert [row.state for row in rows] == [end]


def test_the_wait_for_a_dry_run_ends_when_it_is_forgotten(
    people: People, begun: Submit, until: Callable[[Callable[[], bool]], None]
) -> None:
    """Since another one took its place."""
    begun()
    first = made(people[ANN].pause("*", dry_run=True))
    rows: list[Any] = []
    proposal = people.authority.proposals.get(first.number)
    waiter = threading.Thread(target=lambda: rows.append(people[ANN].wait_approval(first.number, wait=3600)))
    waiter.start()
    until(lambda: proposal.changed.statistics().tasks_waiting == 1)
    for _ in range(MAX_OF_OWNER):
        people[ANN].pause("*", dry_run=True)
    waiter.join(LIMIT)

    assert [row.state for row in rows] == ["expired"]


def test_the_wait_for_an_approval_ends_in_time(people: People, begun: Submit) -> None:
    """With the proposal as it is."""
    begun(guarded_operation)
    proposal = made(people[ANN].terminate("operation=turn_and_await", **WHY))

    assert people[ANN].wait_approval(proposal.number, wait=0).state == "open"


def test_proposals_are_listed_by_state_or_verb(people: People, begun: Submit) -> None:
    """Anything else is an error, and no empty list."""
    begun()
    ann = people[ANN]
    ann.pause("*", dry_run=True)
    ann.retag("*", {"a": "b"}, dry_run=True)
    ann.deny(1)

    assert [row.number for row in ann.proposals()] == [1, 2]
    assert [row.number for row in ann.proposals("open")] == [2]
    assert [row.number for row in ann.proposals("pause")] == [1]
    with pytest.raises(BadRequest, match="'opne' is neither a state of proposals"):
        ann.proposals("opne")


def test_a_second_person_agrees_through_the_socket(doors: Callable[[], Door]) -> None:
    """The admin page asks on behalf of people; those are not the gate's own user."""
    with Gate("socket", threads=2, shutdown=LIMIT) as gate:
        people = People(gate)
        people.grants(grant(ANN, BEN, ROOT))
        door = doors()
        guarded_operation.submit(door)
        door.wait_reached()
        with Client(gate) as client:
            args = {"select": "operation=turn_and_await", "wait": LIMIT}
            [outcome] = client.ask("terminate", args, ANN, reason="it hangs")["result"]
            number, digest = outcome["proposal"]["number"], outcome["proposal"]["digest"]
            refused = client.ask("approve", {"number": number, "digest": digest}, ANN)["error"]
            assert (refused["type"], "belongs to the same user" in refused["message"]) == ("Refused", True)
            assert client.ask("approve", {"number": number, "digest": digest}, BEN)["result"]["approver"] == "uid:1002"
            applied = client.ask("apply", {"number": number, "wait": LIMIT}, ANN)["result"]
            assert [one["outcome"] for one in applied["outcomes"]] == ["terminated"]
        door.open()


def test_a_command_waits_for_the_approval_of_another_person(
    doors: Callable[[], Door], until: Callable[[Callable[[], bool]], None]
) -> None:
    """Then it does what it was to do, with the rights of its user."""
    with Gate("waits", threads=2, shutdown=LIMIT) as gate:
        people, me = People(gate), Caller(f"uid:{os.geteuid()}", os.geteuid(), via="socket")
        people.grants(grant(BEN, me))
        door = doors()
        sent = guarded_operation.submit(door)
        door.wait_reached()

        def approve() -> None:
            until(lambda: len(people[BEN].proposals()) == 1)
            [row] = people[BEN].proposals()
            people[BEN].approve(row.number, row.digest)

        other = threading.Thread(target=approve)
        other.start()
        line = ["kill", str(sent.id), "--reason", "it hangs", "--wait-approval", "30m", "-g", f"waits@{os.getpid()}"]
        result = CliRunner().invoke(main, line)
        other.join(LIMIT)

        assert (result.exit_code, sent.state) == (0, "terminated"), result.output
        assert "terminated" in result.stdout
        door.open()


class Client:
    """A client that asks on behalf of others."""

    def __init__(self, gate: Gate) -> None:
        assert gate._control_server is not None
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(gate._control_server.path))
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> Client:
        self._lines.readline()
        self._socket.sendall(b'{"hello": {"protocol": 2}}\n')
        return self

    def __exit__(self, *_exc: object) -> None:
        self._lines.close()
        self._socket.close()

    def ask(self, verb: str, args: dict[str, Any], caller: Caller, **beside: Any) -> dict[str, Any]:
        sender = {"principal": caller.principal, "owner": caller.owner}
        line = {"id": 1, "verb": verb, "args": args, "on_behalf_of": sender, **beside}
        self._socket.sendall(json.dumps(line).encode() + b"\n")
        answer: dict[str, Any] = json.loads(self._lines.readline())
        return answer
