"""Tokens on their way to the next alternative, racing with what ends, pauses, moves and takes them: one end each.

Each race is run a few times with each grain, 10,000 times with TOKENGATE_TORTURE=1; TOKENGATE_SEED brings one back. The
threads of the dispatcher are played, under schedules that a seed draws. In the end every token has ended in one state,
and those that completed have answered once, where they are.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

import attrs
import pytest
from interleave import Stage
from raced_policies import ROUNDS, World
from tiers import in_ci

import tokengate.policy
from actors import Token, TokenState, current_token
from actors.lowlevel import place_of
from tokengate import Gate, Route, checkpoint
from tokengate.errors import TokenGateError
from tokengate.policy import Breaker, Policy, Retry, Throttle
from tokengate.policy._policies import policies_of

PLACES = ("first", "second", "third")

RETRY = Retry(on=ConnectionError, attempts=2, wait=0)
BREAKER = Breaker(on=ConnectionError, failure_rate=0.9, minimum=2, open_for=1_000)
POLICIES = (
    Policy(retry=Retry(on=ConnectionError, attempts=1)),
    Policy(retry=RETRY, breaker=BREAKER),
    Policy(breaker=BREAKER),
    Policy(),
)


@attrs.define
class Routes(World):
    """The places of a route, and all that their tokens did.

    Attributes:
        policies: from which those of the places are drawn.
        answered: tokens that have completed their code, with the place where they did.
        running: tokens whose code runs just now.
    """

    policies: tuple[Policy, ...] = attrs.field(kw_only=True)
    answered: list[tuple[Token[Any], str]] = attrs.field(factory=list)
    running: list[Token[Any]] = attrs.field(factory=list)

    def make_places(self) -> None:
        draw = self.chance.choice
        for path in PLACES:
            self.place(
                path, draw(self.policies), self.run, concurrency=draw([1, 2]), capacity=draw([1, 3, 100]),
                overflow=draw(["reject", "drop_oldest"]),
            )  # fmt: skip

    def run(self, fails: frozenset[str]) -> str:
        token = current_token()
        assert token is not None
        assert token not in self.running
        assert [place.path for place in self.places if place.drain.has_taken(token)] == [token.actor]
        self.running.append(token)
        list(self.system.live)  # here others may go on
        self.system.places()
        self.running.remove(token)
        if token.actor in fails:
            raise ConnectionError(f"{token.actor} is down")
        self.answered.append((token, token.actor))
        return token.actor

    def call(self, how_many: int = 1, *, failing: int | None = None) -> None:
        for _ in range(how_many):
            many = self.chance.choice([0, 1, 2, 2, 3]) if failing is None else failing
            fails = (
                frozenset(PLACES[:many]) if self.chance.random() < 0.7 else frozenset(self.chance.sample(PLACES, many))
            )
            first, policies = self.places[0], policies_of(self.places[0])
            token = first.token("first", self.run, (fails,), {}, self.chance.choice([0, 0, 1]))
            others = [policies.alternative(place, place.path, self.run, None) for place in self.places[1:]]
            policies.route(token, others, None, at_door_only=self.chance.random() < 0.1)
            self.send(token, first)

    def finish(self) -> None:
        """Let all go on that is held, and compare."""
        super().finish()
        assert not self.running
        for token in self.tokens:
            where = [actor for one, actor in self.answered if one is token]
            assert where == ([token.result()] if token.state is TokenState.COMPLETED else []), token
            assert token.state is not TokenState.FAILED or isinstance(token.exception(), ConnectionError)
            assert token.state is not TokenState.REJECTED or all(each.started_at is None for each in token.attempts)
        for place in self.places:
            breaker = place.governor.breaker_of((), self.clock())  # type: ignore[union-attr, attr-defined]
            assert breaker is None or breaker.running == 0


@pytest.fixture
def world(stage: Stage, chance: random.Random) -> Callable[..., Routes]:
    def make(policies: tuple[Policy, ...] = POLICIES) -> Routes:
        made = Routes(chance, policies=policies)
        made.make_places()
        return made

    return make


@pytest.mark.parametrize("verb", ["cancel", "abandon"])
def test_what_ends_a_token_between_two_alternatives_has_ended_it(
    stage: Stage, world: Any, chance: random.Random, verb: str
) -> None:
    """Case 56: it is found where it was or where it comes; or it is looked at again as soon as it has come there."""
    for _ in ROUNDS:
        w = world(POLICIES[:2])
        w.call(failing=3)
        (victim,) = w.tokens
        for place in w.places[1:]:
            place.mailbox.suspend()

        def end(w: Routes = w, victim: Token[Any] = victim) -> object:
            w.wait()
            return victim.cancel() if verb == "cancel" else place_of(victim).abandon(victim, "it was ended")

        _, result = stage.run(w.work, end)
        w.work()

        assert victim.done() or (verb == "abandon" and result is None)
        for place in w.places[1:]:
            place.mailbox.resume()
        w.finish()


@pytest.mark.parametrize("verb", ["hold", "renice", "reroute"])
def test_what_steers_a_token_between_two_alternatives_loses_nothing(
    stage: Stage, world: Any, chance: random.Random, verb: str
) -> None:
    """Case 56: no attempt begins before the code of the one before has let go of the token."""
    for _ in ROUNDS:
        w = world(POLICIES[:2])
        w.call(2, failing=2)

        def steer(w: Routes = w) -> None:
            for token in w.tokens:
                w.wait()
                getattr(w, verb)(token)

        stage.run(w.work, w.work, steer)
        w.finish()


def test_a_close_of_places_leaves_no_token_between_them(stage: Stage, world: Any, chance: random.Random) -> None:
    """Case 56: whichever closes, and whenever, each token has an end."""
    for _ in ROUNDS:
        w = world()
        w.call(3)
        closing = chance.sample(w.places, chance.choice([1, 2, 3]))
        stage.run(w.work, w.work, lambda w=w, closing=closing: (w.wait(), [place.close() for place in closing]))
        w.finish()


def test_any_moves_that_race_lose_no_token(stage: Stage, world: Any, chance: random.Random) -> None:
    """Case 56: three threads that send, work, cancel, pause, resume, renice, reroute and suspend in any order."""
    for _ in ROUNDS:
        w = world()
        w.call(2)

        def moves(w: Routes = w) -> Callable[[], None]:
            script = chance.choices(
                ["call", "work", "work", "work", "hold", "release", "renice", "cancel", "reroute", "suspend"], k=5
            )

            def play() -> None:
                for verb in script:
                    if verb in {"call", "work"}:
                        getattr(w, verb)()
                    else:
                        getattr(w, verb)(chance.choice(w.tokens))

            return play

        stage.run(moves(), moves(), moves())
        w.finish()


# At a gate

BREAKS = Breaker(on=ConnectionError, failure_rate=0.9, minimum=10, open_for=0.01)
TWICE = Retry(on=ConnectionError, attempts=2, wait=0.001)
AFFINITIES = {
    "cpu": Policy(retry=TWICE, breaker=BREAKS),
    "io": Policy(retry=TWICE, throttle=Throttle(concurrency=3)),
    "asyncio": Policy(breaker=BREAKS, throttle=Throttle(rate=2_000, over="reject")),
}


def operation(affinity: Any, answered: list[int]) -> Any:
    """Return an operation that notes the calls which it answers, and fails for the others."""

    def work(number: int, fails: frozenset[str]) -> str:
        checkpoint()
        if affinity in fails:
            raise ConnectionError(affinity)
        answered.append(number)
        return str(affinity)

    policy = AFFINITIES[affinity]
    return tokengate.token(affinity=affinity, policy=policy, capacity=20, overflow="reject", concurrency=2)(work)


def steer(gate: Gate, one: Token[Any], drawn: random.Random) -> None:
    verb = drawn.choice(["cancel", "terminate", "kill", "pause", "renice", "reroute"])
    if verb == "cancel":
        one.cancel()
    elif verb == "terminate":
        gate.control.terminate(one.id)
    elif verb == "kill":
        gate.control.terminate(one.id, mode="kill", grace=0.01)
    elif verb == "pause":
        gate.control.pause(one.id, wait=0.01)
        gate.control.resume(one.id)
    elif verb == "renice":
        gate.control.renice(one.id, drawn.choice([0, 5]))
    else:
        gate.control.reroute(one.id, affinity=drawn.choice(["cpu", "io", "asyncio"]))


@in_ci
@pytest.mark.parametrize("closes", [False, True], ids=["to the end", "closed"])
def test_a_storm_of_verbs_on_routes_of_all_affinities_loses_no_token(
    seed: int, rounds: Callable[[int], int], until: Callable[[Callable[[], bool]], None], closes: bool
) -> None:
    """Case 56: each token ends once, whatever is done to it meanwhile; also when its gate closes."""
    chance = random.Random(seed)
    answered, ended, tokens = list[int](), list[int](), list[Token[Any]]()
    numbers, over = count(), threading.Event()
    operations = [operation(affinity, answered) for affinity in AFFINITIES]

    def send(drawn: random.Random) -> None:
        for number in range(rounds(200)):
            route = Route("storm", drawn.sample(operations, 3), drawn.choice(["failover", "failover", "least_busy"]))
            fails = frozenset(drawn.sample(list(AFFINITIES), drawn.choice([0, 1, 2, 2, 3])))
            one = route.submit(next(numbers), fails)
            one.add_done_callback(lambda one: ended.append(one.id))
            tokens.append(one)
            if number % 20 == 0:
                until(lambda: sum(not one.done() for one in tokens) < 40)

    def steer_some(drawn: random.Random) -> None:
        while not over.is_set():
            live = [one for one in tokens[-40:] if not one.done()]
            if live:
                with suppress(TokenGateError):  # the gate has closed
                    steer(gate, drawn.choice(live), drawn)
            else:
                over.wait(0.001)

    with Gate("storm", threads=3, shutdown=5.0, control_socket=False) as gate:
        threads = [threading.Thread(target=send, args=(random.Random(chance.random()),)) for _ in range(2)]
        steering = threading.Thread(target=steer_some, args=(random.Random(chance.random()),))
        for thread in (*threads, steering):
            thread.start()
        for thread in threads:
            thread.join()
        if not closes:
            over.set()
            steering.join()
            gate.control.resume([one.id for one in tokens if not one.done()])
            until(lambda: all(one.done() for one in tokens))
            throttles, places = gate._system.throttles, list(gate._operations.values())
            until(lambda: not throttles.grants and not throttles._waiting)
            until(lambda: not any(place.mailbox.size or place.mailbox.active for place in places))
    over.set()
    steering.join()

    until(lambda: len(ended) == len(tokens))
    assert sorted(ended) == sorted(one.id for one in tokens)
    assert len(answered) == len(set(answered))
