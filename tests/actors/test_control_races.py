"""What operators do to queued tokens racing with who takes them, ends them, lets them go and closes: one end each.

Each race is run 30 times with each grain, 10,000 times with TOKENGATE_TORTURE=1; TOKENGATE_SEED brings one back. The
threads of the dispatcher are played, under schedules that a seed draws. In the end every token has ended in one state,
and those that completed have run once, where they were at last, and the others never.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from interleave import Stage, run_all
from limits import Throttle, hold, let_loose, limits_of

from actors import ActorDead, ActorSystem, CpuActor, ExitReason, MailboxFull, Token, TokenState, current_token
from actors.lowlevel import OperationPlace, move

ROUNDS = range(10_000 if os.environ.get("TOKENGATE_TORTURE") == "1" else 30)


@attrs.define
class World:
    """A system whose dispatcher's threads are played, with two places, and all that happens to their tokens.

    Attributes:
        runnable: what has been submitted to the dispatcher.
        ran: {token: where it ran}, a list, since it must be one.
        running: how many run just now, and at most so far.
    """

    chance: random.Random
    system: ActorSystem
    runnable: deque[Any] = attrs.field(factory=deque)
    tokens: list[Token[Any]] = attrs.field(factory=list)
    ran: list[tuple[Token[Any], str]] = attrs.field(factory=list)
    running: int = 0
    most: int = 0
    throttle: Throttle | None = None
    source: OperationPlace = attrs.field(init=False)
    target: OperationPlace = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.system.dispatcher.submit = self.runnable.append  # type: ignore[method-assign]
        options = {"generator": False, "overflow": self.chance.choice(["reject", "drop_oldest"])}
        self.source = self.system.operation_place("source", "cpu", concurrency=self.chance.choice([1, 2]), **options)
        self.target = self.system.operation_place("target", "cpu", concurrency=1, capacity=3, **options)

    def work(self) -> None:
        """Be a thread of the dispatcher until nothing is runnable."""
        run_all(self.runnable)

    def send(self, how_many: int = 1, place: OperationPlace | None = None) -> None:
        for _ in range(how_many):
            to = place or self.source
            token = to.token("work", self.run, (), {}, self.chance.choice([0, 0, 0, 1, -1]))
            self.tokens.append(token)
            to.send(token)

    def run(self) -> None:
        token = current_token()
        assert token is not None
        self.running += 1
        self.most = max(self.most, self.running)
        self.ran.append((token, token.actor))
        list(self.system.live)  # here others may go on
        self.system.places()
        self.running -= 1

    def hold(self, token: Token[Any]) -> bool:
        return token._place.mailbox.hold(token)

    def release(self, token: Token[Any]) -> bool:
        return token._place.mailbox.release(token)

    def move(self, token: Token[Any]) -> bool | None:
        target = self.target if token._place is self.source else self.source
        try:
            return move(token, target)
        except (ActorDead, MailboxFull):
            return None

    def throttled(self, **limits: Any) -> Throttle:
        self.throttle = Throttle("it", bool, limits.get("rate"), limits.get("concurrency"))
        hold(self.system, self.throttle)
        return self.throttle

    def finish(self) -> None:
        """Let all go on that is held, and compare."""
        for _ in range(3):
            for token in self.tokens:
                self.release(token)
            for throttle in limits_of(self.system):
                let_loose(self.system, throttle)
            self.work()
        ran = [token for token, _ in self.ran]
        for token in self.tokens:
            assert token.done(), token
            assert ran.count(token) == (token.state is TokenState.COMPLETED)
        for token, where in self.ran:
            assert token.actor == where
        for place in (self.source, self.target):
            statistics = place.mailbox.statistics()
            assert (statistics.depth, statistics.held, statistics.active) == (0, 0, 0)
            assert place.mailbox._limit == place.mailbox.capacity
        assert self.system.live == {}
        throttles = self.system.throttles
        assert (throttles._waiting, throttles._queues, throttles.grants, throttles._handed) == ({}, {}, {}, {})
        if self.throttle is not None:
            assert (self.throttle.let, self.throttle.waiting) == (set(), set())


@pytest.fixture
def world(stage: Stage, chance: random.Random) -> Callable[[], World]:
    return lambda: World(chance, ActorSystem("raced", threads=1))


def test_pause_racing_take_holds_a_token_or_lets_it_run(stage: Stage, world: Any, chance: random.Random) -> None:
    """Told True, it does not run before it is released; told False, somebody had it already."""
    for _ in ROUNDS:
        w = world()
        w.send(4)
        victims = chance.sample(w.tokens, 2)
        held, *_ = stage.run(lambda w=w, victims=victims: [w.hold(one) for one in victims], w.work, w.send)
        w.work()

        for token, was_held in zip(victims, held, strict=True):
            assert token.state is (TokenState.PAUSED if was_held else TokenState.COMPLETED)
        w.finish()
        assert len(w.ran) == 5


def test_renice_racing_take_and_throttle_loses_nothing(stage: Stage, world: Any, chance: random.Random) -> None:
    """Whether it is queued, kept back, let go or taken just then; and no more run at once than the throttle allows."""
    for _ in ROUNDS:
        w = world()
        w.throttled(concurrency=1)
        w.send(4)
        token = chance.choice(w.tokens)
        stage.run(lambda w=w, token=token: token._place.mailbox.renice(token, 5), w.work, w.work)
        w.work()

        assert len(w.ran) == 4
        assert w.most == 1
        w.finish()


@pytest.mark.parametrize("throttled", [False, True], ids=["free", "throttled"])
def test_move_racing_take_runs_a_token_in_one_place(
    stage: Stage, world: Any, chance: random.Random, throttled: bool
) -> None:
    """Told True, it runs in the new place; told False, it has run in the old one; refused, it is where it was."""
    for _ in ROUNDS:
        w = world()
        if throttled:
            w.throttled(concurrency=1)
        w.send(3)
        w.send(chance.choice([0, 3]), w.target)
        victims = chance.sample(w.tokens[:3], 2)
        moved, *_ = stage.run(lambda w=w, victims=victims: [w.move(one) for one in victims], w.work, w.work)
        w.work()

        where = dict(w.ran)
        for token, was_moved in zip(victims, moved, strict=True):
            if token.state is TokenState.COMPLETED:
                assert where[token] == ("target" if was_moved else "source")
        if throttled:
            assert w.most == 1
        w.finish()


def test_move_racing_cancel_ends_a_token_once(stage: Stage, world: Any, chance: random.Random) -> None:
    """A queued one that is cancelled on its way has ended when it arrives; told True, it never ran."""
    for _ in ROUNDS:
        w = world()
        w.source.mailbox.suspend()
        w.target.mailbox.suspend()
        w.send(2)
        token = w.tokens[0]
        if chance.random() < 0.3:
            w.hold(token)
        functions = [lambda w=w, token=token: w.move(token), token.cancel, w.target.close, w.source.close]
        stage.run(*functions[: chance.choice([2, 2, 3, 4])])

        assert token.state is TokenState.TERMINATED
        for place in (w.source, w.target):
            place.mailbox.resume()
        w.work()
        w.finish()


def test_withdraw_racing_hold_ends_a_token_that_never_ran(stage: Stage, world: Any, chance: random.Random) -> None:
    """Queued, paused or released just then: a cancel that is told True has ended it, and it has not run."""
    for _ in ROUNDS:
        w = world()
        w.send(3)
        token = chance.choice(w.tokens)

        def toggle(w: World = w, token: Token[Any] = token) -> None:
            w.hold(token)
            w.release(token)

        functions = [token.cancel, toggle, w.work]
        cancelled, *_ = stage.run(*functions[: chance.choice([2, 3])])
        w.work()

        assert cancelled == (token.state is TokenState.TERMINATED)
        w.finish()


def test_close_racing_hold_and_release_strands_nothing(stage: Stage, world: Any, chance: random.Random) -> None:
    """Also a token that is just being put: nothing stays behind in a closed mailbox, paused or queued."""
    for _ in ROUNDS:
        w = world()
        if chance.random() < 0.3:
            w.throttled(concurrency=1)
        w.send(2)
        w.hold(w.tokens[0])

        def toggle(w: World = w) -> None:
            for token in list(w.tokens):
                w.hold(token)
            for token in w.tokens[:1]:
                w.release(token)

        functions = [w.source.close, toggle, w.send, w.work]
        stage.run(*functions[: chance.choice([3, 4])])
        assert all(token.state is not TokenState.PAUSED for token in w.tokens)
        w.finish()


def test_put_racing_close_and_hold_strands_nothing(stage: Stage, world: Any) -> None:
    """A token that is paused between its put and the look at the close is refused as any other, and not forgotten."""
    for _ in ROUNDS:
        w = world()
        token = w.source.token("work", w.run, (), {})
        w.tokens.append(token)

        def close(w: World = w) -> None:
            w.source.terminate_queued("has stopped")

        def hold(w: World = w, token: Token[Any] = token) -> None:
            while not (w.hold(token) or token.done()):
                pass

        stage.run(lambda w=w, token=token: w.source.send(token), close, hold)

        assert token.state in (TokenState.TERMINATED, TokenState.REJECTED)
        w.finish()


def test_let_begin_racing_withdraw_leaves_no_grant_behind(stage: Stage, world: Any, chance: random.Random) -> None:
    """A token that is withdrawn, paused or moved just as it is let go gives its turn to another one."""
    for _ in ROUNDS:
        w = world()
        w.throttled(concurrency=1)
        w.send(4)
        victims = chance.sample(w.tokens, 2)

        def interfere(w: World = w, victims: Any = victims) -> None:
            for token in victims:
                chance.choice([Token.cancel, w.hold, w.move])(token)

        stage.run(interfere, w.work, w.work)
        w.work()

        assert w.most == 1
        for token in w.tokens:
            assert token.done() or token.state is TokenState.PAUSED
        w.finish()


def test_lifting_a_throttle_racing_takes_lets_all_go(stage: Stage, world: Any, chance: random.Random) -> None:
    """None is left behind by who looks at it as the last throttle goes, or as another one comes."""
    for _ in ROUNDS:
        w = world()
        first = w.throttled(rate=0.001)
        w.send(3)

        def change(w: World = w, first: Throttle = first) -> None:
            if chance.random() < 0.5:
                w.throttled(concurrency=1)
            let_loose(w.system, first)

        stage.run(change, w.work, w.send)
        w.work()

        assert len(w.ran) == 4
        w.finish()


def test_any_moves_of_operators_that_race_lose_nothing(stage: Stage, world: Any, chance: random.Random) -> None:
    """Three threads that send, work, pause, resume, renice, cancel, move, suspend, throttle and lift in any order."""
    for _ in ROUNDS:
        w = world()
        w.send(3)

        def moves(w: World = w) -> Callable[[], None]:
            verbs = [
                "send",
                "work",
                "work",
                "hold",
                "release",
                "renice",
                "cancel",
                "move",
                "suspend",
                "throttle",
                "lift",
            ]
            script = chance.choices(verbs, k=4)

            def play() -> None:
                for verb in script:
                    token = chance.choice(w.tokens)
                    if verb in {"send", "work"}:
                        getattr(w, verb)()
                    elif verb in {"hold", "release", "move"}:
                        getattr(w, verb)(token)
                    elif verb == "renice":
                        token._place.mailbox.renice(token, chance.choice([0, 0, 1]))
                    elif verb == "cancel":
                        token.cancel()
                    elif verb == "suspend":
                        w.source.mailbox.suspend()
                        w.source.mailbox.resume()
                    elif verb == "throttle":
                        w.throttled(**chance.choice([{"rate": 0.001}, {"concurrency": 1}]))
                    else:
                        for throttle in limits_of(w.system):
                            let_loose(w.system, throttle)

            return play

        stage.run(moves(), moves(), moves())
        w.finish()


class Answerer(CpuActor):
    def __init__(self, handled: list[Any]) -> None:
        self.handled = handled

    def on_receive(self, message: Any) -> None:
        self.handled.append(message)


@pytest.mark.parametrize("how", ["cancel", "release", "move"])
def test_the_last_paused_token_racing_a_stop_lets_it_complete_once(stage: Stage, world: Any, how: str) -> None:
    """A drain that waits for it ends, and the owner of the place hears of one end."""
    for _ in ROUNDS:
        w = world()
        handled: list[Any] = []
        ends: list[ExitReason] = []

        def owner(place: Any, reason: ExitReason, _administrative: bool, ends: Any = ends) -> None:
            ends.append(reason)
            place.close(reason)

        places = [w.system.place(f"raced-{number}", Answerer, (handled,), owner=owner) for number in range(2)]
        for place in places:
            started = place.start()
            w.work()
            started.result()
        place, other = places
        place.suspend()
        place.ref.tell("paused")
        (token,) = w.system.live.values()
        w.hold(token)
        place.unsuspend()
        place.ref.tell("before")
        replies: list[Any] = []

        def stop(place: Any = place, replies: Any = replies) -> None:
            replies.append(place.stop(drain=True, administrative=True))

        def let_go(w: World = w, token: Any = token, other: Any = other) -> None:
            if how == "cancel":
                token.cancel()
            elif how == "release":
                w.release(token)
            else:
                assert move(token, other)
                w.release(token)

        stage.run(stop, let_go, w.work, w.work)
        w.work()

        assert replies[0].done()
        assert token.done()
        assert sorted(handled) == (["before"] if how == "cancel" else ["before", "paused"])
        assert len(ends) == 1
        other.stop(drain=True, administrative=True)
        w.work()
        w.finish()
