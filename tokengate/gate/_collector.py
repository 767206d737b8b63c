"""Tuning of Python's garbage collector while a gate is open: fewer collections, over fewer objects.

Each token is a few objects that the collector counts. With Python's thresholds some hundreds of tokens cause a
collection, and some ten thousands one of the whole heap. What the heap holds when a tuned gate opens is set aside
(`gc.freeze`), and collections of the objects that are made later come less often. All of this applies to the process:
the last tuned gate to close restores the thresholds, unless the program has set others meanwhile, and the objects that
were set aside are collected again.
"""

from __future__ import annotations

import gc
import threading
from typing import Final

THRESHOLDS: Final = (10_000, 20, 100)

# Python 3.12 itself sets some hundred objects aside as it starts. A larger number was set aside by the program.
_FEW: Final = 1_000

_lock = threading.Lock()
_tuned: set[object] = set()  # open gates with a tuned collector
_before: list[tuple[tuple[int, int, int], int]] = []  # thresholds, number of objects set aside; empty while untuned


def tune(gate: object) -> None:
    """Tune the collector until `release`; takes as long as a collection of the whole heap."""
    with _lock:
        if not _before:
            thresholds = gc.get_threshold()
            _before.append((thresholds, gc.get_freeze_count()))
            if thresholds[0]:  # else the program has switched automatic collections off
                gc.set_threshold(*THRESHOLDS)
        _tuned.add(gate)
        gc.collect()  # what is garbage now would be kept until the last release
        gc.freeze()


def release(gate: object) -> None:
    """Undo the `tune` of a gate, if it was called."""
    with _lock:
        _tuned.discard(gate)
        if not _tuned:
            _restore()


def forget() -> None:
    """Restore the collector in a forked child, where no gate is open."""
    _tuned.clear()
    _restore()


def _restore() -> None:
    if _before:
        thresholds, frozen = _before.pop()
        if gc.get_threshold() == THRESHOLDS:
            gc.set_threshold(*thresholds)
        if frozen < _FEW:
            gc.unfreeze()
