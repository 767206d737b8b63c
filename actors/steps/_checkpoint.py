"""`checkpoint()`: a point at which a long plain function can be paused and ended."""

from __future__ import annotations

import sys
from types import FrameType

from actors._exceptions import TokenInterrupt
from actors.steps._frames import may_stop, on_event_loop, step_frames
from actors.steps._monitoring import monitor
from actors.tokens._hold import Hold
from actors.tokens._token import current_token


def checkpoint() -> None:
    """Let a long plain function be paused or ended here, between two pieces of its work.

    It is paused only on the thread of its step, and not where it may hold a lock that others need: when it was called
    by the standard library's `logging` or `threading`, say. On a loop it goes on.

    Raises:
        TokenInterrupt: the running token was asked to end, or its gate is closing; let it pass.
    """
    token = current_token()
    if token is None:
        return
    if token._extras.hold is not None:
        _stop(token._extras.hold, sys._getframe(1))
    if token._extras.cancel_requested or token._done:
        raise TokenInterrupt(f"{token._describe()} was asked to end")


def _stop(hold: Hold, frame: FrameType) -> None:
    """Wait if the token is held."""
    # A token that is stepped by lines stops at lines only, not here.
    if on_event_loop(hold.token) or (monitor is not None and hold.stepping and monitor.is_armed(hold)):
        return
    frames = step_frames(hold.token, frame)
    # With no frames the runtime calls this between two steps of a generator, and counts these itself.
    if frames is None or (frames and not may_stop(frames)):
        return
    hold.step_in_thread(parked=None if monitor is None else monitor.disarm)
    if frames and hold.stepping:
        hold.token.steps += 1
        if monitor is not None:
            monitor.arm_frames(hold, frames)
