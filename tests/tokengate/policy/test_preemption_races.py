"""A preemption races with the token's own end, with a cancel, a terminate, a retry, a move, and the end of its place.

Each race is run a few times with each grain, 10,000 times with TOKENGATE_TORTURE=1; TOKENGATE_SEED brings one back. The
threads and the system loop are played, under schedules that a seed draws. Code keeps a ledger of its attempts.
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
from tokengate.policy._policies import policies_of

RETRY = Retry(on=ConnectionError, attempts=3, wait=1)
PARTS: dict[str, Policy | None] = {
    "nothing": None,
    "retry": Policy(retry=RETRY),
    "grants": Policy(throttle=(Throttle(concurrency=1, key="key"), Throttle(rate=1, burst=3)), retry=RETRY),
    "probes": Policy(breaker=Breaker(on=ConnectionError, minimum=1, open_for=1), retry=RETRY),
    "fallback": Policy(fallback=lambda _error, *_args: -1),
}


@attrs.define
class Preempted(World):
    """Two places, which hold their tokens to one policy, or to nothing.

    Attributes:
        part: the policy.
        begun: {token: attempts that began}.
        running: tokens whose code runs just now.
        answers: {token: what its code returned}.
        cancelled: tokens that were cancelled, so that no further attempt of them is to begin.
    """

    part: str = attrs.field(kw_only=True)
    begun: Counter[Token[Any]] = attrs.field(factory=Counter)
    running: list[Token[Any]] = attrs.field(factory=list)
    answers: dict[Token[Any], int] = attrs.field(factory=dict)
    cancelled: set[Token[Any]] = attrs.field(factory=set)

    def make_places(self) -> None:
        draw, policy = self.chance, PARTS[self.part]
        properties = Properties(idempotent=True, interruptible=False)
        for path in ("first", "second"):
            options = {"concurrency": draw.choice([1, 2]), "capacity": draw.choice([2, 100]), "overflow": "reject"}
            if policy is not None:
                self.place(path, policy, self.run, properties=properties, **options)
                continue
            place = self.system.operation_place(path, "cpu", generator=False, properties=properties, **options)
            self.places.append(place)

    def run(self, number: int, fails: int, key: str) -> int:
        """Run the code of a call, whose first attempts fail."""
        token = current_token()
        assert token is not None
        assert token not in self.running
        was_cancelled = token in self.cancelled
        self.begun[token] += 1
        self.running.append(token)
        try:
            if was_cancelled:
                checkpoint()
                raise AssertionError(f"another attempt of {token!r} goes on, which was cancelled before")
            for _ in range(number % 3):
                list(self.system.live)  # here others may go on
                checkpoint()
            if self.begun[token] <= fails:
                raise ConnectionError(key)
            self.answers[token] = number
            return number
        finally:
            self.running.remove(token)

    def call(self) -> None:
        draw, place = self.chance, self.places[0]
        arguments = draw.choice([1, 2, 2, 2, 5]), draw.choice([0, 0, 0, 1, 2]), draw.choice("ab")
        self.send(place.token(place.path, self.run, arguments, {}, draw.choice([0, 0, 1])), place)

    def steer(self, verb: str) -> None:
        """Do something to a token; operators act on the loop."""
        if verb == "cancel":
            token = self.chance.choice(self.tokens)
            self.cancel(token)
            self.cancelled.add(token)
            return
        tokens = list(self.system.live.values())
        if tokens:
            act, token = getattr(self, verb), self.chance.choice(tokens)
            self.system.system_host.call_soon(lambda: act(token))

    def close(self) -> None:
        self.chance.choice(self.places).close()

    def check(self) -> None:
        assert self.running == []
        for token in self.tokens:
            preempted = [one for one in token.attempts if "preempted" in str(one.error) and one.delay is not None]
            assert len(preempted) == token._extras.preempted
            fallback = token.state is TokenState.COMPLETED and token._value == -1
            if token.state is TokenState.COMPLETED and not fallback:
                assert self.answers[token] == token.result()
            elif token.state is TokenState.REJECTED:
                assert not self.begun[token]
            most = 3 if PARTS[self.part] and PARTS[self.part].retry else 1  # type: ignore[union-attr]
            assert self.begun[token] <= most + token._extras.preempted
        for place in self.places:
            self.check_free(place)

    def check_free(self, place: OperationPlace) -> None:
        """Check that all that the tokens were given is free again, and that nothing is left of preemptions."""
        if self.part == "nothing" and place.governor is None:
            assert place.mailbox._throttles is None
        if place.governor is None:
            return
        governor: Any = policies_of(place).governor_of(place)
        assert (governor.share.reserved, governor.left) == (0, 0)
        later = self.clock.now + 1_000.0
        for _, breaker in governor.states("breaker"):
            assert breaker.running == 0
        for part in ("throttle", "throttle[1]"):
            for _, rule in governor.states(part):
                assert rule.is_new(later), (part, rule.state.running, rule.state._unbegun, rule.waiting)


VERBS = ["preempt", "preempt", "preempt", "cancel", "terminate", "hold", "release", "renice", "reroute"]


@pytest.mark.parametrize("part", PARTS)
def test_a_preemption_loses_nothing_and_doubles_nothing(
    stage: Stage, chance: random.Random, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Case 26. One end for each token, at most one preemption, no attempt beside another or after a cancel."""
    for _ in ROUNDS:
        w = Preempted(chance, part=part)
        w.make_places()
        for _ in range(chance.choice([1, 2, 3])):
            w.call()
        verbs = ["call", "work", "work", "work", *VERBS, *(["close"] * (chance.random() < 0.2))]
        scripts = [chance.choices(verbs, k=8) for _ in range(2)]
        w.play(stage, scripts, chance.choices([0.0, 0.01, 0.1, 1.0], k=10), ("call", "work", "close"))
        w.finish()
        w.check()
        assert not [one for one in caplog.records if one.name == "tokengate.policy"]
