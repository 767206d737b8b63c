"""Audit logs of tests: their caller, logs with records, and a disk that fails where a test says so."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from tokengate.audit import AuditLog, Entry, read
from tokengate.audit._disk import Disk

SEGMENT: Final = "audit-000001.jsonl"


@attrs.frozen
class Client:
    """A caller."""

    principal: str = "uid:1000"
    owner: int | None = 1000
    via: str = "socket"
    peer: int | None = 4711


CLIENT = Client()


def intent(number: int = 1, **fields: object) -> Entry:
    """Return the entry of a verb on one token."""
    given = {"verb": "terminate", "args": {"seq": number}, "targets": (number,), "reason": "stuck", **fields}
    return Entry(kind="intent", caller=CLIENT, request=f"r{number}", **given)  # type: ignore[arg-type]


def write(directory: Path, number: int, disk: Disk | None = None) -> None:
    """Open a log, record so many verbs, each with its outcome, and close it."""

    async def record() -> None:
        log = AuditLog(directory, "shop", strict=True, disk=disk)
        try:
            for one in range(1, number + 1):
                seq = await log.intend(intent(one))
                log.add(Entry(kind="outcome", caller=CLIENT, of=seq, outcome={"terminated": 1}))
        finally:
            log.close(60.0)

    trio.run(record)


def fields(directory: Path) -> list[dict[str, Any]]:
    """Return the records of a log, the oldest first."""
    return list(read(directory))


class PlannedDisk(Disk):
    """A disk whose calls a test counts, and makes fail.

    Attributes:
        calls: the names of the calls so far.
        fault: called with the number (from 0) and the name of a call; it may raise, or wait.
        short: the numbers of the writes of which half is done.
    """

    def __init__(self, fault: Callable[[int, str], None] = lambda _number, _name: None) -> None:
        self.calls: list[str] = []
        self.fault = fault
        self.short: set[int] = set()

    def _call(self, name: str) -> int:
        number = len(self.calls)
        self.calls.append(name)
        self.fault(number, name)
        return number

    def open(self, name: str, flags: int, folder: int) -> int:
        self._call("open")
        return super().open(name, flags, folder)

    def write(self, file: int, text: bytes) -> int:
        try:
            number = self._call("write")
        except OSError:
            os.write(file, text[: len(text) // 2])  # as far as it went
            raise
        return super().write(file, text[: len(text) // 2] if number in self.short else text)

    def replace(self, file: int, text: bytes) -> int:
        self._call("replace")
        return super().replace(file, text)

    def truncate(self, file: int, size: int) -> None:
        self._call("truncate")
        super().truncate(file, size)

    def sync(self, file: int) -> None:
        self._call("sync")
        super().sync(file)

    def reserve(self, file: int, size: int) -> None:
        self._call("reserve")
        super().reserve(file, size)


class Hanging:
    """A fault: from a call on the disk hangs, until it is released."""

    def __init__(self, name: str, after: int = 0) -> None:
        self.reached = threading.Event()
        self.released = threading.Event()
        self._name = name
        self._after = after

    def __call__(self, number: int, name: str) -> None:
        if number >= self._after and name == self._name:
            self.reached.set()
            assert self.released.wait(60.0)
