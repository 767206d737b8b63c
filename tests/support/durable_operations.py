"""Durable operations and actors of tests, which programs of tests import, too."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tokengate import CpuActor, token
from tokengate.durable import step


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


# Steps: the first run of each dies within the second "load", with its gate.


def counted(ledger: str) -> int:
    note(ledger, "count")
    return 3


def loaded(ledger: str, number: int) -> tuple[int, str]:
    note(ledger, f"load {number}")
    if number == 1 and noted(ledger).count("load 1") == 1:
        os.kill(int(noted(f"{ledger}.pid")[0]), 9)
        signal.pause()
    return number, f"row {number}"


async def counted_async(ledger: str) -> int:
    return counted(ledger)


async def loaded_async(ledger: str, number: int) -> tuple[int, str]:
    return loaded(ledger, number)


def _imported(ledger: str) -> list[str]:
    return [step("load", loaded, ledger, number)[1] for number in range(step("count", counted, ledger))]


async def _imported_async(ledger: str) -> list[str]:
    count = await step("count", counted_async, ledger)
    return [(await step("load", loaded_async, ledger, number))[1] for number in range(count)]


@token(durable=True, idempotent=True)
def steps_in_cpu(ledger: str) -> list[str]:
    return _imported(ledger)


@token(durable=True, idempotent=True, affinity="process")
def steps_in_process(ledger: str) -> list[str]:
    return _imported(ledger)


@token(durable=True, idempotent=True)
async def steps_in_trio(ledger: str) -> list[str]:
    return await _imported_async(ledger)


@token(durable=True, idempotent=True, affinity="asyncio")
async def steps_in_asyncio(ledger: str) -> list[str]:
    return await _imported_async(ledger)


class StepsInActor(CpuActor):
    durable = ("imported",)
    idempotent = True

    def imported(self, ledger: str) -> list[str]:
        return _imported(ledger)
