"""Outside the selector nothing exists: what a caller whose grants have selectors is told, and what it can touch.

Each is a rule of authority.md, 'The file'; `test_sight_at_random.py` draws them all together.
"""

# ruff: noqa: PT012  # a whole block is what raises

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
from gated_code import LIMIT
from sighted import USER, InProcess, OnSocket, Reader, authority_of, rights

from actors import LoopBlocked, Token, UnknownActor
from supervisors import ChildSpec, ChildStarted, NoSuchChild, Supervisor
from tokengate import Breaker, Gate, IoActor, Policy, Throttle, token
from tokengate.authority._admitted import Admitted
from tokengate.authority._decide import ROLES
from tokengate.authority._events import BreakGlassUsed
from tokengate.authority._grants import Grant, Rights
from tokengate.control import messages as m
from tokengate.control._admission import Caller
from tokengate.control.inspection._feeds import Feed
from tokengate.control.inspection._queries import restarts_at
from tokengate.control.inspection._selector import parse
from tokengate.control.rendering._tables import as_text
from tokengate.errors import BadRequest, Refused, TokenTerminated, UnknownProposal, UnknownToken
from tokengate.policy import Budget
from tokengate.policy._events import PolicyChanged, TokenRetried

Until = Callable[[Callable[[], bool]], None]

ACME, OTHER = {"tenant": "acme"}, {"tenant": "globex"}
UNUSED = 10**9


@token(show="*")
async def linger(note: str = "") -> None:
    await trio.sleep_forever()


@token
async def family(tags: list[dict[str, str]], made: list[Token[Any]]) -> None:
    made.extend(linger.with_options(tags=one).submit() for one in tags)
    await made[0]


@token(policy=Policy(breaker=Breaker(), budget=Budget("usd", 5), throttle=Throttle(rate=1_000_000)))
def pay() -> None: ...


class Clerk(IoActor):
    show = "*"

    def crash(self) -> None:
        raise LookupError("account 4711")

    def __init__(self) -> None:
        super().__init__()
        self.total = 7


@pytest.fixture
def gate() -> Iterator[Gate]:
    """An open gate with two supervisors, whose children have the same names."""
    children = (ChildSpec("open", Clerk), ChildSpec("vault", Clerk))
    shops = [Supervisor.child_spec(name, children) for name in ("left", "right")]
    with Gate("sight", threads=2, shutdown=LIMIT, children=shops) as opened:
        yield opened
        authority_of(opened).take(rights(("admin", "")))
        opened.control.lift("*")
        opened.close(drain=False)


@pytest.fixture(params=[InProcess, OnSocket])
def way(gate: Gate, request: pytest.FixtureRequest) -> Iterator[InProcess | OnSocket]:
    """Each way in, for the user that has the grants."""
    made: InProcess | OnSocket = request.param(gate)
    yield made
    made.close()


@pytest.fixture
def inside(gate: Gate) -> InProcess:
    """The way in within the process, for the user that has the grants."""
    return InProcess(gate)


def grant(gate: Gate, *grants: tuple[str, str]) -> None:
    """Have grants decide: for each, roles and rights, and a selector."""
    authority_of(gate).take(rights(*grants))


def said(way: InProcess | OnSocket, message: m.Message[Any], name: str, error: type[Exception]) -> str:
    """Return the text of an error, without the name that was asked for."""
    with pytest.raises(error) as raised:
        way.ask(message)
    return str(raised.value).replace(name, "NAME")


# --- Tokens ----------------------------------------------------------------------------------------------------------


def test_a_hidden_id_is_unknown_in_the_words_of_an_unused_one(gate: Gate, way: InProcess | OnSocket) -> None:
    """Whether it is live, has ended, or was never used; in errors and in outcomes."""
    hidden, ended = (linger.with_options(tags=OTHER).submit() for _ in range(2))
    own = linger.with_options(tags=ACME).submit()
    gate.control.terminate(ended, wait=LIMIT)
    grant(gate, ("admin", "tenant=acme"))

    for verb in (m.Describe, m.Stack):
        assert len({said(way, verb(id), str(id), UnknownToken) for id in (hidden.id, ended.id, UNUSED)}) == 1
    ids = (hidden.id, ended.id, UNUSED, own.id)
    *others, last = way.ask(m.Terminate(ids, reason="a test", wait=LIMIT))
    assert {(one.operation, one.outcome, one.note) for one in others} == {
        ("", "unknown", "no live token that you may see has this id")
    }
    assert (last.token, last.outcome) == (own.id, "terminated")
    assert not hidden.done()
    assert [one.token for one in way.ask(m.Renice("*", 3))] == []


