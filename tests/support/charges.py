"""A durable operation of tests that fails until it is told that it may go on."""

from __future__ import annotations

from durable_operations import note, noted

from tokengate import token


@token(durable=True, idempotent=True, tags={"tenant": "acme"})
def charge(ledger: str, order: int) -> int:
    """Fail until the ledger has the line `bank`."""
    note(ledger, f"charge {order}")
    if "bank" not in noted(ledger):
        raise ValueError(f"no bank for {order}")
    return order
