"""Writes the stack of the main thread for the gate, between two lines of Python code."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType, GeneratorType
from typing import Final

from ._current_worker import current_worker

_MOST_FRAMES: Final = 100


def write_stack(descriptor: int) -> None:
    """Write the stack of this thread, the innermost frame first, with the frame of a generator between two steps."""
    lines = ["Stack (most recent call first):"]
    generator = None if current_worker.yield_points is None else current_worker.yield_points.generator
    if isinstance(generator, GeneratorType) and not generator.gi_running and generator.gi_frame is not None:
        lines.append(_line(generator.gi_frame))
    frame: FrameType | None = sys._getframe()
    while frame is not None and len(lines) < _MOST_FRAMES:
        lines.append(_line(frame))
        frame = frame.f_back
    if frame is not None:
        lines.append("  ...")
    try:
        os.write(descriptor, "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # the pipe is full, or closed


def _line(frame: FrameType) -> str:
    code = frame.f_code
    return f'  File "{code.co_filename}", line {frame.f_lineno or 0} in {code.co_name}'


def stop_self(descriptor: int) -> None:
    """Write the stack, then stop this process until it gets a SIGCONT."""
    write_stack(descriptor)
    signal.raise_signal(signal.SIGSTOP)
