"""A ledger that code keeps of its own attempts, in a directory: it outlives a process that is killed."""

from __future__ import annotations

import os
from pathlib import Path

import attrs


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
        os.close(os.open(f"{self.folder}/{number}.begun.{os.getpid()}", os.O_CREAT | os.O_EXCL))
        return number

    def end(self, number: int) -> None:
        """Note that the code of an attempt is over."""
        Path(self.folder, f"{number}.ended").touch()

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
