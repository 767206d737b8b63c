"""The frames of other threads, and of coroutines that others may run, read as CPython 3.11 and 3.12 permit it.

The interpreter lock is not kept for the whole of a read there. To make the object of a frame, or the dict of its
variables, may begin a garbage collection on 3.11; and a variable's former value, which has its last reference in that
dict, is released during the read on both. Either runs finalizers, and so other threads. When the frame ends meanwhile,
the rest of the read takes references from memory that is no longer a frame's, or writes to it: the process crashes at
some later time, most often in a collection. And `sys._current_frames` holds a lock that each thread takes when it
begins and ends, with the interpreter lock held, so that all may wait for ever (cpython#106883).

So on 3.11 no collection begins during a read, and on both the former values are released after it.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import accumulate, repeat, takewhile
from operator import call
from types import FrameType, SimpleNamespace
from typing import Any, Final

# Whether making an object may begin a collection; later ones begin between two instructions only.
_COLLECTS: Final = sys.version_info < (3, 12)

# Whether there is one dict of a frame's variables, which each read of `f_locals` writes to.
_WRITES: Final = sys.version_info < (3, 13)

# The key in that dict of what was read last; no variable has this name.
_LATEST: Final = "(latest)"

reads: Final = SimpleNamespace(latest=None)
"""`latest` is another object after each `note_reads`."""


def _undisturbed(look: Callable[[], Any]) -> Any:
    """Return what a function in C returns, with no collection in it, and with no other thread right behind it."""
    off, on = (gc.disable, gc.enable) if _COLLECTS and gc.isenabled() else (bool, bool)
    try:
        # Unpacking makes the calls in C, where no thread gives up the interpreter lock: none finds the collector off.
        _, found, _ = map(call, (off, look, on))
    except BaseException:  # for lack of memory or stack
        on()
        raise
    return found


def thread_frames() -> dict[int, FrameType]:
    """Return the innermost frames of all other threads: {ident: frame}.

    The caller's own would refer to itself through this dict, so that all of them, with their variables, would live on
    until a collection.
    """
    frames: dict[int, FrameType] = _undisturbed(sys._current_frames)
    del frames[threading.get_ident()]
    return frames


def thread_exceptions() -> dict[int, Any]:
    """Return what all threads handle, as `sys._current_exceptions` does."""
    handled: dict[int, Any] = _undisturbed(sys._current_exceptions)
    return handled


def frames_from(frame: FrameType | None) -> Iterable[FrameType]:
    """Return a frame and those below it on the stack, the innermost first; on 3.11 all are of one moment."""
    if frame is None or not _COLLECTS:
        return _frames_from(frame)
    each: Iterable[Any] = accumulate(repeat("f_back"), getattr, initial=frame)
    frames: list[FrameType] = _undisturbed(partial(list, takewhile(bool, each)))
    return frames


def _frames_from(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def frame_of(owner: object, name: str) -> FrameType | None:
    """Return the frame that an object has in an attribute: `f_back`, `gi_frame`, `cr_frame` or `ag_frame`."""
    frame: FrameType | None = _undisturbed(partial(getattr, owner, name))
    return frame


def variables_of(frame: FrameType) -> dict[str, Any]:
    """Return the local variables of a frame, which the caller does not change: {name: value}."""
    variables: dict[str, Any] = _undisturbed(partial(getattr, frame, "f_locals"))
    if not _WRITES:
        return variables
    # Nothing is called from here on, so that no other thread reads the variables before the latest ones are kept.
    latest = {**variables}
    latest[_LATEST] = None
    variables[_LATEST] = latest
    return latest


def note_reads() -> None:
    """Note that the variables of all functions that run tokens come to be read, if that leaves values in their frames.

    A function that runs for long calls `forget_values` when it sees that.
    """
    if _WRITES:
        reads.latest = object()


def forget_values() -> None:
    """Have the frame of the caller hold no value that one of its variables had when others read them."""
    variables_of(sys._getframe(1))
