"""Spawns from threads, a trio loop and actors race everything that can end them; a ledger counts starts and ends.

Each storm is one gate; 8 of them are run, 1,000 with TOKENGATE_TORTURE=1. TOKENGATE_SEED repeats the random choices
of a run, not the order of its threads.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any

import pytest
import trio
from tiers import TORTURE, in_ci

from tokengate import ActorRef, CpuActor, Gate, IoActor
from tokengate.errors import ActorDead, ChildError, GateState, Ignore, NameTaken, StartFailed, TokenGateError

STORMS = 1_000 if TORTURE else 8
PATIENCE = 60.0

# What `spawn` and `aspawn` raise, by their documentation.
DOCUMENTED = (ActorDead, ChildError, GateState, NameTaken, StartFailed)


class Storm:
    """A gate under random spawns and ends, and its ledger.

    Args:
        seed: of the random choices.
    """

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        intensity = self.draw.choice([0, 3, 10**6, 10**6])
        self.gate = Gate("storm", control_socket=False, intensity=intensity, shutdown=PATIENCE, threads=2)
        self.refs: list[ActorRef[Any]] = []
        self.lock, self.numbers = threading.Lock(), count(1)
        self.made: dict[int, str] = {}  # {number of an instance that has started: its class}
        self.ended: Counter[int] = Counter()  # {number of an instance: calls of its last hook}
        self.wrong: list[BaseException] = []  # errors that are not documented
        self.over = threading.Event()

    def number(self) -> int:
        with self.lock:
            return next(self.numbers)

    def options(self, depth: int) -> tuple[type[Any], tuple[Any, ...], dict[str, Any]]:
        """Draw the arguments of a spawn."""
        with self.lock:
            draw = self.draw
            name = draw.choice([None, None, None, "one", "two"])
            restart = draw.choice(["permanent", "transient", "temporary"])
            return draw.choice(KINDS), (self, depth), {"name": name, "restart": restart}

    def spawn(self, depth: int = 0) -> None:
        kind, args, options = self.options(depth)
        try:
            self.note(self.gate.spawn(kind, *args, **options))
        except BaseException as error:
            self.check(error)

    async def aspawn(self, depth: int = 0) -> None:
        kind, args, options = self.options(depth)
        try:
            self.note(await self.gate.aspawn(kind, *args, **options))
        except Exception as error:
            self.check(error)

    def note(self, ref: ActorRef[Any]) -> None:
        self.refs.append(ref)
        with self.lock:
            message = self.draw.choice(["crash", "finish", "spawn", "nothing", "nothing", "nothing"])
        with suppress(ActorDead):
            ref.tell(message)

    def check(self, error: BaseException) -> None:
        if not isinstance(error, DOCUMENTED):
            self.wrong.append(error)

    # Sides

    def spawn_in_thread(self) -> None:
        while not self.over.is_set():
            self.spawn()

    def spawn_in_loop(self) -> None:
        async def task() -> None:
            while not self.over.is_set():
                await self.aspawn()
                await trio.lowlevel.checkpoint()

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(task)

        trio.run(main)

    def act(self, root: Any) -> None:
        """Crash, stop and restart the supervisor and its children at random."""
        draw = random.Random(self.draw.random())
        while not self.over.is_set():
            with suppress(TokenGateError):
                what = draw.choices(["renew", "end", "crash", "stop", "terminate", "renew child"], [2, 1, 4, 4, 4, 2])[
                    0
                ]
                if what == "renew":
                    root.renew_child("spawned").result(PATIENCE)
                elif what == "end":
                    root.terminate_child("spawned").result(PATIENCE)
                    root.restart_child("spawned").result(PATIENCE)
                elif what == "crash" and self.refs:
                    draw.choice(self.refs).tell("crash")
                elif what == "stop" and self.refs:
                    draw.choice(self.refs).stop(timeout=PATIENCE)
                elif children := self.gate.find("spawned").proxy().which_children().result(PATIENCE):
                    spawned = self.gate.find("spawned").proxy()
                    change = spawned.terminate_child if what == "terminate" else spawned.renew_child
                    change(draw.choice(children).id).result(PATIENCE)

    def run(self) -> None:
        """Run the storm for a moment, close the gate meanwhile, and check what is left."""
        before = set(threading.enumerate())
        sides: list[Callable[[], None]] = [self.spawn_in_thread, self.spawn_in_thread, self.spawn_in_loop]
        with self.gate:
            sides.append(partial(self.act, self.gate.find("/").proxy()))
            threads = [threading.Thread(target=side, daemon=True) for side in sides]
            for thread in threads:
                thread.start()
            time.sleep(self.draw.uniform(0.0, 0.1))
            report = self.gate.close(drain=self.draw.random() < 0.5)
        self.over.set()
        for thread in threads:
            thread.join(PATIENCE)
        system = self.gate._system

        assert not any(thread.is_alive() for thread in threads)
        assert self.wrong == []
        assert {number: kind for number, kind in self.made.items() if self.ended[number] != 1} == {}
        assert not any(ref.is_alive() for ref in self.refs)
        assert [place.path for place in system.places() if place.path.startswith("spawned/")] == []
        assert (system.starts, system.live, report.abandoned) == (set(), {}, ())
        assert "failed" not in report.stages.values()
        for thread in set(threading.enumerate()) - before:
            thread.join(PATIENCE)
        assert set(threading.enumerate()) <= before


class Member:
    """Notes when it has started and when it ends."""

    stop: Any

    def __init__(self, storm: Storm, depth: int) -> None:
        super().__init__()
        self.storm, self.depth = storm, depth
        self.number = storm.number()
        self.has_started()

    def has_started(self) -> None:
        self.storm.made[self.number] = type(self).__name__

    def on_stop(self) -> None:
        self.storm.ended[self.number] += 1

    def on_failure(self, *_error: object) -> None:
        self.storm.ended[self.number] += 1

    def receive(self, message: str) -> None:
        if message == "crash":
            raise ValueError(message)
        if message == "finish":
            self.stop()


class Cpu(Member, CpuActor):
    def on_receive(self, message: str) -> None:
        if message == "spawn":
            self.storm.spawn(self.depth + 1)
        self.receive(message)


class Pinned(Cpu):
    dispatcher = "pinned"


class SpawnsAsItIsMade(Cpu):
    def __init__(self, storm: Storm, depth: int) -> None:
        if depth < 3:
            storm.spawn(depth + 1)
        super().__init__(storm, depth)


class SpawnsAsItStarts(Cpu):
    def has_started(self) -> None:
        """Do nothing yet: its start can fail."""

    def on_start(self) -> None:
        if self.depth < 3:
            self.storm.spawn(self.depth + 1)
        super().has_started()


class EndsAtOnce(Cpu):
    def __init__(self, storm: Storm, depth: int) -> None:
        super().__init__(storm, depth)
        with suppress(ActorDead):
            self.actor_ref.tell("finish")


class Io(Member, IoActor):
    async def on_receive(self, message: str) -> None:
        if message == "spawn":
            await self.storm.aspawn(self.depth + 1)
        self.receive(message)


class IoSpawnsAsItStarts(Io):
    def has_started(self) -> None:
        """Do nothing yet: its start can be cancelled."""

    async def on_start(self) -> None:  # type: ignore[override]
        await trio.lowlevel.checkpoint()
        if self.depth < 3:
            await self.storm.aspawn(self.depth + 1)
        super().has_started()


class Fails(CpuActor):
    def __init__(self, storm: Storm, depth: int) -> None:
        raise ValueError("no")


class FailsLate(IoActor):
    def __init__(self, storm: Storm, depth: int) -> None:
        super().__init__()

    async def on_start(self) -> None:  # type: ignore[override]
        raise ValueError("no")


class Declines(CpuActor):
    def __init__(self, storm: Storm, depth: int) -> None:
        raise Ignore


class Bare(CpuActor):
    """Has no hooks, and no state."""

    def __new__(cls, *_args: object) -> Bare:
        return super().__new__(cls)


KINDS = [Cpu, Cpu, Cpu, Cpu, Pinned, SpawnsAsItIsMade, SpawnsAsItStarts, EndsAtOnce, Io, Io, IoSpawnsAsItStarts]
KINDS += [Bare, Bare, Fails, FailsLate, Declines]  # type: ignore[list-item]


@in_ci
@pytest.mark.usefixtures("caplog")
def test_each_spawn_returns_a_child_that_ends_once_or_raises_and_leaves_nothing() -> None:
    """Whatever ends it, its supervisor or the gate meanwhile."""
    seed = int(os.environ.get("TOKENGATE_SEED") or random.SystemRandom().randrange(2**32))
    for number in range(STORMS):
        print(f"TOKENGATE_SEED={seed + number}")
        Storm(seed + number).run()