def test_parents_children_and_what_is_waited_for_are_named_only_inside(
    gate: Gate, inside: InProcess, until: Until
) -> None:
    """A parent outside is none, and no selector can ask for it."""
    made: list[Token[Any]] = []
    mine, others = (family.with_options(tags=tags).submit([OTHER, ACME], made) for tags in (ACME, OTHER))
    until(lambda: len(made) == 4 and bool(mine._extras.waits) and bool(others._extras.waits))
    of_mine = {one.id: one for one in made if one.parent == mine.id}
    of_others = {one.id: one for one in made if one.parent == others.id}
    assert len(gate.control.describe(mine).waits_for) == 1
    grant(gate, ("viewer", "tenant=acme"))

    found = inside.ask(m.Describe(mine.id))
    assert found.children == tuple(id for id, one in of_mine.items() if one.tags == ACME)
    assert found.waits_for == ()
    rows = {row.id: row.parent for row in inside.ask(m.Tokens()).rows}
    assert {id: rows[id] for id in rows if id != mine.id} == {
        id: mine.id if id in of_mine else None for id, one in (of_mine | of_others).items() if one.tags == ACME
    }
    assert inside.ask(m.Tokens(f"parent={others.id}")).matching == 0
    assert inside.ask(m.Tokens(f"parent={mine.id}")).matching == 1


def test_figures_are_of_what_is_inside(gate: Gate, way: InProcess | OnSocket) -> None:
    """`info` counts live tokens that are seen; what is of the whole process is left out, also where it is shown."""
    for tags in (ACME, OTHER, OTHER):
        linger.with_options(tags=tags).submit()
    grant(gate, ("viewer", "tenant=acme"))

    info = way.ask(m.Info())
    assert sum(info.tokens.values()) == 1
    assert (info.sight, info.actors, info.restarts, info.threads, info.processes) == ("tenant=acme", 0, 0, 0, None)
    assert (info.cores, info.memory, tuple(info.gc_thresholds)) == (None, None, ())
    text = as_text(info)
    assert "tenant=acme" in text
    assert "threads" not in text
    page = way.ask(m.Tokens("operation=linger"))
    assert (page.matching, page.live) == (1, 1)
    assert "threads" in as_text(gate.control.info())


def test_a_token_that_another_one_runs_for_does_not_name_it(gate: Gate, inside: InProcess) -> None:
    """Neither in its row, nor in the refusal of a verb."""
    first = linger.with_options(tags=OTHER, key="k").submit()
    second = linger.with_options(tags=ACME, key="k").submit()
    grant(gate, ("admin", "tenant=acme"))

    (row,) = inside.ask(m.Tokens()).rows
    assert (row.id, row.held, row.held_by) == (second.id, "joined", "")
    assert inside.ask(m.Describe(second.id)).waits_for == ()
    (outcome,) = inside.ask(m.Renice(second.id, 5))
    assert (outcome.outcome, outcome.note) == ("refused", "another token runs for it")
    assert not first.done()


def test_what_holds_a_token_is_named_only_if_it_is_for_tokens_inside(
    gate: Gate, inside: InProcess, until: Until
) -> None:
    """A throttle that is for others, too, is not described."""
    gate.control.throttle("operation=linger", concurrency=1)
    first = linger.with_options(tags=OTHER).submit()
    until(lambda: first.started_at is not None)
    held = linger.with_options(tags=ACME).submit()
    grant(gate, ("viewer", "tenant=acme"))

    def held_by() -> tuple[str, str]:
        (row,) = [one for one in inside.ask(m.Tokens()).rows if one.id == held.id]
        return row.held, row.held_by

    until(lambda: held_by()[0] == "throttled")
    assert held_by() == ("throttled", "a limit that is for others, too")
    grant(gate, ("viewer", "operation=linger"))
    assert held_by() == ("throttled", "throttle operation=linger: concurrency 1")


