"""Rollbacks race with cancels, terminates and the end of the gate: what was done is undone once, or named."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import trio
from gated_code import LIMIT
from shared_lists import Boom
from tiers import TORTURE

from tokengate import Gate, checkpoint, token
from tokengate._exceptions import CompensationFailed
from tokengate.errors import TokenGateError
from tokengate.policy._undo import Done

ROUNDS = 10_000 if TORTURE else 25


class Bank:
    """An outside ledger, whose lines are facts: done, undone.

    Attributes:
        sent: the numbers of the calls.
        patience: how many times code pauses before it has done what it does.
    """

    def __init__(self, patience: int = 0) -> None:
        self.lines: list[tuple[str, int]] = []
        self.sent: set[int] = set()
        self.patience = patience

    def check(self, state: str, named: tuple[str, ...] = ()) -> None:
        """Check that what was done is undone once, and nothing that never began; or that nothing is undone."""
        undone = [number for what, number in self.lines if what == "undone"]
        done = {number for what, number in self.lines if what == "done"}
        assert len(undone) == len(set(undone)), self.lines
        assert self.sent >= set(undone), self.lines
        if state in ("new", "committed"):
            assert undone == [], self.lines
        else:
            assert state == "rolled_back" or named, self.lines
            assert len(done - set(undone)) <= len(named), (self.lines, named)
        for number in set(undone) & done:
            assert self.lines.index(("undone", number)) > self.lines.index(("done", number)), self.lines


def operations() -> list[Any]:
    """Return operations that can be ended in different ways: at checkpoints, between steps, at awaits."""

    @token
    def plain(bank: Bank, number: int, fails: bool) -> None:
        for _ in range(bank.patience):
            checkpoint()
        if fails:
            raise Boom(number)
        bank.lines.append(("done", number))

    @token
    def steps(bank: Bank, number: int, fails: bool) -> Any:
        for _ in range(bank.patience):
            yield
        if fails:
            raise Boom(number)
        bank.lines.append(("done", number))

    @token
    async def task(bank: Bank, number: int, fails: bool) -> None:
        for _ in range(bank.patience):
            await trio.lowlevel.checkpoint()
        if fails:
            raise Boom(number)
        bank.lines.append(("done", number))

    @token
    def nested(bank: Bank, number: int, fails: bool) -> None:
        plain.submit(bank, number + 1_000, False)
        plain(bank, number, fails)

    def undo(done: Done[None]) -> None:
        bank, number = done.args[:2]
        bank.lines.append(("undone", number))

    for one in (plain, steps, task):
        one.compensate(undo)
    return [plain, steps, task, nested]


def strike(rng: random.Random, gate: Gate, tokens: list[Any]) -> Callable[[], object]:
    """Return one thing that happens meanwhile."""

    def transactions() -> list[Any]:
        return gate._ledger().all()

    def pick() -> Any:
        return rng.choice(tokens) if tokens else None

    def cancel() -> None:
        if (one := pick()) is not None:
            one.cancel()

    def terminate() -> None:
        if (one := pick()) is not None:
            gate.control.terminate(one.id, mode=rng.choice(["cancel", "interrupt", "kill"]), wait=0, grace=0)

    def compensate() -> None:
        for one in transactions():
            one.roll_back("an operator asked for it")

    return rng.choice([cancel, cancel, terminate, compensate])


def play(rng: random.Random, gate: Gate, bank: Bank, known: list[Any], inside: Callable[[], object] = bool) -> str:
    """Run one block beside a thread that strikes; return its state at the end.

    Args:
        rng: draws what happens.
        gate: an open one.
        bank: notes what happens.
        known: operations.
        inside: called when tokens have been sent.
    """
    tokens: list[Any] = []
    begun = threading.Event()
    strikes = [strike(rng, gate, tokens) for _ in range(rng.randint(0, 3))]

    def others() -> None:
        begun.wait(LIMIT)
        for act in strikes:
            try:
                act()
            except TokenGateError:  # the gate has closed
                pass

    thread = threading.Thread(target=others)
    thread.start()
    tx = gate.transaction("order")
    try:
        with tx:
            for number in range(rng.randint(1, 6)):
                bank.sent |= {number, number + 1_000}
                tokens.append(rng.choice(known).submit(bank, number, rng.random() < 0.1))
                if number == 1:
                    begun.set()
                    inside()
                if rng.random() < 0.3:
                    tokens[-1].exception()
            if rng.random() < 0.3:
                raise Boom
            if rng.random() < 0.2:
                tx.roll_back()
    except CompensationFailed:
        pass
    except (Boom, TokenGateError):
        pass
    finally:
        begun.set()
        thread.join(LIMIT)
    assert not thread.is_alive()
    return tx.state


def test_what_was_done_is_undone_once_whatever_happens_meanwhile(seed: int) -> None:
    """Case 50. Members of each kind, cancelled, interrupted, left behind, while an operator rolls back."""
    rng, known = random.Random(seed), operations()
    with Gate("races", threads=2, control_socket=False, shutdown=LIMIT) as gate:
        gate._ledger().grace = 0.0
        for _ in range(ROUNDS):
            bank = Bank(rng.randint(0, 3))
            state = play(rng, gate, bank, known)
            for one in gate._ledger().all():  # code that was left behind returns by itself
                assert one.run is not None
                deadline = threading.Event()
                while gate._ledger().named(one.name) is one:
                    assert not deadline.wait(0.001)
                state = one.state
            bank.check(state)


def test_what_closing_leaves_is_named(seed: int) -> None:
    """Case 51. The gate is closed while the block runs, and its rollback."""
    rng, known = random.Random(seed), operations()
    for _ in range(max(1, ROUNDS // 5)):
        bank = Bank(rng.randint(0, 3))
        gate = Gate("races", threads=2, control_socket=False, shutdown=LIMIT).open()
        gate._ledger().grace = 0.0
        states: list[str] = []
        sent = threading.Event()

        def run() -> None:
            try:
                states.append(play(rng, gate, bank, known, sent.set))  # noqa: B023
            finally:
                sent.set()  # noqa: B023

        block = threading.Thread(target=run)
        block.start()
        if rng.random() < 0.8:
            assert sent.wait(LIMIT)
        report = gate.close(drain=rng.random() < 0.5)
        block.join(LIMIT)
        assert not block.is_alive()
        bank.check(states[0] if states else "rolled_back", report.uncompensated)
