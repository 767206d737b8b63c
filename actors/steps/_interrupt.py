"""Pause, step and end Python code that runs in a thread, without any change to it and at no cost before somebody asks.

Python 3.12 and later: `sys.monitoring`, armed on the code objects of the frames that the thread runs just now. The
callback runs in that thread, where it can wait (a pause), count (steps) and raise (an interrupt); it is armed no longer
than that takes, since meanwhile everyone in that code is slower. The tool id is taken while something is armed, and
free otherwise. What is counted as a step is the beginning of a line, or a jump back within one; functions that are
called meanwhile are stepped over, unless they were running when the token was stopped.

Python 3.11 has no such thing, nor has a later one whose tool ids are all taken: there an interrupt is an asynchronous
exception, and a pause waits for the next `checkpoint()`.

A thread is never stopped, and never interrupted, in code that may hold a lock which others need, nor in anything that
such code calls; nor is a trio loop ever stopped. Where a thread runs is looked at in the thread itself, at the very
place, so what is meant for one token cannot hit the next.

An interrupt waits while the code cleans up (`_frames.py` says how that is seen) or handles an interrupt already, so it
is safe to ask for it again and again. Its limits are those of any exception that comes unasked for: it may come between
two lines of which the first takes something and the second notes it, with no `with` or `try` around; and a `finally`
that never ends is never interrupted. On Python 3.11 it is sent from outside. It comes where the thread was seen, since
a thread that waits for its turn looks for exceptions before it goes on; but should the sender lose its own turn between
the look and the sending, for which there is a microsecond, it comes wherever the thread is by then: in the runtime's
code at worst, never after the step.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Final

import trio

from actors._exceptions import TokenInterrupt
from actors.steps._frames import (
    find_step,
    in_cleanup,
    in_event_loop,
    leads_into_try,
    line_of,
    loops_in_a_line,
    may_raise_at,
    may_stop,
    step_frames,
    stoppable,
)

if TYPE_CHECKING:
    from actors.tokens._hold import Hold

_monitoring: Final[Any] = getattr(sys, "monitoring", None)

# Tool ids, first those that no kind of tool has by convention; coverage and debuggers have 1 and 0.
_TOOL_IDS = (4, 3, 5, 2, 1, 0)


class _Target:
    """A hold that wants code to stop, and where it is armed."""

    __slots__ = ("codes", "hold")

    def __init__(self, hold: Hold) -> None:
        self.hold = hold
        self.codes: set[int] = set()  # ids


class Monitor:
    """What stops running code on Python 3.12 and later; one for the process, as are the code and the tool ids."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tool: int | None = None
        self._events = 0
        self._blind = False
        self._targets: dict[int, list[_Target]] = {}  # {ident of a thread: whom its code is to stop for}
        # Code is told apart by its id, since two functions may be equal.
        self._codes: dict[int, CodeType] = {}  # {id: code that is armed}
        self._uses: Counter[int] = Counter()  # {id: how many targets have it armed}

    @property
    def blind(self) -> bool:
        """Whether other tools had all tool ids when one was needed last."""
        return self._blind

    @property
    def armed(self) -> int:
        """How many code objects are armed just now."""
        return len(self._codes)

    def arm(self, hold: Hold) -> bool:
        """Have the code that a token runs just now stop at its next event; asked again, also what it runs by then.

        Returns:
            whether there is any code of it to stop, and a way: it runs on a thread, outside of what may hold locks,
            on no trio loop unless it is to be interrupted, and there is a tool id left.
        """
        found = find_step(hold.token)
        if found is None:
            return False
        ident, frames = found
        frames = stoppable(frames)
        if not frames or (in_event_loop(frames[0]) and not hold.interrupt_wanted):
            return False
        if not self._arm(hold, ident, [frame.f_code for frame in frames]):
            return False
        found = find_step(hold.token)
        if found is None or not stoppable(found[1]):
            self.disarm(hold)  # the step may be over, and so nobody there to do that
            return False
        return True

    def arm_call(self, hold: Hold, code: CodeType) -> bool:
        """Have code stop that the calling thread is about to run for a token."""
        return self._arm(hold, threading.get_ident(), [code])

    def arm_frames(self, hold: Hold, frames: list[FrameType]) -> bool:
        """Have the calling thread stop in these frames of a token's step."""
        return self._arm(hold, threading.get_ident(), [frame.f_code for frame in stoppable(frames)])

    def is_armed(self, hold: Hold) -> bool:
        """Tell whether the calling thread is to stop for a token."""
        return any(target.hold is hold for target in self._targets.get(threading.get_ident(), ()))

    def disarm(self, hold: Hold) -> None:
        """Let the code of a token run as if nothing had been asked."""
        with self._lock:
            for ident, targets in list(self._targets.items()):
                for target in [one for one in targets if one.hold is hold]:
                    targets.remove(target)
                    self._release(target)
                if not targets:
                    del self._targets[ident]
            if not self._codes and self._tool is not None:
                _monitoring.free_tool_id(self._tool)
                self._tool = None

    def _arm(self, hold: Hold, ident: int, codes: list[CodeType]) -> bool:
        if not codes:
            return False
        with self._lock:
            if hold.parked:  # in between, and whoever parks disarms afterwards
                return True
            if not self._take_tool():
                return False
            targets = self._targets.setdefault(ident, [])
            target = next((one for one in targets if one.hold is hold), None)
            if target is None:
                target = _Target(hold)
                targets.append(target)
            for code in codes:
                number = id(code)
                if number not in target.codes:
                    target.codes.add(number)
                    self._codes[number] = code
                    self._uses[number] += 1
                    if self._uses[number] == 1:
                        _monitoring.set_local_events(self._tool, code, self._events)
        return True

    def _look_closer(self, code: CodeType) -> None:
        """Be told of single instructions of some code, if it is armed."""
        with self._lock:
            if id(code) in self._codes:
                _monitoring.set_local_events(self._tool, code, self._events | _monitoring.events.INSTRUCTION)

    def _release(self, target: _Target) -> None:
        """Take back what a target has armed; under the lock."""
        for number in target.codes:
            self._uses[number] -= 1
            if not self._uses[number]:
                del self._uses[number]
                _monitoring.set_local_events(self._tool, self._codes.pop(number), 0)

    def _take_tool(self) -> bool:
        """Take a tool id, if there is one left; under the lock."""
        if self._tool is not None:
            return True
        for tool in _TOOL_IDS:
            try:
                _monitoring.use_tool_id(tool, "tokengate")
            except ValueError:
                continue
            self._tool, self._blind = tool, False
            events = _monitoring.events
            self._events = events.LINE | events.JUMP | events.PY_RETURN
            _monitoring.register_callback(tool, events.LINE, self._on_line)
            _monitoring.register_callback(tool, events.JUMP, self._on_jump)
            _monitoring.register_callback(tool, events.PY_RETURN, self._on_return)
            _monitoring.register_callback(tool, events.INSTRUCTION, self._on_instruction)
            return True
        self._blind = True
        return False

    # Called by the interpreter, in whichever thread runs code that is armed

    def _on_line(self, code: CodeType, line: int) -> None:
        targets = self._targets.get(threading.get_ident())
        if targets:
            frame = sys._getframe(1)
            self._stop(targets, frame, counted=True, raising=lambda: may_raise_at(code, frame.f_lasti, line))

    def _on_jump(self, code: CodeType, source: int, target: int) -> None:
        targets = self._targets.get(threading.get_ident())
        if targets:
            # A jump to another line is followed by that line's own event; one within a line begins it again.
            counted = line_of(code, source) == line_of(code, target)
            self._stop(targets, sys._getframe(1), counted=counted)
            # An exception from here would pass `try` blocks by (in CPython 3.12 and 3.13). So it is left to the next
            # line; or, if none begins in this loop, to the instruction at its begin.
            if counted and any(one.hold.interrupt_wanted for one in targets):
                self._look_closer(code)

    def _on_instruction(self, code: CodeType, offset: int) -> None:
        targets = self._targets.get(threading.get_ident())
        if targets and offset in loops_in_a_line(code):
            self._stop(targets, sys._getframe(1), raising=lambda: True)

    def _on_return(self, _code: CodeType, _offset: int, _value: object) -> None:
        targets = self._targets.get(threading.get_ident())
        if targets:
            # What was taken is about to be handed to the caller, so this is no place to raise.
            self._stop(targets, sys._getframe(1))

    def _stop(
        self,
        targets: list[_Target],
        frame: FrameType,
        *,
        counted: bool = False,
        raising: Callable[[], bool] = bool,
    ) -> None:
        """Do what holds want of the calling thread.

        Args:
            targets: of this thread.
            frame: where it is.
            counted: whether it is at the beginning of a step.
            raising: tells whether an exception may come here.
        """
        try:
            for target in tuple(targets):
                frames = step_frames(target.hold.token, frame)
                if frames is not None and may_stop(frames):
                    self._stop_for(target.hold, frames, counted, raising)
        except RecursionError:
            pass  # the thread has used up its limit: the next event will do

    def _stop_for(self, hold: Hold, frames: list[FrameType], counted: bool, raising: Callable[[], bool]) -> None:
        """Do what one hold wants of the calling thread, which is in these frames of its token's step."""
        if not hold.interrupt_wanted and not trio.lowlevel.in_trio_run():
            self._hold_here(hold, frames, counted=counted)
        if hold.interrupt_wanted and raising() and not _handles_interrupt(sys.exception()) and not in_cleanup(frames):
            self.disarm(hold)
            raise TokenInterrupt(hold.token._cancel_requested or "it was ended")

    def _hold_here(self, hold: Hold, frames: list[FrameType], *, counted: bool) -> None:
        """Let a token take its step, if it may; else wait here until it may, or is to end."""
        if not counted and hold.stepping:
            return
        if not hold.may_step(counted=counted, parked=self.disarm):
            hold.wait_in_thread(counted=counted, parked=self.disarm)
            if hold.ending and hold.token._place.controls.interruptible:
                hold.interrupt_wanted = True
            if hold.word or hold.interrupt_wanted:
                self.arm_frames(hold, frames)
        elif not hold.word:
            self.disarm(hold)  # nobody wants anything any more
        if counted and hold.stepping:
            hold.token.steps += 1


