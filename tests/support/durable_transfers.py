"""Durable operations that are undone, and tokens with transactions; programs of tests import them, too."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

from durable_operations import note

from tokengate import token
from tokengate.types import Done, current_gate


def dies(folder: str, where: str) -> None:
    """Kill the process if there is a file that says so; once."""
    switch = Path(folder, where)
    if switch.exists():
        switch.unlink()
        os.kill(os.getpid(), 9)


@token(durable=True, idempotent=True)
def take(folder: str, amount: Decimal) -> Decimal:
    """Take money; return what is left."""
    note(f"{folder}/ledger", f"take {amount}")
    dies(folder, f"take {amount}")
    if Path(folder, f"refuse {amount}").exists():
        raise ValueError(f"{amount} is too much")
    return 10 - amount


@take.compensate
@token(durable=True, idempotent=True)
def give_back(done: Done[Decimal]) -> None:
    folder, amount = done.args
    dies(folder, f"give back {amount}")
    if Path(folder, f"closed {amount}").exists():
        raise ConnectionError("the bank is closed")
    note(f"{folder}/ledger", f"give back {amount!r} {done.state} {done.result!r}")


@token(durable=True, idempotent=True)
def order(folder: str) -> str:
    """Take money three times, in a transaction."""
    note(f"{folder}/ledger", "order")
    with current_gate().transaction("order", durable=True):
        for amount in (1, 2, 3):
            take(folder, Decimal(amount))
        if Path(folder, "spoilt").exists():
            raise ValueError("the order is spoilt")
    dies(folder, "done")
    return "done"


@token(durable=True, idempotent=True)
async def order_in_trio(folder: str, first: int) -> None:
    """Take money three times, in a transaction; that of an odd number is undone."""
    async with current_gate().transaction(f"order {first}", durable=True):
        for amount in range(first * 3, first * 3 + 3):
            await take.asubmit(folder, Decimal(amount))
        if first % 2:
            raise ValueError("an odd order")


@token(durable=True)
def order_once(folder: str) -> str:
    """Do so, but not again after the death of the process."""
    return order._function(folder)


@token
def plain() -> None: ...


@token(durable=True, idempotent=True)
def plainly_undone() -> None: ...


@plainly_undone.compensate
def undo_plainly(done: Done[None]) -> None: ...
