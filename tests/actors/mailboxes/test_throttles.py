"""Throttles: how fast, and how many at once, tokens may begin, counted by an oracle, on a clock that the test moves."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
import trio.testing
from limits import CATCH_UP, Throttle, hold, let_loose, limits_of

from actors import ActorSystem, AsyncioActor, CpuActor, IoActor, Token, TokenState
from actors.lowlevel import Mailbox, OperationPlace
from actors.mailboxes._line import Line
from actors.mailboxes._mailbox import Drainer

LIMIT = 30.0


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@attrs.define
class Bench:
    """Mailboxes and throttles of a system that was never opened; the test plays the drainers.

    Attributes:
        woken: for each mailbox, the drainers it has asked for that have not come.
        running: tokens that have begun and not ended, in the order in which they began.
        began: all that ever did, with the time of it.
    """

    clock: Clock
    system: ActorSystem
    place: OperationPlace
    boxes: list[Mailbox] = attrs.field(factory=list)
    woken: dict[int, list[Drainer]] = attrs.field(factory=dict)
    running: list[Token[Any]] = attrs.field(factory=list)
    began: list[tuple[float, Token[Any]]] = attrs.field(factory=list)

    def box(self, concurrency: int = 1, **options: Any) -> Mailbox:
        number = len(self.boxes)
        self.woken[number] = called = []

        box = Mailbox(f"box-{number}", wake=called.append, on_drop=lambda _: None, concurrency=concurrency, **options)
        box.set_throttles(self.system.throttles if limits_of(self.system) else None)
        self.boxes.append(box)
        return box

    def throttle(self, matches: Callable[[Token[Any]], bool] = bool, **limits: Any) -> Throttle:
        """Add a throttle, for all tokens by default."""
        throttle = Throttle("it", matches, limits.get("rate"), limits.get("concurrency"))
        hold(self.system, throttle, list(self.running))
        self.govern()
        return throttle

    def lift(self, throttle: Throttle) -> None:
        let_loose(self.system, throttle)
        self.govern()

    def govern(self) -> None:
        for box in self.boxes:
            box.set_throttles(self.system.throttles if limits_of(self.system) else None)

    def put(self, box: Mailbox, priority: int = 0, **tags: str) -> Token[Any]:
        token = self.place.token("operation", int, (), {}, priority, tags)
        box.put(token)
        return token

    def come(self, box: Mailbox) -> list[Token[Any]]:
        """Send the drainers that a mailbox has asked for: each begins one token and stays with it, if there is one."""
        number = self.boxes.index(box)
        begun = []
        while self.woken[number]:
            drainer = self.woken[number].pop()
            item = box.take(drainer)
            if isinstance(item, Token):
                item._begin(self.clock())
                self.running.append(item)
                self.began.append((self.clock(), item))
                self.drainers[item] = (box, drainer)
                begun.append(item)
        return begun

    drainers: dict[Token[Any], tuple[Mailbox, Drainer]] = attrs.field(factory=dict)

    def end(self, token: Token[Any], *, dismiss: bool = False) -> None:
        """Let a running token end, and its drainer begin another one or leave; with `dismiss`, it leaves before."""
        self.running.remove(token)
        box, drainer = self.drainers.pop(token)
        if dismiss:
            box.dismiss(drainer)
        token._finish(TokenState.COMPLETED)
        item = box.take(drainer)
        if isinstance(item, Token):
            item._begin(self.clock())
            self.running.append(item)
            self.began.append((self.clock(), item))
            self.drainers[item] = (box, drainer)

    def settle(self) -> list[Token[Any]]:
        """Let all drainers come; return the tokens that have begun."""
        before = len(self.began)
        while any(self.woken.values()):
            for box in self.boxes:
                self.come(box)
        return [token for _, token in self.began[before:]]

    def pass_time(self, seconds: float) -> list[Token[Any]]:
        """Let time pass, and let the due tokens go; return the tokens that have begun."""
        self.clock.now += seconds
        self.system.throttles.let_go()
        return self.settle()

    def nothing_is_left(self) -> None:
        """Assert that no grant and no entry of an ended token is left."""
        throttles = self.system.throttles
        assert not throttles._waiting
        assert not throttles._queues
        assert not throttles._handed
        assert set(throttles.grants) <= set(self.running)
        for throttle in limits_of(self.system):
            assert not throttle.waiting
            assert throttle.let <= set(self.running)


@pytest.fixture
def bench(clock: Clock) -> Bench:
    system = ActorSystem("unopened", threads=2, clock=clock)
    return Bench(clock, system, system.operation_place("operation", "cpu", generator=False, concurrency=1))


# The line


def test_a_line_goes_by_priority_and_then_by_arrival(desk: Any) -> None:
    """Whatever has been taken out in between."""
    line = Line()
    tokens = [desk.token(priority) for priority in (0, 3, 0, -2, 3, 0)]
    for number, token in enumerate(tokens):
        line.append(token, number)
    assert line.remove(tokens[1])
    assert not line.remove(tokens[1])
    tokens[0].priority = 99  # its place in the line is the one it was given

    assert list(line) == [tokens[4], tokens[0], tokens[2], tokens[5], tokens[3]]
    assert line.first() == (-3, 4, tokens[4])
    assert line.oldest_of_lowest() is tokens[3]
    assert (len(line), tokens[4] in line, tokens[1] in line) == (5, True, False)
    for token in list(line):
        assert line.remove(token)
    assert (len(line), line.oldest_of_lowest()) == (0, None)


# Rates


@pytest.mark.parametrize("rate", [0.5, 10.0, 1000.0])
def test_a_rate_is_kept_over_every_stretch_of_time(bench: Bench, rate: float, seed: int) -> None:
    """In no stretch of t seconds do more begin than t times the rate, with one more and what a rate may make good."""
    chance = random.Random(seed)
    box = bench.box(concurrency=10_000)
    bench.throttle(rate=rate)
    for _ in range(300):
        bench.put(box)
    bench.settle()
    while len(bench.began) < 300:
        bench.pass_time(chance.choice([0.1, 0.9, 1.0, 3.7]) / rate)
        if chance.random() < 0.5 and bench.running:
            bench.end(chance.choice(bench.running))
    times = [time for time, _ in bench.began]

    for first, start in enumerate(times):
        for number, end in enumerate(times[first:], start=1):
            assert number <= (end - start + CATCH_UP) * rate + 1.001


def test_a_rate_lets_as_many_begin_as_it_says(bench: Bench) -> None:
    """Woken a little late each time, it makes that good: 100 s at 5 per second are 500, within one percent."""
    box = bench.box(concurrency=10_000)
    bench.throttle(rate=5.0)
    for _ in range(600):
        bench.put(box)
    bench.settle()
    while bench.clock.now < 200.0:
        bench.pass_time(0.083)

    assert 495 <= len(bench.began) <= 505


def test_a_rate_that_was_not_used_is_not_saved_up(bench: Bench) -> None:
    """After an hour with nothing to do, no more than the catch-up begins at once."""
    box = bench.box(concurrency=1000)
    bench.throttle(rate=16.0)
    bench.put(box)
    bench.settle()
    bench.pass_time(3600.0)
    for _ in range(50):
        bench.put(box)

    assert len(bench.settle()) == 1 + int(16 * CATCH_UP)


@pytest.mark.parametrize("why", ["busy", "suspended"])
def test_a_rate_is_not_saved_up_by_a_mailbox_that_takes_nothing(bench: Bench, why: str) -> None:
    """An actor is busy, or suspended, for an hour: afterwards the tokens that waited meanwhile begin at the rate."""
    box = bench.box(concurrency=1 if why == "busy" else 1000)
    first = bench.put(box)
    bench.settle()
    bench.throttle(rate=1.0)
    waiting = [bench.put(box) for _ in range(100)]
    if why == "busy":
        assert bench.settle() == []
        for _ in range(60):
            bench.pass_time(60.0)
        bench.end(first)
        assert [token for _, token in bench.began] == [first, waiting[0]]
        bench.end(waiting[0])
        assert [token for _, token in bench.began] == [first, waiting[0]]
        assert bench.pass_time(1.0) == [waiting[1]]
    else:
        assert bench.settle() == [waiting[0]]
        box.suspend()
        for _ in range(60):
            bench.pass_time(60.0)
        box.resume()
        assert bench.settle() == [waiting[1]]
        assert bench.pass_time(1.0) == [waiting[2]]


def test_a_busy_mailbox_keeps_no_other_from_the_rate(bench: Bench) -> None:
    """What an actor cannot begin just now is passed over, and has its turn when it can."""
    busy, idle = bench.box(), bench.box()
    bench.throttle(lambda token: "kind" not in token.tags, concurrency=1)
    runs = bench.put(idle)
    assert bench.settle() == [runs]
    first = bench.put(busy)
    bench.settle()
    assert busy.is_kept_back(first)
    other = bench.put(busy, kind="other")
    assert bench.settle() == [other]
    second = bench.put(idle)
    bench.end(runs)
    bench.settle()
    assert bench.running == [other, second]  # although the first one has waited for longer
    bench.end(other)
    assert bench.running == [second]
    bench.end(second)

    assert bench.settle() == [first]
    bench.end(first)
    bench.nothing_is_left()


# Concurrency


@pytest.mark.parametrize("n", [1, 3])
def test_no_more_run_at_once_than_a_throttle_allows(bench: Bench, n: int, seed: int) -> None:
    """Over several mailboxes, and whatever else runs there: counted after every move, in thousands of them."""
    chance = random.Random(seed)
    boxes = [bench.box(), bench.box(), bench.box(concurrency=8)]
    throttle = bench.throttle(lambda token: token.tags.get("kind") == "slow", concurrency=n)
    done = 0
    for _ in range(3000):
        move = chance.random()
        if move < 0.4:
            bench.put(chance.choice(boxes), chance.choice([0, 0, 1]), kind=chance.choice(["slow", "fast"]))
        elif move < 0.8 and bench.running:
            bench.end(chance.choice(bench.running))
            done += 1
        else:
            bench.come(chance.choice(boxes))
        slow = [token for token in bench.running if token.tags["kind"] == "slow"]
        assert len(slow) <= n
        assert set(slow) <= throttle.let
    while bench.running or any(bench.woken.values()):
        bench.settle()
        for token in list(bench.running):
            bench.end(token)

    assert [box.size for box in boxes] == [0, 0, 0]
    bench.nothing_is_left()


def test_what_runs_when_a_throttle_comes_counts(bench: Bench) -> None:
    """Two run; a throttle of two lets no third begin until one has ended."""
    box = bench.box(concurrency=10)
    first, second = bench.put(box), bench.put(box)
    bench.settle()
    bench.throttle(concurrency=2)
    third = bench.put(box)
    assert bench.settle() == []
    assert box.is_kept_back(third)
    bench.end(second)
    bench.settle()

    assert bench.running == [first, third]


# The order


def test_the_highest_priority_goes_first_over_all_mailboxes(bench: Bench) -> None:
    """And within one, who came first."""
    one, two = bench.box(concurrency=10), bench.box(concurrency=10)
    bench.throttle(rate=1.0)
    first = bench.put(one)
    bench.settle()
    tokens = []
    for number, priority in enumerate([0, 2, 0, 5, 2, -1]):
        tokens.append(bench.put((one, two)[number % 2], priority))
        bench.settle()
    while len(bench.began) < 7:
        bench.pass_time(1.0)

    assert [token for _, token in bench.began] == [first, *sorted(tokens, key=lambda token: -token.priority)]


def test_those_let_go_one_after_the_other_begin_in_that_order(bench: Bench) -> None:
    """Two that were let go, and not taken in between, are in order, ahead of one that no throttle is for."""
    box = bench.box(concurrency=3)
    bench.throttle(lambda token: "free" not in token.tags, rate=1.0)
    zero, one, two = (bench.put(box) for _ in range(3))
    assert bench.settle() == [zero]
    free = bench.put(box, free="yes")
    for _ in range(2):
        bench.clock.now += 1.0
        bench.system.throttles.let_go()
    drainer = Drainer()

    assert [box.take(drainer) for _ in range(3)] == [one, two, free]


def test_a_higher_priority_that_is_not_kept_back_is_ahead_of_those_let_go(bench: Bench) -> None:
    """Priority is first, and then who waited."""
    box = bench.box(concurrency=3)
    bench.throttle(lambda token: "free" not in token.tags, rate=1.0)
    first, second = bench.put(box), bench.put(box)
    bench.settle()
    high, low = bench.put(box, 1, free="yes"), bench.put(box, -1, free="yes")
    bench.clock.now += 1.0
    bench.system.throttles.let_go()
    drainer = Drainer()

    assert [box.take(drainer) for _ in range(4)] == [high, second, low, None]
    assert first in bench.running


def test_lifting_a_throttle_lets_all_go_in_order(bench: Bench) -> None:
    """By priority and arrival; what was put since comes behind."""
    box = bench.box()
    throttle = bench.throttle(concurrency=1)
    first = bench.put(box)
    bench.settle()
    bench.running.remove(first)  # it hangs, out of its drainer's hands
    box.dismiss(bench.drainers.pop(first)[1])
    tokens = [bench.put(box, priority) for priority in (0, 1, 0, -1, 1)]
    bench.settle()
    assert all(box.is_kept_back(token) for token in tokens)
    bench.lift(throttle)
    late = bench.put(box, 0)
    expected = sorted(tokens, key=lambda token: -token.priority)
    expected.insert(4, late)
    bench.settle()
    while bench.running:
        bench.end(bench.running[0])
        bench.settle()

    assert [token for _, token in bench.began][1:] == expected
    assert box.statistics().held == 0


# Several throttles


def test_a_token_needs_all_the_throttles_that_are_for_it_at_once(bench: Bench) -> None:
    """While one keeps it back, it uses nothing of the other up: those that only the other is for go on meanwhile."""
    box = bench.box(concurrency=100)
    few = bench.throttle(lambda token: "a" in token.tags, concurrency=1)
    bench.throttle(lambda token: "b" in token.tags, rate=1.0)
    both, both_too = bench.put(box, a="", b=""), bench.put(box, a="", b="")
    assert bench.settle() == [both]
    bench.end(both)
    assert (set(few.waiting), set(few.let)) == ({both_too}, set())  # it waits for the rate
    only_a = bench.put(box, a="")
    assert bench.settle() == [only_a]
    assert bench.pass_time(10.0) == []  # now it waits for the other
    only_b = bench.put(box, b="")
    assert bench.settle() == [only_b]  # and has not used the rate up
    bench.end(only_a)
    assert bench.settle() == []
    assert bench.pass_time(1.0) == [both_too]
    for token in list(bench.running):
        bench.end(token)

    bench.nothing_is_left()


def test_lifting_one_of_two_throttles_leaves_the_other(bench: Bench) -> None:
    """What waits for both waits for the one that is left, in its old order with those that only that one was for."""
    box = bench.box(concurrency=100)
    one = bench.throttle(lambda token: "a" in token.tags, concurrency=1)
    two = bench.throttle(concurrency=1)
    first = bench.put(box, a="")
    bench.settle()
    tokens = []
    for number in range(4):
        tokens.append(bench.put(box, **({"a": ""} if number % 2 else {"c": ""})))
        bench.settle()
    bench.lift(one)
    assert two.waiting == set(tokens)
    bench.end(first)
    while bench.running or bench.settle():
        for token in list(bench.running):
            bench.end(token)

    assert [token for _, token in bench.began] == [first, *tokens]
    bench.nothing_is_left()


def test_a_throttle_that_comes_later_holds_for_those_that_wait_already(bench: Bench) -> None:
    """A second one replaces a first one: first it comes, then the other goes, and nothing slips through."""
    box = bench.box(concurrency=100)
    old = bench.throttle(concurrency=1)
    first = bench.put(box)
    bench.settle()
    rest = [bench.put(box) for _ in range(3)]
    bench.settle()
    new = bench.throttle(concurrency=2)
    bench.lift(old)

    assert bench.settle() == rest[:1]
    assert new.let == {first, rest[0]}
    assert new.waiting == set(rest[1:])


# Leaving otherwise


@pytest.mark.parametrize("how", ["withdraw", "hold", "take_out", "renice"])
@pytest.mark.parametrize("granted", [False, True], ids=["kept back", "just let go"])
def test_a_token_that_leaves_takes_nothing_with_it(bench: Bench, how: str, granted: bool) -> None:
    """Neither its entry nor its grant stays behind: another one has it at once."""
    box = bench.box(concurrency=100)
    throttle = bench.throttle(concurrency=1)
    first = bench.put(box)
    bench.settle()
    leaves, other = bench.put(box), bench.put(box, -1)
    bench.settle()
    if granted:
        bench.end(first, dismiss=True)
        assert throttle.let == {leaves}
    if how == "renice":
        assert box.renice(leaves, -2)
    else:
        assert getattr(box, how)(leaves)
    assert leaves not in throttle.let
    assert leaves not in throttle.waiting
    if not granted:
        bench.end(first, dismiss=True)

    assert bench.settle() == [other]
    bench.end(other, dismiss=True)
    assert bench.settle() == ([leaves] if how == "renice" else [])
    if how == "hold":
        assert box.release(leaves)
        assert bench.settle() == [leaves]
    if how in {"renice", "hold"}:
        bench.end(leaves)
    bench.nothing_is_left()


def test_a_token_whose_tags_change_asks_again(bench: Bench) -> None:
    """What no throttle is for any more begins; where nothing had kept it back, there is nothing to ask."""
    box = bench.box(concurrency=100)
    bench.throttle(lambda token: token.tags.get("kind") == "slow", concurrency=1)
    bench.put(box, kind="slow")
    second = bench.put(box, kind="slow")
    bench.settle()
    second.tags = {"kind": "fast"}
    assert box.ask_again(second)
    assert bench.settle() == [second]

    assert not box.ask_again(second)


def test_a_token_that_is_ended_while_it_waits_makes_room_for_none_and_is_forgotten(bench: Bench) -> None:
    """It never ran; whoever waits behind it moves up."""
    token = bench.place.token("operation", int, (), {})
    box = bench.place.mailbox
    throttle = Throttle("it", bool, None, 1)
    hold(bench.system, throttle)
    blocker = bench.place.token("operation", int, (), {})
    throttle.let.add(blocker)
    bench.place.send(token)
    box.take(Drainer())
    assert box.is_kept_back(token)
    assert token.state is TokenState.QUEUED
    assert token.cancel()

    assert token.state is TokenState.TERMINATED
    assert (throttle.waiting, throttle.let) == (set(), {blocker})
    assert not bench.system.throttles._waiting


def test_ten_thousand_that_wait_end_with_a_close(bench: Bench) -> None:
    """They are all the closer's to end, in order, and the throttle knows none of them any more."""
    box = bench.box(concurrency=10)
    throttle = bench.throttle(rate=0.001)
    first = bench.put(box)
    bench.settle()
    tokens = [bench.put(box) for _ in range(9_999)]
    bench.settle()
    assert box.statistics().held == 9_999
    assert len(throttle.waiting) == 9_999
    assert box.close() == tokens
    assert box.size == 0

    bench.end(first)
    bench.nothing_is_left()


