"""The dispatcher's decisions in virtual time: runnables soon get a thread, whatever occupies the others.

The dispatcher and the stall watch are the real ones. Threads are played: each takes a runnable, and is then busy with
what a seed has drawn for it. One tick is a millisecond.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import attrs
import pytest
from tiers import IN_CI, TORTURE

from actors.concurrency import _dispatcher
from actors.concurrency._dispatcher import CpuThread, Dispatcher
from actors.concurrency._stall_watch import StallWatch

LONGEST_WAIT = 50  # ticks; of anything runnable, for a thread
LOOK = 20  # ticks between two looks of the watch
IDLE = 1_000  # ticks after which a spare that has nothing to do goes

# compute: use CPU time, a fifth of each tick: who waits for others to compute waits with good reason.
# sleep: block where the runtime does not see it. wait: for another token, or paused.
# hang: block for good, until it is abandoned.
Kind: TypeAlias = Literal["compute", "sleep", "wait", "hang"]


@attrs.define(eq=False)
class Step:
    """What a runnable does with its thread."""

    kind: Kind
    ticks: int
    submitted: int

    def run(self, _thread: object) -> bool:
        raise AssertionError("the model plays it")


class Player(CpuThread):
    """A thread that is played by the model."""

    def __init__(self, target: Any, name: str, stage: list[Player]) -> None:
        super().__init__(target, name)
        self.stage = stage
        self.step: Step | None = None
        self.idle = 0
        self.used = 0.0  # CPU seconds

    def start(self) -> None:
        self.stage.append(self)

    def cpu_seconds(self) -> float:
        return self.used


@attrs.define(eq=False)
class Model:
    """A dispatcher of two threads, and all that happens to them."""

    chance: random.Random
    monkeypatch: pytest.MonkeyPatch
    now: int = 0
    longest: int = 0
    players: list[Player] = attrs.field(factory=list)
    dispatcher: Dispatcher = attrs.field(init=False)
    watch: StallWatch = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.dispatcher = Dispatcher("model", 2, lambda target, name: Player(target, name, self.players))
        self.dispatcher.watched = True  # the model looks
        self.dispatcher.open()
        computing = self.chance.random()
        self.watch = StallWatch(self.dispatcher, Any, lambda: self.chance.random() < computing)  # type: ignore[arg-type]

    def as_player(self, player: Player, act: Callable[[], object]) -> None:
        """Run a function as if on one of the played threads."""
        with self.monkeypatch.context() as patch:
            patch.setattr(_dispatcher.threading, "current_thread", lambda: player)
            act()

    def submit(self, kind: Kind, ticks: int) -> None:
        self.dispatcher.submit(Step(kind, ticks, self.now))

    def tick(self) -> None:
        for player in list(self.players):
            self.move(player)
        if self.now % LOOK == 0:
            self.watch.look()
        self.now += 1

    def move(self, player: Player) -> None:
        if player.step is None:
            self.let_take(player)
        step = player.step
        if step is None:
            return
        if step.kind == "compute":
            player.used += 0.0002
        if step.kind == "hang" and step.ticks == 0:
            self.dispatcher.abandon(player)
            self.players.remove(player)  # never to be seen again
        elif step.ticks == 0:
            if step.kind == "wait":
                self.as_player(player, self.dispatcher.step_resumes)
            player.step, player.busy, player.idle = None, False, 0
        step.ticks -= 1

    def let_take(self, player: Player) -> None:
        if self.dispatcher.waiting():
            step = self.dispatcher._queue.take()
            assert isinstance(step, Step)
            player.step, player.busy = step, True
            player.quantum += 1
            self.longest = max(self.longest, self.now - step.submitted)
            if step.kind == "wait":
                self.as_player(player, self.dispatcher.step_waits)
        else:
            player.idle += 1
            if player.idle > IDLE and self.dispatcher._may_go(player):
                self.players.remove(player)

    def lost(self) -> int:
        """Return how many threads are not free to run steps."""
        return sum(player.step is not None and player.step.kind != "compute" for player in self.players)


@pytest.mark.parametrize("round_", range(8 if TORTURE else 1 + IN_CI))
def test_no_runnable_waits_for_long_whatever_its_thread_is_lost_to(
    round_: int, seed: int, rounds: Callable[[int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not over 50 ms, while at most 60 threads are lost at once; afterwards the threads are as many as before."""
    for number in range(rounds(8)):
        chance = random.Random(f"{seed}/{round_}/{number}")
        model = Model(chance, monkeypatch)
        busy, bursts = chance.choice([0.02, 0.1, 0.3]), chance.choice([1, 1, 4, 12])
        hangs = 0
        for _ in range(3_000):
            if chance.random() < busy / bursts:
                for _ in range(bursts):
                    model.submit("compute", chance.randint(0, 1))
                    kind: Kind = chance.choice(["sleep", "sleep", "wait", "wait", "hang"])
                    if model.lost() + model.dispatcher.statistics().runnable < 60 and (kind != "hang" or hangs < 8):
                        hangs += kind == "hang"
                        model.submit(kind, chance.choice([1, 15, 60, 400]))
            model.tick()
        assert model.longest <= LONGEST_WAIT

        for _ in range(3 * IDLE):
            model.tick()
        assert model.longest <= LONGEST_WAIT
        assert model.dispatcher.statistics().runnable == 0
        assert len(model.players) == 2
        assert model.dispatcher.statistics().blocked == 0


def test_a_thread_that_wakes_up_now_and_then_is_not_replaced_at_once_while_the_process_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be waiting for the interpreter lock: that costs it a little CPU time, sleeping costs none."""
    model = Model(random.Random(1), monkeypatch)
    model.watch = StallWatch(model.dispatcher, Any, lambda: True)  # type: ignore[arg-type]
    for _ in range(2):
        model.submit("sleep", 500)
    for _ in range(5):
        model.tick()
    model.submit("compute", 1)
    for _ in range(3 * LOOK):
        for player in model.players:
            player.used += 0.00001
        model.tick()

    assert model.dispatcher.statistics().threads == 2

    for _ in range(3 * LOOK):
        for player in model.players:
            player.used += 0.00001
        model.tick()

    assert model.dispatcher.statistics().threads > 2


def test_threads_that_blocked_since_the_latest_look_do_not_count_as_free_when_others_are_helped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two waiting runnables get two more threads, though no busy thread is known to be stalled."""
    model = Model(random.Random(1), monkeypatch)
    model.dispatcher.set_stalled(set(model.dispatcher.threads()))
    for _ in range(6):
        model.submit("sleep", 400)
    for player in list(model.players):
        model.move(player)
    model.dispatcher.set_stalled(set())

    model.dispatcher.help()

    assert sum(player.busy for player in model.players) == 4
    assert len(model.players) == 6
