"""Proposals under any order of propose, approve, apply, deny, expire, reload and close: what is done is done once.

The verbs are answered by the room itself, without a gate: its door is a stand-in that admits all, or refuses at its
record, and the test counts what is done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine, Generator, Iterable
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from people import ANN, BEN, CARA, ROOT, RULE, grant
from tiers import TORTURE, in_ci

from tokengate.authority._decide import ROLES
from tokengate.authority._grants import Rights
from tokengate.authority._proposals import MAX_OF_OWNER, WAITING, Proposal, Proposals
from tokengate.authority._verbs import AuthorityVerbs
from tokengate.control import messages as m
from tokengate.control._admission import Admission, Caller
from tokengate.control._exceptions import AuditUnavailable, BadRequest, Refused, UnknownProposal
from tokengate.control.messages import Outcome

PROCESS = Caller("process", 0)
CALLERS = (ANN, BEN, CARA, ROOT, RULE, PROCESS)
EXPECTED = (Refused, AuditUnavailable, UnknownProposal, BadRequest)


class Here(Admission):
    """What the sender of a message may do: all that it has a right for."""

    def __init__(self, door: Door, message: Any, caller: Caller) -> None:
        super().__init__(message, caller)
        self._door = door
        self.acts = False
        self.intent: int | None = None

    def scope(self, right: str) -> Any:
        return self._door.rights.scope(self.caller, right)


class Door:
    """The door: each record fails if the test says so, after others had their turn."""

    def __init__(self) -> None:
        self.rights = Rights((), 0)
        self.now = 0.0
        self.opened = 0.0
        self.proposals = self._new()
        self.fails = False
        self.system = SimpleNamespace(live={})
        self.done: Counter[tuple[float, int]] = Counter()

    def _new(self) -> Proposals:
        return Proposals("shop", self.opened, lambda: self.now)

    def close(self) -> None:
        self.opened += 1
        self.proposals = self._new()

    def clock(self) -> float:
        return self.now

    def right_of(self, message: Any) -> str:
        return str(message.needed)

    def refused(self, _caller: Caller, _message: Any, why: str) -> Refused:
        return Refused(why)

    async def intend(self, _admission: Admission, _ids: Iterable[int]) -> None:
        await turn()
        if self.fails:
            raise AuditUnavailable("the disk is full")

    async def admit_for(self, message: Any, caller: Caller, proposal: Proposal) -> Here:
        if self.rights.scope(caller, message.needed) is None:
            raise Refused("no right")
        here = Here(self, message, caller)
        await self.intend(here, ())
        here.acts = True
        self.done[self.opened, proposal.number] += 1
        return here

    async def perform(self, message: Any, _admission: Admission) -> tuple[Outcome, ...]:
        await turn()
        return tuple(Outcome(id, "turn", "paused") for id in message.select)


class Turn:
    """Awaited: other tasks have their turn."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def turn() -> Turn:
    return Turn()


@attrs.define(eq=False)
class Task:
    """A verb that has begun, and runs on at each of its turns.

    Attributes:
        admission: of its message.
        work: its coroutine.
    """

    admission: Here
    work: Coroutine[None, None, Any]

    @contextmanager
    def _here(self) -> Generator[None]:
        with self.admission.at_work():
            yield

    def go_on(self) -> bool:
        """Run to its next turn; return whether it has ended."""
        with self._here():
            try:
                self.work.send(None)
            except (StopIteration, *EXPECTED):
                return True
        return False


