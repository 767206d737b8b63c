"""Whose code a thread runs: which of its frames belong to a token's step, read off the thread's stack.

Nothing is noted while code runs; who wants to know looks. The runtime's frame at the bottom of each step has the token
in a local variable of that name.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from actors._token import Token

# Modules whose frames are the bottom of a step: they call or continue user code, and hold no lock.
_STEPS = frozenset(("actors._step", "actors._cpu_drain", "actors._io_drain", "actors._operation_place"))


def is_step(frame: FrameType) -> bool:
    """Tell whether a frame is the runtime's, below a step of user code."""
    return frame.f_globals.get("__name__") in _STEPS


def _token_in(frame: FrameType) -> Token[Any] | None:
    if is_step(frame):
        token = frame.f_locals.get("token")
        if isinstance(token, Token):
            return token
    return None


def token_of(frame: FrameType | None) -> Token[Any] | None:
    """Return the token whose step a thread's frame belongs to; of several, the innermost."""
    while frame is not None:
        token = _token_in(frame)
        if token is not None:
            return token
        frame = frame.f_back
    return None


def step_frames(token: Token[Any], frame: FrameType | None) -> list[FrameType] | None:
    """Return the frames above the bottom of a token's step, the outermost first.

    Args:
        token: whose step is looked for.
        frame: the innermost one of a thread.

    Returns:
        None when the thread runs no step of the token.
    """
    above: list[FrameType] = []
    while frame is not None:
        if _token_in(frame) is token:
            return above[::-1]
        above.append(frame)
        frame = frame.f_back
    return None


def find_step(token: Token[Any]) -> tuple[int, list[FrameType]] | None:
    """Return the ident of the thread that runs a token's step just now, and the frames of the step.

    The frames are those of a moment; the thread runs on. A direct call within a step is part of both steps.
    """
    for ident, frame in sys._current_frames().items():
        frames = step_frames(token, frame)
        if frames is not None:
            return ident, frames
    return None