def _handles_interrupt(error: BaseException | None) -> bool:
    """Tell whether an error is an interrupt, or came up while one was handled."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, TokenInterrupt):
            return True
        seen.add(id(error))
        error = error.__context__
    return False


monitor: Final = None if _monitoring is None else Monitor()
"""What stops running code, where Python has the means."""


# Where code cannot be monitored: asynchronous exceptions

# Held while one is sent and while one is withdrawn: a thread that has left its step has none to come.
_sending = threading.Lock()

# Looks at a thread until it is seen to stay where it is.
_LOOKS = 3


def send_interrupt(hold: Hold) -> bool:
    """Raise `TokenInterrupt` in the thread that runs a token's step; tell whether it is on its way.

    The hold is there before the look at the thread's frames. So a step that is seen to run sees, at its end, that there
    is a hold, waits for the lock, and withdraws what has not come yet.
    """
    with _sending:
        for _ in range(_LOOKS):
            time.sleep(0)  # the next turn is a whole one, so nobody runs between the look and the sending
            found = find_step(hold.token)
            if found is None:
                return False
            ident, frames = found
            if not may_stop(frames) or in_event_loop(frames[0]):
                return False
            innermost, where = frames[-1], frames[-1].f_lasti
            if in_cleanup(frames) or _interrupted(ident) or leads_into_try(innermost.f_code, where):
                return False
            # All is at hand for the sending, so that little is left in which the thread could run on.
            set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
            thread, error = ctypes.c_ulong(ident), ctypes.py_object(TokenInterrupt)
            if sys._current_frames().get(ident) is innermost and innermost.f_lasti == where:
                hold.interrupt_sent = True
                set_exception(thread, error)
                return True
    return False


def _interrupted(ident: int) -> bool:
    error: Any = sys._current_exceptions().get(ident)
    return _handles_interrupt(error[1] if isinstance(error, tuple) else error)


def withdraw_interrupt(hold: Hold) -> None:
    """Have nothing raised in the calling thread any more that was meant for the step that it has just left."""
    # At most two may come here: one that was there, and one whose sender had the lock.
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
            # Not taken back but received: taken back, it would leave the interpreter looking for it for ever, and
            # Python 3.11 would do nothing else in a thread that is traced.
            _raise_in(threading.get_ident())
            while True:
                pass
        except TokenInterrupt:
            hold.interrupt_sent = False


def _raise_in(ident: int) -> None:
    """Raise `TokenInterrupt` in a thread, instead of what has not yet been raised there."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(TokenInterrupt))


def interrupt(hold: Hold) -> bool:
    """Have `TokenInterrupt` raised in the code that a token runs just now; tell whether that is on its way.

    It may be asked for again until the token has ended: what handles an interrupt is not interrupted.
    """
    hold.interrupt_wanted = True
    hold.end()  # it may have been about to park
    if monitor is not None:
        armed = monitor.arm(hold)
        if armed or not monitor.blind:
            return armed
    return send_interrupt(hold)
