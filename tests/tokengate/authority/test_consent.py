"""Consent: a call waits at the door until another person agrees to it and its arguments; else none of its code runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from gated_code import LIMIT, Door
from people import ANN, BEN, CARA, ROOT, People, grant

from actors import Token
from actors.system._recovery import Recovery
from tokengate import Gate, Policy, Retry, Route, Throttle, TokenState, current_token, token
from tokengate.audit import read
from tokengate.authority._proposals import MAX_OF_OWNER
from tokengate.control._admission import Caller
from tokengate.control._exceptions import Refused, UnknownProposal
from tokengate.control.messages import ProposalRow
from tokengate.errors import BadOperation, NeedsGate, TokenExpired, TokenRejected
from tokengate.policy import Batch
from tokengate.policy._consent import MOST, WaitingCall

Until = Callable[[Callable[[], bool]], None]


class Ledger:
    """What has run, by the code's own account: a file, so that processes write there, too."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)
        file.touch()

    @property
    def lines(self) -> list[str]:
        return Path(self.file).read_text().split()


def written() -> Any:
    """Return functions that processes get by value, so that they need not import this module."""

    def write(file: str, what: Any = "ran", fails: int = 0) -> str:
        with open(file, "a+") as opened:
            opened.seek(0)
            before = len(opened.read().split())
            opened.write(f"{len(what) if isinstance(what, list) else what}\n")
        if before < fails:
            raise ConnectionError("down")
        return "done"

    def in_steps(file: str, what: Any = "ran", fails: int = 0) -> Any:
        yield
        return write(file, what, fails)

    async def awaited(file: str, what: Any = "ran", fails: int = 0) -> str:
        return write(file, what, fails)

    return write, in_steps, awaited


write, in_steps, awaited = written()

AFFINITIES: dict[str, tuple[Any, str]] = {
    "cpu": (write, "cpu"),
    "generator": (in_steps, "cpu"),
    "io": (awaited, "io"),
    "asyncio": (awaited, "asyncio"),
    "process": (write, "process"),
}


@attrs.define
class Call:
    """A call that is made, and what becomes of it."""

    thread: threading.Thread | None
    sent: Token[Any]
    outcome: list[Any]

    def ended(self) -> Any:
        """Wait for its end; return the result, or the error."""
        if self.thread is None:
            error = self.sent.exception(LIMIT)
            return self.sent.result() if error is None else error
        self.thread.join(LIMIT)
        assert self.outcome
        return self.outcome[0]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture(params=AFFINITIES)
def affinity(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["submitted", "direct"])
def call(request: pytest.FixtureRequest, gate: Gate, affinity: str) -> Iterator[Callable[..., Call]]:
    """Make a call of an operation that needs consent, submitted or direct; options are those of `@token`."""
    function, where = AFFINITIES[affinity]
    threads: list[threading.Thread] = []

    def make(*args: Any, **options: Any) -> Call:
        operation = token(affinity=where, consent="approval", **options)(function)
        if request.param == "submitted":
            return Call(None, operation.submit(*args), [])
        before, outcome = set(gate._system.live), list[Any]()

        def run() -> None:
            with gate.entered():
                try:
                    if where == "io":
                        outcome.append(trio.run(operation, *args))
                    elif where == "asyncio":
                        outcome.append(asyncio.run(operation(*args)))
                    else:
                        outcome.append(operation(*args))
                except Exception as error:
                    outcome.append(error)

        thread = threading.Thread(target=run, daemon=True)
        threads.append(thread)
        thread.start()
        ends = time.monotonic() + LIMIT
        while not (found := [one for id, one in list(gate._system.live.items()) if id not in before and one.args]):
            assert time.monotonic() < ends
        sent = next(one for one in found if not one.serves_operators)
        return Call(thread, sent, outcome)

    yield make
    gate.close(drain=False)
    for thread in threads:
        thread.join(LIMIT)


@pytest.fixture
def waiting(people: People, until: Until) -> Callable[[int], list[ProposalRow]]:
    """Wait until so many calls wait for consent, and return their proposals."""

    def wait(number: int = 1) -> list[ProposalRow]:
        until(lambda: len(people[ANN].proposals("open")) == number)
        return list(people[ANN].proposals("open"))

    return wait


def held(people: People, sent: Token[Any]) -> tuple[str, str]:
    row = people[ANN].describe(sent).row
    return row.state, row.held


