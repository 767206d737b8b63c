"""A system whose threads and loops are played, for races of policies: schedules are drawn, and time passes by calls.

The threads of the dispatcher and the system loop are functions that the players of a `Stage` call. What the system
loop waits for is asked again at each turn of it.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Coroutine, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from interleave import Grain, Stage, run_all
from tiers import TORTURE

from actors import ActorSystem, Token
from actors.lowlevel import OperationPlace, place_of
from tokengate.control.steering._steering import reroute
from tokengate.policy import Policy
from tokengate.policy._governed import Governed
from tokengate.policy._policies import policies_in, policies_of
from tokengate.policy._resumed import preempt

LIMIT = 60.0  # seconds; only reached when something is broken
ROUNDS = range(10_000 if TORTURE else 20 if os.environ.get("CI") else 4)


@attrs.define
class Clock:
    """A clock that stands until it is set; in seconds."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


class _Pause:
    """What a played task awaits: its next turn."""

    def __await__(self) -> Generator[None]:
        yield


@attrs.define
class World:
    """A system whose threads are played, with the places that a test makes, and the tokens that it sends there.

    Attributes:
        chance: draws what happens.
        clock: the system's.
        runnable: what has been submitted to the dispatcher.
        tasks: those of the system loop.
        tokens: all that were sent.
        ends: {id of a token: how often its done callback was called}.
    """

    chance: random.Random
    clock: Clock = attrs.field(factory=Clock)
    system: ActorSystem = attrs.field(init=False)
    runnable: deque[Any] = attrs.field(factory=deque)
    tasks: list[Coroutine[Any, Any, None]] = attrs.field(factory=list)
    tokens: list[Token[Any]] = attrs.field(factory=list)
    ends: Counter[int] = attrs.field(factory=Counter)
    places: list[OperationPlace] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.system = system = ActorSystem("raced", threads=1, clock=self.clock)
        system.dispatcher.submit = self.runnable.append  # type: ignore[method-assign]
        system.throttles._alarm.look = bool  # type: ignore[method-assign]  # turns look
        policies_in(system).deadlines._alarm.look = bool  # type: ignore[method-assign]
        system.reconciler._start = lambda fn, _: self.tasks.append(fn())

    def place(self, path: str, policy: Policy, function: Callable[..., object], **options: Any) -> OperationPlace:
        """Make a place of cpu tokens, which are held to a policy."""
        place = self.system.operation_place(path, "cpu", generator=False, **options)
        policies_of(place).govern(place, policy, function)
        self.places.append(place)
        return place

    # What players do

    def send(self, token: Token[Any], place: OperationPlace) -> None:
        token.add_done_callback(lambda one: self.ends.update([one.id]))
        self.tokens.append(token)
        place.send(token)

    def work(self) -> None:
        """Be a thread of the dispatcher until nothing is runnable."""
        run_all(self.runnable)

    def turn(self, seconds: float) -> None:
        """Be the system loop for one turn, after some seconds; one player at a time."""
        self.clock.now += seconds
        pending = self.system.system_host._pending
        for _ in range(len(pending)):
            pending.popleft()()
        for task in list(self.tasks):
            try:
                task.send(None)
            except StopIteration:
                self.tasks.remove(task)
        policies_in(self.system).deadlines._ring()
        self.system.throttles.let_go()

    def wait(self) -> None:
        """Let others go on for a while, which is drawn."""
        for _ in range(self.chance.choice([0, 5, 20, 50])):
            self.system.places()

    def play(
        self, stage: Stage, scripts: Iterable[Sequence[str]], turns: Iterable[float], own: Collection[str]
    ) -> None:
        """Have players go through scripts, beside the loop.

        Args:
            stage: draws which of them goes on.
            scripts: of each player: names of methods.
            turns: seconds before each turn of the loop.
            own: names of the methods without arguments; the others are for a token.
        """

        def act(script: Sequence[str]) -> None:
            for name in script:
                self.wait()
                if name in own:
                    getattr(self, name)()
                else:
                    self.steer(name)

        def loop() -> None:
            for seconds in turns:
                self.wait()
                self.turn(seconds)

        stage.run(*(partial(act, script) for script in scripts), loop)

    def steer(self, verb: str) -> None:
        """Do to a token, which is drawn, what a script says."""
        raise NotImplementedError

    # What is done to a token

    def cancel(self, token: Token[Any]) -> None:
        token.cancel()

    def terminate(self, token: Token[Any]) -> None:
        """End it, on the loop, and leave its code behind, if that does not end."""
        self.system.reconciler.end(token, "an operator ends it", self.chance.choice([0.0, 1.0]))

    def preempt(self, token: Token[Any]) -> None:
        """Have another attempt take the place of the one that runs, on the loop, as an operator does, if it can."""
        if token.started_at is None or token.done() or token._extras.preempted or token._extras.cancel_requested:
            return
        policy = token._extras.policy
        known = policy.preemption if isinstance(policy, Governed) else None
        if known is None or known.is_over:
            preempt(policies_in(self.system), token, "it was preempted", self.chance.choice([None, *self.places]), None)

    def hold(self, token: Token[Any]) -> None:
        place_of(token).mailbox.hold(token)

    def release(self, token: Token[Any]) -> None:
        place_of(token).mailbox.release(token)

    def renice(self, token: Token[Any]) -> None:
        place_of(token).mailbox.renice(token, self.chance.choice([0, 1]))

    def reroute(self, token: Token[Any]) -> None:
        reroute(token, self.chance.choice(self.places))

    def suspend(self, _token: Token[Any]) -> None:
        place = self.chance.choice(self.places)
        place.mailbox.suspend()
        place.mailbox.resume()

    # Afterwards

    def finish(self) -> None:
        """Let all go on that is held, until all have ended; each has ended once, and nothing is left of it."""
        throttles, ends = self.system.throttles, time.monotonic() + LIMIT
        while self.system.live or self.runnable or self.tasks or self.system.system_host._pending or throttles._waiting:
            for token in list(self.system.live.values()):
                self.release(token)
            self.turn(1.0)
            self.work()
            assert time.monotonic() < ends, list(self.system.live.values())
        assert self.ends == {token.id: 1 for token in self.tokens}
        assert all(token.done() for token in self.tokens)
        for place in self.places:
            statistics = place.mailbox.statistics()
            assert (statistics.depth, statistics.held, statistics.active) == (0, 0, 0)
            assert place.mailbox._limit == place.mailbox.capacity
        assert (throttles._waiting, throttles._queues, throttles.grants) == ({}, {}, {})
        assert (throttles._handed, throttles._suspended) == ({}, set())
        self.turn(10_000.0)  # an alarm that was set as its token ended rings in vain
        assert policies_in(self.system).deadlines._heap == []


@contextmanager
def playing(chance: random.Random, grain: Grain) -> Iterator[Stage]:
    """Open a stage with switches in the runtime and in the room of policies."""
    sleeps = SimpleNamespace(sleep=lambda _seconds: _Pause(), move_on_after=lambda _seconds: nullcontext())
    with pytest.MonkeyPatch.context() as patched, Stage(("actors", "tokengate.policy"), chance, grain) as stage:
        patched.setattr("actors.system._reconciler.trio", sleeps)
        patched.setattr("actors.system._reconciler.Reply", SimpleNamespace(wait=lambda _token: _Pause()))
        patched.setattr("actors.system._reconciler.monitor", None)  # code ends at its checkpoints only
        patched.setattr("random.random", chance.random)  # the delays of retries
        yield stage