def test_values_need_the_right_to_see_them(gate: Gate, inside: InProcess) -> None:
    """Those of arguments for the token, those of attributes for all of the actor; types are shown without it."""
    shown = linger.with_options(tags=ACME).submit("hello")

    def values() -> list[str | None]:
        (argument,) = inside.ask(m.Describe(shown.id)).arguments
        (attribute,) = inside.ask(m.GetState("left/open", wait=LIMIT)).attributes
        assert (argument.type, attribute.type) == ("str", "int")
        return [argument.value, attribute.value]

    view = (("viewer", "tenant=acme"), ("viewer", "actor=left/open"))
    grant(gate, *view)
    assert values() == [None, None]
    grant(gate, *view, ("arguments", "tenant=acme"))
    assert values() == ["'hello'", None]
    grant(gate, *view, ("arguments", "actor=left/open"))
    assert values() == [None, "7"]


# --- Actors ----------------------------------------------------------------------------------------------------------


def test_a_hidden_actor_is_unknown_in_the_words_of_a_missing_one(gate: Gate, way: InProcess | OnSocket) -> None:
    """A name that several have is that of the one inside; no error lists others."""
    with pytest.raises(UnknownActor, match="several"):
        gate.control.actors("open")
    grant(gate, ("admin", "actor=left/open"))

    assert [row.path for row in way.ask(m.Actors("open"))] == ["left/open"]
    assert [row.path for row in way.ask(m.Actors())] == ["left/open"]
    for message in (m.Actors, m.DescribeActor, m.GetState, m.Tree, m.Statistics):
        texts = {said(way, message(name), name, UnknownActor) for name in ("right/open", "left", "nothing")}
        assert len(texts) == 1, texts
    before = gate.find("right/open")._place.starts
    texts = {said(way, m.Restart(name, reason="a test"), name, UnknownActor) for name in ("right/open", "nothing")}
    assert len(texts) == 1
    assert gate.find("right/open")._place.starts == before


def test_a_tree_has_the_topmost_actors_that_are_seen(gate: Gate, inside: InProcess) -> None:
    """Children outside are neither listed nor counted, and those inside are found below hidden ones."""
    grant(gate, ("viewer", "actor=left"), ("viewer", "actor=left/open"), ("viewer", "actor=right/vault"))

    assert [(row.depth, row.path) for row in inside.ask(m.Tree())] == [
        (0, "left"), (1, "left/open"), (0, "right/vault")
    ]  # fmt: skip
    assert [row.path for row in inside.ask(m.Tree("left"))] == ["left", "left/open"]
    assert [row.id for row in inside.ask(m.WhichChildren("left"))] == ["open"]
    assert inside.ask(m.CountChildren("left")) == m.ChildCountsRow(1, 1, 0, 0, 1)
    assert gate.control.count_children("left") == m.ChildCountsRow(2, 2, 0, 0, 2)


def test_the_end_of_an_actor_names_its_token_only_to_those_that_may_see_it(
    gate: Gate, inside: InProcess, until: Until
) -> None:
    """Of others there is the class of the reason. How many siblings were restarted is for callers that see all."""
    crashed = [gate.find(path).proxy().crash() for path in ("left/open", "left/vault")]
    assert all(isinstance(one.exception(LIMIT), LookupError) for one in crashed)
    until(lambda: all(one.row.starts == 2 for one in gate.control.actors("left/*")))
    until(lambda: all(end.restarted for row in gate.control.which_children("left") for end in row.ends))
    rows = gate.control.which_children("left")
    full = gate.control.describe_actor("left/open")
    assert full.window is not None
    assert [(end.token, end.operation, end.reason) for end in full.ends] == [
        (crashed[0].id, "Clerk.crash", "error(LookupError('account 4711'))")
    ]
    grant(gate, ("viewer", "actor=left"), ("viewer", "actor=left/open"), ("viewer", "tenant=acme"))

    described = inside.ask(m.DescribeActor("left/open"))
    assert (described.ends, described.window) == (full.ends, None)
    assert inside.ask(m.DescribeActor("left")).own_window is None
    tree = inside.ask(m.Tree())
    assert [(row.path, row.last_end, row.window) for row in tree] == [
        ("left", None, None), ("left/open", full.ends[0], None)
    ]  # fmt: skip
    assert inside.ask(m.WhichChildren("left")) == (rows[-1],)
    admission = Admitted(authority_of(gate), m.Tree(), inside.caller, "view")
    vault = gate.find("left/vault")._place
    with admission.at_work():
        [hidden], window = restarts_at(vault)
    assert (hidden.reason, hidden.error, hidden.token, hidden.operation) == (
        "error(LookupError)", "LookupError", None, ""
    )  # fmt: skip
    assert window is None


