"""Interrupt Python code that runs in a thread: raise `TokenInterrupt` in it, without changes to that code.

Where code can be monitored, the monitor raises it (`_monitoring.py`). On Python 3.11, and on later ones when all tool
ids are taken, an interrupt is an asynchronous exception, and a pause waits for the next `checkpoint()`.

An interrupt waits while the code cleans up (see `_bytecode.py`) or already handles an interrupt, so it
can safely be asked for again. It has the limits of any asynchronous exception: without a `with` or `try`, it may come
between a line that acquires something and the line that stores it; and a `finally` that never ends is never
interrupted. On Python 3.11 it is sent from outside. It is raised where the thread was seen, since a thread that waits
for the interpreter lock checks for exceptions before it goes on. If the sender loses the lock in the microsecond
between the look and the sending, it is raised wherever the thread is by then: in the runtime's code at worst, never
after the step. On Python 3.13 none is sent to a jump back that lies outside of the `with` around its loop, so when all
tool ids are taken, a loop there that calls nothing runs on.
"""

from __future__ import annotations

import ctypes
import threading
import time
from typing import TYPE_CHECKING, Any

from actors._exceptions import TokenInterrupt
from actors.concurrency._thread_frames import thread_exceptions, thread_frames
from actors.steps._bytecode import leaps_handlers
from actors.steps._frames import find_step, in_cleanup, in_event_loop, may_stop, takes_for_try
from actors.steps._monitoring import handles_interrupt, monitor

if TYPE_CHECKING:
    from actors.tokens._hold import Hold

# Held while one is sent and while one is withdrawn, so that none can come after a thread has left its step.
_sending = threading.Lock()

# Maximum number of looks until a thread is seen twice at the same instruction.
_LOOKS = 3


def send_interrupt(hold: Hold) -> bool:
    """Raise `TokenInterrupt` in the thread that runs a token's step; return whether it was sent.

    The token gets its hold before the thread's frames are read. So a step that is seen running finds the hold at its
    end, waits for the lock, and withdraws an interrupt that has not been raised yet.
    """
    with _sending:
        for _ in range(_LOOKS):
            time.sleep(0)  # begin a full switch interval, so that no thread runs between the look and the sending
            found = find_step(hold.token)
            if found is None:
                return False
            ident, frames = found
            if not may_stop(frames) or in_event_loop(frames[0]):
                return False
            innermost, where = frames[-1], frames[-1].f_lasti
            if in_cleanup(frames) or _interrupted(ident):
                return False
            if takes_for_try(frames) or leaps_handlers(innermost.f_code, where):
                return False
            # Prepared before the last look, so that little time is left in which the thread could run on.
            set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
            thread, error = ctypes.c_ulong(ident), ctypes.py_object(TokenInterrupt)
            if thread_frames().get(ident) is innermost and innermost.f_lasti == where and hold.interrupt_wanted:
                hold.interrupt_sent = True
                set_exception(thread, error)
                return True
    return False


def _interrupted(ident: int) -> bool:
    error: Any = thread_exceptions().get(ident)
    return handles_interrupt(error[1] if isinstance(error, tuple) else error)


def withdraw_interrupt(hold: Hold) -> None:
    """Withdraw an interrupt that was meant for the step which the calling thread has just left."""
    # At most two can be raised here: one that was pending, and one that was being sent under the lock.
    try:
        try:
            _withdraw(hold)
        except TokenInterrupt:
            _withdraw(hold)
    except TokenInterrupt:
        _withdraw(hold)


def _withdraw(hold: Hold) -> None:
    with _sending:
        if not hold.interrupt_sent:
            return
        try:
            # It is raised and caught here, not cleared: after clearing, the interpreter would look for it for ever, and
            # Python 3.11 would do nothing else in a traced thread.
            _raise_in(threading.get_ident())
            while True:
                pass
        except TokenInterrupt:
            hold.interrupt_sent = False


def _raise_in(ident: int) -> None:
    """Raise `TokenInterrupt` in a thread, replacing an asynchronous exception that is still pending there."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(TokenInterrupt))


def interrupt(hold: Hold) -> bool:
    """Have `TokenInterrupt` raised in the code that a token runs now, if that was asked to end.

    It may be called again until the token has ended: code that handles an interrupt is not interrupted.

    Returns:
        whether it will be raised.
    """
    if not hold.want_interrupt():  # it may have been about to park
        return False
    if monitor is not None:
        armed = monitor.arm(hold)
        if armed or not monitor.blind:
            return armed
    return send_interrupt(hold)
