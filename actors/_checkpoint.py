"""`checkpoint()`: where a long plain function lets itself be paused and ended."""

from __future__ import annotations

import sys

import trio

from actors._exceptions import TokenInterrupt
from actors._hold import Hold
from actors._interrupt import monitor
from actors._token import current_token


def checkpoint() -> None:
    """Let a long plain function be paused or ended here: a bounded piece of its work is done.

    Raises:
        TokenInterrupt: somebody has ended the running token, or its gate is closing; let it pass.
    """
    token = current_token()
    if token is None:
        return
    if token._hold is not None:
        _stop(token._hold)
    if token._cancel_requested or token._done:
        raise TokenInterrupt(f"{token._describe()} was asked to end")


def _stop(hold: Hold) -> None:
    """Wait if the token is held; on a trio loop, go on."""
    # One that is stepped by lines goes on from line to line, whatever it calls.
    if trio.lowlevel.in_trio_run() or (monitor is not None and hold.stepping):
        return
    if not hold.may_step():
        hold.wait_in_thread()
    if hold.word and not hold.ending:
        hold.token.steps += 1
        if monitor is not None:
            monitor.arm_call(hold, sys._getframe(2).f_code)