@pytest.mark.parametrize("verb", [m.TerminateChild, m.RestartChild, m.DeleteChild])
def test_a_hidden_child_is_not_touched_and_is_as_if_there_were_none(
    gate: Gate, inside: InProcess, verb: type[m.TerminateChild | m.RestartChild | m.DeleteChild]
) -> None:
    """The supervisor's own error would list all children."""
    if verb is not m.TerminateChild:
        gate.control.terminate_child("left", "vault")
    before = gate.control.which_children("left")
    grant(gate, ("admin", "actor=left"), ("admin", "actor=left/open"))

    texts = {said(inside, verb("left", id, reason="a test"), id, NoSuchChild) for id in ("vault", "nothing")}
    assert texts == {"'left' has no child 'NAME'; its children: 'open'"}
    assert gate.control.which_children("left") == before


def test_what_ends_others_as_well_is_refused_without_naming_them(gate: Gate, inside: InProcess) -> None:
    """A supervisor is restarted only by a caller that may do so to all below it."""
    before = gate.find("left")._place.starts
    grant(gate, ("admin", "actor=left"), ("admin", "actor=left/open"))
    with pytest.raises(Refused) as refused:
        inside.ask(m.Restart("left", reason="a test"))
    assert "vault" not in str(refused.value)
    assert gate.find("left")._place.starts == before
    grant(gate, ("admin", "actor=left"), ("admin", "actor=left/*"))
    assert inside.ask(m.Restart("left", reason="a test")).outcome == "done"


# --- Streams ---------------------------------------------------------------------------------------------------------


def test_events_are_told_if_what_they_are_about_is_inside(gate: Gate, way: InProcess | OnSocket, until: Until) -> None:
    """Dead letters, reports, blocked loops, events of policies; what is about the whole gate is not told."""
    mine, others = (linger.with_options(tags=tags).submit() for tags in (ACME, OTHER))
    pay.submit().result(LIMIT)
    system = gate._system
    grant(gate, ("viewer", "tenant=acme"), ("viewer", "actor=left/*"), ("viewer", "operation=pay"))
    reader = way.follow(m.Watch())
    try:
        for one in (mine, others):
            system.dead_letter(one, LookupError("a test"))
            system.publish(LoopBlocked(one, 1.0, "stack"))
            system.publish(TokenRetried("linger", one.id, 1, 1.0, "LookupError"))
        system.publish(LoopBlocked(None, 1.0, ""))
        system.publish("of users")
        for name in ("linger", "nothing", "pay"):
            system.publish(PolicyChanged(name, {"timeout": "5s"}))
        for path in ("", "right/open", "left/open"):
            system.publish(BreakGlassUsed(path, "uid:1", "terminate", 1, "the till is on fire"))
        for path in ("right/open", "right", "left/gone", "left/open"):
            system.publish(ChildStarted("left", path, 0))
        until(
            lambda: any(
                (item.kind, item.actor) == ("supervisor.child_started", "left/open") for item in list(reader.items)
            )
        )
    finally:
        reader.close()
    assert [(item.kind, item.token, item.actor) for item in reader.items] == [
        ("token.dead_letter", mine.id, "operations/linger"),
        ("loop.blocked", mine.id, "operations/linger"),
        ("policy.token_retried", mine.id, "operations/linger"),
        ("policy.policy_changed", None, "operations/pay"),
        ("control.glass_broken", None, "left/open"),
        ("supervisor.child_started", None, "left/gone"),
        ("supervisor.child_started", None, "left/open"),
    ]


