"""Each part of a policy races with what ends, pauses and moves its tokens, and with the end of their places.

Each race is run a few times with each grain, 10,000 times with TOKENGATE_TORTURE=1; TOKENGATE_SEED brings one back. The
threads and the system loop are played, under schedules that a seed draws. In the end each token has ended once, in one
state, and what it was given is free again, by a ledger that its code keeps.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import attrs
import pytest
from interleave import Stage
from raced_policies import ROUNDS, World

from actors import Token, TokenState, current_token
from actors.lowlevel import OperationPlace, Properties
from tokengate import Breaker, Policy, Retry, Throttle, checkpoint
from tokengate.policy import Budget, spend
from tokengate.policy._policies import policies_of

RETRY = Retry(on=ConnectionError, attempts=3, wait=1)
PARTS = {
    "retry": Policy(retry=RETRY),
    "expiry": Policy(queue_timeout=3, timeout=2, deadline=8, retry=RETRY),
    "probes": Policy(breaker=Breaker(on=ConnectionError, minimum=1, open_for=1), retry=RETRY),
    "grants": Policy(
        throttle=(
            Throttle(concurrency=1, key="key"), Throttle(rate=1, burst=3), Throttle(concurrency=3, over="reject"),
        ),
        retry=RETRY,
    ),
    "budget": Policy(budget=Budget("usd", 9, key="key", estimate=3), retry=RETRY, queue_timeout=20),
    "joined": Policy(deadline=8, retry=RETRY),
}  # fmt: skip


@attrs.define
class Rules(World):
    """Two places with one policy.

    Attributes:
        part: of policies that is raced.
        begun: {token: attempts that began}.
        running: tokens whose code runs just now, with the path of the place and their key.
        answers: {token: what its code returned}.
        spent: {key: what code has spent}.
    """

    part: str = attrs.field(kw_only=True)
    begun: Counter[Token[Any]] = attrs.field(factory=Counter)
    running: list[tuple[Token[Any], str, str]] = attrs.field(factory=list)
    answers: dict[Token[Any], int] = attrs.field(factory=dict)
    spent: Counter[str] = attrs.field(factory=Counter)

    def make_places(self) -> None:
        draw = self.chance
        properties = Properties(idempotent=draw.random() < 0.5, interruptible=False)
        for path in ("first", "second"):
            self.place(
                path, PARTS[self.part], self.run, concurrency=draw.choice([1, 2, 3]), capacity=draw.choice([2, 100]),
                overflow=draw.choice(["reject", "drop_oldest"]), properties=properties,
            )  # fmt: skip

    def run(self, number: int, fails: int, key: str) -> int:
        """Run the code of a call, whose first attempts fail."""
        token = current_token()
        assert token is not None
        assert token not in [one for one, _, _ in self.running]
        mine = token, token.actor, key
        self.begun[token] += 1
        self.running.append(mine)
        try:
            if self.part == "grants":
                assert sum(one[1:] == mine[1:] for one in self.running) <= 1, self.running
                assert sum(place == token.actor for _, place, _ in self.running) <= 3, self.running
            for _ in range(number % 3):
                list(self.system.live)  # here others may go on
                checkpoint()
            if self.part == "budget":
                cost = 1 + number % 3
                self.spent[key] += cost
                spend(cost)
            if self.begun[token] <= fails:
                raise ConnectionError("down")
            self.answers[token] = number
            return number
        finally:
            self.running.remove(mine)

    def call(self) -> None:
        draw, place = self.chance, self.places[0]
        number = len(self.tokens)
        key = draw.choice("ab")
        arguments = number, draw.choice([0, 0, 1, 2, 3]), key
        if self.part == "joined":
            arguments = 2 * ord(key), 0, key
        token = place.token(place.path, self.run, arguments, {}, draw.choice([0, 0, 1]))
        if self.part == "joined":
            policies_of(place).identify(token, key)
        self.send(token, place)

    def steer(self, verb: str) -> None:
        """Do something to a token; operators act on the loop, and of tokens that share a run on that."""
        if verb == "cancel":
            self.cancel(self.chance.choice(self.tokens))
            return
        live = [(one, one._extras.policy) for one in list(self.system.live.values())]
        tokens = [one for one, policy in live if policy is not None and policy.run is None]
        if tokens:
            act, token = getattr(self, verb), self.chance.choice(tokens)
            self.system.system_host.call_soon(lambda: act(token))

    def operate(self, token: Token[Any]) -> None:
        """Do what operators do with retries and times."""
        policy: Any = token._extras.policy
        act = self.chance.choice([policy.retry_now, policy.stop_retries, lambda one: policy.extend(one, 1.0)])
        act(token)

    def close(self) -> None:
        self.chance.choice(self.places).close()

    def check(self) -> None:
        assert self.running == []
        limit = 4 if self.part == "joined" else 3
        for token in self.tokens:
            run = token
            if self.part == "joined" and token.state is TokenState.COMPLETED:
                run = next(one for one in self.answers if one.id == token._extras.policy.uid)  # type: ignore[union-attr]
            if token.state is TokenState.COMPLETED:
                assert self.answers[run] == token.result()
            elif token.state is TokenState.REJECTED:
                assert not self.begun[token], token
            assert self.begun[token] <= limit
        for place in self.places:
            self.check_free(place)

    def check_free(self, place: OperationPlace) -> None:
        """Check that all that the tokens were given is free again."""
        governor: Any = place.governor
        assert (governor.share.reserved, governor.left, bool(governor._joints)) == (0, 0, False)
        later = self.clock.now + 1_000.0
        for _, breaker in governor.states("breaker"):
            assert breaker.running == 0
            assert len(breaker._probes) == 0
        for part in ("throttle", "throttle[1]", "throttle[2]"):
            for _, rule in governor.states(part):
                assert rule.is_new(later), (part, rule.state.running, rule.state._unbegun, rule.waiting)
        for key, rule in governor.states("budget"):
            assert not rule.reservations
            assert (rule.state.reserved, rule.state.spent) == (0, self.spent[key])
            assert self.spent[key] <= 9  # no cost is above its estimate


VERBS = ["cancel", "terminate", "hold", "release", "renice", "reroute", "suspend", "operate"]


def race(stage: Stage, chance: random.Random, part: str) -> None:
    """Run one race: two players that send, work and steer, beside the system loop."""
    w = Rules(chance, part=part)
    w.make_places()
    for _ in range(chance.choice([1, 2, 4])):
        w.call()
    verbs = ["call", "work", "work", "work", *VERBS, *(["close"] * (chance.random() < 0.2))]
    scripts = [chance.choices(verbs, k=6) for _ in range(2)]
    turns = chance.choices([0.0, 0.1, 1.0, 2.0], k=8)
    w.play(stage, scripts, turns, ("call", "work", "close"))
    w.finish()
    w.check()


@pytest.mark.parametrize("part", PARTS)
def test_what_ends_pauses_and_moves_tokens_loses_nothing(
    stage: Stage, chance: random.Random, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Cases 12, 16, 19, 23, 34, 41, 44. One end for each token; no grant, permit, reservation or caller is lost."""
    for _ in ROUNDS:
        race(stage, chance, part)
        assert not [one for one in caplog.records if one.name == "tokengate.policy"]
