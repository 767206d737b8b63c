"""Faults on purpose: crash actors a given number of times, at moments that a seed decides."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Sequence


class InjectedCrash(Exception):
    """The fault that was asked for with `--crash`."""


class CrashPlan:
    """When which actor crashes. A moment is a number of settled files, so it does not depend on speed.

    It stands outside of the actors it crashes, and is called from all their threads.

    Args:
        count: crashes in all.
        seed: decides the moments and the victims.
        files: files there are to settle.
        victims: names of the actors that may crash.
    """

    def __init__(self, count: int, seed: int, files: int, victims: Sequence[str]) -> None:
        chosen = random.Random(seed)
        moments = sorted(chosen.randrange(max(1, files)) for _ in range(count))
        self._due: dict[str, deque[int]] = {victim: deque() for victim in victims}  # {victim: its moments}
        for moment in moments:
            self._due[chosen.choice(victims)].append(moment)
        self._settled = 0
        self._lock = threading.Lock()
        self.struck = 0  # crashes so far

    def settled(self, files: int) -> None:
        """Say how many files are settled."""
        self._settled = files

    def strike(self, victim: str) -> None:
        """Raise `InjectedCrash` if the victim's next moment has come."""
        due = self._due[victim]
        if due and due[0] <= self._settled:
            with self._lock:
                if due and due[0] <= self._settled:
                    due.popleft()
                    self.struck += 1
                    raise InjectedCrash(f"injected crash {self.struck} ({victim})")

    def strike_all(self, victim: str) -> None:
        """Raise `InjectedCrash` while any crash is left: this victim has the last opportunity."""
        with self._lock:
            due = next(filter(None, self._due.values()), None)
            if due is not None:
                due.popleft()
                self.struck += 1
                raise InjectedCrash(f"injected crash {self.struck} ({victim}, left over)")