# Case 25


def test_a_call_waits_at_the_door_and_runs_once_when_another_person_agrees(
    people: People, call: Any, ledger: Ledger, waiting: Any
) -> None:
    """Direct and submitted, in every affinity: queued, held `consent`, in no mailbox; its approval is its apply."""
    made = call(ledger.file, "x")
    [row] = waiting()
    details = people[ANN].show_proposal(row.number)

    assert held(people, made.sent) == ("queued", "consent")
    assert people[ANN].describe(made.sent).row.held_by == f"proposal {row.number}"
    assert [one.id for one in people[ANN].tokens("held=consent")] == [made.sent.id]
    assert (row.verb, row.needs, row.proposer, details.tokens) == ("call", "approval", "process", str(made.sent.id))
    assert details.arguments == {
        "operation": made.sent.operation, "arguments": {"file": ledger.file, "what": "x"},
    }  # fmt: skip
    assert made.sent._place.mailbox.size == 0
    assert ledger.lines == []
    assert people[ANN].approve(row.number, row.digest[:8]).state == "applied"
    assert made.ended() == "done"
    assert ledger.lines == ["x"]
    for again in (lambda: people[BEN].approve(row.number, row.digest), lambda: people[BEN].deny(row.number)):
        with pytest.raises(Refused, match="it is applied"):
            again()
    assert ledger.lines == ["x"]


def test_nothing_of_a_call_runs_that_is_denied(people: People, call: Any, ledger: Ledger, waiting: Any) -> None:
    made = call(ledger.file)
    [row] = waiting()
    people[BEN].deny(row.number)
    error = made.ended()

    assert isinstance(error, TokenRejected)
    assert error.reason == made.sent.reason == "consent"
    assert f"'uid:1002' has denied its proposal, {row.number}" in str(error)
    assert made.sent.state is TokenState.REJECTED
    assert ledger.lines == []


def test_nothing_of_a_call_runs_whose_arguments_have_changed(
    people: People, call: Any, ledger: Ledger, waiting: Any
) -> None:
    """Between the question and the answer: what was agreed to is no longer what would run."""
    mutable = ["a"]
    made = call(ledger.file, mutable)
    [row] = waiting()
    mutable.append("b")
    assert people[ANN].approve(row.number, row.digest).state == "applied"
    error = made.ended()

    assert isinstance(error, TokenRejected)
    assert "its arguments have changed" in str(error)
    assert people[ANN].show_proposal(row.number).counts == {"changed": 1}
    assert ledger.lines == []


