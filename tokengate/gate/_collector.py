"""Python's garbage collector while a gate asks for a tuned one: it looks less often, and at new objects only.

Each token is a few objects that the collector counts. With Python's thresholds some hundreds of tokens cause a
collection, and some ten thousands one of the whole heap. What the heap holds when a tuned gate opens is set aside
(`gc.freeze`), and collections of what is made later come less often. That concerns the process: the last tuned gate to
close restores the thresholds, unless the program has set others meanwhile, and gives back what was set aside.
"""

from __future__ import annotations

import gc
import threading
from typing import Final

THRESHOLDS: Final = (10_000, 20, 100)

# Python 3.12 itself sets some hundred objects aside as it starts. What is more was set aside by the program.
_FEW: Final = 1_000

_lock = threading.Lock()
_tuned: set[object] = set()  # open gates that asked for it
_before: list[tuple[tuple[int, int, int], int]] = []  # thresholds, objects set aside; empty while no gate asks


def tune(gate: object) -> None:
    """Tune the collector until the release; takes as long as a collection of the whole heap."""
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