def test_more_tokens_can_be_kept_back_at_once_than_python_can_recurse(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drainers come through a lane that is kept back as a whole; others have the lock and the loop in between."""
    monkeypatch.setattr("actors.mailboxes._mailbox._THROTTLED_AT_ONCE", 2)
    box = bench.box()
    bench.throttle(lambda token: "free" not in token.tags, rate=0.001)
    for _ in range(5_000):
        bench.put(box)
    free = bench.put(box, free="")

    first, *_ = bench.settle()
    bench.end(first)
    bench.settle()
    assert bench.running == [free]


def test_held_tokens_count_for_the_bound(bench: Bench) -> None:
    """A throttle makes senders wait, as a slow actor does; one that is let go makes room."""
    box = bench.box(capacity=3)
    bench.throttle(rate=1.0)
    bench.put(box)
    bench.settle()
    for _ in range(3):
        bench.put(box)
    bench.settle()
    refused = bench.place.token("operation", int, (), {})
    calls: list[int] = []
    assert box.put(refused, lambda: calls.append(1)).name == "FULL"
    bench.end(bench.running[0])
    assert box.statistics().held == 3
    bench.pass_time(1.0)

    assert calls == [1]
    assert box.put(refused).name == "ACCEPTED"


def test_drop_oldest_drops_what_is_kept_back_longest(bench: Bench) -> None:
    """The newest count: a throttle does not turn that into its opposite. What is paused is left alone."""
    dropped: list[Token[Any]] = []
    box = Mailbox("box", wake=lambda _: None, on_drop=dropped.append, capacity=3, overflow="drop_oldest", concurrency=3)
    bench.boxes.append(box)
    throttle = bench.throttle(rate=0.001)
    begun, paused, one, two = (bench.place.token("operation", int, (), {}) for _ in range(4))
    box.put(begun)
    drainer = Drainer()
    assert box.take(drainer) is begun
    for token in (paused, one, two):
        box.put(token)
    box.hold(paused)
    assert box.take(drainer) is None
    three, low, lower = (bench.place.token("operation", int, (), {}, priority) for priority in (0, 0, -1))
    box.put(three)
    assert dropped == [one]
    box.put(low)
    assert dropped == [one, two]
    assert box.put(lower).name == "DROPPED"
    assert throttle.waiting == set()

    assert box.close() == [three, low, paused]


# In a system that runs


@pytest.fixture
def timed(clock: Clock) -> Iterator[ActorSystem]:
    opened = ActorSystem("timed", threads=2, clock=clock)
    opened.open()
    yield opened
    assert opened.close(LIMIT) == ()


@attrs.define
class Oracle:
    """Counts how many tokens run at once."""

    lock: Any = attrs.field(factory=threading.Lock)
    now: int = 0
    most: int = 0
    all: int = 0

    def enter(self) -> None:
        with self.lock:
            self.now += 1
            self.all += 1
            self.most = max(self.most, self.now)

    def leave(self) -> None:
        with self.lock:
            self.now -= 1


def test_a_concurrency_holds_over_operations_and_actors_of_both_kinds(system: ActorSystem) -> None:
    """Three at once of all that is tagged, and all of it is done."""
    oracle = Oracle()

    def compute() -> None:
        oracle.enter()
        sum(range(200))
        oracle.leave()

    async def fetch() -> None:
        oracle.enter()
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        oracle.leave()

    class Cpu(CpuActor):
        def on_receive(self, _message: Any) -> None:
            compute()

    class Io(IoActor):
        async def on_receive(self, _message: Any) -> None:
            await fetch()

    refs = [system.start_actor(cls, (), {}) for cls in (Cpu, Io, Cpu, Io)]
    cpu = system.operation_place("compute", "cpu", generator=False, concurrency=2)
    io = system.operation_place("fetch", "io", generator=False, concurrency=50)
    throttle = Throttle("three", bool, None, 3)
    hold(system, throttle)
    tokens: list[Token[Any]] = []
    for _ in range(50):
        tokens.extend(ref.ask("go", block=False) for ref in refs)
        tokens.append(cpu.send(cpu.token("compute", compute, (), {})))
        tokens.append(io.send(io.token("fetch", fetch, (), {})))
    for token in tokens:
        token.result(LIMIT)

    assert oracle.all == 300
    assert 1 <= oracle.most <= 3
    assert (throttle.let, throttle.waiting) == (set(), set())
    let_loose(system, throttle)
    assert all(place.mailbox.statistics().held == 0 for place in system.places())


def test_a_direct_call_queues_while_there_are_throttles(system: ActorSystem) -> None:
    """It would run on its caller's thread, where nobody asks; with the last throttle gone it does so again."""
    place = system.operation_place("call", "cpu", generator=False, concurrency=2)
    throttle = Throttle("one", bool, None, 1)
    turn = place.turn_here(place.token("call", int, (), {}))
    assert turn is not None
    assert turn.run() == 0
    hold(system, throttle)
    queued = place.token("call", int, (), {})
    assert place.turn_here(queued) is None
    assert place.send(queued).result(LIMIT) == 0
    let_loose(system, throttle)
    turn = place.turn_here(place.token("call", int, (), {}))
    assert turn is not None
    assert turn.run() == 0


def test_a_token_that_waits_for_another_one_does_not_count(system: ActorSystem) -> None:
    """With one at a time, those that call others come to their end all the same."""
    inner = system.operation_place("inner", "cpu", generator=False, concurrency=4)
    outer = system.operation_place("outer", "cpu", generator=False, concurrency=4)

    def call(number: int) -> int:
        return int(inner.send(inner.token("inner", int, (number,), {})).result(LIMIT))

    throttle = Throttle("all", lambda _: True, None, 1)
    hold(system, throttle)
    tokens = [outer.send(outer.token("outer", call, (number,), {})) for number in range(10)]

    assert [token.result(LIMIT) for token in tokens] == list(range(10))
    assert not throttle.let
    assert not throttle.waiting


def test_a_place_that_comes_later_is_governed(system: ActorSystem, door: Any) -> None:
    """A throttle is for the system, not for the places that it had."""
    hold(system, Throttle("one", bool, None, 1))
    place = system.operation_place("late", "cpu", generator=False, concurrency=2)
    first = place.send(place.token("late", door.pass_through, (), {}))
    door.wait_reached()
    second = place.send(place.token("late", int, (), {}))
    third = place.send(place.token("late", int, (), {}))
    call = place.token("call", int, (), {})
    assert place.turn_here(call) is None
    place.send(call)
    assert second.state is TokenState.QUEUED
    door.open()

    assert [token.result(LIMIT) for token in (first, second, third, call)] == [None, 0, 0, 0]


def test_what_waits_for_its_time_is_let_go_by_the_loop(timed: ActorSystem, clock: Clock) -> None:
    """The system loop sleeps until the next one is due, and is told when one comes that is due earlier."""
    place = timed.operation_place("slow", "io", generator=False, concurrency=5)
    ended: list[int] = []

    def settle() -> None:
        for host in (timed.io_host, timed.system_host, timed.io_host, timed.system_host):
            host.run(trio.testing.wait_all_tasks_blocked).result(LIMIT)

    hold(timed, Throttle("rate", bool, 0.1, None))
    for number in range(3):
        place.send(place.token("slow", ended.append, (number,), {}))
    settle()
    assert ended == [0]
    for expected in ([0, 1], [0, 1, 2]):
        clock.now += 10.0
        timed.system_host.call_soon(timed.throttles._alarm.look)
        settle()
        assert ended == expected


@pytest.mark.trio
async def test_a_rate_holds_on_the_clock_of_the_loop(autojump_clock: Any) -> None:
    """Nobody calls the loop: it wakes up by itself when the next one is due."""
    system = ActorSystem("virtual", threads=1, clock=trio.current_time)
    await system.system_host.attach()
    await system.io_host.attach()
    place = system.operation_place("slow", "io", generator=False, concurrency=5)
    began: list[float] = []
    throttle = Throttle("rate", bool, 4.0, None)
    hold(system, throttle)
    start = trio.current_time()
    tokens = [
        place.send(place.token("slow", lambda: began.append(trio.current_time() - start), (), {})) for _ in range(9)
    ]
    with trio.fail_after(3600):
        for token in tokens:
            await token

    assert began == pytest.approx([0.0] + [number / 4 - CATCH_UP for number in range(1, 9)])
    place.close()
    for host in (system.io_host, system.system_host):
        host.cancel()
    await trio.testing.wait_all_tasks_blocked()


def test_closing_a_system_ends_what_a_throttle_keeps_back(clock: Clock) -> None:
    """Nobody hangs for it, and nothing is remembered."""
    system = ActorSystem("closing", threads=2, clock=clock)
    system.open()
    place = system.operation_place("slow", "cpu", generator=False, concurrency=5)
    throttle = Throttle("rate", bool, 0.001, None)
    hold(system, throttle)
    tokens = [place.send(place.token("slow", int, (), {})) for _ in range(100)]
    tokens[0].result(LIMIT)
    assert system.close(LIMIT) == ()

    assert {token.state for token in tokens[1:]} == {TokenState.TERMINATED}
    assert (throttle.waiting, throttle.let) == (set(), set())


@pytest.mark.parametrize("cls", [CpuActor, IoActor, AsyncioActor])
def test_an_actor_that_drains_to_stop_waits_for_what_a_throttle_keeps_back(
    timed: ActorSystem, clock: Clock, until: Any, cls: Any
) -> None:
    """The stop stays pending, and completes after the last one; or at once when the throttle is lifted."""
    handled: list[int] = []

    class Slow(cls):  # type: ignore[misc]
        def on_receive(self, message: Any) -> None:
            handled.append(message)

    ref = timed.start_actor(Slow, (), {})
    throttle = Throttle("rate", bool, 0.001, None)
    hold(timed, throttle)
    for number in range(5):
        ref.tell(number)
    until(lambda: len(throttle.waiting) == 4)
    stopped = ref.stop(block=False)
    clock.now += 1_000.0
    timed.throttles.let_go()
    until(lambda: len(handled) == 2)
    assert ref._place.draining
    let_loose(timed, throttle)
    stopped.get(timeout=LIMIT)

    assert handled == [0, 1, 2, 3, 4]
