"""An interrupt at any point of a transaction, as of a signal handler, leaves none half done."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from interrupts import Strike
from tiers import TORTURE

from tokengate import Gate, token
from tokengate.policy._transaction import entered
from tokengate.types import Done

pytestmark = pytest.mark.usefixtures("frequent_looks")

STRIKES = 400 if TORTURE else 3  # of each way; there are less than 400 points


@pytest.mark.parametrize("way", ["well", "error", "roll_back"])
def test_an_interrupted_block_is_committed_or_undone(way: str, seed: int, until: Callable[..., None]) -> None:
    """Case 49. Whatever was done is undone once, or nothing; code after it is free."""
    lines: list[tuple[str, int]] = []

    @token
    def charge(number: int) -> None:
        lines.append(("done", number))

    @charge.compensate
    def refund(done: Done[None]) -> None:
        lines.append(("undone", done.args[0]))

    engines: list[Any] = []
    with Gate("struck", threads=2, control_socket=False) as gate:
        ledger, system = gate._ledger(), gate._system

        def act() -> None:
            with gate.transaction("order") as tx:
                engines.append(tx._transaction)
                charge(1)
                charge.submit(2).result()
                charge.submit(3)
                if way == "error":
                    raise ValueError
                if way == "roll_back":
                    tx.roll_back()

        def is_quiet() -> bool:
            live = [one for one in list(system.live.values()) if not one.serves_operators]
            return not live and not ledger.all()

        points = range(1, 400)
        for at in points if TORTURE else random.Random(seed).sample(points[:300], STRIKES):
            lines.clear()
            engines.clear()
            Strike(at, grain="signal").run(act)
            until(is_quiet)
            done = {number for what, number in lines if what == "done"}
            undone = [number for what, number in lines if what == "undone"]
            state = engines[0].state if engines else "never begun"
            assert len(undone) == len(set(undone)), (at, lines)
            if state == "rolled_back":
                assert done <= set(undone), (at, lines)
            else:
                assert state == "committed" or not done, (at, lines)
                assert not undone, (at, lines)
            until(lambda: charge.submit(0).exception() is None)
            entered.set(None)  # an interrupt may have come before the block could leave it
