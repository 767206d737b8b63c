"""Code of every affinity that keeps a ledger of its attempts, in a directory: it outlives a process that is killed."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import attrs
import trio
from gated_code import Door

from tokengate import AsyncioActor, CpuActor, IoActor, ProcessActor, checkpoint, token


@attrs.frozen
class Ledger:
    """The attempts of one token that have begun and ended, by the account of its code.

    Attributes:
        folder: where it is.
    """

    folder: str

    def begin(self) -> int:
        """Note that an attempt begins, and return its number; of one token, they begin one after the other."""
        number = len(self.begun) + 1
        os.mkdir(f"{self.folder}/{number}.begun.{os.getpid()}")  # one call of C code, which no interrupt divides
        return number

    def end(self) -> None:
        """Note that the code of the latest attempt is over; an interrupt may come before it has its number."""
        for number in self.begun[-1:]:
            os.makedirs(f"{self.folder}/{number}.ended", exist_ok=True)

    @property
    def begun(self) -> list[int]:
        """The numbers of those that have begun."""
        return sorted(int(one.split(".")[0]) for one in os.listdir(self.folder) if ".begun." in one)

    @property
    def ended(self) -> list[int]:
        """The numbers of those whose code is over; code of a killed process never is."""
        return sorted(int(one.split(".")[0]) for one in os.listdir(self.folder) if one.endswith(".ended"))

    @property
    def pids(self) -> list[int]:
        """The process of each that has begun."""
        found = (one.split(".") for one in os.listdir(self.folder) if ".begun." in one)
        return [int(pid) for _, _, pid in sorted(found, key=lambda parts: int(parts[0]))]


def labour(ledger: Ledger, door: Door) -> int:
    """Work until the door is open, and return the number of the attempt."""
    try:
        number = ledger.begin()
        while not door.is_open:
            checkpoint()
        return number
    finally:
        ledger.end()


async def labour_in_trio(ledger: Ledger, door: Door) -> int:
    try:
        number = ledger.begin()
        while not door.is_open:
            await trio.sleep(0.001)
        return number
    finally:
        ledger.end()


async def labour_in_asyncio(ledger: Ledger, door: Door) -> int:
    try:
        number = ledger.begin()
        while not door.is_open:
            await asyncio.sleep(0.001)
        return number
    finally:
        ledger.end()


CODE: dict[str, Any] = {"cpu": labour, "io": labour_in_trio, "asyncio": labour_in_asyncio, "process": labour}


def operation(affinity: str, code: Any, **properties: Any) -> Any:
    declare: Any = token
    return declare(affinity=affinity, **properties)(code)


OPERATIONS = {name: operation(name, code, idempotent=True) for name, code in CODE.items()}


class CpuLabourer(CpuActor):
    idempotent = True

    def labour(self, ledger: Ledger, door: Door) -> int:
        return labour(ledger, door)


class IoLabourer(IoActor):
    idempotent = True

    async def labour(self, ledger: Ledger, door: Door) -> int:
        return await labour_in_trio(ledger, door)


class AsyncioLabourer(AsyncioActor):
    idempotent = True

    async def labour(self, ledger: Ledger, door: Door) -> int:
        return await labour_in_asyncio(ledger, door)


class ProcessLabourer(ProcessActor):
    idempotent = ("labour",)

    def labour(self, ledger: Ledger, door: Door) -> int:
        number = ledger.begin()
        while not door.is_open:
            checkpoint()
        ledger.end()
        return number


ACTORS: dict[str, Any] = {
    "cpu": CpuLabourer, "io": IoLabourer, "asyncio": AsyncioLabourer, "process": ProcessLabourer,
}  # fmt: skip
