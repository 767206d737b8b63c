"""Durable operations and actors of tests, which programs of tests import, too."""

from __future__ import annotations

import os
from pathlib import Path

from tokengate import token


def note(path: str, line: str) -> None:
    """Append a line to a file, at once: the ledger of a test, outside of the process."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


def noted(path: str | Path) -> list[str]:
    """Return the lines of a ledger."""
    return Path(path).read_text().splitlines() if Path(path).exists() else []


@token(durable=True, idempotent=True)
def add(a: int, b: int) -> int:
    return a + b


@token(durable=True)
def once(ledger: str, number: int) -> int:
    note(ledger, f"run {number}")
    return number


@token(durable=True, idempotent=True)
def again(ledger: str, number: int) -> int:
    note(ledger, f"run {number}")
    return number


@token(durable=True, idempotent=True)
async def in_trio(ledger: str, number: int) -> int:
    note(ledger, f"run {number}")
    return number


@token(durable=True, idempotent=True, affinity="asyncio")
async def in_asyncio(ledger: str, number: int) -> int:
    note(ledger, f"run {number}")
    return number


@token(durable=True, idempotent=True, affinity="process")
def in_process(ledger: str, number: int) -> int:
    note(ledger, f"run {number}")
    return number