def test_a_stream_ends_when_its_right_is_taken_away_and_the_next_request_is_refused(
    gate: Gate, way: InProcess | OnSocket, until: Until
) -> None:
    """Case 6, for the grants that decide. One whose caller has the same rights goes on."""
    grant(gate, ("viewer", "tenant=acme"))
    readers: list[Reader] = [way.follow(m.Watch("operation=*")), way.follow(m.Watch())]
    try:
        grant(gate, ("viewer", "tenant=acme"), ("operator", "tenant=globex"))  # of the same user: it sees more now
        until(lambda: all(reader.ended.is_set() for reader in readers))
        assert all("your rights have changed" in reader.refused for reader in readers)
        readers.append(way.follow(m.Watch("operation=*")))
        grant(gate, ("viewer", "tenant=acme"), ("operator", "tenant=globex"))
        mine = linger.with_options(tags=ACME).submit()
        until(lambda: mine.id in readers[2].tokens)
        assert not readers[2].ended.is_set()
        authority_of(gate).take(rights(("viewer", ""), user=1))
        until(readers[2].ended.is_set)
        for message in (m.Tokens(), m.Info(), m.Whoami()):
            with pytest.raises(Refused):
                way.ask(message)
    finally:
        for reader in readers:
            reader.close()


def test_a_stream_of_which_nobody_reads_is_not_kept(gate: Gate, inside: InProcess, until: Until) -> None:
    """The authority does not hold the streams that it would end."""
    grant(gate, ("viewer", "tenant=acme"))
    feed = inside.ask(m.Watch())
    assert isinstance(feed, Feed)
    assert len(authority_of(gate)._streams) == 1
    del feed
    gc.collect()
    until(lambda: len(authority_of(gate)._streams) == 0)


# --- Right and selector are asked again at the act -------------------------------------------------------------------


@pytest.mark.parametrize("change", ["tag", "rights"])
@pytest.mark.parametrize("select", ["operation=linger", "ids"])
def test_a_token_that_has_left_the_selector_before_the_act_is_not_touched(
    gate: Gate, inside: InProcess, monkeypatch: pytest.MonkeyPatch, change: str, select: str
) -> None:
    """Case 5. It is retagged, or the right goes, while the intent is written, after it was selected."""
    first, second = (linger.with_options(tags=ACME).submit() for _ in range(2))
    authority = authority_of(gate)
    grant(gate, ("admin", "tenant=acme"))

    async def intend(*_of: object) -> None:
        if change == "tag":
            first.tags = OTHER
        else:
            authority.take(rights(("admin", "tenant=initech")))

    monkeypatch.setattr(authority, "intend", intend)
    chosen = select if select != "ids" else (first.id, second.id)
    outcomes = {one.token: one for one in inside.ask(m.Renice(chosen, 7))}
    hidden = {first.id} if change == "tag" else {first.id, second.id}
    assert {id for id, one in outcomes.items() if (one.outcome, one.operation) == ("unknown", "")} == hidden
    assert (first.priority, second.priority == 7) == (0, second.id not in hidden)


