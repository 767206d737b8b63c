"""What supervisors do races what their children and their callers do: real threads, and the test's own ledger.

Each race is run 100 times, 10,000 times with TOKENGATE_TORTURE=1. TOKENGATE_SEED brings the delays of a run back, not
what the machine made of them.
"""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from actors import ActorDead, CpuActor, IoActor
from supervisors import AlreadyRestarting, ChildIsRunning, ChildSpec, ChildStarted, Phase

if TYPE_CHECKING:
    from tests.supervisors.conftest import Race, Tree

ROUNDS = 10_000 if os.environ.get("TOKENGATE_TORTURE") == "1" else 100
PATIENCE = 30.0


@attrs.define
class Ledger:
    """What the children say of themselves: the messages that they handled, and how many instances live."""

    handled: list[Any] = attrs.field(factory=list)
    live: int = 0
    lock: Any = attrs.field(factory=threading.Lock)

    def count(self, difference: int) -> None:
        with self.lock:
            self.live += difference


class _Listener:
    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger

    def on_start(self) -> None:
        self.ledger.count(1)

    def on_stop(self) -> None:
        self.ledger.count(-1)

    def on_failure(self, *_error: object) -> None:
        self.ledger.count(-1)

    def on_receive(self, message: Any) -> Any:
        self.ledger.handled.append(message)
        if message in ("crash", *CRASHING):
            raise ValueError(message)
        return message


class CpuListener(_Listener, CpuActor):
    pass


class IoListener(_Listener, IoActor):
    pass


CRASHING: set[int] = set()  # numbers over which a listener crashes


def listener(tree: Tree, ledger: Ledger, id: str = "child") -> ChildSpec:
    return ChildSpec(id, CpuListener if issubclass(tree.worker, CpuActor) else IoListener, args=(ledger,))


def test_ask_racing_stop_of_a_supervised_child_is_answered_or_refused(tree: Tree, race: Race) -> None:
    """No ask hangs, none is answered by a restart, and what was handled is what was answered."""
    ledger = Ledger()
    supervisor = tree.start(listener(tree, ledger), intensity=10**9).proxy()
    ref = tree.ref("child")

    def ask(sender: str) -> list[str]:
        answered = []
        for message in (f"{sender}1", f"{sender}2"):
            with suppress(ActorDead):
                answered.append(ref.ask(message, timeout=PATIENCE))
        return answered

    for _ in range(ROUNDS):
        first, second, _ = race(lambda: ask("a"), lambda: ask("b"), ref.stop)

        assert sorted(ledger.handled) == sorted(first + second)
        assert ledger.live == 0
        ledger.handled.clear()
        supervisor.restart_child("child").result(PATIENCE)
    assert tree.system.live == {}


def test_tell_racing_crash_loses_no_message_and_keeps_the_order(tree: Tree, race: Race) -> None:
    """What was sent before, while and after a child crashed is handled once, in the order of its sender."""
    ledger = Ledger()
    tree.start(listener(tree, ledger), intensity=10**9)
    ref = tree.ref("child")

    def tell(sender: str) -> list[str]:
        messages = [f"{sender}{number}" for number in range(5)]
        for message in messages:
            ref.tell(message)
        return messages

    def crash() -> None:
        assert isinstance(ref.ask("crash", block=False).exception(PATIENCE), ValueError)

    for _ in range(ROUNDS):
        first, second, _ = race(lambda: tell("a"), lambda: tell("b"), crash)
        assert ref.ask("end", timeout=PATIENCE) == "end"

        assert [message for message in ledger.handled if message in first] == first
        assert [message for message in ledger.handled if message in second] == second
        assert len(ledger.handled) == len(first) + len(second) + 2
        assert ledger.live == 1
        ledger.handled.clear()
    tree.wait_for_restart("child", ROUNDS)
    assert [report.restart for report in tree.reports.of(ChildStarted)] == list(range(ROUNDS + 1))


def test_terminate_child_racing_restart_leaves_one_instance_or_none(tree: Tree, race: Race) -> None:
    """Whoever wins: every request is answered, and what the supervisor says is what lives."""
    ledger = Ledger()
    supervisor = tree.start(listener(tree, ledger), intensity=10**9).proxy()
    ref = tree.ref("child")

    def crash() -> None:
        with suppress(ActorDead):
            ref.tell("crash")

    def restart() -> None:
        with suppress(ChildIsRunning, AlreadyRestarting):
            supervisor.restart_child("child").result(PATIENCE)

    def terminate() -> None:
        supervisor.terminate_child("child").result(PATIENCE)

    for _ in range(ROUNDS):
        race(crash, restart, terminate)

        ends = time.monotonic() + PATIENCE
        while (status := tree.children()["child"].status) not in (Phase.RUNNING, Phase.STOPPED):
            assert time.monotonic() < ends, status  # a crash that came last is dealt with
        if status is Phase.STOPPED:
            assert ledger.live == 0
            supervisor.restart_child("child").result(PATIENCE)
        assert ref.ask("end", timeout=PATIENCE) == "end"  # behind the crash, if that still waited
        assert ledger.live == 1
        ledger.handled.clear()


def test_tokens_are_neither_lost_nor_doubled_by_random_crashes(
    tree: Tree, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in a hundred crashes its actor: it ends failed, once; all others complete, once; restarts equal crashes."""
    many = 10 * ROUNDS
    crashing = {number for number in range(many) if chance.random() < 0.01}
    monkeypatch.setattr(f"{__name__}.CRASHING", crashing)
    ledger, ids = Ledger(), ("a", "b", "c", "d")
    tree.start(*(listener(tree, ledger, id) for id in ids), intensity=10**9)
    refs = [tree.ref(id) for id in ids]

    tokens = [refs[number % len(refs)].ask(number, block=False) for number in range(many)]
    failed = {number for number, token in enumerate(tokens) if token.exception(6 * PATIENCE) is not None}

    assert failed == crashing
    assert all(token.result() == number for number, token in enumerate(tokens) if number not in failed)
    assert sorted(ledger.handled) == list(range(many))
    tree.reports.wait_for(lambda reports: sum(map(is_restart, reports)) >= len(crashing))
    tree.stop()
    assert sum(map(is_restart, tree.reports.entries)) == len(crashing)


def is_restart(report: object) -> bool:
    return isinstance(report, ChildStarted) and report.restart > 0