class Machine(RuleBasedStateMachine):
    """Several callers, each of whose verbs may stand between two of its steps while others go on."""

    numbers = Bundle("numbers")
    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.door = Door()
        self.verbs = AuthorityVerbs(self.door, self.door.perform, self.door.perform)  # type: ignore[arg-type]
        self.reload(frozenset(ROLES["admin"]), 5)
        self.open: list[Task] = []
        self.known: dict[int, Proposal] = {}
        self.agreed: dict[int, Caller] = {}

    def begin(self, caller: Caller, message: Any) -> Task | None:
        here = Here(self.door, message, caller)
        if here.scope(message.right) is None:
            return None
        task = Task(here, getattr(self.verbs, m.verb_of(type(message)))(message))
        if task.go_on():
            return None
        self.open.append(task)
        return task

    @rule(target=numbers, caller=st.sampled_from(CALLERS), needs=st.sampled_from(["nothing", "force", "approval"]),
          dry=st.booleans())  # fmt: skip
    def propose(self, caller: Caller, needs: Any, dry: bool) -> int:
        own = [one for one in self.door.proposals if one.state in WAITING and one.proposer.owner == caller.owner]
        try:
            made = self.door.proposals.make(
                m.Pause((1, 2), dry_run=dry), caller, (1, 2), needs=needs, seconds=300 if dry else 900
            )
        except Refused:
            assert len(own) >= MAX_OF_OWNER
            assert not any(one.message.dry_run for one in own)
            return 0
        self.known[made.number] = made
        return made.number

    @rule(caller=st.sampled_from(CALLERS), number=numbers, wrong=st.booleans())
    def approve(self, caller: Caller, number: int, wrong: bool) -> None:
        known = self.known.get(number)
        digest = "0" * 8 if wrong or known is None else known.digest[:8]
        self.begin(caller, m.Approve(number, digest))

    @rule(caller=st.sampled_from(CALLERS), number=numbers, glass=st.booleans())
    def apply(self, caller: Caller, number: int, glass: bool) -> None:
        self.begin(caller, m.Apply(number, break_glass="the shop is down" if glass else ""))

    @rule(caller=st.sampled_from(CALLERS), number=numbers)
    def deny(self, caller: Caller, number: int) -> None:
        self.begin(caller, m.Deny(number))

    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        """Let one of the verbs go on that have begun."""
        if self.open:
            task = self.open[data.draw(st.integers(0, len(self.open) - 1))]
            if task.go_on():
                self.open.remove(task)

    @rule(data=st.data())
    def disconnect(self, data: st.DataObject) -> None:
        """Cancel one of them, as when its client disconnects."""
        if self.open:
            task = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
            with task.admission.at_work():
                task.work.close()

    @rule(seconds=st.sampled_from([1.0, 200.0, 900.0]))
    def expire(self, seconds: float) -> None:
        self.door.now += seconds

    @rule(fails=st.booleans())
    def fill_disk(self, fails: bool) -> None:
        self.door.fails = fails

    @rule(rights=st.sampled_from(sorted(ROLES)).map(ROLES.__getitem__), lasts=st.integers(1, 5))
    def reload(self, rights: frozenset[str], lasts: int) -> None:
        """Give some callers other rights."""
        self.door.rights = Rights((grant(*CALLERS[:lasts], rights=rights), grant(*CALLERS[lasts:4])), 0)

    @rule()
    def close(self) -> None:
        """Open the gate again: nothing is left of what was proposed, and what waited for its record is cancelled."""
        for task in self.open:
            with task.admission.at_work():
                task.work.close()
        self.open.clear()
        self.door.close()
        self.known.clear()

    @invariant()
    def nothing_is_done_twice(self) -> None:
        assert all(count == 1 for count in self.door.done.values()), self.door.done

    @invariant()
    def what_is_done_was_agreed_to(self) -> None:
        """By another person than the proposer, and than the one who applied it; or the glass was broken."""
        for number, known in self.known.items():
            if known.approver is not None and known.state != "denied":
                assert known.approver.owner not in (0, None, known.proposer.owner)
            if self.door.done[self.door.opened, number]:
                assert known.state == "applied"
            elif known.state == "applied":
                assert any(task.admission.message == m.Apply(number, break_glass=glass) for task in self.open
                           for glass in ("", "the shop is down"))  # fmt: skip

    def teardown(self) -> None:
        self.close()


def run(examples: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=examples, stateful_step_count=30, deadline=None, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


def test_what_is_proposed_is_done_once_at_most() -> None:
    """Whatever the order of the verbs, and of their steps."""
    run(30)


@in_ci
@pytest.mark.parametrize("part", range(20 if TORTURE else 1))
def test_what_is_proposed_is_done_once_at_most_in_many_orders(part: int) -> None:
    """Ten thousand of them, in parts."""
    run(500)
