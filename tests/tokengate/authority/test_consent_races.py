"""A call that waits for consent races with its approval, denial, expiry, cancel, deadline, and the end of its gate.

Each race is run a few times with each grain, 10,000 times with TOKENGATE_TORTURE=1; TOKENGATE_SEED brings one back. In
the end each call has ended once, and only what was agreed to has run, by a ledger that its code keeps.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pytest
from interleave import Stage
from people import ANN
from raced_policies import ROUNDS, World

from actors import Token, TokenState, current_token
from tokengate import Policy, Retry
from tokengate.authority._consent import Consents
from tokengate.authority._proposals import Proposals
from tokengate.policy._policies import policies_of

POLICIES = {
    "none": None,
    "times": Policy(deadline=6, queue_timeout=4),
    "retry": Policy(retry=Retry(on=ConnectionError, attempts=2, wait=1)),
}


@attrs.define
class Asked(World):
    """A place whose calls need consent.

    Attributes:
        policy: of the place.
        begun: {token: attempts that began}.
        agreed: {token: its argument when it was agreed to}.
        argued: {token: its argument, as the code has got it}.
        proposals: of the gate.
        consents: of the gate.
    """

    policy: str = attrs.field(kw_only=True)
    begun: Counter[Token[Any]] = attrs.field(factory=Counter)
    agreed: dict[Token[Any], list[int]] = attrs.field(factory=dict)
    argued: dict[Token[Any], list[int]] = attrs.field(factory=dict)
    arguments: dict[Token[Any], list[int]] = attrs.field(factory=dict)
    proposals: Proposals = attrs.field(init=False)
    consents: Consents = attrs.field(init=False)

    def open(self) -> None:
        self.proposals = Proposals("raced", 0.0, self.clock)
        propose = partial(self.proposals.make, seconds=10.0)
        door = SimpleNamespace(system=self.system, proposals=self.proposals, propose=propose)
        self.consents = Consents(cast("Any", door))
        self.consents._alarm.look = bool  # type: ignore[method-assign]  # turns look
        self.system.consents = self.consents
        for path in ("first", "second"):
            place = self.system.operation_place(
                path, "cpu", generator=False, concurrency=self.chance.choice([1, 2]),
                capacity=self.chance.choice([1, 100]), overflow=self.chance.choice(["reject", "drop_oldest", "wait"]),
            )  # fmt: skip
            policies_of(place).govern(place, POLICIES[self.policy], self.run, consent=True)
            self.places.append(place)

    def run(self, argument: list[int]) -> int:
        token = current_token()
        assert token is not None
        self.begun[token] += 1
        self.argued[token] = list(argument)
        if self.policy == "retry" and self.begun[token] == 1 and len(argument) == 1:
            raise ConnectionError("down")
        return len(argument)

    # What players do

    def call(self) -> None:
        place, argument = self.places[0], [len(self.tokens)]
        token = place.token(place.path, self.run, (argument,), {}, self.chance.choice([0, 0, 1]))
        if self.chance.random() < 0.3:
            policies_of(place).identify(token, "key" if self.chance.random() < 0.5 else len(self.tokens))
            argument[0] = 0
        self.arguments[token] = argument
        self.send(token, place)

    def change(self) -> None:
        """Change an argument; what has been agreed to is not changed any more, as its code could not tell."""
        token = self.chance.choice(self.tokens)
        if token._extras.policy is not None and token._extras.policy.call is not None and token not in self.agreed:
            self.system.later(lambda: None if token in self.agreed else self.arguments[token].append(1))

    def decide(self) -> None:
        def decided() -> None:
            found = [one for one in self.proposals if one.state == "open"]
            if not found:
                return
            one = self.chance.choice(found)
            if self.chance.random() < 0.8:
                token = self.system.live.get(one.ids[0])
                said = one.message.arguments["argument"]  # type: ignore[attr-defined]
                if token is not None:
                    self.agreed[token] = said
                self.proposals.move(one, "approved", "open", by=ANN)
                self.proposals.move(one, "applied", "approved")
            else:
                self.proposals.move(one, "denied", "open", by=ANN)

        self.system.later(decided)

    def steer(self, verb: str) -> None:
        live = [one for one in list(self.system.live.values()) if one._run is None]
        if verb == "cancel" and self.tokens:
            self.cancel(self.chance.choice(self.tokens))
        elif live:
            act, token = getattr(self, verb), self.chance.choice(live)
            self.system.later(lambda: act(token))

    def turn(self, seconds: float) -> None:
        super().turn(seconds)
        self.proposals.expire()

    def close(self) -> None:
        self.system.later(self.consents.close)

    def check(self) -> None:
        assert all(one.state != "open" for one in self.proposals)
        assert self.consents._filed == {}
        for token, count in self.begun.items():
            assert count <= (2 if self.policy == "retry" else 1)
            assert self.argued[token] == self.agreed[token]
        for token in self.tokens:
            policy = token._extras.policy
            assert policy is None or policy.call is None
            if token.state is TokenState.REJECTED:
                assert not self.begun[token]


VERBS = ["cancel", "terminate", "hold", "release", "renice", "reroute", "suspend"]


def race(stage: Stage, chance: random.Random, policy: str) -> None:
    w = Asked(chance, policy=policy)
    w.open()
    for _ in range(chance.choice([1, 2, 4])):
        w.call()
    own = ["call", "work", "decide", "change"]
    verbs = [*own, *["work", "decide"] * 4, *VERBS, *(["close"] * (chance.random() < 0.3))]
    scripts = [chance.choices(verbs, k=6) for _ in range(2)]
    turns = chance.choices([0.0, 0.1, 1.0], k=8)
    w.play(stage, scripts, turns, (*own, "close"))
    w.finish()
    w.check()


@pytest.mark.parametrize("policy", POLICIES)
def test_only_what_was_agreed_to_runs_whatever_comes_in_between(
    stage: Stage, chance: random.Random, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Case 25. One end for each call, and no proposal is left open."""
    for _ in ROUNDS:
        race(stage, chance, policy)
        assert not [one for one in caplog.records if one.name == "tokengate.policy"]
