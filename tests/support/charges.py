"""Durable operations of tests that do not end well, or not at all, until they are told that they may."""

from __future__ import annotations

import threading

from durable_operations import note, noted

from tokengate import checkpoint, token


@token(durable=True, idempotent=True, tags={"tenant": "acme"})
def charge(ledger: str, order: int | str) -> int | str:
    """Fail until the ledger has the line `bank`."""
    note(ledger, f"charge {order}")
    if "bank" not in noted(ledger):
        raise ValueError(f"no bank for {order}")
    return order


@token(durable=True, show="*")
def shown() -> None:
    raise ValueError("all is shown")


@token(durable=True, idempotent=True, capacity=10, concurrency=1)
def held(ledger: str, number: int) -> int:
    """Wait until the ledger has the line `go`."""
    look = threading.Event()
    while "go" not in noted(ledger):
        look.wait(0.001)
        checkpoint()
    note(ledger, f"held {number}")
    return number
