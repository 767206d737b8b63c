"""The mailbox compared with a model of lists, under random operations on it and on its tokens.

The model is a list of what is queued, one of what a throttle has let go, one of what it keeps back, and one of what is
paused. The throttle is for tokens of one tag, and lets them go when the machine says so; when it does by itself is for
`test_throttles.py`. A drainer that was asked for comes when the machine says so, too. 100 examples, 10,000 with
TOKENGATE_TORTURE=1.

Hypothesis makes trio's scheduler deterministic for the whole process; nothing here runs on a trio loop.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from limits import Throttle, hold, let_loose, limits_of
from patience import EXAMPLES

from actors import ActorDead, ActorSystem, Token, TokenState
from actors.lowlevel import Mailbox, Put
from actors.mailboxes import _lanes
from actors.mailboxes._mailbox import Drainer
from actors.mailboxes._throttles import Throttles

TORTURE = os.environ.get("TOKENGATE_TORTURE") == "1"

PRIORITIES = st.sampled_from([0, 0, 0, 0, 1, -1, 2, 10**30])
TAGS = st.sampled_from([{}, {}, {"slow": ""}])
INDEX = st.integers(0, 30)
STEPS = 20
AS_SHIPPED = _lanes._SEARCHES, _lanes._LONG


SYSTEM = ActorSystem("unopened", threads=2, clock=lambda: 0.0)
PLACE = SYSTEM.operation_place("operation", "cpu", generator=False, concurrency=1)


class MailboxMachine(RuleBasedStateMachine):
    """A mailbox, and the lists of what it should hold."""

    def __init__(self) -> None:
        super().__init__()
        SYSTEM.live.clear()
        for one in limits_of(SYSTEM):
            let_loose(SYSTEM, one)
        SYSTEM.throttles = Throttles(SYSTEM.system_host, SYSTEM.clock)
        self.throttle: Throttle | None = None
        self.lane: list[Token[Any]] = []  # these four in the order in which they shall come out
        self.let: list[Token[Any]] = []
        self.kept: list[Token[Any]] = []
        self.paused: list[Token[Any]] = []
        self.granted: set[Token[Any]] = set()  # tokens that may begin although the throttle is for them
        self.dropped: list[Token[Any]] = []
        self.victims: list[Token[Any]] = []
        self.latest: list[Token[Any]] = []  # tokens that may be here no longer
        self.suspended = 0
        self.closed = ""  # or that it has kept its queue, or was emptied
        self.woken: list[Drainer] = []  # drainers that were asked for and have not come

    @initialize(
        capacity=st.integers(1, 5),
        overflow=st.sampled_from(["wait", "reject", "drop_oldest", "drop_newest"]),
        concurrency=st.sampled_from([1, 2]),
        searches=st.sampled_from([1, 2, 10**9]),
    )
    def make(self, capacity: int, overflow: Any, concurrency: int, searches: int) -> None:
        _lanes._SEARCHES, _lanes._LONG = searches, 0  # type: ignore[misc]  # so lane 0 is indexed often, or never
        self.box = Mailbox(
            "box",
            capacity=capacity,
            overflow=overflow,
            concurrency=concurrency,
            wake=self.woken.append,
            on_drop=self.dropped.append,
        )

    def teardown(self) -> None:
        _lanes._SEARCHES, _lanes._LONG = AS_SHIPPED  # type: ignore[misc]

    # What the lists say

    def size(self) -> int:
        return sum(len(part) for part in (self.lane, self.let, self.kept, self.paused))

    def queue(self) -> list[Token[Any]]:
        return sorted([*self.let, *self.lane], key=lambda token: -token.priority)

    def sort(self) -> None:
        for part in (self.lane, self.let, self.kept):
            part.sort(key=lambda token: -token.priority)  # stable

    def pick(self, index: int) -> tuple[Token[Any], list[Token[Any]] | None]:
        """Draw a token that is here, or was; return it, and where it is."""
        parts = (self.lane, self.let, self.kept, self.paused)
        tokens = [*(token for part in parts for token in part), *self.latest]
        token = tokens[index % len(tokens)]
        return token, next((part for part in parts if token in part), None)

    def take(self, drainer: Drainer) -> Token[Any] | None:
        """Take the next token, and compare it with the lists."""
        expected = None
        if not self.suspended:
            for token in self.queue():
                part = self.let if token in self.let else self.lane
                part.remove(token)
                if self.throttle is None or "slow" not in token.tags or token in self.granted:
                    expected = token
                    break
                self.kept.append(token)
                self.sort()
        item = self.box.take(drainer)
        assert item is expected
        assert drainer.at_work == (expected is not None)
        return expected

    # Moves

    @rule(priority=PRIORITIES, tags=TAGS)
    def put(self, priority: int, tags: dict[str, str]) -> None:
        token = PLACE.token("operation", int, (), {}, priority, tags)
        self.latest = [*self.latest[-2:], token]
        if self.closed:
            with pytest.raises(ActorDead):
                self.box.put(token)
            assert token.state is TokenState.CREATED
            return
        put = self.box.put(token)
        if self.size() >= self.box.capacity:
            candidates = [*self.kept, *self.lane]  # of one priority, those that are kept back are older
            victim = min(candidates, key=lambda one: one.priority, default=None)
            if self.box.overflow != "drop_oldest" or victim is None or victim.priority > priority:
                assert put is (Put.FULL if self.box.overflow == "wait" else Put.DROPPED)
                assert token.state is TokenState.CREATED
                return
            (self.kept if victim in self.kept else self.lane).remove(victim)
            self.victims.append(victim)
            victim._terminate("it was dropped")
        assert put is Put.ACCEPTED
        assert token.state is TokenState.QUEUED
        self.lane.append(token)
        self.sort()

    @precondition(lambda self: self.woken)
    @rule(stays=st.booleans())
    def a_drainer_comes(self, stays: bool) -> None:
        """It begins one token and is dismissed, or works on until there is nothing to take."""
        drainer = self.woken.pop()
        while (token := self.take(drainer)) is not None:
            token._begin(0.0)
            token._finish(TokenState.COMPLETED)
            self.granted.discard(token)
            if not stays:
                assert self.box.dismiss(drainer)
                break

    @precondition(lambda self: self.woken)
    @rule(closes=st.booleans())
    def a_drainer_comes_and_gives_back_what_it_took(self, closes: bool) -> None:
        drainer = self.woken.pop()
        token = self.take(drainer)
        if token is None:
            return
        assert self.box.dismiss(drainer)
        if closes:
            self.close()
        back = self.closed != "emptied"
        assert self.box.give_back(token) == back
        if back:
            (self.let or self.lane).insert(0, token)
            self.sort()
        else:
            self.granted.discard(token)
            token._terminate("it was closed")

    @precondition(lambda self: self.latest)
    @rule(index=INDEX)
    def pause(self, index: int) -> None:
        token, part = self.pick(index)
        here = part is not None and part is not self.paused
        assert self.box.hold(token) == here
        if here and part is not None:
            assert token.state is TokenState.PAUSED
            part.remove(token)
            self.granted.discard(token)
            self.paused.append(token)

    @precondition(lambda self: self.latest)
    @rule(index=INDEX)
    def resume(self, index: int) -> None:
        token, part = self.pick(index)
        assert self.box.release(token) == (part is self.paused)
        if part is self.paused:
            assert token.state is TokenState.QUEUED
            self.paused.remove(token)
            self.lane.append(token)
            self.sort()

    @precondition(lambda self: self.latest)
    @rule(index=INDEX, priority=PRIORITIES)
    def renice(self, index: int, priority: int) -> None:
        token, part = self.pick(index)
        before = token.priority
        assert self.box.renice(token, priority) == (part is not None)
        assert token.priority == (before if part is None else priority)
        if part is not None and part is not self.paused:
            part.remove(token)
            self.granted.discard(token)
            self.lane.append(token)
            self.sort()

    @precondition(lambda self: self.latest)
    @rule(index=INDEX, tags=TAGS)
    def retag(self, index: int, tags: dict[str, str]) -> None:
        token, part = self.pick(index)
        token.tags = tags
        assert self.box.ask_again(token) == (part is self.kept)
        if part is self.kept:
            self.kept.remove(token)
            self.lane.insert(0, token)
            self.sort()

    @precondition(lambda self: self.latest)
    @rule(index=INDEX)
    def terminate(self, index: int) -> None:
        token, part = self.pick(index)
        assert self.box.withdraw(token) == (part is not None)
        if part is not None:
            part.remove(token)
            self.granted.discard(token)
            token._terminate("the machine wants it")

    @precondition(lambda self: self.latest)
    @rule(index=INDEX, accepted=st.booleans(), closes=st.booleans())
    def move(self, index: int, accepted: bool, closes: bool) -> None:
        """Another mailbox accepts it or not; meanwhile this one may be closed."""
        token, part = self.pick(index)
        assert self.box.take_out(token) == (part is not None)
        if part is None:
            return
        assert self.box.size == self.size()
        part.remove(token)
        self.granted.discard(token)
        if closes:
            self.close()
        back = self.closed != "emptied"
        if accepted:
            self.box.moved_out()
        else:
            assert self.box.put_back(token) == back
        if accepted or not back:
            token._terminate("it is not here any more")
        elif part is self.paused:
            self.paused.append(token)
        else:
            self.lane.insert(0, token)
            self.sort()

    @rule(priority=PRIORITIES, paused=st.booleans())
    def move_here(self, priority: int, paused: bool) -> None:
        """It stays what it was in the other mailbox, if there is room here."""
        token = PLACE.token("operation", int, (), {}, priority)
        token._phase = TokenState.PAUSED if paused else TokenState.QUEUED
        if self.closed:
            with pytest.raises(ActorDead):
                self.box.put_moved(token)
        elif self.size() < self.box.capacity:
            assert self.box.put_moved(token) is Put.ACCEPTED
            assert token.state is (TokenState.PAUSED if paused else TokenState.QUEUED)
            (self.paused if paused else self.lane).append(token)
            self.sort()
        elif self.box.overflow != "drop_oldest":
            assert self.box.put_moved(token) is not Put.ACCEPTED

    @rule(fair=st.booleans())
    def let_keys_take_turns(self, fair: bool) -> None:
        """That is the same order for tokens of one key, and for those that are queued already."""
        self.box.set_fair(fair)

    @precondition(lambda self: self.throttle is None)
    @rule()
    def throttle_the_slow_ones(self) -> None:
        """None of them may begin, unless it is told so."""
        self.throttle = Throttle("slow", lambda token: "slow" in token.tags, None, 1)
        runs = PLACE.token("operation", int, (), {}, 0, {"slow": ""})
        hold(SYSTEM, self.throttle, [runs])
        self.box.set_throttles(SYSTEM.throttles)

    @precondition(lambda self: self.throttle is not None and self.latest)
    @rule(how_many=st.integers(1, 3))
    def let_begin(self, how_many: int) -> None:
        """It lets the first of them go; one that is not kept back any more is passed over."""
        let = self.kept[:how_many]
        if self.throttle is not None:
            for token in let:
                SYSTEM.throttles._leave(token)
                SYSTEM.throttles.grant(token, (self.throttle,), 0.0)
        others = [token for token in self.latest if token not in self.kept]
        assert self.box.let_begin([*others, *let]) == let
        del self.kept[:how_many]
        self.granted.update(let)
        self.let.extend(let)
        self.sort()

    @precondition(lambda self: self.throttle is not None)
    @rule()
    def lift(self) -> None:
        """All go, in order."""
        assert self.throttle is not None
        let_loose(SYSTEM, self.throttle)
        self.box.set_throttles(None)
        self.throttle = None
        self.granted.clear()
        self.let.extend(self.kept)
        self.kept.clear()
        self.sort()

    @precondition(lambda self: self.suspended < 2)
    @rule()
    def suspend(self) -> None:
        self.box.suspend()
        self.suspended += 1

    @precondition(lambda self: self.suspended)
    @rule()
    def unsuspend(self) -> None:
        self.box.resume()
        self.suspended -= 1

    @precondition(lambda self: not self.closed)
    @rule()
    def close_and_keep(self) -> None:
        assert self.box.close(keep=True) == []
        self.closed = "kept"

    @precondition(lambda self: self.closed == "kept" or self.size() > 2)
    @rule()
    def close(self) -> None:
        left = self.box.close()
        assert left == [*self.queue(), *self.kept, *self.paused]
        self.closed = "emptied"
        for part in (self.lane, self.let, self.kept, self.paused):
            part.clear()
        for token in left:
            self.granted.discard(token)
            token._terminate("it was closed")

    @precondition(lambda self: self.closed)
    @rule()
    def reopen(self) -> None:
        self.box.reopen()
        self.closed = ""

    # What holds after each move

    @invariant()
    def it_holds_what_the_lists_say(self) -> None:
        statistics = self.box.statistics()

        assert (statistics.depth, statistics.held) == (self.size(), len(self.kept) + len(self.paused))
        assert all(self.box.is_kept_back(token) for token in self.kept)
        assert not any(self.box.is_kept_back(token) for token in (*self.lane, *self.let, *self.paused))
        assert self.dropped == self.victims
        assert (statistics.closed, statistics.suspended) == (bool(self.closed), self.suspended > 0)

    @invariant()
    def somebody_comes_for_what_can_be_taken(self) -> None:
        assert self.box.active == len(self.woken) <= self.box.concurrency
        if self.queue() and not self.suspended:
            assert self.woken

    @invariant()
    def the_throttle_knows_what_it_keeps_back_and_nothing_else(self) -> None:
        throttles = SYSTEM.throttles

        assert set(throttles._waiting) == set(self.kept)
        assert set(throttles._queues) == {(self.box, (self.throttle,), False) for _ in self.kept[:1]}
        if self.throttle is not None:
            assert self.throttle.waiting == set(self.kept)
            assert self.throttle.let == set(throttles.grants)
            assert len(self.throttle.let) == 1 + len(self.granted)
            assert self.throttle.let >= self.granted


TestMailbox = MailboxMachine.TestCase
TestMailbox.settings = settings(
    max_examples=10_000 if TORTURE else EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
