"""Pause, step and interrupt running Python code by `sys.monitoring`, on Python 3.12 and later.

The code objects of the frames that a thread runs are armed. The callback runs in that thread, where it can wait (a
pause), count (steps) and raise (an interrupt). It is armed only for as long as that takes, since it slows down every
thread in that code. The tool id is taken while something is armed, and free otherwise. A step is the beginning of a
line, or a jump back within one; functions that are called meanwhile are stepped over, unless they were running when the
token was stopped.

A thread is never stopped, and never interrupted, in code that may hold a lock which others need, nor in anything that
such code calls; nor is a trio loop ever stopped. The callback inspects the stack in the thread itself, where it stops,
so a stop for one token cannot hit the next one.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Final

from actors._exceptions import TokenInterrupt
from actors.steps._bytecode import line_of, loops_in_a_line, may_raise_at
from actors.steps._frames import find_step, in_cleanup, in_event_loop, may_stop, on_event_loop, step_frames, stoppable

if TYPE_CHECKING:
    from actors.tokens._hold import Hold

_monitoring: Final[Any] = getattr(sys, "monitoring", None)

# Tool ids, first those that no kind of tool uses by convention; coverage uses 1, debuggers 0.
_TOOL_IDS = (4, 3, 5, 2, 1, 0)


class _Target:
    """A hold for which code is armed, and that code."""

    __slots__ = ("codes", "hold")

    def __init__(self, hold: Hold) -> None:
        self.hold = hold
        self.codes: set[int] = set()  # ids


class Monitor:
    """Stops running code on Python 3.12 and later; one per process, since code objects and tool ids are shared."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tool: int | None = None
        self._events = 0
        self._blind = False
        self._targets: dict[int, list[_Target]] = {}  # {ident of a thread: targets to stop for}
        # Code is told apart by its id, since two functions may be equal.
        self._codes: dict[int, CodeType] = {}  # {id: code that is armed}
        self._uses: Counter[int] = Counter()  # {id: how many targets have it armed}

    @property
    def blind(self) -> bool:
        """Whether no tool id was free when one was needed last."""
        return self._blind

    @property
    def armed(self) -> int:
        """How many code objects are armed."""
        return len(self._codes)

    def arm(self, hold: Hold) -> bool:
        """Have the code that a token runs now stop at its next event; another call adds the code that it runs by then.

        Returns:
            whether it can be stopped: it runs Python code on a thread, outside of code that may hold locks, on no trio
                loop unless it is to be interrupted, and there is a free tool id.
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
            self.disarm(hold)  # the step may be over, and no callback comes to do this
            return False
        return True

    def arm_call(self, hold: Hold, code: CodeType) -> bool:
        """Stop in code that the calling thread is about to run for a token."""
        return self._arm(hold, threading.get_ident(), [code])

    def arm_frames(self, hold: Hold, frames: list[FrameType]) -> bool:
        """Have the calling thread stop in these frames of a token's step."""
        return self._arm(hold, threading.get_ident(), [frame.f_code for frame in stoppable(frames)])

    def is_armed(self, hold: Hold) -> bool:
        """Tell whether the calling thread is to stop for a token."""
        return any(target.hold is hold for target in self._targets.get(threading.get_ident(), ()))

    def disarm(self, hold: Hold) -> None:
        """Let the code of a token run freely again."""
        with self._lock:
            for ident in list(self._targets):
                self._disarm_in(ident, hold)
            if not self._codes and self._tool is not None:
                _monitoring.free_tool_id(self._tool)
                self._tool = None

    def _disarm_in(self, ident: int, hold: Hold) -> None:
        """Let a thread no longer stop for a hold; under the lock."""
        targets = self._targets[ident]
        for target in [one for one in targets if one.hold is hold]:
            targets.remove(target)
            self._release(target)
        if not targets:
            del self._targets[ident]

    def _arm(self, hold: Hold, ident: int, codes: list[CodeType]) -> bool:
        if not codes:
            return False
        with self._lock:
            if hold.parked:  # parked in the meantime; `parked` callbacks disarm afterwards
                return True
            if not self._take_tool():
                return False
            targets = self._targets.setdefault(ident, [])
            target = next((one for one in targets if one.hold is hold), None)
            if target is None:
                target = _Target(hold)
                targets.append(target)
            for code in codes:
                self._arm_code(target, code)
        return True

    def _arm_code(self, target: _Target, code: CodeType) -> None:
        """Arm code for a target, if it is not; under the lock."""
        number = id(code)
        if number not in target.codes:
            target.codes.add(number)
            self._codes[number] = code
            self._uses[number] += 1
            if self._uses[number] == 1:
                _monitoring.set_local_events(self._tool, code, self._events)

    def _look_closer(self, code: CodeType) -> None:
        """Get events for single instructions of some code, if it is armed."""
        with self._lock:
            if id(code) in self._codes:
                _monitoring.set_local_events(self._tool, code, self._events | _monitoring.events.INSTRUCTION)

    def _release(self, target: _Target) -> None:
        """Disarm the code of a target; under the lock."""
        for number in target.codes:
            self._uses[number] -= 1
            if not self._uses[number]:
                del self._uses[number]
                _monitoring.set_local_events(self._tool, self._codes.pop(number), 0)

    def _take_tool(self) -> bool:
        """Take a tool id, if one is free; under the lock."""
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
            if sys.version_info >= (3, 13):  # or there would be no LINE behind the adapted beginning of a function
                self._events |= events.PY_START
            _monitoring.register_callback(tool, events.LINE, self._on_line)
            _monitoring.register_callback(tool, events.JUMP, self._on_jump)
            _monitoring.register_callback(tool, events.PY_RETURN, self._on_return)
            _monitoring.register_callback(tool, events.INSTRUCTION, self._on_instruction)
            return True
        self._blind = True
        return False

    # Called by the interpreter, in any thread that runs armed code

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
            # An exception raised here would skip `try` blocks (in CPython 3.12 and 3.13). So it is left to the next
            # line; or, if no line begins in this loop, to the instruction at its start.
            if counted and any(one.hold.interrupt_wanted for one in targets):
                self._look_closer(code)

    def _on_instruction(self, code: CodeType, offset: int) -> None:
        targets = self._targets.get(threading.get_ident())
        if targets and offset in loops_in_a_line(code):
            self._stop(targets, sys._getframe(1), raising=lambda: True)

    def _on_return(self, _code: CodeType, _offset: int, _value: object) -> None:
        targets = self._targets.get(threading.get_ident())
        if targets:
            # The caller is about to get the result, which an exception would lose (a lock that was taken, say).
            self._stop(targets, sys._getframe(1))

    def _stop(
        self,
        targets: list[_Target],
        frame: FrameType,
        *,
        counted: bool = False,
        raising: Callable[[], bool] = bool,
    ) -> None:
        """Pause, step or interrupt the calling thread for its targets.

        Args:
            targets: of this thread.
            frame: the frame of the event.
            counted: whether a step begins here.
            raising: tells whether an exception may be raised here.
        """
        try:
            for target in tuple(targets):
                frames = step_frames(target.hold.token, frame)
                if frames is not None and may_stop(frames):
                    self._stop_for(target.hold, frames, counted, raising)
        except RecursionError:
            pass  # the thread is at its recursion limit: the next event will do

    def _stop_for(self, hold: Hold, frames: list[FrameType], counted: bool, raising: Callable[[], bool]) -> None:
        """Pause, step or interrupt the calling thread for one hold; the frames are those of its token's step."""
        if not hold.interrupt_wanted and not on_event_loop(hold.token):
            self._hold_here(hold, frames, counted=counted)
        if hold.interrupt_wanted and raising() and not handles_interrupt(sys.exception()) and not in_cleanup(frames):
            self.disarm(hold)
            raise TokenInterrupt(hold.token._extras.cancel_requested or "it was ended")

    def _hold_here(self, hold: Hold, frames: list[FrameType], *, counted: bool) -> None:
        """Let a token take its step if it may; else wait here until it may, or is to end."""
        if not counted and hold.stepping:
            return
        if hold.step_in_thread(counted=counted, parked=self.disarm):
            if hold.ending and hold.token._place.properties.interruptible:
                hold.interrupt_wanted = True
            if hold.word or hold.interrupt_wanted:
                self.arm_frames(hold, frames)
        elif not hold.word:
            self.disarm(hold)  # it was resumed
        if counted and hold.stepping:
            hold.token.steps += 1


def handles_interrupt(error: BaseException | None) -> bool:
    """Tell whether an error is an interrupt, or was raised while one was handled."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, TokenInterrupt):
            return True
        seen.add(id(error))
        error = error.__context__
    return False


monitor: Final = None if _monitoring is None else Monitor()
"""The monitor of this process; None on Python 3.11."""