def test_a_throttle_is_not_set_if_the_right_goes_before_the_act(
    gate: Gate, inside: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 5, for what has no tokens."""
    authority = authority_of(gate)
    grant(gate, ("admin", "tenant=acme"))

    async def intend(*_of: object) -> None:
        authority.take(rights(("admin", "tenant=initech")))

    monkeypatch.setattr(authority, "intend", intend)
    with pytest.raises(Refused):
        inside.ask(m.SetThrottle("*", rate=5.0))
    assert gate.control.throttles() == ()


# --- Throttles, policies, flags, transactions ------------------------------------------------------------------------


def test_a_throttle_is_seen_and_lifted_if_it_has_all_terms_of_a_grant(gate: Gate, way: InProcess | OnSocket) -> None:
    """`lift '*'` lifts those only; others are as if there were none."""
    for select in ("tenant=acme", "tenant=globex", "operation=linger", "operation=linger,tenant=acme"):
        gate.control.throttle(select, rate=1_000_000)
    grant(gate, ("operator", "tenant=acme"))
    mine = {"tenant=acme", "operation=linger,tenant=acme"}

    assert {row.selector for row in way.ask(m.Throttles())} == mine
    assert way.ask(m.Lift("operation=linger,tenant=globex")) == ()
    texts = {said(way, m.ResetThrottle(f"tenant={name}"), name, BadRequest) for name in ("globex", "nobody")}
    assert len(texts) == 1
    assert {row.selector for row in way.ask(m.Lift("*"))} == mine
    assert {row.selector for row in gate.control.throttles()} == {"tenant=globex", "operation=linger"}

    grant(gate, ("viewer", ""), ("operator", "tenant=globex"))  # all are seen, one can be lifted
    assert {row.selector for row in way.ask(m.Throttles())} == {"tenant=globex", "operation=linger"}
    assert {row.selector for row in way.ask(m.Lift("*"))} == {"tenant=globex"}


def test_rows_of_operations_and_flags_are_those_inside(gate: Gate, inside: InProcess) -> None:
    """A grant that fixes the operation sees them; one that has a tag does not."""
    pay.submit().result(LIMIT)
    for select in ("tenant=acme", "tenant=globex", "operation=pay"):
        gate.control.set_flag(select, "observe")
    lists = (m.Policies(), m.Breakers(), m.Budgets(), m.Flags(), m.Throttles())

    def rows() -> list[int]:
        return [len(inside.ask(one)) for one in lists]

    grant(gate, ("viewer", "tenant=acme"))
    assert rows() == [0, 0, 0, 1, 0]
    grant(gate, ("viewer", "operation=linger"))
    assert rows() == [0, 0, 0, 0, 0]
    grant(gate, ("viewer", "operation=pay"))
    assert [count > 0 for count in rows()] == [True] * 5
    assert len(inside.ask(m.Flags())) == 1


def test_a_transaction_is_seen_and_rolled_back_if_all_its_members_are_inside(
    gate: Gate, inside: InProcess, until: Until
) -> None:
    """One with a member outside is as if there were none: its rollback would end that member."""
    grant(gate, ("admin", "tenant=acme"))
    with pytest.raises(TokenTerminated), gate.transaction("order"):
        mine = linger.with_options(tags=ACME).submit()
        assert [row.name for row in inside.ask(m.Transactions())] == ["order"]
        others = linger.with_options(tags=OTHER).submit()
        assert inside.ask(m.Transactions()) == ()
        (outcome,) = inside.ask(m.Compensate(mine.id, reason="a test"))
        assert (outcome.outcome, outcome.note) == ("refused", "it is a member of no open transaction")
        assert [row.state for row in gate.control.transactions()] == ["open"]
        assert not others.done()
        gate.control.retag(others, ACME)
        (outcome,) = inside.ask(m.Compensate(mine.id, reason="a test"))
        assert outcome.outcome == "rolling_back"
        until(others.done)


# --- Proposals -------------------------------------------------------------------------------------------------------


def test_an_api_token_sees_of_its_owners_proposals_those_inside(gate: Gate, inside: InProcess) -> None:
    """It may see less than its owner, who sees what it has proposed."""
    mine, others = (linger.with_options(tags=tags).submit() for tags in (ACME, OTHER))
    nobody: frozenset[Any] = frozenset()
    grants = (
        Grant(1, frozenset({USER}), nobody, nobody, ROLES["admin"]),
        Grant(2, nobody, nobody, frozenset({"api:ci"}), ROLES["admin"], parse("tenant=acme")),
    )
    authority_of(gate).take(Rights(grants, user=1))
    api = InProcess(gate)
    api.caller = Caller("api:ci", USER, via="http")

    made = [
        way.ask(m.Renice(one.id, 3, dry_run=True))[0] for way, one in ((inside, mine), (inside, others), (api, mine))
    ]
    numbers = [one.proposal.number for one in made]
    assert [row.number for row in inside.ask(m.Proposals())] == numbers
    assert [row.number for row in api.ask(m.Proposals())] == [numbers[0], numbers[2]]
    texts = {said(api, m.ShowProposal(one), str(one), UnknownProposal) for one in (numbers[1], UNUSED)}
    assert len(texts) == 1