def test_nothing_of_a_call_runs_whose_proposal_has_expired(
    people: People, call: Any, ledger: Ledger, waiting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself, though nobody looks at proposals."""
    monkeypatch.setattr(people.authority, "_expires", 0.05)
    made = call(ledger.file)
    error = made.ended()

    assert isinstance(error, TokenRejected)
    assert "has expired before anybody agreed to it" in str(error)
    assert [row.state for row in people[ANN].proposals()] == ["expired"]
    assert ledger.lines == []


@pytest.mark.parametrize("drain", [True, False])
def test_nothing_of_a_call_runs_that_waits_as_the_gate_closes(
    gate: Gate, call: Any, ledger: Ledger, waiting: Any, drain: bool
) -> None:
    """The drain does not wait for consent."""
    made = call(ledger.file)
    waiting()
    gate.close(drain=drain)
    error = made.ended()

    assert isinstance(error, TokenRejected)
    assert "its gate closes" in str(error)
    assert ledger.lines == []


def test_a_cancel_ends_a_call_that_waits_and_its_proposal(
    people: People, call: Any, ledger: Ledger, waiting: Any, until: Until
) -> None:
    made = call(ledger.file)
    [row] = waiting()
    assert made.sent.cancel()
    until(lambda: people[ANN].show_proposal(row.number).row.state == "expired")

    assert made.sent.state is TokenState.TERMINATED
    with pytest.raises(Refused, match="it is expired, so it cannot be approved"):
        people[ANN].approve(row.number, row.digest)
    assert ledger.lines == []


def test_a_cancel_is_not_lost_that_comes_as_the_call_is_agreed_to(
    people: People, ledger: Ledger, waiting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it is neither at the door any more nor in its mailbox yet."""
    sent = token(consent="approval")(write).submit(ledger.file)
    [row] = waiting()
    place: Any = sent._place
    place.suspend()
    monkeypatch.setattr(WaitingCall, "_is_as_asked", lambda call: not call.token.cancel())
    people[ANN].approve(row.number, row.digest)

    assert sent.state is TokenState.TERMINATED
    place.unsuspend()
    assert ledger.lines == []


@pytest.mark.parametrize("mode", ["cancel", "interrupt", "kill"])
def test_an_operator_ends_a_call_that_waits_and_its_proposal(
    people: People, call: Any, ledger: Ledger, waiting: Any, until: Until, mode: Any
) -> None:
    made = call(ledger.file)
    [row] = waiting()
    [ended] = people[BEN].terminate(made.sent, mode=mode, reason="it is not wanted")

    assert (ended.outcome, ended.note) == ("terminated", "it never ran")
    assert made.sent.state is TokenState.TERMINATED
    until(lambda: people[ANN].show_proposal(row.number).row.state == "expired")
    assert ledger.lines == []


@pytest.mark.parametrize("limit", ["deadline", "queue_timeout"])
def test_the_time_limits_of_a_call_run_while_it_waits(
    people: People, call: Any, ledger: Ledger, until: Until, limit: str
) -> None:
    made = call(ledger.file, policy=Policy(**{limit: 0.1}))
    error = made.ended()

    assert isinstance(error, TokenExpired)
    assert (error.which, made.sent.state) == (limit, TokenState.EXPIRED)
    until(lambda: [row.state for row in people[ANN].proposals()] in ([], ["expired"]))
    assert ledger.lines == []


def test_more_time_can_be_given_to_a_call_that_waits(people: People, call: Any, ledger: Ledger, waiting: Any) -> None:
    made = call(ledger.file, policy=Policy(deadline=2 * LIMIT))
    [row] = waiting()
    before = made.sent.deadline
    assert [one.outcome for one in people[ANN].extend(made.sent, 100)] == ["extended"]
    assert made.sent.deadline == before + 100
    people[ANN].approve(row.number, row.digest)

    assert made.ended() == "done"


def test_the_approval_covers_the_retries(people: People, call: Any, ledger: Ledger, waiting: Any) -> None:
    retry = Retry(on=ConnectionError, attempts=3, wait=0.001)
    made = call(ledger.file, "x", 2, policy=Policy(retry=retry), idempotent=True)
    [row] = waiting()
    people[ANN].approve(row.number, row.digest)

    assert made.ended() == "done"
    assert ledger.lines == ["x"] * 3
    assert len(people[ANN].proposals()) == 1


# The ways around it


def test_with_no_gate_open_a_call_raises(affinity: str, ledger: Ledger) -> None:
    function, where = AFFINITIES[affinity]
    operation = token(affinity=where, consent="approval")(function)  # type: ignore[call-overload]

    with pytest.raises(NeedsGate):
        operation.submit(ledger.file)
    runs: dict[str, Any] = {"io": trio.run, "asyncio": lambda one, *args: asyncio.run(one(*args))}
    call = runs.get(where, lambda one, *args: one(*args))
    with pytest.raises(NeedsGate):
        call(operation, ledger.file)
    assert ledger.lines == []


def test_a_call_within_a_step_waits_as_well_and_holds_up_no_other(people: People, ledger: Ledger, waiting: Any) -> None:
    """A direct call within a step takes no shorter way; its thread, and its place's only turn, are free meanwhile."""
    inner = token(consent="approval")(write)

    @token(concurrency=1)
    def outer(file: str) -> str:
        return inner(file)

    other = token(lambda: "other")
    waits = [outer.submit(ledger.file) for _ in range(4)]  # more than the gate has threads
    rows = waiting(4)

    assert other.submit().result(LIMIT) == "other"
    for row in rows:
        people[ANN].approve(row.number, row.digest)
    assert [one.result(LIMIT) for one in waits] == ["done"] * 4
    assert len(ledger.lines) == 4


def test_a_call_that_needs_consent_may_make_another_one(people: People, ledger: Ledger, waiting: Any) -> None:
    """Each has its own; also under a concurrency of 1, since the first one waits for the second."""

    @token(consent="approval", concurrency=1)
    def count(file: str, number: int) -> int:
        write(file, number)
        return number if number == 0 else count(file, number - 1)

    sent = count.submit(ledger.file, 2)
    for number in (2, 1, 0):
        [row] = waiting()
        assert people[ANN].show_proposal(row.number).arguments["arguments"]["number"] == number
        people[ANN].approve(row.number, row.digest)
        assert sent.state is TokenState.RUNNING or number in (0, 2)

    assert sent.result(LIMIT) == 0
    assert ledger.lines == ["2", "1", "0"]


def test_a_child_process_has_its_gate_ask(people: People, ledger: Ledger, waiting: Any) -> None:
    """A direct call there, too: it is no call of the plain function."""
    asked = token(consent="approval")(write)

    @token(affinity="process")
    def submits(file: str) -> Any:
        return asked.submit(file).result()

    sent = submits.submit(ledger.file)
    [row] = waiting()
    assert ledger.lines == []
    people[ANN].approve(row.number, row.digest)
    assert (sent.result(LIMIT), ledger.lines) == ("done", ["ran"])


def test_calls_with_one_key_share_one_consent(people: People, ledger: Ledger, waiting: Any) -> None:
    """What runs for them waits for it, and they are held `joined`; all end as it does."""
    asked = token(consent="approval")(write).with_options(key="k")
    first, second = asked.submit(ledger.file), asked.submit(ledger.file)
    [row] = waiting()

    assert [held(people, one) for one in (first, second)] == [("queued", "joined")] * 2
    assert first.cancel()
    people[ANN].approve(row.number, row.digest)
    assert second.result(LIMIT) == "done"
    third = asked.submit(ledger.file)
    [row] = waiting()
    people[ANN].deny(row.number)
    with pytest.raises(TokenRejected, match="has denied"):
        third.result(LIMIT)
    fourth = asked.submit(ledger.file, object())
    with pytest.raises(TokenRejected, match="'what' has no form in JSON: object"):
        fourth.result(LIMIT)
    assert ledger.lines == ["ran"]


def test_the_last_cancel_of_calls_with_one_key_ends_the_proposal(
    people: People, ledger: Ledger, waiting: Any, until: Until
) -> None:
    asked = token(consent="approval")(write).with_options(key="k")
    sent = [asked.submit(ledger.file) for _ in range(2)]
    [row] = waiting()
    assert all(one.cancel() for one in sent)
    until(lambda: people[ANN].show_proposal(row.number).row.state == "expired")

    assert ledger.lines == []


def test_a_member_of_a_transaction_waits_and_is_undone_only_if_it_ran(
    people: People, gate: Gate, ledger: Ledger, waiting: Any
) -> None:
    """A rollback ends those that wait for consent."""
    asked = token(consent="approval")(write)

    @asked.compensate
    def undo(done: Any) -> None:
        write(ledger.file, f"undo-{done.args[1]}")

    def block() -> None:
        with gate.entered(), gate.transaction("order 7") as tx:
            sent.append(asked.submit(ledger.file, "first"))
            sent.append(asked.submit(ledger.file, "second"))
            door.pass_through()
            tx.roll_back()

    sent: list[Token[Any]] = []
    door = Door()
    thread = threading.Thread(target=block, daemon=True)
    thread.start()
    rows = {row.number: row for row in waiting(2)}
    first = min(rows)
    people[ANN].approve(first, rows[first].digest)
    assert sent[0].result(LIMIT) == "done"
    door.open()
    thread.join(LIMIT)

    assert not thread.is_alive()
    assert sent[1].state is TokenState.TERMINATED
    assert ledger.lines == ["first", "undo-first"]


def test_no_flag_takes_the_consent_away(gate: Gate, people: People, ledger: Ledger, waiting: Any) -> None:
    """Like batches and routes it is code: `off` and `observe` leave out the rules of policies only."""
    asked = token(consent="approval", policy=Policy(deadline=LIMIT))(write)
    for mode in ("off", "observe"):
        gate.control.set_flag("*", mode)
        sent = asked.submit(ledger.file, mode)
        thread = threading.Thread(target=lambda mode=mode: asked(ledger.file, mode))
        thread.start()
        rows = waiting(2)
        assert held(people, sent) == ("queued", "consent")
        assert mode not in ledger.lines
        for row in rows:
            people[ANN].approve(row.number, row.digest)
        assert sent.result(LIMIT) == "done"
        thread.join(LIMIT)
    assert ledger.lines == ["off", "off", "observe", "observe"]


def test_what_runs_a_call_elsewhere_or_with_others_is_refused() -> None:
    """Batches, routes and compensations: the error says where consent belongs."""
    asked = token(consent="approval")(write)

    with pytest.raises(BadOperation, match="has a batch, which several calls share"):
        token(consent="approval", policy=Policy(batch=Batch(size=2)))(lambda items: items)  # type: ignore[call-overload]
    with pytest.raises(BadOperation, match="of Route 'r' needs consent to its calls"):
        Route("r", [token(write), asked])
    with pytest.raises(BadOperation, match="a compensation is called with a Done"):
        token(write).compensate(asked)


@pytest.mark.parametrize("given", ["yes", True, "", "none"])
def test_another_value_is_an_error(given: Any) -> None:
    with pytest.raises(ValueError, match=r"consent of '.*write' is .*; it must be 'approval' or None"):
        token(consent=given)(write)


# Who agrees


def test_the_approver_is_another_person_with_the_rights_approve_and_arguments(
    people: People, ledger: Ledger, waiting: Any
) -> None:
    """Not the gate's user, whose process has made the call, nor root; and without `arguments` only types are shown."""
    asked = token(consent="approval")(write)
    own = Caller(f"uid:{people.authority._user}", people.authority._user, via="socket")
    blind = frozenset({"view", "approve", "operate"})
    people.grants(grant(ANN, own, ROOT), grant(BEN, rights=blind), grant(CARA, rights=frozenset({"view", "arguments"})))
    sent = asked.submit(ledger.file, [1, 2])
    [row] = waiting()

    for caller in (own, ROOT, BEN, CARA):
        with pytest.raises(Refused):
            people[caller].approve(row.number, row.digest)
    with pytest.raises(Refused):
        people.process.approve(row.number, row.digest)
    assert people[CARA].show_proposal(row.number).arguments["arguments"] == {"file": ledger.file, "what": [1, 2]}
    assert people[BEN].show_proposal(row.number).arguments["arguments"] == {"file": "str", "what": "list"}
    with pytest.raises(Refused, match="its digest is another one"):
        people[ANN].approve(row.number, "0123456789")
    with pytest.raises(Refused, match="which its approval applies"):
        people[ANN].apply(row.number)
    with pytest.raises(Refused, match="which its approval applies"):
        people[ANN].apply(row.number, break_glass="the shop is down")
    assert held(people, sent) == ("queued", "consent")
    people[ANN].approve(row.number, row.digest)

    assert (sent.result(LIMIT), ledger.lines) == ("done", ["2"])


def test_outside_of_the_selector_of_a_grant_a_call_and_its_proposal_do_not_exist(
    people: People, ledger: Ledger, waiting: Any
) -> None:
    asked = token(consent="approval")(write)
    people.grants(grant(ANN), grant(BEN, select="tenant=acme"))
    sent = asked.with_options(tags={"tenant": "other"}).submit(ledger.file)
    [row] = waiting()

    assert people[BEN].proposals() == ()
    with pytest.raises(UnknownProposal):
        people[BEN].approve(row.number, row.digest)
    people[ANN].retag(sent, {"tenant": "acme"})
    people[BEN].approve(row.number, row.digest)
    assert sent.result(LIMIT) == "done"


def test_too_many_that_wait_are_refused(people: People, ledger: Ledger, waiting: Any) -> None:
    """Ten of one owner; one that is decided makes room."""
    asked = token(consent="approval")(write)
    sent = [asked.submit(ledger.file, number) for number in range(MAX_OF_OWNER)]
    rows = waiting(MAX_OF_OWNER)
    with pytest.raises(TokenRejected, match="has 10 proposals that wait"):
        asked.submit(ledger.file, "more").result(LIMIT)
    assert sent[0].cancel()
    sent.append(asked.submit(ledger.file, "late"))
    waiting(MAX_OF_OWNER)
    for row in (*rows[1:], *people[ANN].proposals("open")[-1:]):
        people[ANN].approve(row.number, row.digest)

    assert [one.result(LIMIT) for one in sent[1:]] == ["done"] * MAX_OF_OWNER
    assert sorted(ledger.lines) == sorted([*map(str, range(1, MAX_OF_OWNER)), "late"])


# Arguments


class Text(str):
    """A text with a method of its own."""

    def encode(self, *_: Any) -> bytes:
        raise AssertionError("code of a user's class has run")


DEEP: list[Any] = []
DEEP.append(DEEP)


@pytest.mark.parametrize(
    ("argument", "why"),
    [
        (object(), "object is none of its types"),
        ([{"a": {1, 2}}], "set in it"),
        ({1: "one"}, "a key that is no text"),
        (float("nan"), "not finite"),
        (2**64, "more than 64 bits"),
        (Text("a"), "Text is none of its types"),
        ("\ud800", "half of a character"),
        (b"bytes", "bytes is none of its types"),
        (DEEP, "lists and dicts in each other"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_call_whose_arguments_have_no_form_in_json_is_rejected(
    people: People, ledger: Ledger, argument: Any, why: str
) -> None:
    """The error names the argument; nobody is asked."""
    error = token(consent="approval")(write).submit(ledger.file, argument).exception(LIMIT)

    assert isinstance(error, TokenRejected)
    assert error.reason == "consent"
    assert "'what' has no form in JSON" in str(error)
    assert why in str(error)
    assert (people[ANN].proposals(), ledger.lines) == ((), [])


@pytest.mark.parametrize("argument", ["x" * MOST, ["x"] * MOST, {str(number): number for number in range(MOST)}])
def test_arguments_that_nobody_can_read_are_refused(people: People, ledger: Ledger, argument: Any) -> None:
    error = token(consent="approval")(write).submit(ledger.file, argument).exception(LIMIT)

    assert "up to 'what' they are longer than 16,384 bytes" in str(error)
    assert people[ANN].proposals() == ()


def test_the_names_are_those_of_the_parameters(people: People, ledger: Ledger, waiting: Any) -> None:
    """Of methods, too, whose instance is an argument like the others; and by position if the call does not fit."""

    @token(consent="approval")
    def many(file: str, /, *more: int, deep: bool = False, **rest: Any) -> str:
        return str(write(file))

    class Cleaner:
        @token(consent="approval")
        def clean(self, path: str) -> None:
            """Never run."""

    sent = many.submit(ledger.file, 1, 2, deep=True, a={"b": (None, 0.5)})
    [row] = waiting()
    arguments = people[ANN].show_proposal(row.number).arguments["arguments"]
    assert arguments == {
        "file": ledger.file, "more": [1, 2], "deep": True, "rest": {"a": {"b": [None, 0.5]}},
    }  # fmt: skip
    people[ANN].approve(row.number, row.digest)
    assert sent.result(LIMIT) == "done"
    with pytest.raises(TokenRejected, match="'self' has no form in JSON: Cleaner"):
        Cleaner().clean.submit("/").result(LIMIT)
    wrong = token(consent="approval")(write).submit(no_such="x")  # type: ignore[call-arg]
    [row] = waiting()
    assert people[ANN].show_proposal(row.number).arguments["arguments"] == {"no_such": "x"}
    people[ANN].approve(row.number, row.digest)
    with pytest.raises(TypeError, match="no_such"):
        wrong.result(LIMIT)


# At the door


def test_it_takes_no_room_in_the_mailbox_and_no_turn(people: People, ledger: Ledger, waiting: Any) -> None:
    """Consent comes before the full mailbox: others are not held up, and its own room is asked for when it comes."""
    asked = token(consent="approval", capacity=1, concurrency=1, overflow="reject")(write)
    sent = [asked.submit(ledger.file, number) for number in range(3)]
    rows = waiting(3)
    place: Any = sent[0]._place

    assert place.mailbox.statistics().depth == 0
    place.suspend()
    for row in rows:
        people[ANN].approve(row.number, row.digest)
    assert [one.state for one in sent] == [TokenState.QUEUED, *[TokenState.REJECTED] * 2]
    assert "its mailbox is full, or has closed" in str(sent[1].exception())
    assert sent[1].reason == "overload"
    place.unsuspend()
    assert sent[0].result(LIMIT) == "done"
    assert ledger.lines == ["0"]


def test_what_operators_do_to_it_counts_when_it_is_agreed_to(people: People, ledger: Ledger, waiting: Any) -> None:
    """Its priority at once, a pause before its first step; it is not moved before."""
    asked = token(consent="approval")(in_steps)
    sent = asked.submit(ledger.file)
    [row] = waiting()
    ann = people[ANN]

    assert [one.outcome for one in ann.renice(sent, 5)] == ["noted"]
    assert [one.outcome for one in ann.reroute(sent, affinity="process")] == ["refused"]
    assert [one.outcome for one in ann.pause(sent)] == ["pause_requested"]
    assert held(people, sent) == ("queued", "consent")
    ann.approve(row.number, row.digest)
    assert ann.pause(sent, wait=LIMIT)[0].outcome in ("paused", "unchanged")
    assert (sent.state, sent.priority, ledger.lines) == (TokenState.PAUSED, 5, [])
    assert [one.outcome for one in ann.resume(sent)] == ["resumed"]
    assert sent.result(LIMIT) == "done"


def test_a_rule_that_refuses_is_asked_first_and_a_fallback_needs_no_consent(people: People, ledger: Ledger) -> None:
    """In the order of the rules; a fallback is held to none of them, so it is not the code that was asked for."""
    once = Throttle(rate="1/h", burst=1, over="reject")
    policy = Policy(throttle=once, fallback=lambda error, file: f"instead: {error.reason}")
    asked = token(consent="approval", policy=policy)(write)
    first = asked.submit(ledger.file)

    assert asked.submit(ledger.file).result(LIMIT) == "instead: throttle"
    assert held(people, first) == ("queued", "consent")
    assert ledger.lines == []


def test_a_call_in_its_own_context_is_not_shed_for_the_time_that_it_waited(
    people: People, ledger: Ledger, waiting: Any
) -> None:
    """Its wait for its turn begins with the approval."""
    asked = token(consent="approval")(write)
    sent = asked.submit(ledger.file)
    queued = sent.queued_at
    [row] = waiting()
    people[ANN].approve(row.number, row.digest)

    assert sent.result(LIMIT) == "done"
    assert sent.queued_at > queued


def test_a_token_that_waits_is_not_taken_for_lost(gate: Gate, people: People, ledger: Ledger, waiting: Any) -> None:
    """Recovery ends tokens that no mailbox has, but for these."""
    sent = token(consent="approval")(write).submit(ledger.file)
    waiting()
    recovery = Recovery(gate._system)
    for _ in range(3):
        gate._system.system_host.run(recovery.look_at_all).result(LIMIT)

    assert held(people, sent) == ("queued", "consent")


def test_current_token_and_context_are_those_of_its_caller(people: People, waiting: Any) -> None:
    @token(consent="approval")
    def who() -> Any:
        mine = current_token()
        return mine and mine.id

    sent = who.submit()
    [row] = waiting()
    people[ANN].approve(row.number, row.digest)
    assert sent.result(LIMIT) == sent.id


# On record


def test_what_becomes_of_calls_is_on_record_without_their_values(
    gate: Gate, people: People, ledger: Ledger, waiting: Any, tmp_path: Path
) -> None:
    """Proposal, reads of values, approval, denial, expiry: by number, with the names of arguments."""
    log = tmp_path / "log"
    people.authority.recorder.record_to(log, None, strict=True)
    asked = token(consent="approval")(write)
    sent, numbers = [], []
    for what in ("canary-approved", "canary-denied", "canary-cancelled"):
        sent.append(asked.submit(ledger.file, what))
        [row] = waiting()
        numbers.append(row.number)
        if what == "canary-approved":
            assert people[ANN].show_proposal(row.number).arguments["arguments"]["what"] == what
            people[ANN].approve(row.number, row.digest)
        elif what == "canary-denied":
            people[ANN].deny(row.number)
        else:
            assert sent[-1].cancel()
            waiting(0)
    assert sent[0].result(LIMIT) == "done"
    gate.close()
    found = list(read(log))

    assert [one["proposal"] for one in found if one["kind"] == "proposal"] == numbers
    assert [one["args"]["arguments"] for one in found if one["kind"] == "proposal"] == [["file", "what"]] * 3
    assert [(one["verb"], one["proposal"]) for one in found if one["kind"] == "intent"] == [
        ("approve", numbers[0]), ("deny", numbers[1]),
    ]  # fmt: skip
    assert [one["verb"] for one in found if one["kind"] == "read"] == ["show_proposal"]
    assert [one["proposal"] for one in found if one["kind"] == "expired"] == numbers[2:]
    assert not [file for file in log.iterdir() if b"canary" in file.read_bytes()]
