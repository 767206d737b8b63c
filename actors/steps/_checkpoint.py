"""`checkpoint()`: where a long plain function lets itself be paused and ended."""

from __future__ import annotations

import sys
from types import FrameType

import trio

from actors._exceptions import TokenInterrupt
from actors.steps._frames import may_stop, step_frames
from actors.steps._interrupt import monitor
from actors.tokens._hold import Hold
from actors.tokens._token import current_token


def checkpoint() -> None:
    """Let a long plain function be paused or ended here: a bounded piece of its work is done.

    It is paused only on the thread of its step, and not where others may wait for a lock that it holds: when it was
    called by the standard library's `logging` or `threading`, say. On a trio loop it goes on.

    Raises:
        TokenInterrupt: somebody has ended the running token, or its gate is closing; let it pass.
    """
    token = current_token()
    if token is None:
        return
    if token._hold is not None:
        _stop(token._hold, sys._getframe(1))
    if token._cancel_requested or token._done:
        raise TokenInterrupt(f"{token._describe()} was asked to end")


def _stop(hold: Hold, frame: FrameType) -> None:
    """Wait if the token is held."""
    # One that is stepped by lines goes on from line to line, whatever it calls.
    if trio.lowlevel.in_trio_run() or (monitor is not None and hold.stepping and monitor.is_armed(hold)):
        return
    frames = step_frames(hold.token, frame)
    # With no frames it is the runtime that asks, between two steps of a generator, which it counts itself.
    if frames is None or (frames and not may_stop(frames)):
        return
    disarm = None if monitor is None else monitor.disarm
    if not hold.may_step(parked=disarm):
        hold.wait_in_thread(parked=disarm)
    if frames and hold.stepping:
        hold.token.steps += 1
        if monitor is not None:
            monitor.arm_frames(hold, frames)
